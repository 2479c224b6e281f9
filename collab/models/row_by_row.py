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
PIECE = 1 << 28         # multiplications in a piece of work, some 0.05 s: Ctrl-C waits for no more


class RowByRow:
    """`Histories` for conjugate gradients in float32 on a CPU. Memory: 8 bytes per rating and side, and copies of the
    two tables while solving.

    What a row gets depends on its own history alone, so that it has the same bits with any number of threads (there are
    as many as torch has)."""

    @staticmethod
    def suits(table: Tensor) -> bool:
        """Whether such tables can be solved here."""
        return table.dtype == torch.float32 and table.device.type == "cpu" and not_compiled() is None

    def __init__(self, rows: Tensor, columns: Tensor, values: Tensor, n_rows: int):
        from .als_kernels import grouped
        self.arrays = grouped(rows.numpy(), columns.numpy(), values.numpy(), n_rows)
        self.counts = torch.from_numpy(np.diff(self.arrays[0]))

    def solve(self, problem: LeastSquares, start: Tensor | None, steps: int) -> Tensor:
        """See `Histories`; not exactly, so that it needs a `start`."""
        from .als_kernels import solve_rows
        assert start is not None
        width = problem.width + -problem.width % MULTIPLE
        x, design = _padded(start, width), _padded(problem.design, width)
        gram = design[:0] if problem.gram is None else _padded(problem.gram, width, width)
        ridge = problem.ridge.numpy()
        self._in_pieces(lambda first, last: solve_rows(x, design, gram, *self.arrays, *_options(problem), ridge, steps,
                                                       first, last), 2 * (steps + 1) * width, len(gram) / 2)
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
        starts, threads = self.arrays[0], torch.get_num_threads()
        cost = starts + row_in_ratings * np.arange(len(starts))
        n = max(1 if threads == 1 else 4 * threads, int(cost[-1] * per_rating / PIECE))
        inner = np.searchsorted(cost, np.linspace(0, cost[-1], n + 1)[1:-1]).tolist()
        pieces = pairwise([0, *inner, len(self.counts)])
        if threads == 1:
            for piece in pieces:
                work(*piece)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda piece: work(*piece), pieces))      # raises what a piece has raised


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
