"""Expected ratings where ratings are ordinal: of pairs, and by a scorer of every pair."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .drawn_side import DrawnSide

MAX_NUMBERS = 1 << 22   # of items, that are gathered at a time: 16 MiB


def expected_ratings(scores: Tensor, roots: Tensor, cuts: Tensor, levels: Tensor, factors: Tensor) -> Tensor:
    """The expected ratings (n,) of latent scores and roots of precisions (S, n), and cut-points (S, C - 1): the
    probability of each level is the mean over S draws, times one of the `factors` (n, C), or (1, C), of `Habits`."""
    below = torch.zeros_like(scores[0])
    total, found, ends = below.clone(), below.clone(), [*cuts.to(scores).T, None]
    for level, factor, cut in zip(levels.to(scores), factors.to(scores).T, ends):
        higher = (torch.ones_like(below) if cut is None else
                  torch.special.ndtr((cut[:, None] - scores) * roots).mean(0))
        share = (higher - below) * factor
        total, found, below = total + share, found + share * level, higher
    return found / total


class GradedScorer:
    """Users (m,), items (n,) -> expected ratings (m, n), from what both sides keep of S draws, their cut-points
    (S, C - 1), and the `habits` (n_users, C) of users: in float32, user by user, from items arranged draw by draw.
    Pairs with a row that had no ratings in training, whose latent ratings vary more, are left to `each`, the scores of
    pairs."""

    def __init__(self, users: DrawnSide, items: DrawnSide, used: Tensor, cuts: Tensor, levels: Tensor,
                 habits: Tensor, each: Callable[[Tensor, Tensor], Tensor]):
        self.users, self.used, self.each, self.cuts, self.levels = users, used, each, cuts[used], levels
        self.habits = habits
        own = items.draws[:, used]
        self.cold_users, self.cold_items = users.cold, items.cold
        self.factors = own[..., :-2].transpose(0, 1).contiguous()                   # (S, n_items, k)
        self.biases, self.roots = own[..., -2].T.contiguous(), own[..., -1].T.sqrt()    # (S, n_items)

    def __call__(self, users: Tensor, items: Tensor) -> Tensor:
        found = self.factors.new_empty(len(users), len(items))
        step = max(1, MAX_NUMBERS // self.factors[:, 0].numel())
        for some, into in zip(items.split(step), found.split(step, 1)):
            cold = self.cold_items[some]
            tables = [table[:, some] for table in (self.factors, self.biases, self.roots)]
            for user, row in zip(users, into):
                if self.cold_users[user]:
                    row.copy_(self.each(user.expand(len(some)), some))
                    continue
                row.copy_(self._of(user, *tables))
                if cold.any():
                    row[cold] = self.each(user.expand(int(cold.sum())), some[cold])
        return found

    def _of(self, user: Tensor, factors: Tensor, biases: Tensor, roots: Tensor) -> Tensor:
        own = self.users.draws[user, self.used]
        scores = torch.baddbmm((biases + own[:, -2:-1])[..., None], factors, own[:, :-2, None])[..., 0]
        return expected_ratings(scores, roots * own[:, -1:].sqrt(), self.cuts, self.levels, self.habits[user][None])
