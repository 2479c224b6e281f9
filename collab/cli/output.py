"""What the command line prints: tables as text."""

from __future__ import annotations

from enum import StrEnum

import pandas as pd

from ..data.batches import TensorBatches
from ..evaluate import evaluation
from ..evaluate.accuracy import errors
from ..evaluate.held_out import NobodyToRank
from ..learner.collab_learner import CollabLearner


class Output(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def table(frame: pd.DataFrame, decimals: int = 3) -> str:
    """A frame as aligned text: words to the left, numbers to the right with so many decimals where they have any."""
    columns = []
    for name, column in frame.items():
        cells = [f"{value:.{decimals}f}" if isinstance(value, float) else str(value) for value in column.tolist()]
        width = max(map(len, [str(name), *cells]))
        numeric = pd.api.types.is_numeric_dtype(column)
        columns.append([cell.rjust(width) if numeric else cell.ljust(width) for cell in [str(name), *cells]])
    return "\n".join(("  " + "  ".join(row)).rstrip() for row in zip(*columns))


def print_table(frame: pd.DataFrame, how: Output | None = None, if_empty: str = "nothing") -> None:
    """Print it as it was asked for, by default as text; where there are no rows, the text is `if_empty`."""
    text = table(frame) if len(frame) else f"  ({if_empty})"
    print({None: lambda: text, Output.TABLE: lambda: text, Output.CSV: lambda: frame.to_csv(index=False).rstrip(),
           Output.JSON: lambda: frame.to_json(orient="records", force_ascii=False)}[how]())


def print_report(learn: CollabLearner, part: TensorBatches | None, k: int | None = None,
                 above: float | None = None) -> None:
    """How good a model is on held-out ratings: its error beside two baselines or, where it ranks or is asked to, how
    much of them is among its first `k`."""
    if part is None:
        print("\nNothing was held out, so there is no error to report.")
    elif learn.ranks or k is not None or above is not None:
        try:
            result = evaluation.evaluate(learn, part, k or 10, ("ndcg", "precision", "recall"), above)
            print(f"\nRanking of {part.n:,} held-out ratings:\n\n{result}")
        except NobodyToRank as nobody:
            print(f"\nThere is no ranking to report: {nobody.why}.")
    else:
        print(f"\nError on {part.n:,} ratings:\n\n{table(errors(learn, part), decimals=4)}")
