"""Negative sampling: items to compare with the chosen ones, drawn uniformly or by popularity."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..ragged import Ragged

MOST_BITS = 50      # of the whole numbers that stand for probabilities: float64 multiplies them exactly enough
BITS = 62           # of the keys of a user and a place


class Negatives:
    """Draws items i with probability q_i proportional to counts_i^beta: 0 is uniform, 1 by popularity. Only items with
    training interactions are drawn. `counts` (n_items,) are the numbers of interactions by row; row 0 is never drawn.

    With `seen`, histories by user row, users get no item of their own history, and the others in proportion to q; a
    user who has seen every item gets any. A draw takes one random number, whatever the history: a place on a line on
    which the items that are not in it lie side by side, each as long as it is likely. Lengths are whole numbers, so
    that sums are exact; and a GPU need not wait, as it would to draw again what was seen.

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
        n_users = 0 if seen is None else len(seen)
        whole = 1 << min(MOST_BITS, BITS - n_users.bit_length())
        self.lengths = torch.where(known, (self.q * whole).round().long().clamp(min=1), 0)      # of items on the line
        self.ends = self.lengths.cumsum(0)
        self.total = int(self.ends[-1])
        self.keys = None
        if seen is not None:
            keys = torch.unique(seen.keys(self.n_items))        # sorted
            self.keys = keys.to(counts.device)
            self._mark(self.keys, n_users)

    def _mark(self, keys: Tensor, n_users: int) -> None:
        """Note where on the line of each user the items of the history are left out: `marks`, the ends of what lies
        before them, by user and place, and after each how much is left out, `skipped`, after a 0."""
        users, items = keys // self.n_items, keys % self.n_items
        self.seen_share = self.q.new_zeros(n_users).index_add_(0, users, self.q[items])
        self.left = self.total - self.ends.new_zeros(n_users).index_add_(0, users, self.lengths[items])
        helped = self.left[users] > 0           # who has seen everything gets anything
        users, items = users[helped], items[helped]
        self.left[self.left == 0] = self.total
        self.starts = torch.searchsorted(users, torch.arange(n_users + 1, device=users.device))
        passed = torch.cat([users.new_zeros(1), self.lengths[items].cumsum(0)])
        own = passed[1:] - passed[self.starts[users]]           # of this user's, up to and with this item
        self.skipped = torch.cat([own.new_zeros(1), own])
        self.marks = users * (self.total + 1) + self.ends[items] - own

    def draw(self, users: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw item rows, (len(users), n), for user rows, on their device. `generator` is by default torch's global
        one."""
        made_on = users.device if generator is None else generator.device
        flat = users.repeat_interleave(n)
        at = torch.rand(len(flat), generator=generator, device=made_on, dtype=torch.float64).to(users.device)
        if self.keys is None:
            place = (at * self.total).long()
        else:
            place = (at * self.left[flat]).long()
            mark = torch.searchsorted(self.marks, flat * (self.total + 1) + place, right=True)
            place += torch.where(mark > self.starts[flat], self.skipped[mark], 0)
        return torch.searchsorted(self.ends, place, right=True).view(len(users), n)

    def draw_many(self, users: np.ndarray, n: int, generator: torch.Generator | None = None) -> np.ndarray:
        """What `draw` gives for `users` (int64), at once or in batches, compiled: int32 (len(users), n). It takes
        numba, and tables on the CPU."""
        from .negative_kernels import draw
        items = np.empty((len(users), n), np.int32)
        uniform = torch.rand(items.shape, generator=generator, dtype=torch.float64).numpy()
        draw(users, uniform, self.total, *self._tables, items)
        return items

    @cached_property
    def _tables(self) -> tuple[object, ...]:
        """What the kernel reads: a shift that makes a step of the guide of a place, the guide (the first item that may
        lie in each step), and the line."""
        shift = max(0, self.total.bit_length() - len(self.rows).bit_length() - 1)
        steps = torch.arange((self.total >> shift) + 1) << shift
        guide = torch.searchsorted(self.ends, steps, right=True)
        none = self.ends.new_zeros(0)
        own = (none,) * 4 if self.keys is None else (self.left, self.starts, self.marks, self.skipped)
        return shift, guide.int().numpy(), self.ends.numpy(), *(t.numpy() for t in own)

    def seen(self, users: Tensor, items: Tensor) -> Tensor:
        """Whether each pair of `users` (n,) and `items` (n,) is in the histories, bool (n,)."""
        assert self.keys is not None
        if not len(self.keys):
            return torch.zeros_like(users, dtype=torch.bool)
        pair = users * self.n_items + items
        return self.keys[torch.searchsorted(self.keys, pair).clamp(max=len(self.keys) - 1)] == pair
