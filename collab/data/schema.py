"""The roles of columns, and the checks that a table can be trained on: errors about a table are raised here."""

from __future__ import annotations

import datetime
import difflib
import numbers
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError, listed, quoted
from .frames import COPIES, without_categories
from .problems import Found, Problem, stop
from .units import has_unit

TIME_NAMES = ("time", "timestamp", "date", "datetime")
MAX_RATING = float(np.finfo(np.float32).max)    # models compute in float32
TIMES_ABOVE = 1e8                               # seconds since 1970, up to 1973: no rating is so large
DECIMAL_COMMA = re.compile(r"\s*[-+]?(\d+|\d{1,3}(\.\d{3})+),\d+\s*")
MAX_EXACT = 2**53                               # from here on, floats do not tell whole numbers apart
DATETIMES = ("datetime", "datetime with a zone")    # two kinds: one without a zone equals none with a zone
MEND = "correct these lines, or leave them out with bad_rows='drop'"
LEAVE_OUT = "correct or drop these rows, or leave them out with bad_rows='drop'"
TRUTH = {"true": 1.0, "false": 0.0}

NAMES = {
    "user": ("user", "userid", "users", "uid", "customer", "customerid", "reader", "readerid", "viewer"),
    "item": ("item", "itemid", "items", "movie", "movieid", "film", "filmid", "book", "bookid", "product", "productid"),
    "rating": ("rating", "ratings", "score", "stars"),
}


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
        """Find the columns: a name of None stands for column 0 (user), 1 (item) or 2 (rating); the time is optional and
        found by its name (time, timestamp, date, datetime).

        Raises DataError for too few columns, a name that is not there, a column in two roles, or repeated column
        names."""
        columns = list(df.columns)
        check_column_names(df)
        given = (user, item, rating)
        for role, name in zip(NAMES, given):
            if name is not None:
                _check_there(name, role, columns)
        if len(columns) < 3:
            raise DataError(f"a table of ratings needs three columns (user, item, rating), this one has "
                            f"{len(columns)}: {listed(columns)}; a table of what was chosen, without ratings, is "
                            "read with "
                            "implicit=True")
        user, item, rating = (columns[i] if name is None else name for i, name in enumerate(given))
        for role, name, chosen_by_hand in zip(NAMES, (user, item, rating), given):
            if chosen_by_hand is None and (looks_like := _other_role(name, role)):
                raise DataError(f"column {quoted(name)} would be the {role}, because of its place, but it looks like "
                                f"{looks_like}. The columns are {listed(columns)}; say which is which with "
                                "user_name=..., "
                                "item_name=..., rating_name=...")
        if time is None:
            time = next((c for c in columns if str(c).lower() in TIME_NAMES and c not in (user, item, rating)), None)
        chosen = cls(user, item, rating, time)
        for role, name in chosen.roles().items():
            _check_there(name, role, columns)
        used = list(chosen.roles().values())
        if len(set(used)) < len(used):
            raise DataError(f"one column cannot play two roles: {chosen.roles()}; "
                            "say which is which with user_name=, item_name=, rating_name=")
        return chosen

    def of_further(self, df: pd.DataFrame) -> Schema:
        """The columns of a further table: those of this schema or, where it lacks them, user, item and rating."""
        columns, named = set(getattr(df, "columns", ())), (self.user, self.item, self.rating)
        if not set(named) <= columns and {"user", "item", "rating"} <= columns:
            named = ("user", "item", "rating")
        return Schema.of(df, *named, self.time if self.time in columns else None)

    def roles(self) -> dict[str, Hashable]:
        """Role -> column name, in the order user, item, rating(, time)."""
        found = {"user": self.user, "item": self.item, "rating": self.rating, "time": self.time}
        return {role: name for role, name in found.items() if name is not None}


def _other_role(name: Hashable, role: str) -> str:
    """The role that a column has by its name, if it is another than `role`; "" if the name does not tell."""
    plain = str(name).lower().replace("_", "").replace(" ", "")
    if plain.startswith("unnamed:") or plain == "index":
        return "the index of a table"
    if plain in TIME_NAMES:
        return "the time"
    return next((f"the {other}" for other, names in NAMES.items() if other != role and plain in names), "")


def check_column_names(df: pd.DataFrame) -> None:
    """Raises DataError where two columns have one name."""
    if df.columns.has_duplicates:
        name = df.columns[df.columns.duplicated()][0]
        raise DataError(f"the column name {quoted(name)} occurs {list(df.columns).count(name)} times; rename all but "
                        "one")


