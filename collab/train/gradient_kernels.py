"""Kernels of the fused pass: the gradients of a batch in closed form, summed up row by row.

They read the packed tables of `fused_kernels`, of which the factors are the first columns, and write a slot for each
row that the batch touches."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from ..compiled import RankingLoss
from ..simd import add, dot, prefetch, put

F = np.float32
AHEAD = 6           # ratings from the one whose rows are asked for to the one that is worked on
NEAR = 2            # the same, of choices with drawn items
BPR, LOGISTIC, SOFTMAX = range(3)
LOSSES = {"bpr": BPR, "logistic": LOGISTIC, "sampled_softmax": SOFTMAX}        # by the name of a `RankingLoss`

# Without _nrt=False numba counts references to arrays in the innermost loops, which takes longer than the arithmetic;
# nothing here makes an array.
njit: Any = numba.njit
inlined: Any = njit(nogil=True, _nrt=False, error_model="numpy", fastmath={"contract", "nsz"})


# Kernels get these as plain tuples: the cache of compiled code would hold the names of classes.

class Form(NamedTuple):
    """score = low + width sigmoid(z), or z where the width is 0; z = mean[0] + biases + p . q, of which there is a mean
    if there are biases. `share` is 1 over the number of factors. `mean` holds mu, its m and its v, (3,)."""

    users: np.ndarray
    items: np.ndarray
    mean: np.ndarray
    low: np.float32
    width: np.float32
    share: np.float32
    biased: bool


class Slots(NamedTuple):
    """The rows that a batch touches: the slot of each user and item (-1 for none, less while `adagrad_kernels` reads a
    batch), and of each slot its row (~row for an item), how many ratings of the batch it has, and its gradient
    (slots, K + 8), the bias' in column K."""

    user: np.ndarray
    item: np.ndarray
    row: np.ndarray
    times: np.ndarray
    gradient: np.ndarray


class Ranked(NamedTuple):
    """A loss of each row's item beside drawn ones, `negatives` (rows, n): which one, the temperature, and what is taken
    off a score over it, by row: of the item, of a drawn item, of the user of a drawn item. `weights` (n,) and `slopes`
    (n,) are room to work in."""

    negatives: np.ndarray
    loss: int
    temperature: np.float32
    item: np.ndarray
    drawn: np.ndarray
    user: np.ndarray
    weights: np.ndarray
    slopes: np.ndarray


def ranked(loss: RankingLoss, users: np.ndarray, n_items: int) -> tuple[Any, ...]:
    """The `Ranked` of some batches, with what is drawn for them. Raises IndexError for items beyond `n_items` rows."""
    negatives, room = loss.draw(users), np.empty((2, loss.n), np.float32)
    if negatives.max(initial=0) >= n_items:         # a kernel would write elsewhere
        raise IndexError(f"item row {negatives.max()} was drawn, and the model has {n_items:,} rows of items")
    return tuple(Ranked(negatives, LOSSES[loss.name], F(loss.temperature), *loss.offsets, *room))


@inlined
def scored(z: Any, users: Any, user: int, items: Any, item: int, low: Any, width: Any, biased: bool, bias: int,
           mean: Any) -> Any:
    """(score, its slope in z) of a pair whose factors have the product `z`; `bias` is the column of the biases."""
    if biased:
        z += users[user, bias] + items[item, bias] + mean
    if width == 0:
        return z, F(1)
    s = F(1) / (F(1) + math.exp(-z))
    return low + width * s, width * s * (F(1) - s)


@inlined
def gather(gradient: Any, times: Any, slot: int, new: bool, g: Any, other: Any, row: int, rated: Any,
           lanes: Any) -> None:
    """Add g * other[row] to the gradient of a slot, g to that of its bias, and `rated` to its ratings."""
    k = 8 * len(lanes)
    if new:
        put(gradient, slot, g, other, row, lanes)
        gradient[slot, k], times[slot] = g, rated
    else:
        add(gradient, slot, g, other, row, lanes)
        gradient[slot, k] += g
        times[slot] += rated


@inlined
def slot_for(slot_of: Any, row: int, name: int, rows: Any, used: int) -> Any:
    """(slot of a row, whether it is a new one, slots used)"""
    slot = int(slot_of[row])
    if slot >= 0:
        return slot, False, used
    slot_of[row], rows[used] = used, name
    return used, True, used + 1


@inlined
def gradients(form: Any, slots: Any, user_rows: Any, item_rows: Any, targets: Any, begin: int, size: int, bias: int,
              lanes: Any, wide: Any) -> Any:
    """Sum up the gradients of a batch of ratings: (slots used, summed squared error, summed slope)."""
    users, items, mu, low, width, _, biased = form
    user_slot, item_slot, rows, times, gradient = slots
    used, total, slope_sum, share, mean = 0, 0.0, 0.0, F(2) / F(size), mu[0]
    for x in range(begin, begin + size):
        if x + AHEAD < len(targets):
            prefetch(users, user_rows[x + AHEAD], wide)
            prefetch(items, item_rows[x + AHEAD], wide)
        user, item = user_rows[x], item_rows[x]
        score, slope = scored(dot(users, user, items, item, lanes), users, user, items, item, low, width, biased, bias,
                              mean)
        error = score - targets[x]
        g = share * error * slope
        total += error * error
        slope_sum += g
        mine, new_user, used = slot_for(user_slot, user, user, rows, used)
        its, new_item, used = slot_for(item_slot, item, ~item, rows, used)
        gather(gradient, times, mine, new_user, g, items, item, F(1), lanes)
        gather(gradient, times, its, new_item, g, users, user, F(1), lanes)
    return used, total, slope_sum


