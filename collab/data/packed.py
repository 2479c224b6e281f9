"""Tables of items as JSON: each column with its dtype, categories too."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..errors import DataError
from ..files import Config
from .frames import plain
from .vocab import dtype_name, from_json, to_json


def pack(table: pd.DataFrame) -> Config:
    """A table of items as JSON values, indexed by id. Raises DataError for a column that could not be read back."""
    return {"index": _pack_column(table.index.to_series(), "the ids"), "index_name": to_json(table.index.name),
            "columns": [[to_json(name), _pack_column(column, f"column {name!r}")] for name, column in table.items()]}


def _pack_column(column: pd.Series, where: str) -> Config:
    """A column as JSON values. Raises DataError for one that could not be read back."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return {"categories": _pack_column(column.cat.categories.to_series(), where),
                "ordered": bool(column.cat.ordered), "values": column.cat.codes.tolist()}
    if isinstance(column.dtype, pd.ArrowDtype):     # a file is read without pyarrow too
        column = plain(column)
    try:
        values = [None if missing else to_json(value) for value, missing in zip(column, column.isna())]
    except DataError:
        odd = next(value for value in column.dropna() if not _storable(value))
        raise DataError(f"{where} of the table of items: values of type {type(odd).__name__} (such as {odd!r}) cannot "
                        "be written to a file; drop the column, or make it text, numbers or dates") from None
    return {"dtype": dtype_name(column.dtype, f"{where} of the table of items"), "values": values}


def _storable(value: Any) -> bool:
    try:
        to_json(value)
    except DataError:
        return False
    return True


def unpack(packed: Config) -> pd.DataFrame:
    """The table that `pack` was given."""
    index = pd.Index(_unpack_column(packed["index"]), tupleize_cols=False, name=from_json(packed["index_name"]))
    columns = [_unpack_column(column).set_axis(index) for _, column in packed["columns"]]
    table = pd.DataFrame(dict(enumerate(columns)), index=index)
    table.columns = pd.Index([from_json(name) for name, _ in packed["columns"]], tupleize_cols=False)
    return table


def _unpack_column(packed: Config) -> pd.Series:
    if "categories" in packed:
        categories = pd.Index(_unpack_column(packed["categories"]), tupleize_cols=False)
        return pd.Series(pd.Categorical.from_codes(packed["values"], categories, ordered=packed["ordered"]))
    return pd.Series([from_json(value) for value in packed["values"]], dtype=object).astype(packed["dtype"])
