"""Times of ratings: numbers, dates, or text by ISO 8601, as an array that sorts; in which unit numbers are."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from ..errors import DataError, listed, quoted
from .problems import Found, Problem, Unreadable, stop
from .schema import DATETIMES, LEAVE_OUT, MEND, id_kind, show

ZONE = re.compile(r"[T ]\d\d.*(?:[Zz]|[-+]\d\d(?::?\d\d)?)\s*$")
DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%Y/%m/%d", "%d %b %Y",
        "%b %d, %Y", "%d. %B %Y")
CLOCKS = ("", " %H:%M", " %H:%M:%S", ", %H:%M", ", %H:%M:%S", " %I:%M %p", "T%H:%M:%S")
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
EARLIEST, LATEST = 4e8, 4.2e9       # seconds since 1970 of times that are likely: from 1982 to 2103
FAR = 2**63 / 1e9                   # seconds from 1970 to 1677 and to 2262, the ends of dates in nanoseconds
NEARLY = 0.99       # share of dates that tells how they are written, or that a column holds times
TRIED = 1000                        # values that tell how dates are written, before all are read so


class NoDates(DataError):
    """No column of a file is written as its date_format says, or as any other known way of dates."""


class UnreadDates(DataError):
    """A column of dates in which a few are not written as its date_format says: `column`, its `name`, `rows` of those
    dates (positions, int64), and the `table` without these rows, in which it has been read and whose index has the
    positions of those that are left."""

    def __init__(self, path: str | os.PathLike, table: pd.DataFrame, name: Hashable, times: pd.Series, format: str):
        self.path = path
        self.name, self.rows = name, np.flatnonzero((times.isna() & table[name].notna()).to_numpy())
        self.first = str(table[name].iloc[int(self.rows[0])])
        self.what = (f"{len(self.rows):,} of {len(table):,} dates are not written as date_format={format!r} says, or "
                     "are not dates")
        keep = np.ones(len(table), dtype=bool)
        keep[self.rows] = False
        self.table = table.assign(**{str(name): times})[keep]
        self.in_lines({})

    def in_lines(self, lines: Mapping[int, int]) -> UnreadDates:
        """Itself, with the first row named by its line in the file, of `lines` by row."""
        first = int(self.rows[0])
        place = f"line {lines[first]:,}" if first in lines else f"row {first:,}"
        self.found = f"{self.path}: column {quoted(self.name)}: {self.what} (such as {quoted(self.first)} at {place})"
        self.args = (f"{self.found}; correct these lines, or leave them out with bad_lines='drop'",)
        return self


def times_of(column: pd.Series, name: object = "time", found: Found = stop) -> np.ndarray | None:
    """The times of a column as an array that sorts, (n,); those with a zone are times of UTC.

    Raises DataError for missing times, for values that are neither numbers nor dates, and for text that is not by
    ISO 8601. With another `found`, each such `Problem` goes there, and None is returned."""
    where, problems = f"column {quoted(name)}", list[Problem]()

    def note(problem: Problem) -> None:
        problems.append(problem)
        found(problem)
    missing = column.isna().to_numpy()
    if n := int(missing.sum()):
        note(Problem(where, f"{n:,} of {len(column):,} times are missing", LEAVE_OUT, name,
                     np.flatnonzero(missing), in_file=MEND))
        column = column[~missing]
    if not len(column):
        return None
    kind = id_kind(column, where, lambda problem: note(replace(problem, what=problem.what.replace(" ids ", " times "))))
    if kind == "string" and not problems[bool(n):]:
        column = _parsed(column, where, name, note, np.flatnonzero(~missing), len(missing))
    elif kind not in ("number", "date", "string", *DATETIMES):
        note(Problem(where, f"it must hold numbers or dates to be sorted by, but {quoted(column.iloc[0])} is of kind "
                            f"{kind}",
                     "convert it with pd.to_datetime(df[column]) or pd.to_numeric(df[column])", name))
    if problems:
        return None
    return (column.dt.tz_convert(None) if isinstance(column.dtype, pd.DatetimeTZDtype) else column).to_numpy()


def _parsed(times: pd.Series, where: str, name: object, note: Found, places: np.ndarray, of: int) -> pd.Series:
    """Parse times in ISO 8601 ("2024-05-01", "2024-05-01T12:30:00Z"), to UTC where they have zones. They are at these
    `places` of a column of length `of`."""
    times = times.astype(object)
    parsed = pd.to_datetime(times, format="ISO8601", utc=True, errors="coerce")
    # Digits alone may be a date or seconds, and pandas would read "now" as a time.
    wrong = (parsed.isna() | times.map(lambda text: text.isdigit() or text.lstrip()[:1].isalpha())).to_numpy()
    if n := int(wrong.sum()):
        first = times[wrong].iloc[0]
        way = date_format(times[wrong]) if 2 * n > len(times) else None
        if n == len(times) and way is None and not first.isdigit():
            note(Problem(where, f"none of {of:,} values is a time", "say which column holds the times with "
                         "time_name=..., or how its dates are written with date_format=..., such as '%d.%m.%Y' for "
                         "18.10.2018", name, places[wrong], show(first)))
            return parsed
        remedy = ("correct or drop these rows, or make the times numbers with pd.to_numeric" if first.isdigit() else
                  f"read the file with date_format={way!r}, or parse the column first, with pd.to_datetime and that "
                  "format" if way is not None else
                  "correct or drop these rows, or parse the column first, with pd.to_datetime(df[column]); a file "
                  "whose dates are all as 18.10.2018 is read with date_format='%d.%m.%Y'")
        note(Problem(where, f"{n:,} of {of:,} times are not written as 2024-05-01 12:30:00 is (ISO 8601)",
                     remedy, name, places[wrong], show(first), {} if way is None else {"date_format": way},
                     in_file=MEND if way is None else f"say date_format={way!r}"))
        return parsed
    zoned = times.map(lambda text: ZONE.search(text) is not None).to_numpy()
    if zoned.any() and not zoned.all():
        first = times[~zoned].iloc[0]
        note(Problem(where, f"{int((~zoned).sum()):,} of {of:,} times have no zone",
                     "the others have one: give all of them one", name, places[~zoned], show(first)))
    return parsed


def date_format(texts: pd.Series) -> str | None:
    """The format in which all these texts are dates ("%d.%m.%Y %H:%M" for "18.10.2018 12:30"), or else at least 99% of
    them; None where there is no such format. Where day and month may be either, the day comes first, and so it does
    wherever there is a point between them."""
    nearly = None
    for format in (day + clock for day in DAYS for clock in CLOCKS):
        share = _read(texts.iloc[:TRIED], format)
        if share >= NEARLY and len(texts) > TRIED:
            share = _read(texts, format)
        if share == 1:
            return format
        nearly = nearly or (format if share >= NEARLY else None)
    return nearly


def with_dates(column: pd.Series, format: str) -> pd.Series | None:
    """A column of text as times, where all of it that is there is written in this format; else None."""
    known = column.dropna()
    if not len(known) or not pd.api.types.is_string_dtype(known) or _read(known.iloc[:TRIED], format) < 1:
        return None
    times = pd.to_datetime(column, format=format, errors="coerce", utc=format.endswith("%z"))
    return times if not (times.isna() & column.notna()).any() else None


def with_dates_of(table: pd.DataFrame, format: str, path: str | os.PathLike) -> pd.DataFrame:
    """The table with times in each column of text that is written in this format. Raises DataError where there is none
    (`NoDates` where none has dates at all), or `UnreadDates` where one is, but for fewer than half of its values."""
    made = {str(name): times for name, column in table.items() if (times := with_dates(column, format)) is not None}
    if made:
        return table.assign(**made)
    for name, column in table.items():
        if (times := _mostly_dates(column, format)) is not None:
            raise UnreadDates(path, table, name, times, format)
    for name, column in table.items():
        known = column.dropna()
        if pd.api.types.is_string_dtype(known) and len(known) and (way := date_format(known)) is not None:
            raise Unreadable(f"{path}: column {quoted(name)} is not written as date_format={format!r} says (such as "
                             f"{show(known.iloc[0])}); say date_format={way!r}", date_format=way)
    raise NoDates(f"{path}: in none of the columns {listed(table.columns)} is all text written as "
                  f"date_format={format!r} says")


def _mostly_dates(column: pd.Series, format: str) -> pd.Series | None:
    """A column of text as times, where more than half of it that is there is written in this format; the others are
    missing. None for any other."""
    known = column.dropna()
    if not len(known) or not pd.api.types.is_string_dtype(known):
        return None
    times = pd.to_datetime(column, format=format, errors="coerce", utc=format.endswith("%z"))
    return times if 2 * times.notna().sum() > len(known) else None


def unit_of(times: np.ndarray) -> str | None:
    """The unit in which numbers count the time since 1970: "s", "ms", "us" or "ns"; None where their middle would be
    an unlikely time in each of these."""
    middle = float(np.median(times))
    return next((unit for k, unit in enumerate(UNITS) if EARLIEST <= middle / 1000**k <= LATEST), None)


def as_numbers(times: np.ndarray) -> np.ndarray:
    """Times that are whole numbers too long for 64 bits as floats; any others as they are."""
    return times.astype(np.float64) if times.dtype.kind == "O" and isinstance(times[0], int) else times


def impossible(times: np.ndarray) -> np.ndarray:
    """Which of n times, at least one, are not dates between 1677 and 2262, a bool (n,): a few in another unit than
    most, a slip of a digit, or a word for "never". None are where numbers are in no known unit."""
    times = as_numbers(times)
    if times.dtype.kind in "iuf":
        unit = unit_of(times)
        if unit is None:
            return np.zeros(len(times), dtype=bool)
        seconds = times.astype(np.float64) / 1000.0 ** [*UNITS].index(unit)
    else:
        seconds = times.astype("datetime64[s]").astype(np.float64)
    return np.abs(seconds) > FAR


def _read(texts: pd.Series, format: str) -> float:
    """The share of texts that are dates in this format."""
    return float(pd.to_datetime(texts, format=format, errors="coerce", utc=format.endswith("%z")).notna().mean())
