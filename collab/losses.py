"""Losses: predictions and targets in, one number out; both of shape (bs,) unless stated otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .given import is_real
from .moved import keeps_old_names
from .numerics import entries_at, rows_at


def mse(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the batch. Raises ValueError for shapes that differ."""
    return F.mse_loss(*_alike(pred, target))


def mae(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over the batch. Raises ValueError for shapes that differ."""
    return F.l1_loss(*_alike(pred, target))


def huber(pred: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of e^2 / 2 for errors up to 1 and |e| - 1/2 beyond (Huber 1964). Raises ValueError for shapes
    that differ."""
    return F.huber_loss(*_alike(pred, target))


def observed_mse(ratings: Tensor, u: Tensor, v: Tensor, how: str = "gather") -> Tensor:
    """Mean of (r - u_i . v_j)^2 over the stored entries (i, j, r) of a sparse COO tensor (n_users, n_items), such as
    `data.train.to_sparse()`, for factors `u` (n_users, n_factors) and `v` (n_items, n_factors).

    "gather" takes the two rows of each entry and multiplies them: memory for entries x n_factors. "product" makes all
    n_users x n_items scores and takes those of the entries: faster where they fit and the ratings are dense. The two
    agree to rounding. Each entry of an uncoalesced tensor counts by itself.
    Raises ValueError for another tensor, shapes that do not fit, or another `how`."""
    if ratings.layout is not torch.sparse_coo or ratings.shape != (len(u), len(v)):
        raise ValueError(f"ratings must be a sparse COO tensor with a row for each of u and a column for each of v, "
                         f"shape ({len(u)}, {len(v)}); got {ratings.layout}, {tuple(ratings.shape)}")
    (users, items), stored = ratings._indices(), ratings._values()     # from one tensor, hence in one order
    if how == "gather":
        return mse((rows_at(u, users) * rows_at(v, items)).sum(1), stored)
    if how == "product":
        return mse(entries_at(u @ v.T, users, items), stored)
    raise ValueError(f"how={how!r} is neither 'gather' nor 'product'")


class RatingCrossEntropy:
    """Cross-entropy of ratings as classes: logits (bs, C) and ratings (bs,) to the mean of -log P(the rating's level).

    `levels` are the C distinct ratings, ascending. Another rating, as a validation part may hold, counts as the nearest
    level, the lower one of two. Raises ValueError for predictions that are not (bs, C)."""

    def __init__(self, levels: Sequence[float]):
        self.levels = tuple(map(float, levels))
        ends = torch.tensor(levels, dtype=torch.float32)
        self.middles = (ends[1:] + ends[:-1]) / 2

    def classes(self, ratings: Tensor) -> Tensor:
        """The index of the level nearest to each rating, int64, of the same shape."""
        self.middles = self.middles.to(ratings.device)
        return torch.bucketize(ratings, self.middles)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{level:g}' for level in self.levels)})"

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        if pred.shape != (len(target), len(self.middles) + 1):
            raise ValueError(f"predictions have shape {tuple(pred.shape)}; for {len(target)} ratings on "
                             f"{len(self.middles) + 1} levels a model returns logits of shape "
                             f"({len(target)}, {len(self.middles) + 1})")
        return F.cross_entropy(pred, self.classes(target))


def preference_error(pred: Tensor, target: Tensor) -> Tensor:
    """The mean of (1 - score)^2 over held-out pairs: a perfect preference model scores them 1."""
    return (1 - pred).square().mean()


def no_loss(pred: Tensor, target: Tensor) -> Tensor:
    """The loss of a model that has none, such as a mean of rankings: NaN. Raises TypeError in training."""
    if not pred.requires_grad:
        return pred.new_full((), torch.nan)
    raise TypeError("a mean of rankings has no loss: train its members; evaluate(learn) measures how well the "
                    "whole ranks")


# Ranking: scores of what was chosen against scores of what was not -----------------------------------------------

def bpr(pos: Tensor, neg: Tensor) -> Tensor:
    """Mean of -log sigmoid(pos - neg): Bayesian personalised ranking (Rendle et al. 2009, "BPR", section 4.1). `pos`
    (bs,) are scores of chosen items, `neg` (bs,) or (bs, n) those of others. Raises ValueError for other shapes."""
    return F.softplus(_beside(pos, neg, "neg") - pos[:, None]).mean()


def logistic(pos: Tensor, neg: Tensor) -> Tensor:
    """Mean over all scores of -log sigmoid(s) for those of chosen items, `pos` (bs,), and -log sigmoid(-s) for those of
    others, `neg` (bs,) or (bs, n): the cross-entropy of whether an item was chosen (He et al. 2017, "Neural
    collaborative filtering", eq. 7). Raises ValueError for other shapes."""
    return F.softplus(torch.cat([-pos[:, None], _beside(pos, neg, "neg")], 1)).mean()


def softmax_in_batch(logits: Tensor, log_q: Tensor | None = None, hits: Tensor | None = None,
                     temperature: float = 1.0, first: int | None = None) -> Tensor:
    """Mean over rows r of -log softmax(logits / temperature - log_q)[r, r]: the item of each row against those of the
    others. `logits` (bs, bs): row r has the scores of the user of row r for the items of all rows. Of a slice of m rows
    of the batch that begins at `first`, they are (m, bs).

    `log_q` (bs,): the logarithm of how often each item is drawn (its share of the training rows). Popular items are in
    many batches, and without it are pushed down for that (Yi et al. 2019, "Sampling-bias-corrected neural modeling",
    eq. 3). `hits` bool (m, bs): what is left out of the sum because it is not a negative: the row's own item in other
    rows, and other items that the user has chosen; the own place stays. The own item is then in the sum once, however
    often it was drawn, and is corrected by `log_drawn`, the others by how often they are expected in the other rows.
    Raises ValueError for other shapes, or a temperature that is not above 0."""
    m, n = logits.shape if logits.dim() == 2 else (0, -1)
    if not (m == n if first is None else 0 <= first <= n - m):
        raise ValueError("logits must have shape (bs, bs), or (m, bs) of m rows of the batch from `first` on, got "
                         f"{tuple(logits.shape)}")
    first = first or 0
    others = max(1, n - 1)
    offset = logits.new_zeros(n) if log_q is None else log_q + math.log(others)
    scaled = torch.add(-offset, logits, alpha=1 / positive(temperature))
    with torch.no_grad():       # constants added in place, and what is masked has no gradient: no more copies
        if hits is not None:
            mine = slice(first, first + m)
            own = scaled.diagonal(first) + offset[mine] - (0 if log_q is None else log_drawn(log_q[mine], others))
            scaled.masked_fill_(hits, -math.inf).diagonal(first).copy_(own)
    return F.cross_entropy(scaled, torch.arange(first, first + m, device=logits.device))


def log_drawn(log_q: Tensor, n: int) -> Tensor:
    """log(1 - (1 - q)^n): the log probability that n draws hold an item at all, for log q of any shape."""
    return torch.log(-torch.expm1(n * torch.log1p(-log_q.double().exp().clamp(max=1 - 1e-12)))).to(log_q)


def sampled_softmax(pos: Tensor, neg: Tensor, log_q_pos: Tensor | None = None, log_q_neg: Tensor | None = None,
                    temperature: float = 1.0, hits: Tensor | None = None) -> Tensor:
    """Mean of -log(e^s / (e^s + sum_k e^{s_k})) with s = pos / temperature - log_q_pos, and s_k from `neg` alike: the
    softmax over a sample of the items (Bengio and Senécal 2008; Jean et al. 2015, section 3).

    `pos` (bs,), `neg` (bs, n). `log_q_pos` (bs,) and `log_q_neg` (bs, n) are the logarithms of how often an item is
    expected in the sample, n q_i; with both the gradient tends to that of the softmax over all items as n grows.
    `hits` bool (bs, n): negatives to leave out. Where these are the positive item itself, it is in the sum once,
    however often it was drawn, and its `log_q_pos` is `log_drawn`.
    Raises ValueError for other shapes, one of the two alone, or a temperature that is not above 0."""
    if (log_q_pos is None) != (log_q_neg is None):
        raise ValueError("log_q_pos and log_q_neg correct each other's scores: give both, or neither")
    pos, neg = pos / positive(temperature), _beside(pos, neg, "neg") / temperature
    if log_q_pos is not None and log_q_neg is not None:
        pos, neg = pos - log_q_pos, neg - _beside(pos, log_q_neg, "log_q_neg")
    if hits is not None:
        neg = neg.masked_fill(hits, -math.inf)
    return (torch.cat([pos[:, None], neg], 1).logsumexp(1) - pos).mean()


def _beside(pos: Tensor, neg: Tensor, name: str) -> Tensor:
    """`neg` as (bs, n)."""
    if pos.dim() != 1 or neg.dim() not in (1, 2) or len(neg) != len(pos):
        raise ValueError(f"pos must have shape (bs,) and {name} (bs,) or (bs, n), got {tuple(pos.shape)} and "
                         f"{tuple(neg.shape)}")
    return neg if neg.dim() == 2 else neg[:, None]


def positive(temperature: float) -> float:
    if not (is_real(temperature) and 0 < temperature < math.inf):
        raise ValueError(f"temperature must be a finite number above 0, got {temperature!r}")
    return temperature


def _alike(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if pred.shape != target.shape:      # broadcasting (bs, 1) over (bs,) would compare every pair, and train on it
        raise ValueError(f"predictions have shape {tuple(pred.shape)}, targets {tuple(target.shape)}; "
                         "a model returns one score per rating, shape (bs,)")
    if pred.dtype != target.dtype or not pred.is_floating_point():      # targets may be whole numbers, or booleans
        common = torch.promote_types(pred.dtype, target.dtype)
        common = common if common.is_floating_point else torch.get_default_dtype()
        return pred.to(common), target.to(common)
    return pred, target


keeps_old_names(__name__)
