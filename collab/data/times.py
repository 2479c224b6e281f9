"""Times of ratings: numbers, dates, or text by ISO 8601, as an array that sorts; in which unit numbers are."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from dataclasses import replace

import numpy as np
import pandas as pd

from ..errors import DataError, listed, quoted
from .problems import Found, Problem, stop
from .schema import DATETIMES, id_kind, show

ZONE = re.compile(r"[T ]\d\d.*(?:[Zz]|[-+]\d\d(?::?\d\d)?)\s*$")
DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%Y/%m/%d", "%d %b %Y",
        "%b %d, %Y", "%d. %B %Y")
CLOCKS = ("", " %H:%M", " %H:%M:%S", ", %H:%M", ", %H:%M:%S", " %I:%M %p", "T%H:%M:%S")
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
EARLIEST, LATEST = 4e8, 4.2e9       # seconds since 1970 of times that are likely: from 1982 to 2103
FAR = 2**63 / 1e9                   # seconds from 1970 to 1677 and to 2262, the ends of dates in nanoseconds
TRIED = 1000                        # values that tell how dates are written, before all are read so


class UnreadDates(DataError):
    """A column of dates in which a few are not written as its date_format says: `column`, its `name`, `rows` of those
    dates (positions, int64), and the `table` without these rows, in which it has been read."""

    def __init__(self, path: str | os.PathLike, table: pd.DataFrame, name: Hashable, times: pd.Series, format: str):
        self.name, self.rows = name, np.flatnonzero((times.isna() & table[name].notna()).to_numpy())
        self.first = str(table[name].iloc[int(self.rows[0])])
        self.what = (f"{len(self.rows):,} of {len(table):,} dates are not written as date_format={format!r} says, or "
                     "are no dates")
        keep = np.ones(len(table), dtype=bool)
        keep[self.rows] = False
        self.table = table.assign(**{str(name): times})[keep].reset_index(drop=True)
        super().__init__(f"{path}: column {quoted(name)}: {self.what} (such as {self.first!r} at row {self.rows[0]}); "
                         "correct these lines, or leave them out with bad_lines='drop'")


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
        note(Problem(where, f"{n:,} of {len(column):,} times are missing", "drop these rows", name,
                     np.flatnonzero(missing)))
        column = column[~missing]
    if not len(column):
        return None
    kind = id_kind(column, where, lambda problem: note(replace(problem, what=problem.what.replace(" ids ", " times "))))
    if kind == "string" and not problems[bool(n):]:
        column = _parsed(column, where, name, note, np.flatnonzero(~missing))
    elif kind not in ("number", "date", "string", *DATETIMES):
        note(Problem(where, f"it must hold numbers or dates to be sorted by, but {quoted(column.iloc[0])} is of kind "
                            f"{kind}",
                     "convert it with pd.to_datetime(df[column]) or pd.to_numeric(df[column])", name))
    if problems:
        return None
    return (column.dt.tz_convert(None) if isinstance(column.dtype, pd.DatetimeTZDtype) else column).to_numpy()


def _parsed(times: pd.Series, where: str, name: object, note: Found, places: np.ndarray) -> pd.Series:
    """Parse times in ISO 8601 ("2024-05-01", "2024-05-01T12:30:00Z"), to UTC where they have zones."""
    times = times.astype(object)
    parsed = pd.to_datetime(times, format="ISO8601", utc=True, errors="coerce")
    # Digits alone may be a date or seconds, and pandas would read "now" as a time.
    wrong = (parsed.isna() | times.map(lambda text: text.isdigit() or text.lstrip()[:1].isalpha())).to_numpy()
    if n := int(wrong.sum()):
        first = times[wrong].iloc[0]
        way = date_format(times[wrong])
        remedy = ("correct or drop these rows, or make the times numbers with pd.to_numeric" if first.isdigit() else
                  f"read the file with date_format={way!r}, or parse the column first, with pd.to_datetime and that "
                  "format" if way is not None else
                  "correct or drop these rows, or parse the column first, with pd.to_datetime(df[column]); a file "
                  "whose dates are all as 18.10.2018 is read with date_format='%d.%m.%Y'")
        note(Problem(where, f"{n:,} of {len(times):,} times are not written as 2024-05-01 12:30:00 is (ISO 8601)",
                     remedy, name, places[wrong], show(first), {} if way is None else {"date_format": way},
                     in_file="correct or remove these lines" if way is None else f"say date_format={way!r}"))
        return parsed
    zoned = times.map(lambda text: ZONE.search(text) is not None).to_numpy()
    if zoned.any() and not zoned.all():
        first = times[~zoned].iloc[0]
        note(Problem(where, f"{int((~zoned).sum()):,} of {len(times):,} times have no zone",
                     "the others have one: give all of them one", name, places[~zoned], show(first)))
    return parsed


def date_format(texts: pd.Series) -> str | None:
    """The format in which all these texts are dates ("%d.%m.%Y %H:%M" for "18.10.2018 12:30"), or None. Where day and
    month may be either, the day comes first, and so it does wherever there is a point between them."""
    for day in DAYS:
        for clock in CLOCKS:
            if _all_read(texts.iloc[:TRIED], day + clock) and (len(texts) <= TRIED or _all_read(texts, day + clock)):
                return day + clock
    return None


def with_dates(column: pd.Series, format: str) -> pd.Series | None:
    """A column of text as times, where all of it that is there is written in this format; else None."""
    known = column.dropna()
    if not len(known) or not pd.api.types.is_string_dtype(known) or not _all_read(known.iloc[:TRIED], format):
        return None
    times = pd.to_datetime(column, format=format, errors="coerce", utc=format.endswith("%z"))
    return times if not (times.isna() & column.notna()).any() else None


def with_dates_of(table: pd.DataFrame, format: str, path: str | os.PathLike) -> pd.DataFrame:
    """The table with times in each column of text that is written in this format. Raises DataError where there is none,
    or `UnreadDates` where one is, but for fewer than half of its values."""
    made = {str(name): times for name, column in table.items() if (times := with_dates(column, format)) is not None}
    if made:
        return table.assign(**made)
    for name, column in table.items():
        if (times := _mostly_dates(column, format)) is not None:
            raise UnreadDates(path, table, name, times, format)
    raise DataError(f"{path}: in none of the columns {listed(table.columns)} is all text written as "
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
    """Which of n times, at least one, are no dates between 1677 and 2262, a bool (n,): a few in another unit than most,
    a slip of a digit, or a word for "never". None are where numbers are in no known unit."""
    times = as_numbers(times)
    if times.dtype.kind in "iuf":
        unit = unit_of(times)
        if unit is None:
            return np.zeros(len(times), dtype=bool)
        seconds = times.astype(np.float64) / 1000.0 ** [*UNITS].index(unit)
    else:
        seconds = times.astype("datetime64[s]").astype(np.float64)
    return np.abs(seconds) > FAR


def _all_read(texts: pd.Series, format: str) -> bool:
    return bool(pd.to_datetime(texts, format=format, errors="coerce", utc=format.endswith("%z")).notna().all())
