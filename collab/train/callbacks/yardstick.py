"""MeanYardstick: says when training ends up worse than predicting the mean of all targets."""

from __future__ import annotations

import math

import torch

from ...errors import warn
from ..callback import Callback
from .loss_terms import LossTerms
from .seeded import untouched_randomness

TOLERANCE = 0.05        # of the mean's loss: a model that has nothing to learn wavers about it
STEPS = 100             # of AdamW, each of which moves a weight by the rate at most: no way from a start far off
FALL = 0.01             # that is none
ROWS = 1 << 20          # whose loss is taken at a time


class MeanYardstick(Callback):
    """Warns, once a fit, after the first epoch whose training loss is worse than that of predicting the mean of the
    training targets for every row, where the fit is over, or the loss has not fallen by 1% since the epoch before: in a
    fit of many epochs, the mean of a tenth of them since the tenth before. Otherwise it may be on its way down; of a
    learner's first 100 steps nothing is said.

    It compares what `loss_func` says of predictions and targets, and costs one pass over the targets a fit. Where
    another callback takes the place of the loss (an objective that ranks) or adds terms to it, where the loss is not
    one of predictions of the targets' shape (of a classifier), or nothing is trained (a rate of 0) there is nothing to
    compare."""

    order = 65      # after the Recorder, whose row it reads

    def before_fit(self) -> None:
        learn = self.learn
        self.mean_loss, self.span = math.nan, max(1, learn.n_epochs // 10)
        self.losses: list[float] = []           # of this fit
        self.done = (learn.run.get_loss != learn.verbs.get_loss or any(isinstance(cb, LossTerms) for cb in learn.cbs)
                     or not any(group["lr"] for group in learn.opt.param_groups))

    def after_epoch(self) -> None:
        learn = self.learn
        if self.done or learn.recorder not in learn.cbs:
            return
        row = learn.recorder.rows[-1]
        loss = row["train_loss"]
        if math.isnan(self.mean_loss):
            self.mean_loss = self._of_the_mean()
        self.done = not self.mean_loss > 0      # targets that are all alike, or no such loss
        if self.done or not math.isfinite(loss):
            return
        self.losses.append(loss)
        now, before = (sum(some) / self.span if len(some) == self.span else math.inf
                       for some in (self.losses[-self.span:], self.losses[-2 * self.span:-self.span]))
        worse, last = (1 + TOLERANCE) * self.mean_loss, row["epoch"]
        stuck, over = now > max(worse, (1 - FALL) * before), learn.epoch + 1 == learn.n_epochs and loss > worse
        if (stuck or over) and learn.recorder.n_batches >= STEPS:
            self.done = True
            when, loss = (f"epoch {last}", loss) if self.span == 1 or not stuck else (
                f"epochs {last - self.span + 1} to {last}", now)
            warn(f"the training loss of {when} is {loss:.4g}, and predicting the mean for all rows has "
                 f"{self.mean_loss:.4g}: the model has learned less than that. The learning rate may be too high or "
                 "too low (see learn.lr_find()), the fit too short, the dropout or decay too strong, or the targets "
                 "out of reach of its output (see y_range)")

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
