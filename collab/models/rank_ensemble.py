"""RankEnsemble: the mean of several models whose scores only rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .ensemble import Ensemble


class RankEnsemble(Ensemble):
    """score(u, i) = mean over the members m of (s_m(u, i) - centre_mu) / spread_mu: each user's scores of a member are
    standardised over the items before they are averaged (CombSUM of z-scores: Fox and Shaw 1994; Montague and Aslam
    2001), so that members on different scales count equally.

    `centre` and `spread`, (n_members, n_users), are measured once, on trained members: they are part of the state,
    and no longer hold when the members change. `average_learners` builds it."""

    centre: Tensor
    spread: Tensor

    def __init__(self, models: Sequence[nn.Module], n_users: int):
        super().__init__(models)
        self.ranks, self.default_loss = True, "none"
        if self.classes:
            raise ValueError("classifiers predict ratings; combine them with Ensemble")
        self.register_buffer("centre", torch.zeros(len(models), n_users))
        self.register_buffer("spread", torch.ones(len(models), n_users))
        self.requires_grad_(True)       # so that a learner has an optimizer to save; no loss trains it

    @torch.no_grad()
    def score_new(self, items: Tensor, ratings: Tensor) -> Tensor:
        """The mean of the members' scores, standardised over all items."""
        parts = torch.stack([part.score_new(items, ratings) for part in self.parts])
        centre, spread = moments(parts[:, 1:])
        return ((parts - centre[:, None]) / spread[:, None]).mean(0)

    def _mean(self, parts: Sequence[Tensor], users: Tensor) -> Tensor:
        # float32 first: equal scores, equal but for the last bits of float64, stay so where most of them is taken away
        stacked = torch.stack([part.float() for part in parts])
        centre, spread = (t[:, users].view(len(stacked), -1, *[1] * (stacked.dim() - 2))
                          for t in (self.centre, self.spread))
        return ((stacked - centre) / spread).mean(0)


def moments(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each row of scores (..., n); where all are equal but for rounding, the deviation
    counts as 1."""
    spread, centre = torch.std_mean(scores, -1, correction=0)
    flat = spread <= (1e-6 * scores.abs().amax(-1)).clamp(min=1e-12)
    return centre, torch.where(flat, torch.ones_like(spread), spread)
