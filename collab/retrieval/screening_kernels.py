"""The kernels of `compiled_one`: one user's best items in one pass over the table."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from ..simd import WIDTH, any_above, maxima, multiply
from .compiled_one import FEW, LANES

F = np.float32
BLOCK = 64          # rows whose lengths are bounded together, while they are in the cache
UNIT = 2.0 ** -24   # of float32

njit: Any = numba.njit
exactly: Any = njit(cache=True, nogil=True, _nrt=False, error_model="numpy")
compiled: Any = njit(cache=True, nogil=True, _nrt=False, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})


@compiled
def products(items: Any, p: Any, rough: Any, squares: Any, measured: bool) -> float:
    """Write p . q of every row into `rough`, summed in float32, and return a bound on the rows' lengths, |q|, where it
    is to be `measured`: of BLOCK rows that together are the longest. `squares` (8,) is room for sums."""
    n, width = items.shape
    most = 0.0
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        alone = last - (last - first) % 8 if width >= 8 else first      # from which on rows are taken one by one
        total = F(0)
        if measured:
            squares[:] = 0
            for i in range(first, alone, 8):
                multiply(items, i, p, 0, rough, i, squares, 0)
            for i in range(alone, last):
                for j in range(width):
                    total += items[i, j] * items[i, j]
            for x in squares:
                total += x
            if total != total:
                return np.nan
            most = max(most, np.float64(total))
        else:
            for i in range(first, alone, 8):
                multiply(items, i, p, 0, rough, i, None, 0)
        for i in range(alone, last):
            total = F(0)
            for j in range(width):
                total += p[j] * items[i, j]
            rough[i] = total
    return math.sqrt(most + BLOCK * width * 2.0 ** -126)        # what squares too small for float32 may have lost


@compiled
def add_biases(rough: Any, biases: Any) -> float:
    """Add a bias to each of `rough`, and return a bound on their sizes: BLOCK biases that together are the largest."""
    most = 0.0
    for first in range(0, len(rough), BLOCK):
        some, own = rough[first:min(first + BLOCK, len(rough))], biases[first:min(first + BLOCK, len(rough))]
        total = F(0)
        for i in range(len(some)):
            some[i] += own[i]
            total += own[i] * own[i]
        if total != total:
            return np.nan
        most = max(most, np.float64(total))
    return math.sqrt(most + BLOCK * 2.0 ** -126)


@compiled
def floor_of(rough: Any, first: int, stop: int, wide: int, parts: Any) -> Any:
    """A number that at least `wide` of rough[first:stop] are above, and few more: just below the wide-th of the largest
    in each of as many parts as `parts` has room for, a multiple of LANES. Minus infinity where it is not found so."""
    each, floor = (stop - first) // len(parts), F(np.inf)
    for start in range(0, len(parts), LANES):
        maxima(parts, start, rough, first + start * each, each)
    for x in parts:
        above = np.int32(0)
        for y in parts:
            above += np.int32(y > x)
        if above < wide:
            floor = min(floor, x)
    return np.nextafter(floor, F(-np.inf))


@exactly
def sink(best: Any, place: Any, score: Any, row: int) -> None:
    """Put a score and its row into the heap (the smallest is first) in place of its first."""
    n, hole = len(best), 0
    while True:
        child = 2 * hole + 1
        if child >= n:
            break
        if child + 1 < n and best[child + 1] < best[child]:
            child += 1
        if score <= best[child]:
            break
        best[hole], place[hole] = best[child], place[child]
        hole = child
    best[hole], place[hole] = score, row


@exactly
def exact(items: Any, row: int, p: Any) -> float:
    """p . q of one row, summed in float64 in one order, whatever the CPU."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = len(p) // 4 * 4
    for j in range(0, whole, 4):
        a += np.float64(p[j]) * np.float64(items[row, j])
        b += np.float64(p[j + 1]) * np.float64(items[row, j + 1])
        c += np.float64(p[j + 2]) * np.float64(items[row, j + 2])
        d += np.float64(p[j + 3]) * np.float64(items[row, j + 3])
    for j in range(whole, len(p)):
        a += np.float64(p[j]) * np.float64(items[row, j])
    return (a + b) + (c + d)


