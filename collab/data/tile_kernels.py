"""The kernels of `TiledBatches`: ratings arranged by tile, and taken in another order."""

from __future__ import annotations

from typing import Any

import numba

compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")


@compiled
def number(users: Any, items: Any, user_block: int, item_block: int, tiles: Any, counts: Any) -> None:
    """Write the tile of each rating, the blocks of items being numbered within those of users, and how many ratings
    each tile has: `counts` (blocks of users, blocks of items). Rows outside the tables, which the model refuses, count
    as of the outermost blocks."""
    per_user, per_item, (n_users, n_items) = 1 / user_block, 1 / item_block, counts.shape
    for k in range(len(tiles)):
        user = min(max(int((users[k] + 0.5) * per_user), 0), n_users - 1)       # quotients, without division
        item = min(max(int((items[k] + 0.5) * per_item), 0), n_items - 1)
        tiles[k] = user * n_items + item
        counts[user, item] += 1


@compiled
def arrange(users: Any, items: Any, ratings: Any, tiles: Any, ends: Any, into_users: Any, into_items: Any,
            into_ratings: Any) -> None:
    """Write the ratings in the order of their tiles, stably; `ends` (tiles,) holds where those of each tile begin, and
    is moved to where they end."""
    for k in range(len(tiles)):
        place = ends[tiles[k]]
        into_users[place], into_items[place], into_ratings[place] = users[k], items[k], ratings[k]
        ends[tiles[k]] = place + 1


@compiled
def take(users: Any, items: Any, ratings: Any, order: Any, into_users: Any, into_items: Any,
         into_ratings: Any) -> None:
    """Write the ratings in an order."""
    for k in range(len(order)):
        row = order[k]
        into_users[k], into_items[k], into_ratings[k] = users[row], items[row], ratings[row]
