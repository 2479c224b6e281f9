"""DotForm: a trained model as two tables of vectors, wherever its score is a product of a user and an item."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..numerics import products
from .layers import Range, sigmoid_range


class DotForm(NamedTuple):
    """score(u, i) = range(mu + b_u + b_i + p_u . q_i), range a sigmoid onto `y_range` or nothing; row 0 of `users` and
    `u_bias` is the average user. The biases are None in models without them."""

    users: Tensor               # p, (n_users, n_factors)
    items: Tensor               # q, (n_items, n_factors)
    u_bias: Tensor | None = None    # (n_users,)
    i_bias: Tensor | None = None    # (n_items,)
    mu: float = 0.0
    y_range: Range | None = None
    unit: bool = False          # whether the vectors of users have length 1

    @property
    def average(self) -> Tensor:
        """[p_0, b_0] of the average user, or p_0 where there are no biases."""
        return self.users[0] if self.u_bias is None else torch.cat([self.users[0], self.u_bias[:1]])

    def item_vectors(self) -> Tensor:
        """The vectors [q_i, b_i + mu, 1], or q_i alone, that queries are multiplied with: (n_items, width)."""
        if self.i_bias is None:
            return self.items
        return torch.cat([self.items, self.i_bias[:, None] + self.mu, torch.ones_like(self.i_bias[:, None])], 1)

    def queries(self, solved: Tensor) -> Tensor:
        """The queries [p, 1, b] of vectors [p, b] (m, n_factors + 1), or p unchanged: (m, width)."""
        if self.u_bias is None:
            return solved
        return torch.cat([solved[:, :-1], torch.ones_like(solved[:, :1]), solved[:, -1:]], 1)

    def user_vectors(self) -> Tensor:
        """The queries of all user rows, (n_users, width): query . item_vector is the score before the range."""
        return self.queries(self.users if self.u_bias is None else torch.cat([self.users, self.u_bias[:, None]], 1))

    def scores(self, queries: Tensor) -> Tensor:
        """The scores of all items for queries (m, width), (m, n_items)."""
        return sigmoid_range(products(queries, self.item_vectors()), self.y_range)
