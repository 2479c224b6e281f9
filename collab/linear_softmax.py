"""The softmax over all items of a linear output layer, with its gradients, without a table of all logits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .numerics import entries_at

MAX_LOGITS = 1 << 22        # at a time: 16 MiB, which a cache holds


def linear_softmax(hidden: Tensor, weight: Tensor, bias: Tensor, row: Tensor, items: Tensor, never: Tensor,
                   temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean over m targets of -log softmax(logits / temperature)[item], and the targets' logits (m,), without gradient.

    The logits are hidden (n, k) @ weight (n_items, k).T + bias (n_items,); target t is `items`[t] (m,) in row `row`[t]
    (m,). Items of the mask `never` (n_items,) count in the sum only where they are the target. The gradients are made
    in the forward pass, MAX_LOGITS logits at a time, and kept: memory for them, and never for n x n_items numbers."""
    device = hidden.device.type
    with torch.autocast(device, enabled=False):
        return _LinearSoftmax.apply(hidden.float(), weight.float(), bias.float(), row, items, never, temperature)


class _LinearSoftmax(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, row: Tensor, items: Tensor, never: Tensor,
                temperature: float) -> tuple[Tensor, Tensor]:
        trained = any(ctx.needs_input_grad)
        made = [torch.zeros_like(t) for t in (hidden, weight, bias)] if trained else []
        losses, scores = hidden.new_empty(len(row)), hidden.new_empty(len(row))
        order, cold, n_items = torch.argsort(row, stable=True), torch.nonzero(never)[:, 0], len(weight)
        step = max(1, MAX_LOGITS // n_items)
        begins = torch.arange(0, len(hidden), step, device=row.device)
        ends = torch.searchsorted(row[order], begins + step)
        for begin, some in zip(begins.tolist(), order.tensor_split(ends[:-1].cpu())):
            mine, at, wanted_items = slice(begin, begin + step), row[some] - begin, items[some]
            logits = torch.addmm(bias, hidden[mine], weight.T)
            scores[some] = entries_at(logits, at, wanted_items)
            wanted = scores[some] / temperature
            if temperature != 1.0:
                logits /= temperature
            logits.index_fill_(1, cold, -math.inf)
            highest = logits.amax(1, keepdim=True)
            sums = logits.sub_(highest).exp_().sum(1)       # in place: logits are powers from here on
            total = (sums.log() + highest[:, 0])[at]
            whole = torch.where(never[wanted_items], torch.logaddexp(total, wanted), total)
            losses[some] = whole - wanted
            if not trained:
                continue
            # d loss / d logit is softmax, less 1 at the target; for a cold target both times exp(total - whole)
            share = (total - whole).exp() / (len(row) * temperature)
            logits *= (torch.zeros_like(sums).index_add_(0, at, share) / sums)[:, None]
            logits.view(-1).index_add_(0, at * n_items + wanted_items, -share)
            torch.mm(logits, weight, out=made[0][mine])
            made[1].addmm_(logits.T, hidden[mine])
            made[2] += logits.sum(0)
        ctx.save_for_backward(*made)
        ctx.mark_non_differentiable(scores)
        return losses.mean(), scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return *(grad * made for made in ctx.saved_tensors), None, None, None, None
