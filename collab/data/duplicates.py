"""Pairs of a user and an item that are rated more than once."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
import pandas as pd

from ..errors import DataError, quoted, they, warn
from .codes import coded, merged, on_both, one_each, repeats
from .problems import Found, Problem
from .schema import Schema, show

DUPLICATES = ("keep", "mean", "first", "last", "error")
BY_TIME = ("first", "last")     # which of a pair's ratings is kept goes by their times, where there are any
WAYS = ("choose duplicates='last' for the last rating of a pair, 'first', 'mean' for its average, 'error' to refuse "
        "them, or 'keep' to leave it so")


def check_duplicates(how: str | None) -> None:
    """Raises DataError unless `how` is one of DUPLICATES, or None."""
    if how is not None and how not in DUPLICATES:
        raise DataError(f"duplicates={how!r} is not one of {DUPLICATES}")


def order_of(time: Hashable | None) -> str:
    """By what the first and the last rating of a pair are told, with a column of times of this name, or without."""
    return "by the order of the table, which has no column of times" if time is None else f"by column {quoted(time)}"


def merge_duplicates(parts: list[pd.DataFrame], how: str | None, *, time: Hashable | None = None,
                     times: Callable[[], np.ndarray | None] = lambda: None, say: bool = True) -> list[pd.DataFrame]:
    """Where a (user, item) pair occurs more than once in a part, keep every row for "keep" and None; the "first" or
    "last" one by the column `time`, whose values `times` gives, (n,), or for None by the order of the table; or one
    row, at the place of the first, with the "mean" rating. What is left out is warned of, if `say`. A pair of several
    parts stays in each, with a warning where it was to be averaged: a mean must not take a rating from beyond the
    split. Raises DataError for "error"."""
    if how in (None, "keep"):
        return parts
    again = [repeats(part) for part in parts]
    if not (n := sum(int(rows.sum()) for rows in again if rows is not None)):
        both = pd.concat(parts, ignore_index=True) if how == "mean" and len(parts) > 1 and say else None
        if both is not None and (rows := repeats(both)) is not None:
            warn(f"{_again(both, rows, int(rows.sum()), len(both))} beyond the split: it stays on both sides, since an "
                 "average in training must not hold a later rating; a split at random sees each pair once, and "
                 "duplicates='last' keeps one row")
        return parts
    part, rows = next((part, rows) for part, rows in zip(parts, again) if rows is not None)
    what = _again(part, rows, n, sum(map(len, parts)))
    if how == "error":
        raise DataError(f"{what}; drop them, or choose duplicates='last', 'first', 'mean' or 'keep'")
    if how in BY_TIME:
        if say:
            warn(f"{what}; of each pair the {how} one is kept, {order_of(time)}")
        when = times()
        return [part if rows is None else one_each(part, rows, last=how == "last", times=when)
                for part, rows in zip(parts, again)]
    found = [part if rows is None else merged(part, rows, "mean") for part, rows in zip(parts, again)]
    if say:
        shared = repeats(pd.concat(found, ignore_index=True)) if len(parts) > 1 else None
        n_both = 0 if shared is None else int(shared.sum())
        warn(f"{what}; each pair now has one row with its average rating"
             + " in training, and one in validation" * (len(parts) > 1)
             + f": {n_both:,} {they(n_both)} on both sides; duplicates='last' keeps one row" * bool(n_both))
    return found


def warn_of_repeats(table: pd.DataFrame, train: np.ndarray | None = None, held_out: np.ndarray | None = None) -> None:
    """Warn of pairs that a table rates again, where nobody has said what to do with them: every row is kept. `train`
    and `held_out` are the positions of these rows, where the table was split."""
    if (rows := repeats(table)) is None:
        return
    what, both = _again(table, rows, int(rows.sum()), len(table)), 0
    if train is not None and held_out is not None:
        both = on_both(table, held_out, train)
    if both and held_out is not None:
        warn(f"{what}, and {both:,} of the {len(held_out):,} ratings held out are of pairs that are trained on too: "
             f"the error on them looks smaller than it is; {WAYS}")
    else:
        warn(f"{what}: all rows are kept, and each counts; {WAYS}")


def note_repeats(table: pd.DataFrame, schema: Schema, given: str | None, implicit: bool, note: Found) -> bool:
    """Note pairs that are rated again, and say whether there are some."""
    how = given or "keep"
    try:
        check_duplicates(how)
    except DataError as error:
        note(Problem("duplicates", str(error), ""))
        return False
    pairs = table.assign(user=coded(table["user"]), item=coded(table["item"]))
    again = repeats(pairs)
    if again is None:
        return False
    if implicit:
        note(Problem("the table", f"{int(again.sum()):,} of {len(table):,} rows have a pair again", "with "
                     "implicit=True they are added up", None, table.index.to_numpy()[again], stops=False))
        return True
    rows = table.index.to_numpy()[again]
    first = {side: table.at[rows[0], side] for side in ("user", "item")}
    n_same = int(pairs.duplicated(["user", "item", "rating"]).sum())
    gone = {"keep": "all rows are kept, and may be on both sides of a split", "error": "drop them, or choose "
            "duplicates='last', 'first' or 'mean'", "mean": "each pair has one row with its average rating"}
    note(Problem("the table", f"{len(rows):,} of {len(table):,} rows rate a pair again, {n_same:,} of them with the "
                 "same rating",
                 gone.get(how, f"of each pair the {how} rating is kept, {order_of(schema.time)}") if given else
                 f"of a fifth that is held out at random, {_percent(_shared(pairs))} would be of pairs that are "
                 "trained on too, and the error on them looks smaller than it is; duplicates='mean' averages them, "
                 f"'last' keeps the last one, {order_of(schema.time)}",
                 None, rows, f"user {show(first['user'])}, item {show(first['item'])}",
                 {"duplicates": "mean"} if how == "error" else {}, how == "error", chosen=given is not None))
    return True


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"


def _shared(pairs: pd.DataFrame, valid_pct: float = 0.2) -> float:
    """The share of the ratings that a split at random holds out whose pair is expected to be trained on too."""
    sizes = pairs.groupby(["user", "item"], observed=True, sort=False).size().to_numpy()
    return float((sizes * (1 - valid_pct ** (sizes - 1.0))).sum() / len(pairs))


def _again(part: pd.DataFrame, rows: np.ndarray, n: int, of: int) -> str:
    """How many rows rate a pair again, and the first of these `rows` of a part."""
    user, item = (show(part[role].iloc[int(rows.argmax())]) for role in ("user", "item"))
    return f"{n:,} of {of:,} rows rate a pair again (first: user {user}, item {item})"
