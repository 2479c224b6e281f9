"""What the command line prints: tables, and how good a model is."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.batches import TensorBatches
from ..evaluate import advice, evaluation
from ..evaluate.held_out import NobodyToRank
from ..evaluate.result import RankingResult
from ..interpret.explanation import Explanation
from ..learner.collab_learner import CollabLearner
from .command import Output, as_options

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
        elif not quiet:
            print(text, file=sys.stderr)
    return say


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


def _print_text(frame: pd.DataFrame, decimals: int) -> None:
    """Print aligned columns: text to the left, numbers to the right, floats with this many decimals. A terminal that is
    too narrow gets long text in several lines; in a pipe, every row is one line of plain text."""
    from rich.console import Console  # takes 0.1 s
    from rich.table import Table
    from rich.text import Text
    watched = sys.stdout.isatty()
    console = Console(force_terminal=watched, width=None if watched else UNLIMITED)
    table = Table(box=None, padding=(0, 0, 0, 2), header_style="bold")
    for name, column in frame.items():
        numeric = pd.api.types.is_numeric_dtype(column)
        table.add_column(Text(str(name)), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in zip(*(column.tolist() for _, column in frame.items())):
        table.add_row(*(Text(f"{cell:.{decimals}f}" if isinstance(cell, float) else str(cell)) for cell in row))
    if watched:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_errors(learn: CollabLearner) -> None:
    """Print the error on the validation part, beside two baselines; where biases alone have a lower one, also what to
    do."""
    _print_errors(*advice.errors_and_advice(learn))


def _print_errors(table: pd.DataFrame, remark: str | None) -> None:
    print_table(table, decimals=4)
    if remark is not None:
        print(f"\n{as_options(remark)}.")


def print_report(learn: CollabLearner, part: TensorBatches | None, *, k: int | None = None, above: float | None = None,
                 as_: Output | None = None, about: Mapping[str, object] | None = None) -> None:
    """Print how good a model is on held-out ratings: its error beside two baselines or, for a model that ranks or where
    `k` or `above` is given, how much of them is among its first `k`.

    CSV is a table with a row for each model. JSON is one object: `about`, held_out (a number of ratings), "errors" or
    "ranking" (that table; for a ranking also k, users and left_out), and remark (a sentence, or null)."""
    if as_ in (None, Output.TABLE):
        _print_report(learn, part, k, above)
        return
    table, more, remark = pd.DataFrame(), dict[str, object](), None
    name = "ranking" if learn.ranks or k is not None or above is not None else "errors"
    if part is None:
        remark = "nothing was held out, so there is no error to report"
    elif name == "ranking":
        try:
            result = _ranked(learn, part, k, above)
            rows = [result] if result.baseline is None else [result.baseline, result]
            table = pd.DataFrame([{"model": row.name, **row.summary} for row in rows])
            remark = advice.of_ranking(learn.model, result)
            more = {"k": result.k, "users": len(result.per_user), "left_out": result.left_out}
        except NobodyToRank as nobody:
            remark = f"there is no ranking to report: {nobody.why}"
    else:
        table, remark = advice.errors_and_advice(learn, part)
    remark = remark and as_options(remark)
    if as_ is Output.JSON:
        print_document({**(about or {}), "held_out": 0 if part is None else part.n, **more, name: table,
                        "remark": remark})
        return
    if len(table):
        print_table(table, as_)
    if remark is not None:
        print(f"{remark[0].upper()}{remark[1:]}.", file=sys.stderr)


def _print_report(learn: CollabLearner, part: TensorBatches | None, k: int | None, above: float | None) -> None:
    if part is None:
        print("\nNothing was held out, so there is no error to report.")
    elif learn.ranks or k is not None or above is not None:
        try:
            result = _ranked(learn, part, k, above)
            print(f"\nRanking of {part.n:,} held-out ratings:\n\n{result}")
            if (said := advice.of_ranking(learn.model, result)) is not None:
                print(f"\n{as_options(said)}.")
        except NobodyToRank as nobody:
            print(f"\nThere is no ranking to report: {nobody.why}.")
    else:
        print(f"\nError on {part.n:,} ratings:\n")
        _print_errors(*advice.errors_and_advice(learn, part))


def _ranked(learn: CollabLearner, part: TensorBatches, k: int | None, above: float | None) -> RankingResult:
    return evaluation.evaluate(learn, part, k=k or 10, metrics=("ndcg", "precision", "recall"), threshold=above)


def print_explanation(found: Explanation, as_: Output | None = None) -> None:
    """Print why a user gets a score for an item. CSV is one table of the kinds score, part and nearest; JSON one object
    with the fields of `Explanation`."""
    if as_ is Output.JSON:
        print_document({field.name: getattr(found, field.name) for field in fields(found)})
    elif as_ is Output.CSV:
        rows: list[dict[Any, Any]] = [{"kind": "score", "name": found.item, "title": found.title, "value": found.score}]
        rows += [] if found.parts is None else [{"kind": "part", "name": part, "value": value}
                                                for part, value in found.parts.itertuples(index=False)]
        near = pd.DataFrame() if found.nearest is None else found.nearest.assign(kind="nearest").rename(
            columns={"id": "name", "score": "value"})
        frame = pd.DataFrame(rows + near.to_dict("records"), columns=["kind", "name", "title", "rating", "value"])
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
