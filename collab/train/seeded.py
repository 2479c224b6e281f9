"""Randomness that is the learner's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .callback import Callback


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Whatever is drawn inside, torch's global random state is afterwards what it was."""
    with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_available() else []):
        yield


class Seeded(Callback):
    """Runs each fit on a random stream of its own, which begins at `seed` and goes on from fit to fit."""

    order = -100

    def __init__(self, seed: int):
        self.seed = seed
        self.state: list[Tensor] | None = None

    def before_fit(self) -> None:
        self.outer = _states()
        if self.state is None:
            torch.manual_seed(self.seed)
        else:
            _restore(self.state)

    def cleanup_fit(self) -> None:
        self.state = _states()
        _restore(self.outer)


def _states() -> list[Tensor]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *cuda]


def _restore(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])
