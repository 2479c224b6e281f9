"""Operations on tensors whose results have the same bits each time: products that are ranked, rows of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MAX_NUMBERS = 1 << 18       # numbers of the right-hand side that are held in float64 at a time: 2 MiB, a CPU's cache
FEW = 1 << 8                # rows whose cosines are taken without normalising a whole table


def products(left: Tensor, right: Tensor, rows: Tensor | None = None) -> Tensor:
    """left (m, width) @ right (n, width).T, shape (m, n); with `rows` (n,) of the rows right[rows].

    Without gradients it is summed in float64. In float32 the last bits of a sum depend on how many rows and columns a
    matrix has, on the place of a column, on threads and on the CPU's instructions, so that equal items would get
    different scores, and one user another list than the same user among others. Rounded once at the end, to float32
    by whoever ranks, they agree. With gradients, in training, nothing is ranked: it is the plain product."""
    n = len(right) if rows is None else len(rows)
    if torch.is_grad_enabled():
        return left @ (right if rows is None else right[rows]).T
    wide, step = left.double(), max(1, MAX_NUMBERS // max(1, right.shape[1]))
    if n <= step:
        return wide @ (right if rows is None else right[rows]).double().T
    scores = torch.empty(len(left), n, dtype=torch.float64, device=left.device)
    for begin in range(0, n, step):
        some = slice(begin, begin + step)
        torch.mm(wide, right[some if rows is None else rows[some]].double().T, out=scores[:, some])
    return scores


def run_of(rows: Tensor | range) -> slice | None:
    """The slice that rows (n,) make up where they are consecutive, as all items are; None where they are not."""
    if isinstance(rows, range):
        return slice(rows.start, rows.stop)
    first, n = (int(rows[0]), len(rows)) if len(rows) else (0, 0)
    if not n or int(rows[-1]) - first != n - 1 or not torch.equal(rows, torch.arange(first, first + n,
                                                                                     device=rows.device)):
        return None
    return slice(first, first + n)


def rows_at(table: Tensor, rows: Tensor) -> Tensor:
    """table[rows] along the first dimension, for rows (n,).

    The gradient adds up what goes to one row. On a CPU with several threads that of `[]` does so in any order, by
    atomic additions, once there are 32,768 numbers; that of `index_select` goes row by row, and is faster. On a GPU it
    is the other way round."""
    return table[rows] if table.is_cuda else table.index_select(0, rows)


def entries_at(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """table[rows, columns] (n,) of a table (m, k), likewise."""
    return table[rows, columns] if table.is_cuda else rows_at(table.flatten(), rows * table.shape[1] + columns)


def cosines(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """(rows (m,), rows (n,)) -> the cosines of these rows of `weight`, (m, n) float64; a row of zeros is similar to
    nothing (0). The whole table is normalised when more than FEW rows are asked for."""
    whole: list[Tensor] = []

    def of(left: Tensor, right: Tensor) -> Tensor:
        if not whole and isinstance(right, Tensor) and len(left) + len(right) <= FEW:
            return products(_unit(weight[left]), _unit(weight[right]))
        if not whole:
            whole.append(_unit(weight))
        return products(whole[0][left], whole[0], right)
    return of


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.double(), dim=1)


def sparse_product(matrix: Tensor, transposed: Tensor, table: Tensor) -> Tensor:
    """matrix @ table of a sparse (m, n) and a dense (n, width), whose gradient is `transposed` @ g: both matrices are
    given, since transposing one costs more than multiplying. It is not for half precision, also under autocast."""
    with torch.autocast(table.device.type, enabled=False):
        return _SparseProduct.apply(matrix, transposed, table)


class _SparseProduct(torch.autograd.Function):
    """A @ y, whose gradient is A' @ g: both matrices are given, since transposing one costs more than multiplying."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, transposed: Tensor, y: Tensor) -> Tensor:
        ctx.transposed = transposed
        return a @ y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ grad


def checksum(table: Tensor) -> int:
    """A sum over the bits of a tensor: it changes with any one number, and takes a fortieth of a sum in float64."""
    flat = table.detach().reshape(-1)
    n = len(flat) * flat.element_size() // 8 * 8 // flat.element_size()        # what fills words of 8 bytes
    if flat.storage_offset() * flat.element_size() % 8:
        flat = flat.clone()
    rest = int.from_bytes(flat[n:].cpu().contiguous().view(torch.uint8).numpy().tobytes(), "little")
    return int(flat[:n].view(torch.int64).sum()) + rest
