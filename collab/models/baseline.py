"""Baselines to beat: the mean rating, the mean with damped biases, and the most popular items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

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
        return self._solve(lambda: [(users, items, y)], y.mean(), damping_u, damping_i, sweeps)

    def fit_blocks(self, blocks: Callable[[], Iterable[Sequence[Tensor]]], damping_u: float = 5.0,
                   damping_i: float = 3.0, sweeps: int = 10) -> BiasBaseline:
        """`fit` for ratings that come in blocks of users, items and ratings, the same ones each time that `blocks` is
        called: twice for each sweep. Memory is that of a block; the mean is the same to rounding."""
        n, total = 0, torch.zeros((), dtype=torch.float64, device=self.mu.device)
        for _, _, ratings in blocks():
            n, total = n + len(ratings), total + ratings.to(total).sum()
        return self._solve(blocks, total / max(1, n), damping_u, damping_i, sweeps)

    def _solve(self, blocks: Callable[[], Iterable[Sequence[Tensor]]], mu: Tensor, damping_u: float, damping_i: float,
               sweeps: int) -> BiasBaseline:
        device = self.mu.device
        self.mu, self.u_bias, self.i_bias = mu, torch.zeros_like(self.u_bias), torch.zeros_like(self.i_bias)

        def pieces() -> Iterator[Sequence[Tensor]]:
            """Users, items and ratings that stay in the cache: one after the other they are added in the same order
            each time."""
            for block in blocks():
                yield from zip(*(t.to(device).split(ROWS) for t in block))
        u_total, i_total = torch.zeros_like(self.u_bias), torch.zeros_like(self.i_bias)         # of r - mu
        u_count, i_count = torch.zeros_like(self.u_bias), torch.zeros_like(self.i_bias)
        for users, items, ratings in pieces():
            rest = ratings.double() - mu
            for rows, total, count in ((users, u_total, u_count), (items, i_total, i_count)):
                total.scatter_add_(0, rows, rest)
                count.scatter_add_(0, rows, torch.ones_like(rest))
        # 1 where there are no ratings, whose sum is 0
        for count, damping in ((u_count, damping_u), (i_count, damping_i)):
            none = count == 0
            count.add_(damping)[none] = 1.0
        u_weight, i_weight = u_count, i_count
        for _ in range(sweeps):
            before = self.u_bias
            taken = torch.zeros_like(i_total)
            for users, items, _ in pieces():
                taken.scatter_add_(0, items, self.u_bias.index_select(0, users))
            self.i_bias, taken = torch.sub(i_total, taken, out=taken).div_(i_weight), torch.zeros_like(u_total)
            for users, items, _ in pieces():
                taken.scatter_add_(0, users, self.i_bias.index_select(0, items))
            self.u_bias = torch.sub(u_total, taken, out=taken).div_(u_weight)
            if _largest(before.sub_(self.u_bias)) <= SETTLED * _largest(self.u_bias):
                break
        return self


def _largest(of: Tensor) -> Tensor:
    """The largest absolute value, without a copy."""
    least, most = torch.aminmax(of)
    return torch.maximum(-least, most)


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

