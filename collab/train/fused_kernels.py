"""Kernels of the fused pass by AdamW, and how the tables of both optimizers are packed.

A side's table is packed, one row per user or item, float32 and padded to K = 8 len(lanes) factors:

    AdamW           factors (K), their m (K), their v (K), then bias, its m, its v, ridge, ridge of the bias
    row Adagrad     factors (K), then bias, accumulator of factors, accumulator of bias, ridge, ridge of the bias

where a ridge is the L2 of the row for each of its ratings; items that are drawn beside a choice are not rated.

A batch is two passes: the gradient of each row that it touches is summed into a slot, with the weights as they were
before the batch; then every touched row takes its step. A row that AdamW has not touched for some steps still moves, by
its momentum and its decay. With a_t = 1 - lr_t wd, A_t = a_1 ... a_t, and lr'_t = lr_t sqrt(1 - beta2^t) / (1 - ...),
the steps s + 1 to t change it by

    w_t = A_t / A_s w_s - A_t m_s sum_k c_k / (sqrt(v_s) + eps_k)

over k = s + 1 ... t, where c_k = rho_{s+1} ... rho_k lr'_k / A_k, rho_k = beta1_k / sqrt(beta2) (without a gradient,
m / sqrt(v) shrinks by it) and eps_k = eps sqrt(1 - beta2^k) / sqrt(beta2)^(k - s) (v shrinks while eps does not). With
the mean eps' and the variance s^2 of eps_k under the weights c_k, and d = 1 / (sqrt(v_s) + eps'), the sum is

    (h_s - R h_t) d (1 + (s d)^2 - ...),    h_s = rho_{s+1} (lr'_{s+1} / A_{s+1} + h_{s+1}),    R = rho_{s+1} ... rho_t

and what is left out is of the order (s d)^3. Rows with a larger s d than `UNEVEN`, which are those of tiny gradients in
the first few hundred steps, are moved step by step."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from ..simd import adam, adam_untouched, any_faint, prefetch
from .gradient_kernels import AHEAD, F, gradients, inlined, let_go, ranking_gradients

UNEVEN = 0.02       # s d, see above
STILL = 1e-5        # of eps: an m that is smaller moves nothing
LEAST_EPS = 1e-18   # 1 over its square is a float32
TINY = 1e-30        # below it a moment is set to 0: no later step would see it, and denormal numbers are slow

njit: Any = numba.njit      # _nrt: see `gradient_kernels`
compiled: Any = njit(cache=True, nogil=True, _nrt=False, error_model="numpy", fastmath={"contract", "nsz"})

forced: Any = njit(nogil=True, _nrt=False, error_model="numpy", fastmath={"contract", "nsz"}, forceinline=True)


# Kernels get these as plain tuples: the cache of compiled code would hold the names of classes.

class Rates(NamedTuple):
    """The hyper-parameters of factors (row 0) and biases (row 1): (2, steps) or, for beta2 and eps, (2,)."""

    lr: np.ndarray
    beta1: np.ndarray
    beta2: np.ndarray
    eps: np.ndarray
    wd: np.ndarray


class Moves(NamedTuple):
    """What AdamW does in one step, of factors (0) and biases (1): m = beta1 m + rest1 g, v = beta2 v + rest2 g^2,
    w = decay w - step m / (sqrt(v) + eps). (2,) `rest2` is 1 - beta2 in float64 first: of a float32 beta2 = 0.999 it
    would be off by 1e-5, at every step in the same direction."""

    step: np.ndarray
    eps: np.ndarray
    decay: np.ndarray
    beta1: np.ndarray
    beta2: np.ndarray
    rest1: np.ndarray
    rest2: np.ndarray


class Outlook(NamedTuple):
    """What AdamW does to rows that are not touched (see above), float64 (2, steps + 1): A, h, the same sum weighted by
    eps_k and by its square, log(rho_1 ... rho_t), and sqrt(beta2)^t."""

    kept: np.ndarray
    pull: np.ndarray
    eps_pull: np.ndarray
    square_pull: np.ndarray
    shrunk: np.ndarray
    faded: np.ndarray


@compiled
def outlook(rates: Any, done: int, outlook: Any) -> bool:
    """Fill an `Outlook` for the steps `done` + 1, `done` + 2, ..., and return whether it is of no use: where weights
    decay as fast as momentum (what is left of a sum would be rounding), or momentum does not, or not faster than v."""
    (lr, beta1, beta2, eps, wd), (kept, pull, eps_pull, square_pull, shrunk, faded) = rates, outlook
    dense = False
    for g in range(2):
        left_over, log_rho, root2 = 1.0, 0.0, math.sqrt(beta2[g])
        kept[g, 0], shrunk[g, 0], faded[g, 0] = left_over, log_rho, 1.0
        for t in range(lr.shape[1]):
            left, rho = 1 - lr[g, t] * wd[g, t], max(beta1[g, t], 1e-12) / root2
            left_over *= left
            log_rho += math.log(rho)
            dense |= left < 1.01 * rho or rho > 0.999 * beta2[g] or left_over < 1e-250
            kept[g, t + 1], shrunk[g, t + 1], faded[g, t + 1] = left_over, log_rho, root2 ** (t + 1)
        total = eps_total = square_total = 0.0
        pull[g, lr.shape[1]] = eps_pull[g, lr.shape[1]] = square_pull[g, lr.shape[1]] = 0.0
        for t in range(lr.shape[1] - 1, -1, -1):
            root, rho = math.sqrt(1 - beta2[g] ** (done + t + 1)), max(beta1[g, t], 1e-12) / root2
            step = lr[g, t] * root / (1 - beta1[g, t] ** (done + t + 1)) / kept[g, t + 1]
            total = rho * (step + total)
            eps_total = rho / root2 * (step * root * eps[g] + eps_total)
            square_total = rho / beta2[g] * (step * (root * eps[g]) ** 2 + square_total)
            pull[g, t], eps_pull[g, t], square_pull[g, t] = total, eps_total, square_total
    return dense


@forced
def _drift(o: Any, g: int, s: int, t: int) -> Any:
    """(decay, step, eps', s^2, factor of m, factor of v) for the steps s + 1 to t without a gradient."""
    kept, pulls, eps_pulls, square_pulls, log_rhos, powers = o
    shrunk, faded = math.exp(log_rhos[g, t] - log_rhos[g, s]), powers[g, t - s]
    pull, eps, square = pulls[g, s] - shrunk * pulls[g, t], eps_pulls[g, s], square_pulls[g, s]
    if faded > TINY:
        grown = 1 / faded
        eps -= shrunk * grown * eps_pulls[g, t]
        square -= shrunk * grown * grown * square_pulls[g, t]
    share = 1 / pull if pull > 0 else 0.0
    eps *= share
    first, second = shrunk * faded, faded * faded
    return (F(kept[g, t] / kept[g, s]), F(kept[g, t] * pull), F(max(eps, LEAST_EPS)),
            F(max(square * share - eps * eps, 0.0)), F(first if first > TINY else 0.0),
            F(second if second > TINY else 0.0))


@forced
def _still(table: Any, row: int, factors: Any, bias: Any, biased: bool, lanes: Any) -> None:
    """Move a row that is not touched by the two results of `_drift`, or of `_drift_once`."""
    adam_untouched(table, row, factors[0], factors[1], factors[2], factors[3], factors[4], factors[5], lanes)
    if biased:
        k = 24 * len(lanes)
        decay, step, eps, variance, first, second = bias
        d = F(1) / (math.sqrt(table[row, k + 2]) + eps)
        table[row, k] = decay * table[row, k] - step * table[row, k + 1] * d * (F(1) + variance * d * d)
        table[row, k + 1] *= first
        table[row, k + 2] *= second


@forced
def _uneven(table: Any, row: int, factors: Any, bias: Any, biased: bool, lanes: Any) -> bool:
    """Whether eps matters too much for `_drift`, of which these are results, to one of a row's moments."""
    least = math.sqrt(factors[3]) / F(UNEVEN) - factors[2]          # of sqrt(v)
    if any_faint(table, row, F(STILL) * factors[2], least * max(least, F(0)), lanes):
        return True
    k = 24 * len(lanes)
    return (biased and math.sqrt(table[row, k + 2]) < math.sqrt(bias[3]) / F(UNEVEN) - bias[2]
            and abs(table[row, k + 1]) > F(STILL) * bias[2])


@inlined
def _drift_once(m: Any, g: int) -> Any:
    """What `_drift` gives, for one step of the `Moves`: m / (sqrt(v) + eps) with m and v already shrunk."""
    step, eps, decay, beta1, beta2, _, _ = m
    root2 = F(math.sqrt(beta2[g]))
    return decay[g], step[g] * beta1[g] / root2, max(eps[g] / root2, F(LEAST_EPS)), F(0), beta1[g], beta2[g]


@inlined
def _adam_number(x: Any, k: int, g: Any, m: Any) -> None:
    """A step of Adam for the numbers w, m, v at x[k], x[k + 1], x[k + 2], with the rates of biases."""
    step, eps, decay, beta1, beta2, rest1, rest2 = m
    first, second = beta1[1] * x[k + 1] + rest1[1] * g, beta2[1] * x[k + 2] + rest2[1] * g * g
    x[k], x[k + 1], x[k + 2] = decay[1] * x[k] - step[1] * first / (math.sqrt(second) + eps[1]), first, second


@inlined
def _adam_row(table: Any, row: int, gradient: Any, slot: int, m: Any, times: Any, biased: bool, lanes: Any) -> None:
    """A step of AdamW for a row that the batch touched; its ridge counts `times`."""
    step, eps, decay, beta1, beta2, rest1, rest2 = m
    k = 24 * len(lanes)
    adam(table, row, gradient, slot, times * table[row, k + 3], beta1[0], beta2[0], rest1[0], rest2[0], decay[0],
         step[0], eps[0], lanes)
    if biased:
        _adam_number(table[row], k, gradient[slot, 8 * len(lanes)] + times * table[row, k + 4] * table[row, k], m)


@compiled
def _step_by_step(table: Any, row: int, s: int, t: int, o: Any, biased: bool, lanes: Any) -> int:
    """Move a row from step `s` towards `t` for as long as eps matters too much; return how far."""
    while s < t and _uneven(table, row, _drift(o, 0, s, t), _drift(o, 1, s, t), biased, lanes):
        _still(table, row, _drift(o, 0, s, s + 1), _drift(o, 1, s, s + 1), biased, lanes)
        s += 1
    return s


@forced
def _catch_up(table: Any, row: int, last: Any, t: int, o: Any, biased: bool, lanes: Any) -> None:
    """Move a row on to step `t`, if it was touched before."""
    s = last[row]
    if s < t:
        factors, bias = _drift(o, 0, s, t), _drift(o, 1, s, t)
        if _uneven(table, row, factors, bias, biased, lanes):
            s = _step_by_step(table, row, s, t, o, biased, lanes)
            factors, bias = _drift(o, 0, s, t), _drift(o, 1, s, t)
        _still(table, row, factors, bias, biased, lanes)


@compiled
def adamw_steps(form: Any, slots: Any, rates: Any, moves: Any, o: Any, dense: bool, user_rows: Any,
                item_rows: Any, targets: Any, sizes: Any, losses: Any, steps: Any, halt: bool, ranked: Any,
                last_user: Any, last_item: Any, lanes: Any, wide: Any) -> None:
    """A step of AdamW for each batch, of `sizes` rows, for squared error or a `Ranked` loss, and ridge; it goes to
    `losses`, and `steps` (1,) counts them. At the end all rows are as after the last step, and `last_*`, the last step
    of each row, is 0 again. With `dense`, rows that are not touched move at every step. With `halt` the first loss that
    is not finite ends all, before its step."""
    done = steps[0]
    n, bias = len(targets), 24 * len(lanes)
    users, items, mu, _, _, _, biased = form
    (lr, beta1, beta2, base_eps, wd), (step, eps, decay, now1, now2, rest1, rest2) = rates, moves
    t = begin = np.int64(0)         # not a literal, and rows below int64 as well: what is called is compiled once
    user_slot, item_slot, rows, times, gradient = slots
    for size in sizes:
        for x in range(begin, begin + size):
            if x + AHEAD < n:
                prefetch(users, user_rows[x + AHEAD], wide)
                prefetch(items, item_rows[x + AHEAD], wide)
            _catch_up(users, np.int64(user_rows[x]), last_user, t, o, biased, lanes)
            _catch_up(items, np.int64(item_rows[x]), last_item, t, o, biased, lanes)
            last_user[user_rows[x]] = last_item[item_rows[x]] = t
            if ranked is not None:
                for k in range(ranked[0].shape[1]):
                    _catch_up(items, np.int64(ranked[0][x, k]), last_item, t, o, biased, lanes)
                    last_item[ranked[0][x, k]] = t
        if ranked is None:      # known when this is compiled
            used, total, slope = gradients(form, slots, user_rows, item_rows, targets, begin, size, bias, lanes, wide)
        else:
            used, total, slope = ranking_gradients(form, slots, user_rows, item_rows, ranked, begin, size, bias, lanes,
                                                   wide)
        losses[t] = total / size
        if halt and not math.isfinite(total):
            let_go(slots, used)
            break
        share = F(2) / F(size)
        t += 1
        for g in range(2):
            root = math.sqrt(1 - beta2[g] ** (done + t))
            step[g] = lr[g, t - 1] * root / (1 - beta1[g, t - 1] ** (done + t))
            eps[g], decay[g] = base_eps[g] * root, 1 - lr[g, t - 1] * wd[g, t - 1]
            now1[g], now2[g] = beta1[g, t - 1], beta2[g]
            rest1[g], rest2[g] = 1 - beta1[g, t - 1], 1 - beta2[g]
        for slot in range(used):
            row, count = rows[slot], share * times[slot]
            if row >= 0:
                user_slot[row], last_user[row] = -1, t
                _adam_row(users, row, gradient, slot, moves, count, biased, lanes)
            else:
                item_slot[~row], last_item[~row] = -1, t
                _adam_row(items, ~row, gradient, slot, moves, count, biased, lanes)
        if biased:
            _adam_number(mu, 0, F(slope), moves)
        if dense:
            factors, biases = _drift_once(moves, 0), _drift_once(moves, 1)
            for table, last in ((users, last_user), (items, last_item)):
                for row in range(len(table)):
                    if last[row] < t:
                        _still(table, row, factors, biases, biased, lanes)
                        last[row] = t
        begin += size
    for table, last in ((users, last_user), (items, last_item)):
        for row in range(len(table)):
            _catch_up(table, row, last, t, o, biased, lanes)
            last[row] = 0
    steps[0] = done + t
