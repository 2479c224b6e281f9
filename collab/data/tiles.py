"""TiledBatches: the rows of large data in an order that keeps to few users and items for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..loaders import Track
from .batches import TensorBatches

BLOCK = 8192        # rows of a table that belong together: with 50 factors some 2 MB, which a cache holds
FEWEST = 4          # blocks of a table, so that there is something to shuffle
PIECE = 1 << 20     # ratings that are drawn at a time


class TiledBatches:
    """The same rows as `batches`, in tiles: the ratings of a block of users and a block of items (consecutive rows).

    A random order over tables that no cache holds waits for memory at every rating; within a tile both blocks stay near
    (Zhuang et al. 2013, "A fast parallel SGD for matrix factorization in shared memory systems"). Every epoch divides
    the blocks of either side into two halves at random, and goes through the four quadrants in two pairs without common
    rows; the tiles of a quadrant come in random order, and so do the ratings of a tile. Batches do not cross tiles, so
    that there are some more of them. All is drawn from the generator of `batches`."""

    def __init__(self, batches: TensorBatches, n_users: int, n_items: int):
        self.batches, self.bs, self.device = batches, batches.bs, batches.device
        users, items, _ = batches.tensors
        blocks = [np.minimum(BLOCK, -(-n // FEWEST)) for n in (n_users, n_items)]
        self.blocks = tuple(-(-n // block) for n, block in zip((n_users, n_items), blocks))
        tile = (users // int(blocks[0]) * self.blocks[1] + items // int(blocks[1])).numpy()
        order = torch.from_numpy(np.argsort(tile.astype(np.uint16 if self.blocks[0] * self.blocks[1] < 1 << 16 else
                                                        np.int64), kind="stable"))
        self.rows = tuple(t[order].to(torch.int32) if t.dtype == torch.int64 else t[order] for t in batches.tensors)
        self.ends = np.bincount(tile, minlength=self.blocks[0] * self.blocks[1]).cumsum()

    @property
    def tensors(self) -> Sequence[Tensor]:
        """All rows, in the order of the table."""
        return self.batches.tensors

    @property
    def generator(self) -> torch.Generator:
        """What the order is drawn with."""
        return self.batches.generator

    def __len__(self) -> int:
        """The number of batches."""
        return int((-(-np.diff(self.ends, prepend=0) // self.bs)).sum())

    def __iter__(self) -> Iterator[Sequence[Tensor]]:
        for piece in self.pieces():
            for track in piece:
                yield from zip(*(t.split(track.sizes.tolist()) for t in track.tensors))

    def in_order(self) -> TensorBatches:
        """The rows in the order of the table, untiled."""
        return self.batches.in_order()

    def pieces(self) -> Iterator[Sequence[Track]]:
        """The batches of an epoch, many at a time, in two tracks (see `loaders.Pieces`)."""
        halves = [self._drawn(n).tensor_split(2) for n in self.blocks]
        for crossed in (0, 1):
            quadrants = [self._tiles(halves[0][k], halves[1][k ^ crossed]) for k in (0, 1)]
            counts = [np.diff(self.ends, prepend=0)[tiles].cumsum() for tiles in quadrants]
            n_pieces = max(1, -(-max(int(c[-1]) for c in counts) // (PIECE // 2)))
            cuts = [np.searchsorted(c, c[-1] * np.arange(1, n_pieces) / n_pieces) for c in counts]
            for own in zip(*(np.split(tiles, cut) for tiles, cut in zip(quadrants, cuts))):
                yield [self._track(tiles) for tiles in own if len(tiles)]

    def _tiles(self, users: Tensor, items: Tensor) -> np.ndarray:
        """The tiles of some blocks, in random order."""
        tiles = (users[:, None] * self.blocks[1] + items).flatten()
        return tiles[self._drawn(len(tiles))].numpy()

    def _track(self, tiles: np.ndarray) -> Track:
        parts, sizes = [], []
        for tile in tiles.tolist():
            begin, end = int(self.ends[tile - 1]) if tile else 0, int(self.ends[tile])
            order = self._drawn(end - begin)
            parts.append([t[begin:end][order] for t in self.rows])
            sizes.append(Track.of(parts[-1], self.bs).sizes)
        users, items, ratings = (torch.cat(column) for column in zip(*parts))
        return Track([users.long(), items.long(), ratings], np.concatenate(sizes))

    def _drawn(self, n: int) -> Tensor:
        return torch.randperm(n, generator=self.generator)

    def __repr__(self) -> str:
        return f"TiledBatches({self.batches.n:,} rows, bs={self.bs}, {self.blocks[0]} x {self.blocks[1]} tiles)"
