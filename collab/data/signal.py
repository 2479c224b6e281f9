"""What ratings say beyond means and biases: how much there is for factors to learn, before any are trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ..compiled import not_compiled

LEAST = 0.005       # signal that is assumed where there is none
SAMPLE = 1 << 18    # ratings that are looked at where all would take too long
FAINTEST = 0.25     # contrast of no signal
DENSE = 3e9         # multiplications of the Gram matrix of the smaller side up to which it is made
CELLS = 1 << 24     # numbers of the table for it
WORK = 5e7          # ratings, or rows if these are more, times random vectors otherwise
FEWEST = 8          # random vectors
CHUNK = 1 << 20     # ratings at a time where vectors are added up without numba
ROWS = 1 << 18      # of tables at a time, where each has numbers of its own


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


Parts = Callable[[], Iterable[tuple[Tensor, Tensor, Tensor]]]
"""A table's entries a few at a time, the same ones each time: (rows of users, rows of items, values), each (n,)."""


def signal(users: Tensor, items: Tensor, residuals: Tensor, n_users: int, n_items: int) -> Signal:
    """The `Signal` in residuals (n,) of rows of users and items (n,): exact for small tables, otherwise from random
    signs z, as the mean of |(X'X - D) z|^2 over them (Hutchinson 1990), from a fixed seed."""
    return signal_of(lambda: [(users, items, residuals)], len(users), n_users, n_items)


def signal_of(parts: Parts, n: int, n_users: int, n_items: int) -> Signal:
    """`signal` of n residuals that come in parts."""
    if n_users < n_items:               # sums over i, j are of the smaller side
        return signal_of(lambda: ((items, users, e) for users, items, e in parts()), n, n_items, n_users)
    squares = sum(e.double().square().sum().item() for _, _, e in parts())
    unit = 2.0 ** math.frexp(math.sqrt(squares / max(1, n)))[1]     # of any unit: squares of squares are added up

    def values(power: int) -> Parts:
        return lambda: ((users, items, (e.double() / unit) ** power) for users, items, e in parts())
    off = _off(n_users, n_items)
    chance = _of_all(values(2), n_users)
    if not chance > 0:
        return Signal(0.0, 0.0)
    spread = 4 * (off(values(2), n, n_users, n_items) - _of_all(values(4), n_users))
    return Signal(off(values(1), n, n_users, n_items) / chance - 1, math.sqrt(max(spread, 0.0)) / chance)


def contrast(found: Signal, users: Tensor, items: Tensor, n_users: int, n_items: int,
             damping: tuple[float, float]) -> float:
    """How far factors with this `Signal` stand out from noise, in what damped biases leave of ratings, at rows (n,):

        (s / c)^(1/4) sqrt(n) / (sqrt(U) + sqrt(I))

    where U users and I items have the n ratings, c = sum c_ij^2 / sum c_ij of the numbers c_ij of partners that two
    rows share, and s is the signal over two deviations without what the biases' own fit makes: it leaves two residuals
    of a row with n_r ratings a covariance of -sigma^2 / (n_r + damping). For one factor it is the largest singular
    value that it has over the largest of noise. At least FAINTEST. Partners are counted for `some` of the rows."""
    counts = torch.bincount(users, minlength=n_users), torch.bincount(items, minlength=n_items)
    return contrast_of(found, lambda: [(users, items, users)], counts, damping)


def contrast_of(found: Signal, parts: Parts, counts: tuple[Tensor, Tensor], damping: tuple[float, float]) -> float:
    """`contrast` for ratings that come in parts, of users and items with these numbers of ratings by row, int64."""
    if len(counts[0]) < len(counts[1]):
        return contrast_of(found, lambda: ((items, users, e) for users, items, e in parts()), counts[::-1],
                           damping[::-1])
    edge = sum(math.sqrt(int((own > 0).sum())) for own in counts)
    root = math.sqrt(n := int(counts[0].sum()))
    users, items, _, share = sample(parts, n, len(counts[0]))
    weights = (counts[0][users] + damping[0]).double().rsqrt()
    (users, n_users), (items, n_items) = (renumbered(rows) for rows in (users, items))
    off = _off(n_users, n_items)

    def whole(x: Tensor) -> float:
        """sum_{i != j} (sum_u x_ui x_uj)^2 of all users, from a share of them."""
        seen = off(lambda: [(users, items, x)], len(x), n_users, n_items, WORK / 4)
        return (seen - (1 - share) * _of_all(lambda: [(users, items, x.square())], n_users)) / share ** 2
    ones = torch.ones(len(users), dtype=torch.float64)
    if not (pairs := _of_all(lambda: [(users, items, ones)], n_users) / share) > 0:
        return FAINTEST
    s = max(found.excess - 2 * found.deviation - whole(weights) / pairs, 0.0)
    return max((s / (whole(ones) / pairs)) ** 0.25 * root / edge, FAINTEST)


