"""WindowedBatches: the rows of data by user, in windows of consecutive ratings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..loaders import Run, Track
from ..ragged import Ragged
from .batches import Arranged, TensorBatches

RUN = 1 << 17       # ratings that are gathered at a time


class WindowedBatches(Arranged):
    """The same rows as `batches`, by user: windows of `length` of a user's ratings, in the order of the rows and
    counted from the last, so that the first window has what is left over. For models that read a window at once.

    Every epoch draws a permutation of all windows from the generator of `batches`. A batch has as many windows as make
    `bs` rows in the mean."""

    def __init__(self, batches: TensorBatches, length: int, n_users: int):
        super().__init__(batches)
        self.length, length = length, min(length, batches.bs)
        users = batches.tensors[0]
        by_user = Ragged.of(users, torch.arange(batches.n, device=users.device), None, n_users)
        counts, self.rows = by_user.counts, by_user.columns
        windows = (counts + length - 1) // length                           # of each user
        of = torch.repeat_interleave(torch.arange(n_users, device=users.device), windows)
        before = torch.arange(len(of), device=users.device) - (windows.cumsum(0) - windows)[of]
        last = by_user.starts[of + 1] - (windows[of] - 1 - before) * length
        first = torch.maximum(last - length, by_user.starts[of])
        self.windows = Ragged(torch.cat([first, last[-1:]]), self.rows, self.rows)      # they follow one another
        self.windows_per_batch = max(1, batches.bs * len(self.windows) // batches.n)

    def __len__(self) -> int:
        """The number of batches."""
        return math.ceil(len(self.windows) / self.windows_per_batch)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for tracks in self.pieces():
            for batch in tracks[0]:
                yield tuple(t.to(self.device) for t in batch)

    def pieces(self) -> Iterator[Sequence[Track]]:
        """The batches of an epoch, in its order (see `loaders.Pieces`)."""
        order = torch.randperm(len(self.windows), generator=self.generator).to(self.rows.device)
        for some in order.split(self.windows_per_batch * max(1, RUN // self.bs)):
            rows = self.rows[self.windows.entries(some)[1]]
            sizes = [int(counts.sum()) for counts in self.windows.lengths(some).split(self.windows_per_batch)]
            yield [_track([t[rows] for t in self.tensors], np.array(sizes))]

    def __repr__(self) -> str:
        return f"WindowedBatches({self.batches.n:,} rows in {len(self.windows):,} windows, bs={self.bs})"


def _track(tensors: Sequence[Tensor], sizes: np.ndarray) -> Track:
    row = np.concatenate([[0], sizes.cumsum()])

    def runs(first: int, last: int) -> Iterator[Run]:
        yield Run([t[row[first]:row[last]] for t in tensors], sizes[first:last])
    return Track(sizes, runs)
