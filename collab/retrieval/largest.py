"""The largest of many scores, equal ones by row: by sorting a few, or by integers that sort as scores and rows do."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

MIN_GROUP = 8               # smaller groups of columns do not pay
FEW = 1 << 15               # of so many scores topk itself is as fast
_ROW_BITS = 0xFFFFFFFF


def best_of(scores: Tensor, rows: Tensor | range, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of scores (m, n) float32, equal ones by their `rows` (n,): (rows, scores), (m, min(k, n)). Raises
    ValueError where a score is NaN."""
    best, place = (t.cpu().numpy() for t in largest(scores, min(k + 1, scores.shape[1])))
    check_numbers(best)                     # NaN counts as the largest of all
    found, kept = in_order(rows_in(rows, place[:, :k]), best[:, :k], k)
    if k < best.shape[1] and (tied := best[:, k - 1] == best[:, k]).any():      # then rows decide, of all items
        every = torch.arange(rows.start, rows.stop, device=scores.device) if isinstance(rows, range) else rows
        again = _unpacked(_keys(scores[torch.from_numpy(tied)], every).topk(k, dim=1).values)
        found[tied], kept[tied] = (t.cpu().numpy() for t in again)
    return found, kept


def rows_in(rows: Tensor | range, place: np.ndarray) -> np.ndarray:
    """The rows at these places, int64."""
    return place + rows.start if isinstance(rows, range) else rows.cpu().numpy()[place]


def in_order(rows: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k of rows and their scores, (m, n), by descending score and then by row."""
    order = np.lexsort((rows, -scores))[:, :k] + np.arange(0, rows.size, rows.shape[1])[:, None]
    return rows.take(order), scores.take(order) + 0.0       # -0.0 and 0.0 are equal, and shown alike


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(k)`, many times as fast for many columns: these are dealt into groups, of which only the k with
    the largest maxima can hold any of the k largest. Which of equal scores are found is left open."""
    n, size = scores.shape[1], math.isqrt(scores.shape[1] // k)
    if size < MIN_GROUP or scores.numel() < FEW:
        best, place = scores.topk(k, dim=1)
        return best, place
    n_groups = n // size
    whole = n_groups * size                 # the columns of a group lie n_groups apart
    groups = scores[:, :whole].unflatten(1, (size, n_groups)).amax(1).topk(k, dim=1).indices
    columns = (torch.arange(0, whole, n_groups, device=scores.device)[:, None] + groups[:, None]).flatten(1)
    rest = torch.arange(whole, n, device=scores.device).expand(len(scores), -1)
    columns = torch.cat([columns, rest], 1)
    best, place = scores.gather(1, columns).topk(k, dim=1)
    return best, columns.gather(1, place)


def check_numbers(scores: np.ndarray) -> None:
    """Raise ValueError where a score is NaN."""
    if np.isnan(scores).any():
        raise ValueError("the model's scores are not numbers (NaN): its weights are broken, and nothing can be ranked")


# A score and its row become one integer that sorts as they do: by score, then by ascending row. Floats compare
# like their bits read as integers, once the bits of negative ones are flipped.

def _keys(scores: Tensor, rows: Tensor) -> Tensor:
    bits = (scores + 0.0).view(torch.int32).long()          # + 0.0: -0.0 and 0.0 are equal
    return (torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits) << 32) | (_ROW_BITS - rows)


def _unpacked(keys: Tensor) -> tuple[Tensor, Tensor]:
    bits, rows = keys >> 32, _ROW_BITS - (keys & _ROW_BITS)
    return rows, torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).int().view(torch.float32)
