"""Interactions instead of ratings: columns with or without strengths, a threshold, and repeated pairs added up."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Hashable, Sequence

import pandas as pd

from ..errors import DataError, amount, listed, quoted, they, warn
from .codes import merged, repeats
from .problems import Found, Problem, stop
from .schema import NAMES, TIME_NAMES, Schema, check_column_names, is_truth, like_times

DECIMAL = r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]\d+)?"   # as a number prints: 007 is none
FIRST = 1000            # values that tell text from numbers with a few words among them
WEIGHT = "weight"       # the column of ones that a table without ratings gets
STRENGTHS = (*NAMES["rating"], WEIGHT, "weights", "count", "counts", "plays", "clicks", "strength")
WORDS = {"rating", "ratings", "score", "scores", "star", "stars", "weight", "weights", "count", "counts", "play",
         "plays", "click", "clicks", "view", "views", "purchase", "purchases", "listen", "listens", "quantity",
         "strength", "playcount", "viewcount"}
DEEDS = {"liked", "like", "likes", "clicked", "bought", "purchased", "watched", "viewed", "seen", "read", "played",
         "listened", "favorite", "favourite", "favorited", "chosen", "consumed", "rated", "thumbs", "upvoted"}
OTHER_WORDS = {*TIME_NAMES, "at", "ts", "unixtime", "day", "days", "month", "year", "hour", "minute", "second", "id",
               "ids", "index", "unnamed", "avg", "average", "mean"}


def interaction_schema(df: pd.DataFrame, user: Hashable | None = None, item: Hashable | None = None,
                       rating: Hashable | None = None, time: Hashable | None = None, *,
                       threshold: float | None = None) -> Schema:
    """Like `Schema.of`, but ratings are optional. Without `rating`, the first column beyond user and item is taken
    whose name is that of ratings or weights, or has a word for them ("n_clicks"; for booleans also "liked"); with a
    `threshold`, which is for ratings, else numbers or booleans in third place, as for ratings. Where there is none,
    the schema names a column "weight" that need not exist, and a warning tells of columns that may hold strengths:
    numbers in third place that are not times, booleans, and text of two values such as yes and no. A few words among
    its numbers do not change what a column is."""
    if rating is not None:
        return Schema.of(df, user, item, rating, time)
    check_column_names(df)
    if len(df.columns) < 2:
        raise DataError(f"a table of what was chosen needs two columns (user, item), this one has {len(df.columns)}: "
                        f"{listed(df.columns)}")
    placed = [name for name, given in zip(df.columns, (user, item)) if given is None]
    columns = {name: nearly_numbers(df[name]) for name in df.columns if name not in (user, item, time, *placed)}
    further = [name for name, column in columns.items() if not like_times(column)]
    third = [*df.columns, None][2]
    numeric = third in further and (is_truth(df[third]) or _amounts(columns[third]))
    compared = [third] * (threshold is not None and numeric)
    rating = next((name for name in further if _is_strength(name)),
                  next((name for name in further if _counts(columns[name])), [*compared, WEIGHT][0]))
    schema = Schema.of(with_weights(df, rating), user, item, rating, time)
    unused = [name for name in further if name != schema.time and
              (is_truth(df[name]) or _yes_or_no(df[name]) or (name == third and _amounts(columns[name])))]
    if rating == WEIGHT and WEIGHT not in df and unused:
        what = f"column {quoted(unused[0])} is" if len(unused) == 1 else f"columns {', '.join(map(quoted, unused))} are"
        warn(f"{what} not used, and every row counts as chosen; if it is a strength, say "
             f"rating_name={quoted(unused[0])}")
    return schema


def schema_of(df: pd.DataFrame, names: Sequence[Hashable | None], *, implicit: bool,
              threshold: float | None = None) -> Schema:
    """The schema of ratings, or of interactions where they are `implicit`; `names` are those of user, item, rating and
    time."""
    return interaction_schema(df, *names, threshold=threshold) if implicit else Schema.of(df, *names)


def names_strength(column: pd.Series) -> bool:
    """Whether a column has the name of ratings or weights, or a name with a word for them."""
    return not like_times(column) and (_is_strength(column.name) or _counts(column))


def _is_strength(name: Hashable) -> bool:
    return str(name).lower().replace("_", "").replace(" ", "") in STRENGTHS


def _counts(column: pd.Series) -> bool:
    """Whether it holds numbers or booleans whose name has a word for counts or, if all are 0 or 1, for a deed."""
    words = _words(column.name)
    if is_truth(column) or (_amounts(column) and column.isin([0, 1]).all()):
        return not (WORDS | DEEDS).isdisjoint(words)
    return _amounts(column) and (not WORDS.isdisjoint(words) or (len(words) > 1 and words[0] in ("n", "num")))


def nearly_numbers(column: pd.Series) -> pd.Series:
    """The numbers of a column of text in which more than half of the values, and not all, are written as plain numbers,
    the others missing, float64; any other column itself."""
    known = column.dropna()
    if not len(known) or not pd.api.types.is_string_dtype(known):
        return column
    if 2 * known.iloc[:FIRST].str.fullmatch(DECIMAL).sum() <= len(known.iloc[:FIRST]):
        return column
    plain = column.str.fullmatch(DECIMAL).fillna(False).astype(bool)
    mixed = len(known) / 2 < plain.sum() < len(known)
    return pd.to_numeric(column.where(plain)).astype("float64") if mixed else column


def _yes_or_no(column: pd.Series) -> bool:
    """Whether it holds text of two values, at least one of them repeated."""
    known = column.dropna()
    return pd.api.types.is_string_dtype(known) and known.nunique() == 2 < len(known)


def _amounts(column: pd.Series) -> bool:
    """Whether it holds numbers that, by the words of its name, are not times, ids or averages."""
    return column.dtype.kind in "iuf" and OTHER_WORDS.isdisjoint(_words(column.name))


def _words(name: Hashable) -> list[str]:
    """The words of a name in lower case: n and clicks for "n_clicks", "nClicks" and "N clicks"."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", str(name))]


