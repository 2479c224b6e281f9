"""The kernel of `Texts`: a few texts one after another, as Arrow keeps them."""

from __future__ import annotations

from typing import Any

import numba

njit: Any = numba.njit
compiled: Any = njit(cache=True, nogil=True, _nrt=False, error_model="numpy")


@compiled
def gather(starts: Any, text: Any, rows: Any, ends: Any, into: Any) -> None:
    """Copy text[starts[r]:starts[r + 1]] of each of n rows to `into`, and write where each begins to `ends` (n + 1,),
    whose last is where all end."""
    place = 0
    for k in range(len(rows)):
        ends[k] = place
        for j in range(starts[rows[k]], starts[rows[k] + 1]):
            into[place] = text[j]
            place += 1
    ends[len(rows)] = place
