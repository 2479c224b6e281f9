"""Texts: many of them, of which a few are taken at a time as a column of pandas."""

from __future__ import annotations

import sys
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..compiled import not_compiled
from .frames import COPIES, ArrowStringArray, fits, text_column

FEW = 100           # rows that are copied one by one faster than pyarrow takes them
MANY = 10_000       # bytes of these, above which pyarrow makes their column of Python's text faster than the kernel


class Texts:
    """The text of each row, of which the column of some rows is taken."""

    def __init__(self, texts: list[str]):
        self.all = texts
        self._arrays: tuple[np.ndarray, ...] | None = None      # what the kernel reads, once it is there

    @cached_property
    def _column(self) -> pd.api.extensions.ExtensionArray:
        return pd.Series(self.all).array

    def take(self, rows: np.ndarray) -> pd.api.extensions.ExtensionArray:
        """The texts of n rows, int64 (n,), in the type that pandas has for text."""
        n = len(rows)
        if n > FEW or COPIES or type(self._column) is not ArrowStringArray:
            return self._column.take(rows)
        dtype: Any = self._column.dtype
        arrays = self._arrays or self._prepared()
        if arrays is None or (size := sum(arrays[1][rows].tolist())) > MANY:
            import pyarrow as pa
            return dtype.__from_arrow__(pa.array([self.all[row] for row in rows.tolist()], pa.large_string()))
        starts, _, text = arrays
        pa, kind, gather = _kernel()
        ends, into = np.empty(n + 1, np.int64), np.empty(size, np.uint8)
        gather(starts, text, rows, ends, into)
        few = pa.Array.from_buffers(kind, n, [None, pa.py_buffer(ends), pa.py_buffer(into)], 0)
        return text_column(pa.chunked_array([few]), dtype)

    def _prepared(self) -> tuple[np.ndarray, ...] | None:
        """The arrays from which the kernel copies a few texts: where each begins among the bytes of all, and where the
        last ends, (n + 1,); how many bytes it has, (n,); and these bytes, in the memory of the column. None where there
        is no numba, or it is not loaded yet: a process that makes a few lists does not wait for it."""
        if "numba" not in sys.modules or not_compiled() is not None or not fits():
            return None
        _, starts, text = _kernel()[0].array(self._column).buffers()
        starts = np.frombuffer(starts, np.int64, len(self.all) + 1)
        self._arrays = starts, np.diff(starts), np.frombuffer(text, np.uint8)
        return self._arrays


@cache
def _kernel() -> tuple[Any, Any, Any]:
    """pyarrow, its type of these texts, and the kernel."""
    import pyarrow as pa

    from .text_kernels import gather
    return pa, pa.large_string(), gather
