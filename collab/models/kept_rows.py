"""KeptRows: the training rows that a model scores from."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..data.interactions import Interactions
from ..ragged import Ragged
from .base import CollabModel

MAX_NUMBERS = 1 << 22       # numbers in a dense block of rows: 16 MiB


class KeptRows(nn.Module):
    """A `Ragged` in buffers: data that move with the model and are not part of the state dict."""

    starts: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.keep(Ragged.of(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), None, 1))

    def keep(self, rows: Ragged) -> None:
        """Replace the rows."""
        for name, tensor in rows.tensors().items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def rows(self) -> Ragged:
        """The rows as a `Ragged`."""
        return Ragged(self.starts, self.columns, self.values)


def over(model: CollabModel, interactions: Interactions) -> CollabModel:
    """The same model over other training rows: a copy, whose users are those of the rows."""
    made = copy.deepcopy(model)
    made.set_interactions(interactions)
    return made
