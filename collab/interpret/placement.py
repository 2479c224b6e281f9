"""Scatters with labels: each beside its point, or led there by a line, and none over another label or a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from ..plotting import plain_ticks
from .glyphs import Drawable, measured_as

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Affine2DBase

SIZE = 8                                    # of the letters, in points
GAP, RADIUS, PAD = 4.0, 2.5, 1.0            # points: from a point to its label, around a point, around a label
APART = 7.0                                 # around a label that was moved, so that it is not read as another point's
PASSED, CROSSED, COVERED = 3, 60, 500       # a point under a line, a crossing, a point under a label: beside a length
UNPLACED = 10_000
OUTWARDS = np.array([-1, -1, 1, 1])
FAR = (12, 20, 30, 42, 56, 72, 90)      # points: lengths of leader lines; longer ones are hard to follow
ANGLES = np.arange(24) * np.pi / 12
TRIED = 300                                 # labels: no page has room for more


def scatter_with_labels(ax: Axes, x: np.ndarray, y: np.ndarray, names: Drawable, *, order: Sequence[int],
                        sure: int = 0) -> None:
    """Draw points, and the labels of the leftmost, rightmost, lowest and highest one and of those in `order`, the most
    important first; with an empty `order`, none.

    A label stands right, left, above or below of its point, or at a corner, where it covers neither a label nor a
    point and stays inside the axes. The extremes and the first `sure` are led to the nearest free place by a line
    otherwise, and cover as few points as can be where there is none; the rest go without. Call this last: what room
    there is depends on everything else that the axes show."""
    ax.scatter(x, y, s=12, alpha=0.6, linewidths=0)
    ax.margins(0.08)
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            plain_ticks(axis)
    figure = ax.get_figure(root=True)
    if figure is None or not len(order) or not len(x):
        return
    figure.draw_without_rendering()         # places are known only when the figure has a layout
    extremes = [int(k) for values in (x, y) for k in (np.argmin(values), np.argmax(values))]
    wanted = list(dict.fromkeys([*extremes, *order[:TRIED]]))
    needed = {*extremes, *order[:sure]}
    pixels = ax.transData.transform(np.column_stack([x, y]))
    sizes = dict(zip(wanted, _sizes(figure, [measured_as(names.labels[k]) for k in wanted], names.families)))
    scale = figure.dpi / 72
    page = Page(np.array(ax.get_window_extent().extents) / scale, pixels / scale, sizes)
    for place in page.arrange([k for k in wanted if k in needed], [k for k in wanted if k not in needed]):
        k = place.point
        ax.annotate(names.labels[k], (x[k], y[k]), xytext=tuple(place.corner), textcoords="offset points",
                    fontsize=SIZE, ha="left", va="bottom", fontfamily=names.families, parse_math=False, in_layout=False)
        if place.end is not None:
            _lead(ax, figure, (x[k], y[k]), place.end)


class Place(NamedTuple):
    """Of the label of a point: its lower left corner and the end of a line to it, if any, relative to the point; and
    what its length, crossings and covered points cost."""

    point: int
    corner: np.ndarray
    end: np.ndarray | None
    cost: float


class Page:
    """The room in the axes. All places and sizes are in points (1/72 inch), boxes are rows of (left, bottom, right,
    top), and `sizes` are those of labels by the point they belong to."""

    def __init__(self, frame: np.ndarray, points: np.ndarray, sizes: dict[int, np.ndarray]):
        self.frame, self.points, self.sizes = frame, points, sizes
        self.clear()

    def clear(self) -> None:
        """Take all labels away, and the lines to them: rows of small boxes."""
        self.labels, self.lines = np.empty((2, 0, 4))

    def arrange(self, needed: list[int], others: list[int]) -> list[Place]:
        """The places of the `needed` labels, in that of several orders which costs least, and then of those others that
        stand beside their point."""
        x, y = self.points.T
        orders = [needed, *(sorted(needed, key=key.__getitem__) for key in (x, -x, y, -y))]
        if len(needed) < 2:
            orders = orders[:1]
        costs = []
        for order in orders:
            self.clear()
            found = [self.place(k, move=True) for k in order]
            costs.append(sum(UNPLACED if place is None else place.cost for place in found))
        best = orders[int(np.argmin(costs))]
        self.clear()
        found = [*(self.place(k, move=True) for k in best), *(self.place(k, move=False) for k in others)]
        return [place for place in found if place is not None]

    def place(self, k: int, *, move: bool) -> Place | None:
        """Where the label of point `k` goes, which is taken then; None where there is no room. One that may `move` may
        also cover points, where nothing better is free."""
        point, size = self.points[k], self.sizes[k]
        far = FAR if move else ()
        corners = np.concatenate([_beside(size), *(_ring(size, distance) for distance in far)])
        lengths = np.concatenate([np.zeros(len(corners) - len(far) * len(ANGLES)), np.repeat(far, len(ANGLES))])
        boxes = np.concatenate([point + corners, point + corners + size], axis=1) + PAD * OUTWARDS
        free = self._inside(boxes) & ~_overlaps(boxes, np.concatenate([self.labels, self.lines])).any(1)
        room = boxes + np.where(lengths > 0, APART, RADIUS)[:, None] * OUTWARDS
        costs = np.full(len(boxes), np.inf)
        costs[free] = lengths[free] + COVERED * _overlaps(room[free], self._around(room)).sum(1)
        best: Place | None = None
        for c in np.argsort(costs, kind="stable"):              # the cheapest first, before lines count
            cost = float(costs[c])
            if cost >= (np.inf if best is None else best.cost) or (cost and not move):
                break
            end = None
            if lengths[c]:
                end = np.clip(0, corners[c], corners[c] + size)     # the corner or edge that is next to the point
                line = _along(point, point + end)
                if _overlaps(line, self.labels).any():
                    continue
                cost += CROSSED * bool(_overlaps(line, self.lines).any())
                cost += PASSED * _near_line(self.points - point, end)
            if best is None or cost < best.cost:
                best, taken = Place(k, corners[c], end, cost), boxes[c][None]
        if best is not None:
            self.labels = np.concatenate([self.labels, taken])
            if best.end is not None:
                self.lines = np.concatenate([self.lines, _along(point, point + best.end) + PAD * OUTWARDS])
        return best

    def _around(self, boxes: np.ndarray) -> np.ndarray:
        """The points that some of the boxes may hold, as boxes of no size."""
        near = (self.points > boxes[:, :2].min(0)) & (self.points < boxes[:, 2:].max(0))
        return _boxes(self.points[near.all(1)])

    def _inside(self, boxes: np.ndarray) -> np.ndarray:
        return np.all((boxes[:, :2] >= self.frame[:2]) & (boxes[:, 2:] <= self.frame[2:]), axis=1)


def _beside(size: np.ndarray) -> np.ndarray:
    """Lower left corners of a label right, left, above and below of a point at the origin, and at its four corners."""
    (w, h), near = size, GAP * 0.7
    return np.array([(GAP, -h / 2), (-GAP - w, -h / 2), (-w / 2, GAP), (-w / 2, -GAP - h), (near, near),
                     (-near - w, near), (near, -near - h), (-near - w, -near - h)])


def _ring(size: np.ndarray, distance: float) -> np.ndarray:
    """Lower left corners of a label all around a point at the origin, `distance` away."""
    way = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    return way * (distance + size / 2) - size / 2


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which boxes overlap which others: (m, 4), (n, 4) -> (m, n)."""
    (left, low, right, high), (left2, low2, right2, high2) = boxes.T[:, :, None], others.T[:, None, :]
    return (left < right2) & (left2 < right) & (low < high2) & (low2 < high)


