"""Streaming metrics: each is computed over the whole set, however it was cut into batches."""

from __future__ import annotations

import functools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

LOWER = {"loss", "error", "deviance", "divergence", "mse", "rmse", "mae", "msle", "rmsle", "mape", "smape", "nll",
         "bce", "huber"}
HIGHER = {"score", "accuracy", "acc", "auc", "ndcg", "dcg", "map", "mrr", "hit", "hits", "recall", "precision", "f1",
          "r2", "coverage"}
OF_DISTRIBUTIONS = ("log_loss", "coverage")
UNSEEN = ("; log_loss and coverage are of a model's distributions, not of its predictions: "
          "CollabInterpretation(learn).errors(metrics=...) measures them")
TURNED = {"neg", "negative", "minus", "inverse"}


def known_mode(name: str) -> str | None:
    """"min" for the name of a loss or an error, "max" for that of a score, as the field, and scikit-learn's metrics,
    name them; None where the name does not say. The last of its words decides: "brier_score_loss" is a loss. A word
    that negates, as in "neg_mean_squared_error", leaves it open.

    >>> [known_mode(name) for name in ("huber", "RMSE", "NLLLoss", "ndcg@10", "r2_score", "novelty", "lossless")]
    ['min', 'min', 'min', 'max', 'max', None, None]
    """
    words = [word.lower() for word in re.findall(r"[A-Z0-9]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]
    if not TURNED.isdisjoint(words):
        return None
    return next(("min" if word in LOWER else "max" for word in reversed(words) if word in LOWER | HIGHER), None)


class Metric(ABC):
    """Fed batch by batch: `reset()`, `update(pred, target)` for each batch, then `value()`. `name`, which a subclass
    must set, is its column in the history. `mode` says which values are better: "min" the smaller, "max" the larger;
    with None, a callback that watches it must be told."""

    name: str
    mode: str | None = None

    @abstractmethod
    def reset(self) -> None: ...

    @abstractmethod
    def update(self, pred: Tensor, target: Tensor) -> None: ...

    @abstractmethod
    def value(self) -> float: ...

    def state(self) -> Any:
        """What it was fed since `reset`, as tensors and plain values, for `merge`."""
        raise self._cannot_merge()

    def merge(self, states: Sequence[Any]) -> None:
        """Take the `state` of every process in place of its own: of n, each was fed every n-th batch."""
        raise self._cannot_merge()

    def check_merges(self) -> None:
        """Raise TypeError for a metric without `state` and `merge`, which takes one process."""
        if type(self).state is Metric.state or type(self).merge is Metric.merge:
            raise self._cannot_merge()

    def _cannot_merge(self) -> TypeError:
        return TypeError(f"the metric {self.name} cannot be computed by several processes: give {type(self).__name__} "
                         "the methods state() and merge(states)")


class MeanOf(Metric):
    """finish(mean over all elements of f(pred - target)), summed in float64 and without waiting for the device.
    `mode` says whether smaller ("min") or larger ("max") values are better; by default the name does (`known_mode`)."""

    def __init__(self, name: str, f: Callable[[Tensor], Tensor], finish: Callable[[float], float] = float,
                 mode: str | None = None):
        self.name, self.f, self.finish, self.mode = name, f, finish, mode or known_mode(name)
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

    def state(self) -> tuple[Tensor | None, int]:
        return None if self.total is None else self.total.cpu(), self.n       # processes have devices of their own

    def merge(self, states: Sequence[tuple[Tensor | None, int]]) -> None:
        totals = [total for total, _ in states if total is not None]
        self.total = functools.reduce(torch.add, totals) if totals else None
        self.n = sum(n for _, n in states)


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

    A function of scikit-learn (recognised by its module), or a partial of one, takes arrays (targets, predictions);
    `target_first` says so of others. `mode` says whether smaller ("min") or larger ("max") values are better; by
    default the name does (`known_mode`)."""

    def __init__(self, f: Callable[..., Any], name: str | None = None, mode: str | None = None, *,
                 target_first: bool | None = None):
        function = f.func if isinstance(f, functools.partial) else f
        self.f, self.name = f, str(name or getattr(f, "__name__", None) or getattr(function, "__name__", None)
                                   or type(f).__name__)
        of_sklearn = str(getattr(function, "__module__", "")).partition(".")[0] == "sklearn"
        self.target_first = of_sklearn if target_first is None else target_first
        self.mode = mode or known_mode(self.name)
        self.reset()

    def reset(self) -> None:
        self.preds: list[Tensor] = []
        self.targets: list[Tensor] = []

    def update(self, pred: Tensor, target: Tensor) -> None:
        self.preds.append(pred.detach())
        self.targets.append(target)

    def state(self) -> tuple[list[Tensor], list[Tensor]]:
        return [t.cpu() for t in self.preds], [t.cpu() for t in self.targets]

    def merge(self, states: Sequence[tuple[list[Tensor], list[Tensor]]]) -> None:
        self.preds, self.targets = (in_batches(parts) for parts in zip(*states))

    def value(self) -> float:
        if not self.preds:
            return math.nan
        pred, target = torch.cat(self.preds), torch.cat(self.targets)
        return float(self.f(_array(target), _array(pred)) if self.target_first else self.f(pred, target))


def in_batches(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The batches that were dealt out to several processes, in their order."""
    return [batch for several in zip_longest(*parts) for batch in several if batch is not None]


def rmse(pred: Tensor, target: Tensor) -> Tensor:
    """Root mean squared error of all predictions. Raises ValueError for shapes that differ."""
    if pred.shape != target.shape:
        raise ValueError(f"predictions have shape {tuple(pred.shape)}, targets {tuple(target.shape)}")
    return (pred.double() - target.double()).square().mean().sqrt()


def _array(numbers: Tensor) -> Any:
    return (numbers.double() if numbers.is_floating_point() else numbers).cpu().numpy()


def as_metrics(metrics: Iterable[Metric | Callable[[Tensor, Tensor], Tensor | float]] | Metric | Callable | None,
               ) -> list[Metric]:
    """A list of one metric or several; a class such as RMSE is instantiated, a plain function becomes a WholeSet.

    Raises TypeError for what cannot be called, and ValueError for two of one name, as one would hide the other."""
    if metrics is None:
        return []
    several = metrics if isinstance(metrics, Iterable) and not isinstance(metrics, str) else [metrics]
    made = [m() if isinstance(m, type) else m for m in several]
    for m in made:
        if not isinstance(m, Metric) and not callable(m):
            raise TypeError(f"{m!r} is not a metric; give RMSE(), MAE() or a function of (predictions, targets)"
                            + UNSEEN * str(m).startswith(OF_DISTRIBUTIONS))
    ready = [m if isinstance(m, Metric) else WholeSet(m) for m in made]
    names = [m.name for m in ready]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two metrics are named {twice[0]!r}; give one of them another `name`")
    return ready
