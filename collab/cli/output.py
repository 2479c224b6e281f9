"""What the command line prints: tables, and how good a model is."""

from __future__ import annotations

import sys

import pandas as pd

from ..data.batches import TensorBatches
from ..evaluate import evaluation
from ..evaluate.accuracy import errors_and_remark
from ..evaluate.held_out import NobodyToRank
from ..learner.card import Results
from ..learner.collab_learner import CollabLearner
from .command import Output

UNLIMITED = 1 << 20     # characters a line, where no terminal has to fit it


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


def print_errors(learn: CollabLearner, part: TensorBatches | None = None) -> pd.DataFrame:
    """Print the error on `part`, by default the validation part, beside two baselines, and return this table; where
    biases alone have a lower one, also what to do."""
    table, remark = errors_and_remark(learn, part)
    print_table(table, decimals=4)
    if remark is not None:
        print(f"\n{remark}.")
    return table


def print_report(learn: CollabLearner, part: TensorBatches | None, *, k: int | None = None,
                 above: float | None = None) -> Results | None:
    """Print how good a model is on held-out ratings: its error beside two baselines or, for a model that ranks or where
    `k` or `above` is given, how much of them is among its first `k`. Returns what was measured, if anything was."""
    if part is None:
        print("\nNothing was held out, so there is no error to report.")
    elif learn.ranks or k is not None or above is not None:
        try:
            result = evaluation.evaluate(learn, part, k=k or 10, metrics=("ndcg", "precision", "recall"),
                                         threshold=above)
            print(f"\nRanking of {part.n:,} held-out ratings:\n\n{result}")
            return result
        except NobodyToRank as nobody:
            print(f"\nThere is no ranking to report: {nobody.why}.")
    else:
        print(f"\nError on {part.n:,} ratings:\n")
        return print_errors(learn, part)
    return None
