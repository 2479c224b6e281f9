"""Negative sampling: items to compare with the chosen ones, drawn uniformly or by popularity."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..ragged import Ragged

TRIES = 16              # rounds of redrawing seen items, before the rest are drawn from the unseen ones
MAX_NUMBERS = 1 << 22   # probabilities held at a time: 32 MiB
BLOCK = 1 << 16         # uniform numbers drawn at a time


class Negatives:
    """Draws items i with probability q_i proportional to counts_i^beta: 0 is uniform, 1 by popularity. Only items with
    training interactions are drawn. `counts` (n_items,) are the numbers of interactions by row; row 0 is never drawn.

    With `seen`, histories by user row, users get no item of their own history: such draws are repeated, which leaves
    the proportions of q over the other items, and after 16 rounds the rest are drawn from those items directly. A user
    who has seen every item gets any. A pair is looked up by binary search among sorted keys, user * n_items + item.

    `log_q` (n_items,) is the logarithm of q, -inf for items that are never drawn; with `seen`, `seen_share` (n_users,)
    is the sum of q over each user's history.
    Raises ValueError for a beta that is not finite, and counts that leave nothing to draw."""

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
        """Draw item rows, (len(users), n), for user rows, on their device. `generator` is by default torch's global
        one."""
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

    def draw_batches(self, users: np.ndarray, sizes: np.ndarray, n: int,
                     generator: torch.Generator | None = None) -> np.ndarray:
        """What `draw` gives for one batch of `users` (int64) after the other, `sizes` (int64) of them each, compiled:
        int32 (len(users), n). The generator is left as it would be. It takes numba, and tables on the CPU."""
        from .negative_kernels import draw
        items, done = np.empty((len(users), n), np.int32), np.zeros(3, np.int64)
        most = n * int(sizes.max(initial=0))
        wrong, uniform, left = np.empty(most, np.int64), torch.empty(0, dtype=torch.float64), 0
        source = torch.default_generator if generator is None else generator
        before = source.get_state()
        while draw(users, sizes, done, uniform.numpy(), *self.arrays, TRIES, wrong, items):
            before, left = source.get_state(), len(uniform) - int(done[2])
            more = torch.rand(max(2 * most, BLOCK), generator=generator, dtype=torch.float64)
            uniform, done[2] = torch.cat([uniform[int(done[2]):], more]), 0
        source.set_state(before)
        torch.rand(int(done[2]) - left, generator=generator, dtype=torch.float64)       # so many were needed
        return items

    @cached_property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the kernel draws from: cdf, a guide to it (by place, in a power of two of steps, which are exact), rows,
        q, who can be helped, and histories as starts and columns."""
        places = 1 << len(self.rows).bit_length()
        guide = torch.searchsorted(self.cdf, torch.arange(places, dtype=torch.float64) / places, right=True)
        keys = self.rows.new_empty(0) if self.keys is None else self.keys
        can = keys.bool() if self.keys is None else self.can
        starts = torch.searchsorted(keys, torch.arange(len(can) + 1 if len(can) else 0) * self.n_items)
        columns = (keys % self.n_items).int()
        tables = self.cdf, guide.clamp(max=len(self.cdf) - 1), self.rows, self.q, can, starts, columns
        return tuple(t.numpy() for t in tables)

    def _any(self, n: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
        made_on = device if generator is None else generator.device
        at = torch.rand(n, generator=generator, device=made_on, dtype=torch.float64).to(device)
        return self.rows[torch.searchsorted(self.cdf, at, right=True).clamp(max=len(self.rows) - 1)]

    def seen(self, users: Tensor, items: Tensor) -> Tensor:
        """Whether each pair of `users` (n,) and `items` (n,) is in the histories, bool (n,)."""
        assert self.keys is not None
        if not len(self.keys):
            return torch.zeros_like(users, dtype=torch.bool)
        pair = users * self.n_items + items
        return self.keys[torch.searchsorted(self.keys, pair).clamp(max=len(self.keys) - 1)] == pair

    def _wrong(self, users: Tensor, items: Tensor) -> Tensor:
        """The places to draw again."""
        return torch.nonzero(self.seen(users, items) & self.can[users])[:, 0]

    def _unseen(self, users: Tensor, generator: torch.Generator | None) -> Tensor:
        every = torch.arange(self.n_items, device=users.device)
        seen = self.seen(users.repeat_interleave(self.n_items), every.repeat(len(users))).view(len(users), -1)
        cdf = torch.where(seen, 0.0, self.q).cumsum(1)
        made_on = users.device if generator is None else generator.device
        at = torch.rand(len(users), 1, generator=generator, device=made_on, dtype=torch.float64).to(users.device)
        return torch.searchsorted(cdf, at * cdf[:, -1:], right=True)[:, 0]
