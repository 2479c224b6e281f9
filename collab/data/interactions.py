"""Interactions: the one form in which rated pairs travel between the rooms."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Interactions(NamedTuple):
    """n rated pairs as rows: `users` and `items` int64 (n,), `ratings` float32 (n,), and how many rows each side has,
    row 0, the unknown one, included."""

    users: Tensor
    items: Tensor
    ratings: Tensor
    n_users: int
    n_items: int

    @classmethod
    def of(cls, pairs: tuple[Tensor, ...] | None, n_users: int, n_items: int) -> Interactions:
        """Interactions as they are, those of (user rows, item rows) with ratings of 1, or none at all."""
        if isinstance(pairs, cls):
            return pairs
        users, items = (torch.zeros(2, 0, dtype=torch.int64) if pairs is None else pairs)[:2]
        return cls(users, items, torch.ones(len(users)), n_users, n_items)
