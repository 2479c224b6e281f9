"""Loss terms of a model's factors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..given import is_real
from .base import Unsupported
from .plain import as_collab


class FactorTerm(ABC):
    """A loss term `coeff * value(U, V)` of the factors U (n_users, n_factors) of known users and V of known items.

    Called with a model, it reads the `factors` of both sides without row 0, the unknown one. Add it to a loss with
    `collab_learner(..., loss_terms=[...])` or `LossTerms`.
    Raises ValueError for a `coeff` that is negative or not finite; called, TypeError for a model without factors."""

    name: str

    def __init__(self, coeff: float):
        if not is_real(coeff) or not 0 <= coeff < math.inf:
            raise ValueError(f"coeff must be a finite number, at least 0, got {coeff!r}")
        self.coeff = coeff

    def __call__(self, model: nn.Module) -> Tensor:
        known = as_collab(model)
        try:
            users, items = known.factors("user"), known.factors("item")
        except Unsupported as lacking:
            raise TypeError(f"{self} needs the factors of users and items, but {lacking}") from None
        return self.coeff * self.value(users[1:], items[1:])

    @abstractmethod
    def value(self, u: Tensor, v: Tensor) -> Tensor:
        """The term of two tables of factors, before `coeff`."""

    def user_form(self, v: Tensor) -> Tensor | None:
        """M (n_factors, n_factors) such that the term is the mean over users of p_u' M p_u plus a function of V, the
        factors of known items, alone; used to fold in new users. None where there is no such M."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.coeff:g})"


class L2(FactorTerm):
    """coeff * (sum U^2 / n_users + sum V^2 / n_items): the mean squared norm of a user's factors and of an item's."""

    name = "l2"

    def value(self, u: Tensor, v: Tensor) -> Tensor:
        return u.square().sum() / len(u) + v.square().sum() / len(v)

    def user_form(self, v: Tensor) -> Tensor:
        return self.coeff * torch.eye(v.shape[1], dtype=v.dtype, device=v.device)


class Gravity(FactorTerm):
    """coeff / (n_users n_items) * sum over all pairs (u . v)^2: pulls every pair's product, rated or not, towards 0.

    It equals coeff / (n_users n_items) * sum((U'U) * (V'V)), elementwise: two n_factors x n_factors Gram matrices and
    never the n_users x n_items scores (Bayer et al. 2017, "A generic coordinate descent framework for learning from
    implicit feedback"; Krichene et al. 2018, "Efficient training on very large corpora via Gramian estimation")."""

    name = "gravity"

    def value(self, u: Tensor, v: Tensor) -> Tensor:
        return ((u.T @ u / len(u)) * (v.T @ v / len(v))).sum()

    def user_form(self, v: Tensor) -> Tensor:
        return self.coeff * (v.T @ v) / len(v)
