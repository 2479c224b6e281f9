"""Randomness that is the learner's own."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..loaders import generator_of
from .callback import Callback


def random_state() -> list[Tensor]:
    """The state of torch's global generators: the CPU's, then every GPU's."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []    # asking would start them all
    return [torch.get_rng_state(), *gpus]


def set_random_state(states: list[Tensor]) -> None:
    """Put back what `random_state` gave; states of GPUs that are not here are left out."""
    torch.set_rng_state(states[0])
    if len(states) > 1 and torch.cuda.is_available():
        for device, state in enumerate(states[1:1 + torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)


class _Drawing:
    """Which threads are inside of something that draws, how deep, and the random state before the first of them. Every
    step is one operation of a dict: a lock might stay locked after Ctrl-C, and other threads would wait for ever."""

    depth: ClassVar[dict[int, int]] = {}
    before: ClassVar[list[Tensor] | None] = None

    @classmethod
    def enter(cls, keep: bool) -> list[Tensor]:
        """The random state of now, which the last to leave puts back if whoever is first wants to `keep` it."""
        me, now = threading.get_ident(), random_state()
        if not cls.depth:
            cls.before = now if keep else None
        cls.depth[me] = cls.depth.get(me, 0) + 1
        return now

    @classmethod
    def leave(cls, own: list[Tensor] | None) -> None:
        """Put back the state that this thread found, or nothing while others draw from it."""
        me = threading.get_ident()
        if (left := cls.depth.pop(me, 1) - 1) > 0:
            cls.depth[me] = left
        if own is not None and len(cls.depth) == (left > 0):        # no other thread is inside
            set_random_state(own if left > 0 or cls.before is None else cls.before)


class untouched_randomness(AbstractContextManager[None]):
    """Whatever is drawn inside, torch's global random state is afterwards what it was, and so are the generators that
    the batches `drawn` are drawn with. All threads share the global one: where several are inside, the last to leave
    puts it back, and while another one trains it is left to that.

    A class, since a generator function that Ctrl-C cuts off on its way out puts states back when it is collected,
    which may be in the middle of another fit."""

    def __init__(self, *drawn: Any):
        self.drawn = drawn

    def __enter__(self) -> None:
        self.generators = [g for batches in self.drawn if (g := generator_of(batches)) is not None]
        self.states = [g.get_state() for g in self.generators]
        self.before = _Drawing.enter(keep=True)

    def __exit__(self, *error: object) -> None:
        for generator, state in zip(self.generators, self.states):
            generator.set_state(state)
        _Drawing.leave(self.before)


class own_randomness(AbstractContextManager[None]):
    """For what draws, such as a fit: other threads that look meanwhile leave the random state to it."""

    def __enter__(self) -> None:
        _Drawing.enter(keep=False)

    def __exit__(self, *error: object) -> None:
        _Drawing.leave(None)


class Seeded(Callback):
    """Runs each fit on a random stream of its own, which begins at `seed` and goes on from fit to fit: that of torch,
    and the one that shuffles the training batches. Two learners with one seed over one data therefore do the same."""

    order = -100

    def __init__(self, seed: int):
        self.seed = seed
        self.inner: dict[str, Any] | None = None
        self.outer: dict[str, Any] | None = None        # not None while a fit runs

    def before_fit(self) -> None:
        self.outer = self._now()
        if self.inner is not None:
            self._put_back(self.inner)
            return
        torch.manual_seed(self.seed)
        if (generator := generator_of(self.learn.data.train)) is not None:
            generator.manual_seed(self.seed)

    def cleanup_fit(self) -> None:
        if self.outer is not None:
            self.inner = self._now()
            self._put_back(self.outer)
            self.outer = None

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner if self.outer is None else self._now()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner = state["inner"]

    def _now(self) -> dict[str, Any]:
        generator = generator_of(self.learn.data.train)
        return {"random": random_state(), "batches": None if generator is None else generator.get_state()}

    def _put_back(self, states: dict[str, Any]) -> None:
        set_random_state(states["random"])
        if (generator := generator_of(self.learn.data.train)) is not None and states["batches"] is not None:
            generator.set_state(states["batches"])
