"""Losses: predictions and targets of shape (bs,) in, one number out."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mse(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the batch."""
    return F.mse_loss(pred, target)


def mae(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over the batch."""
    return F.l1_loss(pred, target)
