"""What one person rated or chose: a table, a file, or of implicit data a list of ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from .files import read_table
from .implicit import names_strength
from .schema import Schema, like_times, show

LISTED = list, tuple, set, frozenset, np.ndarray, pd.Index


def check_one_person(table: pd.DataFrame, schema: Schema) -> None:
    """Raises DataError for a table with a column of users, of whom there are several."""
    name = _named(table, schema.user, "user")
    if name is None or len(users := table[name].drop_duplicates()) < 2:
        return
    raise DataError(f"the ratings of somebody new: column {name!r} holds {len(users):,} users (such as "
                    f"{show(users.iloc[0])} and {show(users.iloc[1])}): add_ratings takes several, or pass one "
                    "person's rows")


def one_person(ratings: Any, schema: Schema, implicit: bool) -> tuple[pd.Series, pd.Series]:
    """(item ids, ratings), in one order. Of implicit data without ratings, each weighs 1.

    Raises DataError where there are several users, or no items and ratings."""
    if implicit and isinstance(ratings, LISTED):
        ratings = dict.fromkeys(ratings, 1.0)
    if isinstance(ratings, pd.DataFrame):
        check_one_person(ratings, schema)
        item, rating = _named(ratings, schema.item, "item"), _named(ratings, schema.rating, "rating")
        if implicit and item is not None and (rating is None or like_times(ratings[rating])):
            return ratings[item].reset_index(drop=True), pd.Series(1.0, range(len(ratings)))
        if item is None or rating is None:
            raise DataError(f"there is no column {'item' if item is None else 'rating'!r} in the ratings; the columns "
                            f"are {[*ratings.columns]}, and item and rating are needed")
        return ratings[item].reset_index(drop=True), ratings[rating].reset_index(drop=True)
    if isinstance(ratings, pd.Series):
        return pd.Series(pd.Index(list(ratings.index), tupleize_cols=False)), pd.Series(list(ratings))
    if isinstance(ratings, Mapping):
        return pd.Series(pd.Index(list(ratings), tupleize_cols=False)), pd.Series(list(ratings.values()))
    raise DataError("ratings are {item: rating}, a Series indexed by item or a table with columns item and rating, "
                    f"{'or a list of items, ' if implicit else ''}got {type(ratings).__name__}")


def rated_file(data: Any, file: Path, **reading: Any) -> pd.DataFrame:
    """The columns item, as ids, and rating of a file about one person: those of these names or of the training ratings,
    or else the first two. Of implicit data the ratings may be missing. `reading` are options of `read_table`.

    Raises DataError where there are several users, or too few columns; UnknownId for an item."""
    raw, schema = read_table(file, **reading), data.schema
    if len(raw.columns) == 1 and data.implicit:
        raw = raw.set_axis(["item"], axis=1)
    elif [*raw.columns] == ["user", "item"] and len(
            read_table(file, **{**reading, "header": False})) == len(raw):
        raw = raw.set_axis(["item", "rating"], axis=1)      # it has no names: these stand for the first two of ratings
    check_one_person(raw, schema)
    user, item, rating = (_named(raw, getattr(schema, role), role) for role in ("user", "item", "rating"))
    if data.implicit and item is not None:
        rating = rating or next((name for name in raw if name not in (user, item) and names_strength(raw[name])), None)
        raw, rating = (raw.assign(rating=1.0), "rating") if rating is None or like_times(raw[rating]) else (raw, rating)
    if item is None or rating is None:
        names = [name for name in raw if name != user][:2]
        if len(names) < 2:
            raise DataError(f"{file} needs two columns, item and rating; it has {[*raw.columns]}")
        item, rating = names
    rated = raw[[item, rating]].set_axis(["item", "rating"], axis=1)
    ids: list[Any] = [data.find_item(str(item)) for item in rated["item"]]
    return rated.assign(item=ids)


def _named(table: pd.DataFrame, *names: Any) -> Any:
    """The first of these columns that the table has, or None."""
    return next((name for name in names if name in table), None)
