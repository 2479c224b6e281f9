"""Negatives: items to compare with the chosen ones, drawn uniformly or by popularity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..ragged import Ragged

TRIES = 16              # rounds of drawing again what was seen; what is left is then drawn from what is unseen
MAX_NUMBERS = 1 << 22   # probabilities that are held at a time


class Negatives:
    """Draws items i with q_i proportional to counts_i^beta: 0 is uniform, 1 by popularity. Only items with training
    interactions are drawn. `counts` (n_items,) are numbers of interactions by row; row 0 is never drawn.

    With `seen` a user gets no item of their own history: draws that are in it are repeated, which leaves q as it is
    over the others, and after 16 rounds what is left is drawn from those others directly. A user who has seen all that
    can be drawn gets any. Looking a pair up is a binary search among sorted keys, user * n_items + item.

    `log_q` (n_items,) is the logarithm of q, -inf for what is never drawn; `seen_share` (n_users,) is what of q each
    user's history has, where it is not drawn.
    Raises ValueError for a beta that is not finite, or counts that leave nothing to draw."""

    def __init__(self, counts: Tensor, beta: float = 0.0, seen: Ragged | None = None):
        if not math.isfinite(beta):
            raise ValueError(f"beta must be a finite number (0 draws uniformly, 1 by popularity), got {beta!r}")
        known = counts > 0
        known[0] = False
        if not known.any():
            raise ValueError("there is no item with training interactions to draw")
        power = torch.where(known, counts.double().clamp(min=1) ** beta, 0.0)
        if not 0 < power.sum() < math.inf:
            raise ValueError(f"beta={beta:g} is too large or too small for counts up to {int(counts.max()):,}")
        self.q, self.n_items = power / power.sum(), len(counts)
        self.log_q = self.q.log().float()
        self.rows = torch.nonzero(known)[:, 0]
        self.cdf = self.q[self.rows].cumsum(0)
        self.keys = None
        if seen is not None:
            keys = torch.unique(seen.keys(self.n_items))      # sorted
            self.keys = keys.to(counts.device)
            drawable = known[keys % self.n_items]
            seen_by_user = torch.bincount(keys[drawable.cpu()] // self.n_items, minlength=len(seen))
            self.seen_share = torch.zeros(len(seen), dtype=torch.float64, device=counts.device).index_add_(
                0, self.keys // self.n_items, self.q[self.keys % self.n_items])
            self.can = (seen_by_user < len(self.rows)).to(counts.device)

    def draw(self, users: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Item rows (len(users), n) for user rows, on their device. `generator` is by default torch's global one."""
        flat = users.repeat_interleave(n)
        items = self._any(len(flat), flat.device, generator)
        if self.keys is not None:
            wrong = self._wrong(flat, items)
            for _ in range(TRIES):
                if not len(wrong):
                    break
                items[wrong] = self._any(len(wrong), flat.device, generator)
                wrong = wrong[self.seen(flat[wrong], items[wrong])]
            for some in wrong.split(max(1, MAX_NUMBERS // self.n_items)) if len(wrong) else ():
                items[some] = self._unseen(flat[some], generator)
        return items.view(len(users), n)

    def _any(self, n: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
        made_on = device if generator is None else generator.device
        at = torch.rand(n, generator=generator, device=made_on, dtype=torch.float64).to(device)
        return self.rows[torch.searchsorted(self.cdf, at, right=True).clamp(max=len(self.rows) - 1)]

    def seen(self, users: Tensor, items: Tensor) -> Tensor:
        """Which of the pairs are in the histories, bool, of the shape of `users` (n,) and `items` (n,)."""
        assert self.keys is not None
        if not len(self.keys):
            return torch.zeros_like(users, dtype=torch.bool)
        pair = users * self.n_items + items
        return self.keys[torch.searchsorted(self.keys, pair).clamp(max=len(self.keys) - 1)] == pair

    def _wrong(self, users: Tensor, items: Tensor) -> Tensor:
        """The places that are to be drawn again."""
        return torch.nonzero(self.seen(users, items) & self.can[users])[:, 0]

    def _unseen(self, users: Tensor, generator: torch.Generator | None) -> Tensor:
        every = torch.arange(self.n_items, device=users.device)
        seen = self.seen(users.repeat_interleave(self.n_items), every.repeat(len(users))).view(len(users), -1)
        cdf = torch.where(seen, 0.0, self.q).cumsum(1)
        made_on = users.device if generator is None else generator.device
        at = torch.rand(len(users), 1, generator=generator, device=made_on, dtype=torch.float64).to(users.device)
        return torch.searchsorted(cdf, at * cdf[:, -1:], right=True)[:, 0]
