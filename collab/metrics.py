"""Streaming metrics: each is computed over the whole set, however it was cut into batches."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Metric(ABC):
    """Fed batch by batch: `reset()`, `update(pred, target)` for each batch, then `value()`."""

    name: str

    @abstractmethod
    def reset(self) -> None: ...

    @abstractmethod
    def update(self, pred: Tensor, target: Tensor) -> None: ...

    @abstractmethod
    def value(self) -> float: ...


class MeanOf(Metric):
    """finish(mean over all elements of f(pred - target)), summed in float64 and without waiting for the device."""

    def __init__(self, name: str, f: Callable[[Tensor], Tensor], finish: Callable[[float], float] = float):
        self.name, self.f, self.finish = name, f, finish
        self.reset()

    def reset(self) -> None:
        self.total: Tensor | None = None
        self.n = 0

    def update(self, pred: Tensor, target: Tensor) -> None:
        if pred.shape != target.shape:
            raise ValueError(f"{self.name}: predictions have shape {tuple(pred.shape)}, targets {tuple(target.shape)}")
        part = self.f(pred.detach().double() - target.double()).sum()
        self.total = part if self.total is None else self.total + part
        self.n += target.numel()

    def value(self) -> float:
        return self.finish(self.total.item() / self.n) if self.total is not None and self.n else math.nan


class RMSE(MeanOf):
    """Root mean squared error: the root of one mean over the whole set."""

    def __init__(self) -> None:
        super().__init__("rmse", torch.square, math.sqrt)


class MSE(MeanOf):
    """Mean squared error."""

    def __init__(self) -> None:
        super().__init__("mse", torch.square)


class MAE(MeanOf):
    """Mean absolute error."""

    def __init__(self) -> None:
        super().__init__("mae", torch.abs)


class WholeSet(Metric):
    """Any function of (all predictions, all targets): they are kept until the end, and it is called once.

    One of scikit-learn, or a partial of one, takes (targets, predictions), and arrays: it is known by its module.
    `target_first` says so of another."""

    def __init__(self, f: Callable[..., Any], name: str | None = None, *, target_first: bool | None = None):
        function = f.func if isinstance(f, functools.partial) else f
        self.f, self.name = f, str(name or getattr(f, "__name__", None) or getattr(function, "__name__", None)
                                   or type(f).__name__)
        of_sklearn = str(getattr(function, "__module__", "")).partition(".")[0] == "sklearn"
        self.target_first = of_sklearn if target_first is None else target_first
        self.reset()

    def reset(self) -> None:
        self.preds: list[Tensor] = []
        self.targets: list[Tensor] = []

    def update(self, pred: Tensor, target: Tensor) -> None:
        self.preds.append(pred.detach())
        self.targets.append(target)

    def value(self) -> float:
        if not self.preds:
            return math.nan
        pred, target = torch.cat(self.preds), torch.cat(self.targets)
        return float(self.f(_array(target), _array(pred)) if self.target_first else self.f(pred, target))


def rmse(pred: Tensor, target: Tensor) -> Tensor:
    """Root mean squared error of all of the predictions. Raises ValueError for shapes that differ."""
    if pred.shape != target.shape:
        raise ValueError(f"predictions have shape {tuple(pred.shape)}, targets {tuple(target.shape)}")
    return (pred.double() - target.double()).square().mean().sqrt()


def _array(numbers: Tensor) -> Any:
    return (numbers.double() if numbers.is_floating_point() else numbers).cpu().numpy()


def as_metrics(metrics: Iterable[Metric | Callable[[Tensor, Tensor], Tensor | float]] | Metric | Callable | None,
               ) -> list[Metric]:
    """One metric or several; a class such as RMSE is made, a plain function becomes a WholeSet.

    Raises TypeError for what cannot be called, and ValueError for two of one name: one would hide the other."""
    if metrics is None:
        return []
    several = metrics if isinstance(metrics, Iterable) else [metrics]
    made = [m() if isinstance(m, type) else m for m in several]
    for m in made:
        if not isinstance(m, Metric) and not callable(m):
            raise TypeError(f"{m!r} is no metric; give RMSE(), MAE() or a function of (predictions, targets)")
    ready = [m if isinstance(m, Metric) else WholeSet(m) for m in made]
    names = [m.name for m in ready]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two metrics are named {twice[0]!r}; give one of them another `name`")
    return ready
