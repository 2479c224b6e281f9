"""All that is wrong or notable with a table at once, by the checks that training itself makes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..errors import CollabWarning, DataError, quoted
from .alike import bare, bare_text, how_written
from .duplicates import BY_TIME, note_repeats
from .family import Family, family_of
from .first_line import header_again, no_header, other_separator
from .frames import as_frame
from .implicit import interactions_of, negative_strengths, schema_of, with_weights
from .metadata import guess_title
from .outliers import outliers
from .problems import Found, Problem
from .roles import ARGUMENTS, guess, misnamed, reasons, refused, taken
from .schema import (
    TIME_NAMES,
    Schema,
    check_both_sides,
    check_column_names,
    is_truth,
    rating_table,
    show,
)
from .tables import INTEGER, MISSING, Unreadable, converted
from .times import NEARLY, UnreadDates, date_format, impossible, times_of

ROUNDS = 8              # problems that hide others and are solved one after the other, at most
TO_SPLIT = "; needed to split by time, and not otherwise"
HALF = 0.5              # above this share, the others are the exceptions
BLANK = {"", "-", "?", *MISSING}
Reader = Callable[..., pd.DataFrame]


@dataclass
class Examined:
    """What was found: the `raw` table, its `columns`, the rows of it that can be used (`table`: user, item, rating and
    perhaps times), `problems`, the options that were `assumed` to see behind those that hide others, and those that
    training `needs` beside them."""

    problems: list[Problem]
    assumed: dict[str, Any]
    n: int = 0
    columns: pd.DataFrame | None = None
    table: pd.DataFrame | None = None
    times: np.ndarray | None = None
    schema: Schema | None = None
    family: Family | None = None
    needs: dict[str, Any] = field(default_factory=dict)

TOO_LONG = re.compile(r"[\d,]+ lines? (has|have) more fields than the first")


def examine(read: Reader, options: Mapping[str, Any], reading: tuple[str, ...]) -> Examined:
    """Examine the table that `read` gives, called with those `options` whose names are in `reading`; the others are
    arguments of `from_df`. A problem with options that mend it hides others: it is kept, its options are assumed, and
    the table is examined again."""
    assumed: dict[str, Any] = {}
    kept: list[Problem] = []
    for _ in range(ROUNDS):
        now = {**options, **assumed}
        found: list[Problem] = []
        result = Examined(found, assumed)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                raw = as_frame(read(**{name: now[name] for name in reading if name in now}))
            for text in [str(one.message) for one in said if issubclass(one.category, CollabWarning)]:
                text = re.sub(r"^.*?: (?=[\d,]+ lines?\b)", "", text)
                if "bad_lines" in assumed and (many := TOO_LONG.match(text)):   # the problem of the first is known
                    kept = [replace(problem, what=f"{problem.what} ({many[0]})") if problem.where == "the file"
                            and "bad_lines" in problem.options and many[0] not in problem.what else problem
                            for problem in kept]
                    continue
                found.append(Problem("the file", text, "", stops=False, chosen="left out" in text and options.get(
                    "bad_lines") == "drop"))
        except UnreadDates as error:
            drop = options.get("bad_lines") == "drop"
            gone = ("with bad_lines='drop' these lines are left out" if drop else
                    "correct these lines, or leave them out with bad_lines='drop'")
            guessed = "date_format" not in options          # only a split by time needs these dates
            unread = Problem(f"column {quoted(error.name)}", error.what, gone + TO_SPLIT * guessed, error.name,
                             error.rows, show(error.first), {} if drop else {"bad_lines": "drop"},
                             stops=not (drop or guessed), chosen=drop)
            found.append(unread)
            places = np.delete(np.arange(n := len(error.table) + len(error.rows)), error.rows)
            result = replace(_examine(error.table, now, found, assumed, places), n=n)
        except Unreadable as error:
            found.append(Problem("the file", _without(str(error)), _say(error.options), options=error.options))
        except DataError as error:
            found.append(Problem("the file", str(error), ""))
        else:
            result = _examine(raw, now, found, assumed)
        hiding = next((p for p in found if any(name not in assumed for name in p.options)), None)
        if hiding is None:
            break
        kept.append(hiding)
        assumed = {**assumed, **{name: value for name, value in hiding.options.items() if name not in assumed}}
    told = {(problem.where, problem.found()) for problem in kept}        # the remedy is another once it is assumed
    result.problems, result.assumed = [*kept, *(p for p in found if (p.where, p.found()) not in told)], assumed
    return result


def _say(options: Mapping[str, object]) -> str:
    return "say " + ", ".join(f"{name}={value!r}" for name, value in options.items())


def _without(message: str) -> str:
    """The message of an Unreadable file without its path, which the reader knows, and its remedy."""
    begin = re.sub(r"; (say|if that line|correct that line).*", "", message)
    begin = re.sub(r"^.*?: (?=column )", "", begin)
    begin = re.sub(r"^.*?, line (?=\d+: \d+ fields)", "line ", begin)
    return re.sub(r"^.*? (?=has a single|is not written|holds bytes)", "it ", begin)


def _examine(raw: pd.DataFrame, options: Mapping[str, Any], found: list[Problem], assumed: dict[str, Any],
             places: np.ndarray | None = None) -> Examined:
    """Examine a table, whose rows are those at these `places` of the file, by default all."""
    n, at = len(raw), np.arange(len(raw)) if places is None else places
    result = Examined(found, assumed, n)

    def note(problem: Problem) -> None:
        found.append(replace(problem, rows=at[problem.rows]))
    if (layout := other_separator(raw, options) or no_header(raw, options)) is not None:
        note(layout)
        return result
    for name in raw.columns:
        base = re.sub(r"\.\d+$", "", str(name))
        if base != str(name) and base in raw.columns:
            note(Problem("the columns", f"the name {quoted(base)} occurs several times; the later one is called "
                                        f"{quoted(name)}",
                         "make sure that each column is the one you mean", name, stops=False))
    again = header_again(raw)
    if len(again):
        note(Problem("the table", f"{len(again):,} of {n:,} rows are the column names again",
                     "drop these rows", None, again, show(str(raw.iloc[again[0], 0])), in_file="remove these lines"))
        at = np.delete(at, again)
        raw = raw.drop(raw.index[again]).reset_index(drop=True)
        raw = pd.DataFrame({k: converted(column, k < 2) for k, (_, column) in enumerate(raw.items())}).set_axis(
            raw.columns, axis=1)
    given = {role: options.get(argument) for role, argument in ARGUMENTS.items()}
    implicit, threshold = options.get("implicit", False), options.get("threshold")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        schema = _schema(raw, given, note, implicit=implicit or threshold is not None, threshold=threshold)
    for warning in said:
        if issubclass(warning.category, CollabWarning):
            note(Problem("the columns", str(warning.message), "", stops=False))
    result.schema = schema
    if schema is None:
        return result
    result.columns = reasons(raw, schema, given, assumed)
    if (why := misnamed(raw, schema, given)) and (guessed := guess(raw, given)):
        note(Problem("the columns", why, _say(guessed), options=guessed,
                     stops=refused(raw, schema, implicit=implicit or threshold is not None)))
        return result
    if not n:
        note(Problem("the table", "it has column names, and no row", "check that this is the right file"))
        return result
    implicit = implicit or threshold is not None
    there = schema.rating in raw
    if there and not implicit and (missing := _no_ratings(raw, schema)) is not None:
        note(missing)
        return result
    try:
        weighed = with_weights(raw, schema.rating, threshold) if implicit else raw
    except DataError as error:
        what, _, remedy = str(error).partition("; ")
        note(Problem("the ratings", what, remedy))
        return result
    table = rating_table(weighed, schema, note)
    for role in ("user", "item"):
        _odd_ids(table[role], schema.roles()[role], role, note)
    usable = table[["user", "item", "rating"]].notna().all(axis=1).to_numpy(copy=True)
    for problem in found:
        usable &= ~(np.isin(at, problem.rows) & problem.stops)
    table = table[usable]
    if implicit and len(table):
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                table = interactions_of(table, schema, threshold, note)
            for warning in said:
                what = str(warning.message).partition(": ")[2]
                note(Problem(f"column {quoted(schema.rating)}", what, "", schema.rating, stops=False))
        except DataError as error:
            note(Problem("the ratings", str(error), ""))
    if options.get("bad_rows") == "drop":
        found[:] = [_left_out(problem) for problem in found]
    if not len(table):
        note(Problem("the table", f"none of {n:,} rows can be used", "mend what is said above"))
        return result
    check_both_sides(table, schema, note)
    values = pd.Series(table["rating"].to_numpy(), index=table.index, name=schema.rating)
    far = outliers(values, schema.rating, implicit=implicit)
    result.family = family_of(values if far is None else values.drop(values.index[far.rows]), given=there)
    chosen = bool(result.family.options)
    repeated = note_repeats(table, schema, options.get("duplicates"), chosen or implicit, note)
    if repeated and not (chosen or implicit) and "duplicates" not in options:
        result.needs["duplicates"] = "mean"
    if chosen and there and not implicit and (
            wrong := negative_strengths(table, schema, counts=True)) is not None:
        note(replace(wrong, stops=False))
        result.needs["bad_rows"] = "drop"
    if chosen and there and not implicit and taken(raw, given, result.family.options) != schema.rating:
        result.needs["rating_name"] = schema.rating
    if chosen and not implicit:
        far = outliers(values, schema.rating, implicit=True)        # as the choices that they are
    if far is not None:
        note(replace(far, rows=table.index.to_numpy()[far.rows]))
    result.times = _times(raw, schema, note, usable, options)
    others = raw.drop(columns=[name for name in schema.roles().values() if name in raw])
    if options.get("title_name") is None and (title := guess_title(others)) is not None:
        note(Problem(f"column {quoted(title)}", "by its name it holds titles, and it is not used",
                     f"say title_name={quoted(title)}, unless a table of items has them", title,
                     options={"title_name": title}, stops=False))
    result.table = table[["user", "item", "rating"]].reset_index(drop=True)
    return result


def _left_out(problem: Problem) -> Problem:
    """A problem that stops training as a note, where bad_rows="drop" leaves its rows out."""
    if not problem.stops or problem.options or not len(problem.rows):
        return problem
    gone = "with bad_rows='drop' these rows are left out"
    return replace(problem, stops=False, chosen=True, remedy=gone, in_file=gone.replace("rows are", "lines are"))


# The columns ------------------------------------------------------------------------------------------------------

def _schema(raw: pd.DataFrame, given: Mapping[str, Hashable | None], note: Found, *, implicit: bool,
            threshold: float | None) -> Schema | None:
    """The schema by the rules of training or, where these find none, that of a guess, which is noted as remedy."""
    names = (given["user"], given["item"], given["rating"], given["time"])
    try:
        return schema_of(raw, names, implicit=implicit, threshold=threshold)
    except DataError as error:
        message = str(error)
    guessed: dict[str, object] = {}
    if not raw.columns.has_duplicates:
        guessed = guess(raw, given)
    else:
        try:
            check_column_names(raw)
        except DataError as error:
            message = str(error)
    if guessed:
        message = re.sub(r"(\. The columns are|; say which|; a table of what).*", "", message, flags=re.S)
    note(Problem("the columns", message, _say(guessed) if guessed else "", options=guessed))
    return None


def _no_ratings(raw: pd.DataFrame, schema: Schema) -> Problem | None:
    """The third column holds text, none of which is a number: it is not the one of ratings."""
    column = raw[schema.rating]
    known = column.dropna()
    if not len(known) or not pd.api.types.is_string_dtype(known):
        return None
    dated = date_format(known) is not None or times_of(known, found=lambda _: None) is not None
    if is_truth(known) or (known.astype(str).str.contains(r"\d").any() and not dated):
        return None
    others = raw.drop(columns=[schema.rating])
    options = guess(others, {"user": schema.user, "item": schema.item})
    if "implicit" not in options and len(others.columns) > 2:
        options.setdefault("rating_name", others.columns[2])        # in its place, now that the text is gone
    if dated:
        options["time_name"] = schema.rating
    two = "write its two values as 1 and 0, or True and False; else " if known.nunique() == 2 < len(known) else ""
    return Problem(f"column {quoted(schema.rating)}", f"it is taken for the ratings, and none of its {len(raw):,} "
                   f"values is a number (such as {show(known.iloc[0])})", f"{two}say " + (
                       f"rating_name={quoted(options['rating_name'])}" if "rating_name" in options else
                       "which column holds the ratings with rating_name=... or, where none does, "
                       + " and ".join(f"{k}={v!r}" for k, v in ({"implicit": True} | options).items()
                                      if k in ("implicit", "time_name"))),
                   schema.rating, options={k: v for k, v in options.items() if k not in ("user_name", "item_name")})


# Values -----------------------------------------------------------------------------------------------------------

def _odd_ids(ids: pd.Series, name: Hashable, role: str, note: Found) -> None:
    """Notable among ids that are text: a few that are not numbers as the others are, words for a missing one, and those
    that differ in capitals, spaces or leading zeros alone."""
    if not pd.api.types.is_string_dtype(ids.dropna()):
        return
    where, every = f"column {quoted(name)}", ids.dropna().drop_duplicates()
    stripped = every.str.strip()
    if len(words := every[stripped.isin(BLANK)]):
        rows = np.flatnonzero(ids.isin(words))
        note(Problem(where, f"{len(rows):,} of {len(ids):,} {role}s are called as a missing value is", "each such word "
                     f"is one {role}, with all these ratings: remove the rows if nobody is meant", name, rows,
                     show(ids.iloc[rows[0]]), stops=False))
    numbers = stripped.str.fullmatch(INTEGER)
    if HALF < numbers.mean() < 1:
        rows = np.flatnonzero(ids.isin(every[~numbers & ~stripped.isin(BLANK)]))
        if len(rows):
            note(Problem(where, f"ids of mixed kinds: {int(numbers.sum()):,} of {len(every):,} {role}s are whole "
                         f"numbers, and those in {len(rows):,} rows are not", "all are read as text, so that '5' and "
                         "'05' are different: correct them, if they should be numbers", name, rows,
                         show(ids.iloc[rows[0]]), stops=False))
    folded = bare_text(every)
    if n := int(folded.duplicated().sum()):
        each = pd.DataFrame({"id": every, "folded": folded, "n": every.map(ids.value_counts()),
                             "bare": every == stripped})
        each = each.sort_values(["n", "bare"], ascending=False, kind="stable")
        rows = np.flatnonzero(ids.isin(each["id"][each["folded"].duplicated()]))    # all but the spelling of most rows
        odd = ids.iloc[rows[0]]
        first = each.drop_duplicates("folded").set_index("folded")["id"]
        usual, other = first[bare(odd)], each[each["folded"].duplicated()]
        pairs = zip(other["folded"].map(first), other["id"])
        note(Problem(where, f"{n:,} of the {role}s differ from another one in {how_written(pairs)} alone, as "
                     f"{show(usual)} and {show(odd)} do",
                     f"they are different {role}s: write them alike if they are not", name, rows,
                     show(odd), stops=False))


def _nearly_times(column: pd.Series) -> bool:
    """Whether at least 99% of a column of text, none missing, is written as times are."""
    found: list[Problem] = []
    return times_of(column, found=found.append) is not None or all(
        0 < len(problem.rows) <= (1 - NEARLY) * len(column) for problem in found)


def _times(raw: pd.DataFrame, schema: Schema, note: Found, usable: np.ndarray,
           options: Mapping[str, Any]) -> np.ndarray | None:
    """The times of the usable rows that are possible, or None. What is wrong with them stops splits by time, and the
    choice of the first or last rating of a pair, alone."""
    if schema.time is not None:
        column, rows = raw[schema.time][usable], np.flatnonzero(usable)

        def note_time(problem: Problem) -> None:
            problem = replace(problem, rows=rows[problem.rows])
            if options.get("duplicates") in BY_TIME:
                note(_left_out(problem) if options.get("bad_rows") == "drop" else problem)
                return
            note(replace(problem, stops=False, remedy=f"{problem.remedy}{TO_SPLIT}",
                         in_file=problem.in_file and f"{problem.in_file}{TO_SPLIT}"))
        times = times_of(column, schema.time, note_time)
        if times is None or not (far := impossible(times)).any():
            return times
        note(Problem(f"column {quoted(schema.time)}", f"{int(far.sum()):,} of {len(times):,} times are not between "
                                                      "1677 and "
                     "2262, as the others are read", "a split by time takes them for the earliest or the latest: "
                     "correct or drop these rows", schema.time, rows[far], show(column.iloc[int(far.argmax())]),
                     stops=False, in_file="a split by time takes them for the earliest or the latest: correct or "
                     "remove these lines"))
        return times[~far]
    for name in raw:
        column = raw[name].dropna()
        if name in schema.roles().values() or not len(column) or str(name).lower() in TIME_NAMES:
            continue
        text = pd.api.types.is_string_dtype(column)
        way = date_format(column) if text else None
        if way is not None or column.dtype.kind == "M" or (text and _nearly_times(column)):
            how = {"time_name": name} | ({"date_format": way} if way else {})
            note(Problem(f"column {quoted(name)}", f"it looks like times, such as {show(column.iloc[0])}, and is not "
                                                   "used",
                         "to split by time, " + " and ".join(_say(how).split(", ")), name, options=how, stops=False))
            return None
    return None


