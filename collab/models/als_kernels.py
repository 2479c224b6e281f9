"""Compiled kernels of ALS: rows solved one by one, without their normal equations."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

TINY = np.float32(np.finfo(np.float32).tiny)
ZERO, ONE = np.float32(0), np.float32(1)

# Sums may be taken in any order, so that loops over factors use vector registers; nan and inf stay what they are.
# Without _nrt=False numba counts references to arrays for every row, which threads would wait for; no kernel makes one.
njit: Any = numba.njit
kernel: Any = njit(cache=True, nogil=True, _nrt=False, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@kernel
def group(starts, free, grouped_columns, grouped_values, rows, columns, values):
    """Group n ratings by row, in their order within each (a counting sort). `starts` int64 (n_rows + 1,), 0 at first,
    `grouped_columns` and `grouped_values` (n,) become those of a `Ragged`. `free` int64 (n_rows,) is room to work."""
    for row in rows:
        starts[row + 1] += 1
    for row in range(len(free)):
        free[row] = starts[row]
        starts[row + 1] += starts[row]
    for n in range(len(rows)):
        place = free[rows[n]]
        free[rows[n]] = place + 1
        grouped_columns[place], grouped_values[place] = columns[n], values[n]


@kernel
def solve_rows(x, design, gram, starts, columns, ratings, offset, implicit, alpha, ridge, steps, vectors, terms, first,
               last):
    """`steps` steps of conjugate gradients for rows `first` to `last` - 1 of x (n_rows, width), in place; 0 where a row
    has no ratings. `LeastSquares` has the problem, `conjugate_gradients` the steps; here

        left p = gram p + ridge p + sum_j w_j (y_j . p) y_j

    is summed over the history, so that a row takes 4 width numbers and not width^2 (Takács, Pilászy, Tikk 2011).
    `width` must be a multiple of 4; of 16, loops leave no rest. `vectors` (3, width) and `terms` (2, length of the
    longest history) are room to work in."""
    width = x.shape[1]
    residual, direction, image, weights, wanted = vectors[0], vectors[1], vectors[2], terms[0], terms[1]
    for row in range(first, last):
        begin, end = starts[row], starts[row + 1]
        solution = x[row]
        if begin == end:
            solution[:] = ZERO
            continue
        mine = columns[begin:end]
        _terms(weights, wanted, mine, ratings[begin:end], offset, implicit, alpha)
        _product(image, solution, design, gram, ridge[row], mine, weights, wanted, ONE)
        size = ZERO
        for f in range(width):
            residual[f] = direction[f] = -image[f]
            size += image[f] * image[f]
        for _ in range(steps):
            _product(image, direction, design, gram, ridge[row], mine, weights, wanted, ZERO)
            length = ZERO
            for f in range(width):
                length += direction[f] * image[f]
            length = size / max(length, TINY)
            new = ZERO
            for f in range(width):
                solution[f] += length * direction[f]
                rest = residual[f] - length * image[f]
                residual[f] = rest
                new += rest * rest
            turn = new / max(size, TINY)
            for f in range(width):
                direction[f] = residual[f] + turn * direction[f]
            size = new


@kernel
def row_errors(out, x, design, starts, columns, ratings, offset, implicit, alpha, first, last):
    """out[row] = the sum over the row's ratings of `LeastSquares.errors`, for rows `first` to `last` - 1; float64."""
    for row in range(first, last):
        total = 0.0
        for n in range(starts[row], starts[row + 1]):
            dot = ZERO
            for f in range(x.shape[1]):
                dot += design[columns[n], f] * x[row, f]
            score = np.float64(dot)
            if implicit:
                total += (1.0 + alpha * ratings[n]) * (1.0 - score) ** 2 - score ** 2
            else:
                total += (ratings[n] - offset[columns[n]] - score) ** 2
        out[row] = total


@kernel
def _terms(weights, wanted, columns, ratings, offset, implicit, alpha):
    """`LeastSquares.terms` of one history."""
    for n in range(len(columns)):
        if implicit:
            weights[n] = alpha * ratings[n]
            wanted[n] = ONE + weights[n]
        else:
            weights[n] = ONE
            wanted[n] = ratings[n] - offset[columns[n]]


@kernel
def _product(out, p, design, gram, ridge, columns, weights, wanted, share):
    """out = left p - share * right: the image of a direction (share 0), or the negative residual of a solution (1).

    Four rows at a time: each number of `out` is then read and written once for four products."""
    width = len(p)
    for f in range(width):
        out[f] = ridge * p[f]
    for i in range(0, len(gram), 4):
        g0, g1, g2, g3 = gram[i], gram[i + 1], gram[i + 2], gram[i + 3]
        c0, c1, c2, c3 = p[i], p[i + 1], p[i + 2], p[i + 3]
        for f in range(width):
            out[f] += c0 * g0[f] + c1 * g1[f] + c2 * g2[f] + c3 * g3[f]
    n, whole = 0, len(columns) - len(columns) % 4
    for n in range(0, whole, 4):
        y0, y1, y2, y3 = design[columns[n]], design[columns[n + 1]], design[columns[n + 2]], design[columns[n + 3]]
        c0, c1, c2, c3 = ZERO, ZERO, ZERO, ZERO
        for f in range(width):
            c0 += y0[f] * p[f]
            c1 += y1[f] * p[f]
            c2 += y2[f] * p[f]
            c3 += y3[f] * p[f]
        c0 = weights[n] * c0 - share * wanted[n]
        c1 = weights[n + 1] * c1 - share * wanted[n + 1]
        c2 = weights[n + 2] * c2 - share * wanted[n + 2]
        c3 = weights[n + 3] * c3 - share * wanted[n + 3]
        for f in range(width):
            out[f] += c0 * y0[f] + c1 * y1[f] + c2 * y2[f] + c3 * y3[f]
    for n in range(whole, len(columns)):
        y0, c0 = design[columns[n]], ZERO
        for f in range(width):
            c0 += y0[f] * p[f]
        c0 = weights[n] * c0 - share * wanted[n]
        for f in range(width):
            out[f] += c0 * y0[f]
