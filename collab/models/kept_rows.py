"""KeptRows: the training rows that a model scores from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ragged import Ragged

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
