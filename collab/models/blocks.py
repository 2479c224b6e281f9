"""Blocks: the rated rows of many users (or items) as padded tables, for equations that are solved in batches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..ragged import Ragged

MAX_NUMBERS = 1 << 20       # factors gathered at a time: 4 MiB, which fit a cache
SPREAD = 1.15               # the longest history of a block over its shortest, at most


class Block(NamedTuple):
    """B rows with histories of similar length, the longest of length L."""

    rows: Tensor            # (B,) int64: whose histories these are
    columns: Tensor         # (B, L) int32: the rows they rated, padded with 0, the unknown row
    values: Tensor          # (B, L) float: the ratings, padded with 0
    counts: Tensor          # (B,) float: the lengths before padding


def make_blocks(rows: Tensor, columns: Tensor, values: Tensor, n_rows: int, width: int) -> list[Block]:
    """Cut n ratings, `values` (n,) of `columns` (n,) by `rows` (n,), into blocks, longest histories first.

    Rows are sorted by the length of their history, so that padding adds some 7%. With B x L factors of length `width`,
    or B matrices of width x width, a block takes at most MAX_NUMBERS numbers, except where a single row has more."""
    histories = Ragged.of(rows, columns.int(), values, n_rows)
    counts = histories.counts
    longest_first = torch.argsort(counts, descending=True, stable=True)[:int((counts > 0).sum())]
    falling = -counts[longest_first].double()
    blocks, begin = [], 0
    while begin < len(longest_first):
        longest = int(-falling[begin])
        alike = int(torch.searchsorted(falling, -longest / SPREAD, right=True))
        end = min(alike, begin + max(1, MAX_NUMBERS // (width * max(longest, width))))
        mine = longest_first[begin:end]
        blocks.append(Block(mine, *histories.padded(mine, longest), counts[mine].to(values.dtype)))
        begin = end
    return blocks
