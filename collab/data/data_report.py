"""`DataReport`: what is in a table of ratings before anything is trained, all its problems, and what to train on it."""

from __future__ import annotations

import html
import math
import os
import re
import textwrap
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import DataError, amount
from ..plotting import cut
from .beside import problems_beside
from .checking import Examined, examine
from .family import family_of
from .frames import Table, TableLike, as_frame
from .lines import line_numbers
from .outliers import outliers
from .problems import Problem
from .profile import RARE, sizes, spread, tails, when
from .tables import read_table
from .times import with_dates_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .databunch import CollabDataBunch

READING = ("format", "sep", "header", "encoding", "decimal", "date_format", "bad_lines")
CHOSEN = "as you say, they are read as choices: train a model that ranks, such as als"
WIDTH = 96          # columns of text
PLACES = 6          # rows of a problem that are named
CELL = 24           # columns of a cell in the table of columns
QUOTED = re.compile(r" {2,}| (?='(?:\W|$))|(?<=\W') ")      # spaces of an id in quotation marks: no line ends there
KEPT = "\ue000"     # stands for these while lines are broken


class DataReport:
    """What is in a table of ratings, as tables, and everything that is wrong with it, at once. Made by `from_df`,
    `from_csv` or `CollabDataBunch.report`; printed it is text, in a notebook tables and a picture (`plot`).

    - `problems`: one row for each: whether it `stops` training, `where` and `what` it is, in how many `rows`, the first
      of these (`at`: lines of a text file, from 1, or rows of a table, from 0), an `example` and the `remedy`.
    - `columns`: each column of the table, its role and why it has it.
    - `counts`, `ratings`, `tail`, `times`: sizes and density; the distribution of ratings; how the ratings fall on
      users and items; the range of times. Of the rows that can be used; None where there are none, or no times.
    - `family`: "ratings", "likes", "likes and dislikes", "counts", "amounts" or "choices", told by the `sign`; `advice`
      says what to train.
    - `options`: the arguments with which the table can be trained on: those given, those that mend what is wrong, those
      of its family, and bad_rows="drop" where rows cannot be used. `mended` says whether they are enough.
    - `ranking`: the same to rank what was liked, of ratings on a scale; else None."""

    def __init__(self, name: str, examined: Examined, given: dict[str, Any], lines: dict[int, int] | None = None):
        self.name, self._lines = name, lines or {}
        family, table, times = examined.family, examined.table, examined.times
        self.n_rows = examined.n
        self.columns = None if examined.columns is None else Table(examined.columns)
        self._in_file, self._schema = lines is not None, examined.schema
        self._in_order = sorted(examined.problems, key=lambda p: not p.stops)
        self.problems = self._problems()
        usable = table is not None and len(table)
        self.counts = Table(sizes(table)) if table is not None and usable else None
        self.tail = Table(tails(table)) if table is not None and usable else None
        self.ratings = Table(spread(table["rating"])) if table is not None and usable else None
        self.times: pd.DataFrame | None = None
        self.dates: pd.Series | None = None
        if times is not None and len(times):
            self.times, self.dates = when(times)
        self.table = table
        self.family, self.sign = ("", "") if family is None else (family.name, family.sign)
        self.advice = "" if family is None else CHOSEN if {"implicit", "threshold"} & {*given} else family.advice
        self.options = (given | examined.assumed | ({} if family is None or "threshold" in given else family.options)
                        | examined.needs)
        if self.times is not None and self.options.get("implicit"):
            self.advice += "; with these times, sasrec (split=leave_last(1)) learns what comes next"
        left = [p for p in examined.problems if p.stops and not p.options]
        self.mended = table is not None and all(len(p.rows) for p in left)
        if left and self.mended:
            self.options["bad_rows"] = "drop"
        self.ranking: dict[str, Any] | None = None
        if family is not None and family.threshold is not None and not {"implicit", "threshold"} & {*given}:
            assert examined.schema is not None
            self.ranking = {name: value for name, value in self.options.items() if name != "duplicates"} | {
                "threshold": family.threshold, "implicit": True, "rating_name": examined.schema.rating}

    # Made of -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_df(cls, ratings: TableLike, user_name: Hashable | None = None, item_name: Hashable | None = None,
                rating_name: Hashable | None = None, time_name: Hashable | None = None, *, implicit: bool = False,
                threshold: float | None = None, duplicates: str | None = None, title_name: Hashable | None = None,
                bad_rows: str = "error", items: TableLike | None = None, users: TableLike | None = None,
                name: str = "the table") -> DataReport:
        """Report on a table of ratings, with those arguments of `CollabDataBunch.from_df` that say how it is read, and
        on tables of `items` and `users` (see `look_at`); `name` is what the report calls it. Raises DataError only for
        something that is not a table."""
        frame = as_frame(ratings)
        given = _given(user_name=user_name, item_name=item_name, rating_name=rating_name, time_name=time_name,
                       title_name=title_name, threshold=threshold, implicit=implicit or None,
                       duplicates=duplicates,
                       bad_rows=None if bad_rows == "error" else bad_rows)
        report = cls(name, examine(lambda **_: frame, given, ()), given)
        for side, table in (("item", items), ("user", users)):
            if table is not None:
                report.look_at(table, side)
        return report

    @classmethod
    def from_csv(cls, path: str | os.PathLike, format: str | None = None, *, sep: str | None = None,
                 header: bool | None = None, encoding: str | None = None, decimal: str | None = None,
                 date_format: str | None = None, bad_lines: str | None = None, **options: Any) -> DataReport:
        """Report on the file at `path`, read as `read_table` reads it; `options` are those of `from_df`. Where it
        cannot be read so, but with other options, the report says so and goes on with these.

        Raises DataError for a file that is not there."""
        if not Path(path).expanduser().exists():
            read_table(path)        # raises, with what is near
        given = _given(format=format, sep=sep, header=header, encoding=encoding, decimal=decimal,
                       date_format=date_format, bad_lines=bad_lines,
                       **{**options, "implicit": options.get("implicit") or None})
        ids = [given[name] for name in ("user_name", "item_name") if name in given]
        def reading(date_format: str | None = None, **how: Any) -> pd.DataFrame:    # dates apart: their rows are told
            table = read_table(path, **how, ids=ids)
            return table if date_format is None else with_dates_of(table, date_format, path)
        found = examine(reading, given, READING)
        now = {name: value for name, value in {**given, **found.assumed}.items() if name in READING}
        wanted = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(p.rows[:PLACES] for p in found.problems)]))
        return cls(str(path), found, given, line_numbers(Path(path), wanted.tolist(), **{
            name: now[name] for name in READING if name in now and name != "date_format"}))

    @classmethod
    def from_databunch(cls, data: CollabDataBunch) -> DataReport:
        """Report on the ratings of all parts of a databunch, which keeps no times; those that a threshold leaves out
        are not among them."""
        known = [tuple(t.cpu() for t in data.train.tensors),
                 *(part for name, part in data.aside.parts.items() if name != "weak")]
        users, items, ratings = (np.concatenate(part) for part in zip(*(
            (data.aside.users.decode(u), data.aside.items.decode(i), r.numpy()) for u, i, r in known)))
        table = pd.DataFrame({"user": users, "item": items, "rating": ratings.astype(np.float64)})
        table = table[table["user"].notna() & table["item"].notna()].reset_index(drop=True).infer_objects()
        values = pd.Series(table["rating"].to_numpy(), name=data.schema.rating)
        far = outliers(values, data.schema.rating, implicit=data.implicit)
        columns = pd.DataFrame([{"column": name, "role": role} for role, name in data.schema.roles().items()])
        found = Examined([] if far is None else [far], {}, len(table), columns, table, None, data.schema,
                         family_of(values))
        return cls("the databunch", found, {"implicit": True} if data.implicit else {})

    # What it says ------------------------------------------------------------------------------------------------

    @property
    def stops(self) -> bool:
        """Whether something stops training with the options that were given."""
        return bool(self.problems["stops"].any())

    @property
    def to_correct(self) -> str:
        """What to correct, or to confirm, before training though nothing stops it, such as "line 7, or remove it";
        empty where there is nothing."""
        rows = [row for row, problem in zip(self.problems.to_dict("records"), self._in_order) if problem.misleads]
        return " and ".join(f"{self._places(row['rows'], row['at'])}, or remove "
                            f"{'it' if row['rows'] == 1 else 'them'}" for row in rows)

    def look_at(self, table: TableLike, side: str, said: Callable[[str], str] = str) -> None:
        """Also report on a table of metadata, of `side` "item" or "user", by what training says of it: ids that are
        missing or repeated, rated ones without a row, rows that no rating has, titles. `said` may put it in other
        words. Nothing is told of it where no rating can be used."""
        if self.table is None or self._schema is None or not len(self.table):
            return
        titled = self.options.get("title_name")
        if side == "item" and (own := [p for p in self._in_order if "title_name" in p.options]):
            self._in_order = [p for p in self._in_order if p not in own]        # titles are those of the table
            titled = None
            for options in (self.options, self.ranking or {}):
                options.pop("title_name", None)
        self.note([replace(p, what=said(p.what), remedy=said(p.remedy)) for p in problems_beside(
            table, side, self.table[side], self._schema.roles()[side], titled)])

    def note(self, problems: list[Problem]) -> None:
        """Add problems, which no option mends but those that they name."""
        self._in_order = sorted([*self._in_order, *problems], key=lambda p: not p.stops)
        self.problems = self._problems()
        self.mended = self.mended and not any(p.stops and not p.options for p in problems)

    def _problems(self) -> Table:
        rows = []
        for problem in self._in_order:
            at = [self._lines.get(row, row) for row in problem.rows[:PLACES].tolist()]
            rows.append({"stops": problem.stops, "where": problem.where, "what": problem.what,
                         "rows": len(problem.rows), "at": at, "example": problem.example,
                         "remedy": (self._in_file and problem.in_file) or problem.remedy,
                         "options": dict(problem.options)})
        names = ["stops", "where", "what", "rows", "at", "example", "remedy", "options"]
        return Table({name: pd.Series([row[name] for row in rows], dtype={"stops": bool, "rows": int}.get(name, object))
                      for name in names})

    def _places(self, n: int, at: list[int]) -> str:
        """Where `n` rows are, of which the first are `at`: "lines 3, 9 and 12", or "row 0"."""
        what, named = "line" if self._lines else "row", [f"{place:,}" for place in at]
        more = f"{n - len(named):,} more" if n > len(named) else named.pop()
        return f"{what}{'s' if n > 1 else ''} {', '.join(named)}{' and ' if named else ''}{more}"

    def text(self, said: Callable[[str], str] = str, *, chosen: bool = True) -> str:
        """The report as text of at most 100 columns; `said` may put what is said about options in other words. Without
        `chosen` it says nothing of what the options that were given have asked for, such as rows that are left out."""
        parts = [f"{self.name}: {self.n_rows:,} rows" + (f", {len(self.columns):,} columns" if self.columns is not None
                                                          and "why" in self.columns else "")]
        if self.columns is not None:
            parts.append(_aligned(self.columns.astype(object).map(lambda cell: cut(f"{cell:,}" if isinstance(cell, int)
                                                                                  else str(cell), CELL))))
        parts.append(self._problem_text(said, chosen))
        parts += self._measures()
        if self.family:
            parts.append(_wrapped(f"This looks like {self.family}: {self.sign}. {_capital(said(self.advice))}."))
        return "\n\n".join(part for part in parts if part)

    def _problem_text(self, said: Callable[[str], str], chosen: bool) -> str:
        rows = [row for row, problem in zip(self.problems.to_dict("records"), self._in_order)
                if chosen or problem.stops or not problem.chosen]
        stops = int(self.problems["stops"].sum())
        notes = len(rows) - stops
        head = (f"{_count(stops, 'problem')} {'stops' if stops == 1 else 'stop'} training" if stops else
                "Nothing stops training") + (f"; {_count(notes, 'thing')} to know:" if notes else ":" if stops else ".")
        lines = [head]
        for row in rows:
            mark = "  STOPS  " if row["stops"] else "  note   "
            sentence = f"{row['where']}: {said(row['what'])}"
            if row["rows"]:
                shown = row["example"]
                example = "" if shown is None else f"such as {cut(shown, 40) if len(shown) > 40 else shown}; "
                sentence += f" ({example}{self._places(row['rows'], row['at'])})"
            lines += ["", _wrapped(sentence, mark)]
            if row["remedy"]:
                lines.append(_wrapped(said(row["remedy"]), "         -> ", "            "))
        return "\n".join(lines)

    def _measures(self) -> list[str]:
        if self.counts is None or self.tail is None or self.ratings is None:
            return []
        c, what = self.counts.iloc[0], "choices" if self.options.get("implicit") else "ratings"
        left_out = self.n_rows - int(c["ratings"])
        density = f"{c['density']:.3g}" if c["density"] < 0.001 else f"{c['density']:.2%}"
        said = [f"{c['ratings']:,.0f} rows can be used, {left_out:,} cannot. " if left_out else "",
                f"{_count(int(c['users']), 'user')} and {_count(int(c['items']), 'item')}; ",
                f"{density} of all pairs are there."]
        tail = self.tail
        shown = pd.DataFrame({"": tail["of"], "number": tail["n"].map("{:,}".format),
                              f"{what} of each: mean": tail["mean"].map("{:,.1f}".format),
                              "median": tail["median"].map("{:,.0f}".format), "most": tail["most"].map("{:,}".format),
                              "on top 1%": tail["top_1%"].map("{:.0%}".format),
                              "top 10%": tail["top_10%"].map("{:.0%}".format),
                              "Gini": tail["gini"].map("{:.2f}".format),
                              "with 1": tail["with_1"].map("{:,}".format),
                              f"below {RARE}": tail[f"below_{RARE}"].map("{:,}".format)})
        rare = [f"{n:,} of {m:,} {of} ({n / m:.0%})"
                for of, n, m in zip(tail["of"], tail[f"below_{RARE}"], tail["n"]) if n]
        parts = [_wrapped("".join(said)), _aligned(shown, right=True)]
        if rare:
            parts.append(_wrapped(f"{' and '.join(rare)} have fewer than {RARE} {what}, too few to learn much more of "
                                  "them than how they differ from the average."))
        if self.family != "choices":
            assert self._schema is not None
            parts.append("\n".join(_bars(self.ratings, "Ratings" if what == "ratings" else str(self._schema.rating))))
        if self.times is not None:
            t = self.times.iloc[0]
            days = f", {t['days']:,} days" if "days" in self.times else ""
            parts.append(_wrapped(f"Times: {t['first']} to {t['last']}{days} (read as {t['read_as']})."))
        return parts

    def __repr__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        def plain(table: pd.DataFrame | None) -> list[dict[str, Any]] | None:
            return None if table is None else [{str(k): _plain(v) for k, v in row.items()}
                                               for row in table.to_dict("records")]

        def first(table: pd.DataFrame | None) -> dict[str, Any] | None:
            return next(iter(plain(table) or ()), None)
        return {"name": self.name, "rows": self.n_rows, "stops": self.stops, "problems": plain(self.problems),
                "columns": plain(self.columns), "counts": first(self.counts), "tail": plain(self.tail),
                "ratings": plain(self.ratings), "times": first(self.times),
                "family": self.family, "sign": self.sign, "advice": self.advice,
                "options": {name: _plain(value) for name, value in self.options.items()}}

    # Pictures ----------------------------------------------------------------------------------------------------

    def plot(self) -> Figure:
        """Draw how the ratings are distributed, how they fall on items and users (both axes logarithmic), and over time
        where there are times; returns the figure. Raises DataError where no row can be used."""
        from .data_pictures import draw
        if self.table is None or not len(self.table):
            raise DataError("there is nothing to draw: no row of the table can be used")
        return draw(self.table, self.dates)

    def _repr_html_(self) -> str:
        from .data_pictures import as_png
        picture = "" if self.table is None or not len(self.table) else (
            f'<img alt="Distribution of ratings, long tail, times" src="data:image/png;base64,{as_png(self.plot())}">')
        tables = [f"<h4>{title}</h4>{table.to_html(index=False, escape=True, na_rep='', float_format='{:.4g}'.format)}"
                  for title, table in (("Columns", self.columns), ("Problems", self.problems.drop(columns="options")),
                                       ("Counts", self.counts), ("The long tail", self.tail), ("Ratings", self.ratings),
                                       ("Times", self.times)) if table is not None and len(table)]
        end = f"<p>This looks like {html.escape(self.family)}: {html.escape(self.sign)}.</p>" if self.family else ""
        return f"<h3>{html.escape(self.name)}: {self.n_rows:,} rows</h3>{end}{picture}{''.join(tables)}"


