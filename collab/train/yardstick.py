"""MeanYardstick: says when training ends up worse than predicting the mean of all targets."""

from __future__ import annotations

import math

import torch

from ..errors import warn
from .callback import Callback
from .seeded import untouched_randomness
from .terms import OBSERVED

TOLERANCE = 0.05        # of the mean's loss: a model that has nothing to learn wavers about it
START = 0.1             # of the epochs
ROWS = 1 << 20          # whose loss is taken at a time


class MeanYardstick(Callback):
    """Warns, once a fit, after the first epoch whose training loss is worse than that of predicting the mean of the
    training targets for every row, where it does not fall any more or the fit is over. Before that it may be on its
    way down, from a start far off; in the first tenth of a fit of many short epochs it may also swing.

    It compares what `loss_func` says of predictions and targets, and costs one pass over the targets a fit. Where
    another callback takes the place of the loss (an objective that ranks), where the loss is not one of predictions of
    the targets' shape (of a classifier), or nothing is trained (a rate of 0) there is nothing to compare."""

    order = 65      # after the Recorder, whose row it reads

    def before_fit(self) -> None:
        learn = self.learn
        self.before, self.mean_loss = math.inf, math.nan
        self.done = learn.run.get_loss.__self__ is not learn.verbs or not any(g["lr"] for g in learn.opt.param_groups)

    def after_epoch(self) -> None:
        learn = self.learn
        if self.done or learn.recorder not in learn.cbs:
            return
        row = learn.recorder.rows[-1]
        loss = row.get(OBSERVED, row["train_loss"])
        if math.isnan(self.mean_loss):
            self.mean_loss = self._of_the_mean()
        self.done = not self.mean_loss > 0      # targets that are all alike, or no such loss
        if self.done or not math.isfinite(loss):
            return
        epochs = learn.epoch + 1
        stuck = loss >= self.before and epochs > START * learn.n_epochs
        if loss > (1 + TOLERANCE) * self.mean_loss and (stuck or epochs == learn.n_epochs):
            self.done = True
            warn(f"the training loss of epoch {row['epoch']} is {loss:.4g}, and predicting the mean for every row has "
                 f"{self.mean_loss:.4g}: the model has learned less than that. Is the learning rate too high or too low "
                 "(learn.lr_find()), the fit too short, the dropout or decay too strong, or are there targets that its "
                 "output cannot reach?")
        self.before = loss

    @torch.no_grad()
    def _of_the_mean(self) -> float:
        """The loss of the mean over all training rows; NaN where there is none."""
        tensors = getattr(self.learn.data.train, "tensors", None)
        if not tensors or not tensors[-1].is_floating_point():
            return math.nan
        targets, total = tensors[-1], 0.0
        mean = targets.double().mean().to(targets.dtype)
        try:
            with untouched_randomness():
                for part in targets.split(ROWS):
                    part = part.to(self.learn.device)
                    total += float(self.learn.loss_func(mean.to(part).expand_as(part), part)) * len(part)
        except (IndexError, RuntimeError, TypeError, ValueError):
            return math.nan                     # a loss of something else, such as logits
        return total / max(1, len(targets))
