"""The picture of a `DataReport`: the distribution of ratings, the long tail, and ratings over time."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..plotting import BLUE, GREY, HUES, head, plain_ticks
from .codes import distinct
from .profile import SHOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, HEIGHT = 4.5, 3.6        # inches
BINS = 40


def draw(table: pd.DataFrame, dates: pd.Series | None) -> Figure:
    """A figure with two panels, or three where there are dates."""
    from matplotlib import pyplot as plt
    n = 2 if dates is None else 3
    figure, panels = plt.subplots(1, n, figsize=(PANEL * n, HEIGHT), layout="constrained")
    _distribution(panels[0], table["rating"].to_numpy())
    _long_tail(panels[1], table)
    if dates is not None:
        _over_time(panels[2], dates)
    return figure


def as_png(figure: Figure) -> str:
    """A figure as the base64 text of a PNG; the figure is closed."""
    from matplotlib import pyplot as plt
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=100)
    plt.close(figure)
    return base64.b64encode(made.getvalue()).decode()


def _distribution(ax: Axes, ratings: np.ndarray) -> None:
    levels, counts = np.unique(ratings, return_counts=True)
    if len(levels) <= SHOWN:
        step = np.diff(levels).min() if len(levels) > 1 else 1
        ax.bar(levels, counts, width=0.8 * step, color=BLUE)
        ax.set_xlabel("rating")
    elif levels[0] > 0 and levels[-1] > 100 * np.median(ratings):
        ax.hist(ratings, bins=np.geomspace(levels[0], levels[-1], BINS).tolist(), color=BLUE)
        ax.set(xscale="log", yscale="log", xlabel="rating (logarithmic scales)")
        plain_ticks(ax.xaxis)
    else:
        ax.hist(ratings, bins=BINS, color=BLUE)
        ax.set_xlabel("rating")
    ax.set_ylabel("rows")
    plain_ticks(ax.yaxis)
    head(ax, "Ratings")


def _long_tail(ax: Axes, table: pd.DataFrame) -> None:
    drawn = []
    for side, colour in (("item", HUES[0]), ("user", HUES[1])):
        counts = np.bincount(distinct(table[side])[0])
        counts = np.sort(counts[counts > 0])[::-1]
        drawn += ax.plot(np.arange(1, len(counts) + 1), counts, color=colour, label=f"{side}s")
    ax.set(xscale="log", yscale="log", xlabel="rank by number of ratings (both scales logarithmic)", ylabel="ratings")
    for axis in (ax.xaxis, ax.yaxis):
        plain_ticks(axis)
    head(ax, "Ratings of each item and user", handles=drawn)


def _over_time(ax: Axes, dates: pd.Series) -> None:
    naive = dates.dt.tz_localize(None) if dates.dt.tz is not None else dates
    ax.hist(naive.to_numpy(), bins=BINS, color=GREY)
    ax.tick_params(axis="x", labelrotation=30)
    ax.set_ylabel("rows")
    plain_ticks(ax.yaxis)
    head(ax, "Ratings over time")
