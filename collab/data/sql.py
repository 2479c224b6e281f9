"""Tables from databases: what a query gives, through any connection of Python's DB-API 2.0 (PEP 249)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from typing import Any, Protocol

import numpy as np
import pandas as pd

from ..errors import DataError, quoted
from .schema import MAX_EXACT

STEP = 50_000           # rows at a time: Python's objects of these are all that is held beside the columns


MIXED = "mixed-integer-float"       # pandas' name for integers beside floats
KINDS = {"integer": "Int64", "boolean": "boolean", "floating": "Float64"}


class Connection(Protocol):
    """A connection of DB-API 2.0: of sqlite3, DuckDB, psycopg, mysqlclient, oracledb ..."""

    def cursor(self) -> Any: ...


def read_sql(query: str, con: Connection, params: Any = None) -> pd.DataFrame:
    """The rows that `query` gives, as a table: integers as int64 (Int64 with gaps), floats as float64, other values as
    Python's own objects or text.

    `params` are those of the query, in the style of the database: a sequence for ? and %s, a mapping for :name. Rows
    are fetched in steps of 50,000. The connection stays open, and nothing is committed. `con` may be a cursor too;
    a connection of DuckDB is asked itself, since a new cursor of it does not see temporary tables.

    Raises DataError where `con` is not such a connection, the query fails, or gives no table, no row, or two columns of
    one name."""
    if not callable(getattr(con, "cursor", None)) and not callable(getattr(con, "fetchmany", None)):
        raise DataError(f"con is a {type(con).__name__}, which has no cursor(): pass a connection of DB-API 2.0, such "
                        "as sqlite3.connect(path), duckdb.connect(path) or, of SQLAlchemy, engine.raw_connection()")
    own = not callable(getattr(con, "fetchmany", None))
    cursor: Any = con.cursor() if own else con
    with closing(cursor) if own else nullcontext():
        try:
            cursor.execute(query) if params is None else cursor.execute(query, params)
            names = [column[0] for column in cursor.description or ()]
            if not names:
                raise DataError(f"the query gives no table: {_short(query)}; it must be a SELECT")
            if (again := next((name for name in names if names.count(name) > 1), None)) is not None:
                raise DataError(f"the query gives the column name {quoted(again)} {names.count(again)} times; name "
                                "them "
                                f"apart with AS: {_short(query)}")
            parts: list[list[pd.Series]] = [[] for _ in names]
            while rows := cursor.fetchmany(STEP):
                for part, values in zip(parts, zip(*rows, strict=True), strict=True):
                    part.append(_packed(values))
        except DataError:
            raise
        except Exception as error:      # each database has a class of its own, which PEP 249 bases on Exception alone
            said = " ".join(str(error).split())
            raise DataError(f"the query fails: {type(error).__name__}: {said}; it was {_short(query)}") from error
    if not parts[0]:
        raise DataError(f"the query gives no row: {_short(query)}")
    return pd.DataFrame(dict(enumerate(map(_joined, parts)))).set_axis(names, axis=1)


def _short(query: str) -> str:
    text = " ".join(str(query).split())
    return repr(text if len(text) <= 200 else text[:199] + "…")


def _packed(values: Sequence[object]) -> pd.Series:
    """Some values of a column in the type that holds them all without loss, missing ones (None) aside."""
    column: pd.Series = pd.Series(list(values), dtype=object)
    kind = pd.api.types.infer_dtype(column, skipna=True)
    try:
        if kind in KINDS:
            return pd.Series(column, dtype=pd.api.types.pandas_dtype(KINDS[kind]))
        if kind == MIXED and all(isinstance(v, float) or v is None or abs(v) < MAX_EXACT for v in column):
            return pd.Series(column, dtype="Float64")
    except (OverflowError, TypeError, ValueError):      # integers of more than 64 bits
        return column
    return column


def _joined(parts: list[pd.Series]) -> pd.Series:
    """The parts of a column in one type: an integer stays one, beside floats too if they are small enough."""
    there = [part for part in parts if part.notna().any()]
    kinds = {str(part.dtype) for part in there}
    if kinds == {"Int64", "Float64"} and all(
            (part.abs() < MAX_EXACT).fillna(True).all() for part in there if str(part.dtype) == "Int64"):
        kinds = {"Float64"}
    if len(kinds) != 1:
        whole = pd.concat([part.astype(object) for part in parts], ignore_index=True)
        return _inferred(whole.where(whole.notna(), None))
    kind, = kinds
    whole = pd.concat([pd.Series(part, dtype=pd.api.types.pandas_dtype(kind)) for part in parts], ignore_index=True)
    if kind == "Float64":
        return pd.Series(whole.to_numpy(dtype=np.float64, na_value=np.nan))
    if kind == "object":
        return _inferred(whole)
    return whole if whole.isna().any() else pd.Series(whole.to_numpy(dtype=bool if kind == "boolean" else np.int64))


def _inferred(column: pd.Series) -> pd.Series:
    """Objects in a type of their own, where that loses nothing: long integers would be rounded beside floats."""
    return column if pd.api.types.infer_dtype(column, skipna=True) == MIXED else column.infer_objects()
