"""TiledBatches: the rows of large data in an order that keeps to few users and items for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..compiled import not_compiled
from ..loaders import Track, sizes_of
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
        self.batches, self.device = batches, batches.device
        users, items, ratings = (t.numpy() for t in batches.tensors)
        block = [min(BLOCK, -(-n // FEWEST)) for n in (n_users, n_items)]
        self.blocks = tuple(-(-n // own) for n, own in zip((n_users, n_items), block))
        shape = self.blocks[0] * self.blocks[1]
        tiles = ((users // block[0]) * self.blocks[1] + items // block[1]).astype(np.uint16 if shape < 1 << 16 else
                                                                                  np.int64)
        self.ends = np.bincount(tiles, minlength=shape).cumsum()
        self.rows = np.empty(len(users), np.int32), np.empty(len(users), np.int32), np.empty_like(ratings)
        if not_compiled() is None:
            from .tile_kernels import arrange
            arrange(users, items, ratings, tiles, np.concatenate([[0], self.ends]), *self.rows)
        else:
            order = np.argsort(tiles, kind="stable")
            for into, column in zip(self.rows, (users, items, ratings)):
                into[:] = column[order]

    @property
    def bs(self) -> int:
        """The rows of a batch, but for the last of a tile."""
        return self.batches.bs

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
        if not self.batches.n:
            return
        for crossed in (0, 1):
            quadrants = [self._tiles(halves[0][k], halves[1][k ^ crossed]) for k in (0, 1)]
            counts = [np.diff(self.ends, prepend=0)[tiles].cumsum() for tiles in quadrants]
            most = max((int(c[-1]) for c in counts if len(c)), default=0)
            n_pieces = max(1, -(-most // (PIECE // 2)))
            shares = np.arange(1, n_pieces) / n_pieces
            cuts = [np.searchsorted(c, c[-1] * shares) if len(c) else [0] * len(shares) for c in counts]
            for own in zip(*(np.split(tiles, cut) for tiles, cut in zip(quadrants, cuts))):
                orders = [self._order(tiles) for tiles in own if len(tiles)]       # drawn one after the other
                if len(orders) > 1 and torch.get_num_threads() > 1:
                    with ThreadPoolExecutor(len(orders)) as pool:
                        tracks = list(pool.map(self._track, orders))
                else:
                    tracks = [self._track(order) for order in orders]
                if tracks:
                    yield tracks

    def _tiles(self, users: Tensor, items: Tensor) -> np.ndarray:
        """The tiles of some blocks, in random order."""
        tiles = (users[:, None] * self.blocks[1] + items).flatten()
        return tiles[self._drawn(len(tiles))].numpy()

    def _order(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of some tiles, each in random order, and the sizes of their batches."""
        begins = np.concatenate([[0], self.ends])[tiles]
        lengths = self.ends[tiles] - begins
        order = torch.cat([self._drawn(int(n)) + int(begin) for n, begin in zip(lengths, begins)]).numpy()
        return order, np.concatenate([sizes_of(int(n), self.bs) for n in lengths])

    def _track(self, drawn: tuple[np.ndarray, np.ndarray]) -> Track:
        """The ratings of these rows, in their order."""
        order, sizes = drawn
        if not_compiled() is not None:
            return Track([torch.from_numpy(column[order]).to(t.dtype) for column, t in zip(self.rows, self.tensors)],
                         sizes)
        from .tile_kernels import take
        taken = [torch.empty(len(order), dtype=t.dtype) for t in self.tensors]
        take(*self.rows, order, *(t.numpy() for t in taken))
        return Track(taken, sizes)

    def _drawn(self, n: int) -> Tensor:
        return torch.randperm(n, generator=self.generator)

    def __repr__(self) -> str:
        return f"TiledBatches({self.batches.n:,} rows, bs={self.bs}, {self.blocks[0]} x {self.blocks[1]} tiles)"
