"""Coverage: whether intervals hold as many ratings as they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from ..data.batches import TensorBatches
from ..errors import DataError
from ..evaluate.certainty import inside, standing
from ..plotting import BLUE, GREY, axes, head

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .interpretation import CollabInterpretation

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
NAMED = (0.5, 0.8, 0.95)        # shares that are told in a sentence


def coverage(self: CollabInterpretation, shares: Sequence[float] = SHARES,
             part: TensorBatches | pd.DataFrame | None = None) -> pd.DataFrame:
    """Compare the probabilities of intervals, `shares` between 0 and 1, with the shares of ratings inside them, on
    `part` (batches or a table of ratings; by default the validation part): probability, observed. `attrs["n"]` is the
    number of ratings. An interval is that of `predict(..., interval=share)`.

    Raises Unsupported for a model without intervals, DataError for other shares or without ratings to look at."""
    if wrong := [share for share in shares if not 0 < share < 1]:
        raise DataError(f"an interval has a probability between 0 and 1, got {wrong[0]!r}")
    learn, held = self.learn, torch.zeros(len(shares), dtype=torch.int64)
    rows, scale = learn.data.rows_of(part), learn.shown_range

    def places() -> list[tuple[Tensor, Tensor]]:
        return [standing(learn.collab_model, users, items, ratings, scale) for users, items, ratings in rows]
    for below, up_to in learn.looking(places):
        held += torch.stack([inside(below, up_to, share).sum() for share in shares]).cpu()
    table = pd.DataFrame({"probability": list(shares), "observed": (held.double() / rows.n).numpy()})
    table.attrs["n"] = rows.n
    return table


def plot_coverage(self: CollabInterpretation, part: TensorBatches | pd.DataFrame | None = None, *,
                  ax: Axes | None = None) -> Axes:
    """Draw the share of ratings inside intervals over the probability of these, and the diagonal on which both are the
    same: below it a model is too sure, above it too cautious."""
    from matplotlib.ticker import PercentFormatter
    table = self.coverage(part=part)
    ax = axes(ax, size=(5.5, 5.0))
    ax.plot([0, 1], [0, 1], "--", color=GREY)
    ax.plot(table["probability"], table["observed"], "o-", color=BLUE, markersize=5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set(xlabel="probability of the interval", ylabel="ratings inside it", xlim=(0, 1), ylim=(0, 1))
    head(ax, "Ratings inside intervals, by their probability")
    return ax


def coverage_in_words(self: CollabInterpretation, part: TensorBatches | pd.DataFrame | None = None) -> str:
    """How much intervals of 50, 80 and 95 % hold, in a sentence."""
    table = self.coverage(NAMED, part)
    *asked, last = (f"{share:.0%}".removesuffix("%") for share in table["probability"])
    *held, most = (f"{share:.1%}".removesuffix("%") for share in table["observed"])
    return (f"Intervals of {', '.join(asked)} and {last} % hold {', '.join(held)} and {most} % of the "
            f"{table.attrs['n']:,} ratings.")
