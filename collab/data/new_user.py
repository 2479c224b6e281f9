"""Ratings of new people, by id or title and with blanks: one person's, as a table, a file or (implicit data) a list of
items, and those of several people that are added to a learner."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from ..errors import DataError, quoted, they, warn
from .catalogue import Catalogue, SeveralTitled
from .codes import stable_order
from .databunch import CollabDataBunch
from .frames import TableLike, as_frame, is_table
from .implicit import names_strength
from .schema import TIME_NAMES, Schema, check_ratings, is_truth, like_times, show
from .tables import read_table
from .times import times_of
from .vocab import UNKNOWN, labels, several

LISTED = list, tuple, set, frozenset, np.ndarray, pd.Index


class KnownItems(Protocol):
    """What is known of items and their ratings: a databunch, or an index."""

    @property
    def catalogue(self) -> Catalogue: ...

    @property
    def schema(self) -> Schema: ...

    @property
    def implicit(self) -> bool: ...


def check_one_person(table: pd.DataFrame, schema: Schema) -> None:
    """Raises DataError for a table with ratings of several users."""
    name = _named(table, schema.user, "user")
    if name is None or len(users := table[name].drop_duplicates()) < 2:
        return
    raise DataError(f"the ratings of somebody new: column {name!r} holds {len(users):,} users (such as "
                    f"{show(users.iloc[0])} and {show(users.iloc[1])}): add_ratings takes several, or pass one "
                    "person's rows")


def one_person(ratings: object, schema: Schema, *, implicit: bool,
               threshold: float | None = None) -> tuple[pd.Series, pd.Series, np.ndarray]:
    """(items, by id or title, ratings, whether each was chosen), each (n,), without items that have no rating: in the
    order given or, of a table with times, by these; an item that a list has twice is at its last place. In implicit
    data without ratings, each weighs 1; with ratings, those above the `threshold` of the data were chosen, and a
    warning counts the others.

    Raises DataError where there are several users, no items and ratings, or none above the threshold."""
    listed = False
    if implicit and several(ratings) and not isinstance(ratings, pd.Series):
        ratings, listed = _chosen(labels(ratings)), True
    elif implicit and isinstance(ratings, LISTED):
        ratings, listed = _chosen(ratings), True
    if is_table(ratings):
        ratings = as_frame(ratings)
        check_one_person(ratings, schema)
        ratings = ratings.iloc[time_order(ratings, schema)]
        item, rating = _named(ratings, schema.item, "item", "title"), _named(ratings, schema.rating, "rating")
        if implicit and item is not None and (rating is None or like_times(ratings[rating])):
            n = len(ratings)
            return ratings[item].reset_index(drop=True), pd.Series(1.0, range(n)), np.full(n, True)
        if item is None or rating is None:
            raise DataError(f"there is no column {'item' if item is None else 'rating'!r} in the ratings; the columns "
                            f"are {[*ratings.columns]}, and item and rating are needed")
        return _with_chosen(*_without_blanks(ratings[item], ratings[rating]), threshold)
    if isinstance(ratings, (pd.Series, Mapping)):
        items, values = zip(*ratings.items()) if len(ratings) else ((), ())
        return _with_chosen(*_without_blanks(_column(items), _column(values)), None if listed else threshold)
    raise DataError("ratings are {item: rating}, a Series indexed by item or a table with columns item and rating, "
                    f"{'or a list of items, ' if implicit else ''}got {type(ratings).__name__}")


def _chosen(items: Iterable[Hashable]) -> dict[Hashable, float]:
    """Each item of a list once, at its last place, with a rating of 1."""
    return dict.fromkeys([*dict.fromkeys([*items][::-1])][::-1], 1.0)


def time_order(table: pd.DataFrame, schema: Schema) -> np.ndarray:
    """The positions of the rows by time; as they are where no column has times that sort, which is warned of where it
    is that of the training ratings."""
    name = _named(table, *(() if schema.time is None else (schema.time,)), *TIME_NAMES)
    try:
        if name is not None and (times := times_of(table[name], name)) is not None:
            return stable_order(times)
    except DataError as error:
        if name == schema.time:
            warn(f"the order of the table is taken, since its times do not sort: {error}")
    return np.arange(len(table))


def rated_file(data: KnownItems, file: Path, unknown: str = "average", **reading: Any) -> pd.DataFrame:
    """The columns item (ids) and rating of a file with one person's ratings: those called so here or in the training
    ratings, or else the first two; by time where the file has times. Items are ids or titles. Those without a rating
    are left out; in implicit data all ratings may be missing, and then there is no column of them. `attrs["blank"]` is
    the number of rows without a rating. `reading` are options of `read_table`.

    Unknown items are left out, with a warning that counts them; with unknown="error", or where no item is known, they
    raise UnknownId. Raises DataError where there are several users, too few columns, or ratings that are no numbers."""
    raw, schema, rated = read_table(file, **reading), data.schema, False
    if len(raw.columns) == 1 and data.implicit:
        raw = raw.set_axis(["item"], axis=1)
    elif [*raw.columns] == ["user", "item"] and len(
            read_table(file, **{**reading, "header": False})) == len(raw):
        raw = raw.set_axis(["item", "rating"], axis=1)      # a file without a header: `read_table` named the columns
    check_one_person(raw, schema)
    user, item, rating = (_named(raw, getattr(schema, role), role, *also)
                          for role, *also in (("user",), ("item", "title"), ("rating",)))
    if data.implicit and item is not None:
        rating = rating or next((name for name in raw if name not in (user, item) and names_strength(raw[name])), None)
        rated = rating is not None and not like_times(raw[rating])
        raw, rating = (raw, rating) if rated else (raw.assign(rating=1.0), "rating")
    others = [name for name in raw if name not in (user, item, rating)]
    if len(others) < (item is None) + (rating is None):
        raise DataError(f"{file} needs two columns, item and rating; it has {[*raw.columns]}")
    item = others.pop(0) if item is None else item
    rating = others[0] if rating is None else rating
    lost = (raw[item].isna() & ~_blank(raw[rating])).to_numpy()
    if lost.any() and not lost.all():
        raise DataError(f"{file}: column {quoted(item)}: {lost.sum():,} of {len(lost):,} ids are missing (first at "
                        f"row {lost.argmax()}); correct these lines")
    items, ratings = _without_blanks(raw[item], raw[rating])
    if not is_truth(ratings):
        check_ratings(raw[rating].astype(object).mask(_blank(raw[rating]), 0))      # names rows of the whole file
    if not len(items):
        raise DataError(f"{file} holds no ratings: all {len(raw):,} are blank")
    named = [id if pd.isna(id) else data.catalogue.typed(str(id)) for id in items]
    try:
        rows = data.catalogue.known(named, f"in {file}", unknown)
    except SeveralTitled:
        raise _ambiguous(data, file, item, named, np.flatnonzero(~_blank(raw[rating])), len(raw)) from None
    kept = rows != UNKNOWN
    found = pd.DataFrame({"item": data.catalogue.vocab.decode(rows[kept]), "rating": ratings[kept].to_numpy()})
    found = found.iloc[time_order(raw[(~_blank(raw[rating])).to_numpy()][kept], schema)].reset_index(drop=True)
    found.attrs["blank"] = len(raw) - len(items)
    return found if rated or not data.implicit else found[["item"]]


def _ambiguous(data: KnownItems, file: Path, column: Hashable, named: list[Any], places: np.ndarray,
               n: int) -> DataError:
    """The error for titles of several items among those of a file: how many there are, and the first row."""
    found: list[tuple[int, str]] = []
    for place, name in zip(places.tolist(), named):
        try:
            data.catalogue.encode([name])
        except SeveralTitled as error:
            found.append((place, str(error)))
        except DataError:
            pass
    return DataError(f"{file}: column {quoted(column)}: {len(found):,} of {n:,} titles {they(len(found), 'is', 'are')} "
                     f"of several items (first at row {found[0][0]}): {found[0][1]}")


def further_ratings(data: CollabDataBunch, table: TableLike, unknown: str = "average") -> pd.DataFrame:
    """The rows of further ratings that can be added: those with a rating, of known items, by their ids. The columns are
    those of `data.schema`, or else user, item and rating. Warns of rows left out; raises UnknownId for unknown items
    with unknown="error", or where none is known."""
    frame = as_frame(table)
    if frame.columns.has_duplicates:
        return frame            # `data.table` raises what is wrong
    own = data.schema.user, data.schema.item, data.schema.rating
    _, item, rating = next((names for names in (own, ("user", "item", "rating")) if {*names} <= {*frame}), own)
    if item not in frame:
        return frame
    if rating in frame and (n := int((blank := _blank(frame[rating])).sum())) and n < len(frame):
        warn(f"{n:,} of {len(frame):,} rows have no rating in column {rating!r}, and are left out")
        frame = frame[~blank]
    rows = data.catalogue.known(frame[item], f"in column {item!r}", unknown)
    frame, rows = frame[rows != UNKNOWN].copy(deep=False), rows[rows != UNKNOWN]
    frame[item] = data.items.decode(rows)
    return frame


def _with_chosen(items: pd.Series, ratings: pd.Series,
                 threshold: float | None) -> tuple[pd.Series, pd.Series, np.ndarray]:
    """The same, and which ratings are above the threshold, or all of them without one."""
    if threshold is None or not len(items):
        return items, ratings, np.full(len(items), True)
    chosen = ~(pd.to_numeric(ratings, errors="coerce") <= threshold).to_numpy()     # other text is refused later
    if not chosen.any():
        raise DataError(f"none of {len(items):,} ratings is above threshold={threshold:g}, above which an item "
                        "counts as chosen; pass a list of items for those that were")
    if n := int((~chosen).sum()):
        warn(f"{n:,} of {len(items):,} ratings are not above threshold={threshold:g}, and do not count as choices")
    return items, ratings, chosen


def _without_blanks(items: pd.Series, ratings: pd.Series) -> tuple[pd.Series, pd.Series]:
    """(the items that have a rating, their ratings)."""
    given = ~_blank(ratings).to_numpy()
    return _column(items[given]), _column(ratings[given])


def _column(values: Iterable[object]) -> pd.Series:
    """Values as a column of the dtype that fits them, or of objects: tuples, and text that is not valid Unicode."""
    column = pd.Series(np.fromiter(values, dtype=object), dtype=object)
    with suppress(UnicodeEncodeError):
        return column.infer_objects()
    return column


def _blank(ratings: pd.Series) -> pd.Series:
    """Which ratings are missing or blank text."""
    if ratings.dtype.kind in "iuf":
        return ratings.isna()
    return ratings.isna() | np.array([isinstance(rating, str) and not rating.strip() for rating in ratings], dtype=bool)


def _named(table: pd.DataFrame, *names: Hashable) -> Hashable | None:
    """The first of these columns that the table has, or None."""
    return next((name for name in names if name in table), None)
