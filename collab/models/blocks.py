"""Blocks: the rated rows of many users (or items) as padded tables, for equations that are solved in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding as gather

from ..ragged import Ragged
from .least_squares import LeastSquares

MAX_NUMBERS = 1 << 20       # factors gathered at a time: 4 MiB, which fit a cache
SPREAD = 1.15               # the longest history of a block over its shortest, at most


class Block(NamedTuple):
    """B rows with histories of similar length, the longest of length L."""

    rows: Tensor            # (B,) int64: whose histories these are
    columns: Tensor         # (B, L) int32: the rows they rated, padded with 0, the unknown row
    values: Tensor          # (B, L) float: the ratings, padded with 0
    counts: Tensor          # (B,) float: the lengths before padding


def make_blocks(rows: Tensor, columns: Tensor, values: Tensor, n_rows: int, width: int) -> list[Block]:
    """Cut n ratings, `values` (n,) of `columns` (n,) by `rows` (n,), into blocks, longest histories first.

    Rows are sorted by the length of their history, so that padding adds some 7%. With B x L factors of length `width`,
    or B matrices of width x width, a block takes at most MAX_NUMBERS numbers, except where a single row has more."""
    histories = Ragged.of(rows, columns.int(), values, n_rows)
    counts = histories.counts
    longest_first = torch.argsort(counts, descending=True, stable=True)[:int((counts > 0).sum())]
    falling = -counts[longest_first].double()
    blocks, begin = [], 0
    while begin < len(longest_first):
        longest = int(-falling[begin])
        alike = int(torch.searchsorted(falling, -longest / SPREAD, right=True))
        end = min(alike, begin + max(1, MAX_NUMBERS // (width * max(longest, width))))
        mine = longest_first[begin:end]
        blocks.append(Block(mine, *histories.padded(mine, longest), counts[mine].to(values.dtype)))
        begin = end
    return blocks


class Blocks:
    """`Histories` whose normal equations are summed by batched products, for any device and precision.

    Memory: some 17 bytes per rating for the two sides, and MAX_NUMBERS numbers while solving."""

    def __init__(self, rows: Tensor, columns: Tensor, values: Tensor, n_rows: int, width: int):
        self.blocks = make_blocks(rows, columns, values, n_rows, width)
        self.counts = torch.bincount(rows, minlength=n_rows)

    def solve(self, problem: LeastSquares, start: Tensor | None, steps: int) -> Tensor:
        """See `Histories`. Raises ArithmeticError with the number of rows whose exact solution is not found."""
        solved = problem.design.new_zeros(len(self.counts), problem.width)
        failed = torch.zeros((), dtype=torch.int32, device=solved.device)
        for group in _groups(self.blocks, problem.width):
            rows = torch.cat([block.rows for block in group])
            left, right = _equations(group, problem)
            if start is not None:
                solved[rows] = conjugate_gradients(left, right, start[rows], steps)
                continue
            factor, info = torch.linalg.cholesky_ex(left)
            failed += info.ne(0).sum()
            half = torch.linalg.solve_triangular(factor, right[..., None], upper=False)
            solved[rows] = torch.linalg.solve_triangular(factor.mT, half, upper=True).squeeze(-1)
        if failed:
            raise ArithmeticError(f"{int(failed)} normal equations are singular in {solved.dtype}")
        return solved

    def error(self, problem: LeastSquares, x: Tensor) -> float:
        """See `Histories`."""
        design, wide = problem.design.double(), x.double()
        total = wide.new_zeros(())
        for block in self.blocks:
            for _, columns, values in _pieces(block, problem.width):
                dots = (gather(columns, design) @ wide[block.rows][..., None]).squeeze(-1)
                total += (problem.errors(columns, values, dots) * (columns > 0)).sum()
        return total.item()


def conjugate_gradients(left: Tensor, right: Tensor, start: Tensor, steps: int) -> Tensor:
    """`steps` steps towards the solutions x (n, k) of n systems left x = right, (n, k, k) and (n, k), from `start`.

    Each step lowers x' left x / 2 - right x of every system; k steps solve it exactly (Hestenes, Stiefel 1952)."""
    x = start
    residual = right - (left @ x[..., None]).squeeze(-1)
    direction, size = residual, residual.square().sum(1, keepdim=True)
    tiny = torch.finfo(left.dtype).tiny         # a solved system does not change: 0 / tiny
    for _ in range(steps):
        image = (left @ direction[..., None]).squeeze(-1)
        length = size / (direction * image).sum(1, keepdim=True).clamp(min=tiny)
        x, residual = torch.addcmul(x, length, direction), torch.addcmul(residual, length, image, value=-1)
        new = residual.square().sum(1, keepdim=True)
        direction, size = torch.addcmul(residual, new / size.clamp(min=tiny), direction), new
    return x


def _equations(group: list[Block], problem: LeastSquares) -> tuple[Tensor, Tensor]:
    """The left sides (rows, width, width) and right sides (rows, width) of the normal equations of a few blocks."""
    design, n, width = problem.design, sum(len(block.rows) for block in group), problem.width
    left, right = design.new_empty(n, width, width), design.new_empty(n, 1, width)
    begin = 0
    for block in group:
        end = begin + len(block.rows)
        for first, columns, values in _pieces(block, width):
            factors = gather(columns, design)
            weights, wanted = problem.terms(columns, values)
            weighted = factors if problem.alpha is None else factors * weights[..., None]
            for total, part in ((left, weighted.mT), (right, wanted[:, None])):
                if first:           # twice as fast as adding to zeros
                    torch.bmm(part, factors, out=total[begin:end])
                else:
                    total[begin:end].baddbmm_(part, factors)
        begin = end
    if problem.gram is not None:
        left += problem.gram
    left.diagonal(dim1=1, dim2=2).add_(torch.cat([problem.ridge[block.rows] for block in group])[:, None])
    return left, right.squeeze(1)


def _groups(blocks: list[Block], width: int) -> Iterator[list[Block]]:
    """Consecutive blocks whose matrices together take at most MAX_NUMBERS numbers, or a single one."""
    group: list[Block] = []
    n = 0
    for block in blocks:
        if group and (n + len(block.rows)) * width * width > MAX_NUMBERS:
            yield group
            group, n = [], 0
        group.append(block)
        n += len(block.rows)
    if group:
        yield group


def _pieces(block: Block, width: int) -> Iterator[tuple[bool, Tensor, Tensor]]:
    """The pieces of a block, (whether it is the first, columns, values), cut where a single long history would take
    more than MAX_NUMBERS numbers."""
    step = max(1, MAX_NUMBERS // (width * len(block.rows)))
    for k, (columns, values) in enumerate(zip(block.columns.split(step, dim=1), block.values.split(step, dim=1))):
        yield not k, columns, values