@exactly
def candidates(users: Any, items: Any, user_bias: Any, item_bias: Any, biased: bool, mean: float, user: int, first: int,
               stop: int, seen: Any, longest: float, rough: Any, parts: Any, best: Any, place: Any,
               scores: Any) -> float:
    """Write the rows first to stop with the largest p . q + b_i, without those `seen`, to `place`, -1 where there are
    no more, with what they have in float32 to `best`, and with mean + b_u + b_i + p . q in float64 to `scores`. The
    first has the smallest in float32; none of the others is above it.

    Returns a bound on the errors in float32 (see `TableScorer.roughly`), from `longest`, the length of the longest
    row, where that is not negative; infinity where float32 does not do."""
    p, n = users[user], len(items)
    measured = products(items, p, rough, parts[:8], longest < 0)
    length = measured if longest < 0 else longest
    own = 0.0
    for j in range(len(p)):
        own += np.float64(p[j]) * np.float64(p[j])
    own = math.sqrt(own)
    if biased:
        own, length = own + 1.0, length + add_biases(rough, item_bias)
    for i in range(len(seen)):
        if seen[i] < n:
            rough[seen[i]] = -np.inf
    best[:] = floor_of(rough, first, stop, len(best), parts)
    place[:] = -1
    for start in range(first, stop, WIDTH):
        last = min(start + WIDTH, stop)
        if last - start < WIDTH or any_above(rough, start, best[0]):
            for i in range(start, last):
                if rough[i] > best[0]:
                    sink(best, place, rough[i], i)
                elif rough[i] != rough[i]:
                    return np.inf
    for k in range(len(place)):
        row = place[k]
        scores[k] = -np.inf
        if row >= 0:
            dot = exact(items, row, p)
            if biased:
                dot += user_bias[user]
                dot += item_bias[row]
            scores[k] = dot + mean
    n_terms = len(p) + 2
    error = 1.1 * n_terms * UNIT * length * own + n_terms * 2.0 ** -125
    return error if error < 1e30 else np.inf


@exactly
def ordered(best: Any, place: Any, scores: Any, error: float, rows: Any, found: Any) -> bool:
    """Write the first k of the candidates to `rows` and `found` (k,), by descending score and then by row; return
    whether it is certain that these are the best of all items (see `screened`)."""
    n, k = len(place), len(rows)
    last = np.float64(best[0])
    for i in range(n):
        score = F(scores[i]) + F(0)         # -0.0 and 0.0 are equal, and shown alike
        if score != score:
            return False
        row = place[i] if score > -np.inf else -1
        if row < 0:
            score = F(-np.inf)
        if i >= k and not (score > found[k - 1] or (score == found[k - 1] and row < rows[k - 1])):
            continue
        j = min(i, k - 1)
        while j > 0 and (found[j - 1] < score or (found[j - 1] == score and rows[j - 1] > row)):
            found[j], rows[j] = found[j - 1], rows[j - 1]
            j -= 1
        found[j], rows[j] = score, row
    if last == -np.inf:
        return True
    for i in range(n):      # noqa: SIM110  numba compiles no generator inside any()
        if F(scores[i]) < found[k - 1] and best[i] >= last + 2 * error:
            return True
    return False


@exactly
def ranged(score: float, low: float, high: float) -> float:
    """`sigmoid_range` of one number."""
    return (high - low) / (1.0 + math.exp(-score)) + low


@exactly
def best_list(users: Any, items: Any, user_bias: Any, item_bias: Any, biased: bool, mean: float, low: float,
              high: float, rank_ranged: bool, show_ranged: bool, least: float, most: float, first: int, stop: int,
              longest: float, starts: Any, columns: Any, user: int, whose: int, wide: int, room: Any, rows: Any,
              found: Any) -> bool:
    """Write the best of `wide` candidates to `rows` and `found` (k,), and return whether it is certain that they are;
    without those that `whose` has seen, from starts[whose] on in `columns`. The range from `low` to `high` is applied
    before they are ordered (`rank_ranged`), to float32 scores afterwards (`show_ranged`) or not at all, and what is
    shown is clipped to `least` and `most`. `room` is for what is between, float64 (`room_of(wide, n_items)`,)."""
    place, scores, rest = room[:wide].view(np.int64), room[wide:2 * wide], room[2 * wide:].view(np.float32)
    n_parts = LANES * (wide // FEW + 1)
    parts, best, rough = rest[:n_parts], rest[n_parts:n_parts + wide], rest[n_parts + wide:n_parts + wide + len(items)]
    seen = columns[starts[whose]:starts[whose + 1]]
    error = candidates(users, items, user_bias, item_bias, biased, mean, user, first, stop, seen, longest, rough,
                       parts, best, place, scores)
    if error == np.inf:
        return False
    if rank_ranged:
        for i in range(len(scores)):
            scores[i] = ranged(scores[i], low, high)
    if not ordered(best, place, scores, error, rows, found):
        return False
    for i in range(len(found)):
        score = np.float64(found[i])
        if show_ranged:
            score = ranged(score, low, high)
        found[i] = min(max(score, least), most) if rows[i] >= 0 else found[i]
    return True
