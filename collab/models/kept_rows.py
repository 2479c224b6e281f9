"""KeptRows: the training rows that a model scores from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ragged import Ragged

MAX_NUMBERS = 1 << 22       # numbers of a dense block of rows at a time: 16 MiB


class KeptRows(nn.Module):
    """A `Ragged` in buffers: it moves with the model, and as it is data it is not part of the state dict."""

    starts: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.keep(Ragged.of(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), None, 1))

    def keep(self, rows: Ragged) -> None:
        """Keep these rows in place of those from before."""
        for name, tensor in rows.tensors().items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def rows(self) -> Ragged:
        """What is kept."""
        return Ragged(self.starts, self.columns, self.values)
