"""Reports: a trial tells its study how it does after every epoch, and ends where others did better by then."""

from __future__ import annotations

import math
from typing import Any

from ..train.callback import Callback
from ..train.callbacks.order import Order
from ..train.events import CancelFit

TENTHS = 10     # of a fit, at which trials are compared


class Reports(Callback):
    """Reports `monitor`, a column of the history, to an Optuna `trial`, and ends the fit where its study would prune.

    Trials of different lengths are compared at the same tenth of their fits, not at the same epoch: under one-cycle an
    error falls with the rate, at the end. `value` is the last one measured, and `pruned` whether the fit was ended."""

    order = Order.TRACKER

    def __init__(self, trial: Any, monitor: str):
        self.trial, self.monitor = trial, monitor
        self.value, self.pruned, self.tenth = math.nan, False, 0

    def after_epoch(self) -> None:
        learn = self.learn
        self.value = learn.recorder.rows[-1][self.monitor]
        tenth = TENTHS * (learn.epoch + 1) // learn.n_epochs
        if tenth == self.tenth or tenth == TENTHS or not math.isfinite(self.value):
            return
        self.tenth = tenth
        self.trial.report(self.value, tenth)
        if self.trial.should_prune():
            self.pruned = True
            raise CancelFit
