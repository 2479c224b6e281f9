"""The best of many items, scored exactly only where that matters: float32 finds the few that may be among the best."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.dot_form import TableScorer
from ..numerics import run_of
from ..ragged import Ragged
from .largest import check_numbers, in_order, largest

MANY = 1 << 13      # candidates from which on it pays
WIDER = 22          # items beyond the k best that are scored exactly


def pays(scores: TableScorer, n: int, k: int) -> bool:
    """Whether to screen n candidates for the best k."""
    return n >= MANY and 8 * (k + WIDER) <= n and 2 * n >= len(scores.form.items) and scores.has_rough


def screened(scores: TableScorer, users: Tensor, whose: Tensor, candidates: Tensor | range, k: int,
             seen: Ragged | None) -> tuple[Tensor, Tensor, Tensor]:
    """The k best candidates of each user, rows and scores (m, k) as `top_k` gives them, and for which users it is
    certain that these are the best, bool (m,). `whose` (m,) are the rows of `seen`.

    It is certain where the k-th best is better than an item whose rough score lies further above those of the items
    that are not scored exactly than both can be wrong. It fails where many scores are all but equal, as those of items
    without ratings are."""
    rough, error = scores.roughly(users)
    if seen is not None:
        position, items = seen.pairs(whose)
        if (beyond := items >= rough.shape[1]).any():       # known items that the model has no rows for
            position, items = position[~beyond], items[~beyond]
        rough[position, items] = -torch.inf
    run = run_of(candidates)
    best, place = largest(rough[:, torch.as_tensor(candidates) if run is None else run], k + WIDER)
    chosen = place + run.start if run is not None else torch.as_tensor(candidates)[place]
    exact = scores.of_each(users, chosen).float()
    check_numbers(exact)
    exact[best == -torch.inf] = -torch.inf
    rows, kept = in_order(chosen, exact, k)
    last = best[:, -1:]                     # the best rough score of all other items is no larger
    sure = (exact < kept[:, -1:]) & (best >= last + 2 * error) | (last == -torch.inf)
    return rows.masked_fill_(kept == -torch.inf, -1), kept, sure.any(1)
