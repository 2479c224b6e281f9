"""Which parameters `forward` looks users and items up in, seen from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

Touched = dict[int, set[int]]       # id of a parameter -> the rows that were looked up in it


def looked_up(model: nn.Module) -> dict[Literal["user", "item"], list[Tensor]]:
    """The parameters in which `forward` looks up the users' rows alone, and those for the items, found by scoring the
    pairs of rows (1, 0) and (0, 1): from the inputs of embeddings and, for other parameters with more than two rows,
    from the rows that have a gradient. Empty where that fails: a fit will say why."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    one, zero = torch.ones(2, dtype=torch.int64, device=device), torch.zeros(2, dtype=torch.int64, device=device)
    try:
        with _evaluating(model), torch.random.fork_rng():
            first, second = _touched(model, one, zero), _touched(model, zero, one)
    except Exception:
        return {}

    def tables(rows: set[int], others: set[int]) -> list[Tensor]:
        return [p for p in model.parameters() if first.get(id(p)) == rows and second.get(id(p)) == others]
    return {"user": tables({1}, {0}), "item": tables({0}, {1})}


def _touched(model: nn.Module, users: Tensor, items: Tensor) -> Touched:
    touched: Touched = {}
    hooks = [table.register_forward_pre_hook(partial(_note, touched)) for table in model.modules()
             if isinstance(table, nn.Embedding)]
    try:
        with torch.no_grad():
            model(users, items)
    finally:
        for hook in hooks:
            hook.remove()
    rest = [p for p in model.parameters() if id(p) not in touched and p.requires_grad and p.dim() and len(p) > 2]
    if rest:
        with torch.enable_grad():
            grads = torch.autograd.grad(model(users, items).float().sum(), rest, allow_unused=True)
        for p, grad in zip(rest, grads):
            if grad is not None:
                rows = grad.to_dense().reshape(len(p), -1).any(1).nonzero()[:, 0]
                touched[id(p)] = {*rows.tolist()}
    return touched


def _note(touched: Touched, table: nn.Embedding, args: tuple[Tensor, ...]) -> None:
    touched.setdefault(id(table.weight), set()).update(args[0].flatten().tolist())


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside a `with`; a model that is already in it is not touched."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
