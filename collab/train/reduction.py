"""The gradients of several processes, added up: the same bits in each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

FEW = 4             # a table is exchanged by its rows where those of all processes are at most a FEWth of it
SMALL = 1 << 16     # numbers of a parameter up to which it is exchanged whole, together with others


class Gradients:
    """The gradients of this process, and what the others must know of them before they are exchanged: `numbers`, three
    for each parameter: whether there is a gradient, whether it is sparse, and its rows that are not 0."""

    def __init__(self, model: nn.Module):
        self.params = trained(model)
        self.rows = [_touched(p) for p in self.params]
        self.numbers = [float(number) for p, rows in zip(self.params, self.rows) for number in (
            p.grad is not None, p.grad is not None and p.grad.is_sparse, 0 if rows is None else len(rows))]

    @torch.no_grad()
    def add_up(self, numbers: Sequence[Sequence[float]]) -> None:
        """Replace every gradient by the sum over the processes, whose `numbers` these are; where a parameter has none,
        it counts as 0 there.

        Of a large table (n, k), only the rows that are not 0 are exchanged where these are few, and of a sparse
        gradient always: it stays sparse."""
        small = list[Tensor]()
        for k, (p, rows) in enumerate(zip(self.params, self.rows)):
            there, sparse, n = zip(*(own[3 * k:3 * k + 3] for own in numbers))
            if not any(there):
                continue
            rowwise = p.dim() == 2 and all(one == other for one, other in zip(there, sparse))
            if rowwise or (_is_table(p) and (any(sparse) or FEW * sum(n) <= len(p))):
                _exchange_rows(p, rows, [int(count) for count in n], sparse=any(sparse))
                continue
            if p.grad is None or p.grad.is_sparse:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad.to_dense()
            if p.numel() > SMALL:
                dist.all_reduce(p.grad)
            else:
                small.append(p.grad)
        if small:
            flat = torch.cat([grad.flatten() for grad in small])
            every = [torch.empty_like(flat) for _ in numbers]
            dist.all_gather(every, flat)        # of few numbers faster than all_reduce
            for grad, part in zip(small, sum(every[1:], start=every[0]).split([grad.numel() for grad in small])):
                grad.copy_(part.view_as(grad))


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that may have a gradient: as many in every process."""
    return [p for p in model.parameters() if p.requires_grad]


def _is_table(p: nn.Parameter) -> bool:
    return p.dim() == 2 and p.numel() > SMALL


def _touched(p: nn.Parameter) -> Tensor | None:
    """The rows of a table whose gradient is not 0, ascending; None where it is exchanged whole or has none."""
    if p.grad is not None and p.grad.is_sparse and p.dim() == 2:
        p.grad = p.grad.coalesce()
        return p.grad.indices()[0]
    if p.grad is None or not _is_table(p):
        return None
    return (p.grad != 0).any(1).nonzero()[:, 0]


def _exchange_rows(p: nn.Parameter, own: Tensor | None, n: list[int], sparse: bool) -> None:
    """Add up a table's gradient by the `n` rows that each process has."""
    most = max(n)
    rows, values = torch.zeros(most, dtype=torch.int64, device=p.device), p.new_zeros(most, p.shape[1])
    if own is not None and p.grad is not None:
        rows[:len(own)] = own
        values[:len(own)] = p.grad.values() if p.grad.is_sparse else p.grad[own]
    every = [(torch.empty_like(rows), torch.empty_like(values)) for _ in n]
    dist.all_gather([one for one, _ in every], rows)
    dist.all_gather([one for _, one in every], values)
    every = [(one[:k], of[:k]) for (one, of), k in zip(every, n)]
    if sparse:
        p.grad = torch.sparse_coo_tensor(torch.cat([one for one, _ in every])[None], torch.cat([of for _, of in every]),
                                         p.shape, check_invariants=False).coalesce()
        return
    if p.grad is None:
        p.grad = torch.zeros_like(p)
    elif own is not None:
        p.grad[own] = 0
    for one, of in every:
        p.grad.index_add_(0, one, of)
