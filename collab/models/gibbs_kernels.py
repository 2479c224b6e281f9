"""Compiled kernels of a Gibbs sweep (see `gibbs`): the systems of rows, LANES at a time, and products of features.

LANES consecutive rows are a group. The symmetric M of a group are kept as (slots, LANES), the slots being the elements
(i, j), i <= j, row by row."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from ..simd import dot, gathered, prefetch
from ..simd_double import LANES, TILE, subtract, tile

AHEAD = 4               # ratings from the one whose row is asked for to the one that is worked on
CHUNK = 64              # ratings whose products are summed at a time: they fit the first cache

# See als_kernels for the options.
njit: Any = numba.njit
kernel: Any = njit(cache=True, nogil=True, _nrt=False, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
inlined: Any = njit(nogil=True, _nrt=False, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@kernel
def scores(out, x, z, rows, others, first, last, lanes):
    """out[n] = x[rows[n]] . z[others[n]]"""
    for n in range(first, last):
        out[n] = dot(x, rows[n], z, others[n], lanes)


@kernel
def weigh(out, own, other, rows, others, most, first, last):
    """out[n] = own[rows[n]] * other[others[n]], at most `most`."""
    for n in range(first, last):
        out[n] = min(own[rows[n]] * other[others[n]], most)


@kernel
def add_up(sums, values, other, rows, others):
    """sums[rows[n]] += values[n] * other[others[n]]"""
    for n in range(len(rows)):
        sums[rows[n]] += values[n] * other[others[n]]


@kernel
def sparse_product(out, starts, columns, values, table, first, last, lanes):
    """out = F table, for rows `first` to `last` - 1 of F, of csr."""
    for row in range(first, last):
        gathered(out, row, table, columns, values, starts[row], starts[row + 1], lanes)


@kernel
def middle_product(out, y, middle, sides, width, first, last):
    """out[row] = M_row y[row] for the groups `first` to `last` - 1. `sides` (2, width, LANES) is room to work in; rows
    beyond the last one of a table are left out."""
    ahead, image = sides[0], sides[1]
    for group in range(first, last):
        begin, mine = LANES * group, middle[group]
        n = min(LANES, len(y) - begin)
        for lane in range(LANES):
            for i in range(width):
                ahead[i, lane] = y[begin + lane, i] if lane < n else np.float32(0)
        slot = 0
        for i in range(width):
            for lane in range(LANES):
                image[i, lane] = np.float32(0)
        for i in range(width):
            for lane in range(LANES):
                image[i, lane] += mine[slot, lane] * ahead[i, lane]
            slot += 1
            for j in range(i + 1, width):
                for lane in range(LANES):
                    image[i, lane] += mine[slot, lane] * ahead[j, lane]
                    image[j, lane] += mine[slot, lane] * ahead[i, lane]
                slot += 1
        for lane in range(n):
            for i in range(width):
                out[begin + lane, i] = image[i, lane]


@kernel
def marginals(alone, pulled, middle, design, offset, starts, places, others, targets, weights, noises, own, free,
              precision, width, rows, gram, system, inverse, sides, terms, first, last):
    """`Rated.marginal` of the groups `first` to `last` - 1. `design` (n_others, wide) float32 holds [z, 1, 0 ...], wide
    being a multiple of TILE above width + 1. `noises` (n,), by place in a row's order, `own` and `free` (n_rows, width)
    are normal. Room to work in: `rows` (CHUNK, wide), `gram` (wide, wide), `system` and `inverse` (width^2, LANES),
    `sides` (5, width, LANES), and `terms` (2, CHUNK) float32."""
    right, noisy, drawn = sides[0], sides[1], sides[2]
    for group in range(first, last):
        begin = LANES * group
        n = min(LANES, len(alone) - begin)
        for lane in range(LANES):
            row = begin + lane
            gram[:] = 0.0
            if lane < n:
                _products(gram, rows, design, offset, starts[row], starts[row + 1], places, others, targets, weights,
                          noises, width, terms)
            for i in range(width):
                for j in range(i, width):
                    system[i * width + j, lane] = gram[i, j]
                system[i * width + i, lane] += precision[i]
                right[i, lane], noisy[i, lane], drawn[i, lane] = 0.0, 0.0, 0.0
                if lane < n:
                    sides[3, i, lane] = math.sqrt(precision[i]) * own[row, i]
                    right[i, lane], noisy[i, lane] = gram[i, width], gram[i, width + 1] + sides[3, i, lane]
                    drawn[i, lane] = free[row, i]
        _invert(system, inverse, width)
        _solve(system, inverse, sides, width)
        mine, slot = middle[group], 0
        for i in range(width):
            for j in range(i, width):
                for lane in range(LANES):
                    both = precision[i] * precision[j] * system[i * width + j, lane]
                    mine[slot, lane] = (precision[i] + both) if i == j else both
                slot += 1
        for lane in range(n):
            for i in range(width):
                alone[begin + lane, i] = right[i, lane]
                pulled[begin + lane, i] = precision[i] * noisy[i, lane] - sides[3, i, lane]


@inlined
def _products(gram, rows, design, offset, begin, end, places, others, targets, weights, noises, width, terms):
    """Sums over a row's ratings of the products of s [z, 1], s t and s t + noise, where s^2 is the weight."""
    wide = design.shape[1]
    for start in range(begin, end, CHUNK):
        n = min(CHUNK, end - start)
        for k in range(n):          # by itself, so that the CPU waits for several at a time
            place = places[start + k]
            terms[0, k], terms[1, k] = weights[place], targets[place]
        for k in range(n):
            other, s = others[start + k], math.sqrt(np.float64(terms[0, k]))
            if k + AHEAD < n:
                prefetch(design, others[start + k + AHEAD], (0, 0))
            for f in range(wide):
                rows[k, f] = s * design[other, f]
            wanted = s * (np.float64(terms[1, k]) - np.float64(offset[other]))
            rows[k, width], rows[k, width + 1] = wanted, wanted + noises[start + k]
        for i in range(0, width, TILE):
            j = i
            while j + 3 * TILE <= wide:
                tile(rows, n, i, j, gram, (0, 0, 0))
                j += 3 * TILE
            if j + 2 * TILE == wide:
                tile(rows, n, i, j, gram, (0, 0))
            elif j + TILE == wide:
                tile(rows, n, i, j, gram, (0,))


