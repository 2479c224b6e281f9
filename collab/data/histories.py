"""Histories: what each user rated, as rows of varying length."""

from __future__ import annotations

from torch import Tensor

from ..ragged import Ragged


class Histories(Ragged):
    """The rated items of every user, rows in, rows out, in the order in which they were given: a `Ragged` with a row
    per user, whose columns are items and whose values are ratings."""

    @property
    def users(self) -> Tensor:
        """The user row of each rating, int64 (n,), ascending."""
        return self.rows

    @property
    def items(self) -> Tensor:
        """The item row of each rating, int64 (n,)."""
        return self.columns

    @property
    def ratings(self) -> Tensor:
        """The ratings, float32 (n,)."""
        return self.values
