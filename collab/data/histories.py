"""Histories: what each user rated, as one compressed sparse row structure."""

from __future__ import annotations

import torch
from torch import Tensor


class Histories:
    """The rated items of every user, rows in, rows out, in the order in which they were given.

    `starts` (n_users + 1), `items` (n) and `ratings` (n): user u rated items[starts[u]:starts[u + 1]].
    Memory is that of the ratings, never users x items."""

    def __init__(self, starts: Tensor, items: Tensor, ratings: Tensor):
        self.starts, self.items, self.ratings = starts, items, ratings

    @classmethod
    def of(cls, users: Tensor, items: Tensor, ratings: Tensor, n_users: int) -> Histories:
        """Group ratings by user: `users` and `items` are rows (int64, shape (n,)), `ratings` float32 (n,)."""
        users, items, ratings = users.cpu(), items.cpu(), ratings.cpu()
        order = torch.argsort(users, stable=True)
        counts = torch.bincount(users, minlength=n_users)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        return cls(starts, items[order], ratings[order])

    @property
    def users(self) -> Tensor:
        """The user row of each rating, shape (n,)."""
        return torch.repeat_interleave(torch.arange(len(self.starts) - 1), self.starts.diff())

    def __len__(self) -> int:
        """The number of ratings."""
        return len(self.items)

    def __getitem__(self, user: int) -> tuple[Tensor, Tensor]:
        """(item rows, ratings) of one user row."""
        span = slice(int(self.starts[user]), int(self.starts[user + 1]))
        return self.items[span], self.ratings[span]

    def pairs(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """All rated pairs of a few users: (position in `users`, item row), each of shape (their ratings,)."""
        counts = self.starts[users + 1] - self.starts[users]
        position = torch.repeat_interleave(torch.arange(len(users)), counts)
        within = torch.arange(len(position)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        return position, self.items[self.starts[users][position] + within]
