"""Which tables of a learner can be sharded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..models.base import SIDES
from .objectives import FullSoftmax
from .unknown_rows import fill_unknown

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


def id_inputs(self: CollabLearner) -> list[list[Tensor]]:
    """The tables in which users are looked up, and those for items. Raises Unsupported for a model that needs more of
    them than the rows of a batch."""
    model = self.collab_model
    if model.solved or model.made_of_trained:
        raise model.lacks("is not trained step by step, and its tables cannot be sharded; leave out tables='sharded'")
    if model.multiplies_all:
        raise model.lacks("multiplies the matrix of all ratings in each batch, and its tables cannot be sharded; take "
                          "tables='replicated', or train dot_bias, dot, net, classifier or two_tower")
    tables = model.id_tables()
    if not any(tables.values()):
        raise model.lacks("has no tables with a row for each id that are looked up and nothing more, and cannot be "
                          "sharded; take tables='replicated'")
    if isinstance(self.objective, FullSoftmax):
        raise model.lacks("is trained by FullSoftmax, which scores all items for each user, so that every process "
                          "would look them all up; take loss_func='sampled_softmax', or tables='replicated'")
    return [tables.get(side, []) for side in SIDES]


def before_gathering(self: CollabLearner) -> None:
    """Set the rows of unknown and cold ids, which a fit that was interrupted has left as they were."""
    fill_unknown(self.model, self.data)
