"""Encoding: ratings that come a few at a time become files of rows, in bounded memory.

    pass over the tables    ids get numbers, in the order of their first occurrence; rows to train on go to random
                            buckets, held-out ones to a file in their order
    pass over the buckets   numbers become rows of the sorted vocabs; each bucket is shuffled and written
    pass over groups        the same rows once more in tiles (see `tiles`), if these are wanted

The order depends on the seed and on the places of the ratings alone, not on the row groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..errors import DataError
from .aside import WiderVocab
from .numbering import Numbering
from .repeated import Repeated
from .schema import Schema, check_both
from .spill import Spill, groups_of
from .streamed_split import Keys, Streamed, scrambled
from .tiles import Grid
from .totals import Running, Totals
from .vocab import Vocab

LEAST = 1 << 26             # bytes of memory with which a sensible number of rows fit
ON_DISK, TILED = 24, 36     # bytes of a rating that are on disk at most, while it is encoded; with tiles
WRITTEN = 1 << 20           # rows that are written at a time
BUCKET_SEED, SHUFFLE_SEED = 1, 2        # added to the seed: for the bucket of a row, for the order within it


@dataclass(frozen=True)
class Sizes:
    """How many rows are read at a time, and how many a bucket holds, so that the arrays take about `memory` bytes, with
    what pyarrow and pandas make of as many rows of text."""

    read: int
    bucket: int

    @classmethod
    def of(cls, memory: int) -> Sizes:
        if memory < LEAST:
            raise DataError(f"memory={memory:,} bytes are too few to encode with; give at least {LEAST >> 20} MiB, "
                            "such as memory='256MB'")
        return cls(min(max(memory // 2048, 1 << 14), 1 << 19), min(max(memory // 512, 1 << 16), 1 << 22))


@dataclass(frozen=True)
class Encoded:
    """What encoding has found: the vocabs continued by ids of the held-out part alone, the totals of the training part,
    how many ratings each part has, the grid of the tiles where there are any, and what is said of repeated pairs."""

    users: WiderVocab
    items: WiderVocab
    totals: Totals
    n_train: int
    n_valid: int
    grid: Grid | None
    repeated: str


def encode_into(folder: Path, tables: Iterable[pd.DataFrame], n: int, schema: Schema, split: Streamed, seed: int,
                sizes: Sizes, times: Callable[[pd.Series], Keys], done: Callable[[int], None], *,
                tiles: bool = False) -> Encoded:
    """Write n ratings to files of a folder: "train" in a random order, "valid" in theirs with the rows of `WiderVocab`
    and, if wanted, "tiles". `tables` are checked ones, `times` makes keys of a column of times, and `done` is told
    how many of 2 n rows are through."""
    sides = Numbering("user"), Numbering("item")
    buckets = Spill(folder, "bucket", -(-n // sizes.bucket))
    held, running, repeated, first = Spill(folder, "held", 1), Running(), Repeated(n), 0
    for table in tables:
        rows = np.empty((len(table), 3), np.int32)
        rows[:, 0], rows[:, 1] = (side.number(table[side.name]) for side in sides)
        rows[:, 2] = table["rating"].to_numpy(np.float32).view(np.int32)
        valid = split.held_out(first, len(rows), times(table["time"]) if "time" in table else None)
        held.add(np.zeros(int(valid.sum()), np.int64), rows[valid])
        repeated.add(rows[:, 0], rows[:, 1], valid)
        bucket = scrambled(first, len(rows), seed + BUCKET_SEED) % np.uint64(buckets.n)
        kept = rows[~valid]
        buckets.add(bucket[~valid].astype(np.int64), kept)
        for side, column in zip(sides, kept.T):
            side.count(column)
        running.add(kept[:, 2].copy().view(np.float32))
        first += len(rows)
        done(first)
    vocabs, numbers = zip(*(_sorted(side) for side in sides))
    check_both([int((side.counts > 0).sum()) for side in sides], [side.most_rated for side in sides], running.n, schema)
    counts = [np.bincount(rows[side.counts > 0], side.counts[side.counts > 0], len(vocab.vocab)).astype(np.int64)
              for side, rows, vocab in zip(sides, numbers, vocabs)]
    append(folder, "valid", np.empty((0, 3), np.int32))         # also where there are none
    for some in held.parts(0, sizes.read):
        _write(folder, "valid", some, numbers)
    grid = Grid.of(*map(len, counts)) if tiles else None
    tiling = None if grid is None else Tiling(folder, grid, counts[0], sizes)
    for k in range(buckets.n):
        mixed = buckets.take(k)
        shuffled = torch.Generator().manual_seed((seed + SHUFFLE_SEED) * buckets.n + k)
        order = torch.randperm(len(mixed), dtype=torch.int32, generator=shuffled).numpy()
        mixed = _write(folder, "train", mixed[order], numbers)
        if tiling is not None:
            tiling.add(mixed)
        done(n + n * (k + 1) // buckets.n // (1 if tiling is None else 2))
    if tiling is not None:
        tiling.write(lambda share: done(n + int(n * (1 + share) / 2)))
    totals = Totals(running.total / max(1, running.n), torch.from_numpy(running.levels),
                    torch.from_numpy(running.times), (torch.from_numpy(counts[0]), torch.from_numpy(counts[1])))
    return Encoded(vocabs[0], vocabs[1], totals, running.n, n - running.n, grid,
                   repeated.said(n, n - running.n))


def _sorted(side: Numbering) -> tuple[WiderVocab, np.ndarray]:
    """(the vocab of the ids that are trained on, continued by the others, the row of each number, int32)."""
    vocab = Vocab(side.ids[side.counts > 0], side.name)
    wide = WiderVocab.of(vocab, side.ids[side.counts == 0])
    return wide, wide.encode(side.ids).numpy().astype(np.int32)


def _write(folder: Path, name: str, numbered: np.ndarray, numbers: tuple[np.ndarray, ...]) -> np.ndarray:
    """Append rows, with numbers of ids, to the files of a part, and return them with the rows of vocabs."""
    for k, rows in enumerate(numbers):
        for first in range(0, len(numbered), WRITTEN):
            numbered[first:first + WRITTEN, k] = rows[numbered[first:first + WRITTEN, k]]
    append(folder, name, numbered)
    return numbered


def append(folder: Path, name: str, rows: np.ndarray) -> None:
    """Append rows of users, items and ratings, int32 (n, 3), to the files of a part."""
    for k, column in enumerate(("users", "items", "ratings")):
        with open(folder / f"{name}.{column}", "ab") as file:
            np.ascontiguousarray(rows[:, k]).tofile(file)


class Tiling:
    """Rows go to buckets of consecutive blocks of users, and from there into the files "tiles", tile by tile."""

    def __init__(self, folder: Path, grid: Grid, counts: np.ndarray, sizes: Sizes):
        self.folder, self.grid = folder, grid
        per_block = np.bincount(grid.user_blocks(np.arange(len(counts))), counts, grid.blocks[0])
        self.group = groups_of(per_block, sizes.bucket)         # of each block
        self.spill = Spill(folder, "group", int(self.group[-1]) + 1)

    def add(self, rows: np.ndarray) -> None:
        """Take in some rows, int32 (n, 3)."""
        self.spill.add(self.group[self.grid.user_blocks(rows[:, 0])], rows)

    def write(self, done: Callable[[float], None]) -> None:
        """Write all rows, and how many each tile has."""
        counts = np.zeros(math.prod(self.grid.blocks), np.int64)
        for k in range(self.spill.n):
            rows = self.spill.take(k)
            tiles = self.grid.tiles(rows[:, 0], rows[:, 1])
            counts += np.bincount(tiles, minlength=len(counts))
            append(self.folder, "tiles", rows[np.argsort(tiles, kind="stable")])
            done((k + 1) / self.spill.n)
        np.save(self.folder / "tiles.counts.npy", counts)
