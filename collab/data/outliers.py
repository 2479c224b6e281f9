"""Ratings far from all others, which would stretch the range that models predict in."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd

from ..errors import warn
from .problems import Problem

LEAST = 10              # with fewer ratings, none counts as far from the others
SHARE = 100             # at most one rating in so many is an outlier
TIMES = 3               # farther than so many times the width of the others is far


def warn_of_outliers(ratings: pd.Series, name: Hashable) -> None:
    """Warn of the `outliers` among ratings."""
    if (problem := outliers(ratings, name)) is not None:
        warn(f"{problem.where}: {problem.what}: {problem.remedy}")


def outliers(ratings: pd.Series, name: Hashable) -> Problem | None:
    """At most one in a hundred ratings that lie beyond a gap of more than three times the width of all others: a 1000
    or a -99 among 1 to 5."""
    n, values = len(ratings), ratings.to_numpy()
    if n < LEAST:
        return None
    few = max(1, n // SHARE)
    least, most = values.min(), values.max()
    near = (most - least) * TIMES / (2 * TIMES + 2)
    if min((values <= least + near).sum(), (values >= most - near).sum()) > few:
        return None             # low and high are in these ranges, and so none is far: the usual case
    low, high = np.partition(values, (few, n - 1 - few))[[few, n - 1 - few]]
    if values.max() - high <= TIMES * (high - low) >= low - values.min():
        return None             # nothing is far: the usual case, in which nothing is sorted
    levels = np.unique(values)
    at, to = np.searchsorted(levels, [low, high])
    if at == to:                # nearly all are equal: take the distance to the nearest other as their width
        nearest = min((k for k in (at - 1, at + 1) if 0 <= k < len(levels)), key=lambda k: abs(levels[k] - low))
        at, to = min(at, nearest), max(to, nearest)
    while True:
        reach = TIMES * (levels[to] - levels[at])
        if at and levels[at] - levels[at - 1] <= reach:
            at -= 1
        elif to + 1 < len(levels) and levels[to + 1] - levels[to] <= reach:
            to += 1
        else:
            break
    far = [*levels[:at], *levels[to + 1:]]
    if not far:
        return None
    rows = np.flatnonzero((values < levels[at]) | (values > levels[to]))
    count = len(rows)
    what = (f"{count:,} of {n:,} ratings, such as {far[-1]:g}, {'is' if count == 1 else 'are'} far from the others, "
            f"which go from {levels[at]:g} to {levels[to]:g}")
    return Problem(f"column {name!r}", what, "the range of predictions would reach that far, or the error where they "
                   "are held out; correct or drop them, or train without a range, with y_range=None", name, rows,
                   stops=False, in_file="the range of predictions would reach that far: correct or remove these lines, "
                   "unless they are meant")
