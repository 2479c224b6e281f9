"""Diverse lists: the best items again, each chosen also for being unlike those before it."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

POOL, TIMES = 100, 10       # of a list of n the TIMES n best items are candidates, at least POOL
MAX_NUMBERS = 1 << 22       # numbers of candidates' vectors held at a time


def check_diversity(diversity: float) -> None:
    """Raise ValueError for anything but a number from 0 to 1."""
    if not isinstance(diversity, Real) or isinstance(diversity, bool) or not 0 <= diversity <= 1:
        raise ValueError(f"diversity must be a number from 0 (the best items) to 1, got {diversity!r}")


def n_candidates(n: int, diversity: float) -> int:
    """How many of the best items are candidates for a list of n."""
    return max(TIMES * n, POOL) if diversity else n


@torch.no_grad()
def diverse(found: Tensor, scores: Tensor, vectors: Tensor, n: int, diversity: float) -> tuple[Tensor, Tensor]:
    """The rows and scores, (m, min(n, c)), at the `diverse_places`; -1 and -inf where there are no more."""
    places = diverse_places(found, scores, vectors, n, diversity)
    return found.gather(1, places), scores.gather(1, places)


@torch.no_grad()
def diverse_places(found: Tensor, scores: Tensor, vectors: Tensor, n: int, diversity: float) -> Tensor:
    """The first n by maximal marginal relevance (Carbonell and Goldstein 1998): one after another, the candidate with
    the largest

        (1 - diversity) relevance - diversity (its largest cosine with an item chosen before)

    where relevance is the score, scaled to 0 for the lowest and 1 for the highest of a user's candidates; the first is
    the best item, and of equal ones the better. `found`, `scores` (m, c) are the result of `top_k`, `vectors` (rows,
    width) those of all items. Their places among the candidates, int64 (m, min(n, c)); what is gone comes last."""
    n = min(n, found.shape[1])
    step = max(1, MAX_NUMBERS // max(1, found.shape[1] * vectors.shape[1]))
    return torch.cat([torch.zeros(0, n, dtype=torch.int64), *(
        _places(some, own, vectors, n, diversity) for some, own in zip(found.split(step), scores.split(step))
        if len(some))])


def _places(found: Tensor, scores: Tensor, vectors: Tensor, n: int, diversity: float) -> Tensor:
    """The places of the chosen candidates, (m, n)."""
    gone, every = found < 0, torch.arange(len(found))
    unit = torch.nn.functional.normalize(vectors[found.clamp(min=0).to(vectors.device)].cpu().double(), dim=2)
    high = scores[:, :1].double()
    low = scores.double().masked_fill(gone, math.inf).amin(1, keepdim=True)
    spread = torch.where(high > low, high - low, 1.0)
    relevance = ((scores.double() - low) / spread).masked_fill(gone, -math.inf)
    nearest = torch.full_like(relevance, -1.0)
    chosen, taken = [], torch.zeros_like(gone)
    for k in range(n):
        gain = (1 - diversity) * relevance - diversity * nearest if k else relevance
        # what is gone comes after every candidate, in its order; argmax alone does not promise the first of equal ones
        gain = gain.masked_fill(gone, -4.0).masked_fill(taken, -math.inf)
        place = (gain == gain.amax(1, keepdim=True)).int().argmax(1)
        chosen.append(place)
        taken[every, place] = True
        nearest = torch.maximum(nearest, torch.bmm(unit, unit[every, place][:, :, None])[:, :, 0])
    return torch.stack(chosen, 1)
