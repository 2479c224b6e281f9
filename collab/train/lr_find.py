"""The range test: raise the learning rate batch by batch, watch the loss, and leave no trace."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..loaders import count
from ..screen import in_notebook
from .callback import Callback
from .events import CancelFit
from .optim import set_hyper
from .schedule import sched_exp, sched_lin

if TYPE_CHECKING:
    from .learner import Learner

SMOOTHING = 0.98            # of the loss: each batch counts 2%
DIVERGED = 3.0              # the test stops when the smoothed loss is beyond its least by this many times that


class Curve(NamedTuple):
    """Learning rates tried and the smoothed losses seen at them, both of shape (batches,)."""

    lrs: np.ndarray
    losses: np.ndarray


def minimum(curve: Curve) -> float:
    """A tenth of the rate with the least loss."""
    return float(curve.lrs[curve.losses.argmin()]) / 10


def steep(curve: Curve) -> float:
    """The rate where the loss falls fastest over the logarithm of the rate."""
    if len(curve.lrs) < 2:
        return float(curve.lrs[0])
    return float(curve.lrs[np.gradient(curve.losses, np.log(curve.lrs)).argmin()])


def valley(curve: Curve) -> float:
    """The rate two thirds of the way down the longest valley: the longest run of losses, not necessarily adjacent,
    in which each is less than the one before."""
    losses, n = curve.losses, len(curve.losses)
    longest, previous = np.ones(n, dtype=int), np.full(n, -1)
    for i in range(1, n):
        higher = np.flatnonzero(losses[:i] > losses[i])
        if len(higher):
            j = higher[longest[higher].argmax()]
            longest[i], previous[i] = longest[j] + 1, j
    end = start = int(longest.argmax())
    while previous[start] >= 0:
        start = previous[start]
    return float(curve.lrs[start + (end - start) * 2 // 3])


def slide(curve: Curve, width: int = 15, rise: float = 0.1) -> float:
    """Slides a window of `width` batches down from the highest rate, for as long as the loss at its two ends still
    differs by more than `rise` of the curve's whole height; gives a fifth of the rate at its lower end there."""
    if len(curve.lrs) <= width:
        return steep(curve)
    rise *= curve.losses.max() - curve.losses.min()
    right = len(curve.losses) - 1
    while right - width > 0 and abs(curve.losses[right] - curve.losses[right - width]) > rise:
        right -= 1
    return float(curve.lrs[right - width]) / 5


SUGGESTIONS: dict[str, Callable[[Curve], float]] = {f.__name__: f for f in (valley, steep, minimum, slide)}


def lr_find(self: Learner, start_lr: float = 1e-7, end_lr: float = 10.0, num_it: int = 100,
            suggest: Sequence[str] | str = ("valley", "steep", "minimum"), linear: bool = False,
            plot: bool = True) -> Any:
    """Try learning rates from `start_lr` to `end_lr`, rising by equal factors (or steps, if `linear`) over `num_it`
    batches; stop early when the loss diverges. A named tuple of suggestions: "valley", "steep", "minimum", "slide",
    from all but the first tenth of the batches.

    The curve is kept for `recorder.plot_lr_find()`, and drawn in a notebook unless `plot` is False. Nothing else
    changes: weights, optimizer, history, random state and mode are afterwards what they were, also after Ctrl-C, which
    is passed on. Raises ValueError for an impossible range, an unknown suggestion, or a loss that is not finite at the
    first batch. (Smith 2017, "Cyclical learning rates for training neural networks".)"""
    suggest = (suggest,) if isinstance(suggest, str) else suggest
    if not count(self.data.train, "training batches"):
        raise ValueError("there are no training batches")
    if not 0 < start_lr < end_lr < math.inf or not isinstance(num_it, Integral) or num_it < 2:
        raise ValueError("lr_find needs finite rates 0 < start_lr < end_lr and a whole number num_it, at least 2, got "
                         f"{start_lr}, {end_lr} and {num_it!r}")
    if unknown := set(suggest) - set(SUGGESTIONS):
        raise ValueError(f"suggestions are {', '.join(SUGGESTIONS)}, not {', '.join(sorted(unknown))}")
    test = RangeTest((sched_lin if linear else sched_exp)(start_lr, end_lr), num_it)
    with self.untouched(weights=True), self.calling([*(cb for cb in self.cbs if cb.looks), test]):
        if self.seed is not None:
            torch.manual_seed(self.seed)        # inside `untouched`: the same test twice sees the same dropout
        self.n_epochs = num_it      # at most: the test ends it, and callbacks may cancel batches
        self.trial()
    curve, skip = test.curve(), num_it // 10     # at first the mean is of few batches, and mostly noise
    settled = Curve(curve.lrs[skip:], curve.losses[skip:]) if len(curve.lrs) > skip + 1 else curve
    found = {name: SUGGESTIONS[name](settled) for name in suggest}
    self.recorder.lr_find = curve, found
    if plot and in_notebook():
        self.recorder.plot_lr_find()
    return namedtuple("Suggestions", suggest)(**found)


class RangeTest(Callback):
    """Sets the rate of each batch, keeps its smoothed loss, and stops the fit."""

    order = 50

    def __init__(self, sched: Callable[[float], float], num_it: int):
        self.sched, self.num_it = sched, num_it
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self.lr, self.mean = 0.0, 0.0

    def before_batch(self) -> None:
        if len(self.lrs) == self.num_it:
            raise CancelFit
        self.lr = self.sched(len(self.lrs) / (self.num_it - 1))
        set_hyper(self.learn.opt, lr=self.lr)

    def after_loss(self) -> None:
        self.lrs.append(self.lr)        # now, since a batch that is cancelled before has no loss: the next has its rate
        self.mean = SMOOTHING * self.mean + (1 - SMOOTHING) * self.learn.loss.item()
        smooth = self.mean / (1 - SMOOTHING ** len(self.lrs))
        self.losses.append(smooth)
        least = min(self.losses)
        if not math.isfinite(smooth) or smooth - least > DIVERGED * abs(least):
            raise CancelFit

    def curve(self) -> Curve:
        """What was seen; a last loss that is not finite is left out."""
        if not self.losses:
            raise ValueError("no batch came to a loss; look at the callbacks that cancel batches")
        pairs = [(lr, loss) for lr, loss in zip(self.lrs, self.losses) if math.isfinite(loss)]
        if not pairs:
            raise ValueError("the loss was not finite at the first batch; look at the data and at the loss function")
        return Curve(*map(np.array, zip(*pairs)))
