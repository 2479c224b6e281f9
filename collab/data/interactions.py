"""Interactions: the one form in which rated pairs travel between the rooms."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Interactions(NamedTuple):
    """n rated pairs as rows: `users` and `items` int64 (n,), `ratings` float32 (n,), and how many rows each side has,
    row 0, the unknown one, included."""

    users: Tensor
    items: Tensor
    ratings: Tensor
    n_users: int
    n_items: int
