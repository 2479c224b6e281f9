"""margin: two predictions of the same ratings, each with an interval, and their difference, paired by user."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..metrics import MeanOf, Metric
from .paired import PerUser, compared, intervals

FEWER = 300             # resamples of metrics that are no mean over ratings, each of which is computed anew


def margin(metric: Metric, a: Tensor, b: Tensor, targets: Tensor, users: Tensor, *, level: float = 0.95,
           seed: int = 0) -> pd.DataFrame:
    """Rows "default recipe" (of predictions `b`), "tuned" (of `a`) and "difference" (a - b); columns value, low, high
    (the percentile bootstrap interval), p_value and users.

    Resampled are users, not ratings, since the errors of one user's ratings go together. The p-value is two-sided, of a
    paired permutation test that swaps the two predictions of all ratings of a user (see `compare`)."""
    codes, n = np.unique(users.cpu().numpy(), return_inverse=True)[1], len(np.unique(users.cpu().numpy()))
    if isinstance(metric, MeanOf) and metric.finish in (float, math.sqrt):
        return _of_sums(metric, (a, b), targets, codes, n, level, seed)
    (whole,), drawn, swapped = (np.concatenate(list(part)) for part in _anew(metric, (a, b), targets, codes, n, seed))
    values = np.array([whole[1], whole[0], whole[0] - whole[1]])
    several = np.column_stack([drawn[:, 1], drawn[:, 0], drawn[:, 0] - drawn[:, 1]])
    low, high = np.quantile(several, [(1 - level) / 2, (1 + level) / 2], axis=0)
    extreme = np.abs(swapped[:, 0] - swapped[:, 1]) >= abs(values[2]) - 1e-12
    p_value = (1 + extreme.sum()) / (1 + len(swapped))
    return pd.DataFrame({"value": values, "low": low, "high": high, "p_value": [np.nan, np.nan, p_value], "users": n},
                        index=["default recipe", "tuned", "difference"])


def _of_sums(metric: MeanOf, both: tuple[Tensor, Tensor], targets: Tensor, codes: np.ndarray, n: int, level: float,
             seed: int) -> pd.DataFrame:
    """By sums of each user's errors, as models are compared (`paired`). Swapping a user's predictions leaves the sum of
    both models' errors as it is, so that the test of their difference is that of the difference of the roots."""
    totals = [np.bincount(codes, weights=metric.f(pred.double() - targets.double()).cpu().numpy(), minlength=n)
              for pred in both]
    names = ["tuned", "default recipe"]
    per_user = PerUser(np.column_stack(totals), np.bincount(codes, minlength=n).astype(float),
                       metric.finish is math.sqrt)
    row = compared(per_user, names, level, seed).iloc[0]
    frame = intervals(per_user, names, level, seed).loc[names[::-1]].assign(p_value=np.nan)
    frame.loc["difference"] = [row["difference"], row["low"], row["high"], row["p_value"]]
    return frame.rename_axis(None).assign(users=n)


Parts = tuple[Iterator[np.ndarray], Iterator[np.ndarray], Iterator[np.ndarray]]
"""The metric of both, (1, 2); of resamples, (m, 2) at a time; and with predictions swapped, (m, 2) at a time."""


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
