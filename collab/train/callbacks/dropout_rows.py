"""DropoutRows: a slice of a batch loses the numbers that it would lose in the whole batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

if TYPE_CHECKING:
    from ..learner import Learner

LAYERS = nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout


class DropoutRows:
    """Lets each dropout layer of a model draw for all rows of a batch, and keeps what is drawn for those of this
    process, so that processes draw alike, and together what one would. An input of m times as many rows as the slice,
    such as those of drawn items, is m for each row; one of as many as the batch is the whole of it."""

    def __init__(self) -> None:
        self.hooks: list[RemovableHandle] = []
        self.own: slice | None = None

    def add(self, learn: Learner) -> None:
        def widen(layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
            x, share = given[0], learn.share
            rows = 0 if share is None else share.end - share.begin
            if share is None or not layer.training or not rows or len(x) == share.n or len(x) % rows:
                return None
            times = len(x) // rows
            begin, end, n = share.begin * times, share.end * times, share.n * times
            self.own = slice(begin, end)
            return torch.cat([x.new_zeros(begin, *x.shape[1:]), x, x.new_zeros(n - end, *x.shape[1:])]), *given[1:]

        def narrow(layer: nn.Module, given: tuple[Any, ...], out: Tensor) -> Tensor:
            own, self.own = self.own, None
            return out if own is None else out[own]
        for layer in learn.model.modules():
            if isinstance(layer, LAYERS):
                self.hooks += [layer.register_forward_pre_hook(widen), layer.register_forward_hook(narrow)]

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks = []
