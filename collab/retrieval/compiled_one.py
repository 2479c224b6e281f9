"""One user's best items by compiled kernels: the product, its error and the best of it in one pass over the table."""

from __future__ import annotations

import sys
from functools import cache, cached_property
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..compiled import not_compiled
from ..data.catalogue import Catalogue
from ..data.frame_kinds import made_of
from ..data.list_frames import ListFrames
from ..data.vocab import Vocab
from ..models.dot_form import DotForm, TableScorer
from ..models.layers import Range
from ..ragged import Ragged

FURTHER = 10        # items beyond the k best that are scored exactly
LANES = 32          # parts of a table, among whose largest scores the kernel finds a floor for the best; as many more
FEW = 25            # for each further FEW of these
PATIENCE = 16       # lists from which on numba is imported for them, which takes as long as a thousand lists
MOST = 1 << 23      # numbers in a table (32 MiB), from which on several threads of torch are faster than one kernel

# FURTHER is below that of `screening`, so that fewer items are scored exactly: the errors of float32 are far smaller
# than the gap to the 11th further item. Where scores saturate, at an end of a sigmoid, more lists are not certain to be
# the best, and `top_k` makes them.

_lists = count()
NO_RANGE, ALL = (0.0, 0.0), (-np.inf, np.inf)
NOTHING = np.zeros(2, np.int64), np.zeros(0, np.int64)      # a row of nothing seen
I64, F32, empty = np.dtype(np.int64), np.dtype(np.float32), np.empty

Best = tuple[np.ndarray, np.ndarray]


def load_kernels() -> None:
    """Load the kernels now, of a process that will make many lists, such as a service; without numba do nothing."""
    if not_compiled() is None:
        best, vocab = BestOfOne(TableScorer(DotForm(torch.zeros(1, 1), torch.zeros(2, 1))), range(1, 2)), Vocab([1])
        best(0, 0, 1, None)
        if (frames := ListFrames.of(vocab, None)) is not None:
            best.frame(frames, 0, 0, 1, None, pd.DataFrame)


def room_of(wide: int, n_items: int) -> int:
    """How much room `best_list` takes for `wide` candidates."""
    return 2 * wide + (LANES * (wide // FEW + 1) + wide + n_items + 1) // 2


class BestOfOne:
    """The best candidates of one user row after another. What is the same for all of them is prepared once; it reads
    the memory of the tables, and so what they hold when it is asked. Scores are shown in the range `show` and clipped
    to `clip`, after the items are ranked."""

    def __init__(self, scores: TableScorer, candidates: range, show: Range | None = None, clip: Range | None = None):
        self.scores, self.candidates, self.show, self.clip = scores, candidates, show, clip
        self.n, self.loaded = len(candidates), False

    def compiles(self, k: int) -> bool:
        """Whether the best k are found by the kernels: where numba is there, which a process of a few lists does not
        wait for, and tables of float32 are on the CPU."""
        return 8 * (k + FURTHER) <= self.n and (self.loaded or self._loads())

    def _loads(self) -> bool:
        """The same but for k."""
        if not self.scores.readable or ("numba" not in sys.modules and next(_lists) < PATIENCE) or not_compiled():
            return False
        self.loaded = self.scores.form.items.numel() <= MOST
        return self.loaded or torch.get_num_threads() == 1

    def __call__(self, user: int, whose: int, k: int, seen: Ragged | None) -> Best | None:
        """The best k of a user row, without what the row `whose` of `seen` holds: rows and scores (k,), -1 and -inf
        where no more are left, as `top_k` gives them. None where it is not certain that these are the best."""
        wide, (starts, columns) = k + FURTHER, NOTHING if seen is None else seen.arrays
        rows, found, room = empty(k, I64), empty(k, F32), empty(room_of(wide, self._n_items))
        sure = _kernels()[0](*self._same, starts, columns, user, 0 if seen is None else whose, wide, room, rows, found)
        return (rows, found) if sure else None

    def there(self, user: int, whose: int, k: int, seen: Ragged | None) -> Best | None:
        """The same without what is not there: rows and scores (m,), m <= k. None also where the kernels do not do."""
        best = self(user, whose, k, seen) if self.compiles(k := min(k, self.n)) else None
        if best is None or best[0][-1] >= 0:
            return best
        there = best[0] >= 0
        return best[0][there], best[1][there]

    def listed(self, catalogue: Catalogue, user: int, whose: int, n: int, seen: Ragged | None, as_frame: str,
               kind: Any) -> Any:
        """The n best, without what is not there, as a frame of the kind `as_frame`, for "pandas" a `kind` of DataFrame;
        None where the kernels do not do."""
        if as_frame == "pandas" and self.compiles(n) and (frames := catalogue.list_frames) is not None and (
                frame := self.frame(frames, user, whose, n, seen, kind)) is not None:
            return frame
        if (found := self.there(user, whose, n, seen)) is None:
            return None
        return catalogue.lists(*found) if as_frame == "dict" else made_of(catalogue.columns(*found), as_frame, kind)

    def frame(self, frames: ListFrames, user: int, whose: int, k: int, seen: Ragged | None, kind: Any) -> Any:
        """The k best as a `kind` of DataFrame. None where there are fewer, where it is not certain that these are the
        best, and where there is no room for their titles."""
        wide, (starts, columns), text = k + FURTHER, NOTHING if seen is None else seen.arrays, frames.written.room(k)
        numbers, found, room = empty((2, k), I64), empty((1, k), F32), empty(room_of(wide, self._n_items))
        if text is None or not _kernels()[1](
                *self._same, starts, columns, *frames.arrays, user, 0 if seen is None else whose, wide, room, numbers,
                found, text):
            return None
        return frames.frame(numbers, found, text, kind)

    @cached_property
    def _n_items(self) -> int:
        return len(self.scores.form.items)

    @cached_property
    def _same(self) -> tuple[Any, ...]:
        scores, y_range, (least, most) = self.scores, self.scores.form.y_range, self.clip or ALL
        low, high = y_range or self.show or NO_RANGE
        return (*scores.arrays, float(low), float(high), y_range is not None, self.show is not None, float(least),
                float(most), self.candidates.start, self.candidates.stop, scores.longest)


@cache
def _kernels() -> tuple[Any, Any]:
    from .list_kernels import list_frame  # imports numba
    from .screening_kernels import best_list
    return best_list, list_frame