def _boxes(places: np.ndarray) -> np.ndarray:
    """Places as boxes of no size."""
    return np.concatenate([places, places], axis=1)


def _along(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Places every 2 points along a line, as boxes of no size."""
    steps = max(2, int(np.linalg.norm(end - start) / 2))
    return _boxes(start + np.linspace(0, 1, steps)[:, None] * (end - start))


def _near_line(points: np.ndarray, end: np.ndarray) -> int:
    """How many points a line from the origin to `end` passes."""
    along = (points @ end / max(end @ end, 1e-9)).clip(0, 1)
    return int((np.square(points - along[:, None] * end).sum(1) < RADIUS ** 2).sum())


def _sizes(figure: Figure, labels: list[str], families: list[str]) -> np.ndarray:
    """Widths and heights of labels, in points, by one text that takes them in turn."""
    text = figure.text(0, 0, "", fontsize=SIZE, fontfamily=families, parse_math=False)
    sizes = []
    for label in labels:
        text.set_text(label)
        box = text.get_window_extent()
        sizes.append((box.width, box.height))
    text.remove()
    return np.array(sizes) * 72 / figure.dpi


def _lead(ax: Axes, figure: Figure, point: tuple[float, float], end: np.ndarray) -> None:
    """A thin line from a point to an offset of so many points, which stays with it when the axes are zoomed."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Affine2D, ScaledTranslation
    there = ScaledTranslation(*point, cast("Affine2DBase", ax.transData))       # it takes any transform
    here = Affine2D().scale(1 / 72) + figure.dpi_scale_trans + there
    line = Line2D([0, end[0]], [0, end[1]], transform=here, color="0.5", linewidth=0.6, zorder=0.9)
    line.set_in_layout(False)
    ax.add_artist(line)
