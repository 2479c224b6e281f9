"""WindowOrder: training data in windows of users' histories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data.batches import TensorBatches
from ..data.windows import WindowedBatches
from ..train.callback import Callback
from ..train.callbacks.order import Order

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


class WindowOrder(Callback):
    """Trains on `WindowedBatches` of the training part: every rating once per epoch, in windows of `length` ratings of
    a user, as a sequential model reads them."""

    order = Order.TILES
    learn: CollabLearner

    def __init__(self, length: int):
        self.length = length
        self.windowed: WindowedBatches | None = None

    def before_train(self) -> None:
        learn = self.learn
        train = learn.data.train
        if train.shuffle and type(train) is TensorBatches:          # a subclass may have an order of its own
            if self.windowed is None or self.windowed.batches is not train:
                self.windowed = WindowedBatches(train, self.length, learn.data.n_users)
            learn.batches = self.windowed
