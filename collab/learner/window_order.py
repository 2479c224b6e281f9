"""Training a sequential model: ratings that must be in order of time, and WindowOrder, which keeps windows together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..data.mapped import MappedBatches
from ..data.windows import WindowedBatches
from ..errors import DataError, warn
from ..models.base import CollabModel
from ..train.callback import Callback
from ..train.callbacks.order import Order

if TYPE_CHECKING:
    from .collab_learner import CollabLearner

BY_TIME = "split=leave_last(1) or time_split(0.2), or time_split(0), which holds none out"


def check_order(data: CollabDataBunch, model: CollabModel) -> None:
    """For a sequential model, raise DataError for ratings whose order is lost, and warn of those that are not known to
    be in order of time."""
    if not model.window:
        return
    if isinstance(data.train, MappedBatches):
        raise DataError(f"{model.kind} reads ratings in order of time, and those of from_parquet are shuffled; read "
                        "them with from_df, or train another model")
    if not data.timed:
        why = ("no column of times is known; name it with time_name=..., and split" if data.schema.time is None else
               "the split does not go by time; split")
        warn(f"{model.kind} reads the ratings of a user in the order of the table, since {why} with {BY_TIME}")


class WindowOrder(Callback):
    """Trains on `WindowedBatches` of the training part: every rating once per epoch, in windows of as many ratings of a
    user as the model reads."""

    order = Order.TILES
    learn: CollabLearner

    def __init__(self) -> None:
        self.windowed: WindowedBatches | None = None

    def before_train(self) -> None:
        learn = self.learn
        train, length = learn.data.train, learn.collab_model.window
        if length and train.shuffle and type(train) is TensorBatches:       # a subclass may have an order of its own
            made = self.windowed
            if made is None or made.batches is not train or made.length != length:
                self.windowed = made = WindowedBatches(train, length, learn.data.n_users)
            learn.batches = made
