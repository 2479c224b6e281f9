"""Tables out: as the kind of frame that was asked for."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from .frames import Column, frame_of

KINDS = "pandas", "polars", "pyarrow", "dict"


def check_kind(as_frame: str) -> None:
    """Raise DataError for anything but the name of a kind of frame."""
    if as_frame not in KINDS:
        near = difflib.get_close_matches(str(as_frame).lower(), KINDS, n=1)
        raise DataError(f"as_frame={as_frame!r} is not one of {', '.join(KINDS)}"
                        + (f"; did you mean {near[0]!r}?" if near else ""))


def framed(table: pd.DataFrame, as_frame: str) -> Any:
    """A table as it is ("pandas"), as a DataFrame of polars, a Table of pyarrow, or {column: list} ("dict"), in which
    what is missing is None. Raises DataError for another kind, where the package is missing, and for ids that it cannot
    hold in one column."""
    check_kind(as_frame)
    if as_frame == "pandas":
        return table
    if as_frame == "dict":
        return {name: _listed(column) for name, column in table.items()}
    import narwhals as nw
    try:
        known = nw.from_native(pd.DataFrame(table), eager_only=True)
        return known.to_polars() if as_frame == "polars" else known.to_arrow()
    except ImportError as error:
        raise DataError(f"as_frame={as_frame!r} needs a package that is not here ({error}): pip install {as_frame} "
                        "pyarrow") from None
    except (TypeError, ValueError) as error:        # pyarrow's own are both of these
        raise DataError(f"as_frame={as_frame!r} cannot hold these ids in one column ({error}); take the table as it "
                        "is") from None


def made_of(columns: dict[str, Column], as_frame: str, kind: type[pd.DataFrame] = pd.DataFrame) -> Any:
    """`framed(frame_of(columns, kind), as_frame)`; without making a frame for lists."""
    if as_frame != "dict":
        frame = frame_of(columns, kind)
        return frame if as_frame == "pandas" else framed(frame, as_frame)
    return {name: values.tolist() if isinstance(values, np.ndarray) else list(values) for name, values in
            columns.items()}


def _listed(column: pd.Series) -> list[Any]:
    if column.dtype.kind in "iufb":
        return column.tolist()
    gone = column.isna().to_numpy()
    return [None if missing else value for value, missing in zip(column.tolist(), gone)]
