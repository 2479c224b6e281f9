"""where: conditions on what is known of items."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError, with_point
from .alike import folded
from .metadata import about, split_groups
from .schema import show
from .units import amounts
from .vocab import Vocab

Where = Mapping[Hashable, object] | Iterable[str] | str
"""Conditions that items must all meet: {column: condition}, or text such as "year>=1990", or several of these.

A condition is a value, which the column must equal or, where cells hold several ("Drama|War"), be among its values; a
list, of which one value must; or text that begins with >=, <=, >, <, != or =. Text is compared without regard to
case, and by >=, <=, > and < as the numbers that it holds where these are all of one unit ("12,50 EUR"). An item without
a value in the column meets no condition of it."""

ORDERED: dict[str, Callable[[Any, Any], Any]] = {">=": operator.ge, "<=": operator.le, ">": operator.gt,
                                                  "<": operator.lt}
SIGN = re.compile(r"\s*(>=|<=|!=|==|=|>|<)\s*(.*)", re.DOTALL)
TEXT = re.compile(rf"([^<>=!]+){SIGN.pattern}", re.DOTALL)
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def meeting(table: pd.DataFrame, items: Vocab, where: Where, option: str = "where", *,
            some: bool = True) -> np.ndarray:
    """Which rows of `items` meet all conditions on the columns of `table` (indexed by id), bool (len(items),); row 0
    does not. Raises DataError, which names the `option`, for a column that is not there, a value that no item has and,
    with `some`, where no item is left."""
    conditions = list(_conditions(where, option))
    if not len(table.columns):
        raise DataError(f"{option}= needs to know more of the items than their ids: train with a table of them "
                        "(items=)")
    kept = np.full(len(items), True)
    kept[0] = False
    rows = table.reindex(pd.Index(items.ids[1:], tupleize_cols=False)) if conditions else table
    for name, sign, wanted in conditions:
        column = rows[column_of(table, name, option)]
        with about(f"{option}="):
            kept[1:] &= _met(column, sign, wanted)
    if some and not kept.any():
        said = f"{where!r}" if isinstance(where, str | Mapping) else " and ".join(f"{text!r}" for text in where)
        raise DataError(f"{option}={said}: no item that was trained on meets " +
                        ("this condition" if len(conditions) == 1 else "all of these conditions"))
    return kept


def in_text(table: pd.DataFrame, text: str) -> dict[Hashable, object] | None:
    """Text such as "genres=War" as a condition, where a column of the table has that name or nearly; None otherwise."""
    if (found := TEXT.fullmatch(text)) is None or not found[3].strip():
        return None
    name = found[1].strip()
    return {name: f"{found[2]}{found[3]}"} if names_column(table, name) else None


def names_column(table: pd.DataFrame, name: Hashable) -> bool:
    """Whether a column has this name, or nearly."""
    return name in table or bool(_near(table, name))


def _conditions(where: Where, option: str) -> Iterable[tuple[Hashable, str, object]]:
    """(column, sign, value) of each condition."""
    if isinstance(where, Mapping):
        for name, wanted in where.items():
            found = SIGN.fullmatch(wanted) if isinstance(wanted, str) else None
            yield (name, "=", wanted) if found is None else (name, found[1].replace("==", "="), found[2].strip())
        return
    if not isinstance(where, Iterable):
        raise DataError(f"{option}= is {{column: condition}} or text such as 'year>=1990', got {where!r}")
    for text in [where] if isinstance(where, str) else where:
        found = TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is None or not found[3].strip():
            raise DataError(f"{option}={text!r} is not a condition: that is a column, one of = != >= <= > <, and a "
                            "value, such as 'year>=1990'")
        yield found[1].strip(), found[2].replace("==", "="), found[3].strip()


def column_of(table: pd.DataFrame, name: Hashable, option: str) -> Hashable:
    """The name of a column that is there. Raises DataError for another, with the nearest and all there are."""
    if name in table:
        return name
    if not len(table.columns):
        raise DataError(f"{option}= names a column {show(name)}, and nothing is known of the items but ids and titles; "
                        "train with a table of them (items=)")
    near = _near(table, name)
    raise DataError(f"{option}= names a column {show(name)} that the table of items has not"
                    + (f"; did you mean {show(near[0])}?" if near else ".")
                    + f" The columns are {', '.join(show(column) for column in table)}")


def _near(table: pd.DataFrame, name: Hashable) -> list[Hashable]:
    """The column with the nearest name, if any is near."""
    spelled = {str(column).casefold(): column for column in table}
    return [spelled[near] for near in difflib.get_close_matches(str(name).casefold(), spelled, n=1)]


def _met(column: pd.Series, sign: str, wanted: object) -> np.ndarray:
    """Which cells of a column meet a condition."""
    known = column.notna().to_numpy()
    if sign in ORDERED:
        values, value = _ordered(column, sign, wanted)
        with np.errstate(invalid="ignore"):
            return np.asarray(ORDERED[sign](values, value), dtype=bool) & known
    listed = [*wanted] if isinstance(wanted, (list, tuple, set, frozenset, np.ndarray, pd.Series)) else [wanted]
    has = np.zeros(len(column), dtype=bool)
    equal = _equal_numbers if _is_number(column) or pd.api.types.is_datetime64_any_dtype(column) else _equal_words
    for value, own in zip(listed, equal(column, listed)):
        if not own.any():
            raise DataError(f"no item has {show(value)} in column {show(column.name)}"
                            f"{_known_values(column, value)}")
        has |= own
    return (~has if sign == "!=" else has) & known


def _ordered(column: pd.Series, sign: str, wanted: object) -> tuple[Any, Any]:
    """A column and a value as numbers, or as times, that can be compared."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return column, _as_time(column, wanted)
    numbers = column if _is_number(column) else pd.to_numeric(column, errors="coerce")
    if not _is_number(column) and numbers.notna().sum() < column.notna().sum():
        found = amounts(column)         # such as prices in EUR
        if found is not None and found.numbers.notna().sum() > numbers.notna().sum():
            value = found.of(wanted)
            if value is None:
                raise DataError(f"column {show(column.name)} holds numbers{f' of {found.unit!r}' * bool(found.unit)} "
                                f"(such as {show(_example(column))}), and {show(wanted)} is not one of "
                                "these")
            return found.numbers.to_numpy(np.float64), value
    if not numbers.notna().any():
        raise DataError(f"column {show(column.name)} holds text (such as {show(_example(column))}), which "
                        f"{sign} cannot compare; take = or !=")
    return numbers.to_numpy(np.float64, na_value=np.nan), _as_number(column, wanted)


