"""TiledBatches: the rows of large data in an order that keeps to few users and items for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..compiled import MOST_THREADS, in_parts, not_compiled
from ..loaders import Run, Track
from .batches import Arranged, TensorBatches

BLOCK = 4096        # rows of a table that belong together: with 50 factors some 1 MB, which a cache holds
FEWEST = 8          # blocks of a table, so that there is something to shuffle, and halves are even
DRAWS = 8           # of halves, the most even of which are taken: two threads wait for each other
RUN = 1 << 17       # ratings that are drawn at a time, or one tile


@dataclass(frozen=True)
class Grid:
    """Blocks of rows: so many rows of users and of items are a block, and so many `blocks` there are."""

    block: tuple[int, int]
    blocks: tuple[int, int]

    @classmethod
    def of(cls, n_users: int, n_items: int) -> Grid:
        """For tables of so many rows, halves of one size."""
        block = [-(-n // max(FEWEST, 2 * -(-n // (2 * BLOCK)))) for n in (n_users, n_items)]
        return cls((block[0], block[1]), (-(-n_users // block[0]), -(-n_items // block[1])))

    def user_blocks(self, users: np.ndarray) -> np.ndarray:
        """The block of each user; what lies outside, which is for the model to refuse, is in the outermost ones."""
        return (users // self.block[0]).clip(0, self.blocks[0] - 1)

    def tiles(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The tile of each rating."""
        return self.user_blocks(users) * self.blocks[1] + (items // self.block[1]).clip(0, self.blocks[1] - 1)


class TiledBatches(Arranged):
    """The same rows as `batches`, in tiles: the ratings of a block of users and a block of items (consecutive rows).

    A random order over tables that no cache holds waits for memory at every rating; within a tile both blocks stay near
    (Zhuang et al. 2013, "A fast parallel SGD for matrix factorization in shared memory systems"). Every epoch divides
    the blocks of either side into two halves at random, and goes through the four quadrants in two pairs without common
    rows; the tiles of a quadrant come in random order, and so do the ratings of a tile. A quadrant's batches have the
    same size but for one rating, so that no rating counts more than others; there are up to three more of them than
    without tiles. All is drawn from the generator of `batches`."""

    def __init__(self, batches: TensorBatches, n_users: int, n_items: int):
        super().__init__(batches)
        grid = Grid.of(n_users, n_items)
        self.blocks = grid.blocks
        self.counts = self._fill(grid)
        self.begins = self.counts.cumsum() - self.counts

    def _fill(self, grid: Grid) -> np.ndarray:
        """Keep the ratings tile by tile, and return how many each tile has."""
        users, items, ratings = (t.numpy() for t in self.batches.tensors)
        self.rows = np.empty(len(users), np.int32), np.empty(len(users), np.int32), np.empty_like(ratings)
        if not_compiled() is None:
            return self._arrange(users, items, ratings, grid.block)
        tiles = grid.tiles(users, items)
        order = np.argsort(tiles, kind="stable")
        for into, column in zip(self.rows, (users, items, ratings)):
            into[:] = column[order]
        return np.bincount(tiles, minlength=self.blocks[0] * self.blocks[1])

    def _tile(self, k: int) -> Sequence[np.ndarray]:
        """The users, items and ratings of a tile."""
        rows = slice(self.begins[k], self.begins[k] + self.counts[k])
        return [column[rows] for column in self.rows]

    def _arrange(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray, block: Sequence[int]) -> np.ndarray:
        """Write the ratings into `rows`, tile by tile, and return how many each tile has."""
        from .tile_kernels import arrange, number
        threads = min(torch.get_num_threads(), MOST_THREADS)
        tiles, counts = np.empty(len(users), np.int32), np.zeros((threads, *self.blocks), np.int64)
        in_parts(lambda k, part: number(users[part], items[part], *block, tiles[part], counts[k]), len(users), threads)
        flat = counts.reshape(threads, -1).T.flatten()          # by tile, and within it by thread
        ends = (flat.cumsum() - flat).reshape(-1, threads).T.copy()
        in_parts(lambda k, part: arrange(users[part], items[part], ratings[part], tiles[part], ends[k], *self.rows),
                 len(users), threads)
        return counts.sum(axis=0).flatten()

    @property
    def dtypes(self) -> Sequence[torch.dtype]:
        """The types of users, items and ratings in batches."""
        return [t.dtype for t in self.tensors]

    def __len__(self) -> int:
        """The number of batches."""
        return min(len(self.batches) + 3, self.batches.n)

    def __iter__(self) -> Iterator[Sequence[Tensor]]:
        for tracks in self.pieces():
            for track in tracks:
                yield from track

    def pieces(self) -> Iterator[Sequence[Track]]:
        """The batches of an epoch: two pieces of two tracks (see `loaders.Pieces`), or of one where tiles are few."""
        halves = min((self._halves() for _ in range(DRAWS)), key=self._uneven)
        quadrants = [[self._tiles(halves[0][k], halves[1][k ^ crossed]) for k in (0, 1)] for crossed in (0, 1)]
        n = np.array([[self.counts[tiles].sum() for tiles in pair] for pair in quadrants])
        batches = -(-n // self.bs)
        while batches.sum() < len(self):        # as many in every epoch
            batches[np.unravel_index(np.argmax(n - batches), n.shape)] += 1
        for pair, of in zip(quadrants, batches):
            if tracks := [self._track(tiles, int(k)) for tiles, k in zip(pair, of) if k]:
                yield tracks

    def _halves(self) -> list[tuple[Tensor, ...]]:
        return [self._drawn(n).tensor_split(2) for n in self.blocks]

    def _uneven(self, halves: list[tuple[Tensor, ...]]) -> int:
        """By how many ratings the tracks differ."""
        counts = self.counts.reshape(self.blocks)
        (ac, ad), (bc, bd) = [[int(counts[np.ix_(u.numpy(), i.numpy())].sum()) for i in halves[1]] for u in halves[0]]
        return abs(ac - bd) + abs(ad - bc)

    def _tiles(self, users: Tensor, items: Tensor) -> np.ndarray:
        """The tiles of some blocks, in random order."""
        tiles = (users[:, None] * self.blocks[1] + items).flatten()
        return tiles[self._drawn(len(tiles))].numpy()

    def _track(self, tiles: np.ndarray, n_batches: int) -> Track:
        """The ratings of these tiles, each tile's in a random order that a seed stands for."""
        seeds = torch.randint(1 << 62, (len(tiles),), generator=self.batches.generator).tolist()
        counts, take = self.counts[tiles], _taking()
        own = np.concatenate([[0], counts.cumsum()])                # the first row of each tile in this track
        row = own[-1] * np.arange(n_batches + 1) // n_batches       # and of each batch

        @lru_cache(maxsize=1)           # most runs end within a tile, with which the next one begins
        def order(j: int) -> np.ndarray:
            return _drawn(int(counts[j]), torch.Generator().manual_seed(seeds[j])).numpy()

        @lru_cache(maxsize=1)
        def ratings(j: int) -> Sequence[np.ndarray]:
            return self._tile(int(tiles[j]))

        def runs(first: int, last: int) -> Iterator[Run]:
            while first < last:
                end = min(max(int(np.searchsorted(row, row[first] + RUN)), first + 1), last)
                taken = [torch.empty(int(row[end] - row[first]), dtype=kind) for kind in self.dtypes]
                into, done, k = [t.numpy() for t in taken], 0, int(np.searchsorted(own, row[first], "right")) - 1
                while done < len(taken[0]):
                    some = order(k)[row[first] + done - own[k]:row[end] - own[k]]
                    if len(some):
                        take(*ratings(k), some, *(column[done:done + len(some)] for column in into))
                    done, k = done + len(some), k + 1
                yield Run(taken, np.diff(row[first:end + 1]))
                first = end
        return Track(np.diff(row), runs)

    def _drawn(self, n: int) -> Tensor:
        return _drawn(n, self.batches.generator)

    def __repr__(self) -> str:
        return f"TiledBatches({self.batches.n:,} rows, bs={self.bs}, {self.blocks[0]} x {self.blocks[1]} tiles)"


def _drawn(n: int, generator: torch.Generator) -> Tensor:
    """The numbers below n in random order."""
    return torch.randperm(n, dtype=torch.int32, generator=generator)


def _taking() -> Callable[..., None]:
    """What writes the ratings in an `order`: (users, items, ratings, order, *into)."""
    if not_compiled() is None:
        from .tile_kernels import take
        return take

    def taken(users: np.ndarray, items: np.ndarray, ratings: np.ndarray, order: np.ndarray, *into: np.ndarray) -> None:
        for column, own in zip((users, items, ratings), into):
            own[:] = column[order]
    return taken
