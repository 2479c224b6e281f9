"""Compiled kernels: whether numba can run them here, and what a model tells them of itself.

Files of kernels (`*_kernels.py`, `simd.py`) import numba at their top, and are imported where they are used: `import
collab` does without numba. Kernels are functions of their module with `cache=True`, so that a process compiles none
that an earlier one has compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


@cache
def not_compiled() -> str | None:
    """Why kernels cannot be compiled here, in words; None where they can."""
    try:
        from numba import config
    except ImportError as error:
        return f"numba cannot be imported ({error}); pip install numba"
    return "NUMBA_DISABLE_JIT is set" if getattr(config, "DISABLE_JIT", 0) else None     # set by numba at run time


@contextmanager
def one_thread() -> Iterator[None]:
    """For the length of a `with`, torch works in one thread: its others wait busily for more, and take a core from
    threads of kernels."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


MOST_THREADS = 8        # for work that memory bounds: more wait for each other


def in_parts(part: Callable[[int, slice], object], n: int, threads: int) -> None:
    """Call `part(k, rows)` for the k-th of `threads` equal parts of `n` rows, each in a thread of its own. Torch uses
    one thread in each. Raises what one of them has raised."""
    rows = [slice(n * k // threads, n * (k + 1) // threads) for k in range(threads)]
    if threads == 1:
        part(0, rows[0])
        return
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, range(threads), rows))


class DotTables(NamedTuple):
    """The parameters of a model whose output is range(mean + user_bias + item_bias + users . items), and nothing else:
    `users` (n_users, n_factors), `items` alike, both biases (rows, 1) and `mean` () or none of these, and the limits
    of the sigmoid's range, or None."""

    users: Tensor
    items: Tensor
    user_bias: Tensor | None = None
    item_bias: Tensor | None = None
    mean: Tensor | None = None
    y_range: tuple[float, float] | None = None

    @property
    def parameters(self) -> list[Tensor]:
        """All that is there."""
        return [t for t in self[:5] if isinstance(t, Tensor)]


class RankingLoss(NamedTuple):
    """A loss over the score of each row's item and those of `n` drawn ones, that kernels know by its `name`: "bpr",
    "logistic" or "sampled_softmax". `draw` is called with the rows of users, int64, of some batches, and gives drawn
    items, int32 (rows, n). Of the last one, `offsets`, float32, are what is taken off a score over the temperature: for
    the row's item and for a drawn one, by item, and for a drawn one by user."""

    name: str
    n: int
    draw: Callable[[np.ndarray], np.ndarray]
    temperature: float = 1.0
    offsets: tuple[np.ndarray, ...] = (np.empty(0, np.float32),) * 3
