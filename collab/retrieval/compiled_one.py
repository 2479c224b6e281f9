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
        _kernels()      # of this process, to be compiled or read for the types of their arguments
        n = 8 * (1 + FURTHER) + 1
        best = BestOfOne(TableScorer(DotForm(torch.ones(1, 1), torch.arange(float(n))[:, None])), range(1, n))
        for as_frame in ("dict", "pandas"):
            best.listed(Catalogue(Vocab(range(1, n)), None), 0, 0, 1, None, as_frame, pd.DataFrame)


def room_of(wide: int, n_items: int) -> int:
    """How much room `best_list` takes for `wide` candidates."""
    return 2 * wide + (LANES * (wide // FEW + 1) + wide + n_items + 1) // 2


class BestOfOne:
    """The best candidates of one user row after another. What is the same for all of them is prepared once; it reads
    the memory of the tables, and so what they hold when it is asked. Scores are shown in the range `show` and clipped
    to `clip`, after the items are ranked."""

    def __init__(self, scores: TableScorer, candidates: range, show: Range | None = None, clip: Range | None = None):
        self.scores, self.candidates, self.show, self.clip = scores, candidates, show, clip
        self.n, self.n_users, self.n_items = len(candidates), len(scores.form.users), len(scores.form.items)
        self.loaded = False

    def compiles(self, k: int, *, patiently: bool = True) -> bool:
        """Whether the best k are found by the kernels: where numba is there, which a process of a few lists does not
        wait for, and tables of float32 are on the CPU. Lists are counted where it is asked `patiently`."""
        return 8 * (k + FURTHER) <= self.n and (self.loaded or self._loads(patiently))

    def _loads(self, patiently: bool) -> bool:
        """`compiles`, whatever k is."""
        if not self.scores.readable or self.candidates.stop > self.n_items or not_compiled() or (
                "numba" not in sys.modules and (not patiently or next(_lists) < PATIENCE)):
            return False
        self.loaded = self.scores.form.items.numel() <= MOST
        return self.loaded or torch.get_num_threads() == 1

    def __call__(self, user: int, whose: int, k: int, seen: Ragged | None) -> Best | None:
        """The best k of a user row, without what the row `whose` of `seen` holds: rows and scores (k,), -1 and -inf
        where no more are left, as `top_k` gives them. None where it is not certain that these are the best, and for a
        row that the tables lack: kernels check no bounds."""
        if not 0 <= user < self.n_users:
            return None
        wide, (starts, columns) = k + FURTHER, NOTHING if seen is None else seen.arrays
        rows, found, room = empty(k, I64), empty(k, F32), empty(room_of(wide, self.n_items))
        sure = _kernels()[0](*self._same, starts, columns, user, 0 if seen is None else whose, wide, room, rows, found)
        return (rows, found) if sure else None

    def listed(self, catalogue: Catalogue, user: int, whose: int, n: int, seen: Ragged | None, as_frame: str,
               kind: Any) -> Any:
        """The n best, fewer where no more are left, as a frame of the kind `as_frame`, for "pandas" a `kind` of
        DataFrame. None where `top_k` has to find them."""
        if not self.compiles(k := min(n, self.n), patiently=False) or user >= self.n_users:
            return None
        if as_frame == "pandas" and (frames := catalogue.list_frames) is not None and (
                text := frames.written.room(k)) is not None:
            wide, (starts, columns) = k + FURTHER, NOTHING if seen is None else seen.arrays
            numbers, scores, room = empty((2, k), I64), empty((1, k), F32), empty(room_of(wide, self.n_items))
            size = _kernels()[1](*self._same, starts, columns, *frames.arrays, user, 0 if seen is None else whose, wide,
                                 room, numbers, scores, text)
            if size:
                return frames.frame(numbers, scores, text, size, kind)
        if (best := self(user, whose, k, seen)) is None:
            return None
        rows, found = best if best[0][-1] >= 0 else [own[best[0] >= 0] for own in best]
        return catalogue.lists(rows, found) if as_frame == "dict" else made_of(catalogue.columns(rows, found), as_frame,
                                                                              kind)

    @cached_property
    def _same(self) -> tuple[Any, ...]:
        scores, y_range = self.scores, self.scores.form.y_range
        low, high = next((own for own in (y_range, self.show) if own is not None), NO_RANGE)
        least, most = ALL if self.clip is None else self.clip
        return (*scores.arrays, float(low), float(high), y_range is not None, self.show is not None, float(least),
                float(most), self.candidates.start, self.candidates.stop, scores.longest)


@cache
def _kernels() -> tuple[Any, Any]:
    from .list_kernels import list_frame  # imports numba
    from .screening_kernels import best_list
    return best_list, list_frame
