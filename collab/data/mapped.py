"""MappedBatches: batches over ratings in files, which are read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, warn
from ..loaders import Run, Track, sizes_of
from ..memory import free_memory
from .batches import CHUNK, TensorBatches
from .totals import Totals

TYPES = {"users": np.int32, "items": np.int32, "ratings": np.float32}
BLOCK = 1 << 16             # consecutive rows that stay together in an epoch's order
ROW = 20                    # bytes of a row in memory: two int64 and a float32
LARGE = 1 << 30             # bytes from which on a need of memory is said


@dataclass(frozen=True)
class Stored:
    """`n` ratings in the files NAME.users, NAME.items (int32) and NAME.ratings (float32) of a folder. Where `within`
    says how many rows a model has of either side, rows beyond these are read as 0, unknown."""

    folder: Path
    name: str
    n: int
    within: tuple[int, int] | None = None

    def read(self, first: int, n: int) -> list[np.ndarray]:
        """The n rows from `first` on, as far as there are so many: int32, int32, float32."""
        self.check_there()
        found = [np.fromfile(self.folder / f"{self.name}.{column}", kind, n, offset=4 * first)
                 for column, kind in TYPES.items()]
        if any(len(column) < min(n, self.n - first) for column in found):
            raise DataError(f"{self.folder}: the files of encoded ratings are cut short; remove the folder, and encode "
                            "again")
        for rows, limit in zip(found, self.within or ()):
            rows[rows >= limit] = 0
        return found

    def check_there(self) -> None:
        """Raise DataError where the folder is not there any more."""
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: these encoded ratings were removed, perhaps as others were made in the "
                            "same folder=..., which keeps the last alone; call from_parquet again, for each in a "
                            "folder of its own")

    def rows(self, first: int, n: int) -> list[Tensor]:
        """The same rows as tensors: int64, int64, float32."""
        users, items, ratings = map(torch.from_numpy, self.read(first, n))
        return [users.long(), items.long(), ratings]

    def blocks(self, rows: int = CHUNK) -> Iterator[list[Tensor]]:
        """All rows, in order, at most so many at a time."""
        return (self.rows(first, min(rows, self.n - first)) for first in range(0, self.n, rows))

    def whole(self) -> tuple[Tensor, ...]:
        """All rows in memory, 20 bytes each. Raises DataError where there is no room for them."""
        needs, free = ROW * self.n, free_memory(torch.device("cpu"))
        if free is not None and needs > free:
            raise DataError(f"all {self.n:,} ratings at once need {needs / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB "
                            "are free; train a model that takes them in batches, such as dot_bias")
        found = torch.empty(self.n, dtype=torch.int64), torch.empty(self.n, dtype=torch.int64), torch.empty(self.n)
        first = 0
        for block in self.blocks():
            for into, some in zip(found, block):
                into[first:first + len(some)] = some
            first += len(block[0])
        return found


class MappedBatches(TensorBatches):
    """Batches over users, items and ratings that stay in files, which may be larger than memory.

    With `shuffle`, every epoch draws one seed from the generator of these batches, and from that an order of blocks of
    65,536 rows; the rows of some 16 blocks at a time are shuffled together. The files themselves hold the rows in a
    random order, so that blocks are not alike. Batches have the same sizes as those of TensorBatches.

    `digest` stands for the rows, in place of a hash of them; `totals` are those of the ratings where they are known."""

    def __init__(self, stored: Stored, *, bs: int, shuffle: bool = False, seed: int = 0,
                 device: torch.device | str = "cpu", shape: tuple[int, int], digest: str,
                 totals: Totals | None = None):
        if bs < 1 or bs != int(bs):
            raise DataError(f"the batch size bs must be a whole number from 1 on, got {bs}")
        self.stored, self.digest, self.totals = stored, digest, totals
        self.shape: tuple[int, int] = shape
        self.device, self.bs, self.shuffle = torch.device(device), int(bs), shuffle
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def n(self) -> int:
        """The number of rows."""
        return self.stored.n

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All rows in memory, 20 bytes each: for models that need them at once. Warns of more than LARGE bytes, and
        raises DataError where there is no room for them."""
        if (needs := ROW * self.n) > LARGE:
            warn(f"all {self.n:,} training ratings are read into memory at once, {needs / 1e9:,.1f} GB; dot_bias, net, "
                 "classifier, bpr and two_tower train without that")
        return self.stored.whole()

    def blocks(self, rows: int = CHUNK) -> Iterator[Sequence[Tensor]]:
        """All rows, in order, at most so many at a time."""
        return self.stored.blocks(rows)

    def pieces(self) -> Iterator[Sequence[Track]]:
        """The batches of an epoch, some 16 blocks at a time, read when they are asked for (see `loaders.Pieces`)."""
        if not self.n:
            return
        piece = self.bs * max(1, CHUNK // self.bs)
        seed = int(torch.randint(1 << 62, (), generator=self.generator)) if self.shuffle else 0
        order = torch.randperm(-(-self.n // BLOCK), generator=torch.Generator().manual_seed(seed)).numpy()
        sizes = np.minimum(BLOCK, self.n - BLOCK * order)
        begins = sizes.cumsum() - sizes                 # of each block in the order of the epoch
        for first in range(0, self.n, piece):
            last = min(first + piece, self.n)
            yield [self._track(order, begins, first, last, seed + 1 + first) if self.shuffle else
                   self._in_order(first, last)]

    def _in_order(self, first: int, last: int) -> Track:
        sizes = sizes_of(last - first, self.bs)

        def runs(begin: int, end: int) -> Iterator[Run]:
            row = first + begin * self.bs
            yield Run(self.stored.rows(row, min(end * self.bs, last - first) - begin * self.bs), sizes[begin:end])
        return Track(sizes, runs)

    def _track(self, order: np.ndarray, begins: np.ndarray, first: int, last: int, seed: int) -> Track:
        """Rows `first` to `last` of the blocks in this order, shuffled."""
        sizes = sizes_of(last - first, self.bs)

        @lru_cache(maxsize=1)           # a piece may be asked for in several runs
        def rows() -> list[Tensor]:
            parts: list[list[np.ndarray]] = []
            at = int(np.searchsorted(begins, first, "right")) - 1
            while at < len(order) and begins[at] < last:
                skip = max(0, first - int(begins[at]))
                size = min(BLOCK, self.n - BLOCK * int(order[at]))
                parts.append(self.stored.read(BLOCK * int(order[at]) + skip, min(size, last - int(begins[at])) - skip))
                at += 1
            mixed = torch.randperm(last - first, dtype=torch.int32,
                                   generator=torch.Generator().manual_seed(seed)).numpy()
            users, items, ratings = (torch.from_numpy(np.concatenate(column)[mixed]) for column in zip(*parts))
            return [users.long(), items.long(), ratings]

        def runs(begin: int, end: int) -> Iterator[Run]:
            yield Run([t[begin * self.bs:end * self.bs] for t in rows()], sizes[begin:end])
        return Track(sizes, runs)

    def with_(self, bs: int | None = None, *, shuffle: bool | None = None, seed: int | None = None) -> MappedBatches:
        """The same rows batched differently, drawn from the start of `seed`, by default the seed they have."""
        return MappedBatches(self.stored, bs=self.bs if bs is None else bs,
                             shuffle=self.shuffle if shuffle is None else shuffle, device=self.device, shape=self.shape,
                             seed=self.generator.initial_seed() if seed is None else seed, digest=self.digest,
                             totals=self.totals)

    def __repr__(self) -> str:
        return f"MappedBatches({self.n:,} rows, bs={self.bs}, {len(self):,} batches, shuffle={self.shuffle})"
