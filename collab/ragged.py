"""Ragged: rows of varying length in three tensors, on any device. It knows no user, item or rating."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

MAX_NUMBERS = 1 << 22       # numbers gathered at a time by `dot`: 16 MiB

with warnings.catch_warnings():     # torch says once that compressed rows are in beta; filters are not for threads
    warnings.simplefilter("ignore", UserWarning)
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


@dataclass(frozen=True, eq=False)
class Ragged:
    """Compressed sparse rows: row r has the entries starts[r] to starts[r + 1] of `columns` and `values`.

    `starts` int64 (n_rows + 1,), `columns` (n,) integers, `values` (n,), all on one device. Memory is that of the
    entries, never n_rows x n_columns. Nothing changes a Ragged: every method returns a new one, or tensors.

        a user's ratings, a few users' ratings          `[row]`, `pairs`, `entries`; `cells` to mark them in a table
        a table of a few rows, such as bags of items    `dense`; `padded` for a block of equations
        sums over the entries of a row                  `dot`, or `csr` times a table
        the other way round (items to users)            `transposed`
        a pair that occurs twice                        `unique` adds its values
        the longest rows cut short                      `first`
        entries that do not count                       `where`
        an average row for ids without entries          `averaged`

    A module registers `tensors()` as buffers (not persistent ones: rows are data) and builds the view that it needs,
    Ragged(self.starts, self.columns, self.values), wherever the buffers have been moved to."""

    starts: Tensor
    columns: Tensor
    values: Tensor

    @classmethod
    def of(cls, rows: Tensor, columns: Tensor, values: Tensor | None, n_rows: int) -> Self:
        """Group n entries by row, in the order they are given within each; without `values` all are 1, float32.

        `rows` int64 (n,), each from 0 to n_rows - 1."""
        order = torch.argsort(rows, stable=True)
        ends = torch.bincount(rows, minlength=n_rows).cumsum(0)
        starts = torch.cat([ends.new_zeros(1), ends])
        columns = columns[order]
        return cls(starts, columns, _ones(columns) if values is None else values[order])

    @classmethod
    def unique(cls, rows: Tensor, columns: Tensor, values: Tensor | None, n_rows: int, n_columns: int) -> Self:
        """Every pair of a row and a column once, ascending, with the sum of its values; without `values` all are 1."""
        keys = rows * n_columns + columns
        if values is None:
            pairs = torch.unique(keys)
            values = _ones(pairs)
        else:
            pairs, place = torch.unique(keys, return_inverse=True)
            values = values.new_zeros(len(pairs)).index_add_(0, place, values)
        ends = torch.bincount(pairs // n_columns, minlength=n_rows).cumsum(0)
        return cls(torch.cat([ends.new_zeros(1), ends]), pairs % n_columns, values)

    # What is in it -----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of rows; that of entries is len(columns)."""
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """(columns, values) of one row, counted from 0."""
        span = slice(*self.starts[row:row + 2].tolist())
        return self.columns[span], self.values[span]

    @property
    def counts(self) -> Tensor:
        """The number of entries of each row, int64 (n_rows,)."""
        return self.starts.diff()

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """`starts` and `columns` on the CPU for numpy, which finds things in a tenth of the time; not to be changed."""
        return self.starts.numpy(force=True), self.columns.numpy(force=True)

    @cached_property
    def span(self) -> range:
        """The columns from the first that has an entry to the last."""
        return range(int(self.columns.min()), int(self.columns.max()) + 1) if len(self.columns) else range(0)

    @property
    def rows(self) -> Tensor:
        """The row of each entry, int64 (n,), ascending."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.starts.device), self.counts)

    def within(self) -> Tensor:
        """The place of each entry in its own row, counted from 0, int64 (n,)."""
        return torch.arange(len(self.columns), device=self.starts.device) - self.starts[self.rows]

    def keys(self, n_columns: int) -> Tensor:
        """One integer per entry, row * n_columns + column, (n,): pairs are equal where their keys are."""
        return self.rows * n_columns + self.columns

    def tensors(self) -> dict[str, Tensor]:
        """The three tensors by name, in the order of the constructor."""
        return {"starts": self.starts, "columns": self.columns, "values": self.values}

    # A few of its rows -------------------------------------------------------------------------------------------

    def lengths(self, rows: Tensor) -> Tensor:
        """The number of entries of a few rows, int64 (m,)."""
        return self.starts[rows + 1] - self.starts[rows]

    def entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """All entries of a few rows, int64 (m,): (position in `rows`, place in `columns` and `values`), in order; a
        row that is asked for twice comes twice."""
        if len(rows) == 1:
            place = torch.arange(int(self.starts[rows[0]]), int(self.starts[rows[0] + 1]), device=rows.device)
            return torch.zeros_like(place), place
        counts = self.lengths(rows)
        position = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        within = torch.arange(len(position), device=rows.device) - (counts.cumsum(0) - counts)[position]
        return position, self.starts[rows][position] + within

    def pairs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`entries` as (position in `rows`, column), which is an index into a table of (len(rows), n_columns)."""
        if len(rows) == 1:
            columns = self[int(rows[0])][0]
            return torch.zeros_like(columns), columns
        position, place = self.entries(rows)
        return position, self.columns[place]

    def cells(self, rows: Tensor, columns: range) -> Tensor:
        """The entries of a few rows, int64 (m,), in these consecutive columns, as places in a flattened table (m,
        len(columns))."""
        position, found = self.pairs(rows)
        if self.span.start < columns.start or self.span.stop > columns.stop:
            inside = (found >= columns.start) & (found < columns.stop)
            position, found = position[inside], found[inside]
        return torch.add(found - columns.start, position, alpha=len(columns))

    def dense(self, rows: Tensor, n_columns: int) -> Tensor:
        """The values of a few rows as a table, (len(rows), n_columns), 0 where there is no entry. A column must not
        come twice in a row (`unique`)."""
        position, place = self.entries(rows)
        table = self.values.new_zeros(len(rows), n_columns)
        table[position, self.columns[place]] = self.values[place]
        return table

    def runs(self, n: int) -> Iterator[tuple[range, Tensor, Tensor]]:
        """(rows, the row of each entry, its column) of consecutive rows that have at most n entries, or of one row."""
        first = 0
        while first < len(self):
            last = int(torch.searchsorted(self.starts, self.starts[first] + n, right=True)) - 1
            last = min(max(last, first + 1), len(self))
            counts = self.starts[first:last + 1].diff()
            rows = torch.repeat_interleave(torch.arange(first, last, device=counts.device), counts)
            yield range(first, last), rows, self.columns[self.starts[first]:self.starts[last]]
            first = last

    def holds(self, rows: Tensor, columns: Tensor, n_columns: int) -> Tensor:
        """Whether each pair of a row and a column, int64 (m,), has an entry: bool (m,), in bounded memory."""
        found, keys = torch.zeros(len(rows), dtype=torch.bool, device=rows.device), rows * n_columns + columns
        for span, own, theirs in self.runs(MAX_NUMBERS):
            asked = ((rows >= span.start) & (rows < span.stop)).nonzero()[:, 0]
            found[asked] = torch.isin(keys[asked], own * n_columns + theirs)
        return found

    def padded(self, rows: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """(columns, values) of the first `length` entries of a few rows, each (len(rows), length), padded with 0."""
        place = torch.arange(length, device=rows.device)
        inside = place < self.counts[rows][:, None]
        at = torch.where(inside, self.starts[rows][:, None] + place, 0)
        return self.columns[at] * inside, self.values[at] * inside

    def dot(self, table: Tensor, at: Tensor, rows: Tensor) -> Tensor:
        """Of each k the sum over the entries of rows[k] of table[at[k], column] * value, (len(rows),), in bounded
        memory: the products of rows of a dense table (m, n_columns) with rows of this one."""
        if not len(rows):
            return table.new_zeros(0)
        step = max(1, MAX_NUMBERS // max(1, int(self.counts[rows].max())))
        parts = []
        for mine, some in zip(at.split(step), rows.split(step), strict=True):
            position, place = self.entries(some)
            terms = table[mine[position], self.columns[place]] * self.values[place]
            parts.append(table.new_zeros(len(mine)).index_add_(0, position, terms))
        return torch.cat(parts)

    # Another of the kind -----------------------------------------------------------------------------------------

    def transposed(self, n_columns: int) -> Ragged:
        """Columns as rows, and rows as columns, ascending within each."""
        return Ragged.of(self.columns, self.rows, self.values, n_columns)

    def where(self, kept: Tensor) -> Self:
        """The entries that a mask, bool (n,), keeps; as many rows."""
        ends = torch.cat([self.starts.new_zeros(1), kept.cumsum(0)])
        return type(self)(ends[self.starts], self.columns[kept], self.values[kept])

    def first(self, n: int) -> Self:
        """The first n entries of each row."""
        return self.where(self.within() < n)

    def averaged(self, n_columns: int) -> Self:
        """The same rows with row 0, which must be empty, made their average: the sum of the values of each column,
        over the number of rows that have entries, without the columns where it is 0."""
        n_filled = max(1, int((self.counts > 0).sum()))
        mean = self.values.new_zeros(n_columns).index_add_(0, self.columns, self.values) / n_filled
        columns = torch.nonzero(mean)[:, 0]
        starts = self.starts + len(columns)
        starts[0] = 0
        return type(self)(starts, torch.cat([columns, self.columns]), torch.cat([mean[columns], self.values]))

    def to(self, device: torch.device | str) -> Self:
        """The same on another device; what is there already is not copied."""
        return type(self)(self.starts.to(device), self.columns.to(device), self.values.to(device))

    def csr(self, n_columns: int, dtype: torch.dtype | None = None) -> Tensor:
        """A sparse matrix of torch, (n_rows, n_columns), over the same memory; not checked. Products with it are sums
        over entries. `dtype` is by default that of the values."""
        values = self.values if dtype is None else self.values.to(dtype)
        return torch.sparse_csr_tensor(self.starts, self.columns, values, (len(self), n_columns),
                                       check_invariants=False)


def _ones(columns: Tensor) -> Tensor:
    return torch.ones(len(columns), device=columns.device)
