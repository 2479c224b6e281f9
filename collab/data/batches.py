"""Batches over tensors, permuted and sliced; and a training, validation and test set of any kind of batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from ..loaders import Batches, Generators, Track, generator_of
from ..processes import local_rank, started

CHUNK = 1 << 20     # rows permuted at a time, so that an epoch needs little memory beyond the data
VALID_BS = 8192     # nothing is learned from validation batches, so they may be large


class TensorBatches:
    """Batches over tensors that share their first dimension: tuples of slices, the last, shorter one included.
    Unshuffled batches are views of the tensors: changing them in place changes the data.

    With `shuffle`, every epoch draws one permutation from the generator of these batches, seeded by `seed`; no other
    randomness is touched. The tensors move to `device` if they take less than half of its free memory; otherwise each
    batch is moved when it is drawn.

    `shape`, which `to_sparse` needs, is (n_users, n_items) where the tensors are users, items and ratings.

    Raises DataError for tensors of different lengths or a batch size below 1.

    >>> list(TensorBatches(torch.arange(5), bs=2))
    [(tensor([0, 1]),), (tensor([2, 3]),), (tensor([4]),)]
    """

    def __init__(self, *tensors: Tensor, bs: int = 64, shuffle: bool = False, seed: int = 0,
                 device: torch.device | str = "cpu", shape: tuple[int, int] | None = None):
        if not tensors or len({len(t) for t in tensors}) != 1:
            raise DataError(f"the tensors of a batch must have one length, got {[len(t) for t in tensors]}")
        if bs < 1 or bs != int(bs):
            raise DataError(f"the batch size bs must be a whole number from 1 on, got {bs}")
        self.device = torch.device(device)
        self._tensors = tuple(t.to(self.device) for t in tensors) if _fits(tensors, self.device) else tensors
        self.bs, self.shuffle, self.shape = int(bs), shuffle, shape
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All rows."""
        return self._tensors

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.tensors[0])

    def __len__(self) -> int:
        """The number of batches."""
        return math.ceil(self.n / self.bs)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for track, in self.pieces():
            for batch in track:
                yield tuple(t.to(self.device) for t in batch)

    def pieces(self) -> Iterator[Sequence[Track]]:
        """The batches of an epoch, in its order, many at a time, and not moved (see `loaders.Pieces`). Iterating draws
        the epoch's permutation."""
        if not self.n:
            return                  # `split` would give one empty batch
        if not self.shuffle:
            yield [Track.of(self.tensors, self.bs)]
            return
        order = torch.randperm(self.n, generator=self.generator).to(self.tensors[0].device)
        for rows in order.split(self.bs * max(1, CHUNK // self.bs)):
            yield [Track.of([t[rows] for t in self.tensors], self.bs)]

    def in_order(self) -> TensorBatches:
        """The same rows, unshuffled: iterating draws no random number."""
        return self.with_(shuffle=False)

    def with_(self, bs: int | None = None, *, shuffle: bool | None = None, seed: int | None = None) -> TensorBatches:
        """The same tensors batched differently, drawn from the start of `seed`, by default the seed they have."""
        return TensorBatches(*self.tensors, bs=self.bs if bs is None else bs, device=self.device, shape=self.shape,
                             shuffle=self.shuffle if shuffle is None else shuffle,
                             seed=self.generator.initial_seed() if seed is None else seed)

    def to_sparse(self) -> Tensor:
        """The ratings as a coalesced sparse COO tensor, float32 (n_users, n_items), on the batches' device; a pair that
        was rated several times has the mean. Ids that were not trained on are in row or column 0.

        Its entries are sorted by index, not in the order of the rows here: take indices and values from it together.
        Raises DataError for batches without a `shape`."""
        if self.shape is None:
            raise DataError("these batches have no shape (n_users, n_items), so they are not a table of ratings; take "
                            "those of a CollabDataBunch, or give them one with TensorBatches(..., shape=...)")
        users, items, ratings = (t.to(self.device) for t in self.tensors)
        ratings = ratings.float()           # booleans have no mean
        with torch.sparse.check_sparse_tensor_invariants():
            counted = torch.stack([ratings, torch.ones_like(ratings)], dim=1)
            stored = torch.sparse_coo_tensor(torch.stack([users, items]), counted, (*self.shape, 2)).coalesce()
            total, times = stored.values().unbind(1)        # sum and number of the ratings of each pair
            return torch.sparse_coo_tensor(stored.indices(), total / times, self.shape, is_coalesced=True)

    def __repr__(self) -> str:
        return f"TensorBatches({self.n:,} rows, bs={self.bs}, {len(self):,} batches, shuffle={self.shuffle})"


class Arranged:
    """The rows of `batches` in an order of their own, drawn from the generator of these; see `in_order` for theirs."""

    def __init__(self, batches: TensorBatches):
        self.batches, self.device = batches, batches.device

    @property
    def bs(self) -> int:
        """The rows of a batch; see each class for how many more or fewer they may be."""
        return self.batches.bs

    @property
    def tensors(self) -> Sequence[Tensor]:
        """All rows, in the order of `batches`."""
        return self.batches.tensors

    @property
    def generator(self) -> torch.Generator:
        """What the order is drawn with."""
        return self.batches.generator

    def in_order(self) -> TensorBatches:
        """The rows in the order of `batches`, unshuffled."""
        return self.batches.in_order()


def _fits(tensors: tuple[Tensor, ...], device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return sum(t.nbytes for t in tensors) < free / 2


class OnDevice:
    """Batches of any kind, each moved to a device as it comes."""

    def __init__(self, batches: Batches, device: torch.device):
        self.batches, self.device = batches, device

    @property
    def generator(self) -> torch.Generator | Generators | None:
        """What the batches are drawn with, if they, or what they are made of, have generators of their own."""
        return generator_of(self.batches)

    def in_order(self) -> OnDevice:
        """The same rows, unshuffled where the batches know how."""
        ordered = getattr(self.batches, "in_order", None)
        return OnDevice(ordered(), self.device) if callable(ordered) else self     # DataLoader has a flag of that name

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for batch in self.batches:
            yield tuple(t.to(self.device) for t in batch)


def on_device(batches: Any, device: torch.device) -> Any:
    """The batches themselves where they are on the device already, or None; otherwise `OnDevice`."""
    there = isinstance(batches, (TensorBatches, OnDevice)) and batches.device == device
    return batches if batches is None or there else OnDevice(batches, device)


def default_device() -> torch.device:
    """The GPU where there is one; of several processes on a machine, each takes one in turn."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank() % torch.cuda.device_count()) if started() else torch.device("cuda")


class DataBunch:
    """Training, validation and test batches on one device: TensorBatches, a torch DataLoader, or any iterable with
    a length whose batches are (x, ..., y). Batches that are elsewhere are moved to `device` one by one."""

    def __init__(self, train: Batches, valid: Batches | None = None, test: Batches | None = None,
                 device: torch.device | str | None = None):
        self.device = default_device() if device is None else torch.device(device)
        self.train, self.valid, self.test = (on_device(b, self.device) for b in (train, valid, test))

    def one_batch(self) -> tuple[Tensor, ...]:
        """The first batch of the training part, in the order of its rows if it is TensorBatches. Torch's random state,
        and that of a DataLoader's own generator, stay as they were."""
        generator = self.train.generator
        state = None if generator is None else generator.get_state()
        with torch.random.fork_rng(devices=[]):
            batch = next(iter(self.train.in_order()))
        if generator is not None:
            generator.set_state(state)
        return batch
