"""MeanYardstick: says when training ends up worse than predicting the mean of all targets."""

from __future__ import annotations

import math

import torch

from ..errors import warn
from .callback import Callback
from .seeded import untouched_randomness
from .terms import LossTerms

TOLERANCE = 0.05        # of the mean's loss: a model that has nothing to learn wavers about it
STEPS = 100             # of AdamW, each of which moves a weight by the rate at most: no way from a start far off
START = 0.1             # of the epochs
ROWS = 1 << 20          # whose loss is taken at a time


class MeanYardstick(Callback):
    """Warns, once a fit, after the first epoch whose training loss is worse than that of predicting the mean of the
    training targets for every row, where it does not fall any more or the fit is over. Before that it may be on its
    way down: nothing is said of a learner's first 100 steps, nor of the first tenth of a fit of many short epochs,
    where losses swing.

    It compares what `loss_func` says of predictions and targets, and costs one pass over the targets a fit. Where
    another callback takes the place of the loss (an objective that ranks) or adds terms to it, where the loss is not
    one of predictions of the targets' shape (of a classifier), or nothing is trained (a rate of 0) there is nothing to
    compare."""

    order = 65      # after the Recorder, whose row it reads

    def before_fit(self) -> None:
        learn = self.learn
        self.before, self.mean_loss = math.inf, math.nan
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
        epochs = learn.epoch + 1
        due = epochs == learn.n_epochs or (loss >= self.before and epochs > START * learn.n_epochs)
        if due and loss > (1 + TOLERANCE) * self.mean_loss and learn.recorder.n_batches >= STEPS:
            self.done = True
            warn(f"the training loss of epoch {row['epoch']} is {loss:.4g}, and predicting the mean for all rows has "
                 f"{self.mean_loss:.4g}: the model has learned less than that. The learning rate may be too high or "
                 "too low (see learn.lr_find()), the fit too short, the dropout or decay too strong, or the targets "
                 "out of reach of its output (see y_range)")
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
