"""Habits: which levels of the scale a user's ratings use more, or less often, than scores alone would make them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

FIRM = 8.0      # ratings on each level that are taken to be as all users' are, before a user's own count


class Habits(nn.Module):
    """Factors on the probabilities of C levels, for each user:

        f_ul = (n_ul + FIRM f_l) / (e_ul + FIRM),    f_l = (n_l + FIRM) / (e_l + FIRM)

    where n_ul counts the user's training ratings on a level, e_ul is the sum of the probabilities that a model gives
    the level in the same rows, and n_l and e_l are their sums over users. A user who never gives half stars, or who
    gives the ends of the scale alone, does so with ratings to come, too. Row 0, of unknown users, has f_l; before
    anything is counted, all factors are 1. (Raking of one margin: Deming and Stephan 1940, shrunk.)"""

    factors: Tensor

    def __init__(self, n_users: int, n_levels: int):
        super().__init__()
        self.register_buffer("factors", torch.ones(n_users, n_levels))

    def count(self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Count the training rows, in batches of users (n,), the numbers of their levels (n,), and the probabilities of
        all levels (n, C)."""
        found, expected = torch.zeros(2, *self.factors.shape, dtype=torch.float64, device=self.factors.device)
        for users, classes, probabilities in batches:
            found.index_put_((users, classes), torch.ones_like(classes, dtype=torch.float64), accumulate=True)
            expected.index_add_(0, users, probabilities.double())
        shared = (found.sum(0) + FIRM) / (expected.sum(0) + FIRM)
        self.factors.copy_((found + FIRM * shared) / (expected + FIRM))

    def forward(self, users: Tensor, probabilities: Tensor) -> Tensor:
        """The probabilities (n, C) of ratings by `users` (n,), given those of a model that knows no habits."""
        weighted = probabilities * self.factors[users].to(probabilities)
        return weighted / weighted.sum(1, keepdim=True)