def with_weights(df: pd.DataFrame, rating: Hashable, threshold: float | None = None) -> pd.DataFrame:
    """The table itself or, where `rating` is "weight" and there is no such column, a copy with ones in third place.

    Raises DataError where a `threshold` would be compared with these ones."""
    if rating != WEIGHT or WEIGHT in df:
        return df
    if threshold is not None:
        shown = f"{threshold:g}" if isinstance(threshold, numbers.Real) else repr(threshold)
        raise DataError(f"threshold={shown} is for a table with ratings, but by their names none of the columns "
                        f"{listed(df.columns)} holds ratings, weights or counts; say which one does with "
                        "rating_name=..., or leave the threshold out")
    made = df.copy(deep=False)
    made.insert(min(2, len(df.columns)), WEIGHT, 1.0)
    return made


def interactions_of(table: pd.DataFrame, schema: Schema, threshold: float | None = None,
                    found: Found = stop) -> pd.DataFrame:
    """The rows of a checked table that are interactions, under their old index: those above `threshold`, or all for
    None; repeated pairs stay repeated (see `add_up`). Rows with a strength of 0 are left out, with a warning.

    Raises DataError for negative strengths, which with another `found` are left out, and where nothing is left."""
    check_threshold(threshold)
    if threshold is not None:
        kept = table[table["rating"] > threshold]
        if not len(kept):
            raise DataError(f"column {quoted(schema.rating)}: none of {len(table):,} ratings is above threshold="
                            f"{threshold:g}; the highest is {amount(table['rating'].max())}")
        table = kept
    if (problem := negative_strengths(table, schema)) is not None:
        found(problem)
        table = table[~(table["rating"] < 0)]
    if n := int((none := table["rating"] == 0).sum()):
        if n == len(table):
            raise DataError(f"column {quoted(schema.rating)}: all {n:,} interactions have a strength of 0; nothing is "
                            "left to train on")
        warn(f"column {quoted(schema.rating)}: {n:,} of {len(table):,} interactions have a strength of 0 and are "
             "left out: "
             "with implicit=True a row says that something was chosen")
        table = table[~none]
    return table


def negative_strengths(table: pd.DataFrame, schema: Schema, *, counts: bool = False) -> Problem | None:
    """The rows of a checked table with a negative strength, by its index; None where there are none. `counts` says that
    they are counts which nobody has said to be strengths."""
    if not (negative := table["rating"] < 0).any():
        return None
    why = "with implicit=True a row says that something was chosen: leave the others out with"
    n = int(negative.sum())
    what = f"counts {they(n)} negative" if counts else f"interactions {they(n, 'has', 'have')} a negative strength"
    return Problem(f"column {quoted(schema.rating)}", f"{n:,} of {len(table):,} {what}",
                   f"{why} bad_rows='drop' or threshold=0", schema.rating,
                   table.index[negative].to_numpy(), amount(table["rating"][negative].iloc[0]))


def too_weak(table: pd.DataFrame, threshold: float | None) -> pd.DataFrame:
    """The rows of a checked table that a threshold leaves out; none without a threshold."""
    return table[:0].copy() if threshold is None else table[~(table["rating"] > threshold)]


def add_up(table: pd.DataFrame) -> pd.DataFrame:
    """Keep every pair once, at the place of its first row, with the sum of its ratings (the count, if all are 1)."""
    again = repeats(table)
    return table if again is None else merged(table, again, "sum")


def check_threshold(threshold: float | None) -> None:
    """Raises DataError unless `threshold` is None or a finite number."""
    real = isinstance(threshold, numbers.Real) and not isinstance(threshold, bool)
    if threshold is not None and not (real and math.isfinite(threshold)):
        raise DataError(f"threshold must be a finite number or None, got {threshold!r}")
