"""Pairs of a user and an item that are rated more than once."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..errors import DataError, warn
from .codes import merged, repeats
from .schema import show

DUPLICATES = ("keep", "mean", "error")


def check_duplicates(how: str) -> None:
    """Raises DataError unless `how` is "keep", "mean" or "error"."""
    if how not in DUPLICATES:
        raise DataError(f"duplicates={how!r} is not one of {DUPLICATES}")


def merge_duplicates(parts: list[pd.DataFrame], how: str) -> list[pd.DataFrame]:
    """Where a (user, item) pair occurs more than once in a part, "keep" every row, or keep one row, at the place of the
    first, with the "mean" rating; both warn. A pair of several parts stays in each, with a warning where it was to be
    averaged: a mean must not take a rating from beyond the split. Raises DataError for "error"."""
    again = [repeats(part) for part in parts]
    if not (n := sum(int(rows.sum()) for rows in again if rows is not None)):
        both = pd.concat(parts, ignore_index=True) if how == "mean" and len(parts) > 1 else None
        if both is not None and (rows := repeats(both)) is not None:
            warn(f"{_again(both, rows, int(rows.sum()), len(both))} beyond the split: it stays on both sides, since an "
                 "average in training must not hold a later rating; a split at random sees each pair once")
        return parts
    part, rows = next((part, rows) for part, rows in zip(parts, again) if rows is not None)
    what = _again(part, rows, n, sum(map(len, parts)))
    if how == "error":
        raise DataError(f"{what}; drop them, or choose duplicates='keep' or duplicates='mean'")
    if how == "keep":
        warn(f"{what}; all rows are kept, and a split may put copies "
             "on both sides, which makes its error look small. duplicates='mean' averages them, 'error' refuses.")
        return parts
    warn(f"{what}; each pair now has one row with its average rating"
         + (" in training, and one in validation." if len(parts) > 1 else "."))
    return [part if rows is None else merged(part, rows, "mean") for part, rows in zip(parts, again)]


def _again(part: pd.DataFrame, rows: np.ndarray, n: int, of: int) -> str:
    """How many rows rate a pair again, and the first of these `rows` of a part."""
    user, item = (show(part[role].iloc[int(rows.argmax())]) for role in ("user", "item"))
    return f"{n:,} of {of:,} rows rate a pair again (first: user {user}, item {item})"