def _equal_numbers(column: pd.Series, wanted: list[object]) -> list[np.ndarray]:
    if pd.api.types.is_datetime64_any_dtype(column):
        return [(column == _as_time(column, value)).to_numpy(dtype=bool) for value in wanted]
    values = column.to_numpy(np.float64, na_value=np.nan)
    return [values == _as_number(column, value) for value in wanted]


def _equal_words(column: pd.Series, wanted: list[object]) -> list[np.ndarray]:
    """Which cells have each of the values among their own, every different cell being split once."""
    codes, cells = pd.factorize(column)
    groups = split_groups(pd.Series(cells, dtype=object, name=column.name))
    words = [{word.strip().casefold() for word in own} for own in groups]
    truth = pd.api.types.is_bool_dtype(column.dropna().infer_objects()) if len(cells) else False
    found = []
    for value in wanted:
        text = str(value).strip().casefold()
        text = str(TRUTH.get(text, text)).casefold() if truth else text
        has = np.array([text in own for own in words] + [False])    # a missing cell has the code -1
        found.append(has[codes])
    return found


def _known_values(column: pd.Series, value: object) -> str:
    """": they go from 1922 to 1998", or the values nearest in spelling."""
    known = column.dropna()
    if not len(known):
        return ", which is empty"
    if _is_number(column) or pd.api.types.is_datetime64_any_dtype(column):
        return f": they go from {known.min()} to {known.max()}"
    words = {word.strip().casefold(): word.strip() for own in split_groups(pd.Series(known.unique(), dtype=object,
                                                                                     name=column.name)) for word in own}
    spelled = {folded(word): word for word in words}
    near = [spelled[word] for word in difflib.get_close_matches(folded(str(value)), spelled, n=3)] or [*words][:5]
    return f"; {'near it are' if len(near) < 4 else 'there are'} {', '.join(show(words[word]) for word in near)}"


def _as_number(column: pd.Series, wanted: object) -> float:
    try:
        return float(wanted)        # type: ignore[arg-type]    # of any object: what it refuses is caught
    except (TypeError, ValueError):
        raise DataError(f"column {show(column.name)} holds numbers, and {show(wanted)} is none"
                        f"{with_point(wanted)}") from None


def _as_time(column: pd.Series, wanted: object) -> pd.Timestamp:
    try:
        time = pd.Timestamp(wanted)     # type: ignore[arg-type]    # of any object, likewise
    except (TypeError, ValueError):
        raise DataError(f"column {show(column.name)} holds times, and {show(wanted)} is none") from None
    zone = getattr(column.dt, "tz", None)
    return time.tz_localize(zone) if zone is not None and time.tzinfo is None else time


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _example(column: pd.Series) -> object:
    known = column.dropna()
    return known.iloc[0] if len(known) else None
