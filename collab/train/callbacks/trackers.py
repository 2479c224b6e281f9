"""Callbacks that watch a number after every epoch: stop, keep the best, lower the rate; and one that stops at NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ...errors import warn
from ...files import not_a_folder, write_tree
from ...metrics import known_mode
from ...processes import is_main
from ..callback import Callback, State
from ..events import CancelFit
from ..optim import set_hyper
from ..schedule import ParamScheduler
from ..state import learner_state
from .order import Order
from .steps import whole

SIGNS = {"min": 1, "max": -1}


@runtime_checkable
class Recording(Protocol):
    """A callback that adds columns to the history, and says which values of each are better."""

    @property
    def modes(self) -> Mapping[str, str | None]:
        """Column -> "min" if smaller values are better, "max" if larger ones are, None if that cannot be said."""
        ...


def needs_recorder(cb: Callback) -> None:
    """Raise TypeError if the Recorder, whose rows `cb` reads, was removed."""
    if cb.learn.recorder not in cb.learn.cbs:
        raise TypeError(f"{cb} reads the history of the Recorder, which was removed")


class Tracker(Callback):
    """Follows `monitor`, a column of the recorder's frame. `best` is its best value in this fit so far, `waited` the
    number of epochs since. Epochs that did not measure it (their validation was cancelled, or it is NaN beside a finite
    loss) do not count; a fit that never measured it ends with a CollabWarning.

    `mode` is "min", "max" or "auto": the direction that the metric states (`Metric.mode`), or the callback that records
    the column (`Recording.modes`), or its name (`known_mode`). A value is better if it is so by more than `min_delta`.
    Raises ValueError for another mode and, before training, for "auto" if none of these gives a direction."""

    order = Order.TRACKER

    def __init__(self, monitor: str = "valid_loss", mode: str = "auto", *, min_delta: float = 0.0):
        if mode not in ("min", "max", "auto"):
            raise ValueError(f"mode {mode!r} is not one of 'min', 'max', 'auto'")
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.sign = SIGNS.get(mode, 0)      # 1 if less is better, -1 if more is, 0 until that is known
        self.best, self.waited = math.inf, 0
        self.begun = self.measured = False  # whether an epoch of this fit has begun, and whether one was measured

    def before_fit(self) -> None:
        needs_recorder(self)
        self.sign = self._direction()

    def before_epoch(self) -> None:
        if not self.begun:                  # not in before_fit: a fit that is refused forgets nothing
            self.begun, self.measured = True, False
            self.begin()

    def begin(self) -> None:
        """Forget the results of an earlier fit."""
        self.best, self.waited = self.sign * math.inf, 0

    def after_fit(self) -> None:
        if self.begun and not self.measured:
            warn(f"{self} watches {self.monitor!r}, which no epoch of this fit has measured: it did nothing")

    def cleanup_fit(self) -> None:
        self.begun = False

    def improved(self) -> bool:
        """Compare this epoch with the best one so far. Raises ValueError if `monitor` is not recorded."""
        row = self.learn.recorder.rows[-1]
        if self.monitor not in row:
            if "valid_loss" not in row and self.learn.data.valid is not None:
                return False
            raise ValueError(f"{self} watches {self.monitor!r}, but the recorded columns are {', '.join(row)}")
        now = row[self.monitor]
        if math.isnan(now) and math.isfinite(row.get("valid_loss", row["train_loss"])):
            return False                    # such as ranking metrics that are measured every few epochs only
        self.measured = True
        better = self.sign * (self.best - now) > self.min_delta
        if better:
            self.best, self.waited = now, 0
        else:
            self.waited += 1
        return better

    def state_dict(self) -> State:
        return {"monitor": self.monitor, "best": self.best, "waited": self.waited, "measured": self.measured}

    def load_state_dict(self, state: State) -> None:
        self.best, self.waited, self.measured = state["best"], state["waited"], state["measured"]

    def _direction(self) -> int:
        if self.mode in SIGNS:
            return SIGNS[self.mode]
        stated = {name: mode for cb in self.learn.cbs if isinstance(cb, Recording) for name, mode in cb.modes.items()}
        mode = stated.get(self.monitor) or known_mode(self.monitor)
        if mode not in SIGNS:
            what = ("and nothing says whether less or more of it is better" if self.monitor in stated else
                    f"but the recorded columns are {', '.join(stated)}; if another callback adds it")
            raise ValueError(f"{self} watches {self.monitor!r}, {what}: say mode='min' or mode='max'")
        return SIGNS[mode]


class EarlyStopping(Tracker):
    """Ends the fit after `patience` epochs in a row without a better value of `monitor` (see `Tracker` for `mode` and
    `min_delta`). Raises ValueError for a `patience` that is not a whole number."""

    def __init__(self, monitor: str = "valid_loss", patience: int = 1, *, mode: str = "auto", min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta=min_delta)
        self.patience = whole("patience", patience, least=0)

    def after_epoch(self) -> None:
        if not self.improved() and self.waited >= self.patience:
            raise CancelFit


class SaveBest(Tracker):
    """Keeps the weights of the epoch with the best value of `monitor` (see `Tracker` for `mode` and `min_delta`), as
    they were validated: the averaged ones under EMA or SWA. With `restore`, the model has them when the fit is over;
    the optimizer stays as it is.

    With `path`, they are also written to that file, atomically each time, together with the learner's state. A callback
    that stays for several fits keeps the best of all of them there: a worse fit leaves the file alone."""

    def __init__(self, monitor: str = "valid_loss", path: str | Path | None = None, *, restore: bool = True,
                 mode: str = "auto", min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta=min_delta)
        self.path, self.restore = path, restore
        self.weights: dict[str, Tensor] | None = None
        self.row = -1                           # of the history, that has these weights; -1 where it is not known
        self.written: float | None = None       # the value of the weights in the file
        self.of: tuple[object, nn.Module] | None = None         # the data and the model that this is of

    def before_fit(self) -> None:
        super().before_fit()
        if self.path is not None:
            not_a_folder(Path(self.path))

    def begin(self) -> None:
        super().begin()
        self.weights, learn = None, self.learn
        if self.of is None or self.of[0] is not learn.data or self.of[1] is not learn.model:
            self.of, self.written = (learn.data, learn.model), None

    def before_epoch(self) -> None:
        super().before_epoch()
        self.validated: dict[str, Tensor] | None = None

    def after_validate(self) -> None:
        self.validated = self._copy()

    def after_epoch(self) -> None:
        if self.improved():
            self.weights = self._copy() if self.validated is None else self.validated
            self.row = len(self.learn.recorder.rows) - 1
            if self.path is not None and self._betters(Path(self.path)):
                if is_main():
                    write_tree(self.path, {**learner_state(self.learn, without=self), "model": self.weights})
                self.written = self.best

    def _betters(self, path: Path) -> bool:
        """Whether this epoch is better than that in the file, or there is no file."""
        return (self.written is None or not path.exists()
                or self.sign * (self.written - self.best) > self.min_delta)

    def _copy(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.learn.model.state_dict().items()}

    def cleanup_fit(self) -> None:
        if self.begun and self.restore and self.weights is not None:
            self.learn.model.load_state_dict(self.weights)
            self.learn.recorder.put_back = self.row
        super().cleanup_fit()

    def state_dict(self) -> State:
        return {**super().state_dict(), "weights": self.weights, "row": self.row, "written": self.written}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.weights, self.row, self.written = state["weights"], state.get("row", -1), state["written"]


class ReduceLROnPlateau(Tracker):
    """Multiplies the learning rates by `factor`, down to `min_lr`, after `patience` epochs without a better value of
    `monitor` (see `Tracker` for `mode` and `min_delta`). A rate below `min_lr` stays as it is.

    It is for `fit`: a schedule, which sets the rate for every batch, would undo it. Raises TypeError, before training,
    under such a schedule; ValueError for a `factor` that is not between 0 and 1."""

    def __init__(self, monitor: str = "valid_loss", patience: int = 1, *, factor: float = 0.1, min_lr: float = 0.0,
                 mode: str = "auto", min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta=min_delta)
        if not 0 < factor < 1:
            raise ValueError(f"factor must lie between 0 and 1, got {factor}")
        self.patience, self.factor, self.min_lr = whole("patience", patience, 0), factor, min_lr

    def before_fit(self) -> None:
        super().before_fit()
        for cb in self.learn.cbs:
            if isinstance(cb, ParamScheduler) and "lr" in cb.scheds:
                raise TypeError("ReduceLROnPlateau has no effect under a schedule of the rate; use it with fit")

    def after_epoch(self) -> None:
        if not self.improved() and self.waited >= self.patience:
            lrs = [min(group["lr"], max(group["lr"] * self.factor, self.min_lr))
                   for group in self.learn.opt.param_groups]
            set_hyper(self.learn.opt, lr=lrs)
            self.waited = 0


class TerminateOnNaN(Callback):
    """Ends the fit when the training loss is no longer finite, before that batch changes the weights.

    It checks every `every`-th batch, since each check waits for the device, and in a compiled pass every one. `stopped`
    says whether it ended the fit.
    Raises ValueError for an `every` below 1."""

    def __init__(self, every: int = 1):
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every, self.stopped = every, False

    def before_fit(self) -> None:
        self.stopped = False

    def after_loss(self) -> None:
        if self.learn.training and self.learn.i % self.every == 0:
            self._check()

    def before_chunk(self) -> None:
        self.learn.chunk.halt = True

    def after_chunk(self) -> None:
        if not self.learn.chunk.skipped:
            self._check()

    def _check(self) -> None:
        learn = self.learn
        if not torch.isfinite(learn.loss):
            self.stopped = True
            if is_main():
                print(f"The loss was {learn.loss.item()} in epoch {learn.epoch}, batch {learn.i}: training ends here.")
            raise CancelFit