def _check_there(name: Hashable, role: str, columns: list) -> None:
    if name not in columns:
        raise DataError(f"there is no column {quoted(name)} for the {role}{_did_you_mean(name, columns)} "
                        f"The columns are {listed(columns)}; say which it is with {role}_name=...")


def _did_you_mean(name: Hashable, columns: list) -> str:
    known = {str(c).lower(): c for c in columns}
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f"; did you mean {quoted(known[near[0]])}?" if near else "."


# The table --------------------------------------------------------------------------------------------------------

def rating_table(df: pd.DataFrame, schema: Schema, found: Found = stop) -> pd.DataFrame:
    """Check the ratings: a new table with the columns user, item, rating (float64) and perhaps time, then the other
    columns of `df`; rows in the order of `df`, indexed from 0.

    Raises DataError for anything that would make training meaningless. With another `found`, each such `Problem` goes
    there, ids that cannot be used are as they were, and ratings are missing."""
    if not len(df):
        raise DataError(f"the table is empty: it has the columns {listed(df.columns)} and no row")
    df, names = df.reset_index(drop=True), schema.roles().values()
    columns = {"user": check_ids(df[schema.user], found), "item": check_ids(df[schema.item], found),
               "rating": _check_no_times(check_ratings(df[schema.rating], found), found)}
    if schema.time is not None:
        columns["time"] = df[schema.time]
    columns |= {name: df[name] for name in df.columns if name not in names and name not in columns}
    return pd.DataFrame(columns, copy=COPIES)


def check_both_sides(table: pd.DataFrame, schema: Schema, found: Found = stop) -> None:
    """Raises DataError where there are no training ratings, or all are of one user or of one item."""
    if not len(table):
        raise DataError("nothing is left to train on: the rows that the split puts there are left out by the threshold")
    ends = [(table[role].iloc[0], table[role].iloc[-1]) for role in ("user", "item")]
    check_both([2 if first != last else table[role].nunique() for role, (first, last) in zip(("user", "item"), ends)],
               [first for first, _ in ends], len(table), schema, found)


def check_both(distinct: Sequence[int], ids: Sequence[Hashable], n: int, schema: Schema, found: Found = stop) -> None:
    """Raises DataError where n ratings to train on have one `distinct` user or item alone, which is in `ids`."""
    for role, several, id in zip(("user", "item"), distinct, ids):
        if several == 1:
            name = schema.roles()[role]
            found(Problem(f"column {quoted(name)}", f"all {n:,} ratings to train on have the same {role}, {show(id)}",
                          "collaborative filtering needs at least two. If the columns are in another order, say so "
                          f"with {role}_name=...", name))


# Ids --------------------------------------------------------------------------------------------------------------

def check_ids(ids: pd.Series, found: Found = stop) -> pd.Series:
    """The ids, all of one kind (see `id_kind`), with their dtype. Raises DataError for missing, mixed or unhashable
    ids, and for text that cannot be written to a file."""
    ids = without_categories(ids)
    if id_kind(ids, f"column {quoted(ids.name)}", found) == "string":
        check_text(ids, f"column {quoted(ids.name)}", found)
    return ids


def check_text(column: pd.Series, where: str, found: Found = stop) -> None:
    """Raises DataError for strings with half a character (a lone surrogate), which can be neither printed nor
    written."""
    if getattr(column.dtype, "storage", None) == "pyarrow":
        return                      # which holds UTF-8 alone
    try:
        "".join(column.dropna().unique()).encode()
    except UnicodeEncodeError as error:
        half = str(error.object[error.start])
        bad = np.array([isinstance(value, str) and half in value for value in column])
        found(_problem(where, column, bad, f"{int(bad.sum()):,} of {len(column):,} values hold half a character",
                       "no file can hold it: read them again in their own encoding, without "
                       "errors='surrogateescape'"))


# pandas' name for the values of a column -> the kind of ids; other columns are checked value by value.
_KINDS = {"integer": "number", "floating": "number", "mixed-integer-float": "number", "decimal": "number",
          "string": "string", "boolean": "boolean", "empty": "empty"}


