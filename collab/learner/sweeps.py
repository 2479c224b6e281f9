"""Sweeps: how a learner fits a model that is solved, not trained step by step."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import nn

from ..compiled import one_thread
from ..models.solved import SolvedModel
from ..processes import started
from ..train.callback import Callback
from ..train.callbacks.order import Order
from ..train.lr_find import RangeTest
from ..train.optim import Plain
from ..train.schedule import ParamScheduler

NO_RATES = ("is solved, not trained step by step: it has no lr and no wd to set, to schedule or to freeze, and its "
            "regularisation is given when the model is built; call learn.fit()")

SMALL = 1 << 18     # training ratings up to which validation takes one thread: more gain less than they cost


class Sweeps(Callback):
    """Replace the training step by a sweep: the training part is one batch, and its step one sweep over all rows.

    `train_loss` is the model's objective divided by the number of training ratings. Ctrl-C leaves the weights of the
    last whole sweep. A schedule of the learning rate raises Unsupported before the fit."""

    order = Order.SWEEPS
    in_eval = True        # a range test is refused too

    def __init__(self) -> None:
        self.prepared: Any = None       # the model's arranged training rows, during a fit
        self.objective: float | None = None     # after a sweep, where the model says

    @property
    def model(self) -> SolvedModel:
        return cast(SolvedModel, self.learn.model)      # learners add this callback for no other

    def before_fit(self) -> None:
        if started():
            raise self.model.lacks("is solved by one process; start it without torchrun")
        scheduled = any(isinstance(cb, ParamScheduler | RangeTest) for cb in self.learn.run.cbs)
        if scheduled or any(group["lr"] or group["weight_decay"] for group in self.learn.opt.param_groups):
            raise self.model.lacks(NO_RATES)
        if idle := [cb for event in ("after_backward", "after_step") for cb in self.learn.run.callers[event]]:
            raise self.model.lacks(f"is solved in sweeps, and has no step that {idle[0]} could work on")
        self.prepared = None            # left by an interrupted fit

    def before_train(self) -> None:
        self.learn.batches = [self.learn.data.train.tensors]        # all rows are one batch

    def predict(self) -> None:
        learn = self.learn
        if not learn.training:
            with self._threads():
                learn.pred = learn.model(*learn.xb)
            return
        if self.prepared is None:
            users, items = learn.xb
            self.prepared = self.model.prepare(users, items, learn.yb)
        self.objective = self.model.sweep(self.prepared)

    def _threads(self) -> AbstractContextManager[None]:
        """One thread of torch for the length of a `with` for small data on a CPU."""
        data = self.learn.data
        return one_thread() if data.device.type == "cpu" and data.train.n <= SMALL else nullcontext()

    def get_loss(self) -> None:
        learn = self.learn
        if learn.training:
            total = self.model.loss(self.prepared) if self.objective is None else self.objective
            learn.loss = torch.tensor(total / len(learn.yb), dtype=torch.float64)
        else:
            learn.loss = learn.loss_func(learn.pred, learn.yb)

    def backward(self) -> None:
        """A sweep has no gradients."""

    def step(self) -> None:
        """The sweep was the step."""

    def zero_grad(self) -> None:
        """A sweep has no gradients."""

    def after_train(self) -> None:
        if self.model.scores_finished or self.learn.epoch + 1 == self.learn.n_epochs:     # before a Checkpoint
            self._finish()

    def cleanup_fit(self) -> None:
        if self.learn.run.cut_off is None:      # others may have ended the fit, or put back the best weights
            self._finish()
        self.prepared = None

    def _finish(self) -> None:
        if self.prepared is not None:
            with self._threads():
                self.model.finish(self.prepared)


class Solved(Plain):
    """Holds the parameters where an optimizer is expected; it is never asked for a step."""

    @classmethod
    def of(cls, model: nn.Module) -> Solved:
        """The stand-in for a model's optimizer, with a learning rate of 0."""
        return cls([{"params": list(model.parameters()), "name": "all", "decay": 1.0}],
                   {"lr": 0.0, "weight_decay": 0.0})
