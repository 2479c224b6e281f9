"""Baselines to beat: the mean rating, the mean with damped biases, and the most popular items."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import CollabModel


class BiasBaseline(CollabModel):
    """score = mu + b_u + b_i, with biases shrunk towards zero (Koren 2010, "Factor in the Neighbors", section 2.1).

    `fit` alternates the closed forms b_i = sum(r - mu - b_u) / (damping_i + n_i) and
    b_u = sum(r - mu - b_i) / (damping_u + n_u). With damping at infinity it is the global mean; a row without
    ratings has a bias of 0."""

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

    def fit(self, users: Tensor, items: Tensor, ratings: Tensor, damping_u: float = 15.0, damping_i: float = 10.0,
            sweeps: int = 10) -> BiasBaseline:
        """Solve from rows and ratings of shape (n,). The default damping is that of Surprise's BaselineOnly."""
        users, items, y = users.to(self.mu.device), items.to(self.mu.device), ratings.double().to(self.mu.device)
        self.mu, self.u_bias = y.mean(), torch.zeros_like(self.u_bias)
        for _ in range(sweeps):
            self.i_bias = _damped_mean(y - self.mu - self.u_bias[users], items, len(self.i_bias), damping_i)
            self.u_bias = _damped_mean(y - self.mu - self.i_bias[items], users, len(self.u_bias), damping_u)
        return self


class MostPopular(CollabModel):
    """score = the item's number of ratings, the same for every user; `counts` by item row, shape (n_items,)."""

    ranks = True
    counts: Tensor

    def __init__(self, counts: Tensor):
        super().__init__()
        self.register_buffer("counts", counts.float())

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.counts[items]

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return self.counts[items].expand(len(users), -1)


def _damped_mean(values: Tensor, rows: Tensor, n_rows: int, damping: float) -> Tensor:
    total = torch.zeros(n_rows, dtype=values.dtype, device=values.device).index_add_(0, rows, values)
    counts = torch.bincount(rows, minlength=n_rows)
    return torch.where(counts > 0, total / (counts + damping), 0.0)     # 0 / 0 where there is no damping either
