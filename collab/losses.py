"""Losses: predictions and targets in, one number out; both of shape (bs,) where nothing else is said."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def mse(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the batch. Raises ValueError for shapes that differ."""
    return F.mse_loss(*_alike(pred, target))


def mae(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over the batch. Raises ValueError for shapes that differ."""
    return F.l1_loss(*_alike(pred, target))


class RatingCrossEntropy:
    """Cross-entropy of ratings as classes: logits (bs, C) and ratings (bs,) to the mean of -log P(the rating's level).

    `levels` are the C distinct ratings, ascending. A rating that is none of them, as a validation part may hold, counts
    as the nearest level, the lower one of two. Raises ValueError for predictions that are not (bs, C)."""

    def __init__(self, levels: Sequence[float]):
        ends = torch.tensor(levels, dtype=torch.float32)
        self.middles = (ends[1:] + ends[:-1]) / 2

    def classes(self, ratings: Tensor) -> Tensor:
        """The place of the level nearest to each rating, int64, of the same shape."""
        self.middles = self.middles.to(ratings.device)
        return torch.bucketize(ratings, self.middles)

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        if pred.shape != (len(target), len(self.middles) + 1):
            raise ValueError(f"predictions have shape {tuple(pred.shape)}; for {len(target)} ratings on "
                             f"{len(self.middles) + 1} levels a model returns logits of shape "
                             f"({len(target)}, {len(self.middles) + 1})")
        return F.cross_entropy(pred, self.classes(target))


def _alike(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if pred.shape != target.shape:      # broadcasting (bs, 1) over (bs,) would compare every pair, and train on it
        raise ValueError(f"predictions have shape {tuple(pred.shape)}, targets {tuple(target.shape)}; "
                         "a model returns one score a rating, shape (bs,)")
    return pred, target
