"""RecordEvery: errors over whole sets every so many iterations, in place of the validation after every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from .callback import Callback
from .events import CancelValidate
from .recorder import _axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RecordEvery(Callback):
    """After every `n` training batches, and at the end of the fit, takes loss and metrics over all rows of training,
    validation and test; nothing is validated, and no line printed, after an epoch, so that callbacks which watch a
    validated number, such as SaveBest, have none. For fits of many short epochs, such as full-batch descent:
    `learn.fit(1000, lr=10, cbs=RecordEvery(100))`.

    What is looked at is what a validation would see (averaged weights, where these are kept), and the loss is without
    terms. Training goes on with the same bits as without it. `rows` is a dict a look, which run on from fit to fit."""

    order = -60         # its cancel comes before anybody's validation begins

    def __init__(self, n: int):
        if n < 1:
            raise ValueError(f"something is recorded every 1 or more iterations, got {n}")
        self.n, self.iteration = n, 0
        self.rows: list[dict[str, Any]] = []

    def frame(self) -> pd.DataFrame:
        """A row a look: iteration, then loss and metrics of each part, such as train_loss, train_rmse, valid_loss."""
        return pd.DataFrame(self.rows)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Every column of `frame` over the iterations."""
        ax, frame = _axes(ax), self.frame()
        for name in frame.columns.drop("iteration", errors="ignore"):
            ax.plot(frame["iteration"], frame[name], label=name)
        ax.set(xlabel="iteration", ylabel="loss, metric")
        if ax.get_lines():
            ax.legend()
        return ax

    def before_fit(self) -> None:
        self.learn.progress.epochs = False

    def cleanup_fit(self) -> None:
        self.learn.progress.epochs = True

    def before_validate(self) -> None:
        raise CancelValidate

    def after_batch(self) -> None:
        if self.learn.training:
            self.iteration += 1
            if self.iteration % self.n == 0:
                self._look()

    def after_fit(self) -> None:
        if self.iteration and (not self.rows or self.rows[-1]["iteration"] < self.iteration):
            self._look()

    def state_dict(self) -> dict[str, Any]:
        return {"iteration": self.iteration, "rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.iteration, self.rows = state["iteration"], list(state["rows"])

    def _look(self) -> None:
        """A validation of each part, with whoever prepares one; what they put into the model is put back."""
        learn, before = self.learn, self.learn.scores.values
        row: dict[str, Any] = {"iteration": self.iteration}
        called = [cb for cb in learn.cbs if cb.looks or hasattr(cb, "before_validate")]
        called = [cb for cb in called if cb is not self and cb is not learn.progress]
        with learn.untouched(weights=True), learn.calling(called):
            for name in ("train", "valid", "test"):
                if (part := getattr(learn.data, name, None)) is not None:
                    ordered = getattr(part, "in_order", None)       # a DataLoader has a flag of that name
                    learn._go_over(ordered() if callable(ordered) else part, training=False)
                    row |= {f"{name}_{key}": value for key, value in learn.scores.values.items()}
        learn.scores.values = before
        self.rows.append(row)
        if learn.progress in learn.cbs:
            learn.progress.write(row)
