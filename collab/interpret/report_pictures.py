"""Pictures of a report: SVG inside the page, in the page's fonts and colours, with a text for those who do not see."""

from __future__ import annotations

import io
import re
import warnings
from html import escape
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..plotting import CURVE, plain
from .glyphs import fonts_of_the_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

PANEL = (4.6, 3.1)                          # inches: of one of several curves; 331 points, a telephone's width
WIDE, NARROW = (9.0, 6.2), (4.7, 5.6)       # of a scatter with labels, on a screen and on a telephone
COLOURS = ("#3f88c5", "#e08a2b", "#2a9d7a", "#d1495b")      # at least 3 : 1 on white and on the page's dark colour
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "collab", "figure.facecolor": "none", "axes.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "0.5", "grid.color": "0.5",
    "xtick.color": "0.5", "ytick.color": "0.5", "xtick.labelcolor": "black", "ytick.labelcolor": "black"}
LONG = re.compile(r"-?\d+\.\d{3,}")      # numbers that are more exact than anybody sees
BLACK, LABELLED = "#000000", 6


class Plot(Protocol):
    """Draws on `ax`."""

    def __call__(self, *, ax: Axes) -> Axes: ...


class Pictures:
    """Draws the pictures of one page, whose ids differ."""

    def __init__(self) -> None:
        self.numbers: Iterator[int] = count(1)

    def draw(self, plot: Plot, size: tuple[float, float] = CURVE, kind: str = "panel", alt: str | None = None) -> str:
        """The picture that `plot` draws, `size` in inches. Without an `alt`, its text says what was drawn."""
        import matplotlib as mpl
        import matplotlib.style as mpl_style
        from cycler import cycler
        from matplotlib.figure import Figure
        drawn = io.BytesIO()
        with (mpl_style.context("default"), mpl.rc_context({**STYLE, "axes.prop_cycle": cycler(color=COLOURS)}),
              fonts_of_the_reader(), warnings.catch_warnings()):        # one page, whatever the style
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)     # the reader's fonts have it
            figure = Figure(figsize=size, layout="constrained")
            ax = plot(ax=figure.subplots())
            figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
        text = said(ax) if alt is None else alt
        svg = _inline(drawn.getvalue().decode(), f"p{next(self.numbers)}", text)
        return f'<figure class="picture {kind}">{svg}</figure>'

    def twice(self, plot: Plot, alt: str | None = None) -> str:
        """A picture with labels, once for a screen and once for a telephone, of which only one is shown."""
        return self.draw(plot, WIDE, "wide", alt) + self.draw(plot, NARROW, "narrow", alt)


def said(ax: Axes) -> str:
    """What axes show, in words: the title, and for each line where it begins, ends and turns back; for points how many
    there are, and the first labels."""
    about = [ax.get_title()]
    for line in ax.get_lines():
        y = np.asarray(line.get_ydata(), dtype=float)
        y = y[np.isfinite(y)]
        name = str(line.get_label())
        if len(y) > 1:
            named = "" if name.startswith("_") else f"{name}: "
            about.append(f"{named}from {_short(y[0])} to {_short(y[-1])} over the {ax.get_xlabel() or 'axis'}, lowest "
                         f"{_short(y.min())}, highest {_short(y.max())}")
    n = sum(len(np.asarray(points.get_offsets())) for points in ax.collections)
    if n:
        labels = [text.get_text() for text in ax.texts][:LABELLED]
        about.append(f"{n:,} points" + (f", among them {', '.join(labels)}" if labels else ""))
    return ". ".join(filter(None, about)) + "."


def _short(number: float) -> str:
    return plain(float(f"{number:.4g}"))


def _inline(svg: str, prefix: str, alt: str) -> str:
    """An SVG file as an element of a page: without its head, with ids of its own, as wide as there is room, black as
    the page's ink, numbers to a hundredth of a point."""
    svg = svg[svg.index("<svg"):]
    view = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index(">") + 1:]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' id="([^"]+)"', rf' id="{prefix}-\1"', body)
    body = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", body).replace("xlink:href", "href")
    body = re.sub(r'(<style type="text/css">)\*', rf"\1#{prefix} *", body)
    body = re.sub(r'(?<= )(d|x|y|transform|points|width|height)="([^"]*)"',
                  lambda found: f'{found[1]}="{LONG.sub(_rounded, found[2])}"', body)
    body = re.sub(r'style="([^"]*)"', lambda found: f'style="{found[1].replace(BLACK, "currentColor")}"', body)
    body = re.sub(r">\s+<", "><", body)
    head = f'<svg id="{prefix}" xmlns="http://www.w3.org/2000/svg" {view[0] if view else ""} role="img"'
    return f'{head} aria-label="{escape(alt)}">{body.strip()}'


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")
