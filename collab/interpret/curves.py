"""Training curves, each on axes of its own, since their scales differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..learner.collab_learner import CollabLearner
from ..plotting import head, whole_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

Panel = Callable[..., "Axes"]


def panels(learn: CollabLearner) -> list[Panel]:
    """Functions that draw on an `ax`: one for the training loss, and one for each number measured after an epoch (of a
    solved model, a sweep). Raises DataError after a single sweep, which makes no curve."""
    recorder, solved = learn.recorder, learn.collab_model.solved
    frame = recorder.frame()
    if solved and len(frame) < 2:
        raise DataError(f"{type(learn.model).__name__} was solved in one sweep, so there are no curves to draw")
    step = "sweep" if solved else "epoch"
    if solved:
        drawn = [_panel("training: objective per rating", step, frame["epoch"] + 1, frame["train_loss"])]
    else:
        smooth = recorder.smooth_losses()
        drawn = [_panel("training loss, smoothed", "batch", np.arange(len(smooth)), smooth)]
    left_out = {"epoch", "train_loss", "seconds", *recorder.parts}
    for name in (name for name in frame if name not in left_out and frame[name].notna().any()):
        title = "validation loss" if name == "valid_loss" else str(name)
        drawn.append(_panel(title, step, frame["epoch"] + 1, frame[name]))
    return drawn


def _panel(title: str, step: str, x: ArrayLike, y: ArrayLike) -> Panel:
    def draw(ax: Axes) -> Axes:
        ax.plot(x, y, "-" if step == "batch" else "o-")
        ax.set_xlabel(step)
        head(ax, title)
        whole_ticks(ax.xaxis)
        return ax
    return draw
