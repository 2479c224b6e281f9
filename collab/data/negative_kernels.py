"""The kernel of `Negatives`: what `draw` draws, for many rows."""

from __future__ import annotations

from typing import Any

import numba

from ..simd import prefetch

AHEAD = 4           # rows from the one whose marks are asked for to the one that is drawn for
NEAR = 8            # marks on either side of the likely one among which the right one mostly is
FEW = (0,) * 6      # vectors, of which two lie in a line of the cache: three lines hold the marks that are near

njit: Any = numba.njit
compiled: Any = njit(cache=True, nogil=True, error_model="numpy")
inlined: Any = njit(nogil=True, error_model="numpy")


@inlined
def _passed(key: int, marks: Any, start: int, end: int, likely: int) -> int:
    """The first mark beyond a key, from `start` to `end`. Marks are rather evenly spread: it is looked for near the
    likely place, and then everywhere."""
    first, last = max(likely - NEAR, start), min(likely + NEAR, end)
    if (first > start and marks[first - 1] > key) or (last < end and marks[last] <= key):
        first, last = start, end
    n = last - first
    while n > 0:        # without branches, which no CPU could foresee
        half = (n + 1) // 2
        first += half * (marks[first + half - 1] <= key)
        n -= half
    return first


@compiled
def draw(users: Any, uniform: Any, total: int, shift: int, guide: Any, ends: Any, left: Any, starts: Any, marks: Any,
         skipped: Any, out: Any) -> None:
    """Draw negatives for `users` into `out` (rows, n), each by a number of `uniform` (rows, n); without histories
    `left` is empty."""
    m, n, one_by_one = out.shape[0], out.shape[1], len(left) > 0
    for x in range(m):
        user = users[x]
        if one_by_one and x + AHEAD < m:
            start, end = starts[users[x + AHEAD]], starts[users[x + AHEAD] + 1]
            for k in range(n):
                likely = max(start + int(uniform[x + AHEAD, k] * (end - start)) - NEAR, 0)
                prefetch(marks, likely, FEW)
                prefetch(skipped, likely, FEW)
        for k in range(n):
            if one_by_one:
                place, start, end = int(uniform[x, k] * left[user]), starts[user], starts[user + 1]
                mark = _passed(user * (total + 1) + place, marks, start, end,
                               start + int(uniform[x, k] * (end - start)))
                if mark > start:
                    place += skipped[mark]
            else:
                place = int(uniform[x, k] * total)
            item = guide[place >> shift]
            while ends[item] <= place:
                item += 1
            out[x, k] = item
