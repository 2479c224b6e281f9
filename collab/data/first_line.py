"""What the first lines of a file tell of how it is to be read: another separator, no names of columns, or names again
further down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..errors import quoted
from .problems import Problem
from .roles import is_known
from .tables import COLUMNS, NUMBER
from .times import date_format

MANY = 100              # rows that tell how all are written
LIKELY = 10_000         # rows among which a value of the first line occurs again, if it is one


def other_separator(raw: pd.DataFrame, options: Mapping[str, Any]) -> Problem | None:
    """The first column holds several fields, cut apart at the same other separator in each row."""
    if options.get("sep") is not None or not len(raw) or not pd.api.types.is_string_dtype(raw.iloc[:, 0].dropna()):
        return None
    named = [name for name in raw.columns[:1] if name not in COLUMNS]       # else the file has no names
    texts = [str(text) for text in (*named, *raw.iloc[:MANY, 0].dropna())]
    for sep in (";", "\t", "|") if texts else ():
        if (n := texts[0].count(sep)) and all(text.count(sep) == n for text in texts):
            return Problem("the file", f"all begins of lines hold {sep!r}, such as {quoted(texts[0])}",
                           f"say sep={sep!r}", options={"sep": sep})
    return None


def no_header(raw: pd.DataFrame, options: Mapping[str, Any]) -> Problem | None:
    """The names of columns look like values: the first line is data."""
    names = [str(name) for name in raw.columns]
    if options.get("header") is not None or not len(raw) or any(map(is_known, names)):
        return None
    columns = [column.astype(str) for _, column in raw.iloc[:LIKELY].items()]
    among = [name for name, column in zip(names, columns) if (column == name).any()]
    dated = [name for name in names if date_format(pd.Series([name])) is not None
             or NUMBER.fullmatch(name.replace(",", ".")) is not None]
    if len(header_again(raw)) or not (among or dated):
        return None
    why = (f"{quoted(among[0])} is also a value of its column" if among else f"{quoted(dated[0])} is no name")
    return Problem("the file", f"its first line is taken for the names of columns, and looks like data: {why}",
                   "say header=False", options={"header": False})


def header_again(raw: pd.DataFrame) -> np.ndarray:
    """Rows in which every value is the name of its column."""
    same = np.ones(len(raw), dtype=bool)
    for place, name in enumerate(raw.columns):
        column = raw.iloc[:, place]
        if not same.any() or not pd.api.types.is_string_dtype(column.dropna()):
            return np.zeros(0, dtype=np.int64)
        same &= (column.astype(object) == str(name)).to_numpy()
    return np.flatnonzero(same)
