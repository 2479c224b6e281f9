"""collab check: what is in a table of ratings, and all that is wrong with it, before anything is trained."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .command import Output, as_options
from .options import (
    As,
    BadRows,
    Data,
    DateFormat,
    DecimalMark,
    Duplicates,
    Encoding,
    Format,
    Header,
    Implicit,
    ItemCol,
    RatingCol,
    Sep,
    Threshold,
    TimeCol,
    TitleCol,
    UserCol,
)

if TYPE_CHECKING:
    from ..data.data_report import DataReport

NAMES = {"user_name": "--user-col", "item_name": "--item-col", "rating_name": "--rating-col", "time_name": "--time-col",
         "title_name": "--title-col"}
Plot = Annotated[Path | None, typer.Option(help="Also draw the ratings, the long tail and the times, into this PNG or "
                                                "SVG file.")]


def check(data: Data, user_col: UserCol = None, item_col: ItemCol = None, rating_col: RatingCol = None,
          time_col: TimeCol = None, title_col: TitleCol = None, sep: Sep = None, format: Format = None, header: Header =
          None, encoding: Encoding = None, decimal: DecimalMark = None, date_format: DateFormat = None,
          duplicates: Duplicates = None, bad_rows: BadRows = None, implicit: Implicit = False,
          threshold: Threshold = None, plot: Plot = None, as_: As = None) -> None:
    """Look at a table of ratings before training: its columns, everything that is wrong with it, how large and how
    dense it is, and which models suit it.

    Exit code: 0 if collab train would take the table with these options, 1 if something stops it, 2 if there is no such
    file."""
    from ..data.data_report import DataReport
    from ..data.parts import check_bad_rows
    from .inputs import check_writable, given, is_set, read, reading_of, takes
    from .output import print_table
    reading = reading_of(sep=sep, format=format, header=header, encoding=encoding, decimal=decimal,
                         date_format=date_format)
    columns: dict[str, Any] = given(user_name=user_col, item_name=item_col, rating_name=rating_col, time_name=time_col,
                    title_name=title_col, duplicates=duplicates, bad_rows=bad_rows, threshold=threshold)
    check_bad_rows(bad_rows or "error")
    if bad_rows == "drop" and "bad_lines" in takes(data, format, sep):
        reading = {**reading, "bad_lines": "drop"}
    if plot is not None:
        check_writable(plot)
    if is_set(data):
        ratings, *_ = read(data, **reading)
        report = DataReport.from_df(ratings, **columns, implicit=implicit, name=data)
    else:
        report = DataReport.from_csv(data, **reading, **columns, implicit=implicit)
    if plot is not None and report.table is not None:
        report.plot().savefig(plot, dpi=150)
    if as_ is Output.JSON:
        print(json.dumps(report.to_dict() | {"command": command(data, report)}, ensure_ascii=False))
    elif as_ is Output.CSV:
        print_table(report.problems.drop(columns="options"), as_)
    else:
        print(report.text(as_options))
        if report.family:
            print("\nNext: " + (command(data, report) if report.mended else
                               "mend what stops training and is about no single row, and check again"))
    if report.stops:
        raise typer.Exit(1)


def command(source: str, report: DataReport) -> str:
    """The command that trains on a table, with the options that it needs."""
    options: Mapping[str, Any] = report.options
    words = ["collab", "train", source]
    for name, value in options.items():
        if name == "header":
            words.append("--header" if value else "--no-header")
        elif name == "implicit":
            words += ["--implicit"] * bool(value and "threshold" not in options)
        elif name == "bad_lines":
            words += ["--bad-rows", value] * ("bad_rows" not in options)
        elif value is not None:
            words += [NAMES.get(name, f"--{name.replace('_', '-')}"),
                      f"{value:g}" if name == "threshold" else str(value)]
    if options.get("implicit") or "threshold" in options:
        words += ["--model", "als"]
    return shlex.join(words)
