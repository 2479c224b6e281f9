"""Ratings far from all others, which would stretch the range that models predict in, and strengths of choices that
outweigh all others."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd

from ..errors import amount, they, warn
from .problems import NO_ROWS, Problem

LEAST = 10              # with fewer ratings, none counts as far from the others
SHARE = 100             # at most one rating in so many is an outlier
TIMES = 3               # farther than so many times the width of the others is far
TAIL = 1000             # a strength above so many times the upper percentile is not the end of a long tail


def warn_of_outliers(ratings: pd.Series, name: Hashable, *, implicit: bool = False) -> bool:
    """Warn of the `outliers` among ratings or, where they are `implicit`, among strengths; return whether there are
    any."""
    if (problem := outliers(ratings, name, implicit=implicit)) is None:
        return False
    warn(f"{problem.where}: {problem.what}: {problem.remedy}")
    return True


def outliers(ratings: pd.Series, name: Hashable, *, implicit: bool = False) -> Problem | None:
    """At most one in a hundred ratings that lie beyond a gap of more than three times the width of all others: a 1000
    or a -99 among 1 to 5. Where they are `implicit`, strengths, which have long tails: see `outweighing`."""
    n, values = len(ratings), ratings.to_numpy()
    if n < LEAST:
        return None
    if implicit:
        return outweighing(values, name)
    few = max(1, n // SHARE)
    least, most = values.min(), values.max()
    near = (most - least) * TIMES / (2 * TIMES + 2)
    if min((values <= least + near).sum(), (values >= most - near).sum()) > few:
        return None             # low and high are in these ranges, and so none is far: the usual case
    low, high = np.partition(values, (few, n - 1 - few))[[few, n - 1 - few]]
    if values.max() - high <= TIMES * (high - low) >= low - values.min():
        return None             # nothing is far: the usual case, in which nothing is sorted
    found = _far(*np.unique(values, return_counts=True), low, high)
    if found is None:
        return None
    lowest, highest, _ = found
    return _problem(*found, n, name, np.flatnonzero((values < lowest) | (values > highest)))


def warn_of_far(levels: np.ndarray, times: np.ndarray, name: Hashable) -> None:
    """Warn of the `outliers` among ratings of which only the different ones are known, ascending, and how often each
    occurs."""
    ends, n = times.cumsum(), int(times.sum())
    few = max(1, n // SHARE)
    low, high = levels[np.searchsorted(ends, [few, n - 1 - few], "right")]
    found = None if n < LEAST else _far(levels, times, low, high)
    if found is not None:
        problem = _problem(*found, n, name, NO_ROWS)
        warn(f"{problem.where}: {problem.what}: {problem.remedy}")


def _far(levels: np.ndarray, times: np.ndarray, low: float, high: float) -> tuple[float, float, np.ndarray] | None:
    """(the least and the largest of the ratings near to those from `low` to `high`, the others with how often each
    occurs, (2, n)); None where there are no others."""
    at, to = np.searchsorted(levels, [low, high])
    if at == to:                # nearly all are equal: take the distance to the nearest other as their width
        nearest = min((k for k in (at - 1, at + 1) if 0 <= k < len(levels)), key=lambda k: abs(levels[k] - low),
                      default=at)
        at, to = min(at, nearest), max(to, nearest)
    while True:
        reach = TIMES * (levels[to] - levels[at])
        if at and levels[at] - levels[at - 1] <= reach:
            at -= 1
        elif to + 1 < len(levels) and levels[to + 1] - levels[to] <= reach:
            to += 1
        else:
            break
    far = np.r_[0:at, to + 1:len(levels)]
    return (levels[at], levels[to], np.stack([levels[far], times[far]])) if len(far) else None


def _problem(lowest: float, highest: float, far: np.ndarray, n: int, name: Hashable, rows: np.ndarray) -> Problem:
    count = int(far[1].sum())
    what = (f"{count:,} of {n:,} ratings, such as {amount(far[0, -1])}, {they(count)} far from the others, which "
            f"go from {amount(lowest)} to {amount(highest)}")
    return Problem(f"column {name!r}", what, "the range of predictions would reach that far, or the error where they "
                   "are held out; correct or drop them, or train without a range, with y_range=None", name, rows,
                   stops=False, in_file="the range of predictions would reach that far: correct or remove these lines, "
                   "unless they are meant", misleads=True)


def outweighing(strengths: np.ndarray, name: Hashable) -> Problem | None:
    """At most one in a hundred strengths (n,) that are more than 1,000 times all others but those, and together more
    than the sum of the others: a model that weighs choices would be fitted to these few. The tail of usual counts,
    lognormal or by a power law with a mean, is not so heavy."""
    few = max(1, len(strengths) // SHARE)
    usual = np.partition(strengths, len(strengths) - 1 - few)[len(strengths) - 1 - few]
    far = strengths > TAIL * usual
    count = int(far.sum())
    if usual <= 0 or not count or 2 * strengths[far].sum() <= strengths.sum():
        return None
    what = (f"{count:,} of {len(strengths):,} strengths, such as {amount(strengths[far].max())}, {they(count)} more "
            f"than all others together, which go up to {amount(strengths[~far].max())}")
    it, these = ("it", "this line") if count == 1 else ("them", "these lines")
    why = "a model that weighs choices, such as als, would learn little else"
    return Problem(f"column {name!r}", what, f"{why}; correct or drop {it}, or leave the column out, so that every row "
                   "counts as one choice", name, np.flatnonzero(far), stops=False,
                   in_file=f"{why}: correct or remove {these}, or leave the column out, so that every row counts as "
                   "one choice", misleads=True)
