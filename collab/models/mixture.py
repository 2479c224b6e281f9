"""Mixture: predictions with their uncertainty, as equal parts of normal distributions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

HALVINGS = 60           # of the interval in which a quantile lies


class Mixture(NamedTuple):
    """n distributions, each the mean of S normal ones: float64 `means` and `deviations`, (n, S)."""

    means: Tensor
    deviations: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean of each, (n,)."""
        return self.means.mean(1)

    def below(self, values: Tensor) -> Tensor:
        """The probability of less than each of `values` (n,), or (n, m) for m values each."""
        several = values if values.dim() == 2 else values[:, None]
        shares = [torch.special.ndtr((one[:, None] - self.means) / self.deviations).mean(1)
                  for one in several.T.double()]
        found = torch.stack(shares, 1) if shares else self.means.new_empty(len(self.means), 0)
        return found if values.dim() == 2 else found[:, 0]

    def quantile(self, share: float) -> Tensor:
        """The value below which `share` of each lies, (n,), by halving."""
        low = (self.means - 40 * self.deviations).amin(1)
        high = (self.means + 40 * self.deviations).amax(1)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            less = self.below(middle) < share
            low, high = torch.where(less, middle, low), torch.where(less, high, middle)
        return (low + high) / 2
