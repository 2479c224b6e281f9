"""MeanYardstick: warns when training ends up worse than predicting the mean of all targets."""

from __future__ import annotations

import math

import torch

from ...errors import warn
from ...loaders import blocks_of
from ..callback import Callback
from .loss_terms import LossTerms
from .order import Order
from .seeded import untouched_randomness

TOLERANCE = 0.05        # share of the mean's loss: a model with nothing to learn wavers about it
STEPS = 100             # batches before any warning: each moves a weight by the rate at most, so a far start takes long
FALL = 0.01             # share of the loss: a smaller fall counts as none
ROWS = 1 << 20          # rows whose loss is computed at a time


class MeanYardstick(Callback):
    """Warns, at most once per fit, if the training loss is worse than that of predicting the mean of the training
    targets for every row, and either the fit is over or the loss is no longer falling: it has fallen by less than 1%
    from one epoch to the next or, in a fit of many epochs, from one tenth of them to the next (on average). In a
    learner's first 100 batches it never warns.

    Both losses are those of `loss_func`; that of the mean costs one pass over the targets per fit. There is no
    comparison if another callback replaces the loss (a ranking objective) or adds terms to it, if the predictions do
    not have the shape of the targets (a classifier), or if nothing is trained (a rate of 0)."""

    order = Order.YARDSTICK

    def before_fit(self) -> None:
        learn = self.learn
        self.mean_loss, self.span = math.nan, max(1, learn.n_epochs // 10)
        self.losses: list[float] = []           # one per epoch of this fit
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
        self.done = not self.mean_loss > 0      # all targets are equal, or the loss cannot be computed
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
        """The loss of predicting the mean, over all training rows; NaN if it cannot be computed."""
        blocks = blocks_of(self.learn.data.train)
        if blocks is None:
            return math.nan
        n, total = 0, 0.0
        for *_, targets in blocks():
            if not targets.is_floating_point():
                return math.nan
            n, total = n + len(targets), total + targets.double().sum().item()
        mean, total = torch.tensor(total / max(1, n)), 0.0
        try:
            with untouched_randomness():
                for part in (part for *_, targets in blocks() for part in targets.split(ROWS)):
                    part = part.to(self.learn.device)
                    total += float(self.learn.loss_func(mean.to(part).expand_as(part), part)) * len(part)
        except (IndexError, RuntimeError, TypeError, ValueError):
            return math.nan                     # a loss of other inputs, such as logits
        return total / max(1, n)
