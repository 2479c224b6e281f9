"""Scores: the loss and the metrics over a whole set; Collect: its predictions."""

from __future__ import annotations

import torch
from torch import Tensor

from ..metrics import Metric
from .callback import Callback


class Scores(Callback):
    """After each pass over validation rows, `values` holds {"loss": ..., metric: ...} over all of them."""

    order = -20

    def __init__(self, metrics: list[Metric]):
        self.metrics = metrics
        self.values: dict[str, float] = {}
        self.n = 0

    @property
    def modes(self) -> dict[str, str | None]:
        """Column -> which values of it are better, "min" or "max"."""
        return {"valid_loss": "min", "train_loss": "min"} | {metric.name: metric.mode for metric in self.metrics}

    def before_validate(self) -> None:
        self.total, self.n = torch.zeros((), dtype=torch.float64, device=self.learn.device), 0
        for metric in self.metrics:
            metric.reset()

    def after_loss(self) -> None:
        if not self.learn.training:
            bs = len(self.learn.yb)
            self.total += self.learn.loss.detach().double() * bs
            self.n += bs
            pred = self.learn.decode(self.learn.pred)
            for metric in self.metrics:
                metric.update(pred, self.learn.yb)

    def after_validate(self) -> None:
        self.values = {"loss": self.total.item() / self.n if self.n else float("nan")}
        self.values |= {metric.name: metric.value() for metric in self.metrics}


class Collect(Callback):
    """Keeps what is reported for every batch, and its targets, on the CPU."""

    def __init__(self) -> None:
        self.preds: list[Tensor] = []
        self.targets: list[Tensor] = []

    def after_pred(self) -> None:
        self.preds.append(self.learn.decode(self.learn.pred).detach().cpu())
        self.targets.append(self.learn.yb.cpu())
