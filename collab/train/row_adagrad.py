"""RowAdagrad: Adagrad with one accumulator per row of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .optim import Plain


class RowAdagrad(Plain):
    """Adagrad (Duchi, Hazan, Singer 2011) with one accumulator per row, as trainers of large embedding tables have it:

        s_r <- s_r + mean(g_r^2),    w_r <- w_r - lr g_r / (sqrt(s_r) + eps)

    where a row r of a table (n, k) is its first dimension, and each number of a vector its own row. Rows without a
    gradient stay as they are: there is no momentum. So does a parameter without dimensions, such as a model's mean,
    which is a row of no table. The step does not depend on the scale of the loss. Sparse gradients are those of rows.
    Raises ValueError for an `lr`, `eps` or `weight_decay` that is negative."""

    def __init__(self, params: Iterable[Any], lr: float = 0.07, eps: float = 1e-10, weight_decay: float = 0.0):
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value!r}")
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay, "decoupled_weight_decay": True})

    @staticmethod
    def accumulator(state: dict[str, Any], p: Tensor) -> Tensor:
        """The sums of a parameter's rows, (n,); begun with zeros."""
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["row_sum"] = torch.zeros(p.shape[:1], dtype=p.dtype, device=p.device)
        return state["row_sum"]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take a step; decay, if any, is decoupled: w <- w - lr weight_decay w before it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None or not p.dim():
                    continue
                state = self.state[p]
                total = self.accumulator(state, p)
                state["step"] += 1
                if group["weight_decay"]:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                if p.grad.is_sparse:
                    grad = p.grad.coalesce()
                    rows, values = grad.indices()[0], grad.values()
                    sums = total[rows] + values.square().flatten(1).mean(1)
                    total[rows] = sums
                    size = sums.sqrt_().add_(group["eps"]).reciprocal_().mul_(-group["lr"])
                    p.index_add_(0, rows, values * size[:, None])
                    continue
                square = p.grad.square()
                total += square.flatten(1).mean(1) if p.dim() > 1 else square
                size = total.sqrt().add_(group["eps"]).reciprocal_().mul_(-group["lr"])
                p.addcmul_(p.grad, size.view(-1, *[1] * (p.dim() - 1)))
        return loss
