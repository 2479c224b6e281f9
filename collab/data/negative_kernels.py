"""The kernel of `Negatives`: what `draw` draws, for many batches."""

from __future__ import annotations

from typing import Any

import numba

from ..simd import prefetch

AHEAD = 8           # rows from the one whose history is asked for to the one that is drawn for
FEW = (0,) * 6      # three lines of the cache: 48 items

njit: Any = numba.njit
compiled: Any = njit(cache=True, nogil=True, error_model="numpy")
inlined: Any = njit(nogil=True, error_model="numpy")


@inlined
def _any(at: float, cdf: Any, guide: Any, rows: Any) -> int:
    """The item at a place of the distribution: the first whose cdf is above it."""
    k = guide[int(at * len(guide))]
    while k < len(cdf) - 1 and cdf[k] <= at:
        k += 1
    return int(rows[k])


@inlined
def _seen(user: int, item: int, starts: Any, columns: Any) -> bool:
    """Whether the item is in the user's history, by binary search without branches, which no CPU could foresee."""
    first, n = starts[user], starts[user + 1] - starts[user]
    if n == 0:
        return False
    while n > 1:
        half = n // 2
        first += half * (columns[first + half - 1] < item)
        n -= half
    return bool(columns[first] == item)


@inlined
def _unseen(at: float, user: int, q: Any, starts: Any, columns: Any) -> int:
    """The item at a place of the distribution over what the user has not seen."""
    for search in range(2):
        total, k = 0.0, starts[user]
        for item in range(len(q)):
            while k < starts[user + 1] and columns[k] < item:
                k += 1
            if k == starts[user + 1] or columns[k] != item:
                total += q[item]
            if search and total > at:
                return item
        at *= total
    return len(q) - 1


@compiled
def draw(users: Any, sizes: Any, done: Any, uniform: Any, cdf: Any, guide: Any, rows: Any, q: Any, can: Any,
         starts: Any, columns: Any, tries: int, wrong: Any, out: Any) -> bool:
    """Draw the negatives of batches into `out` (rows, n), and return whether it stopped before one for which there are
    too few uniform numbers. `done` holds the batches, rows and numbers that were used. `wrong` (n times the largest
    size) is room to work in; without histories `starts` is empty."""
    batch, begin, used = done[0], done[1], done[2]
    n, one_by_one = out.shape[1], len(starts) > 0
    while batch < len(sizes):
        count = 0
        if used + sizes[batch] * n > len(uniform):
            return True
        for x in range(begin, begin + sizes[batch]):
            user = users[x]
            if one_by_one and x + AHEAD < len(users):
                prefetch(columns, starts[users[x + AHEAD]], FEW)
            for k in range(n):
                out[x, k] = item = _any(uniform[used], cdf, guide, rows)
                used += 1
                if one_by_one and can[user] and _seen(user, item, starts, columns):
                    wrong[count] = (x - begin) * n + k
                    count += 1
        for _ in range(tries):
            if used + count > len(uniform):
                return True
            still = 0
            for j in range(count):
                x, k = begin + wrong[j] // n, wrong[j] % n
                out[x, k] = item = _any(uniform[used], cdf, guide, rows)
                used += 1
                if _seen(users[x], item, starts, columns):
                    wrong[still] = wrong[j]
                    still += 1
            count = still
        if used + count > len(uniform):
            return True
        for j in range(count):
            x, k = begin + wrong[j] // n, wrong[j] % n
            out[x, k] = _unseen(uniform[used], users[x], q, starts, columns)
            used += 1
        begin += sizes[batch]
        batch += 1
        done[0], done[1], done[2] = batch, begin, used
    return False
