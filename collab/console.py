"""What the command line prints: tables as text."""

from __future__ import annotations

import pandas as pd


def table(frame: pd.DataFrame, decimals: int = 3) -> str:
    """A frame as aligned text: words to the left, numbers to the right with so many decimals where they have any."""
    columns = []
    for name, column in frame.items():
        cells = [f"{value:.{decimals}f}" if isinstance(value, float) else str(value) for value in column.tolist()]
        width = max(map(len, [str(name), *cells]))
        numeric = pd.api.types.is_numeric_dtype(column)
        columns.append([cell.rjust(width) if numeric else cell.ljust(width) for cell in [str(name), *cells]])
    return "\n".join(("  " + "  ".join(row)).rstrip() for row in zip(*columns))
