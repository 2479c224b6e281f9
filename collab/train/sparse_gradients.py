"""Gradients of large tables by their touched rows, so that a batch of the loop does not sweep whole tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from .row_adagrad import RowAdagrad

if TYPE_CHECKING:
    from .learner import Learner

LARGE = 1 << 16     # numbers of a table from which on its gradient is sparse


@contextmanager
def sparse_gradients(learn: Learner) -> Iterator[None]:
    """Make the gradients of large embedding tables sparse for the length of a `with`, where the optimizer is a
    RowAdagrad without decay, which leaves rows without a gradient as they are, and no callback looks at gradients but
    those that say that they take sparse ones."""
    tables = _tables(learn)
    try:
        for layer in tables:
            layer.sparse = True
        yield
    finally:
        for layer in tables:
            layer.sparse = False


def _tables(learn: Learner) -> list[nn.Embedding]:
    run = learn.run
    watched = any(not cb.takes_sparse for event in ("after_backward", "after_step") for cb in run.callers[event])
    if (not isinstance(learn.opt, RowAdagrad) or any(group["weight_decay"] for group in learn.opt.param_groups)
            or watched or {run.owners["backward"], run.owners["step"]} != {learn.verbs}):
        return []
    return [layer for layer in learn.model.modules() if type(layer) is nn.Embedding and not layer.sparse
            and layer.weight.numel() >= LARGE]


def rows_of_table(model: nn.Module, table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]`, with a gradient that is sparse where that of the embedding with this table is."""
    sparse = any(layer.sparse and layer.weight is table for layer in model.modules() if isinstance(layer, nn.Embedding))
    return F.embedding(rows, table, sparse=sparse)
