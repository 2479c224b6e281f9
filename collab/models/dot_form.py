"""DotForm: a trained model as two tables of vectors, wherever its score is a product of a user and an item."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .als import ALS
from .embedding import EmbeddingDot, EmbeddingDotBias, Range
from .hybrid import HybridNet
from .softmax import SoftmaxNet
from .svdpp import SVDpp
from .two_tower import TwoTower

TABLES = ("u_weight", "i_weight", "u_bias", "i_bias")


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
        """[q_i, b_i + mu, 1], or q_i alone: what a query is multiplied with, (n_items, width)."""
        if self.i_bias is None:
            return self.items
        return torch.cat([self.items, self.i_bias[:, None] + self.mu, torch.ones_like(self.i_bias[:, None])], 1)

    def queries(self, solved: Tensor) -> Tensor:
        """[p, 1, b] of vectors [p, b] (m, n_factors + 1), or p as it is: (m, width)."""
        if self.u_bias is None:
            return solved
        return torch.cat([solved[:, :-1], torch.ones_like(solved[:, :1]), solved[:, -1:]], 1)

    def user_vectors(self) -> Tensor:
        """The queries of all user rows, (n_users, width): query . item_vector is the score before the range."""
        return self.queries(self.users if self.u_bias is None else torch.cat([self.users, self.u_bias[:, None]], 1))


@torch.no_grad()
def dot_form(model: Any) -> DotForm | None:
    """The model's two tables, or None where its score is no product. A model of your own has them if it has a method
    `dot_form()` that gives a `DotForm`."""
    if callable(own := getattr(model, "dot_form", None)):
        return own()
    if _is(model, EmbeddingDot) or (_is(model, ALS) and model.implicit):
        return DotForm(model.u_weight.weight.detach(), model.i_weight.weight.detach())
    if _is(model, SoftmaxNet):
        users, items, i_bias = (model.learned(name) for name in ("u_weight", "i_weight", "i_bias"))
        return DotForm(users, items, torch.zeros_like(users[:, 0]), i_bias.squeeze(1))
    if _is(model, TwoTower):
        users, items = model.learned("u_weight"), model.learned("i_weight")
        assert users is not None and items is not None
        return DotForm(users, items, unit=model.query.normalise)
    if (_is(model, SVDpp) or _is(model, HybridNet)) and getattr(model, "layers", None) is None:
        tables = [model.learned(name) for name in TABLES]
    elif _is(model, EmbeddingDotBias) or _is(model, ALS):
        tables = [getattr(model, name).weight.detach() for name in TABLES]
    else:
        return None
    users, items, u_bias, i_bias = tables
    return DotForm(users, items, u_bias.squeeze(1), i_bias.squeeze(1), model.mu.detach().item(),
                   getattr(model, "y_range", None))


def _is(model: nn.Module, cls: type[nn.Module]) -> bool:
    """Whether the model scores as the class does: it is one, or a subclass with the same `forward`."""
    return isinstance(model, cls) and type(model).forward is cls.forward
