"""The pictures of CollabInterpretation: each takes `ax=`, draws on it or on a new figure's, and returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from ..data.batches import TensorBatches
from ..errors import DataError
from ..evaluate.accuracy import check_rates
from .labels import check_count, names
from .style import axes, scatter_with_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .interpretation import CollabInterpretation


def plot_biases(self: CollabInterpretation, by: str = "item", n: int = 10, min_ratings: int = 0,
                ax: Axes | None = None) -> Axes:
    """The `n` largest and the `n` smallest biases as bars, the largest on top."""
    ends = [self.biases(by, n, largest, min_ratings) for largest in (True, False)]
    table = pd.concat([ends[0], ends[1][::-1]]).drop_duplicates("id")
    place = np.arange(len(table))[::-1]
    ax = axes(ax)
    ax.barh(place, table["bias"], color=np.where(table["bias"] > 0, "C0", "C3"))
    ax.set_yticks(place, names(table), fontsize=8, parse_math=False)
    ax.set_xlabel(f"bias of the {by}")
    return ax


def plot_norms(self: CollabInterpretation, by: str = "item", min_ratings: int = 1, n_labels: int = 15,
               ax: Axes | None = None) -> Axes:
    """The length of every embedding over its number of ratings (a logarithmic axis), the longest labelled."""
    table = self.norms(by, min_ratings)
    ax = axes(ax)
    ax.set(xscale="log", xlabel="training ratings", ylabel=f"length of the {by}'s embedding")
    scatter_with_labels(ax, table["n_ratings"].to_numpy(), table["norm"].to_numpy(), names(table)[:n_labels])
    return ax


def plot_map(self: CollabInterpretation, method: str = "tsne", by: str = "item", top: int | None = 300,
             min_ratings: int = 0, seed: int = 0, ax: Axes | None = None) -> Axes:
    """The map that `map` gives, the most rated labelled where there is room; `chart_map` is the one to play with."""
    table = self.map(method, by, top, min_ratings, seed)
    ax = axes(ax)
    ax.set(xticks=[], yticks=[], title=f"{by}s by {method}")
    scatter_with_labels(ax, table["x"].to_numpy(), table["y"].to_numpy(), names(table))
    return ax


def plot_predictions(self: CollabInterpretation, part: TensorBatches | pd.DataFrame | None = None,
                     ax: Axes | None = None) -> Axes:
    """What was predicted for the ratings of `part` (batches or a table of ratings; by default the validation part), as
    a box for each true rating, and the diagonal.

    Ratings on more than twelve levels are put into ten classes of equal width. Raises DataError for a model that
    ranks, and without a `part` and without a validation part, as in a learner that was loaded."""
    check_rates(self.learn)
    if part is None and self.data.valid is None:
        raise DataError("there is no validation part, as in every learner that was loaded; name ratings that were held "
                        "out, batches or a table, with part=")
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
    ax.plot(levels, levels, "--", color="C3", label="as predicted, so rated")
    ax.set(xlabel="rating", ylabel="predicted")
    ax.legend()
    return ax


def plot_cross(self: CollabInterpretation, n: int = 15, ax: Axes | None = None) -> Axes:
    """The ratings that the `n` busiest users gave the `n` most rated items, in the training part; gaps are white. A
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
    titled = self._labels("item", items.numpy() - 1)
    ax = axes(ax)
    image = ax.imshow(np.where(times > 0, sums / times.clip(min=1), np.nan), cmap="viridis", aspect="auto")
    ax.set_xticks(range(len(items)), names(titled), rotation=60, ha="right", fontsize=8, parse_math=False)
    ax.set_yticks(range(len(users)), names(self._labels("user", users.numpy() - 1)), fontsize=8, parse_math=False)
    ax.set_ylabel("user")
    figure = ax.get_figure()
    if figure is not None:
        figure.colorbar(image, ax=ax, label="rating")
    return ax


def plot_counts(self: CollabInterpretation, by: str = "item", ax: Axes | None = None) -> Axes:
    """How many items (or users) have how many training ratings: a histogram over a logarithmic axis, whose bars double
    in width."""
    counts = self._counts(by)
    ax = axes(ax)
    ax.hist(counts, bins=(2.0 ** np.arange(np.log2(counts.max()) // 1 + 2)).tolist(), edgecolor="white")
    ax.set(xscale="log", xlabel=f"training ratings of one {by}", ylabel=f"{by}s")
    return ax
