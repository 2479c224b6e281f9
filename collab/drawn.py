"""Random numbers by row: a slice of a batch gets those that its rows would get in the whole batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Slice(NamedTuple):
    """The rows from `begin` to before `end` of a batch of `n`."""

    begin: int
    end: int
    n: int


_sliced: list[Slice] = []       # one, while a process trains on a slice of a batch


def slice_batches(rows: Slice | None) -> None:
    """Say that what is drawn from now on is for these rows of a batch, or for whole batches."""
    _sliced[:] = [] if rows is None else [rows]


def drawn_for(n: int) -> int:
    """How many rows `uniform` draws for, to give `n` their numbers."""
    mine = _mine(n)
    return n if mine is None else mine.n


def uniform(n: int, *sizes: int, device: torch.device) -> Tensor:
    """Numbers between 0 and 1 for each of `n` rows, (n, *sizes), from torch's global generator. Of a slice of a batch,
    all its rows are drawn for, so that processes with other slices draw alike, and together what one would: `n` may be
    the rows of the slice, several times as many, for items that are drawn for each, or those of the batch.

    >>> uniform(2, 3, device=torch.device("cpu")).shape
    torch.Size([2, 3])
    """
    mine = _mine(n)
    if mine is None:
        return torch.rand(n, *sizes, device=device)
    return torch.rand(mine.n, *sizes, device=device)[mine.begin:mine.end]


def _mine(n: int) -> Slice | None:
    """Which of all rows these `n` are; None where they are all of them, or of another kind."""
    if not _sliced or n == _sliced[0].n or n % (rows := _sliced[0].end - _sliced[0].begin):
        return None
    return Slice(*(n // rows * place for place in _sliced[0]))
