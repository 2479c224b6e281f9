"""What is asked of batches of any kind, a DataLoader's too: how many they are, and what they are drawn with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

PARTS = ("batches", "sampler", "batch_sampler", "dataset")
DEPTH = 4       # such as the dataset of a subset, in a loader, on a device


def count(batches: Any, name: str) -> int:
    """How many batches there are. Raises TypeError where they have no length, by which bars, schedules and checkpoints
    go."""
    try:
        return len(batches)
    except TypeError as error:
        raise TypeError(f"the {name} have no length ({error}); give the dataset of a DataLoader, or your own batches, "
                        "a __len__, or pass a list of them") from None


class Generators:
    """Several generators as one: their states one after another, uint8, shape (bytes,)."""

    def __init__(self, generators: list[torch.Generator]):
        self.generators = generators

    def get_state(self) -> Tensor:
        return torch.cat([g.get_state() for g in self.generators])

    def set_state(self, state: Tensor) -> None:
        """Raises ValueError for the state of others."""
        sizes = [len(g.get_state()) for g in self.generators]
        if len(state) != sum(sizes):
            raise ValueError(f"a state of {len(state)} bytes is not that of these {len(sizes)} generators, which take "
                             f"{sum(sizes)}")
        for g, part in zip(self.generators, state.split(sizes)):
            g.set_state(part.clone())

    def manual_seed(self, seed: int) -> None:
        for g in self.generators:
            g.manual_seed(seed)


def generator_of(batches: Any) -> torch.Generator | Generators | None:
    """What the batches are drawn with: their own `generator`, and those of what they are made of (a DataLoader's
    samplers, its dataset); None where they have none, and draw from torch's global state if at all."""
    if callable(getattr(batches, "in_order", None)):        # such as TensorBatches: they know themselves
        return getattr(batches, "generator", None)
    found = list({id(g): g for g in _generators(batches, DEPTH)}.values())
    return Generators(found) if len(found) > 1 else found[0] if found else None


def _generators(of: Any, depth: int) -> Iterator[torch.Generator]:
    own = getattr(of, "generator", None)
    if isinstance(own, torch.Generator):
        yield own
    elif isinstance(own, Generators):
        yield from own.generators
    for part in (getattr(of, name, None) for name in PARTS) if depth and of is not None else ():
        yield from _generators(part, depth - 1)