def sample(parts: Parts, n: int, n_users: int, most: int | None = None) -> tuple[Tensor, Tensor, Tensor, float]:
    """(users, items, values, share): those of n ratings that are of some of the users at random, always the same, and
    the share of users: about `most` ratings, by default SAMPLE, for what takes too long for more."""
    most = SAMPLE if most is None else most
    if (share := most / n) >= 1:
        users, items, values = map(torch.cat, zip(*parts()))
        return users, items, values, 1.0
    chosen = torch.rand(n_users, generator=torch.Generator().manual_seed(0)) < share
    kept: list[Tensor] = []
    size = 0
    for part in parts():
        mine = chosen[part[0]].nonzero()[:, 0]
        if not kept or size + len(mine) > len(kept[0]):     # room for more at once: small pieces would scatter the heap
            kept = [torch.cat([*(k[:size] for k in kept[j:j + 1]), t.new_empty(size + len(mine) + most)])
                    for j, t in enumerate(part)]
        for into, t in zip(kept, part):
            into[size:size + len(mine)] = t[mine]
        size += len(mine)
    users, items, values = (t[:size] for t in kept)
    return users, items, values, share


def renumbered(rows: Tensor) -> tuple[Tensor, int]:
    """Rows (n,) as numbers from 0 without gaps, and how many there are."""
    known, numbers = torch.unique(rows, return_inverse=True)
    return numbers, len(known)


def _off(n_users: int, n_items: int) -> Callable[..., float]:
    return _exact if n_items ** 2 * n_users <= DENSE and n_users * n_items <= CELLS else _estimated


def _of_all(parts: Parts, n_users: int) -> float:
    """sum_{i != j} sum_u x_ui x_uj"""
    total, squares = torch.zeros(n_users, dtype=torch.float64), 0.0
    for users, _, values in parts():
        total += torch.bincount(users, weights=values, minlength=n_users)
        squares += values.square().sum().item()
    return total.square().sum().item() - squares


def _exact(parts: Parts, n: int, n_users: int, n_items: int, work: float = WORK) -> float:
    """sum_{i != j} (sum_u x_ui x_uj)^2 by the Gram matrix."""
    table = torch.zeros(n_users, n_items)
    for users, items, values in parts():
        table.index_put_((users, items), values.float(), accumulate=True)
    gram = table.T @ table
    return (gram.double().square().sum() - gram.diagonal().double().square().sum()).item()


def _estimated(parts: Parts, n: int, n_users: int, n_items: int, work: float = WORK) -> float:
    """The same from random signs, 8 vectors at a time."""
    rounds = -(-max(FEWEST, int(work / max(n, n_users + n_items))) // 8)
    generator = torch.Generator().manual_seed(0)
    diagonal, total = torch.zeros(n_items, dtype=torch.float64), 0.0
    for _, items, values in parts():
        diagonal += torch.bincount(items, weights=values.square(), minlength=n_items)
    for _ in range(rounds):
        z = torch.empty(n_items, 8).random_(0, 2, generator=generator).mul_(2).sub_(1)
        seen, image = torch.zeros(n_users, 8), torch.zeros(n_items, 8)
        for users, items, values in parts():
            _multiply(users, items, values.float(), z, seen)
        for users, items, values in parts():
            _multiply(items, users, values.float(), seen, image)
        for own in zip(image.split(ROWS), diagonal.split(ROWS), z.split(ROWS)):
            total += (own[0].double() - own[1][:, None] * own[2]).square().sum().item()
    return total / (8 * rounds)


def _multiply(rows: Tensor, columns: Tensor, values: Tensor, vectors: Tensor, into: Tensor) -> None:
    """Add X v to `into` (n_rows, 8), for 8 vectors v (columns, 8), where X has these entries."""
    if not_compiled() is None:
        from .signal_kernels import multiply
        multiply(rows.numpy(), columns.numpy(), values.numpy(), vectors.numpy(), into.numpy(), (0,))
        return
    for r, c, v in zip(rows.split(CHUNK), columns.split(CHUNK), values.split(CHUNK)):
        into.index_add_(0, r, v[:, None] * vectors[c])
