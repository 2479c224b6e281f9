"""One user's best items by compiled kernels: the product, its error and the best of it in one pass over the table."""

from __future__ import annotations

import sys
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import torch

from ..compiled import not_compiled
from ..models.dot_form import DotForm, TableScorer
from ..models.layers import Range
from ..ragged import Ragged

FURTHER = 10        # items beyond the k best that are scored exactly
LANES = 64          # parts of a table, among whose largest scores the kernel finds a floor for the best
PATIENCE = 16       # lists from which on numba is imported for them, which takes as long as a thousand lists
MOST = 1 << 23      # numbers in a table (32 MiB), from which on several threads of torch are faster than one kernel

# FURTHER is below that of `screening`, so that fewer items are scored exactly: the errors of float32 are far smaller
# than the gap to the 11th further item. Where scores saturate, at an end of a sigmoid, more lists are not certain to be
# the best, and `top_k` makes them.

_lists = count()
NO_RANGE, ALL = (0.0, 0.0), (-np.inf, np.inf)
NOTHING = np.zeros(2, np.int64), np.zeros(0, np.int64)      # a row of nothing seen


def compiles(scores: TableScorer, n: int, k: int) -> bool:
    """Whether the best k of n candidates are found by the kernels: where numba is there, which a process of a few
    lists does not wait for, and tables of float32 are on the CPU."""
    if 8 * (k + FURTHER) > n or not scores.readable or (
            scores.form.items.numel() > MOST and torch.get_num_threads() > 1):
        return False
    return ("numba" in sys.modules or next(_lists) >= PATIENCE) and not_compiled() is None


def load_kernels() -> None:
    """Load the kernels now, of a process that will make many lists, such as a service; without numba do nothing."""
    if not_compiled() is None:
        compiled_one(TableScorer(DotForm(torch.zeros(1, 1), torch.zeros(2, 1))), 0, 0, range(1, 2), 1, None)


def best_of_one(scores: TableScorer, user: int, whose: int, candidates: range, k: int, seen: Ragged | None,
                show: Range | None = None, clip: Range | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """The k best candidates of one user row, fewer where no more are left: rows and scores (m,), or None where this
    takes `top_k`. Scores are shown in the range `show` and clipped to `clip`, after the items are ranked."""
    k = min(k, len(candidates))
    if not compiles(scores, len(candidates), k) or (
            found := compiled_one(scores, user, whose, candidates, k, seen, show, clip)) is None:
        return None
    rows, best = found
    if rows[-1] < 0:
        there = rows >= 0
        return rows[there], best[there]
    return found


def compiled_one(scores: TableScorer, user: int, whose: int, candidates: range, k: int, seen: Ragged | None,
                 show: Range | None = None, clip: Range | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """The k best candidates of one user row: rows and scores (k,) as `top_k` gives them, or None where it is not
    certain that these are the best. `whose` is the row of `seen`; `show` and `clip` as for `best_of_one`."""
    wide, y_range = k + FURTHER, scores.form.y_range
    low, high = y_range or show or NO_RANGE
    least, most = clip or ALL
    starts, columns = NOTHING if seen is None else seen.arrays
    rows, found = np.empty(k, np.int64), np.empty(k, np.float32)
    room = np.empty(3 * wide + LANES + len(scores.arrays[1]) // 2)
    sure = _kernel()(*scores.arrays, float(low), float(high), y_range is not None, show is not None, float(least),
                     float(most), user, candidates.start, candidates.stop, starts, columns,
                     0 if seen is None else whose, scores.longest, wide, room, rows, found)
    return (rows, found) if sure else None


@cache
def _kernel() -> Any:
    from .screening_kernels import best_list  # imports numba
    return best_list

