"""The gradients of several processes, added up: the same bits in each."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .process_group import ProcessGroup

FEW = 4             # a table is exchanged by its rows where those of all processes are at most a FEWth of it
SMALL = 1 << 16     # numbers of a parameter up to which it is exchanged together with others, whole


@torch.no_grad()
def add_up(model: nn.Module, group: ProcessGroup) -> None:
    """Replace every gradient by the sum over the processes; where a parameter has none, it counts as 0.

    Of a large table (n, k), only the rows that are not 0 are exchanged where these are few, and of a sparse gradient
    always: it stays sparse."""
    params = [p for p in model.parameters() if p.requires_grad]
    rows = [_touched(p) for p in params]
    counts = group.gathered([-1 if p.grad is None else 0 if own is None else len(own)
                             for p, own in zip(params, rows)])
    small = list[nn.Parameter]()
    for p, own, in_each in zip(params, rows, zip(*counts)):
        if max(in_each) < 0:
            continue
        n = [max(0, int(count)) for count in in_each]
        if _is_table(p) and (_sparse(p) or FEW * sum(n) <= len(p)):
            _exchange_rows(p, own, n, group)
            continue
        if p.grad is None or p.grad.is_sparse:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.to_dense()
        if p.numel() > SMALL:
            dist.all_reduce(p.grad)
        else:
            small.append(p)
    grads = [p.grad for p in small if p.grad is not None]
    if grads:
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat.split([grad.numel() for grad in grads])):
            grad.copy_(part.view_as(grad))


def _is_table(p: nn.Parameter) -> bool:
    return p.dim() == 2 and p.numel() > SMALL


def _sparse(p: nn.Parameter) -> bool:
    return p.grad is not None and p.grad.is_sparse


def _touched(p: nn.Parameter) -> Tensor | None:
    """The rows of a table whose gradient is not 0, ascending; None where it is exchanged whole or has none."""
    if p.grad is None or not _is_table(p):
        return None
    if p.grad.is_sparse:
        p.grad = p.grad.coalesce()
        return p.grad.indices()[0]
    return (p.grad != 0).any(1).nonzero()[:, 0]


def _exchange_rows(p: nn.Parameter, own: Tensor | None, n: list[int], group: ProcessGroup) -> None:
    """Add up a table's gradient by the `n` rows that each process has."""
    most, sparse = max(n), _sparse(p)
    rows, values = torch.zeros(most, dtype=torch.int64, device=p.device), p.new_zeros(most, p.shape[1])
    if own is not None and p.grad is not None:
        rows[:len(own)] = own
        values[:len(own)] = p.grad.values() if sparse else p.grad[own]
    every = [(torch.empty_like(rows), torch.empty_like(values)) for _ in n]
    dist.all_gather([one for one, _ in every], rows)
    dist.all_gather([one for _, one in every], values)
    every = [(one[:k], of[:k]) for (one, of), k in zip(every, n)]
    if sparse:
        p.grad = torch.sparse_coo_tensor(torch.cat([one for one, _ in every])[None], torch.cat([of for _, of in every]),
                                         p.shape).coalesce()
        return
    if p.grad is None:
        p.grad = torch.zeros_like(p)
    elif own is not None:
        p.grad[own] = 0
    for one, of in every:
        p.grad.index_add_(0, one, of)
