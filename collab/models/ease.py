"""EASE: an item-to-item model that is solved at once."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from ..data.interactions import Interactions
from ..numerics import products
from ..ragged import Ragged
from .base import CollabModel, Scorer, Side
from .kept_rows import MAX_NUMBERS, KeptRows
from .solved import SolvedModel, check_rows

MAX_ITEMS = 50_000          # at some 30 bytes per pair of items, 75 GB while solving


@contextmanager
def _room_for(n_items: int) -> Iterator[None]:
    """Raise ValueError where memory is too small, in place of torch's allocation error."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("memory|alloc", str(error)):
            raise
        raise ValueError(f"EASE over {n_items:,} items needs some {30 * n_items ** 2 / 1e9:,.0f} GB while it is solved "
                         f"({4 * n_items ** 2 / 1e9:,.0f} GB after), more than this machine has; leave out "
                         "rarely rated items, or take ALS, which has no table of n_items^2") from None


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
    Memory is 4 n_items^2 bytes, and some 8 times that while solving, in float64; above 50,000 items, or where memory
    is too small for fewer, ValueError is raised. `set_interactions` keeps the histories that users are scored from;
    row 0, the unknown user, and users without ratings have the average history."""

    def __init__(self, n_items: int, reg: float = 300.0, dropout: float = 0.0, user_power: float = 0.0,
                 implicit: bool = True):
        super().__init__()
        if n_items > MAX_ITEMS:
            raise ValueError(f"n_items={n_items:,} is too many for EASE, whose weights are a table of n_items^2 (at "
                             f"most {MAX_ITEMS:,}); leave out rarely rated items, or take ALS, which has no such table")
        if not 0 < reg < math.inf:
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
        made = copy.deepcopy(self)
        made.set_interactions(interactions)
        return made

    # Solving -----------------------------------------------------------------------------------------------------

    @_in_memory
    def prepare(self, users: Tensor, items: Tensor, ratings: Tensor) -> Tensor:
        """G = X' diag(w) X of rows and ratings of shape (n,), (n_items, n_items) float64, in bounded extra memory.

        Raises ValueError for rows that the model does not have. Keeps the histories, see `set_interactions`."""
        users, items, ratings = users.to(self.weight.device), items.to(self.weight.device), ratings.to(self.weight)
        check_rows(users, items, ratings, int(users.max()) + 1 if len(users) else 0, len(self.weight))
        n_users, n_items = int(users.max()) + 1, len(self.weight)
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
    def sweep(self, prepared: Tensor) -> None:
        """Solve for the weights, and replace them at the end."""
        ridged = prepared[1:, 1:].clone()
        ridged.diagonal().add_(self._ridge(prepared)[1:])
        factor, info = torch.linalg.cholesky_ex(ridged)
        if info:
            raise ValueError(f"X'X + reg I is singular; raise reg={self.reg}")
        del ridged
        inverse = torch.cholesky_inverse(factor)
        del factor
        inverse /= -inverse.diagonal().clone()       # column i by P_ii, so that column i of B is that of target i
        inverse.fill_diagonal_(0.0)
        self.weight[1:, 1:] = inverse.T.float()
        self.weight[:, 0] = 0.0
        self.weight[0] = self.weight[1:].mean(0)

    def solve(self, users: Tensor, items: Tensor, ratings: Tensor) -> EASE:
        """`set_interactions` and solve, for use without a learner."""
        n_users = int(users.max()) + 1 if len(users) else 1
        self.set_interactions(Interactions(users, items, ratings, n_users, len(self.weight)))
        self.sweep(self.prepare(users, items, ratings))
        return self

    @torch.no_grad()
    def loss(self, prepared: Tensor) -> float:
        """The whole objective, in float64: tr((I - B)' G (I - B)) + the penalties."""
        b = self.weight[1:, 1:].double().T
        rest = torch.eye(len(b), dtype=b.dtype, device=b.device) - b
        fit = (rest * (prepared[1:, 1:] @ rest)).sum()
        return (fit + (self._ridge(prepared)[1:, None] * b.square()).sum()).item()

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
