"""Batches of any kind, and what they tell of themselves: their number, their rows, their order, their generators.

Batches are anything that has a length and can be iterated over: TensorBatches, a torch DataLoader, a list. What else
they can do is asked here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

MADE_OF = ("batches", "sampler", "batch_sampler", "dataset")    # attributes in which other generators may lie
DEPTH = 4       # such as the dataset of a subset, in a loader, on a device
PARTS = ("train", "valid", "test")


class Batches(Protocol):
    """What can be trained on: batches (x, ..., y) of tensors that share their first dimension, the rows."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sequence[Tensor]]: ...


class Data(Protocol):
    """What a learner is fitted to: batches to train on and, unless None, to validate on, such as a DataBunch.

    It may have a `test` part of the same kind, a `device` (by default the CPU), and the `seed` that split it."""

    @property
    def train(self) -> Batches: ...

    @property
    def valid(self) -> Batches | None: ...


def parts_of(data: Data) -> dict[str, Batches]:
    """The parts that are there, by name: "train", "valid" and "test"."""
    found = {name: getattr(data, name, None) for name in PARTS}
    return {name: batches for name, batches in found.items() if batches is not None}


def device_of(data: Data) -> torch.device:
    """The device that the batches come on: `data.device`, or the CPU."""
    return torch.device(getattr(data, "device", "cpu"))


def seed_of(data: Data) -> int | None:
    """The seed that the data were split and shuffled with, if they say one."""
    return getattr(data, "seed", None)


def count(batches: Batches, name: str) -> int:
    """The number of batches. Raises TypeError where they have no length: bars, schedules and checkpoints need it."""
    try:
        return len(batches)
    except TypeError as error:
        raise TypeError(f"the {name} have no length ({error}); give the dataset of a DataLoader, or your own batches, "
                        "a __len__, or pass a list of them") from None


def unshuffled(batches: Batches) -> Batches:
    """The batches with their rows in order where they have a method `in_order`, as TensorBatches do; else themselves.
    A DataLoader has none."""
    own = _in_order(batches)
    return batches if own is None else own()


