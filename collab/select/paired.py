"""Which differences between models are chance: intervals and paired tests over users, corrected for several pairs."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..evaluate.resampling import counts, resampled, signs

N_INTERVAL = 2000       # resamples of an interval
N_TEST = 10_000         # random choices of signs, at least; and
PER_PAIR = 200          # per pair, so that the smallest p-value, 1 / (1 + n), is small enough to be corrected
COLUMNS = ("a", "b", "difference", "low", "high", "p_value", "p_holm", "users")
MAX_GROUPS = 4096       # more users than these are joined at random into as many groups


class PerUser(NamedTuple):
    """One metric of several models, by user: `totals` (users, models), the sums of what is averaged (squared errors, or
    the NDCG of a user), and `shares` (users,), how many there are to average. With `root` the metric is the root of the
    mean."""

    totals: np.ndarray
    shares: np.ndarray
    root: bool = False

    def value(self) -> np.ndarray:
        """The metric of each model, (models,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._rooted(self.totals.sum(0) / self.shares.sum())

    def resampled(self, n: int, seed: int) -> np.ndarray:
        """The metric over n resamples of the users, (n, models): every model over the same users each time. A user's
        ratings stay together, since their errors are alike (the cluster bootstrap: Field & Welsh 2007)."""
        kept = self.grouped(seed)
        return self._rooted(resampled(kept.totals, kept.shares[:, None], n, seed, counts))

    def grouped(self, seed: int) -> PerUser:
        """Those with more users than MAX_GROUPS as sums over that many groups of users. Intervals and tests are as
        valid over groups, and take bounded time and memory."""
        if len(self.shares) <= MAX_GROUPS:
            return self
        group = np.random.default_rng(seed).permutation(len(self.shares)) % MAX_GROUPS
        totals = np.stack([np.bincount(group, column, MAX_GROUPS) for column in self.totals.T], 1)
        return PerUser(totals, np.bincount(group, self.shares, MAX_GROUPS), self.root)

    def _rooted(self, means: np.ndarray) -> np.ndarray:
        return np.sqrt(means) if self.root else means


def intervals(metric: PerUser, names: list[str], level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """One row per model: value, low, high. The interval is the percentile bootstrap's (Efron 1979) over users: it tells
    how much other users of the same kind may differ, not other training runs."""
    low, high = _limits(metric.resampled(N_INTERVAL, seed), level)
    return pd.DataFrame({"value": metric.value(), "low": low, "high": high}, index=pd.Index(names, name="model"))


def compared(metric: PerUser, names: list[str], level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """One row per pair of models: a, b, difference (a - b), low, high (the bootstrap interval of the difference, over
    the same users for both), p_value, p_holm, users.

    The p-value is two-sided, of a paired permutation test over users: if the two models were interchangeable, each
    user's difference would as likely have the other sign. It is (1 + the number of random choices of signs whose sum is
    at least as far from 0) / (1 + n): Smucker, Allan, Carterette 2007; Phipson, Smyth 2010. Of errors, a user's
    differences of squared (or absolute) errors are summed, and keep together.

    `p_holm` is corrected for all pairs (Holm 1979), so that the model which happens to be the best may be picked from
    the same table: the chance that any two equal models of it are called different stays below 1 - level."""
    pairs = [*combinations(range(len(names)), 2)]
    if not pairs:
        return pd.DataFrame({name: [] for name in COLUMNS})
    left, right = (list(side) for side in zip(*pairs))
    values, over = metric.value(), metric.resampled(N_INTERVAL, seed)
    low, high = _limits(over[:, left] - over[:, right], level)
    kept = metric.grouped(seed)
    p_values = _p_values(kept.totals[:, left] - kept.totals[:, right], max(N_TEST, PER_PAIR * len(pairs)), seed)
    return pd.DataFrame({"a": [names[k] for k in left], "b": [names[k] for k in right],
                         "difference": values[left] - values[right], "low": low, "high": high, "p_value": p_values,
                         "p_holm": holm(p_values), "users": int((metric.shares > 0).sum())})


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values corrected for their number, step by step: the smallest of m times m, the next times m - 1, and so on,
    none smaller than one before it and none above 1 (Holm 1979, "A simple sequentially rejective multiple test
    procedure").

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order, m = np.argsort(p_values, kind="stable"), len(p_values)
    corrected = np.empty(m)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * np.arange(m, 0, -1)))
    return corrected


def _p_values(differences: np.ndarray, n: int, seed: int) -> np.ndarray:
    """(users, pairs) -> (pairs,). Sums that are equal may differ in the last bits."""
    scale = np.abs(differences).sum(0)
    least = np.abs(differences.sum(0)) - 1e-12 * scale
    ones = np.full((len(differences), 1), 1 / max(1, len(differences)))         # so that the means are sums
    extreme = np.abs(resampled(differences, ones, n, seed, signs)) >= least
    return (1 + extreme.sum(0)) / (1 + n)


def _limits(over: np.ndarray, level: float) -> np.ndarray:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    return np.nanquantile(over, [(1 - level) / 2, (1 + level) / 2], axis=0)
