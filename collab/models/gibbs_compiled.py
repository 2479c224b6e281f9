"""Ratings and features of one side, for Gibbs sweeps by compiled kernels in one thread or several."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..compiled import not_compiled
from ..ragged import Ragged
from .gibbs import SUREST, Design, Marginal, Rated, normal

LANES, TILE, CHUNK = 8, 4, 64       # see `gibbs_kernels`, which needs numba
PIECE = 1 << 18         # multiplications that are worth a thread


def suits(table: Tensor) -> bool:
    """Whether kernels can draw such tables."""
    return table.dtype == torch.float32 and table.device.type == "cpu" and not_compiled() is None


class Threads:
    """Calls kernels over rows, in parts of about equal cost. What a row gets does not depend on the number of parts."""

    def __init__(self, starts: np.ndarray, per_row: int, step: int = 1):
        """`starts` (n_rows + 1,) are sums of entries by row; a row costs as many as `per_row` besides. Parts are cut at
        multiples of `step`, and are counted in these."""
        cost = starts + float(per_row) * np.arange(len(starts))
        threads = torch.get_num_threads()
        inner = np.searchsorted(cost, np.linspace(0, cost[-1], threads + 1)[1:-1]) // step
        self.last, self.cost = -(-(len(starts) - 1) // step), float(cost[-1])
        self.spans = [(int(a), int(b)) for a, b in pairwise([0, *inner, self.last])]

    def run(self, work: Callable[[int, int], object], each: float) -> None:
        """Call `work(first, last + 1)` for all parts; an entry takes so many multiplications."""
        if len(self.spans) == 1 or self.cost * each < PIECE:
            work(0, self.last)
            return
        with ThreadPoolExecutor(len(self.spans)) as pool:
            list(pool.map(lambda span: work(*span), self.spans))        # raises what one of them has raised


class CompiledDesign(Design):
    """Features whose products are compiled. Tables get columns up to a multiple of LANES; M are kept as `marginals` has
    them, of LANES rows together."""

    def __init__(self, features: Ragged, group: Tensor, n_groups: int):
        self.group, self.n_groups = group, n_groups
        both = features, features.transposed(len(group))
        self.arrays = [(side.starts.numpy(), side.columns.int().numpy(), side.values.numpy()) for side in both]
        self.threads = [Threads(starts, 2) for starts, _, _ in self.arrays]
        self.by_group = Threads(np.arange(len(features) + 1), 0, LANES)

    def wide(self, table: Tensor) -> Tensor:
        return torch.nn.functional.pad(table, (0, -table.shape[1] % LANES))

    def ahead(self, beta: Tensor) -> Tensor:
        return self._product(0, beta)

    def back(self, rows: Tensor) -> Tensor:
        return self._product(1, rows)

    def through(self, middle: Tensor, rows: Tensor) -> Tensor:
        from .gibbs_kernels import middle_product
        width, out = width_of(middle), torch.zeros_like(rows)

        def work(first: int, last: int) -> None:
            middle_product(out.numpy(), rows.numpy(), middle.numpy(), np.empty((2, width, LANES), np.float32), width,
                           first, last)
        self.by_group.run(work, width ** 2)
        return out

    def diagonal(self, middle: Tensor) -> Tensor:
        width, n = width_of(middle), len(self.arrays[0][0]) - 1
        places = torch.arange(width, 0, -1).cumsum(0) - torch.arange(width, 0, -1)
        rows = middle[:, places].transpose(1, 2).reshape(-1, width)[:n]
        return self._product(1, self.wide(rows), np.square(self.arrays[1][2]))[:, :width]

    def _product(self, way: int, table: Tensor, values: np.ndarray | None = None) -> Tensor:
        from .gibbs_kernels import sparse_product
        starts, columns, own = self.arrays[way]
        out, lanes = table.new_empty(len(starts) - 1, table.shape[1]), (0,) * (table.shape[1] // LANES)
        self.threads[way].run(lambda first, last: sparse_product(
            out.numpy(), starts, columns, own if values is None else values, table.numpy(), first, last, lanes),
            table.shape[1])
        return out


class CompiledRated(Rated):
    """Ratings whose sums are compiled. Memory: 16 bytes per rating."""

    def __init__(self, rows: Tensor, others: Tensor, n_rows: int, width: int):
        order = torch.argsort(rows, stable=True)
        self.counts = torch.bincount(rows, minlength=n_rows)
        self.rows, self.others = rows.int(), others.int()
        self.starts = np.concatenate([[0], self.counts.cumsum(0).numpy()])
        self.places, self.grouped = order.int().numpy(), self.others[order].numpy()
        self.by_group = Threads(self.starts, width, LANES)
        self.by_rating = Threads(np.arange(len(rows) + 1), 0)

    def scores(self, x: Tensor, other: Tensor) -> Tensor:
        from .gibbs_kernels import scores
        ones, out = torch.ones_like(x[:, :1]), torch.empty(len(self.rows), dtype=torch.float32)
        z = torch.cat([other[:, :-1], torch.ones_like(other[:, :1]), other[:, -1:]], 1)
        own, theirs = (torch.nn.functional.pad(table, (0, -table.shape[1] % LANES)).numpy()
                       for table in (torch.cat([x, ones], 1), z))
        lanes, pairs = (0,) * (own.shape[1] // LANES), (self.rows.numpy(), self.others.numpy())
        self.by_rating.run(lambda *span: scores(out.numpy(), own, theirs, *pairs, *span, lanes), own.shape[1])
        return out

    def weights(self, own: Tensor, other: Tensor) -> Tensor:
        from .gibbs_kernels import weigh
        out, factors = torch.empty(len(self.rows), dtype=torch.float32), (own.numpy(), other.numpy())
        self.by_rating.run(lambda *span: weigh(out.numpy(), *factors, self.rows.numpy(), self.others.numpy(), SUREST,
                                               *span), 2)
        return out

    def sums(self, errors: Tensor, other: Tensor) -> Tensor:
        from .gibbs_kernels import add_up
        sums = torch.zeros(len(self.counts), dtype=torch.float64)
        add_up(sums.numpy(), errors.double().numpy(), other.numpy(), self.rows.numpy(), self.others.numpy())
        return sums

    def marginal(self, targets: Tensor, weights: Tensor, other: Tensor, precision: Tensor) -> Marginal:
        from .gibbs_kernels import marginals
        noises, own, free = (numbers.numpy() for numbers in normal(self, other))
        n, width = own.shape
        alone, pulled = other.new_empty(n, width), other.new_zeros(n, width + -width % LANES)
        middle = other.new_empty(-(-n // LANES), width * (width + 1) // 2, LANES)
        wide = width + 2 + -(width + 2) % TILE
        design = other.new_zeros(len(other), wide)
        design[:, :width - 1], design[:, width - 1] = other[:, :-1], 1.0
        given = (design.numpy(), other[:, -1].contiguous().numpy(), self.starts, self.places, self.grouped,
                 targets.numpy(), weights.numpy(), noises, own, free, precision.numpy(), width)

        def work(first: int, last: int) -> None:
            room = [np.empty(shape) for shape in ((CHUNK, wide), (wide, wide), *[(width ** 2, LANES)] * 2,
                                                  (5, width, LANES))]
            marginals(alone.numpy(), pulled.numpy(), middle.numpy(), *given, *room,
                      np.empty((2, CHUNK), np.float32), first, last)
        self.by_group.run(work, width ** 2)
        return Marginal(alone, pulled, middle)


def width_of(middle: Tensor) -> int:
    """The width of M from the number of elements (i, j), i <= j."""
    return int(((8 * middle.shape[1] + 1) ** 0.5 - 1) / 2 + 0.5)
