"""The range test: raise the learning rate step by step, measure the loss of batches kept apart, and leave no trace."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, repeat
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..environment import in_notebook
from ..errors import warn
from ..given import is_real
from ..loaders import count, generator_of
from .callback import Callback
from .callbacks.order import Order
from .callbacks.seeded import random_state, set_random_state
from .events import CancelBatch
from .optim import set_hyper
from .schedule import sched_exp, sched_lin

if TYPE_CHECKING:
    from .learner import Learner

APART = 12                  # batches that are kept apart, or all of them if there are fewer
STEPS = 2, 12               # batches that are trained on at each rate: at least, and at most
DIVERGED = 0.5              # the test stops when the loss exceeds its minimum by more than this share of it
NOISE = 5.0                 # standard errors by which the loss must fall at least
WORTH = 0.005               # share of itself by which the loss must fall at least


class Curve(NamedTuple):
    """The learning rates tried, and the loss of the batches kept apart after the steps at each, both of shape (rates,).
    `before` is that loss before the first step. `noise`, shape (rates,), is the standard error of each loss minus
    `before` over the choice of these batches: with another seed, others would have been kept apart."""

    lrs: np.ndarray
    losses: np.ndarray
    before: float
    noise: np.ndarray

    @property
    def fallen(self) -> np.ndarray:
        """The share of the whole fall, from `before` to the minimum, that was reached by each rate; shape (rates,)."""
        fall = np.maximum.accumulate(self.before - self.losses)
        return fall / fall[-1] if fall[-1] > 0 else np.zeros_like(fall)

    @property
    def smooth(self) -> np.ndarray:
        """The median of each loss and its two neighbours, shape (rates,)."""
        threes = np.lib.stride_tricks.sliding_window_view(np.pad(self.losses, 1, mode="edge"), 3)
        return np.median(threes, axis=1)

    @property
    def clear(self) -> bool:
        """Whether the loss falls clearly: halfway down by more than noise, and in all by enough to show a valley. (A
        trained model gains next to nothing at any rate, though it may gain it at every seed.)"""
        half = int((self.fallen >= 0.5).argmax())
        return bool(self.before - self.losses[half] > NOISE * self.noise[half]
                    and self.before - self.losses.min() > WORTH * abs(self.before))


def valley(curve: Curve) -> float:
    """The geometric mean of the two slopes of the valley: the rate by which half of the whole fall is done, and the
    `slide` before the loss climbs again. A wide valley allows a higher rate than a narrow one."""
    fallen = curve.fallen
    k = int((fallen >= 0.5).argmax())
    half = np.interp(0.5, fallen[max(k - 1, 0):k + 1], np.log(curve.lrs[max(k - 1, 0):k + 1]))
    return math.sqrt(math.exp(half) * slide(curve))


def steep(curve: Curve) -> float:
    """The rate before the minimum at which the `smooth` loss falls fastest over the logarithm of the rate."""
    if len(curve.lrs) < 2:
        return float(curve.lrs[0])
    slopes = np.gradient(curve.smooth, np.log(curve.lrs))
    return float(curve.lrs[slopes[:curve.losses.argmin() + 1].argmin()])


def minimum(curve: Curve) -> float:
    """A tenth of the rate with the lowest loss."""
    return float(curve.lrs[curve.losses.argmin()]) / 10


def slide(curve: Curve, rise: float = 0.25) -> float:
    """A fifth of the rate beyond which the loss diverges: the highest at which the `smooth` loss is above its minimum
    by no more than `rise` of the whole fall."""
    losses, least = curve.smooth, curve.smooth.min()
    return float(curve.lrs[losses <= least + rise * max(curve.before - least, 0.0)][-1]) / 5


SUGGESTIONS: dict[str, Callable[[Curve], float]] = {f.__name__: f for f in (valley, steep, minimum, slide)}


def lr_find(self: Learner, start_lr: float = 1e-5, end_lr: float = 10.0, *, num_it: int = 60,
            suggest: Sequence[str] | str = ("valley", "steep", "minimum"), linear: bool = False,
            plot: bool = True) -> Any:
    """Try `num_it` learning rates from `start_lr` to `end_lr`, rising by equal factors (or steps, if `linear`), and
    stop early when the loss diverges. Returns a named tuple of suggestions: "valley", "steep", "minimum", "slide".

    Each rate trains on the next 2 to 12 batches, so many that the whole test goes over the data about once. The loss is
    that of 12 batches kept apart, the same ones at every rate, with the same dropout and negatives: the curve shows the
    effect of training rather than of which batches came when. If the loss falls by no more than chance (5 standard
    errors), or by no more than 0.5 %, as it may after a fit, all suggestions are None, with a CollabWarning.

    The curve is kept for `recorder.plot_lr_find()`, and drawn in a notebook unless `plot` is False. Nothing else
    changes: weights, optimizer, history, random state and mode are restored, also after Ctrl-C, which is passed on.
    Raises ValueError for an impossible range, an unknown suggestion, or a loss that is not finite from the start.

    After Smith 2017, "Cyclical learning rates for training neural networks", which watches the loss of the batch that
    is trained on."""
    suggest = (suggest,) if isinstance(suggest, str) else tuple(dict.fromkeys(suggest))
    if not count(self.data.train, "training batches"):
        raise ValueError("there are no training batches")
    possible = is_real(start_lr) and is_real(end_lr) and 0 < start_lr < end_lr < math.inf
    if not possible or not isinstance(num_it, Integral) or num_it < 2:
        raise ValueError(f"lr_find needs 0 < start_lr < end_lr and num_it, a whole number of at least 2; got "
                         f"{start_lr!r}, {end_lr!r} and {num_it!r}")
    if unknown := set(suggest) - set(SUGGESTIONS):
        raise ValueError(f"suggestions are {', '.join(SUGGESTIONS)}, not {', '.join(sorted(unknown))}")
    test = RangeTest((sched_lin if linear else sched_exp)(start_lr, end_lr), int(num_it))
    with self.untouched(weights=True), self.calling([*(cb for cb in self.cbs if cb.in_eval), test]):
        if self.seed is not None:
            torch.manual_seed(self.seed)        # inside `untouched`: the same test twice sees the same dropout,
            if (generator := generator_of(self.data.train)) is not None:
                generator.manual_seed(self.seed)        # and the same batches
        self.n_epochs = 1
        self.trial()
    curve = test.curve()
    found = {name: SUGGESTIONS[name](curve) if curve.clear else None for name in suggest}
    self.recorder.lr_find = curve, found
    if not curve.clear:
        warn("lr_find suggests no learning rate: at none of those tried does the loss fall by more than chance and by "
             f"more than {WORTH:.1%}. A trained model hardly improves at any rate: go on with less than the rate it "
             "was trained with, or find one with a new learner")
    if plot and in_notebook():
        self.recorder.plot_lr_find()
    return namedtuple("Suggestions", suggest)(**found)


class RangeTest(Callback):
    """Replaces the batches of the epoch by those of the test: the ones kept apart, which are only evaluated, and then
    for each rate some to train on and again the ones kept apart. Batches that other callbacks cancel shift no loss to
    another rate."""

    order = Order.SCHEDULE

    def __init__(self, sched: Callable[[float], float], num_it: int):
        self.sched, self.num_it = sched, num_it
        self.points: list[tuple[float, float, float]] = []      # rate, loss, noise
        self.looking, self.at = False, 0
        self.losses: dict[int, Tensor] = {}

    def before_train(self) -> None:
        learn = self.learn
        self.batches, self.random = learn.batches, random_state()
        self.epoch = iter(learn.batches)
        self.apart = list(islice(self.epoch, APART))
        self.steps = min(max(len(learn.batches) // self.num_it, STEPS[0]), STEPS[1])
        learn.batches = self

    def __len__(self) -> int:
        return len(self.apart) + self.num_it * (self.steps + len(self.apart))

    def __iter__(self) -> Iterator[Sequence[Tensor]]:
        stream = chain(self.epoch, chain.from_iterable(repeat(self.batches)))       # shuffled anew each time round
        yield from self._look()
        self.first = self.seen
        self.before = sum(self.first.values()) / len(self.first) if self.first else math.nan
        for k in range(self.num_it if math.isfinite(self.before) else 0):
            lr = self.sched(k / (self.num_it - 1))
            set_hyper(self.learn.opt, lr=lr)
            yield from islice(stream, self.steps)
            yield from self._look()
            if not self._goes_on(lr):
                return

    def _look(self) -> Iterator[Sequence[Tensor]]:
        """The batches kept apart, always with the random numbers of the first time; `seen` has their losses."""
        now, losses = random_state(), self.losses
        set_random_state(self.random)
        losses.clear()
        self.looking = True
        for self.at, batch in enumerate(self.apart):
            yield batch
        self.looking = False
        set_random_state(now)
        values = torch.stack([*losses.values()]).tolist() if losses else []     # one wait for the device
        self.seen = dict(zip(losses, values))

    def after_loss(self) -> None:
        if self.looking:
            self.losses[self.at] = self.learn.loss.detach()
            raise CancelBatch

    def _goes_on(self, lr: float) -> bool:
        """Keep the loss at this rate; return whether to try the next."""
        changes = np.array([loss - self.first[at] for at, loss in self.seen.items() if at in self.first])
        if not (n := len(changes)):
            return True                         # callbacks cancelled all of them
        loss = self.before + float(changes.mean())
        if not math.isfinite(loss):
            return False
        rest = 1 - n / len(self.batches)        # share of the batches not kept apart: without any, there is no chance
        noise = 0.0 if rest <= 0 else math.inf if n == 1 else float(changes.std(ddof=1)) * math.sqrt(rest / n)
        self.points.append((lr, loss, noise))
        least = min(self.before, *(loss for _, loss, _ in self.points))
        return loss - least <= DIVERGED * abs(least)

    def curve(self) -> Curve:
        """The losses at all rates. Raises ValueError if there are none."""
        if not self.points:
            raise ValueError("lr_find saw no finite loss, neither before the first step nor after it; look at the data "
                             "and at the loss function, or begin at a lower start_lr")
        lrs, losses, noise = map(np.array, zip(*self.points))
        return Curve(lrs, losses, self.before, noise)
