"""EASE: an item-to-item model that is solved at once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from ..data.interactions import Interactions
from ..given import is_real
from ..numerics import products
from ..ragged import Ragged
from .base import CollabModel, Scorer, Side
from .forecast import forecast
from .kept_rows import MAX_NUMBERS, KeptRows, over
from .solved import SolvedModel, check_rows

MAX_ITEMS = 50_000          # at some 20 bytes per pair of items, 50 GB while solving
REMEDY = "leave out rarely rated items, or take ALS, which has no table of n_items^2"


@contextmanager
def _room_for(n_items: int) -> Iterator[None]:
    """Raise ValueError where memory is too small, in place of torch's allocation error."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("memory|alloc", str(error)):
            raise
        raise ValueError(f"EASE over {n_items:,} items needs some {20 * n_items ** 2 / 1e9:,.0f} GB while it is solved "
                         f"({4 * n_items ** 2 / 1e9:,.0f} GB after), more than this machine has; {REMEDY}") from None


def _in_memory(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def inner(self: EASE, *args: Any) -> Any:
        with _room_for(len(self.weight)):
            return method(self, *args)
    return inner


class EASE(SolvedModel):
    """score_ui = sum over the user's history of x_uj B_ji, with the B of zero diagonal that minimises

        sum_u w_u |x_u - x_u B|^2 + reg |B|^2 + p / (1 - p) sum_j g_j |B_j|^2

    (Steck 2019, "Embarrassingly shallow autoencoders for sparse data", eqs. 1 and 8). With G = sum_u w_u x_u x_u' and
    P = (G + reg I + p / (1 - p) diag(G))^-1 it is B = I - P diag(1 / diag(P)). x_uj is 1 where the user rated j
    or, with `implicit` False, the rating.

    `dropout` is p, the share of a history that is left out at random, averaged over all ways to do so (Steck 2020,
    "Autoencoders that don't overfit towards the identity", eq. 6); g_j = G_jj. w_u = n_u^-`user_power`, scaled to a
    mean of 1 over ratings, gives the ratings of long histories less weight. With both at 0 it is EASE as published.

    `weight` (n_items, n_items) is B transposed: row i holds what each item of a history adds to the score of item i.
    Memory is 4 n_items^2 bytes, and 16 n_items^2 more while solving, in float64; time grows with n_items^3. Where that
    is much, `prepare` says so before it starts (`forecast`); above 50,000 items, or where memory is too small for
    fewer, ValueError is raised. `set_interactions` keeps the histories that users are scored from; row 0, the unknown
    user, and users without ratings have the average history."""

    def __init__(self, n_items: int, reg: float = 300.0, dropout: float = 0.0, user_power: float = 0.0,
                 implicit: bool = True):
        super().__init__()
        if n_items > MAX_ITEMS:
            raise ValueError(f"n_items={n_items:,} is too many for EASE, whose weights are a table of n_items^2 (at "
                             f"most {MAX_ITEMS:,}); leave out rarely rated items, or take ALS, which has no such table")
        if not is_real(reg) or not 0 < reg < math.inf:
            raise ValueError(f"reg must be a finite number above 0, got {reg!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
        self.reg, self.dropout, self.user_power, self.implicit = reg, dropout, user_power, implicit
        with _room_for(n_items):
            self.weight = nn.Parameter(torch.zeros(n_items, n_items), requires_grad=False)
        self.histories = KeptRows()

    def id_tables(self) -> dict[Side, list[Tensor]]:
        """The weights, whose row i is that of item i."""
        return {"item": [self.weight]}

    # Scores ------------------------------------------------------------------------------------------------------

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.histories.rows.dot(self.weight, items, self._or_average(users))

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        parts = [torch.zeros(0, len(items), device=self.weight.device)]
        for some in users.split(max(1, MAX_NUMBERS // len(self.weight))):
            histories = self.histories.rows.dense(self._or_average(some), len(self.weight))
            rated = torch.nonzero(histories.any(0))[:, 0]       # few columns for a single user, all for many
            few = len(rated) <= len(self.weight) // 8
            parts.append(products(histories[:, rated], self.weight[:, rated], items) if few else
                         products(histories, self.weight, items))
        return torch.cat(parts)

    def score_new(self, items: Tensor, ratings: Tensor) -> Tensor:
        items, ratings = items.to(self.weight.device), ratings.to(self.weight)
        check_rows(torch.ones_like(items), items, ratings, 2, len(self.weight))
        items, values = self._histories_of(torch.zeros_like(items), items, ratings, 1)[0]
        return products(values[None], self.weight[:, items])[0]

    def similarity(self, side: Side) -> Scorer:
        """What a rated item of `left` (m,) adds to the scores of items `right` (n,): B, shape (m, n)."""
        if side == "user":
            return super().similarity(side)
        return lambda left, right: self.weight[right][:, left].T

    def with_users(self, interactions: Interactions, kept: Tensor, fresh: Tensor,
                   solved: Callable[[], Tensor]) -> CollabModel:
        return over(self, interactions)

    # Solving -----------------------------------------------------------------------------------------------------

    @_in_memory
    def prepare(self, users: Tensor, items: Tensor, ratings: Tensor) -> Tensor:
        """G = X' diag(w) X of rows and ratings of shape (n,), (n_items, n_items) float64, in bounded extra memory.

        Raises ValueError for rows that the model does not have, and DataError where memory is too small to solve."""
        users, items, ratings = users.to(self.weight.device), items.to(self.weight.device), ratings.to(self.weight)
        check_rows(users, items, ratings, int(users.max()) + 1 if len(users) else 0, len(self.weight))
        n_users, n_items = int(users.max()) + 1, len(self.weight)
        forecast(f"EASE over {n_items:,} items", 16 * n_items ** 2, 0.8 * n_items ** 3 + 15 * len(users) * n_items,
                 users.device, REMEDY)
        histories = self._histories_of(users, items, ratings, n_users)
        users, items, values = histories.rows, histories.columns, histories.values
        counts = torch.bincount(users).double()
        scale = counts[users] ** -self.user_power
        scaled = values.double() * (scale / scale.mean())
        table = torch.sparse_coo_tensor(torch.stack([items, users]), scaled, (n_items, n_users), check_invariants=False)
        by_item = torch.argsort(items, stable=True)
        item_starts = torch.searchsorted(items[by_item], torch.arange(n_items + 1, device=items.device))
        gram = torch.empty(n_items, n_items, dtype=torch.float64, device=items.device)
        step = max(1, MAX_NUMBERS // n_users)
        for begin in range(0, n_items, step):
            end = min(begin + step, n_items)
            mine = by_item[item_starts[begin]:item_starts[end]]
            block = gram.new_zeros(n_users, end - begin)
            block[users[mine], items[mine] - begin] = values[mine].double()
            gram[:, begin:end] = torch.sparse.mm(table, block)
        return gram

    @_in_memory
    @torch.no_grad()
    def sweep(self, prepared: Tensor) -> float:
        """Solve for the weights, replace them at the end, and return the objective there.

        That is sum_j (1 / P_jj - R_j) with the ridge R: I - B = P diag(1 / diag(P)) and P (G + R) P = P, so that
        tr((I - B)' (G + R) (I - B)) = sum_j 1 / P_jj, and B has no diagonal, so that this counts R_j too much."""
        ridge = self._ridge(prepared)[1:]
        matrix = prepared[1:, 1:].clone().T         # column by column, as LAPACK works in place: no other table is made
        matrix.diagonal().add_(ridge)
        info = torch.zeros((), dtype=torch.int32, device=matrix.device)
        torch.linalg.cholesky_ex(matrix, out=(matrix, info))
        if info:
            raise ValueError(f"X'X + reg I is singular; raise reg={self.reg}")
        torch.cholesky_inverse(matrix, out=matrix)
        own = matrix.diagonal().clone()
        matrix /= -own              # column i by P_ii, so that column i of B is that of target i
        matrix.fill_diagonal_(0.0)
        self.weight[1:, 1:].copy_(matrix.T)
        self.weight[:, 0] = 0.0
        self.weight[0] = self.weight[1:].mean(0)
        return (1 / own - ridge).sum().item()

    def solve(self, users: Tensor, items: Tensor, ratings: Tensor) -> EASE:
        """`set_interactions` and solve, for use without a learner."""
        n_users = int(users.max()) + 1 if len(users) else 1
        self.set_interactions(Interactions(users, items, ratings, n_users, len(self.weight)))
        self.sweep(self.prepare(users, items, ratings))
        return self

    @torch.no_grad()
    def loss(self, prepared: Tensor) -> float:
        """The whole objective, in float64: tr((I - B)' G (I - B)) + the penalties; a few columns of B at a time."""
        gram, ridge, total = prepared[1:, 1:], self._ridge(prepared)[1:, None], prepared.new_zeros(())
        for some in torch.arange(len(gram), device=gram.device).split(max(1, MAX_NUMBERS // len(gram))):
            b = self.weight[1:, 1:][some].double().T
            rest = -b
            rest[some, some - some[0]] += 1
            total += (rest * (gram @ rest)).sum() + (ridge * b.square()).sum()
        return total.item()

    def set_interactions(self, interactions: Interactions) -> None:
        """Keep the histories of users 1 to n_users - 1: data, not part of the state dict."""
        users, items, ratings = (t.to(self.weight.device) for t in interactions[:3])
        histories = self._histories_of(users, items, ratings.to(self.weight), interactions.n_users)
        self.histories.keep(histories.averaged(len(self.weight)))

    # Inside ------------------------------------------------------------------------------------------------------

    def _ridge(self, gram: Tensor) -> Tensor:
        return self.reg + self.dropout / (1 - self.dropout) * gram.diagonal()

    def _or_average(self, users: Tensor) -> Tensor:
        """The rows of `users` in the histories: row 0, the average one, for users without ratings."""
        return torch.where(self.histories.rows.lengths(users) > 0, users, 0)

    def _histories_of(self, users: Tensor, items: Tensor, ratings: Tensor, n_users: int) -> Ragged:
        """x, one row per user: every pair once, by item; a repeated pair has the sum of its ratings."""
        return Ragged.unique(users, items, None if self.implicit else ratings, n_users, len(self.weight))
