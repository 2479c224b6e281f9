"""Kernels of the fused pass by row-wise Adagrad (see `RowAdagrad`).

A side's table is packed as `fused_kernels` says. Of a batch of ratings, a row that only one rating touches takes its
step at once, from the weights in hand; the gradient of one that several touch is summed into a slot, and steps when all
of the batch is read. Nothing else reads a row that steps at once, so that both see the weights before the batch. With
the gradient g q + r p of a row p, where q is the other row and r the ridge,

    |g q + r p|^2 = g^2 |q|^2 + 2 g r p . q + r^2 |p|^2,    p - s (g q + r p) = (1 - s r) p - s g q

and the three products are found while the score is. Where the two parts of the gradient all but cancel, the first of
these loses all digits, and the vectors are added up."""

from __future__ import annotations

import math
from typing import Any

import numba

from ..simd import blend, dot, dots, mix, prefetch, square
from .gradient_kernels import AHEAD, F, gather, inlined, let_go, ranking_gradients, scored, slot_for

FAINT = F(1e-3)     # of the squares of its two parts: a gradient of less is added up before it is squared
NONE, ONCE, OFTEN = -1, -2, -3      # of a row in place of its slot: how many ratings of the batch have it

njit: Any = numba.njit              # _nrt: see `gradient_kernels`
compiled: Any = njit(cache=True, nogil=True, _nrt=False, error_model="numpy", fastmath={"contract", "nsz"})


@inlined
def _from_slot(table: Any, row: int, gradient: Any, slot: int, lr: Any, bias_lr: Any, eps: Any, times: Any,
               biased: bool, share: Any, lanes: Any) -> None:
    """A step for a row whose gradient is in a slot; its ridge counts `times`."""
    k = 8 * len(lanes)
    ridge = times * table[row, k + 3]
    table[row, k + 1] += square(gradient, slot, ridge, table, row, lanes) * share
    step = lr / (math.sqrt(table[row, k + 1]) + eps[0])
    blend(table, row, F(1) - step * ridge, gradient, slot, -step, lanes)
    _bias(table, row, gradient[slot, k], times, bias_lr, eps[1], biased, k)


@inlined
def _at_once(table: Any, row: int, others: Any, other: int, g: Any, product: Any, p: Any, q: Any, lr: Any, bias_lr: Any,
             eps: Any, times: Any, biased: bool, share: Any, lanes: Any) -> Any:
    """A step for the bias and the sums of a row p with the gradient g q + ridge p, q being the `other` row: their
    `product` p . q and the squares `p` and `q` of both are given. Returns what its factors are multiplied by, and those
    of q that are added to them."""
    k = 8 * len(lanes)
    ridge = times * table[row, k + 3]
    pulled, held = g * g * q, ridge * ridge * p
    size = pulled + F(2) * g * ridge * product + held
    if size < FAINT * (pulled + held):      # rounding is not much less, and the sum may have begun with 0
        size = g * g * square(others, other, ridge / g, table, row, lanes)
    table[row, k + 1] += size * share
    step = lr / (math.sqrt(table[row, k + 1]) + eps[0])
    _bias(table, row, g, times, bias_lr, eps[1], biased, k)
    return F(1) - step * ridge, -step * g


@inlined
def _bias(table: Any, row: int, g: Any, times: Any, lr: Any, eps: Any, biased: bool, k: int) -> None:
    """A step for the bias of a row, whose gradient is g without its ridge."""
    if biased:
        g += times * table[row, k + 4] * table[row, k]
        table[row, k + 2] += g * g
        table[row, k] -= lr * g / (math.sqrt(table[row, k + 2]) + eps)


@inlined
def _count(slot_of: Any, row: int, often: bool) -> None:
    slot_of[row] = ONCE if slot_of[row] == NONE and not often else OFTEN


