"""RecordEvery: loss and metrics over whole sets every so many iterations, instead of validating after every epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...errors import warn
from ...loaders import PARTS, parts_of, unshuffled
from ...plotting import head, whole_ticks
from ..callback import Callback, State
from ..events import CancelValidate
from .order import Order
from .trackers import Tracker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = 20          # printed in a fit, or one more for its end
START = 0.1         # of the iterations, by which no plot is scaled: the first errors would flatten all others


class RecordEvery(Callback):
    """Records loss and metrics over all rows of the training, validation and test parts: before the first training
    batch, after every `n`-th one and at the end of the fit. For fits of many short epochs, such as full-batch descent:
    `learn.fit(1000, lr=10, cbs=RecordEvery(100))`.

    In such a fit nothing is validated or printed after an epoch, so callbacks that watch a validated number, such as
    SaveBest, or that work after a validation, do nothing; a CollabWarning says so. Recorded is what a validation would
    see, averaged weights if there are any, and the loss without terms. Training goes on, batch by batch, with the same
    bits as in a loop without this callback. `rows` has one dict per recording, from fit to fit; about 20 of each fit
    are printed."""

    order = Order.RECORD_EVERY

    def __init__(self, n: int):
        if n < 1:
            raise ValueError(f"n, the iterations between two recordings, must be at least 1, got {n}")
        self.n, self.iteration = n, 0
        self.rows: list[dict[str, float]] = []
        self.printed = -1                   # the iteration of the last line

    def frame(self) -> pd.DataFrame:
        """One row per recording: iteration, then loss and metrics of each part, such as train_loss, train_rmse,
        valid_loss."""
        return pd.DataFrame(self.rows)

    def plot(self, ax: Axes | None = None, what: Sequence[str] | str | None = None) -> Axes:
        """The loss and each metric over the iterations, a line a part and side by side on axes of their own; `what`
        says which of them, such as "rmse". On a given `ax` one: by default the loss. The scale is that of the errors
        after the first tenth of the iterations: a curve may come in from above.

        Returns the axes, of several the first one. Raises ValueError for what is not recorded, or several on one
        `ax`."""
        frame = self.frame()
        known = list(dict.fromkeys(name.partition("_")[2] for name in frame.columns.drop("iteration", errors="ignore")))
        wanted = [what] if isinstance(what, str) else list(what or (known if ax is None else known[:1]))
        if unknown := [name for name in wanted if name not in known]:
            raise ValueError(f"{unknown[0]!r} is not recorded; what is, is {', '.join(known) or 'nothing'}")
        if ax is not None:
            if len(wanted) > 1:
                raise ValueError(f"{', '.join(wanted)} are on scales of their own: plot one of them on this ax")
            axes = [ax]
        else:
            from matplotlib import pyplot as plt  # late, since it takes longer to import than all of collab
            several = max(1, len(wanted))
            axes = list(plt.subplots(1, several, figsize=(1 + 4.2 * several, 3.6), squeeze=False,
                                     layout="constrained")[1][0])
        for one, name in zip(axes, wanted):
            _draw(one, frame, name)
        return axes[0]

    def before_fit(self) -> None:
        learn = self.learn
        idle = [cb for cb in learn.cbs if hasattr(cb, "after_validate") and not isinstance(cb, Tracker)
                and not any(cb is one for one in self._called())]
        if idle:
            warn(f"{', '.join(map(repr, idle))} work after a validation, and {self} leaves those out: they do nothing "
                 "in this fit")
        learn.progress.epochs, self.printed = False, -1

    def cleanup_fit(self) -> None:
        self.learn.progress.epochs = True

    def before_validate(self) -> None:
        raise CancelValidate

    def before_batch(self) -> None:
        if self.learn.training and not self.iteration and not self.rows:
            self._record(0)

    def after_batch(self) -> None:
        if self.learn.training:
            self.iteration += 1
            if self.iteration % self.n == 0:
                self._record(self.iteration // self.n)

    def after_fit(self) -> None:
        if self.iteration and (not self.rows or self.rows[-1]["iteration"] < self.iteration):
            self._record(0)
        elif self.iteration and self.printed < self.iteration:
            self._print()

    def state_dict(self) -> State:
        return {"iteration": self.iteration, "rows": self.rows}

    def load_state_dict(self, state: State) -> None:
        self.iteration, self.rows = state["iteration"], list(state["rows"])

    def __repr__(self) -> str:
        return f"RecordEvery({self.n})"

    def _called(self) -> list[Callback]:
        """The callbacks that prepare a validation."""
        return [cb for cb in self.learn.cbs if (cb.in_eval or hasattr(cb, "before_validate"))
                and cb is not self and cb is not self.learn.progress]

    def _record(self, count: int) -> None:
        """Validate each part with the callbacks that prepare a validation; the model and their attributes are restored.
        The row is printed if `count` is a multiple of a number that keeps the table short."""
        learn, called = self.learn, self._called()
        row: dict[str, float] = {"iteration": self.iteration}
        planned = learn.n_epochs * len(learn.batches) // self.n
        kept = [(cb, dict(vars(cb))) for cb in called]
        with learn.untouched(weights=True), learn.calling(called):
            for name, part in parts_of(learn.data).items():
                learn._go_over(unshuffled(part), training=False)
                row |= {f"{name}_{key}": value for key, value in learn.scores.values.items()}
        for cb, attributes in kept:
            vars(cb).clear()
            vars(cb).update(attributes)
        self.rows.append(row)
        if count % max(1, math.ceil(planned / LINES)) == 0:
            self._print()

    def _print(self) -> None:
        if self.learn.progress in self.learn.cbs:
            self.learn.progress.write(self.rows[-1])
        self.printed = self.iteration


def _draw(ax: Axes, frame: pd.DataFrame, name: str) -> None:
    """One quantity of every part."""
    columns = [column for part in PARTS if (column := f"{part}_{name}") in frame]
    lines = []
    for column in columns:
        lines += ax.plot(frame["iteration"], frame[column], label=column)
    ax.set(xlabel="iteration", ylabel=name)
    whole_ticks(ax.xaxis)
    head(ax, f"{name} over whole sets", handles=lines)
    iterations = frame["iteration"].to_numpy()
    values = frame[columns].to_numpy()
    later = values[iterations >= iterations[0] + START * (iterations[-1] - iterations[0])]
    later = later[np.isfinite(later)]
    if len(later) and later.max() > later.min():
        margin = 0.05 * (later.max() - later.min())
        ax.set_ylim(later.min() - margin, later.max() + margin)