def id_kind(ids: pd.Series | pd.Index, where: str, found: Found = stop) -> str:
    """The kind of the ids: "number", "string", "boolean", "datetime", "datetime with a zone", or the name of a Python
    type (such as "tuple" or "date").

    Raises DataError where ids are missing, where kinds are mixed, since 5 and "5" are different ids, or where ids
    cannot be hashed. With another `found`, the kind is that of most ids that are there."""
    every, missing = ids, np.asarray(ids.isna())
    if n := int(missing.sum()):
        found(_problem(where, every, missing, f"{n:,} of {len(ids):,} ids are missing",
                       LEAVE_OUT, in_file=MEND))
        ids = ids[~missing]
    places = np.flatnonzero(~missing)
    inferred = pd.api.types.infer_dtype(ids, skipna=False)
    if inferred in ("floating", "mixed-integer-float"):
        large = places[np.abs(ids.to_numpy(dtype=np.float64)) >= MAX_EXACT]
        if len(large):      # long integers in a column that had a gap, which were rounded to each other
            found(_problem(where, every, large, f"{len(large):,} of {len(every):,} ids are floats of 2**53 or more",
                           "they cannot be told from their neighbours: read the column as integers (dtype 'Int64') or "
                           "as text"))
    if inferred in _KINDS:
        return _KINDS[inferred]
    if ids.dtype.kind == "M":
        return DATETIMES[isinstance(ids.dtype, pd.DatetimeTZDtype)]
    groups: dict[str, list[int]] = {}
    for k, value in enumerate(ids):
        groups.setdefault(_kind_of(value), []).append(k)
    kind, *others = sorted(groups, key=lambda name: -len(groups[name]))
    if others:
        said = "".join(f"{len(groups[k]):,} of kind {k} (such as {show(_at(ids, groups[k][0]))}), "
                       for k in (kind, *others[:-1]))
        found(_problem(where, every, places[np.concatenate([groups[k] for k in reversed(others)])],
                       f"ids of several kinds: {said}{len(groups[others[-1]]):,} of kind {others[-1]}",
                       "5 and '5' are different ids: make them all one kind, for example text with .astype(str)"))
    for name, own in groups.items():
        if bad := [k for k in own if not _is_hashable(_at(ids, k))]:
            found(_problem(where, every, places[bad], f"ids of kind {name} cannot be looked up",
                           "use numbers, strings or tuples of these"))
    return kind


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _at(values: pd.Series | pd.Index, place: int) -> object:
    return values.iloc[place] if isinstance(values, pd.Series) else values[place]


def _problem(where: str, values: pd.Series | pd.Index, rows: np.ndarray, what: str, remedy: str,
             **more: Any) -> Problem:
    """A problem of these rows, a mask or positions, of a column."""
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    first = _at(values, int(rows[0]))
    gap = first is None or (isinstance(first, (float, type(pd.NA), type(pd.NaT))) and bool(pd.isna(first)))
    return Problem(where, what, remedy, values.name, rows, None if gap else show(first), **more)


def _kind_of(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (int, float, np.number)):
        return "number"
    if isinstance(value, (datetime.datetime, np.datetime64)):
        return DATETIMES[getattr(value, "tzinfo", None) is not None]
    return "string" if isinstance(value, str) else type(value).__name__


# Ratings ----------------------------------------------------------------------------------------------------------

def check_ratings(ratings: pd.Series, found: Found = stop) -> pd.Series:
    """The ratings as float64; booleans are 1 and 0, and so are the words True and False where a column has no others.
    Raises DataError for values that are not numbers (text, even of digits; times; complex numbers), and for missing and
    infinite ones. With another `found`, such ratings are missing in what is returned."""
    ratings = without_categories(ratings)
    name, n, where = ratings.name, len(ratings), f"column {quoted(ratings.name)}"
    if ratings.dtype.kind not in "iufb" and is_truth(ratings):
        ratings = ratings.map(lambda value: TRUTH.get(str(value).casefold(), np.nan)).astype("float64")
    odd = np.zeros(n, dtype=bool)
    if ratings.dtype.kind not in "iufb":
        odd = np.array([not _is_number(r) for r in ratings], dtype=bool) & ratings.notna().to_numpy()
    if odd.any():
        found(_not_numbers(where, ratings, odd))
        ratings = ratings.astype(object).where(~odd, pd.to_numeric(ratings.where(odd), errors="coerce"))
    if not isinstance(ratings.dtype, np.dtype) or ratings.dtype.kind not in "iufb":
        ratings = ratings.astype("Float64")
    values = ratings.to_numpy(dtype=np.float64, na_value=np.nan)
    if (missing := np.isnan(values) & ~odd).any():
        found(Problem(where, f"{missing.sum():,} of {n:,} ratings are missing",
                      LEAVE_OUT, name, np.flatnonzero(missing), in_file=MEND))
    if n and not odd.all() and max(np.nanmax(values, initial=-1), -np.nanmin(values, initial=1)) > MAX_RATING:
        infinite = np.flatnonzero(np.abs(values) > MAX_RATING)
        found(Problem(where, f"{len(infinite):,} of {n:,} ratings are infinite, or beyond float32",
                      "correct or drop them", name, infinite, str(values[infinite[0]]), in_file=MEND))
        values = np.where(np.abs(values) > MAX_RATING, np.nan, values)
    return ratings if ratings.dtype == np.float64 else pd.Series(values, index=ratings.index, name=name, copy=False)


