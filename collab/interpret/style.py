"""What the pictures share: axes, and labels that stay out of each other's way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes(ax: Axes | None) -> Axes:
    """The given axes, or those of a new figure."""
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt  # late, since it takes longer to import than all of collab
    return plt.subplots(figsize=(9, 7))[1]


def scatter_with_labels(ax: Axes, x: np.ndarray, y: np.ndarray, labels: list[str]) -> None:
    """Points, and in the order given each label that overlaps no label before it. Call it last: what room there is
    depends on everything else that the axes show."""
    ax.scatter(x, y, s=12, alpha=0.6, linewidths=0)
    ax.margins(0.1)
    figure = ax.get_figure(root=True)
    if figure is None:
        return
    figure.draw_without_rendering()          # a text has a size only when the figure has a layout
    taken: list = []
    for px, py, label in zip(x, y, labels):
        text = ax.annotate(label, (px, py), xytext=(4, 2), textcoords="offset points", fontsize=8,
                           parse_math=False)            # a title with two "$" is no formula
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in taken) or not ax.get_window_extent().contains(box.x1, box.y1):
            text.remove()
        else:
            taken.append(box)
