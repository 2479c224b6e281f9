"""RatingSet: a named set of ratings with the metadata of its items and users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .explore import cross_table, describe, genre_counts, item_table, top_items, user_table


@dataclass(frozen=True, eq=False)
class Truth:
    """The parts of a synthetic rating, before noise: `mean + u_bias[u] + i_bias[i] + u_factors[u] @ i_factors[i]`.

    Row 0 belongs to the smallest id, row 1 to the next, and so on."""

    u_factors: np.ndarray  # n_users x n_factors
    i_factors: np.ndarray  # n_items x n_factors
    u_bias: np.ndarray     # n_users, in units of the rating
    i_bias: np.ndarray     # n_items, in units of the rating
    mean: float


@dataclass(frozen=True, eq=False)  # tables have no single truth value, so two sets are never compared with ==
class RatingSet:
    """Ratings with raw ids, in the order of their source.

    ratings: user, item, rating (float64) and, where known, time (int64, unix seconds)
    items:   item, title, year (Int64, may be missing), genres (joined by "|", "" where none is known)
    users:   user, and where known age, gender, occupation, zip
    licence: the terms of use
    truth:   the parts of the ratings, for synthetic ones only"""

    ratings: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame
    name: str
    licence: str
    truth: Truth | None = None

    describe = describe
    user_table = user_table
    item_table = item_table
    top_items = top_items
    genre_counts = genre_counts
    cross_table = cross_table

    def __repr__(self) -> str:
        if not len(self.ratings):
            return f"{self.name}: no ratings"
        n_users, n_items = self.ratings["user"].nunique(), self.ratings["item"].nunique()
        low, high = self.ratings["rating"].min(), self.ratings["rating"].max()
        return f"{self.name}: {len(self.ratings):,} ratings, {n_users:,} users, {n_items:,} items, {low:g} to {high:g}"
