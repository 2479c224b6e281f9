"""Keep row 0 of every table of ids, and the rows of cold ids, at the average of the trained rows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..compiled import one_thread
from ..data.databunch import CollabDataBunch
from ..data.totals import trained_of
from ..models.base import SIDES, Side
from ..models.plain import as_collab
from ..sharded_rows import ShardedRows
from ..train.callback import Callback
from ..train.callbacks.order import Order

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


class AverageUnknown(Callback):
    """Keep row 0 of every user and item embedding at the average of the trained rows, also when averaged or earlier
    weights are validated or kept."""

    order = Order.AVERAGE_UNKNOWN
    learn: CollabLearner
    filled: tuple[tuple[int, int], ...] = ()        # the tables as they were left

    def cleanup_train(self) -> None:
        self._fill()

    def before_validate(self) -> None:
        if self._tables() != self.filled:       # other weights, such as averaged ones
            self._fill()

    def cleanup_fit(self) -> None:
        self._fill()

    def _fill(self) -> None:
        if self.learn.run.cut_off is not None and _are_sharded(self.learn.model):
            return          # the other processes may be elsewhere
        with one_thread():
            fill_unknown(self.learn.model, self.learn.data)
        self.filled = self._tables()

    def _tables(self) -> tuple[tuple[int, int], ...]:
        """Which tables of ids there are, and how often each was changed."""
        tables = as_collab(self.learn.model).id_tables()
        return tuple((id(table), table._version) for own in tables.values() for table in own)


def _are_sharded(model: nn.Module) -> bool:
    return any(isinstance(p, ShardedRows) for p in model.parameters())


_known: WeakKeyDictionary[object, dict[tuple[str, int, int], Tensor]] = WeakKeyDictionary()


def trained_rows(data: CollabDataBunch, side: Side, rows: slice) -> Tensor:
    """Which of some rows of "user" or "item" have training ratings, bool: `data.trained` without the other rows."""
    found = _known.setdefault(data.train, {})
    if (key := (side, rows.start, rows.stop)) not in found:
        found[key] = trained_of(data.train, SIDES.index(side), rows)
    return found[key]


@torch.no_grad()
def fill_unknown(model: nn.Module, data: CollabDataBunch) -> None:
    """Set row 0 of every table of ids, and the rows of cold ids, to the mean of the rows that were trained."""
    for side, tables in as_collab(model).id_tables().items():
        for table in tables:
            if isinstance(table, ShardedRows):
                table.average_rest(partial(trained_rows, data, side))
            elif data.none_cold[side]:        # as most are: no copy
                table[0] = table[1:].mean(0)
            else:
                trained = data.trained[side].to(table.device)
                table[~trained] = table[trained].mean(0)
