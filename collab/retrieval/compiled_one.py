"""One user's best items by compiled kernels: the product, its error and the best of it in one pass over the table."""

from __future__ import annotations

import sys
from itertools import count

import numpy as np
import torch
from torch import Tensor

from ..compiled import not_compiled
from ..models.dot_form import DotForm, TableScorer
from ..models.layers import sigmoid_range
from ..ragged import Ragged

WIDER = 22          # items beyond the k best that are scored exactly
PATIENCE = 16       # lists from which on numba is imported for them, which takes as long as a thousand lists
MOST = 1 << 23      # numbers in a table (32 MiB), from which on several threads of torch are faster than one kernel

_lists = count()
_NONE = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)


def compiles(scores: TableScorer, n: int, k: int) -> bool:
    """Whether the best k of n candidates are found by the kernels: where numba is there, which a process of a few
    lists does not wait for, and tables of float32 are on the CPU."""
    items = scores.form.items
    if 8 * (k + WIDER) > n or items.dtype != torch.float32 or not items.is_contiguous() or items.is_cuda:
        return False
    users = scores.form.users
    if users.dtype != torch.float32 or not users.is_contiguous() or items.device.type != "cpu":
        return False
    if items.numel() > MOST and torch.get_num_threads() > 1:
        return False
    return ("numba" in sys.modules or next(_lists) >= PATIENCE) and not_compiled() is None


def load_kernels() -> None:
    """Load the kernels now, of a process that will make many lists, such as a service; without numba do nothing."""
    if not_compiled() is None:
        compiled_one(TableScorer(DotForm(torch.zeros(1, 1), torch.zeros(2, 1))), 0, 0, range(1, 2), 1, None)


def best_of_one(scores: TableScorer, user: int, whose: int, candidates: range, k: int,
                seen: Ragged | None) -> tuple[np.ndarray, np.ndarray] | None:
    """The k best candidates of one user row, fewer where no more are left: rows and scores (m,), or None where this
    takes `top_k`."""
    k = min(k, len(candidates))
    found = compiled_one(scores, user, whose, candidates, k, seen) if compiles(scores, len(candidates), k) else None
    if found is None:
        return None
    rows, best = found[0][0], found[1][0]
    if rows[-1] < 0:
        there = rows >= 0
        return rows[there], best[there]
    return rows, best


def compiled_one(scores: TableScorer, user: int, whose: int, candidates: range, k: int,
                 seen: Ragged | None) -> tuple[np.ndarray, np.ndarray] | None:
    """The k best candidates of one user row: rows and scores (1, k) as `top_k` gives them, or None where it is not
    certain that these are the best. `whose` is the row of `seen`."""
    from . import screening_kernels as kernels
    form, n, wide = scores.form, len(scores.form.items), k + WIDER
    rough, best, exact = np.empty(n, np.float32), np.empty(wide, np.float32), np.empty(wide)
    place, rows, found = np.empty(wide, np.int64), np.empty(k, np.int64), np.empty(k, np.float32)
    biased = form.u_bias is not None and form.i_bias is not None
    error = kernels.candidates(_array(form.users), _array(form.items), _array(form.u_bias) if biased else _NONE[1],
                               _array(form.i_bias) if biased else _NONE[1], biased, float(form.mu), user,
                               candidates.start, candidates.stop, _NONE[0] if seen is None else _row(seen, whose),
                               scores.longest, rough, best, place, exact)
    if error == np.inf:
        return None
    if form.y_range is not None:
        exact = sigmoid_range(torch.from_numpy(exact), form.y_range).numpy()
    return (rows[None], found[None]) if kernels.ordered(best, place, exact, error, rows, found) else None


def _array(table: Tensor | None) -> np.ndarray:
    assert table is not None
    return (table.detach() if table.requires_grad else table).numpy()


def _row(seen: Ragged, row: int) -> np.ndarray:
    starts, columns = seen.arrays
    return columns[starts[row]:starts[row + 1]]
