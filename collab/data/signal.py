"""What ratings say beyond means and biases: how much there is for factors to learn, before any are trained."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..compiled import not_compiled

LEAST = 0.005       # signal that is assumed where there is none
STRONG = 1.0        # signal that stands out without further question
DENSE = 3e9         # multiplications of the Gram matrix of the smaller side up to which it is made
CELLS = 1 << 24     # numbers of the table for it
WORK = 5e7          # ratings times random vectors otherwise
FEWEST = 8          # random vectors
CHUNK = 1 << 20     # ratings at a time where vectors are added up without numba


class Signal(NamedTuple):
    """How far residuals of the biases agree between rows that share partners, beyond chance:

        excess = sum_{i != j} (sum_u e_ui e_uj)^2 / sum_{i != j} sum_u e_ui^2 e_uj^2 - 1

    and its standard deviation if the signs of the residuals e were random. The excess is 0 where residuals are noise,
    and grows with the fourth power of the deviation of the factors' products, and with the number of ratings."""

    excess: float
    deviation: float

    @property
    def beyond_chance(self) -> float:
        """The excess over two deviations; LEAST where there is none."""
        return max(self.excess - 2 * self.deviation, LEAST)


def signal(users: Tensor, items: Tensor, residuals: Tensor, n_users: int, n_items: int) -> Signal:
    """The `Signal` in residuals (n,) of rows of users and items (n,): exact for small tables, otherwise from random
    signs z, as the mean of |(X'X - D) z|^2 over them (Hutchinson 1990), from a fixed seed."""
    if n_users < n_items:
        users, items, n_users, n_items = items, users, n_items, n_users     # sums over i, j are of the smaller side
    e = residuals.double()
    off = _exact if n_items ** 2 * n_users <= DENSE and n_users * n_items <= CELLS else _estimated
    square = e.square()
    chance = _of_all(square, users, n_users)
    if not chance > 0:
        return Signal(0.0, 0.0)
    spread = 4 * (off(users, items, square, n_users, n_items) - _of_all(square.square(), users, n_users))
    return Signal(off(users, items, e, n_users, n_items) / chance - 1, math.sqrt(max(spread, 0.0)) / chance)


def contrast(found: Signal, users: Tensor, items: Tensor, n_users: int, n_items: int) -> float:
    """How far factors with the `Signal` in residuals of these rows (n,) stand out from noise: (s n^2 / (c U I))^(1/4),
    where s is the signal beyond chance, U users and I items have the n ratings, and c = sum c_ij^2 / sum c_ij of the
    numbers c_ij of partners that two rows share. Of one factor whose products have f times the deviation of the noise,
    s is c f^4; below a contrast of 1 its singular value cannot be told from those of noise (Baik, Ben Arous, Peche
    2005). Infinite for a signal of at least STRONG, for which c is not counted."""
    if found.beyond_chance >= STRONG:
        return math.inf
    shared = signal(users, items, torch.ones(len(users)), n_users, n_items).excess + 1
    known = math.prod(int((torch.bincount(rows) > 0).sum()) for rows in (users, items))
    return (found.beyond_chance * len(users) ** 2 / (shared * known)) ** 0.25


def _of_all(values: Tensor, users: Tensor, n_users: int) -> float:
    """sum_{i != j} sum_u x_ui x_uj"""
    total = torch.bincount(users, weights=values, minlength=n_users)
    return (total.square().sum() - values.square().sum()).item()


def _exact(users: Tensor, items: Tensor, values: Tensor, n_users: int, n_items: int) -> float:
    """sum_{i != j} (sum_u x_ui x_uj)^2 by the Gram matrix."""
    table = torch.zeros(n_users, n_items)
    table.index_put_((users, items), values.float(), accumulate=True)
    gram = table.T @ table
    return (gram.double().square().sum() - gram.diagonal().double().square().sum()).item()


def _estimated(users: Tensor, items: Tensor, values: Tensor, n_users: int, n_items: int) -> float:
    """The same from random signs, 8 vectors at a time."""
    rounds = -(-max(FEWEST, int(WORK / len(values))) // 8)
    generator = torch.Generator().manual_seed(0)
    diagonal, x, total = torch.bincount(items, weights=values.square(), minlength=n_items), values.float(), 0.0
    for _ in range(rounds):
        z = torch.randint(0, 2, (n_items, 8), generator=generator).float() * 2 - 1
        image = _multiplied(items, users, x, _multiplied(users, items, x, z, n_users), n_items)
        total += (image.double() - diagonal[:, None] * z).square().sum().item()
    return total / (8 * rounds)


def _multiplied(rows: Tensor, columns: Tensor, values: Tensor, vectors: Tensor, n_rows: int) -> Tensor:
    """X v for 8 vectors v (columns, 8), where X has these entries."""
    into = torch.zeros(n_rows, 8)
    if not_compiled() is None:
        from .signal_kernels import multiply
        multiply(rows.numpy(), columns.numpy(), values.numpy(), vectors.numpy(), into.numpy(), (0,))
        return into
    for r, c, v in zip(rows.split(CHUNK), columns.split(CHUNK), values.split(CHUNK)):
        into.index_add_(0, r, v[:, None] * vectors[c])
    return into