def _not_numbers(where: str, ratings: pd.Series, odd: np.ndarray) -> Problem:
    """The problem of ratings that are not numbers, with the remedy that fits them."""
    digits = np.array([isinstance(r, str) and _reads_as_number(r) for r in ratings[odd]])
    if not digits.all():
        odd = odd.copy()
        odd[odd] = ~digits          # where a word stands among numbers written as text, report the word
    name, count = ratings.name, int(odd.sum())
    commas = np.array([DECIMAL_COMMA.fullmatch(str(rating)) is not None for rating in ratings]) & odd
    if digits.all():
        remedy = f"they are written as text: convert them with pd.to_numeric(df[{quoted(name)}])"
    elif n := int(commas.sum()):
        remedy = (f"{'they' if n == count else f'{n:,} of them'} have a decimal comma: read the file with decimal=',', "
                  f"or convert all with pd.to_numeric(df[{quoted(name)}].astype(str).str.replace(',', '.'), "
                  "errors='coerce'), and drop what is missing then")
    elif (n := sum(map(has_unit, ratings[odd]))) > count / 2:
        remedy = (f"{'they' if n == count else f'{n:,} of them'} are numbers with a unit: write the numbers alone, or "
                  "say which column holds the ratings with rating_name=...")
    elif count == int(ratings.notna().sum()):
        remedy = "say which column holds the ratings with rating_name=..."
    else:
        remedy = "correct or drop them, or say which column holds the ratings with rating_name=..."
    some = bool(commas.any())
    return _problem(where, ratings, odd, f"ratings must be numbers, but {count:,} of {len(ratings):,} are not", remedy,
                    options={"decimal": ","} if some else {},
                    in_file="read decimal commas with decimal=','" if some else remedy if not digits.all() and
                    count == int(ratings.notna().sum()) else
                    f"{MEND}, or say which column holds the ratings with rating_name=...")


def is_truth(column: pd.Series) -> bool:
    """Whether a column holds only booleans, or the words True and False in any case."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return True
    known = column.dropna()
    if not len(known) or column.dtype.kind in "iufcmM" or not _is_truth(known.iloc[0]):
        return False
    return all(map(_is_truth, known.unique()))


def _is_truth(value: object) -> bool:
    return isinstance(value, (bool, np.bool_)) or (isinstance(value, str) and value.casefold() in TRUTH)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_no_times(ratings: pd.Series, found: Found) -> pd.Series:
    if like_times(ratings):
        found(Problem(f"column {quoted(ratings.name)}", f"its ratings, such as {ratings.dropna().iloc[0]:.16g}, look "
                                                        "like "
                      "times (seconds since 1970)", "say which column holds the times with time_name=... and which the "
                      "ratings with rating_name=...; a table without ratings is read with implicit=True",
                      ratings.name))
    return ratings


def like_times(column: pd.Series) -> bool:
    """Whether most of its values are numbers too large for anything but times."""
    return (column.dtype.kind in "iuf" and bool(column.notna().any()) and bool(column.max() > TIMES_ABOVE)
            and bool(column.median() > TIMES_ABOVE))


def _is_number(value: object) -> bool:
    return isinstance(value, (numbers.Real, Decimal, np.bool_))


# Small things -----------------------------------------------------------------------------------------------------

def show(value: object) -> str:
    """A value as a person would type it, cut where it is long; numpy's values as Python's."""
    if isinstance(value, datetime.date):         # and so a datetime, and a Timestamp
        return str(value).removesuffix(" 00:00:00")
    return quoted(value.item() if isinstance(value, np.generic) else value)


def _first(mask: np.ndarray) -> int:
    return int(np.argmax(mask))
