"""Randomness that is the learner's own."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any, ClassVar
from weakref import ref

import torch
from torch import Tensor

from ...loaders import generator_of
from ..callback import Callback
from ..whole import whole


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
    """Which scopes that draw are open, in which threads, and the random state before the first of them. Every step is
    one operation of a dict: a lock might stay locked after Ctrl-C, and other threads would wait for ever."""

    inside: ClassVar[dict[ref[own_randomness], int]] = {}
    before: ClassVar[list[Tensor] | None] = None

    @classmethod
    def enter(cls, scope: own_randomness, keep: bool) -> list[Tensor]:
        """The random state of now, which the last to leave puts back if whoever is first wants to `keep` it."""
        now = random_state()
        if not cls.threads():
            cls.before = now if keep else None
        cls.inside[ref(scope)] = threading.get_ident()
        return now

    @classmethod
    def leave(cls, scope: own_randomness, own: list[Tensor] | None) -> None:
        """Put back the state that this thread found, or nothing while others draw from it. May be called again."""
        cls.inside.pop(ref(scope), None)
        left = cls.threads()
        if own is not None and all(thread == threading.get_ident() for thread in left):
            set_random_state(own if left or cls.before is None else cls.before)

    @classmethod
    def threads(cls) -> list[int]:
        """The thread of each open scope; one that Ctrl-C kept from leaving is forgotten once it is collected."""
        for scope in list(cls.inside):
            if scope() is None:
                cls.inside.pop(scope, None)
        return list(cls.inside.values())


class own_randomness(AbstractContextManager[None]):
    """For what draws, such as a fit: other threads that look meanwhile leave the random state to it.

    A class, since a generator function that Ctrl-C cuts off on its way out puts states back when it is collected,
    which may be in the middle of another fit. Ctrl-C within the first instruction of `__exit__` comes before anything
    can catch it: the random state stays, and the scope counts as open until it is collected."""

    keep = False

    def __enter__(self) -> None:
        self.before: list[Tensor] | None = None
        try:
            now = _Drawing.enter(self, self.keep)
            self.before = now if self.keep else None
        except BaseException:
            whole(self._leave)
            raise

    def __exit__(self, *error: object) -> None:
        try:
            self._leave()
        except KeyboardInterrupt:
            whole(self._leave)
            raise

    def _leave(self) -> None:
        _Drawing.leave(self, self.before)


class untouched_randomness(own_randomness):
    """Whatever is drawn inside, torch's global random state is afterwards what it was, and so are the generators that
    the batches `drawn` are drawn with. All threads share the global one: where several are inside, the last to leave
    puts it back, and while another one trains it is left to that."""

    keep = True

    def __init__(self, *drawn: Any):
        self.drawn = drawn

    def __enter__(self) -> None:
        self.states = [(g, g.get_state()) for batches in self.drawn if (g := generator_of(batches)) is not None]
        super().__enter__()

    def _leave(self) -> None:
        for generator, state in self.states:
            generator.set_state(state)
        super()._leave()


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
        now: list[dict[str, Any]] = []      # taken once, also where Ctrl-C makes the rest begin anew

        def end() -> None:
            if self.outer is not None:
                if not now:
                    now.append(self._now())
                self.inner = now[0]
                self._put_back(self.outer)
                self.outer = None
        try:
            end()
        except KeyboardInterrupt:
            whole(end)
            raise

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