def sizes_of(n: int, bs: int) -> np.ndarray:
    """The rows of each batch, where `n` rows are batches of `bs`, but for the last: int64."""
    sizes = np.full(-(-n // bs), bs)
    if n % bs:
        sizes[-1] = n % bs
    return sizes


class Run(NamedTuple):
    """Consecutive batches: tensors of all their rows, and the rows of each, int64 (n,)."""

    tensors: Sequence[Tensor]
    sizes: np.ndarray

    def batches(self) -> Iterator[Sequence[Tensor]]:
        """One batch after the other, as views."""
        return zip(*(t.split(self.sizes.tolist()) for t in self.tensors))

    def split(self, n: int) -> Iterator[Run]:
        """The same batches in shorter runs, of at most `n` rows or of one batch."""
        row, first = np.concatenate([[0], self.sizes.cumsum()]), 0
        while first < len(self.sizes):
            end = max(int(np.searchsorted(row, row[first] + n, "right")) - 1, first + 1)
            yield Run([t[row[first]:row[end]] for t in self.tensors], self.sizes[first:end])
            first = end


@dataclass(frozen=True)
class Track:
    """Batches that come one after the other: the rows of each, `sizes` int64 (n,), and `runs(first, last)`, which
    yields those from `first` to before `last`, as many at a time as there is room for. Runs are made when they are
    asked for, in any thread, and are the same ones each time."""

    sizes: np.ndarray
    runs: Callable[[int, int], Iterator[Run]]

    @classmethod
    def of(cls, tensors: Sequence[Tensor], bs: int) -> Track:
        """Batches of `bs` rows; the last one may have fewer."""
        sizes = sizes_of(len(tensors[0]), bs)

        def runs(first: int, last: int) -> Iterator[Run]:
            yield Run([t[first * bs:last * bs] for t in tensors], sizes[first:last])
        return cls(sizes, runs)

    def first(self, n: int) -> Track:
        """The first `n` batches."""
        return replace(self, sizes=self.sizes[:n])

    def __iter__(self) -> Iterator[Sequence[Tensor]]:
        for run in self.runs(0, len(self.sizes)):
            yield from run.batches()


@runtime_checkable
class Pieces(Protocol):
    """Batches of at most `bs` rows that are slices of larger pieces: of `tensors` in memory, or `Streamed`."""

    @property
    def bs(self) -> int: ...

    def pieces(self) -> Iterator[Sequence[Track]]:
        """The rows of a pass, in order: pieces of one or two tracks. The batches of different tracks of a piece
        have no user and no item in common, so that they may be trained at the same time."""
        ...


def pieces_of(batches: object) -> Pieces | None:
    """The batches as `Pieces`, if they are such: TensorBatches, and the first of them. None for a subclass with an
    `__iter__` of its own."""
    depth = {name: next((k for k, cls in enumerate(type(batches).__mro__) if name in vars(cls)), 0)
             for name in ("pieces", "__iter__")}
    whole = isinstance(batches, Pieces) and depth["pieces"] <= depth["__iter__"]
    there = streamed(batches) is not None or bool(columns_of(batches))
    return batches if isinstance(batches, Pieces) and whole and there and batches.bs else None


@runtime_checkable
class Streamed(Protocol):
    """Batches of users, items and ratings (int64, int64, float32 on the CPU) that do not stay in memory: `digest`
    stands for the rows in place of a hash, no row lies beyond `shape`, (n_users, n_items), and `blocks` reads all."""

    @property
    def digest(self) -> str: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    def blocks(self) -> Iterator[Sequence[Tensor]]: ...


def streamed(batches: object) -> Streamed | None:
    """The batches, or what is arranged in them, if they are `Streamed`; None where they are in memory."""
    for _ in range(DEPTH):
        if batches is None or isinstance(batches, Streamed):
            break
        batches = getattr(batches, "batches", None)
    return batches if isinstance(batches, Streamed) else None


def _in_order(batches: object) -> Callable[[], Batches] | None:
    method = getattr(batches, "in_order", None)
    return method if callable(method) else None         # a DataLoader has a flag of that name


def columns_of(batches: object) -> Sequence[Tensor] | None:
    """The tensors that the batches are slices of, if they are such (TensorBatches, a TensorDataset)."""
    if streamed(batches) is not None:
        return None
    tensors = getattr(batches, "tensors", None)
    return tensors if isinstance(tensors, list | tuple) else None


def blocks_of(batches: object) -> Callable[[], Iterable[Sequence[Tensor]]] | None:
    """What yields all rows in order, in blocks, each time it is called: one block of all where they are in memory. None
    for batches that are neither in memory as tensors nor `Streamed`."""
    if (apart := streamed(batches)) is not None:
        return apart.blocks
    columns = columns_of(batches)
    return None if columns is None else lambda: [columns]


def in_blocks(batches: object) -> Iterable[Sequence[Tensor]]:
    """All rows of batches that have `blocks_of`. Raises TypeError for others."""
    if (blocks := blocks_of(batches)) is None:
        raise TypeError(f"the rows of {type(batches).__name__} are not slices of tensors")
    return blocks()


@dataclass(frozen=True)
class Description:
    """What batches tell of themselves; None for what they do not: all their `tensors`, or the `digest` of those that
    are not in memory, the number of their rows `n_rows`, and their batch size `bs`."""

    tensors: Sequence[Tensor] | None = None
    n_rows: int | None = None
    bs: int | None = None
    digest: str | None = None

    @classmethod
    def of(cls, batches: object) -> Description:
        """Describe TensorBatches, a DataLoader or a list of batches, also where something stands around them that moves
        them to a device."""
        inner = getattr(batches, "batches", batches)
        dataset, bs = getattr(inner, "dataset", None), getattr(inner, "bs", getattr(inner, "batch_size", None))
        tensors, n = columns_of(inner) or columns_of(dataset), getattr(inner, "n", None)
        if isinstance(inner, list | tuple):
            flat = [t for batch in inner for t in batch]
            tensors = flat if tensors is None and all(isinstance(t, Tensor) for t in flat) else tensors
            n = sum(len(batch[-1]) for batch in inner)
        elif not isinstance(n, int):
            n = len(dataset) if isinstance(dataset, Sized) else None
        apart = streamed(inner)
        return cls(tensors, n, bs if isinstance(bs, int) else None, None if apart is None else apart.digest)


class Generators:
    """Several generators as one: their states one after another, uint8, shape (bytes,)."""

    def __init__(self, generators: list[torch.Generator]):
        self.generators = generators

    def get_state(self) -> Tensor:
        """The states of all generators, joined."""
        return torch.cat([g.get_state() for g in self.generators])

    def set_state(self, state: Tensor) -> None:
        """Put back what `get_state` gave. Raises ValueError for a state of another length."""
        sizes = [len(g.get_state()) for g in self.generators]
        if len(state) != sum(sizes):
            raise ValueError(f"a state of {len(state)} bytes is not that of these {len(sizes)} generators, which take "
                             f"{sum(sizes)}")
        for g, part in zip(self.generators, state.split(sizes)):
            g.set_state(part.clone())

    def manual_seed(self, seed: int) -> None:
        """Seed every generator with the same number."""
        for g in self.generators:
            g.manual_seed(seed)


def generator_of(batches: object) -> torch.Generator | Generators | None:
    """The generator that the batches are drawn with: their own, and those of their parts (the samplers and the dataset
    of a DataLoader). None where there are none, and they draw from torch's global state if at all."""
    if _in_order(batches) is not None:          # TensorBatches and their like name all of theirs
        return getattr(batches, "generator", None)
    found = list({id(g): g for g in _generators(batches, DEPTH)}.values())
    return Generators(found) if len(found) > 1 else found[0] if found else None


def _generators(of: object, depth: int) -> Iterator[torch.Generator]:
    own = getattr(of, "generator", None)
    if isinstance(own, torch.Generator):
        yield own
    elif isinstance(own, Generators):
        yield from own.generators
    for part in (getattr(of, name, None) for name in MADE_OF) if depth and of is not None else ():
        yield from _generators(part, depth - 1)
