"""Annealing: functions of a position between 0 and 1, how to join them, and the callback that follows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .callback import Callback
from .optim import set_hyper

Schedule = Callable[[float], float]


def sched_cos(start: float, end: float) -> Schedule:
    """Half a cosine: start + (end - start) (1 - cos(pi pos)) / 2, flat at both ends."""
    return lambda pos: start + (end - start) * (1 - math.cos(math.pi * pos)) / 2


def combine_scheds(fractions: Sequence[float], scheds: Sequence[Schedule]) -> Schedule:
    """One schedule after another, each over its fraction of the whole; at a joint the later one begins.

    Raises ValueError unless there is a fraction for each schedule and they are not negative and sum to 1."""
    if len(fractions) != len(scheds) or min(fractions) < 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(f"{len(scheds)} schedules need as many fractions of the whole, which sum to 1, got {fractions}")
    ends = [math.fsum(fractions[:k + 1]) for k in range(len(fractions))]

    def combined(pos: float) -> float:
        k = next((k for k, end in enumerate(ends) if pos < end), len(ends) - 1)
        while not fractions[k]:
            k -= 1                      # pos is 1 and the last piece empty
        return scheds[k](min(1.0, (pos - (ends[k] - fractions[k])) / fractions[k]))
    return combined


class ParamScheduler(Callback):
    """Sets hyper-parameters before every training batch: {"lr": schedule, "momentum": schedule, ...}.

    The position is batches done / batches of the fit: 0 at the first, just short of 1 at the last."""

    order = 50

    def __init__(self, scheds: dict[str, Schedule]):
        self.scheds = scheds

    def before_fit(self) -> None:
        self.done, self.total = 0, self.learn.n_epochs * len(self.learn.data.train)

    def before_batch(self) -> None:
        if self.learn.training:
            set_hyper(self.learn.opt, **{name: sched(self.done / self.total) for name, sched in self.scheds.items()})

    def cleanup_batch(self) -> None:
        self.done += self.learn.training
