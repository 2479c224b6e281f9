"""Predictions with their uncertainty: equal parts of normal distributions, or shares of levels."""

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


class Graded(NamedTuple):
    """n distributions over C ratings: float64 `levels` (C,), ascending, and `cumulative` (n, C - 1), the probability of
    each level or less; that of the highest is 1. Limits of intervals are levels."""

    levels: Tensor
    cumulative: Tensor

    @classmethod
    def of(cls, means: Tensor, deviations: Tensor, cuts: Tensor, levels: Tensor) -> Graded:
        """The mean over S latent normal distributions, (n, S), each of which is cut into levels at `cuts` (S, C - 1).
        """
        return cls(levels.double(), torch.stack([torch.special.ndtr((cut - means) / deviations).mean(1)
                                                 for cut in cuts.T], 1))

    def weighted(self, factors: Tensor) -> Graded:
        """The same with the probability of each level times one of the `factors` (n, C), or (1, C), over their sum."""
        ends = self.cumulative.new_zeros(len(self.cumulative), 1)
        shares = torch.cat([ends, self.cumulative, ends + 1], 1).diff(dim=1) * factors.to(self.cumulative)
        below = shares.cumsum(1)
        return Graded(self.levels, below[:, :-1] / below[:, -1:])

    @property
    def mean(self) -> Tensor:
        """The expected rating of each, (n,)."""
        return self.levels[-1] - self.cumulative @ self.levels.diff()

    def below(self, values: Tensor) -> Tensor:
        """The probability of less than each of `values` (n,), or (n, m) for m values each."""
        several = values if values.dim() == 2 else values[:, None]
        ends = self.cumulative.new_zeros(len(self.cumulative), 1)
        whole = torch.cat([ends, self.cumulative, ends + 1], 1)
        found = whole.gather(1, torch.searchsorted(self.levels, several.double().contiguous()))
        return found if values.dim() == 2 else found[:, 0]

    def quantile(self, share: float) -> Tensor:
        """The lowest level of each, (n,), where the probability of that or less is `share` or more."""
        return self.levels[(self.cumulative < share).sum(1)]


Predictive = Mixture | Graded
