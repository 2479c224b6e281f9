"""Calibration: whether outcomes that a model gives 70 % happen in 70 % of cases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.batches import TensorBatches
from ..losses import RatingCrossEntropy
from ..models.base import CollabModel, Unsupported
from ..plotting import GREY, axes, head

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .interpretation import CollabInterpretation


def has_levels(model: CollabModel) -> bool:
    """Whether the model gives a probability of each level of the ratings."""
    try:
        model.rating_levels()
    except Unsupported:
        return False
    return True


def calibration(self: CollabInterpretation, bins: int = 10,
                part: TensorBatches | pd.DataFrame | None = None) -> pd.DataFrame:
    """Compare the predicted probability of each level with how often it is the rating, on `part` (batches or a table of
    ratings; by default the validation part): see `calibration_table`. A rating that is not a level counts as the
    nearest one.

    Raises DataError for a model without probabilities, or without ratings to look at."""
    learn = self.learn
    model = learn.collab_model
    levels = model.rating_levels().tolist()
    rows, classes = learn.data.rows_of(part), RatingCrossEntropy(levels).classes
    batches = ((model.probabilities(users, items), classes(ratings)) for users, items, ratings in rows)
    return learn.looking(lambda: calibration_table(batches, levels, bins))


def calibration_table(batches: Iterable[tuple[Tensor, Tensor]], levels: list[float], bins: int = 10) -> pd.DataFrame:
    """Turn batches of (probabilities (bs, C), classes (bs,)) into one row per level and bin of probability: level, low,
    high, n, predicted (the mean probability) and observed (the share of ratings of that level), without empty bins.

    Bins are equally wide, (low, high], the first with 0. `attrs["ece"]` is the expected calibration error (Guo et al.
    2017, eq. 3), sum over bins of n_bin / n |observed - predicted| of the most likely level's probability;
    `attrs["classwise_ece"]` the mean over levels of the same sum (Kull et al. 2019). Sums are kept by bin, so that
    memory does not grow with the set. Raises ValueError for `bins` below 1."""
    if bins < 1:
        raise ValueError(f"there is at least 1 bin, got {bins}")
    n, predicted, observed = torch.zeros(3, len(levels) + 1, bins, dtype=torch.float64)     # the last row: most likely
    for p, true in batches:
        p, hit = p.double().cpu(), torch.nn.functional.one_hot(true.cpu(), len(levels)).double()
        top = p.argmax(1, keepdim=True)
        p, hit = torch.cat([p, p.gather(1, top)], 1), torch.cat([hit, hit.gather(1, top)], 1)
        place = ((p * bins).ceil().long() - 1).clamp(0, bins - 1) + bins * torch.arange(len(levels) + 1)
        for total, values in ((n, torch.ones_like(p)), (predicted, p), (observed, hit)):
            total.view(-1).index_add_(0, place.ravel(), values.ravel())
    rows, columns = torch.nonzero(n[:-1], as_tuple=True)
    here = rows, columns
    low, high = columns / bins, (columns + 1) / bins
    table = pd.DataFrame({"level": np.array(levels)[rows], "low": low.numpy(), "high": high.numpy(),
                          "n": n[here].long().numpy(), "predicted": (predicted[here] / n[here]).numpy(),
                          "observed": (observed[here] / n[here]).numpy()})
    error = (observed - predicted).abs().sum(1) / n.sum(1)
    table.attrs |= {"ece": error[-1].item(), "classwise_ece": error[:-1].mean().item()}
    return table


def plot_calibration(self: CollabInterpretation, bins: int = 10, part: TensorBatches | pd.DataFrame | None = None,
                     *, ax: Axes | None = None) -> Axes:
    """Draw a reliability diagram: the observed share over the predicted probability, a line a level, and the diagonal
    of a calibrated model. Points are larger where there are more predictions."""
    from matplotlib import colormaps
    table = self.calibration(bins, part)
    levels = list(table.groupby("level"))
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(levels)))        # in order, as the levels are
    ax, lines = axes(ax, size=(6.5, 5.5)), []
    ax.plot([0, 1], [0, 1], "--", color=GREY)
    for (level, rows), colour in zip(levels, colours):
        lines += ax.plot(rows["predicted"], rows["observed"], alpha=0.6, label=f"{level:g}", color=colour)
        size = 100 * rows["n"] / table["n"].max() + 4
        ax.scatter(rows["predicted"], rows["observed"], s=size, color=colour)
    ax.set(xlabel="predicted probability", ylabel="observed share")
    head(ax, f"Observed share by predicted probability: calibration error {table.attrs['ece']:.3f}", handles=lines,
         legend_title="rating")
    return ax
