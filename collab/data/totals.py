"""Totals: what training ratings say of themselves in one pass, for batches of any kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .batches import TensorBatches

MOST_LEVELS = 1 << 20       # different ratings that are told apart while they come


@dataclass(frozen=True)
class Totals:
    """Of n ratings of users and items: the `mean`; the different ratings (`levels`, ascending) and how often each
    occurs (`times`, int64); and the number of ratings of each row of users and of items, int64 (n_users,), (n_items,).
    Beyond MOST_LEVELS different ratings, `levels` has so many of them, and the ends."""

    mean: float
    levels: Tensor
    times: Tensor
    counts: tuple[Tensor, Tensor]


def mean_of(batches: TensorBatches) -> float:
    """The mean rating of batches of users, items and ratings."""
    if (totals := _known(batches)) is not None:
        return totals.mean
    return batches.tensors[2].double().mean().item()


def levels_of(batches: TensorBatches) -> tuple[Tensor, Tensor]:
    """(the different ratings of the batches, ascending, and how often each occurs)."""
    if (totals := _known(batches)) is not None:
        return totals.levels, totals.times
    levels, times = torch.unique(batches.tensors[2], return_counts=True)
    return levels, times


def counts_of(batches: TensorBatches, side: int, n_rows: int, some: slice | None = None) -> Tensor:
    """The number of ratings of each of n_rows rows of users (side 0) or of items (1), int64 (n_rows,); or of `some` of
    them, from a first to before a last one."""
    if (totals := _known(batches)) is not None:
        return totals.counts[side][some or slice(None)].clone()
    rows = batches.tensors[side].cpu()
    return torch.bincount(rows if some is None else _from(rows, some),
                          minlength=n_rows if some is None else some.stop - some.start)


def trained_of(batches: TensorBatches, side: int, some: slice) -> Tensor:
    """Which of some rows of users (side 0) or of items (1) have ratings, bool: by no more memory than that."""
    if (totals := _known(batches)) is not None:
        return totals.counts[side][some] > 0
    trained = torch.zeros(some.stop - some.start, dtype=torch.bool)
    trained[_from(batches.tensors[side].cpu(), some)] = True
    return trained


def _from(rows: Tensor, some: slice) -> Tensor:
    """Those of the rows that are among `some`, numbered from there."""
    return rows[(rows >= some.start) & (rows < some.stop)] - some.start


def _known(batches: object) -> Totals | None:
    totals = getattr(batches, "totals", None)
    return totals if isinstance(totals, Totals) else None


@dataclass
class Running:
    """Mean and levels of ratings that come a few at a time."""

    n: int = 0
    total: float = 0.0
    levels: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    times: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, ratings: np.ndarray) -> None:
        """Take in some ratings, float32 (n,)."""
        self.n, self.total = self.n + len(ratings), self.total + float(ratings.sum(dtype=np.float64))
        values, counts = np.unique(ratings, return_counts=True)
        levels, place = np.unique(np.concatenate([self.levels, values]), return_inverse=True)
        times = np.bincount(place, np.concatenate([self.times, counts])).astype(np.int64)
        if len(levels) > MOST_LEVELS:
            kept = np.linspace(0, len(levels) - 1, MOST_LEVELS).astype(np.int64)
            levels, times = levels[kept], times[kept]
        self.levels, self.times = levels, times
