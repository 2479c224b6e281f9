"""Resamples of users: how often each is drawn, or which sign each has, and the means with these weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MAX_WEIGHTS = 1 << 22       # weights of users that are held at a time
Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def resampled(totals: np.ndarray, shares: np.ndarray, n: int, seed: int, draw: Draw) -> np.ndarray:
    """Two arrays (users, columns) -> (n, columns): with drawn weights w, sum(w totals) / sum(|w| shares), a mean over
    users where `shares` are 1. NaN where the latter is 0. Raises ValueError for n below 1."""
    if n < 1:
        raise ValueError(f"n, the number of resamples, must be at least 1, got {n}")
    rng, means, step = np.random.default_rng(seed), [], max(1, MAX_WEIGHTS // max(1, len(totals)))
    for start in range(0, n, step):
        weights = draw(rng, min(step, n - start), len(totals))
        with np.errstate(invalid="ignore"):         # what no drawn user has stays NaN
            means.append(weights @ totals / (np.abs(weights) @ shares))
    return np.concatenate(means)


def counts(rng: np.random.Generator, n: int, users: int) -> np.ndarray:
    """How often each user is drawn, with replacement, in each of n resamples: (n, users). The bootstrap of Efron
    1979."""
    drawn = rng.integers(users, size=(n, users)) + users * np.arange(n)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * users).reshape(n, users).astype(float)


def signs(rng: np.random.Generator, n: int, users: int) -> np.ndarray:
    """1 or -1 for each user, in each of n resamples: (n, users). A paired permutation test."""
    return rng.integers(2, size=(n, users), dtype=np.int8) * 2.0 - 1
