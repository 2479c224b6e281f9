"""The best items by a quantile of their ratings, exactly, without the quantiles of all items."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..models.mixture import Predictive

Distributions = Callable[[Tensor], Predictive]
"""Rows of items (n,) in, how one user's ratings of them are distributed out."""

BLOCK = 1 << 11         # items whose distributions are made at a time
TIMES = 4               # of n items that are looked for, so many with the highest means set the floor
SLACK = 1e-9            # of a probability: an item so close to the floor is looked at


@torch.no_grad()
def by_quantile(distributions: Distributions, items: Tensor, n: int, share: float) -> tuple[Tensor, Tensor]:
    """The `n` of the rows `items` (m,) with the highest quantile of `share`, and these quantiles: int64 and float64
    (min(n, m),), the highest first, equal ones by their mean and then by row.

    An item whose probability of less than a floor is above `share` has its quantile below it: that probability takes a
    sixtieth of the time of a quantile. The floor is the n-th highest quantile found so far, at first that of the items
    with the highest means, so that quantiles are computed of few more than n items."""
    best, quantiles, means = items[:0], torch.empty(0).double(), torch.empty(0).double()
    for block in items.split(BLOCK):
        these = distributions(block)
        mean, floor = these.mean, quantiles[-1].item() if len(best) == n else -torch.inf
        if len(best) < n < len(block):
            first = block[torch.topk(mean, min(TIMES * n, len(block))).indices]
            floor = torch.topk(distributions(first).quantile(share), n).values[-1].item()
        near = these.below(torch.full_like(mean, floor)) <= share + SLACK
        if not near.any():
            continue
        some = block[near]
        best = torch.cat([best, some])
        quantiles = torch.cat([quantiles, distributions(some).quantile(share).cpu()])
        means = torch.cat([means, mean[near].cpu()])
        order = _descending(quantiles, means, best)[:n]
        best, quantiles, means = best[order], quantiles[order], means[order]
    return best.cpu(), quantiles


def _descending(quantiles: Tensor, means: Tensor, rows: Tensor) -> Tensor:
    """The order by quantiles, then means, both descending, then rows: int64 (n,)."""
    order = torch.argsort(rows.cpu(), stable=True)
    for by in (means, quantiles):
        order = order[torch.argsort(by[order], descending=True, stable=True)]
    return order
