"""The curves of a training whose numbers are of several scales: each on axes of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..learner.collab_learner import CollabLearner

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Panel = Callable[..., "Axes"]


def panels(learn: CollabLearner) -> list[Panel]:
    """A function of `ax` for the training loss, and for every number that was measured after an epoch (of a solved
    model, a sweep). Raises DataError where there is a single sweep, which makes no curve."""
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


def _panel(title: str, step: str, x: Any, y: Any) -> Panel:
    def draw(ax: Axes) -> Axes:
        from matplotlib.ticker import MaxNLocator
        ax.plot(x, y, "-" if step == "batch" else "o-")
        ax.set(title=title, xlabel=step)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        return ax
    return draw