@inlined
def _invert(system, inverse, width):
    """Replace A + P, of which `system` has the elements (i, j), i <= j, by -(A + P)^-1. `inverse` becomes U^-1, where U
    is the upper factor, A + P = U'U."""
    for i in range(width):
        subtract(system, i * width + i, system, i, width, system, i, width, i)
        for lane in range(LANES):
            inverse[i * width + i, lane] = 1.0 / math.sqrt(system[i * width + i, lane])
        for j in range(i + 1, width):
            subtract(system, i * width + j, system, i, width, system, j, width, i)
            for lane in range(LANES):
                system[i * width + j, lane] *= inverse[i * width + i, lane]
    for i in range(width):
        for j in range(i + 1, width):
            for lane in range(LANES):
                inverse[i * width + j, lane] = 0.0
            subtract(inverse, i * width + j, inverse, i * width + i, 1, system, i * width + j, width, j - i)
            for lane in range(LANES):
                inverse[i * width + j, lane] *= inverse[j * width + j, lane]
    for i in range(width):
        for j in range(i, width):
            for lane in range(LANES):
                system[i * width + j, lane] = 0.0
            subtract(system, i * width + j, inverse, i * width + j, 1, inverse, j * width + j, 1, width - j)


@inlined
def _solve(system, inverse, sides, width):
    """Replace b, sides[0], by S b + U^-1 e, where S = (A + P)^-1 and e is sides[2], and sides[1] by S times it."""
    solved = sides[4]
    for k in range(2):
        for i in range(width):
            for lane in range(LANES):
                solved[i, lane] = 0.0
                if k == 0:
                    sides[2, i, lane] = -sides[2, i, lane]
            subtract(solved, i, system, i, width, sides[k], 0, 1, i)
            subtract(solved, i, system, i * width + i, 1, sides[k], i, 1, width - i)
        if k == 0:
            for i in range(width):
                subtract(solved, i, inverse, i * width + i, 1, sides[2], i, 1, width - i)
        for i in range(width):
            for lane in range(LANES):
                sides[k, i, lane] = solved[i, lane]
