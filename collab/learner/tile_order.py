"""TileOrder: large training data in an order that is kind to the caches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data.batches import TensorBatches
from ..data.mapped import MappedBatches
from ..data.mapped_tiles import MappedTiles
from ..data.tiles import TiledBatches
from ..train.callback import Callback
from ..train.callbacks.order import Order

if TYPE_CHECKING:
    from .collab_learner import CollabLearner

MANY_ROWS = 1 << 20     # training ratings from which on tables are larger than caches


class TileOrder(Callback):
    """Trains on `TiledBatches` of the training part: every rating once per epoch, in an order that keeps to few users
    and items for a while, which is several times as fast where the tables are larger than the caches. Ratings in files
    keep their own order, unless they were encoded in tiles too."""

    order = Order.TILES
    learn: CollabLearner

    def __init__(self) -> None:
        self.tiled: TiledBatches | None = None

    def before_train(self) -> None:
        learn = self.learn
        train = learn.data.train
        mapped = isinstance(train, MappedBatches) and MappedTiles.there(train)
        if train.shuffle and (mapped or type(train) is TensorBatches):      # a subclass may have an order of its own
            if self.tiled is None or self.tiled.batches is not train:
                self.tiled = (MappedTiles if mapped else TiledBatches)(train, learn.data.n_users, learn.data.n_items)
            learn.batches = self.tiled
