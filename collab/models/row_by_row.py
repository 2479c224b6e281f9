"""RowByRow: histories that are solved one by one by compiled kernels, in one thread or several."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..compiled import not_compiled
from .least_squares import LeastSquares

MULTIPLE = 16           # tables get columns of 0 up to a multiple of it, so that vectorised loops leave no rest
PIECE = 1 << 28         # multiplications in a piece of work, some 20 ms: Ctrl-C waits for no more


class RowByRow:
    """`Histories` for conjugate gradients in float32 on a CPU. Memory: 8 bytes per rating and side, and copies of the
    two tables while solving.

    What a row gets depends on its own history alone, so that it has the same bits with any number of `threads`, as many
    as torch has where the histories are made."""

    @staticmethod
    def suits(table: Tensor) -> bool:
        """Whether such tables can be solved here."""
        return table.dtype == torch.float32 and table.device.type == "cpu" and not_compiled() is None

    def __init__(self, rows: Tensor, columns: Tensor, values: Tensor, n_rows: int):
        from .als_kernels import group
        self.threads = torch.get_num_threads()
        starts, n = np.zeros(n_rows + 1, np.int64), len(rows)
        self.arrays = starts, np.empty(n, np.int32), np.empty(n, np.float32)
        group(starts, np.empty(n_rows, np.int64), *self.arrays[1:], rows.numpy(), columns.numpy(), values.numpy())
        self.counts = torch.from_numpy(np.diff(starts))

    def solve(self, problem: LeastSquares, start: Tensor | None, steps: int) -> Tensor:
        """See `Histories`; not exactly, so that it needs a `start`."""
        from .als_kernels import solve_rows
        assert start is not None
        width = problem.width + -problem.width % MULTIPLE
        x, design = _padded(start, width), _padded(problem.design, width)
        gram = design[:0] if problem.gram is None else _padded(problem.gram, width, width)
        ridge, longest = problem.ridge.numpy(), int(self.counts.max())

        def work(first: int, last: int) -> None:
            vectors, terms = np.empty((3, width), np.float32), np.empty((2, longest), np.float32)
            solve_rows(x, design, gram, *self.arrays, *_options(problem), ridge, steps, vectors, terms, first, last)
        self._in_pieces(work, 2 * (steps + 1) * width, len(gram) / 2)
        return torch.from_numpy(x)[:, :problem.width]

    def error(self, problem: LeastSquares, x: Tensor) -> float:
        """See `Histories`. Products are summed in float32, ratings in float64."""
        from .als_kernels import row_errors
        errors = np.zeros(len(self.counts))
        vectors, design = (table.contiguous().numpy() for table in (x, problem.design))
        self._in_pieces(lambda first, last: row_errors(errors, vectors, design, *self.arrays, *_options(problem), first,
                                                       last), problem.width, 0.0)
        return float(errors.sum())

    def _in_pieces(self, work: Callable[[int, int], None], per_rating: int, row_in_ratings: float) -> None:
        """Call `work(first row, last row + 1)` for pieces of about equal cost: multiplications `per_rating`, and for a
        row as many as for `row_in_ratings` ratings."""
        starts = self.arrays[0]
        cost = starts + row_in_ratings * np.arange(len(starts))
        pieces = cost[-1] * per_rating / PIECE
        threads = min(self.threads, 1 + int(64 * pieces))     # none for less than a third of a millisecond
        n = max(1 if threads == 1 else 4 * threads, int(pieces))
        inner = np.searchsorted(cost, np.linspace(0, cost[-1], n + 1)[1:-1]).tolist()
        spans = pairwise([0, *inner, len(self.counts)])
        if threads == 1:
            for span in spans:
                work(*span)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda span: work(*span), spans))     # raises what one of them has raised


def _padded(table: Tensor, width: int, n_rows: int | None = None) -> np.ndarray:
    """A copy with columns, and rows, of 0 up to that shape."""
    n, filled = table.shape
    padded = table.new_empty(n_rows or n, width)
    padded[:n, :filled], padded[:, filled:], padded[n:] = table, 0.0, 0.0
    return padded.numpy()


def _options(problem: LeastSquares) -> tuple[np.ndarray, bool, Any]:
    """The arguments of kernels for `LeastSquares.terms`: offset, whether choices are implicit, alpha."""
    offset = problem.design.new_zeros(0) if problem.offset is None else problem.offset
    return offset.contiguous().numpy(), problem.alpha is not None, np.float32(problem.alpha or 0.0)
