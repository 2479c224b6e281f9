"""SolvedModel: what a model has that is solved, not trained step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class SolvedModel(nn.Module, ABC):
    """A model whose weights are the solution of equations. `ClosedFormLearner` fits any of them:

    `prepare(users, items, ratings)` checks and arranges the training rows, once a fit; `sweep(prepared)` solves and
    puts the new weights in at its end, so that an interrupted sweep leaves those from before; `loss(prepared)` is the
    objective, summed over all terms. Rows are int64, 0 being the unknown one, ratings float32, each of shape (n,)."""

    config: dict[str, Any]
    n_sweeps = 1
    """Sweeps of a fit that is not told how many; a model of 1 is solved exactly by the first."""
    predicts_ratings = False
    """Whether scores are on the scale of the ratings; otherwise they only rank."""

    @abstractmethod
    def prepare(self, users: Tensor, items: Tensor, ratings: Tensor) -> Any: ...

    @abstractmethod
    def sweep(self, prepared: Any) -> None: ...

    @abstractmethod
    def loss(self, prepared: Any) -> float: ...

    @abstractmethod
    def score_history(self, items: Tensor, ratings: Tensor) -> Tensor:
        """The scores of all items, shape (n_items,), for somebody new who rated `items`: nothing is solved again."""

    def remember(self, users: Tensor, items: Tensor, ratings: Tensor, n_users: int) -> None:
        """Keep the histories, in a model that scores from them. They are not part of the state dict."""


def check_rows(users: Tensor, items: Tensor, ratings: Tensor, n_users: int, n_items: int) -> None:
    """Raises ValueError for rows and ratings that nothing can be solved from."""
    if not users.shape == items.shape == ratings.shape or users.dim() != 1:
        raise ValueError(f"users, items and ratings must have one shape (n,), got {tuple(users.shape)}, "
                         f"{tuple(items.shape)} and {tuple(ratings.shape)}")
    if not len(users):
        raise ValueError("there are no ratings to solve from")
    for name, rows, n in (("users", users, n_users), ("items", items, n_items)):
        if (outside := (rows < 1) | (rows >= n)).any():
            raise ValueError(f"{name} must be rows from 1 to {n - 1} (0 stands for unknown ones), got "
                             f"{rows[outside][0].item()}; build the model with n_{name}={int(rows.max()) + 1} or more"
                             if rows[outside][0] >= n else
                             f"{name} must be rows from 1 to {n - 1}, got {rows[outside][0].item()}; row 0 stands for "
                             "unknown ones, which have no ratings")
    if not torch.isfinite(ratings).all():
        raise ValueError(f"{int((~torch.isfinite(ratings)).sum())} of {len(ratings)} ratings are not finite numbers")
