"""Which differences between models are chance: intervals and paired tests over users, corrected for several pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..evaluate.resampling import counts, resampled, signs
from ..metrics import MeanOf, Metric

N_INTERVAL = 2000       # resamples of an interval
N_TEST = 10_000         # random choices of signs, at least; and
PER_PAIR = 200          # per pair, so that the smallest p-value, 1 / (1 + n), is small enough to be corrected
FEWER = 300             # resamples of metrics that are no mean over ratings, each of which is computed anew
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


def margin(metric: Metric, a: Tensor, b: Tensor, targets: Tensor, users: Tensor, *, level: float = 0.95,
           seed: int = 0) -> pd.DataFrame:
    """Two predictions of the same ratings: rows "default recipe" (of predictions `b`), "tuned" (of `a`) and
    "difference" (a - b); columns value, low, high (the percentile bootstrap interval), p_value and users.

    Resampled are users, not ratings, since the errors of one user's ratings go together. The p-value is two-sided, of a
    paired permutation test that swaps the two predictions of all ratings of a user: that leaves the sum of both models'
    errors as it is, so that the test of a difference of roots is that of `compared`."""
    codes, n = np.unique(users.cpu().numpy(), return_inverse=True)[1], len(np.unique(users.cpu().numpy()))
    if not isinstance(metric, MeanOf) or metric.finish not in (float, math.sqrt):
        return _anew(metric, (a, b), targets, codes, n, level, seed)
    totals = [np.bincount(codes, weights=metric.f(pred.double() - targets.double()).cpu().numpy(), minlength=n)
              for pred in (a, b)]
    per_user = PerUser(np.column_stack(totals), np.bincount(codes, minlength=n).astype(float),
                       metric.finish is math.sqrt)
    tuned, default = intervals(per_user, ["a", "b"], level, seed).to_numpy().tolist()
    return side_by_side(default, tuned, compared(per_user, ["a", "b"], level, seed).iloc[0].to_dict())


def side_by_side(default: Sequence[float], tuned: Sequence[float], difference: Mapping[Any, Any]) -> pd.DataFrame:
    """The frame of `margin`, of (value, low, high) of both and their difference, as a row of `compared` has it."""
    rows = [default, tuned, [difference[name] for name in ("difference", "low", "high")]]
    frame = pd.DataFrame(rows, columns=["value", "low", "high"], index=["default recipe", "tuned", "difference"])
    return frame.assign(p_value=[np.nan, np.nan, difference["p_value"]], users=int(difference["users"]))


def _anew(metric: Metric, both: tuple[Tensor, Tensor], targets: Tensor, codes: np.ndarray, n: int, level: float,
          seed: int) -> pd.DataFrame:
    """`margin` by computing the metric of every resample."""
    rng, order = np.random.default_rng(seed), np.argsort(codes, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(codes, minlength=n))[:-1])

    def values(one: Tensor, other: Tensor, target: Tensor) -> list[float]:
        found = []
        for pred in (other, one):
            metric.reset()
            metric.update(pred, target)
            found.append(metric.value())
        return [*found, found[1] - found[0]]

    def drawn() -> list[float]:
        chosen = torch.from_numpy(np.concatenate([rows[k] for k in rng.integers(n, size=n)]))
        return values(both[0][chosen], both[1][chosen], targets[chosen])

    def swapped() -> float:
        other = torch.from_numpy(rng.integers(2, size=n).astype(bool)[codes])
        one, rest = (torch.where(other if pred.ndim == 1 else other[:, None], swap, pred)
                     for pred, swap in (both, both[::-1]))
        return values(one, rest, targets)[2]
    whole = values(*both, targets)
    default, tuned, difference = zip(whole, *_limits(np.array([drawn() for _ in range(FEWER)]), level).tolist())
    extreme = np.abs([swapped() for _ in range(FEWER)]) >= abs(whole[2]) - 1e-12
    return side_by_side(default, tuned, {**dict(zip(("difference", "low", "high"), difference)),
                                         "p_value": (1 + extreme.sum()) / (1 + FEWER), "users": n})


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
