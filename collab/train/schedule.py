"""Annealing: functions of a position from 0 to 1, joining them, and the callback that follows them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .callback import Callback
from .callbacks.order import Order
from .optim import Hyper, set_hyper

Schedule = Callable[[float], float]
Schedules = Schedule | Sequence[Schedule] | Mapping[str, Schedule]
KEYS = {"momentum": ("momentum", "betas"), "weight_decay": ("weight_decay", "our_weight_decay")}
JOINT = 1e-9        # a position this close to a joint is on it: fractions such as 1 / 3 do not add up exactly


class Curve:
    """A schedule that takes a position or an array of them."""

    def __init__(self, formula: Callable[[Any], Any]):
        self.formula = formula

    def __call__(self, pos: Any) -> Any:
        return self.formula(pos)


def sched_no(start: float, end: float = 0.0) -> Schedule:
    """Constant: `start`. It takes an `end` like the others, and ignores it."""
    return Curve(lambda pos: start + 0 * pos)


def sched_lin(start: float, end: float) -> Schedule:
    """Linear: start + (end - start) pos."""
    return Curve(lambda pos: start + (end - start) * pos)


def sched_cos(start: float, end: float) -> Schedule:
    """Half a cosine: start + (end - start) (1 - cos(pi pos)) / 2, flat at both ends."""
    return Curve(lambda pos: start + (end - start) * (1 - _cos(math.pi * pos)) / 2)


def sched_exp(start: float, end: float) -> Schedule:
    """Exponential: start (end / start)^pos. Raises ValueError unless both have the same sign and neither is 0."""
    if start * end <= 0:
        raise ValueError("an exponential schedule needs a start and an end of the same sign, neither of them 0; got "
                         f"{start} and {end}")
    return Curve(lambda pos: start * (end / start) ** pos)


def sched_poly(start: float, end: float, power: float) -> Schedule:
    """Polynomial: start + (end - start) pos^power."""
    return Curve(lambda pos: start + (end - start) * pos ** power)


def combine_scheds(fractions: Sequence[float], scheds: Sequence[Schedule]) -> Schedule:
    """Schedules one after another, each over its fraction of the whole; at a joint the later one holds.

    Raises ValueError unless there is a fraction for each schedule, none negative, and they sum to 1."""
    if len(fractions) != len(scheds) or min(fractions) < 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(f"{len(scheds)} schedules need as many fractions, which sum to 1, got {list(fractions)}")
    pieces = [(fraction, sched) for fraction, sched in zip(fractions, scheds) if fraction]
    starts = [math.fsum(fraction for fraction, _ in pieces[:k]) for k in range(len(pieces))]

    def combined(pos: Any) -> Any:
        if not isinstance(pos, np.ndarray):
            k = bisect_right(starts, pos + JOINT) - 1
            fraction, sched = pieces[k]
            return sched(min(1.0, max(0.0, (pos - starts[k]) / fraction)))
        values, place = np.empty(len(pos)), np.searchsorted(starts, pos + JOINT, side="right") - 1
        for k, (fraction, sched) in enumerate(pieces):
            mine = place == k
            values[mine] = along(sched, np.clip((pos[mine] - starts[k]) / fraction, 0.0, 1.0))
        return values
    return Curve(combined)


class ParamScheduler(Callback):
    """Sets hyper-parameters before every training batch: {"lr": schedule, "momentum": schedule, ...}.

    A list of schedules, or a dict by group name, has one for each parameter group. The position is batches done /
    batches of the fit: 0 at the first batch, just short of 1 at the last. After the fit the hyper-parameters are what
    they were before. `cycle_ends` lists the numbers of epochs after which a cycle ends, for callbacks to read."""

    order = Order.SCHEDULE

    def __init__(self, scheds: Mapping[str, Schedules], cycle_ends: Sequence[int] = ()):
        self.scheds, self.cycle_ends = scheds, tuple(cycle_ends)

    def before_fit(self) -> None:
        names = [key for name in self.scheds for key in KEYS.get(name, (name,))]
        self.before = [{name: group[name] for name in names if name in group} for group in self.learn.opt.param_groups]

    def cleanup_fit(self) -> None:
        for group, before in zip(self.learn.opt.param_groups, self.before):
            group.update(before)

    def before_batch(self) -> None:
        if self.learn.training:
            self._set(self._position(self.learn.i))

    def before_chunk(self) -> None:
        chunk, groups = self.learn.chunk, self.learn.opt.param_groups
        positions = self._position(np.arange(chunk.first, chunk.first + chunk.n))
        for name, sched in self.scheds.items():
            shared = name == "weight_decay" and callable(sched)        # one value, of which each group has its share
            chunk.hypers[name] = np.stack([values * (group["decay"] if shared else 1)
                                           for group, values in zip(groups, values_at(sched, positions, groups))])

    def after_chunk(self) -> None:
        self._set(self._position(self.learn.chunk.last))

    def _position(self, i: Any) -> Any:
        """The position of batch `i` of this pass, or of each of several."""
        learn, per_epoch = self.learn, len(self.learn.batches)
        return (learn.epoch * per_epoch + i) / (learn.n_epochs * per_epoch)

    def _set(self, pos: float) -> None:
        set_hyper(self.learn.opt, **{name: value_at(sched, pos) for name, sched in self.scheds.items()})


def values_at(sched: Schedules, positions: np.ndarray, groups: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
    """The values at many positions, float64 (n,), for each of the groups."""
    if isinstance(sched, Mapping):
        return [along(sched[group["name"]], positions) for group in groups]
    return [along(sched, positions)] * len(groups) if callable(sched) else [along(one, positions) for one in sched]


def along(sched: Schedule, positions: np.ndarray) -> np.ndarray:
    """The values of one schedule at many positions, float64 (n,)."""
    if isinstance(sched, Curve):
        return sched(positions)
    return np.array([sched(pos) for pos in positions.tolist()], dtype=np.float64)


def _cos(x: Any) -> Any:
    return np.cos(x) if isinstance(x, np.ndarray) else math.cos(x)


def value_at(sched: Schedules, pos: float) -> Hyper:
    """The value at a position; of several schedules, a list or dict of values, as the schedules are."""
    if isinstance(sched, Mapping):
        return {group: one(pos) for group, one in sched.items()}
    return sched(pos) if callable(sched) else [one(pos) for one in sched]
