"""The style of every matplotlib picture: sizes, colours, plain ticks, titles with the legend beneath, and cut texts.

matplotlib is imported inside the functions, since that takes longer than importing all of collab."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

CURVE, SCATTER = (7.0, 4.5), (9.0, 7.0)     # inches: of a curve, and of a picture with many labels
BLUE, PALE, GREY = "#4c78a8", "#dddddd", "#999999"
HUES = ("#0072b2", "#ff7f0e", "#009e73", "#d62728", "#a463f2", "#66a61e", "#e7298a", "#ff9da6")
"""Eight colours that stay apart as small dots on white: at least 40 from each other and from GREY in CIELAB (CIE76)."""

LABEL, TICK = 28, 36                        # widths at which labels in a picture and names beside it are cut
COLUMNS = 5                                 # of a legend


def axes(ax: Axes | None, *, size: tuple[float, float] = CURVE) -> Axes:
    """The given axes, or those of a new figure of `size` in inches, whose layout leaves room for all labels."""
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt
    return plt.subplots(figsize=size, layout="constrained")[1]


def head(ax: Axes, title: str, *, handles: Sequence[Artist] = (), legend_title: str | None = None) -> None:
    """The title, and beneath it a legend of `handles`, both above the axes, where they cover no data. Axes that have a
    title already keep it."""
    rows = 0
    if handles:
        rows = -(-len(handles) // COLUMNS) + (legend_title is not None)
        ax.legend(handles=handles, title=legend_title, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize="small",
                  title_fontsize="small", ncols=min(len(handles), COLUMNS), frameon=False, borderpad=0.2,
                  borderaxespad=0.1, labelspacing=0.3)
    ax.set_title(ax.get_title() or title, fontsize="medium", pad=6 + 14 * rows, parse_math=False)


def plain(number: float) -> str:
    """A number as people write it, to six digits: 1,000 or 0.00001, never 10^3 or 1e-05."""
    rounded = float(f"{number:.6g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else np.format_float_positional(rounded, trim="-")


def plain_ticks(axis: Axis) -> None:
    """Label the ticks of an axis with plain numbers; on a logarithmic one 1, 10, 100, and 2 and 5 of each decade where
    there is room. To be called when the data are drawn and the scale is set."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_formatter(NullFormatter())
    if axis.get_scale() == "log":
        low, high = sorted(axis.get_view_interval())
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 3000 * low else (1,)))


def whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers only: epochs, batches, counts."""
    from matplotlib.ticker import MaxNLocator
    axis.set_major_locator(MaxNLocator(integer=True))
    plain_ticks(axis)


def cut(text: str, width: int = LABEL) -> str:
    """One line of text, cut to `width` columns with an ellipsis; a year in brackets at its end stays. A Chinese,
    Japanese or Korean character takes two columns."""
    text = " ".join(text.split())
    if _columns(text)[-1] <= width:
        return text
    year = found.group() if (found := re.search(r" \(\d{4}\)$", text)) else ""
    text = text.removesuffix(year)
    kept = np.searchsorted(_columns(text), width - len(year) - 1, side="right") - 1
    return text[:int(kept)].rstrip(" ,:(") + "…" + year


def _columns(text: str) -> np.ndarray:
    """How many columns the first 0, 1, 2, ... characters take."""
    return np.cumsum([0, *(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)])
