"""The kernel that finds one user's best items and writes what `ListFrames` makes a DataFrame of."""

from __future__ import annotations

from typing import Any

from ..data.text_kernels import gather
from .screening_kernels import best_list, exactly


@exactly
def list_frame(users: Any, items: Any, user_bias: Any, item_bias: Any, biased: bool, mean: float, low: float,
               high: float, rank_ranged: bool, show_ranged: bool, least: float, most: float, first: int, stop: int,
               longest: float, starts: Any, columns: Any, ids: Any, begins: Any, text: Any, user: int, whose: int,
               wide: int, room: Any, numbers: Any, found: Any, into: Any) -> int:
    """Write the ranks and `ids` of the best items of a user to `numbers` (2, k), their scores to `found` (1, k), and
    their texts to `into`, as `gather` does. Return how many bytes these take; 0 where there are fewer than k, or it
    is not certain that these are the best. The other arguments are those of `best_list`."""
    rows = numbers[1]
    if not best_list(users, items, user_bias, item_bias, biased, mean, low, high, rank_ranged, show_ranged, least, most,
                     first, stop, longest, starts, columns, user, whose, wide, room, rows, found[0]) or rows[-1] < 0:
        return 0
    size = gather(begins, text, rows, into)
    for k in range(len(rows)):
        numbers[0, k], rows[k] = k + 1, ids[rows[k]]
    return size
