"""Splits of ratings that are read once, in bounded memory: at random by a hash of the place, and by time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from ..errors import DataError
from .split import Split, named_split, part_of

CHUNK = 1 << 20             # places that are hashed at a time
DIGIT = 16                  # bits that a pass of the selection looks at
Keys = np.ndarray
"""Numbers that sort like what they stand for, uint64 (n,)."""


class Streamed(Protocol):
    """Which ratings are held out, asked in their order, a few at a time."""

    def held_out(self, first: int, n: int, times: Keys | None) -> np.ndarray:
        """Which of the n ratings from place `first` on are held out, bool (n,)."""
        ...


def streamed_kind(split: Split | str | None, valid_pct: float, seed: int | None) -> dict[str, Any]:
    """The split as plain values: {"by": "random" or "time", "valid_pct", "seed"}. Raises DataError for another one."""
    how = {"by": "random", "valid_pct": valid_pct, "seed": seed} if split is None else getattr(
        named_split(split), "streamed", None)
    if how is None:
        raise DataError("ratings that are read piece by piece are split without sorting them: at random, with "
                        "valid_pct=0.2 or split=random_split(0.2, seed), or by time, with split=time_split(0.2). For "
                        "another split write the held-out ratings to a file of their own and pass it to "
                        "learn.validate or evaluate, or read a table that fits in memory with from_csv")
    return dict(how)


class AtRandom:
    """Hold out the fraction `valid_pct` of n ratings, rounded down: those whose places have the lowest hashes, the
    same ones whatever the row groups are."""

    def __init__(self, n: int, valid_pct: float, seed: int):
        self.seed, held = seed, part_of(n, valid_pct)

        def keys() -> Iterable[Keys]:
            return (scrambled(first, min(CHUNK, n - first), seed) for first in range(0, n, CHUNK))
        self.last = smallest(keys, held - 1) if held else None

    def held_out(self, first: int, n: int, times: Keys | None = None) -> np.ndarray:
        """See `Streamed`."""
        if self.last is None:
            return np.zeros(n, dtype=bool)
        return scrambled(first, n, self.seed) <= self.last


class ByTime:
    """Hold out the latest fraction `valid_pct` of n ratings, rounded down; of ratings of the same time those that come
    last. `keys` yields the times of all, in order, each time that it is called. To be asked once about each rating, in
    order."""

    def __init__(self, keys: Callable[[], Iterable[Keys]], n: int, valid_pct: float):
        self.kept = n - part_of(n, valid_pct)
        if self.kept == n:
            return
        self.first = smallest(keys, self.kept)          # the earliest time that is held out
        earlier = sum(int((some < self.first).sum()) for some in keys())
        self.same = self.kept - earlier                 # of its time, how many are trained on

    def held_out(self, first: int, n: int, times: Keys | None) -> np.ndarray:
        """See `Streamed`."""
        if times is None or not hasattr(self, "first"):
            return np.zeros(n, dtype=bool)
        held = times > self.first
        same = np.flatnonzero(times == self.first)
        held[same[max(0, self.same):]] = True
        self.same -= len(same)
        return held


def scrambled(first: int, n: int, seed: int) -> Keys:
    """A hash of each place from `first` on, different for different places (splitmix64: Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        start = np.uint64((first + 0x632BE59BD9B4E019 * (seed + 1)) % 2**64)
        x = (np.arange(n, dtype=np.uint64) + start) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x ^= x >> np.uint64(shift)
            x *= np.uint64(factor)
        x ^= x >> np.uint64(31)
    return x


def smallest(keys: Callable[[], Iterable[Keys]], k: int) -> np.uint64:
    """The key that has `k` before it when all are sorted, found digit by digit, with a pass over the keys for each,
    until few enough have the same digits to be sorted."""
    prefix, known = 0, 0

    def alike() -> Iterable[Keys]:
        for some in keys():
            yield some[some >> np.uint64(64 - known) == np.uint64(prefix)] if known else some
    for shift in range(64 - DIGIT, -1, -DIGIT):
        counts = np.zeros(1 << DIGIT, np.int64)
        for some in alike():
            digits = (some >> np.uint64(shift)) & np.uint64((1 << DIGIT) - 1)
            counts += np.bincount(digits.astype(np.int64), minlength=1 << DIGIT)
        if counts.sum() <= CHUNK:
            return np.uint64(np.sort(np.concatenate([*alike()]))[k])
        ends = counts.cumsum()
        digit = int(np.searchsorted(ends, k, "right"))
        k -= int(ends[digit] - counts[digit])
        prefix, known = prefix << DIGIT | digit, known + DIGIT
    return np.uint64(prefix)


def sortable(times: np.ndarray) -> Keys:
    """Keys of times (n,): numbers, or dates, which become whole microseconds."""
    if times.dtype.kind not in "iuf":
        times = times.astype("datetime64[us]").view(np.int64)
    if times.dtype.kind == "f":
        bits = (times.astype(np.float64) + 0.0).view(np.int64)          # -0.0 and 0.0 are one time
        return np.where(bits < 0, ~bits, bits | np.int64(-2**63)).view(np.uint64)
    if times.dtype.kind == "u":
        return times.astype(np.uint64)
    return times.astype(np.int64).view(np.uint64) ^ np.uint64(1 << 63)
