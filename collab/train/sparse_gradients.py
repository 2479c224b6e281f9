"""Gradients of large tables by their touched rows, so that a batch does not sweep whole tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from .callback import Callback
from .row_adagrad import RowAdagrad

if TYPE_CHECKING:
    from .learner import Learner

LARGE = 1 << 16     # numbers of a table from which on its gradient is sparse


class SparseGradients:
    """Makes the gradients of large embedding tables sparse, where the optimizer is a RowAdagrad without decay, which
    leaves rows without a gradient as they are, and no other callback than `known` ones looks at gradients."""

    def __init__(self) -> None:
        self.tables: list[nn.Embedding] = []

    def begin(self, learn: Learner, known: tuple[type[Callback], ...]) -> None:
        plain = isinstance(learn.opt, RowAdagrad) and not any(group["weight_decay"] for group in learn.opt.param_groups)
        seen = [cb for event in ("after_backward", "after_step") for cb in learn.run.callers[event]]
        if plain and all(isinstance(cb, known) for cb in seen) and learn.run.owners["step"] is learn.verbs:
            self.tables = [layer for layer in learn.model.modules() if type(layer) is nn.Embedding
                           and not layer.sparse and layer.weight.numel() >= LARGE]
        for layer in self.tables:
            layer.sparse = True

    def end(self) -> None:
        for layer in self.tables:
            layer.sparse = False
        self.tables = []


def rows_of_table(model: nn.Module, table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]`, with a gradient that is sparse where that of the embedding with this table is."""
    sparse = any(layer.sparse and layer.weight is table for layer in model.modules() if isinstance(layer, nn.Embedding))
    return F.embedding(rows, table, sparse=sparse)
