"""Running averages of the weights, validated without disturbing the weights in training."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import warn
from ..callback import Callback, State
from .order import Order
from .steps import GradientAccumulation, number, whole


class Averaging(Callback):
    """Validates averaged weights, while training goes on with its own. With `keep`, the model has the average when the
    fit is over. `average` holds it by name; `n` counts the weights that went into it.

    Raises TypeError, before training, for two averages in one fit."""

    order = Order.AVERAGING
    takes_sparse = True

    def __init__(self, keep: bool = True):
        self.keep = keep
        self.n = 0
        self.average: dict[str, Tensor] = {}
        self.trained: dict[str, Tensor] | None = None

    def before_fit(self) -> None:
        self.n, self.average, self.trained = 0, {}, None        # first, so that a cleanup after Ctrl-C finds nothing
        several = [cb for cb in self.learn.cbs if isinstance(cb, Averaging)]
        if len(several) > 1:
            raise TypeError(f"{several[0]} and {several[1]} both average the weights; a model keeps one average")

    @torch.no_grad()
    def add(self, weight: float) -> None:
        """Update average <- average + weight (weights - average); the first average is the weights themselves."""
        now = self.learn.model.state_dict()
        if not self.n:
            self.average = {name: t.detach().clone() for name, t in now.items()}
        else:
            for name, t in now.items():
                average = self.average[name]
                average.lerp_(t, weight) if t.is_floating_point() else average.copy_(t)
        self.n += 1

    def before_validate(self) -> None:
        if self.n:
            self.trained = {name: t.detach().clone() for name, t in self.learn.model.state_dict().items()}
            self.learn.model.load_state_dict(self.average)

    def cleanup_validate(self) -> None:
        if self.trained is not None:
            self.learn.model.load_state_dict(self.trained)
            self.trained = None

    def cleanup_fit(self) -> None:
        if self.keep and self.n:
            self.learn.model.load_state_dict(self.average)

    def state_dict(self) -> State:
        return {"n": self.n, "average": self.average}

    def load_state_dict(self, state: State) -> None:
        self.n = state["n"]
        self.average = {name: t.to(self.learn.device) for name, t in state["average"].items()}


class EMA(Averaging):
    """Exponential moving average over the steps: average <- decay average + (1 - decay) weights, beginning with the
    weights after the first step. Raises ValueError unless 0 < decay < 1."""

    def __init__(self, decay: float = 0.999, keep: bool = True):
        super().__init__(keep)
        if not number("decay", decay) < 1:
            raise ValueError(f"decay must lie between 0 and 1, got {decay}")
        self.decay = decay

    def after_step(self) -> None:
        self.add(1 - self.decay)


class SWA(Averaging):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights at the end of each epoch from `start`
    on, counted from 0, also of epochs that CancelTrain cut short. Statistics of batch normalisation are averaged too,
    not computed anew. A fit that ends before `start` begins with a CollabWarning."""

    run_after = (GradientAccumulation,)     # its last step comes after the last batch

    def __init__(self, start: int = 0, keep: bool = True):
        super().__init__(keep)
        self.start = whole("start", start, least=0)

    def before_fit(self) -> None:
        super().before_fit()
        if 0 < self.learn.n_epochs <= self.start:
            warn(f"SWA averages from epoch {self.start} on, counted from 0, and this fit has {self.learn.n_epochs}: "
                 "nothing is averaged; give it an earlier start")

    def cleanup_train(self) -> None:
        if self.learn.epoch >= self.start and self.learn.run.cut_off is None:
            self.add(1 / (self.n + 1))
