"""Which column is what, and whether the table can be trained on: everything wrong with it is said here."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd

TIME_NAMES = ("time", "timestamp", "date", "datetime")
DUPLICATES = ("keep", "mean", "error")


class DataError(ValueError):
    """The input cannot be used: the message names the column, the value and the remedy."""


@dataclass(frozen=True)
class Schema:
    """The names of the columns that hold the user, the item, the rating and (where there is one) the time."""

    user: Hashable
    item: Hashable
    rating: Hashable
    time: Hashable | None = None

    @classmethod
    def of(cls, df: pd.DataFrame, user: Hashable | None = None, item: Hashable | None = None,
           rating: Hashable | None = None, time: Hashable | None = None) -> Schema:
        """Find the columns: a name that is None stands for column 0 (user), 1 (item) or 2 (rating);
        the time is optional and found by its name (time, timestamp, date, datetime).

        Raises DataError for something that is no DataFrame, too few columns, or a name that is not there."""
        if not isinstance(df, pd.DataFrame):
            raise DataError(f"expected a pandas DataFrame of ratings, got {type(df).__name__}; "
                            "for a file use CollabDataBunch.from_csv(path)")
        columns = list(df.columns)
        if len(columns) < 3:
            raise DataError(f"a table of ratings needs three columns (user, item, rating), this one has "
                            f"{len(columns)}: {columns}")
        if time is None:
            time = next((c for c in columns[3:] if str(c).lower() in TIME_NAMES), None)
        chosen = cls(*(columns[i] if name is None else name for i, name in enumerate((user, item, rating))), time=time)
        for role, name in chosen.roles().items():
            if name not in columns:
                near = difflib.get_close_matches(str(name), [str(c) for c in columns], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise DataError(f"there is no column {name!r} for the {role}{hint} The columns are {columns}; "
                                f"say which it is with {role}_name=...")
            if columns.count(name) > 1:
                raise DataError(f"the column name {name!r} occurs {columns.count(name)} times; rename all but one")
        used = list(chosen.roles().values())
        if len(set(used)) < len(used):
            raise DataError(f"one column cannot play two roles: {chosen.roles()}; "
                            "say which is which with user_name=, item_name=, rating_name=")
        return chosen

    def roles(self) -> dict[str, Hashable]:
        """Role -> column name, in the order user, item, rating(, time)."""
        found = {"user": self.user, "item": self.item, "rating": self.rating, "time": self.time}
        return {role: name for role, name in found.items() if name is not None}


def rating_table(df: pd.DataFrame, schema: Schema, duplicates: str = "keep") -> pd.DataFrame:
    """The checked ratings: columns user, item, rating (float64) and perhaps time, then every other column of `df`;
    rows in the order of `df`, indexed from 0.

    `duplicates` says what happens to a (user, item) pair that occurs more than once: "keep" every row,
    "mean" (one row, at the place of the first, with the average rating), or "error". The first two warn.
    Raises DataError for anything that would make training meaningless."""
    if duplicates not in DUPLICATES:
        raise DataError(f"duplicates={duplicates!r} is not one of {DUPLICATES}")
    if not len(df):
        raise DataError(f"the table is empty: it has the columns {list(df.columns)} and no row")
    names = schema.roles()
    table = pd.DataFrame({"user": check_ids(df[schema.user], "user"), "item": check_ids(df[schema.item], "item"),
                          "rating": check_ratings(df[schema.rating])})
    if schema.time is not None:
        table["time"] = df[schema.time].to_numpy() if df[schema.time].dtype == object else df[schema.time].array
    for name in df.columns:
        if name not in names.values() and name not in table:
            table[name] = df[name].array
    for role in ("user", "item"):
        if table[role].iloc[0] == table[role].iloc[-1] and table[role].nunique() == 1:
            raise DataError(f"column {names[role]!r}: all {len(table):,} ratings have the same {role}, "
                            f"{table[role].iloc[0]!r}; collaborative filtering needs at least two. "
                            f"If the columns are in another order, say so with {role}_name=...")
    return merge_duplicates(table, duplicates)


def merge_duplicates(table: pd.DataFrame, how: str) -> pd.DataFrame:
    """Keep, average or refuse the rows that rate the same pair again (see `rating_table`)."""
    again = table.duplicated(["user", "item"])
    if not (n := int(again.sum())):
        return table
    first = table.loc[again.idxmax(), ["user", "item"]]
    what = f"{n:,} of {len(table):,} rows rate a pair again (first: user {first.user!r}, item {first['item']!r})"
    if how == "error":
        raise DataError(f"{what}; drop them, or choose duplicates='keep' or duplicates='mean'")
    if how == "keep":
        warnings.warn(f"{what}; all rows are kept. duplicates='mean' averages them, 'error' refuses.", stacklevel=5)
        return table
    warnings.warn(f"{what}; each pair now has one row with its average rating.", stacklevel=5)
    mean = table.groupby(["user", "item"], sort=False, observed=True)["rating"].transform("mean")
    return table.assign(rating=mean)[~again].reset_index(drop=True)


def check_ids(ids: pd.Series, role: str) -> pd.api.extensions.ExtensionArray | np.ndarray:
    """The ids as an array of one kind (see `id_kind`). Raises DataError for missing, mixed or unhashable ones."""
    if isinstance(ids.dtype, pd.CategoricalDtype):
        ids = ids.astype(ids.cat.categories.dtype)
    missing = ids.isna()
    if n := int(missing.sum()):
        raise DataError(f"column {ids.name!r}: {n:,} of {len(ids):,} {role} ids are missing "
                        f"(first at row {_first(missing)}); drop them with df.dropna(subset=[{ids.name!r}])")
    id_kind(ids, f"column {ids.name!r}")
    return ids.array if ids.dtype != object else ids.to_numpy()


def id_kind(ids: pd.Series | pd.Index, where: str) -> str:
    """What the ids are: "number", "string", "boolean", "datetime", or the name of a Python type (such as "tuple").

    Raises DataError where kinds are mixed, since 5 and "5" are different ids, or where ids cannot be hashed."""
    inferred = pd.api.types.infer_dtype(ids, skipna=False)
    kinds = {"integer": "number", "floating": "number", "mixed-integer-float": "number", "decimal": "number",
             "string": "string", "boolean": "boolean", "datetime64": "datetime", "datetime": "datetime",
             "date": "date", "empty": "empty"}
    if inferred in kinds:
        return kinds[inferred]
    groups: dict[str, list] = {}
    for value in ids:
        groups.setdefault(_kind_of(value), []).append(value)
    if len(groups) > 1:
        found = ", ".join(f"{len(v):,} of kind {k} (such as {v[0]!r})" for k, v in groups.items())
        raise DataError(f"{where} mixes ids of several kinds: {found}. 5 and '5' are different ids: "
                        "make them all one kind, for example with df[column].astype(str)")
    kind, values = next(iter(groups.items()))
    try:
        hash(values[0])
    except TypeError:
        raise DataError(f"{where} has ids of kind {kind}, which cannot be looked up (such as {values[0]!r}); "
                        "use numbers, strings or tuples") from None
    return kind


def _kind_of(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (int, float, np.number)):
        return "number"
    return "string" if isinstance(value, str) else type(value).__name__


def check_ratings(ratings: pd.Series) -> np.ndarray:
    """The ratings as float64. Raises DataError for text, missing and infinite values."""
    name, n = ratings.name, len(ratings)
    if not pd.api.types.is_numeric_dtype(ratings.dtype) or pd.api.types.is_complex_dtype(ratings.dtype):
        text = pd.to_numeric(ratings, errors="coerce").isna() & ratings.notna() if ratings.dtype.kind in "OTU" or \
            pd.api.types.is_string_dtype(ratings.dtype) else pd.Series(True, index=ratings.index)
        if text.any():
            raise DataError(f"column {name!r}: ratings must be numbers, but {int(text.sum()):,} of {n:,} are not "
                            f"(first at row {_first(text)}: {ratings[text.to_numpy()].iloc[0]!r}); correct or drop "
                            "them, or say which column holds the ratings with rating_name=...")
        if pd.api.types.is_string_dtype(ratings.dropna()) or any(isinstance(r, str) for r in ratings):
            raise DataError(f"column {name!r}: the ratings are numbers written as text (such as "
                            f"{ratings.dropna().iloc[0]!r}); convert them with pd.to_numeric(df[{name!r}])")
    values = ratings.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    for bad, word in ((np.isnan(values), "missing (NaN)"), (np.isinf(values), "infinite")):
        if count := int(bad.sum()):
            raise DataError(f"column {name!r}: {count:,} of {n:,} ratings are {word} (first at row {_first(bad)}); "
                            f"drop them with df[np.isfinite(df[{name!r}])]")
    return values


def _first(mask: pd.Series | np.ndarray) -> int:
    return int(np.argmax(np.asarray(mask)))
