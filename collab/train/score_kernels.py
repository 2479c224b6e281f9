"""The kernel of `foreseen`: scores of pairs."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from ..simd import prefetch

F = np.float32
AHEAD = 12          # pairs from the one whose rows are asked for to the one that is scored

njit: Any = numba.njit
compiled: Any = njit(cache=True, nogil=True, _nrt=False, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})


@compiled
def scores(users: Any, items: Any, user_bias: Any, item_bias: Any, biased: bool, mean: Any, low: Any, width: Any,
           user_rows: Any, item_rows: Any, out: Any, wide: Any) -> None:
    """Write low + width sigmoid(z) for each pair, or z where the width is 0; z = mean + biases + p . q. A row of a
    table lies in len(wide) vectors of 8 numbers."""
    n, k = len(out), users.shape[1]
    for x in range(n):
        if x + AHEAD < n:
            prefetch(users, user_rows[x + AHEAD], wide)
            prefetch(items, item_rows[x + AHEAD], wide)
        user, item = user_rows[x], item_rows[x]
        z = mean
        for j in range(k):
            z += users[user, j] * items[item, j]
        if biased:
            z += user_bias[user, 0] + item_bias[item, 0]
        out[x] = low + width / (F(1) + math.exp(-z)) if width else z
