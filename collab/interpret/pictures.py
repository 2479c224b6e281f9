"""The pictures of CollabInterpretation: each takes `ax=`, draws on it or on a new figure's, and returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from ..data.batches import TensorBatches
from ..evaluate.accuracy import check_rates
from ..plotting import LABEL, SCATTER, TICK, axes, head, plain, plain_ticks
from .glyphs import drawable
from .labels import check_count
from .placement import scatter_with_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .interpretation import CollabInterpretation

ACROSS = 24     # columns of names beside the cross table, more than which would take its room
EDGES = 12      # ticks of the histogram, at the edges of its bars


def plot_biases(self: CollabInterpretation, by: str = "item", n: int = 10, *, min_ratings: int = 0,
                ax: Axes | None = None) -> Axes:
    """Draw the `n` largest and the `n` smallest biases as bars, the largest on top."""
    ends = [self.biases(by, n, largest, min_ratings) for largest in (True, False)]
    table = pd.concat([ends[0], ends[1][::-1]]).drop_duplicates("id")
    place = np.arange(len(table))[::-1]
    labels, families = drawable(table, TICK)
    ax = axes(ax, size=(9, 1.5 + 0.22 * len(table)))
    ax.barh(place, table["bias"], color=np.where(table["bias"] > 0, "C0", "C3"))
    ax.set_yticks(place, labels, fontsize=8, parse_math=False, fontfamily=families)
    ax.set_xlabel(f"bias of the {by}")
    head(ax, f"{by.capitalize()} biases: the {n} largest and the {n} smallest" if len(table) == 2 * n else
         f"{by.capitalize()} biases, largest first")
    return ax


def plot_norms(self: CollabInterpretation, by: str = "item", min_ratings: int = 1, *, n_labels: int = 15,
               ax: Axes | None = None) -> Axes:
    """Draw the length of every embedding over its number of ratings (a logarithmic axis). The `n_labels` longest have
    labels, and so have the shortest, the most and the least rated one, of equal ones the longest."""
    table = self.norms(by, min_ratings)
    labels = drawable(table, LABEL)
    ax = axes(ax, size=SCATTER)
    ax.set(xscale="log", xlabel="training ratings (logarithmic scale)", ylabel=f"length of the {by}'s embedding")
    head(ax, f"Length of {by} embeddings by number of ratings")
    scatter_with_labels(ax, table["n_ratings"].to_numpy(), table["norm"].to_numpy(), labels,
                        order=range(len(table))[:n_labels], sure=n_labels)
    return ax


def plot_map(self: CollabInterpretation, method: str = "tsne", by: str = "item", *, top: int | None = 300,
             min_ratings: int = 0, seed: int = 0, ax: Axes | None = None) -> Axes:
    """Draw the map that `map` gives, the most rated ids labelled where there is room; `chart_map` is interactive."""
    table = self.map(method, by, top=top, min_ratings=min_ratings, seed=seed)
    labels = drawable(table, LABEL)
    ax = axes(ax, size=SCATTER)
    ax.set(xticks=[], yticks=[])
    name = {"tsne": "t-SNE", "umap": "UMAP", "pca": "principal components"}[method]
    head(ax, f"Map of {len(table):,} {by}s by {name}: neighbours have similar factors")
    scatter_with_labels(ax, table["x"].to_numpy(), table["y"].to_numpy(), labels, order=range(len(table)))
    return ax


def plot_predictions(self: CollabInterpretation, part: TensorBatches | pd.DataFrame | None = None,
                     ax: Axes | None = None) -> Axes:
    """Draw the predictions for the ratings of `part` (batches or a table of ratings; by default the validation part) as
    a box for each true rating, and the diagonal.

    Ratings on more than twelve levels are put into ten classes of equal width. Raises DataError for a model that
    ranks, and without a `part` where there is no validation part, as in a loaded learner."""
    check_rates(self.learn)
    preds, targets = (t.numpy() for t in self.learn.get_preds(part))
    levels = np.unique(targets)
    if len(levels) > 12:
        edges = np.linspace(levels[0], levels[-1], 11)
        levels = (edges[1:] + edges[:-1]) / 2
        targets = levels[np.clip(np.searchsorted(edges, targets, side="right") - 1, 0, 9)]
    width = 0.6 * np.diff(levels).min() if len(levels) > 1 else 0.6
    ax = axes(ax)
    ax.boxplot([preds[targets == level] for level in levels], positions=levels, widths=width, showfliers=False,
               manage_ticks=False)
    diagonal = ax.plot(levels, levels, "--", color="C3", label="predicted = rated")
    ax.set_xticks(levels, [plain(round(level, 2)) for level in levels])
    ax.set(xlabel="rating", ylabel="predicted")
    head(ax, f"Predictions for {len(preds):,} ratings, by true rating", handles=diagonal)
    return ax


def plot_cross(self: CollabInterpretation, n: int = 15, ax: Axes | None = None) -> Axes:
    """Draw the ratings of the `n` busiest users for the `n` most rated items, in the training part; gaps are white. A
    pair that was rated again counts with its mean."""
    check_count(n=n)
    data = self.data
    users, items = (torch.argsort(data.counts(by)[1:], descending=True, stable=True)[:n] + 1 for by in ("user", "item"))
    sums, times = np.zeros((2, len(users), len(items)))
    for row, user in enumerate(users.tolist()):
        rated, ratings = data.histories[user]
        column, which = torch.nonzero(items[:, None] == rated[None], as_tuple=True)
        np.add.at(sums[row], column, ratings[which])
        np.add.at(times[row], column, 1)
    sides = {"item": drawable(self._labels("item", items.numpy() - 1), ACROSS),
             "user": drawable(self._labels("user", users.numpy() - 1), ACROSS)}
    ax = axes(ax, size=SCATTER)
    image = ax.imshow(np.where(times > 0, sums / times.clip(min=1), np.nan), cmap="viridis", aspect="auto")
    ax.set_xticks(range(len(items)), sides["item"].labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=8,
                  parse_math=False, fontfamily=sides["item"].families)
    ax.set_yticks(range(len(users)), sides["user"].labels, fontsize=8, parse_math=False,
                  fontfamily=sides["user"].families)
    ax.set_ylabel("user")
    head(ax, f"Ratings of the {len(users):,} busiest users for the {len(items):,} most rated items")
    figure = ax.get_figure()
    if figure is not None:
        levels = data.levels.cpu().numpy()
        figure.colorbar(image, ax=ax, label="rating", ticks=levels if len(levels) <= 12 else None)
    return ax


def plot_counts(self: CollabInterpretation, by: str = "item", ax: Axes | None = None) -> Axes:
    """Draw how many items (or users) have how many training ratings: a histogram over a logarithmic axis, whose bars
    double in width."""
    counts = self._counts(by)
    edges = 2.0 ** np.arange(np.log2(counts.max()) // 1 + 2)
    ax = axes(ax)
    ax.hist(counts, bins=edges.tolist(), edgecolor="white")
    ax.set(xscale="log", xlabel=f"training ratings of one {by} (logarithmic scale)", ylabel=f"{by}s")
    shown = edges[::-(-len(edges) // EDGES)]
    ax.set_xticks(shown, [plain(edge) for edge in shown])
    ax.minorticks_off()
    plain_ticks(ax.yaxis)
    head(ax, f"How often {len(counts):,} {by}s were rated")
    return ax
