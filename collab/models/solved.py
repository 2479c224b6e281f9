"""SolvedModel: the interface of models that are solved, not trained step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from .base import CollabModel


class SolvedModel(CollabModel, ABC):
    """A model whose weights solve equations. A learner fits it in sweeps:

    `prepare(users, items, ratings)` checks and arranges the training rows, once per fit; `sweep(prepared)` solves and
    replaces the weights at its end, so that an interrupted sweep leaves the old ones; `loss(prepared)` is the
    objective, summed over all terms, which a sweep may return instead where it costs nothing there;
    `finish(prepared)` completes what is read in predictions alone. Rows are int64, 0
    being the unknown one, ratings float32, each of shape (n,)."""

    solved = True
    ranks = True
    default_loss = "preference"
    n_sweeps = 1

    @abstractmethod
    def prepare(self, users: Tensor, items: Tensor, ratings: Tensor) -> Any: ...

    @abstractmethod
    def sweep(self, prepared: Any) -> float | None: ...

    @abstractmethod
    def loss(self, prepared: Any) -> float: ...

    @property
    def scores_finished(self) -> bool:
        """Whether scores read what `finish` completes."""
        return False

    def finish(self, prepared: Any) -> None:
        """Complete what no sweep reads: after the last sweep of a fit, before each validation where scores read it, and
        as a fit ends, but for errors and Ctrl-C."""


def check_rows(users: Tensor, items: Tensor, ratings: Tensor, n_users: int, n_items: int) -> None:
    """Raise ValueError for rows and ratings from which nothing can be solved."""
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
