"""What the command line prints, and where."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..interpret.explanation import Explanation, with_whole_ratings
from ..learner.evidence import faint
from ..processes import is_main
from .command import Output

if TYPE_CHECKING:
    from ..learner.collab_learner import CollabLearner

UNLIMITED = 1 << 20     # characters a line, where no terminal has to fit it


@contextmanager
def progress(quiet: bool = False) -> Iterator[None]:
    """Send what work prints while it runs, tables of epochs and bars, to standard error, or nowhere; standard output is
    for results."""
    sys.stdout.flush()          # where both go to one file, in the order of time
    with open(os.devnull, "w") if quiet else nullcontext(sys.stderr) as aside, redirect_stdout(aside):
        yield


def remarks(as_: Output | None, quiet: bool = False) -> Callable[[str], None]:
    """A function that prints lines for people: with --as csv or json to standard error, or nowhere, since the output is
    for programs."""
    def say(text: str) -> None:
        if as_ in (None, Output.TABLE):
            print(text)
        elif not quiet and is_main():
            print(text, file=sys.stderr)
    return say


def note_faint(learn: CollabLearner, quiet: bool = False) -> None:
    """Say on standard error where the factors that are shown may be noise."""
    if (said := faint(learn.recipe)) and not quiet:
        print(f"Note: {said}.", file=sys.stderr)


def print_table(frame: pd.DataFrame, how: Output | None = None, *, decimals: int = 3,
                if_empty: str = "nothing") -> None:
    """Print a table in the way that was asked for, by default as text; `if_empty` stands for a text without rows."""
    if how is Output.CSV:
        print(frame.to_csv(index=False).rstrip())
    elif how is Output.JSON:
        print(frame.to_json(orient="records", force_ascii=False))
    elif len(frame):
        _print_text(frame, decimals)
    else:
        print(f"  ({if_empty})")


def _cell(cell: Any, decimals: int) -> str:
    """A cell as text; blank where there is nothing, or no number (NaN)."""
    if isinstance(cell, float):
        return "" if math.isnan(cell) else f"{cell:.{decimals}f}"
    return "" if cell is None else str(cell)


def _print_text(frame: pd.DataFrame, decimals: int) -> None:
    """Print aligned columns: text to the left, numbers to the right, floats with this many decimals, ratings that are
    all whole numbers (stars, or counts) as such. A terminal that is too narrow gets long text in several lines; in a
    pipe, every row is one line of plain text."""
    from rich.console import Console  # takes 0.1 s
    from rich.table import Table
    from rich.text import Text
    watched = sys.stdout.isatty()
    console = Console(force_terminal=watched, width=None if watched else UNLIMITED)
    table = Table(box=None, padding=(0, 0, 0, 2), header_style="bold")
    written = with_whole_ratings(frame)
    for name, column in frame.items():
        numeric = pd.api.types.is_numeric_dtype(column)
        table.add_column(Text(str(name)), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in zip(*(column.tolist() for _, column in written.items())):
        table.add_row(*(Text(_cell(cell, decimals)) for cell in row))
    if watched:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_explanation(found: Explanation, as_: Output | None = None) -> None:
    """Print why a user gets a score for an item. CSV is one table of the kinds score, part and nearest, with an item or
    a part; JSON one object with the fields of `Explanation`."""
    if as_ is Output.JSON:
        print_document({field.name: getattr(found, field.name) for field in fields(found)})
    elif as_ is Output.CSV:
        rows: list[dict[Any, Any]] = [{"kind": "score", "item": found.item, "title": found.title, "value": found.score}]
        rows += [] if found.parts is None else [{"kind": "part", "part": part, "value": value}
                                                for part, value in found.parts.itertuples(index=False)]
        near = pd.DataFrame() if found.nearest is None else found.nearest.assign(kind="nearest").rename(
            columns={"score": "value"})
        frame = pd.DataFrame(rows + near.to_dict("records"), dtype=object,
                             columns=["kind", "item", "part", "title", "rating", "value"])
        print_table(frame, as_)
    else:
        print(found)


def print_written(path: Path, as_: Output | None = None) -> None:
    """Print which file was written."""
    if as_ is Output.JSON:
        print_document({"written": str(path)})
    elif as_ is Output.CSV:
        print_table(pd.DataFrame({"written": [str(path)]}), as_)
    else:
        print(f"Wrote {path}")


def print_document(document: Mapping[str, object]) -> None:
    """Print one JSON object; tables in it are lists of objects, with null for what is missing."""
    print(json.dumps(document, ensure_ascii=False, default=_plain))


def _plain(value: object) -> object:
    """What JSON has no word for: tables, numbers of NumPy, and ids such as dates."""
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records"))
    return value.item() if isinstance(value, np.generic) else str(value)
