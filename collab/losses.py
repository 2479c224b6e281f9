"""Losses: predictions and targets of shape (bs,) in, one number out."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mse(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the batch. Raises ValueError for shapes that differ."""
    return F.mse_loss(*_alike(pred, target))


def mae(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over the batch. Raises ValueError for shapes that differ."""
    return F.l1_loss(*_alike(pred, target))


def _alike(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if pred.shape != target.shape:      # broadcasting (bs, 1) over (bs,) would compare every pair, and train on it
        raise ValueError(f"predictions have shape {tuple(pred.shape)}, targets {tuple(target.shape)}; "
                         "a model returns one score a rating, shape (bs,)")
    return pred, target
