"""Callbacks that watch a number after every epoch: stop, keep the best, lower the rate; and one that stops at NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .callback import Callback
from .checkpoint import write_tree
from .events import CancelFit
from .optim import set_hyper
from .schedule import ParamScheduler
from .state import learner_state
from .steps import whole

LOWER = ("loss", "rmse", "mae", "mse", "error")


def needs_recorder(cb: Callback) -> None:
    """Raises TypeError where the Recorder, whose rows `cb` reads, was removed."""
    if cb.learn.recorder not in cb.learn.cbs:
        raise TypeError(f"{cb} reads the history of the Recorder, which was removed")


class Tracker(Callback):
    """Follows `monitor`, a column of the recorder's frame. `best` is the best value so far, `waited` the epochs since.

    `mode` is "min", "max" or "auto": smaller is better for a loss and for errors, larger for anything else. A change
    counts when it is better by more than `min_delta`."""

    order = 80          # after whoever records or prints the epoch: this may be the last one

    def __init__(self, monitor: str = "valid_loss", mode: str = "auto", min_delta: float = 0.0):
        if mode not in ("min", "max", "auto"):
            raise ValueError(f"mode {mode!r} is not one of 'min', 'max', 'auto'")
        smaller = mode == "min" or (mode == "auto" and any(word in monitor for word in LOWER))
        self.monitor, self.sign, self.min_delta = monitor, 1 if smaller else -1, abs(min_delta)
        self.best, self.waited = self.sign * float("inf"), 0

    def before_fit(self) -> None:
        needs_recorder(self)
        self.best, self.waited = self.sign * float("inf"), 0

    def look(self) -> bool:
        """Whether this epoch is the best so far; one whose validation was cancelled does not count. Raises ValueError
        where `monitor` is not recorded."""
        row = self.learn.recorder.rows[-1]
        if self.monitor not in row:
            if "valid_loss" not in row and self.learn.data.valid is not None:
                return False
            raise ValueError(f"{self} watches {self.monitor!r}, but what is recorded is {', '.join(row)}")
        better = self.sign * (self.best - row[self.monitor]) > self.min_delta
        if better:
            self.best, self.waited = row[self.monitor], 0
        else:
            self.waited += 1
        return better

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class EarlyStopping(Tracker):
    """Ends the fit after `patience` epochs in a row without a better `monitor`."""

    def __init__(self, monitor: str = "valid_loss", patience: int = 1, mode: str = "auto", min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta)
        self.patience = whole("patience", patience, least=0)

    def after_epoch(self) -> None:
        if not self.look() and self.waited >= self.patience:
            raise CancelFit


class SaveBest(Tracker):
    """Keeps the weights of the epoch with the best `monitor`, as they were validated (averaged ones, where an average
    is kept); also in the file `path`, written atomically each time. With `restore`, the model has them when the fit is
    over; the optimizer stays as it is."""

    def __init__(self, monitor: str = "valid_loss", path: str | Path | None = None, restore: bool = True,
                 mode: str = "auto", min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta)
        self.path, self.restore = path, restore
        self.weights: dict[str, torch.Tensor] | None = None

    def before_fit(self) -> None:
        super().before_fit()
        self.weights = None

    def before_epoch(self) -> None:
        self.validated: dict[str, torch.Tensor] | None = None

    def after_validate(self) -> None:
        self.validated = self._copy()

    def after_epoch(self) -> None:
        if self.look():
            self.weights = self._copy() if self.validated is None else self.validated
            if self.path is not None:
                write_tree(self.path, {**learner_state(self.learn), "model": self.weights})

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: t.detach().clone() for name, t in self.learn.model.state_dict().items()}

    def cleanup_fit(self) -> None:
        if self.restore and self.weights is not None:
            self.learn.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.weights = state["weights"]


class ReduceLROnPlateau(Tracker):
    """Multiplies the learning rates by `factor`, down to `min_lr`, after `patience` epochs without a better one.

    It is for `fit`: a schedule, which sets the rate for every batch, would undo it, so with one it raises TypeError."""

    def __init__(self, monitor: str = "valid_loss", patience: int = 1, factor: float = 0.1, min_lr: float = 0.0,
                 mode: str = "auto", min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta)
        if not 0 < factor < 1:
            raise ValueError(f"factor must lie between 0 and 1, got {factor}")
        self.patience, self.factor, self.min_lr = whole("patience", patience, 0), factor, min_lr

    def before_fit(self) -> None:
        super().before_fit()
        for cb in self.learn.cbs:
            if isinstance(cb, ParamScheduler) and "lr" in cb.scheds:
                raise TypeError("ReduceLROnPlateau has no effect under a schedule of the rate; use it with fit")

    def after_epoch(self) -> None:
        if not self.look() and self.waited >= self.patience:
            lrs = [max(group["lr"] * self.factor, self.min_lr) for group in self.learn.opt.param_groups]
            set_hyper(self.learn.opt, lr=lrs)
            self.waited = 0


class TerminateOnNaN(Callback):
    """Ends the fit when the training loss is no longer finite, before that batch can reach the weights.

    Looks at every `every`-th batch, since each look waits for the device; `stopped` says whether it ended the fit."""

    def __init__(self, every: int = 1):
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every, self.stopped = every, False

    def before_fit(self) -> None:
        self.stopped = False

    def after_loss(self) -> None:
        learn = self.learn
        if learn.training and learn.i % self.every == 0 and not torch.isfinite(learn.loss):
            self.stopped = True
            print(f"The loss was {learn.loss.item()} in epoch {learn.epoch}, batch {learn.i}: training ends here.")
            raise CancelFit
