"""Randomness that is the learner's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .callback import Callback


def random_state() -> list[Tensor]:
    """The state of torch's global generators: the CPU's, then every GPU's."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def set_random_state(states: list[Tensor]) -> None:
    """Put back what `random_state` gave; states of GPUs that are not here are left out."""
    torch.set_rng_state(states[0])
    if torch.cuda.is_available():
        for device, state in enumerate(states[1:1 + torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Whatever is drawn inside, torch's global random state is afterwards what it was."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)


class Seeded(Callback):
    """Runs each fit on a random stream of its own, which begins at `seed` and goes on from fit to fit."""

    order = -100

    def __init__(self, seed: int):
        self.seed = seed
        self.state: list[Tensor] | None = None

    def before_fit(self) -> None:
        self.outer = random_state()
        if self.state is None:
            torch.manual_seed(self.seed)
        else:
            set_random_state(self.state)

    def cleanup_fit(self) -> None:
        self.state = random_state()
        set_random_state(self.outer)

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state["state"]
