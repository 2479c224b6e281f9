"""The best of many items, scored exactly only where that matters: float32 finds the few that may be among the best."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..models.dot_form import TableScorer
from ..ragged import Ragged
from .largest import check_numbers, in_order, largest, rows_in

MANY = 1 << 13      # candidates from which on it pays
BEYOND = 22         # items beyond the k best that are scored exactly


def pays(scores: TableScorer, n: int, k: int) -> bool:
    """Whether to screen n candidates for the best k."""
    return n >= MANY and 8 * (k + BEYOND) <= n and 2 * n >= len(scores.form.items) and scores.has_rough


def screened(scores: TableScorer, users: Tensor, whose: Tensor, candidates: Tensor | range, k: int,
             seen: Ragged | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k best candidates of each user, rows and scores (m, k) as `top_k` gives them, and for which users it is
    certain that these are the best, bool (m,). `whose` (m,) are the rows of `seen`.

    It is certain where the k-th best is better than an item whose rough score lies further above those of the items
    that are not scored exactly than both can be wrong. It fails where many scores are all but equal, as those of items
    without ratings are."""
    rough, error = scores.roughly(users)
    if seen is not None:
        rough.view(-1).index_fill_(0, seen.cells(whose, range(rough.shape[1])), -torch.inf)
    run = slice(candidates.start, candidates.stop) if isinstance(candidates, range) else candidates
    best, place = (t.numpy() for t in largest(rough[:, run], k + BEYOND))
    chosen = rows_in(candidates, place)
    exact = scores.of_each(users, torch.from_numpy(chosen)).float().numpy()
    check_numbers(exact)
    exact[best == -np.inf] = -np.inf
    rows, kept = in_order(chosen, exact, k)
    rows[kept == -np.inf] = -1
    last = best[:, -1:]                     # the best rough score of all other items is no larger
    with np.errstate(invalid="ignore"):     # -inf + inf
        sure = (exact < kept[:, -1:]) & (best >= last + 2 * error) | (last == -np.inf)
    return rows, kept, sure.any(1)


def screened_one(scores: TableScorer, user: Tensor, whose: int, candidates: range, k: int,
                 seen: Ragged | None) -> tuple[np.ndarray, np.ndarray] | None:
    """`screened` for one user, (1,), in half the time: the same rows and scores (1, k), or None where it is not certain
    that these are the best."""
    rough, bound = scores.roughly(user)
    row, error = rough[0], bound.item()
    row[:candidates.start] = -torch.inf
    row[candidates.stop:] = -torch.inf
    if seen is not None:
        begin, end = seen.starts[whose:whose + 2].tolist()
        mine = seen.columns[begin:end]
        row[mine[mine < len(row)]] = -torch.inf
    best, place = largest(rough, k + BEYOND)
    exact, rows = scores.of_each(user, place)[0].float().numpy(), place[0].numpy()
    found = best[0].numpy()
    if np.isnan(exact).any():
        check_numbers(exact)
    exact[found == -np.inf] = -np.inf
    order = np.lexsort((rows, -exact))
    kept = order[:k]
    last = found[-1]
    if last > -np.inf and not ((exact < exact[kept[-1]]) & (found >= last + 2 * error)).any():
        return None
    rows, exact = rows[kept], exact[kept] + 0.0
    rows[exact == -np.inf] = -1
    return rows[None], exact[None]
