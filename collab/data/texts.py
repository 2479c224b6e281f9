"""Texts: many of them, of which a few are taken at a time as a column of pandas."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..compiled import not_compiled
from .frames import COPIES, ArrowStringArray, fits, text_column

FEW = 100       # rows that are copied one by one faster than pyarrow takes them
LONG = 1000     # letters of a text, above which room for as many in each row would be a waste


class Texts:
    """The text of each row, of which the column of some rows is taken."""

    def __init__(self, texts: list[str]):
        self.all = texts
        self._copies: tuple[Any, ...] | None = None     # what copies few texts, once it is there

    @cached_property
    def _column(self) -> pd.api.extensions.ExtensionArray:
        return pd.Series(self.all).array

    @cached_property
    def _short(self) -> bool:
        return max(map(len, self.all), default=0) <= LONG

    def take(self, rows: np.ndarray) -> pd.api.extensions.ExtensionArray:
        """The texts of n rows, int64 (n,), in the type that pandas has for text."""
        n = len(rows)
        if n > FEW or COPIES or type(self._column) is not ArrowStringArray:
            return self._column.take(rows)
        copies = self._copies or self._prepared()
        if copies is None:
            import pyarrow as pa
            dtype: Any = self._column.dtype
            return dtype.__from_arrow__(pa.array([self.all[row] for row in rows.tolist()], pa.large_string()))
        pa, kind, gather, starts, text, longest, dtype = copies
        ends, into = np.empty(n + 1, np.int64), np.empty(n * longest, np.uint8)
        gather(starts, text, rows, ends, into)
        few = pa.Array.from_buffers(kind, n, [None, pa.py_buffer(ends), pa.py_buffer(into)], 0)
        return text_column(pa.chunked_array([few]), dtype)

    def _prepared(self) -> tuple[Any, ...] | None:
        """What `take` copies few texts by: pyarrow and its type of them, the kernel, where each text starts, (n + 1,),
        and the bytes of all, over the memory of the column, the length of the longest, and the type of the column. None
        where a text is too long, or numba is not there, or not yet: a process of a few lists does not wait for it."""
        if not self._short or "numba" not in sys.modules or not_compiled() is not None or not fits():
            return None
        import pyarrow as pa

        from .text_kernels import gather
        _, starts, text = pa.array(self._column).buffers()
        starts = np.frombuffer(starts, np.int64, len(self.all) + 1)
        longest = int(np.diff(starts).max())
        self._copies = (pa, pa.large_string(), gather, starts, np.frombuffer(text, np.uint8), longest,
                        self._column.dtype)
        return self._copies
