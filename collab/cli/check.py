"""collab check: what is in a table of ratings, and all that is wrong with it, before anything is trained."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..errors import CollabWarning, DataError
from .command import Output, as_options
from .options import As, Data, Quiet, TableOptions, grouped

if TYPE_CHECKING:
    from ..data.data_report import DataReport
    from .inputs import Reading

PICTURES = (".png", ".svg")
Plot = Annotated[Path | None, typer.Option(help="Also draw the ratings, the long tail and the times, into this PNG or "
                                                "SVG file.")]


@grouped
def check(ctx: typer.Context, data: Data, *, table: TableOptions, plot: Plot = None, as_: As = None,
          quiet: Quiet = False) -> None:
    """Look at a table of ratings before training: its columns, everything that is wrong with it, how large and how
    dense it is, and which models suit it.

    Exit code: 0 if collab train would take the tables with these options, 1 if something in them stops it, 2 for an
    error in options or if there is no such file."""
    from ..data.data_report import DataReport
    from ..data.parts import check_bad_rows
    from ..data.tables import read_table
    from .inputs import check_writable, given, is_set, read, with_bad_lines
    from .metadata_files import check_beside
    from .next_command import train_command
    from .output import print_table
    columns: dict[str, Any] = given(**table.columns, duplicates=table.duplicates, bad_rows=table.bad_rows,
                                    threshold=table.threshold)
    check_bad_rows(table.bad_rows or "error")
    if table.choices and table.duplicates is not None:
        raise DataError("implicit data are added up where a pair comes again, and take no --duplicates")
    reading = with_bad_lines(data, table.reading, table.bad_rows)
    beside = check_beside(table.items, table.users, table_sep=table.table_sep, table_encoding=table.table_encoding)
    for file in beside.values():
        if not file.exists():
            read_table(file)        # raises, with what is near
    if plot is not None:
        check_writable(plot, "picture", option="--plot", inputs=[data, *beside.values()])
        if plot.suffix.lower() not in PICTURES:
            raise DataError(f"--plot {plot}: a picture is written as PNG or SVG, by the ending of its name; take one "
                            f"that ends in {' or '.join(PICTURES)}")
    if is_set(data):
        ratings, *_ = read(data, **reading)
        report = DataReport.from_df(ratings, **columns, implicit=table.implicit, name=data)
    else:
        report = DataReport.from_csv(data, **reading, **columns, implicit=table.implicit)
    needs = _look_at(report, beside, table)
    own = {} if table.items is None else given(items=table.items, table_sep=table.table_sep,
                                               table_encoding=table.table_encoding) | needs
    command = train_command(ctx, data, report.options | own)
    ranking = None if report.ranking is None else train_command(ctx, data, report.ranking | own)
    if as_ is Output.JSON:
        document = report.to_dict()
        for row in [*document["problems"], document]:
            row |= {name: as_options(row[name]) for name in ("what", "remedy", "advice") if name in row}
        print(json.dumps(document | {"command": command, "ranking_command": ranking}, ensure_ascii=False))
    elif as_ is Output.CSV:
        told = {name: report.problems[name].map(as_options) for name in ("what", "remedy")}
        print_table(report.problems.drop(columns="options").assign(**told), as_)
    else:
        print(report.text(as_options, chosen=not quiet))
        if report.family:
            rows = "" if beside else " and is about no single row"
            first = f"correct {wrong}, unless what is there is meant; then:\n  " if (wrong := report.to_correct) else ""
            print("\nNext: " + (first + command if report.mended else
                               f"mend what stops training{rows}, and check again"))
            if ranking is not None and report.mended:
                print(f"Or, to rank: {ranking}")
    if plot is not None:
        sys.stdout.flush()
        _draw(report, plot)
    if report.stops:
        raise typer.Exit(1)


def _look_at(report: DataReport, beside: Mapping[str, Path], table: TableOptions) -> dict[str, str]:
    """Report on the files of items and users too, read as training reads them beside ratings with these options.
    Returns further ones with which all of them can be read."""
    needs = {side: _look_at_file(report, side, file, table) for side, file in beside.items()}
    both = {name: value for need in needs.values() for name, value in need.items()}
    for side, need in needs.items():    # --table-encoding and --table-sep are of both files
        if need != both and not _reads_alike(report, side, beside[side], table, need, both):
            report.mended = False
    return both


def _reads_alike(report: DataReport, side: str, file: Path, table: TableOptions, *options: dict[str, str]) -> bool:
    """Whether the file of items or users is the same table by each of these options."""
    from .metadata_files import read_beside
    with warnings.catch_warnings(action="ignore"):
        try:
            one, other = (read_beside(file, side, *_reading_of(report, side, file, table, how)) for how in options)
        except DataError:
            return False
    return one.equals(other)


def _reading_of(report: DataReport, side: str, file: Path, table: TableOptions,
                options: dict[str, str]) -> tuple[Any, str | None]:
    """How the file is read by the options of the ratings, by those that are given and by further ones; its encoding."""
    from .inputs import OPTIONS
    from .metadata_files import reading_beside
    reading = cast("Reading", {name: value for name, value in report.options.items() if name in OPTIONS})
    reading |= table.reading
    sep, encoding = options.get("table_sep", table.table_sep), options.get("table_encoding", table.table_encoding)
    how, = reading_beside({side: file}, reading, table_sep=sep, table_encoding=encoding).values()
    return how, encoding or reading.get("encoding")


def _look_at_file(report: DataReport, side: str, file: Path, table: TableOptions) -> dict[str, str]:
    """Report on the file of items or users; returns the options that it needs, by name, beside those that are given."""
    from ..data.problems import Problem, Unreadable
    from .metadata_files import read_beside
    from .remedies import in_lines
    needs: dict[str, str] = {}
    while True:
        how, encoding = _reading_of(report, side, file, table, needs)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                known = read_beside(file, side, how, encoding)
            except DataError as error:
                mends = error.__cause__.options if isinstance(error.__cause__, Unreadable) else {}
                own = {f"table_{name}": str(mends[name]) for name in ("sep", "encoding") if name in mends}
                new = own if not own.keys() & needs.keys() else {}
                report.note([Problem(f"the file of {side}s", *str(error).partition("; ")[::2], options=new)])
                if not new:
                    return needs
                needs |= new
                continue
        report.note([Problem(f"the file of {side}s", *str(one.message).partition("; ")[::2], stops=False)
                     for one in said if issubclass(one.category, CollabWarning)])
        report.look_at(known, side, partial(in_lines, path=file, n=len(known), reading=how))
        return needs


def _draw(report: DataReport, plot: Path) -> None:
    """Write the picture of a report, or say why there is none."""
    from ..files import write_bytes
    try:
        figure = report.plot()
    except DataError as error:
        print(f"--plot {plot} is not written: {error}", file=sys.stderr)
        return
    drawn = BytesIO()
    figure.savefig(drawn, format=plot.suffix[1:].lower(), dpi=150)
    write_bytes(plot, drawn.getvalue())