@inlined
def let_go(slots: Any, used: int) -> None:
    """Forget which rows a batch touched."""
    user_slot, item_slot, rows, _, _ = slots
    for slot in range(used):
        if rows[slot] >= 0:
            user_slot[rows[slot]] = -1
        else:
            item_slot[~rows[slot]] = -1


@inlined
def _softplus(z: Any) -> Any:
    """log(1 + e^z), and its derivative, the sigmoid."""
    e = math.exp(-abs(z))
    return max(z, F(0)) + math.log1p(e), (F(1) if z >= 0 else e) / (F(1) + e)


@inlined
def _bpr(score: Any, weights: Any) -> Any:
    """(loss, derivative by the score) of a row's item; derivatives by the scores in `weights` replace these."""
    n, total, own = F(len(weights)), F(0), F(0)
    for k in range(len(weights)):
        lost, weight = _softplus(weights[k] - score)
        weights[k] = weight / n
        total, own = total + lost, own - weight
    return total / n, own / n


@inlined
def _logistic(score: Any, weights: Any) -> Any:
    """The same of `Logistic`."""
    total, own = _softplus(-score)
    n = F(len(weights) + 1)
    for k in range(len(weights)):
        lost, weight = _softplus(weights[k])
        weights[k] = weight / n
        total += lost
    return total / n, -own / n


@inlined
def _softmax(score: Any, weights: Any, user: int, item: int, drawn: Any, temperature: Any, item_off: Any,
             drawn_off: Any, user_off: Any) -> Any:
    """The same of `SampledSoftmax`."""
    n, score = len(weights), score / temperature - item_off[item]
    highest = score
    for k in range(n):
        weights[k] = weights[k] / temperature - drawn_off[drawn[k]] - user_off[user]
        highest = max(highest, weights[k]) if drawn[k] != item else highest
    itself = math.exp(score - highest)
    whole = itself
    for k in range(n):
        weights[k] = math.exp(weights[k] - highest) if drawn[k] != item else F(0)
        whole += weights[k]
    for k in range(n):
        weights[k] /= whole * temperature
    return math.log(whole) + highest - score, (itself / whole - F(1)) / temperature


@inlined
def ranking_gradients(form: Any, slots: Any, user_rows: Any, item_rows: Any, ranked: Any, begin: int, size: int,
                      bias: int, lanes: Any, wide: Any) -> Any:
    """Sum up the gradients of a batch of choices beside drawn items: (slots used, summed loss, summed slope)."""
    users, items, mu, low, width, _, biased = form
    user_slot, item_slot, rows, times, gradient = slots
    negatives, loss, temperature, item_off, drawn_off, user_off, weights, slopes = ranked
    n, used, total, slope_sum, mean = negatives.shape[1], 0, 0.0, 0.0, mu[0]
    shared = width == 0 and loss != LOGISTIC    # what all scores of a user share cancels (`CollabModel.shared`)
    for x in range(begin, begin + size):
        if x + NEAR < len(user_rows):
            prefetch(users, user_rows[x + NEAR], wide)
            prefetch(items, item_rows[x + NEAR], wide)
            for k in range(n):
                prefetch(items, negatives[x + NEAR, k], wide)
        user, item, drawn = user_rows[x], item_rows[x], negatives[x]
        score, slope = scored(dot(users, user, items, item, lanes), users, user, items, item, low, width, biased, bias,
                              mean)
        for k in range(n):
            z = dot(users, user, items, drawn[k], lanes)
            weights[k], slopes[k] = scored(z, users, user, items, drawn[k], low, width, biased, bias, mean)
        if loss == BPR:
            lost, g = _bpr(score, weights)
        elif loss == LOGISTIC:
            lost, g = _logistic(score, weights)
        else:
            lost, g = _softmax(score, weights, user, item, drawn, temperature, item_off, drawn_off, user_off)
        total += lost
        mine, new_user, used = slot_for(user_slot, user, user, rows, used)
        for k in range(-1, n):
            other = item if k < 0 else drawn[k]
            weight = (g * slope if k < 0 else weights[k] * slopes[k]) / F(size)
            slope_sum += weight
            rated = F(k < 0)        # drawn ones are not
            its, new_item, used = slot_for(item_slot, other, ~other, rows, used)
            gather(gradient, times, mine, new_user, weight, items, other, rated, lanes)
            gather(gradient, times, its, new_item, weight, users, user, rated, lanes)
            new_user = False
        if shared:
            gradient[mine, 8 * len(lanes)] = F(0)
    return used, total, 0.0 if shared else slope_sum
