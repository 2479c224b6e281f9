"""Texts: many of them, of which a few are taken at a time as a column of pandas."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from .frames import COPIES, ArrowStringArray

MANY = 100              # rows from which on pyarrow takes text out of a column faster than it copies it
MOST_BYTES = 1 << 15    # the largest room for the texts of some rows
ArrowColumn: Any = ArrowStringArray


class Texts:
    """The text of each row, of which the column of some rows is taken: of any by `take`, of a few by a kernel (see
    `text_kernels.gather`) that copies them into the `room` that there is for them, of which `copied` makes a column."""

    def __init__(self, texts: list[str]):
        self.all = texts

    @cached_property
    def column(self) -> Any:
        """All of them."""
        return pd.Series(self.all).array

    @cached_property
    def are_arrows(self) -> bool:
        """Whether they are kept as pyarrow does, which the kernel reads."""
        return type(self.column) is ArrowStringArray

    def take(self, rows: np.ndarray) -> pd.api.extensions.ExtensionArray:
        """The texts of n rows, int64 (n,), in the type that pandas has for text."""
        if len(rows) > MANY or COPIES or not self.are_arrows:
            return self.column.take(rows)
        import pyarrow as pa
        return self.column.dtype.__from_arrow__(pa.array([self.all[row] for row in rows.tolist()], pa.large_string()))

    # By the kernel -----------------------------------------------------------------------------------------------

    @cached_property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """Where each text begins among the bytes of all, and where the last ends, int64 (n + 1,), and these bytes, in
        the memory of the column."""
        _, begins, text = self._arrow[0].array(self.column).buffers()
        return read_only(np.frombuffer(begins, np.int64, len(self.all) + 1), np.frombuffer(text, np.uint8))

    @cached_property
    def longest(self) -> int:
        """The number of bytes of the longest."""
        return int(np.diff(self.arrays[0]).max())

    def room(self, n: int) -> np.ndarray | None:
        """Room for where n texts begin, and the last ends, int64, and their bytes; None where that may be too much."""
        most = n * self.longest
        return np.empty(8 * (n + 1) + most, np.uint8) if most <= MOST_BYTES else None

    def copied(self, room: np.ndarray, size: int, n: int) -> Any:
        """The column of n texts that take `size` bytes of their room, in the type that pandas has for text. It keeps
        the room, unless it takes less than half of it."""
        pa, dtype = self._arrow
        memory = pa.py_buffer(room if 2 * size >= len(room) else room[:size].copy())
        column = ArrowColumn.__new__(ArrowColumn)
        texts = pa.LargeStringArray.from_buffers(n, memory, memory.slice(8 * (n + 1)))
        column._pa_array, column._dtype, column._cache = pa.chunked_array([texts]), dtype, {}
        return column

    @cached_property
    def _arrow(self) -> tuple[Any, Any]:
        import pyarrow as pa
        return pa, self.column.dtype


class NoTexts(Texts):
    """Texts that are all empty, where there are none."""

    def __init__(self, n: int):
        super().__init__([])
        self.arrays, self.longest = read_only(np.zeros(n + 1, np.int64), np.zeros(0, np.uint8)), 0


def read_only(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Arrays that are not to be written to, which kernels tell from others: so they are compiled once."""
    for array in arrays:
        array.setflags(write=False)
    return arrays
