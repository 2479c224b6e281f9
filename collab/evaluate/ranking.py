"""Ranking metrics of many users at once: tensors in, one float64 per user out. They know no learner and no raw id.

Metrics have dialects. Those of `METRICS` take `hits` (m, w), 1 where the item at a rank is relevant (column 0 is rank
1; w may be below k where there are no more items to recommend: the missing ranks are misses), `n_relevant` (m,), how
many relevant items there are to find, and `k`. Gains are binary. A user without any relevant item has NaN where a
metric divides by their number. The list A X B Y Z, where A, B and C are relevant, has

>>> hits, n_relevant = torch.tensor([[1, 0, 1, 0, 0]]), torch.tensor([3])
>>> {name: round(metric(hits, n_relevant, 5).item(), 4) for name, metric in METRICS.items()}
{'ndcg': 0.7039, 'precision': 0.4, 'recall': 0.6667, 'map': 0.5556, 'mrr': 1.0, 'hit': 1.0}
>>> average_precision(hits[:, :2], n_relevant, 2).item()
0.5
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

MAX_NUMBERS = 1 << 22       # numbers of items' vectors held at a time


def ndcg(hits: Tensor, n_relevant: Tensor, k: int) -> Tensor:
    """DCG = sum of 1 / log2(rank + 1) over the hits, divided by that of an ideal list, which has min(k, n_relevant)
    hits on top (Järvelin & Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques"; the discount is that
    of Burges et al. 2005)."""
    best = n_relevant.clamp(max=k)
    discount = 1 / torch.log2(_ranks(max(hits.shape[1], int(best.max()))) + 1)
    ideal = torch.cat([torch.zeros(1, dtype=torch.float64), discount.cumsum(0)])
    return (hits * discount[:hits.shape[1]]).sum(1) / ideal[best]


def precision(hits: Tensor, n_relevant: Tensor, k: int) -> Tensor:
    """Hits / k, also where fewer than k are relevant or left to recommend."""
    return hits.double().sum(1) / k


def recall(hits: Tensor, n_relevant: Tensor, k: int) -> Tensor:
    """Hits / n_relevant: below 1 for users with more than k relevant items, even for a perfect list."""
    return hits.double().sum(1) / n_relevant


def average_precision(hits: Tensor, n_relevant: Tensor, k: int) -> Tensor:
    """The precision at the rank of each hit, summed, / min(k, n_relevant): 1 for a perfect list. Its mean over users is
    MAP (Manning, Raghavan, Schütze 2008, section 8.4, who divide by n_relevant)."""
    at_hits = hits.double().cumsum(1) / _ranks(hits.shape[1]) * hits
    return at_hits.sum(1) / n_relevant.clamp(max=k)


def reciprocal_rank(hits: Tensor, n_relevant: Tensor, k: int) -> Tensor:
    """1 / the rank of the first hit, 0 without one (Voorhees 1999). Its mean over users is MRR."""
    return (hits.double() / _ranks(hits.shape[1])).amax(1)


def hit(hits: Tensor, n_relevant: Tensor, k: int) -> Tensor:
    """1 where there is a hit, otherwise 0. Its mean over users is the hit rate."""
    return hits.double().amax(1)


METRICS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "ndcg": ndcg, "precision": precision, "recall": recall, "map": average_precision, "mrr": reciprocal_rank,
    "hit": hit}


def auc(scores: Tensor, relevant: Tensor, candidates: Tensor) -> Tensor:
    """The probability that a relevant candidate is scored above one that is not, a tie counting half (Rendle et al.
    2009, "BPR", section 3.1): from scores (m, n) and two masks (m, n), all on the CPU. NaN where all or none are
    relevant.

    By ranks (Mann & Whitney 1947): relevant candidates beat all that rank below them, but for their own pairs."""
    relevant = relevant & candidates
    n_right, n_out = relevant.sum(1), (~candidates).sum(1)[:, None]
    user, item = torch.nonzero(relevant, as_tuple=True)
    nth = torch.arange(len(user)) - (n_right.cumsum(0) - n_right)[user]
    right = torch.zeros(len(scores), int(n_right.max()))
    right[user, nth] = scores[user, item]
    # numpy sorts floats some twenty times as fast as torch does on a CPU
    ordered = torch.from_numpy(np.sort(scores.masked_fill(~candidates, -torch.inf).numpy(), axis=1))
    below = (torch.searchsorted(ordered, right) - n_out).clamp(min=0)
    up_to = torch.searchsorted(ordered, right, right=True) - n_out
    beaten = torch.zeros_like(n_right).index_add_(0, user, (below + up_to)[user, nth])      # twice: ties count half
    return (beaten - n_right ** 2) / (2.0 * n_right * (candidates.sum(1) - n_right)).double()


def coverage(found: Tensor, n_items: int) -> Tensor:
    """The share of `n_items` that is in anybody's list: rows (m, w), -1 where there is none. One number, shape ()."""
    return torch.tensor(len(torch.unique(found[found >= 0])) / n_items, dtype=torch.float64)


def popularity(found: Tensor, share: Tensor) -> Tensor:
    """The mean over a list of the share of users who rated each item, `share` (n_items,) by row: ARP of Abdollahpouri
    et al. 2019, as a share."""
    return _mean_over_list(share, found)


def novelty(found: Tensor, share: Tensor) -> Tensor:
    """The mean over a list of -log2(share of users who rated the item), in bits: the self-information of Zhou et al.
    2010, "Solving the apparent diversity-accuracy dilemma of recommender systems"."""
    return _mean_over_list(-torch.log2(share), found)


def intra_list_distance(found: Tensor, vectors: Tensor) -> Tensor:
    """The mean over all pairs of a list of 1 - the cosine of their `vectors` (rows, width), from 0 to 2; NaN for a list
    of fewer than two: 1 - the intra-list similarity of Ziegler et al. 2005, "Improving recommendation lists through
    topic diversification", as a mean."""
    parts = [torch.zeros(0, dtype=torch.float64)]
    for some in found.split(max(1, MAX_NUMBERS // max(1, found.shape[1] * vectors.shape[1]))):
        here = (some >= 0).double()
        unit = torch.nn.functional.normalize(vectors[some.clamp(min=0)].double(), dim=2) * here[:, :, None]
        pairs = here.sum(1) * (here.sum(1) - 1)
        alike = unit.sum(1).square().sum(1) - unit.square().sum((1, 2))     # of every ordered pair of two places
        parts.append(1 - alike / torch.where(pairs > 0, pairs, torch.nan))
    return torch.cat(parts)


def _mean_over_list(values: Tensor, found: Tensor) -> Tensor:
    here = found >= 0
    return torch.where(here, values[found.clamp(min=0)].double(), 0).sum(1) / here.sum(1)


def _ranks(n: int) -> Tensor:
    return torch.arange(1, n + 1, dtype=torch.float64)
