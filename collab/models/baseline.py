"""Baselines to beat: the mean rating, the mean with damped biases, and the most popular items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .base import CollabModel

ROWS = 1 << 16          # rows gathered at a time, which stay in the cache
SETTLED = 1e-6          # share of the largest bias: smaller changes of a sweep count as none


class BiasBaseline(CollabModel):
    """score = mu + b_u + b_i, with biases shrunk towards zero (Koren 2010, "Factor in the Neighbors", section 2.1).

    `fit` alternates the closed forms b_i = sum(r - mu - b_u) / (damping_i + n_i) and
    b_u = sum(r - mu - b_i) / (damping_u + n_u). With damping at infinity it is the global mean; a row without
    ratings has a bias of 0. To recommend by it:
    `CollabLearner(data, BiasBaseline(data.n_users, data.n_items).fit(*data.train.tensors))`."""

    unknown_row = True          # its bias is 0
    mu: Tensor
    u_bias: Tensor
    i_bias: Tensor

    def __init__(self, n_users: int, n_items: int):
        super().__init__()
        self.register_buffer("mu", torch.zeros((), dtype=torch.float64))
        self.register_buffer("u_bias", torch.zeros(n_users, dtype=torch.float64))
        self.register_buffer("i_bias", torch.zeros(n_items, dtype=torch.float64))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.mu + self.u_bias[users] + self.i_bias[items]).float()

    def fit(self, users: Tensor, items: Tensor, ratings: Tensor, damping_u: float = 5.0, damping_i: float = 3.0,
            sweeps: int = 10) -> BiasBaseline:
        """Solve from rows and ratings of shape (n,), in float64. It ends after `sweeps` sweeps, or after one that
        changes no user's bias by more than a millionth of the largest.

        The damping is 5 ratings for users and 3 for items, since a baseline is to be hard to beat: Surprise's 15 and 10
        (`BaselineOnly`) shrink more, and had the higher error on 13 of 15 sets of ratings (u1 of MovieLens-100K: .9599
        against .9536)."""
        device = self.mu.device
        users, items, y = users.to(device).long(), items.to(device).long(), ratings.to(device).double()
        by_user, by_item = users.split(ROWS), items.split(ROWS)
        self.mu, self.u_bias, self.i_bias = y.mean(), torch.zeros_like(self.u_bias), torch.zeros_like(self.i_bias)
        rest = (y - self.mu).split(ROWS)
        u_total, i_total = _sums(rest, by_user, self.u_bias), _sums(rest, by_item, self.i_bias)     # of r - mu
        u_weight, i_weight = _weights(users, self.u_bias, damping_u), _weights(items, self.i_bias, damping_i)
        for _ in range(sweeps):
            before = self.u_bias
            self.i_bias = (i_total - _sums(_at(self.u_bias, by_user), by_item, i_total)) / i_weight
            self.u_bias = (u_total - _sums(_at(self.i_bias, by_item), by_user, u_total)) / u_weight
            if (self.u_bias - before).abs().max() <= SETTLED * self.u_bias.abs().max():
                break
        return self


class MostPopular(CollabModel):
    """score = the item's number of ratings, the same for every user; `counts` by item row, shape (n_items,)."""

    ranks = True
    unknown_row = True          # nobody chose it
    counts: Tensor

    def __init__(self, counts: Tensor):
        super().__init__()
        self.register_buffer("counts", counts.float())

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.counts[items]

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return self.counts[items].expand(len(users), -1)


def _sums(values: Iterable[Tensor], rows: Iterable[Tensor], like: Tensor) -> Tensor:
    """The sum of the values of each row, in a tensor like `like`. Values and rows come in pieces: one after the other
    they are added in the same order each time."""
    total = torch.zeros_like(like)
    for some, where in zip(values, rows):
        total.scatter_add_(0, where, some)
    return total


def _at(table: Tensor, rows: Iterable[Tensor]) -> Iterator[Tensor]:
    return (table.index_select(0, some) for some in rows)


def _weights(rows: Tensor, like: Tensor, damping: float) -> Tensor:
    """The number of ratings of each row plus the damping; 1 where there are none, whose sum is 0."""
    counts = torch.bincount(rows, minlength=len(like)).to(like)
    return torch.where(counts > 0, counts + damping, 1.0)