# Text -------------------------------------------------------------------------------------------------------------

def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _wrapped(text: str, begin: str = "", then: str | None = None) -> str:
    then = " " * len(begin) if then is None else then
    whole = QUOTED.sub(lambda spaces: KEPT * len(spaces[0]), text)
    return textwrap.fill(whole, WIDTH, initial_indent=begin, subsequent_indent=then,
                         break_long_words=False, break_on_hyphens=False).replace(KEPT, " ")


def _aligned(table: pd.DataFrame, *, right: bool = False) -> str:
    """Columns of text, each as wide as its widest cell."""
    cells = [[str(name), *map(str, column)] for name, column in table.items()]
    widths = [max(map(len, column)) for column in cells]
    return "\n".join(("  " + "  ".join(cell.rjust(width) if right and k else cell.ljust(width)
                                       for k, (cell, width) in enumerate(zip(row, widths)))).rstrip()
                     for row in zip(*cells))


def _bars(ratings: pd.DataFrame, what: str) -> list[str]:
    """The distribution of ratings, or of `what` they are, as lines of text."""
    if "quantile" in ratings:
        named = {0: "lowest", 0.5: "median", 1: "highest"}
        return [f"{what}: " + ", ".join(f"{named.get(q, f'{q:.0%}')} {amount(r)}" for q, r in zip(
            ratings["quantile"], ratings["rating"])) + "."]
    longest = ratings["share"].max()
    return [f"{what}:", *(f"  {amount(r):>8}  {n:>12,}  {share:>6.1%}  {'#' * max(1, math.ceil(40 * share / longest))}"
                          for r, n, share in zip(ratings["rating"], ratings["rows"], ratings["share"]))]


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)


