"""Random states: putting them back, and a learner's own stream of random numbers."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import ClassVar, TypedDict
from weakref import ref

import torch
from torch import Tensor

from ...loaders import generator_of
from ..callback import Callback, State
from ..whole import whole
from .order import Order


def random_state() -> list[Tensor]:
    """The state of torch's global generators: the CPU's, then every GPU's."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []    # asking would start them all
    return [torch.get_rng_state(), *gpus]


def set_random_state(states: list[Tensor]) -> None:
    """Put back what `random_state` gave; the states of GPUs that are not here are ignored."""
    torch.set_rng_state(states[0])
    if len(states) > 1 and torch.cuda.is_available():
        for device, state in enumerate(states[1:1 + torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)


class Drawn(TypedDict):
    """The random states that batches are drawn with: torch's (see `random_state`), and that of their own generator,
    uint8, shape (bytes,), if they have one."""

    random: list[Tensor]
    batches: Tensor | None


def drawn_with(batches: object) -> Drawn:
    """The random states that the batches would be drawn with now."""
    generator = generator_of(batches)
    return {"random": random_state(), "batches": None if generator is None else generator.get_state()}


def draw_again(batches: object, states: Drawn) -> None:
    """Put back what `drawn_with` gave, so that the batches come as they came then."""
    set_random_state(states["random"])
    if (generator := generator_of(batches)) is not None and states["batches"] is not None:
        generator.set_state(states["batches"])


class _Drawing:
    """The open scopes that draw random numbers, the thread of each, and the random state before the first of them.
    Every step is one operation of a dict: a lock might stay locked after Ctrl-C, and other threads would wait for ever.
    """

    inside: ClassVar[dict[ref[own_randomness], int]] = {}
    before: ClassVar[list[Tensor] | None] = None

    @classmethod
    def enter(cls, scope: own_randomness, keep: bool) -> list[Tensor]:
        """Open a scope and return the random state. If the first scope is opened with `keep`, the last one to leave
        puts that state back."""
        now = random_state()
        if not cls.threads():
            cls.before = now if keep else None
        cls.inside[ref(scope)] = threading.get_ident()
        return now

    @classmethod
    def leave(cls, scope: own_randomness, own: list[Tensor] | None) -> None:
        """Close a scope and put back the state that it found, unless other threads still draw. May be called again."""
        cls.inside.pop(ref(scope), None)
        left = cls.threads()
        if own is not None and all(thread == threading.get_ident() for thread in left):
            set_random_state(own if left or cls.before is None else cls.before)

    @classmethod
    def threads(cls) -> list[int]:
        """The thread of each open scope. A scope that Ctrl-C kept from leaving is dropped once it is collected."""
        for scope in list(cls.inside):
            if scope() is None:
                cls.inside.pop(scope, None)
        return list(cls.inside.values())


class own_randomness(AbstractContextManager[None]):
    """A scope that draws random numbers, such as a fit: other threads that evaluate meanwhile do not touch their state.

    It is a class because a generator function that Ctrl-C cuts off on its way out puts states back only when it is
    collected, which may be in the middle of another fit. Ctrl-C within the first instruction of `__exit__` cannot be
    caught: the random state stays as it is, and the scope counts as open until it is collected."""

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
    """A scope after which torch's global random state is what it was before, and so are the generators of these
    `batches`. All threads share the global state: if several are inside, the last one to leave puts it back; while
    another thread trains, it is left alone."""

    keep = True

    def __init__(self, *batches: object):
        self.drawn = batches

    def __enter__(self) -> None:
        self.states = [(g, g.get_state()) for batches in self.drawn if (g := generator_of(batches)) is not None]
        super().__enter__()

    def _leave(self) -> None:
        for generator, state in self.states:
            generator.set_state(state)
        super()._leave()


class Seeded(Callback):
    """Runs each fit on random streams of its own, torch's and that of the training batches' generator, which begin at
    `seed` and continue from fit to fit. Two learners with the same seed and data therefore train alike."""

    order = Order.SEEDED

    def __init__(self, seed: int):
        self.seed = seed
        self.inner: Drawn | None = None
        self.outer: Drawn | None = None         # not None while a fit runs

    def before_fit(self) -> None:
        self.outer = drawn_with(self.learn.data.train)
        if self.inner is not None:
            draw_again(self.learn.data.train, self.inner)
            return
        torch.manual_seed(self.seed)
        if (generator := generator_of(self.learn.data.train)) is not None:
            generator.manual_seed(self.seed)

    def cleanup_fit(self) -> None:
        now: list[Drawn] = []       # taken once, even if Ctrl-C makes the rest begin anew

        def end() -> None:
            if self.outer is not None:
                if not now:
                    now.append(drawn_with(self.learn.data.train))
                self.inner = now[0]
                draw_again(self.learn.data.train, self.outer)
                self.outer = None
        try:
            end()
        except KeyboardInterrupt:
            whole(end)
            raise

    def state_dict(self) -> State:
        return {"inner": self.inner if self.outer is None else drawn_with(self.learn.data.train)}

    def load_state_dict(self, state: State) -> None:
        self.inner = state["inner"]
