"""Rows of a table by number, with a gradient that has the same bits each time."""

from __future__ import annotations

from torch import Tensor


def rows_at(table: Tensor, rows: Tensor) -> Tensor:
    """table[rows] along the first dimension, for rows (n,).

    The gradient adds up what goes to one row. On a CPU with several threads that of `[]` does so in any order, by
    atomic additions, once there are 32,768 numbers; that of `index_select` goes row by row, and is faster. On a GPU it
    is the other way round."""
    return table[rows] if table.is_cuda else table.index_select(0, rows)


def entries_at(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """table[rows, columns] (n,) of a table (m, k), likewise."""
    return table[rows, columns] if table.is_cuda else rows_at(table.flatten(), rows * table.shape[1] + columns)
