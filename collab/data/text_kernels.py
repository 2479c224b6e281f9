"""The kernel that copies a few of many texts one after another, as Arrow keeps them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

njit: Any = numba.njit
compiled: Any = njit(cache=True, nogil=True, _nrt=False, error_model="numpy")


@compiled
def gather(begins: Any, text: Any, rows: Any, into: Any) -> int:
    """Write to `into`, bytes, where the text of each of n rows begins, and the last ends, int64 (n + 1,), and then
    these texts, text[begins[row]:begins[row + 1]] (see `Texts.arrays`). Return how many bytes this takes."""
    n, place = len(rows), 0
    ends, into = into[:8 * (n + 1)].view(np.int64), into[8 * (n + 1):]
    for k in range(n):
        ends[k] = place
        for byte in text[begins[rows[k]]:begins[rows[k] + 1]]:
            into[place] = byte
            place += 1
    ends[n] = place
    return 8 * (n + 1) + place
