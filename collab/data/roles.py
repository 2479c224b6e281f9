"""Which columns play which role: why each was taken, and a guess where the rules of `Schema` find none."""

from __future__ import annotations

import warnings
from collections.abc import Container, Hashable, Mapping
from typing import Any

import pandas as pd

from ..errors import DataError, quoted
from .implicit import names_strength, schema_of, with_weights
from .problems import Problem
from .schema import NAMES, TIME_NAMES, Schema, is_truth, like_times, rating_table

ARGUMENTS = {"user": "user_name", "item": "item_name", "rating": "rating_name", "time": "time_name"}
PLACES = {"user": "first", "item": "second", "rating": "third"}
OTHERS = {"user": {"kunde", "kundin", "nutzer", "benutzer", "leser", "hörer", "member", "account", "visitor",
                   "session", "person", "client", "listener", "profile"},
          "item": {"artikel", "produkt", "buch", "lied", "isbn", "asin", "sku", "song", "track", "artist", "album",
                   "show", "game", "recipe", "business", "anime", "article", "title"},
          "rating": {"bewertung", "note", "sterne", "punkte", "wertung", "grade", "value", "preference", "overall"}}


def reasons(df: pd.DataFrame, schema: Schema, given: Mapping[str, Hashable | None],
            guessed: Container[str] = ()) -> pd.DataFrame:
    """The columns of a table: the role of each ("-" for none), why it has it (as it was `given`, unless its
    argument was `guessed`), how many values differ and are missing, and the first one."""
    roles = {name: role for role, name in schema.roles().items()}
    rows = []
    for name, column in df.items():
        role = roles.get(name, "")
        distinct = column.nunique() if not len(column) or _hashable(column) else None
        first = column.dropna()
        why = "a guess" if ARGUMENTS.get(role) in guessed else _why(role, name, df, given)
        rows.append({"column": name, "role": role or "-", "why": why, "type": _type(column),
                     "distinct": distinct, "missing": int(column.isna().sum()),
                     "first": str(first.iloc[0]) if len(first) else ""})
    return pd.DataFrame(rows)


def _why(role: str, name: Hashable, df: pd.DataFrame, given: Mapping[str, Hashable | None]) -> str:
    if not role:
        return ""
    if given.get(role) is not None:
        return "as you say"
    if role == "time":
        return "its name"
    named = plain(name) in NAMES[role]
    by_place = PLACES[role] and [*df.columns].index(name) == [*PLACES].index(role)
    return ("its name and place" if named else f"the {PLACES[role]} column") if by_place else "its name"


def _hashable(column: pd.Series) -> bool:
    try:
        hash(column.iloc[0])
    except TypeError:
        return False
    return True


def _type(column: pd.Series) -> str:
    kind = pd.api.types.infer_dtype(column, skipna=True)
    return {"integer": "whole numbers", "floating": "numbers", "string": "text", "boolean": "yes and no",
            "datetime64": "times", "datetime": "times", "empty": "nothing", "mixed-integer-float": "numbers",
            "categorical": "text", "decimal": "numbers", "date": "dates"}.get(kind, kind)


def plain(name: Hashable) -> str:
    """A name in small letters, without what separates its words."""
    return str(name).lower().replace("_", "").replace(" ", "").replace("-", "")


def guess(df: pd.DataFrame, given: Mapping[str, Hashable | None]) -> dict[str, object]:
    """The arguments of `from_df` that say which column is which, where the rules do not find it: by their names, then
    by what is in them. `implicit` is among them where nothing looks like ratings. Empty for too few columns."""
    columns = [name for name in df if not plain(name).startswith("unnamed") and plain(name) != "index"]
    taken = {role: name for role, name in given.items() if name is not None and name in df}
    for role in ("user", "item", "rating"):
        if role not in taken:
            free = [name for name in columns if name not in taken.values()]
            if (named := next((name for names in (NAMES[role], OTHERS[role]) for name in free if plain(name) in names),
                              None)) is not None:
                taken[role] = named
    if "time" not in taken:
        free = [name for name in columns if name not in taken.values()]
        if (time := next((name for name in free if str(name).lower() in TIME_NAMES or like_times(df[name])), None)):
            taken["time"] = time
    for role in ("user", "item"):
        free = [name for name in columns if name not in taken.values()]
        if role not in taken and free:
            taken[role] = free[0]
    if "user" not in taken or "item" not in taken:
        return {}
    free = [name for name in columns if name not in taken.values()]
    numbers = [name for name in free if is_truth(df[name]) or (
        pd.api.types.is_numeric_dtype(df[name].dtype) and not like_times(df[name]))]
    if "rating" not in taken and numbers:
        taken["rating"] = next((name for name in numbers if names_strength(df[name])), numbers[0])
    placed = dict(zip(("user", "item", "rating"), df))
    found: dict[str, object] = {ARGUMENTS[role]: taken[role] for role in placed if role in taken
                                and (taken[role] != placed[role] or given.get(role) is not None)}
    if "rating" not in taken:
        found["implicit"] = True
    if "time" in taken and str(taken["time"]).lower() not in TIME_NAMES:
        found["time_name"] = taken["time"]
    return found


def misnamed(df: pd.DataFrame, schema: Schema, given: Mapping[str, Hashable | None]) -> str:
    """Why the columns, taken by their places, are probably in another order; "" where nothing says so."""
    roles = schema.roles()
    for role in ("user", "item", "rating"):
        name = roles[role]
        if given.get(role) is not None or name not in df or plain(name) in {*NAMES[role], *OTHERS[role]}:
            continue
        known = {*NAMES[role], *OTHERS[role]}
        taken_for = f"column {quoted(name)} is taken for the {role}s, being the {PLACES[role]}, and "
        better = next((other for other in df if plain(other) in known and other not in roles.values()), None)
        if better is not None:
            return f"{taken_for}{quoted(better)} has their name"
        if role != "rating" and like_times(df[name]):
            return f"{taken_for}its values look like times"
    return ""


def is_known(name: Hashable) -> bool:
    """Whether a name is a usual one of a column of ratings."""
    return plain(name) in {*TIME_NAMES, *(word for role in NAMES for word in (*NAMES[role], *OTHERS[role]))}


def taken(raw: pd.DataFrame, given: Mapping[str, Hashable | None], options: Mapping[str, Any]) -> Hashable:
    """The column of ratings by the rules of training with the `options` of a family; None where these find none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return schema_of(raw, [given[role] for role in ARGUMENTS], implicit=True,
                             threshold=options.get("threshold")).rating
    except DataError:
        return None


def refused(raw: pd.DataFrame, schema: Schema, *, implicit: bool) -> bool:
    """Whether training would refuse a table with these columns."""
    found: list[Problem] = []
    rating_table(with_weights(raw, schema.rating) if implicit else raw, schema, found.append)
    return bool(found)
