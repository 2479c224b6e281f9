"""The kernels of `TiledBatches`: ratings arranged by tile, and taken in another order."""

from __future__ import annotations

from typing import Any

import numba

compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")


@compiled
def arrange(users: Any, items: Any, ratings: Any, tiles: Any, ends: Any, into_users: Any, into_items: Any,
            into_ratings: Any) -> None:
    """Write the ratings in the order of their tiles, stably; `ends` (tiles + 1,) holds where each tile begins, and is
    moved to where it ends."""
    for k in range(len(tiles)):
        place = ends[tiles[k]]
        into_users[place], into_items[place], into_ratings[place] = users[k], items[k], ratings[k]
        ends[tiles[k]] = place + 1


@compiled
def take(users: Any, items: Any, ratings: Any, order: Any, into_users: Any, into_items: Any, into_ratings: Any) -> None:
    """Write the ratings at `order`."""
    for k in range(len(order)):
        row = order[k]
        into_users[k], into_items[k], into_ratings[k] = users[row], items[row], ratings[row]
