"""margin: two predictions of the same ratings, each with an interval, and their difference, paired by user."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..metrics import MeanOf, Metric

RESAMPLES = 2000        # of metrics that are a mean over ratings
FEWER = 300             # of others, each of which is computed anew
WEIGHTS = 1 << 22       # numbers that are held at a time


def margin(metric: Metric, a: Tensor, b: Tensor, targets: Tensor, users: Tensor, *, level: float = 0.95,
           seed: int = 0) -> pd.DataFrame:
    """Rows "default recipe" (of predictions `b`), "tuned" (of `a`) and "difference" (a - b); columns value, low, high
    (the percentile bootstrap interval), p_value and users.

    Resampled are users, not ratings, since the errors of one user's ratings go together. The p-value is two-sided, of a
    paired permutation test that swaps the two predictions of all ratings of a user (see `compare`)."""
    codes, n = np.unique(users.cpu().numpy(), return_inverse=True)[1], len(np.unique(users.cpu().numpy()))
    of = _means if isinstance(metric, MeanOf) else _anew
    (whole,), drawn, swapped = (np.concatenate(list(part)) for part in of(metric, (a, b), targets, codes, n, seed))
    values = np.array([whole[1], whole[0], whole[0] - whole[1]])
    several = np.column_stack([drawn[:, 1], drawn[:, 0], drawn[:, 0] - drawn[:, 1]])
    low, high = np.quantile(several, [(1 - level) / 2, (1 + level) / 2], axis=0)
    extreme = np.abs(swapped[:, 0] - swapped[:, 1]) >= abs(values[2]) - 1e-12
    p_value = (1 + extreme.sum()) / (1 + len(swapped))
    return pd.DataFrame({"value": values, "low": low, "high": high, "p_value": [np.nan, np.nan, p_value], "users": n},
                        index=["default recipe", "tuned", "difference"])


Parts = tuple[Iterator[np.ndarray], Iterator[np.ndarray], Iterator[np.ndarray]]
"""The metric of both, (1, 2); of resamples, (m, 2) at a time; and with predictions swapped, (m, 2) at a time."""


def _means(metric: Metric, both: tuple[Tensor, Tensor], targets: Tensor, codes: np.ndarray, n: int, seed: int) -> Parts:
    """By sums of each user's errors."""
    assert isinstance(metric, MeanOf)
    a, b = (np.bincount(codes, weights=metric.f(pred.double() - targets.double()).numpy(), minlength=n)
            for pred in both)
    counts = np.bincount(codes, minlength=n).astype(float)
    finish = np.vectorize(metric.finish, otypes=[float])
    rng, step = np.random.default_rng(seed), max(1, WEIGHTS // n)
    sizes = [min(step, RESAMPLES - start) for start in range(0, RESAMPLES, step)]

    def drawn() -> Iterator[np.ndarray]:
        for size in sizes:
            weights = rng.multinomial(n, np.full(n, 1 / n), size=size)
            yield np.column_stack([finish(weights @ sums / (weights @ counts)) for sums in (a, b)])

    def swapped() -> Iterator[np.ndarray]:
        for size in sizes:
            moved = rng.integers(2, size=(size, n)) @ (b - a)
            yield np.column_stack([finish((sums.sum() + sign * moved) / counts.sum())
                                   for sums, sign in ((a, 1), (b, -1))])
    whole = np.array([[metric.finish(sums.sum() / counts.sum()) for sums in (a, b)]])
    return iter([whole]), drawn(), swapped()


def _anew(metric: Metric, both: tuple[Tensor, Tensor], targets: Tensor, codes: np.ndarray, n: int, seed: int) -> Parts:
    """By computing the metric of every resample."""
    rng, order = np.random.default_rng(seed), np.argsort(codes, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(codes, minlength=n))[:-1])

    def value(pred: Tensor, target: Tensor) -> float:
        metric.reset()
        metric.update(pred, target)
        return metric.value()

    def drawn() -> Iterator[np.ndarray]:
        for _ in range(FEWER):
            chosen = torch.from_numpy(np.concatenate([rows[k] for k in rng.integers(n, size=n)]))
            yield np.array([[value(pred[chosen], targets[chosen]) for pred in both]])

    def swapped() -> Iterator[np.ndarray]:
        for _ in range(FEWER):
            other = torch.from_numpy(rng.integers(2, size=n).astype(bool)[codes])
            a, b = (torch.where(other if pred.ndim == 1 else other[:, None], rest, pred)
                    for pred, rest in (both, both[::-1]))
            yield np.array([[value(a, targets), value(b, targets)]])
    return iter([np.array([[value(pred, targets) for pred in both]])]), drawn(), swapped()
