"""The ridge of dot models: an L2 for every rating that a row has, as strong as the ratings call for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..compiled import DotTables
from ..given import is_real
from ..models.plain import as_collab
from ..sharded_rows import ShardedRows
from ..train.callback import Callback
from ..train.callbacks.order import Order
from ..train.sparse_gradients import rows_of_table
from .evidence import Evidence, Held, RowRidge, held_rows

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


Counts = Callable[[Tensor], Tensor]
"""The numbers of ratings of rows (n,)."""


class Ridge(Callback):
    """Adds to the loss of each training rating of a dot model lambda_u |p_u|^2 + lambda_i |q_i|^2 + kappa_u b_u^2 +
    kappa_i b_i^2 (the weighted ridge of Zhou et al. 2008, with a power of its own), as strong as the `Evidence` in the
    training ratings, times `scale`. Unlike weight decay it acts on the rows of the batch alone, so that it does not
    depend on how many batches there are, nor wear off rows that are rarely rated. Losses are recorded without it.

    A fit with a weight decay has that in place of the ridge. Raises Unsupported for a model that is not a plain dot
    product."""

    order = Order.RIDGE
    in_eval = True          # so that lr_find tests the loss that is trained
    learn: CollabLearner

    def __init__(self, scale: float = 0.25):
        if not is_real(scale) or not 0 <= scale < math.inf:
            raise ValueError(f"scale must be a finite number, at least 0, got {scale!r}")
        self.scale = scale
        self.ridges: tuple[np.ndarray, ...] = ()
        self.weights: list[Tensor] = []         # the same on the device
        self.by_row: list[tuple[RowRidge, Counts]] = []     # the same, where tables are sharded

    def before_fit(self) -> None:
        learn = self.learn
        model = as_collab(learn.model)
        if any(isinstance(cb, Ridge) and cb is not self for cb in learn.cbs):
            raise TypeError("a learner has one Ridge; pass a `scale` of your own with cbs=Ridge(scale)")
        if (tables := model.dot_tables()) is None:
            raise model.lacks("has no ridge: it is not a plain dot product; pass a weight decay, wd=")
        self.ridges, self.by_row = (), []
        if not any(group["weight_decay"] for group in learn.opt.param_groups):
            if (held := held_rows(tables)) is not None:
                self.by_row = self._by_row(tables, held)
            else:
                self.ridges = Evidence.of(learn.data, tables.y_range).ridges(self.scale)
        self.weights = [torch.from_numpy(ridge).to(learn.device) for ridge in self.ridges]

    def _by_row(self, tables: DotTables, held: Held) -> list[tuple[RowRidge, Counts]]:
        """The ridges of users and of items by their numbers of ratings, and what gives these for the rows of a batch.
        Each process has those of its own rows, beside them: they come with the rows."""
        data, y_range = self.learn.data, tables.y_range
        found, counts = Evidence.of(data, y_range, held), list[Counts]()
        for k, own in enumerate(((tables.user_bias, tables.users), (tables.item_bias, tables.items))):
            room = next((t for t in own if isinstance(t, ShardedRows) and t.keep_beside(found.counts[k])), None)
            counts.append(Evidence.of(data, y_range).counts[k].__getitem__ if room is None else room.beside)
        return [*zip(found.row_ridges(self.scale), counts)]

    def cleanup_fit(self) -> None:
        self.by_row = []        # it holds tables of this `with`

    def before_chunk(self) -> None:
        self.learn.chunk.ridges = self.ridges

    def after_chunk(self) -> None:
        """The kernels added the ridge to the gradients alone."""

    def after_loss(self) -> None:
        learn = self.learn
        if not learn.training or not (self.ridges or self.by_row):
            return
        tables = as_collab(learn.model).dot_tables()
        assert tables is not None       # `before_fit` has looked
        total = torch.zeros((), device=learn.device)
        for k, (factors, bias) in enumerate(((tables.users, tables.user_bias), (tables.items, tables.item_bias))):
            rows = learn.xb[k]
            if self.by_row:
                ridge, counts = self.by_row[k]
                own = ridge(counts(rows))
            else:
                own = self.weights[k][rows], self.weights[k + 2][rows]
            for table, weights in zip((factors, bias), own):
                if table is not None:
                    touched = rows_of_table(learn.model, table, rows)
                    total = total + (weights * touched.square().sum(1)).mean()
        learn.loss = learn.loss + total

    def __repr__(self) -> str:
        return f"Ridge({self.scale:g})"
