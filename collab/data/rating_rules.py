"""What a new user rated, checked and as rows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import DataError
from .catalogue import Catalogue
from .new_user import one_person
from .schema import Schema, check_ratings, show

FEW_LEVELS = 20         # ratings with more levels than this have no step
MAX_STRENGTH = 1e6      # of a choice; what is counted is less, and equations in float32 hold no more

Rated = Mapping[Hashable, float] | pd.Series | pd.DataFrame | list | set
"""What a new user rated: {item: rating}, a Series of ratings indexed by item, or a table with columns item and rating.
For implicit data also what they chose: a list or set of items, or a table with the column item."""


class RatingRules(NamedTuple):
    """What the training ratings say of further ones: the names of their columns, whether they are implicit, above what
    they count as choices, their scale, and its step (see `step_of`): 0 where it has none, None if it is not known."""

    schema: Schema
    implicit: bool = False
    threshold: float | None = None
    scale: tuple[float, float] | None = None
    step: float | None = None

    def rows(self, ratings: Rated, catalogue: Catalogue, unknown: str = "average") -> tuple[Tensor, Tensor, Tensor]:
        """(item rows, ratings float32, whether each counts) of what a new user rated. Unknown items are left out with a
        warning; they raise UnknownId with unknown="error", or where there are no others. Raises DataError for no
        ratings, several users, an item that is rated twice, and ratings that are not numbers or lie outside the scale;
        in implicit data for strengths below 0, or above MAX_STRENGTH. A strength of 0 does not count, and an item that
        comes twice is one with the sum, at its last place."""
        items, values, chosen = one_person(ratings, self.schema, implicit=self.implicit, threshold=self.threshold)
        if not len(items):
            raise DataError("there are no ratings to fold in; without any, recommend to an unknown user id")
        values, rows = check_ratings(values.rename("rating")), catalogue.known(items, "that are rated", unknown)
        items, values, chosen, rows = items[rows > 0], values[rows > 0], chosen[rows > 0], rows[rows > 0]
        if self.implicit:
            chosen = chosen & _strengths(items, values)
        if not chosen.any():
            raise DataError("none of the items that are known here was chosen")
        if self.implicit and len(rows) > len(np.unique(rows)):      # added up at the last place, as in training
            last = ~pd.Series(rows).duplicated(keep="last").to_numpy()
            total = values.groupby(rows).transform("sum").astype(values.dtype)
            chosen = pd.Series(chosen).groupby(rows).transform("any").to_numpy()
            items, values, chosen, rows = items[last], total[last], chosen[last], rows[last]
        if (again := pd.Series(rows).duplicated().to_numpy()).any():
            raise DataError(f"item {show(items.iloc[int(np.argmax(again))])} is rated more than once")
        return torch.from_numpy(rows), on_scale(self.scale, items, values), torch.from_numpy(chosen)


def step_of(low: float, levels: Tensor) -> float:
    """The step of a scale from `low` on, on which ratings take these levels: their least difference, where they are at
    most FEW_LEVELS and lie on its steps, otherwise 0."""
    if not 2 <= len(levels) <= FEW_LEVELS:
        return 0.0
    values = levels.cpu().double().sort().values.numpy()
    least = float(np.diff(values).min())
    steps = (values - low) / least
    return round(least, 6) if np.allclose(steps, np.round(steps), atol=1e-3) else 0.0


def _strengths(items: pd.Series, values: pd.Series) -> np.ndarray:
    """Which strengths of choices count: those above 0, in float32."""
    strengths = values.to_numpy(dtype=float)
    if (odd := (strengths < 0) | (strengths > MAX_STRENGTH)).any():
        first = int(np.argmax(odd))
        raise DataError(f"a choice has a strength from 0 to {MAX_STRENGTH:g}, got {strengths[first]:g} for item "
                        f"{show(items.iloc[first])}; leave out what was not chosen")
    return strengths.astype(np.float32) > 0


def on_scale(scale: tuple[float, float] | None, items: pd.Series, values: pd.Series) -> Tensor:
    """The ratings as float32. Raises DataError for one outside the scale of the training ratings."""
    given = values.to_numpy(dtype=np.float32)       # like those of the scale
    if scale is not None and (outside := (given < scale[0]) | (given > scale[1])).any():
        first = int(np.argmax(outside))
        raise DataError(f"{int(outside.sum()):,} of {len(values):,} ratings lie outside the scale of "
                        f"{scale[0]:g} to {scale[1]:g}, such as {values.iloc[first]:g} of item "
                        f"{show(items.iloc[first])}")
    return torch.tensor(given)
