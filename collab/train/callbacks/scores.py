"""Scores: loss and metrics over a whole set; Collect: its predictions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...metrics import Metric, in_batches
from ..callback import Callback
from .order import Order


class Scores(Callback):
    """Evaluates loss and metrics in each validation: afterwards `values` is {"loss": ..., metric: ...} over all rows,
    and `n` their number.

    Raises TypeError at the first batch, in training too, whose loss is not a tensor of shape ()."""

    order = Order.SCORES

    def __init__(self, metrics: list[Metric]):
        self.metrics = metrics
        self.values: dict[str, float] = {}
        self.n = 0

    @property
    def modes(self) -> dict[str, str | None]:
        """Which values of each column are better, "min" the smaller or "max" the larger ones; None if unknown."""
        return {"valid_loss": "min", "train_loss": "min"} | {metric.name: metric.mode for metric in self.metrics}

    def before_validate(self) -> None:
        self.total, self.n = torch.zeros((), dtype=torch.float64, device=self.learn.device), 0
        for metric in self.metrics:
            metric.reset()

    def after_loss(self) -> None:
        loss: object = self.learn.loss
        if not isinstance(loss, Tensor) or loss.dim():
            raise TypeError("a loss must be one number, a tensor of shape (), but that of this batch is "
                            f"{f'of shape {tuple(loss.shape)}' if isinstance(loss, Tensor) else repr(loss)}; take its "
                            "mean over the rows of the batch, such as loss.mean()")
        if not self.learn.training:
            bs = len(self.learn.yb)
            self.total += loss.detach().double() * bs
            self.n += bs
            pred = self.learn.decode(self.learn.pred)
            for metric in self.metrics:
                metric.update(pred, self.learn.yb)

    def state(self) -> tuple[Tensor, int, list[Any]]:
        """What was summed up so far, for `merge`."""
        return self.total.cpu(), self.n, [metric.state() for metric in self.metrics]

    def merge(self, states: Sequence[tuple[Tensor, int, list[Any]]]) -> None:
        """Take what all processes have summed up, each of the batches that were dealt to it."""
        totals, ns, metrics = zip(*states)
        self.total, self.n = functools.reduce(torch.add, totals), sum(ns)
        for metric, *own in zip(self.metrics, *metrics):
            metric.merge(own)

    def after_chunk(self) -> None:
        """The losses of a fused pass are numbers."""

    def after_validate(self) -> None:
        self.values = {"loss": self.total.item() / self.n if self.n else float("nan")}
        self.values |= {metric.name: metric.value() for metric in self.metrics}


class Collect(Callback):
    """Keeps the reported predictions and the targets of every batch, on the CPU."""

    def __init__(self) -> None:
        self.preds: list[Tensor] = []
        self.targets: list[Tensor] = []

    def after_pred(self) -> None:
        self.preds.append(self.learn.decode(self.learn.pred).detach().cpu())
        self.targets.append(self.learn.yb.cpu())

    def state(self) -> tuple[list[Tensor], list[Tensor]]:
        """What it holds, for `merge`."""
        return self.preds, self.targets

    def merge(self, states: Sequence[tuple[list[Tensor], list[Tensor]]]) -> None:
        """Take what every process holds of the batches that were dealt to it."""
        self.preds, self.targets = (in_batches(parts) for parts in zip(*states))