@inlined
def _rated(form: Any, slots: Any, lr: Any, bias_lr: Any, eps: Any, user_rows: Any, item_rows: Any, targets: Any,
           begin: int, size: int, halt: bool, lanes: Any, wide: Any) -> Any:
    """Read a batch of ratings: (slots used, summed squared error). Rows that one rating touches have taken their steps,
    but with `halt` none has."""
    users, items, mu, low, width, one_of, biased = form
    user_slot, item_slot, rows, times, gradient = slots
    k, used, total, share, mean = 8 * len(lanes), 0, 0.0, F(2) / F(size), mu[0]
    for x in range(begin, begin + size):
        _count(user_slot, user_rows[x], halt)
        _count(item_slot, item_rows[x], halt)
    for x in range(begin, begin + size):
        if x + AHEAD < len(targets):
            prefetch(users, user_rows[x + AHEAD], wide)
            prefetch(items, item_rows[x + AHEAD], wide)
        user, item = user_rows[x], item_rows[x]
        own_user, own_item = user_slot[user] == ONCE, item_slot[item] == ONCE
        product, p, q = F(0), F(0), F(0)
        if own_user or own_item:
            product, p, q = dots(users, user, items, item, lanes)
        else:
            product = dot(users, user, items, item, lanes)
        score, slope = scored(product, users, user, items, item, low, width, biased, k, mean)
        error = score - targets[x]
        g = share * error * slope
        total += error * error
        if own_user:
            user_slot[user] = NONE
            kept, added = _at_once(users, user, items, item, g, product, p, q, lr, bias_lr, eps, share, biased,
                                   one_of, lanes)
        if own_item:
            item_slot[item] = NONE
            its_kept, its_added = _at_once(items, item, users, user, g, product, q, p, lr, bias_lr, eps, share,
                                           biased, one_of, lanes)
        if own_user and own_item:
            mix(users, user, kept, added, items, item, its_kept, its_added, lanes)
            continue
        if not own_user:
            slot, new, used = slot_for(user_slot, user, user, rows, used)
            gather(gradient, times, slot, new, g, items, item, F(1), lanes)
        if not own_item:
            slot, new, used = slot_for(item_slot, item, ~item, rows, used)
            gather(gradient, times, slot, new, g, users, user, F(1), lanes)
        if own_user:
            blend(users, user, kept, items, item, added, lanes)
        if own_item:
            blend(items, item, its_kept, users, user, its_added, lanes)
    return used, total


@compiled
def adagrad_steps(form: Any, slots: Any, lr: Any, eps: Any, user_rows: Any, item_rows: Any,
                  targets: Any, sizes: Any, losses: Any, steps: Any, halt: bool, ranked: Any, lanes: Any,
                  wide: Any) -> None:
    """A step for each batch, of `sizes` rows, for squared error or a `Ranked` loss, and ridge, at the rates `lr`
    (2, steps); it goes to `losses`, and `steps` (1,) counts them. With `halt` the first loss that is not finite ends
    all, before its step."""
    users, items, _, _, _, one_of, biased = form
    k, t, begin = 8 * len(lanes), 0, 0
    user_slot, item_slot, rows, times, gradient = slots
    for size in sizes:
        if ranked is None:
            used, total = _rated(form, slots, lr[0, t], lr[1, t], eps, user_rows, item_rows, targets, begin, size, halt,
                                 lanes, wide)
        else:
            used, total, _ = ranking_gradients(form, slots, user_rows, item_rows, ranked, begin, size, k, lanes, wide)
        losses[t] = total / size
        if halt and not math.isfinite(total):
            let_go(slots, used)
            break
        share = F(2) / F(size)
        for slot in range(used):
            row, count = rows[slot], share * times[slot]
            if row >= 0:
                user_slot[row] = NONE
                _from_slot(users, row, gradient, slot, lr[0, t], lr[1, t], eps, count, biased, one_of, lanes)
            else:
                item_slot[~row] = NONE
                _from_slot(items, ~row, gradient, slot, lr[0, t], lr[1, t], eps, count, biased, one_of, lanes)
        begin += size
        t += 1
    steps[0] += t
