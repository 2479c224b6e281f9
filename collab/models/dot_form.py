"""DotForm: a trained model as two tables of vectors, wherever its score is a product of a user and an item."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..numerics import MAX_NUMBERS, products, run_of
from .layers import Range, sigmoid_range

NO_BIASES = torch.zeros(0)


class DotForm(NamedTuple):
    """score(u, i) = range(mu + b_u + b_i + p_u . q_i), range a sigmoid onto `y_range` or nothing; row 0 of `users` and
    `u_bias` is the average user. The biases are None in models without them."""

    users: Tensor               # p, (n_users, n_factors)
    items: Tensor               # q, (n_items, n_factors)
    u_bias: Tensor | None = None    # (n_users,)
    i_bias: Tensor | None = None    # (n_items,)
    mu: float = 0.0
    y_range: Range | None = None
    unit: bool = False          # whether the vectors of users have length 1

    @classmethod
    def of_items(cls, users: Tensor, items: Tensor, i_bias: Tensor) -> DotForm:
        """The form of a model in which only items have biases: those of users are 0."""
        return cls(users, items, torch.zeros_like(users[:, 0]), i_bias)

    @property
    def average(self) -> Tensor:
        """[p_0, b_0] of the average user, or p_0 where there are no biases."""
        return self.users[0] if self.u_bias is None else torch.cat([self.users[0], self.u_bias[:1]])

    def item_vectors(self) -> Tensor:
        """The vectors [q_i, b_i + mu, 1], or q_i alone, that queries are multiplied with: (n_items, width)."""
        if self.i_bias is None:
            return self.items
        return torch.cat([self.items, self.i_bias[:, None] + self.mu, torch.ones_like(self.i_bias[:, None])], 1)

    def queries(self, solved: Tensor) -> Tensor:
        """The queries [p, 1, b] of vectors [p, b] (m, n_factors + 1), or p unchanged: (m, width)."""
        if self.u_bias is None:
            return solved
        return torch.cat([solved[:, :-1], torch.ones_like(solved[:, :1]), solved[:, -1:]], 1)

    def user_vectors(self) -> Tensor:
        """The queries of all user rows, (n_users, width): query . item_vector is the score before the range."""
        return self.queries(self.users if self.u_bias is None else torch.cat([self.users, self.u_bias[:, None]], 1))

    def scores(self, queries: Tensor) -> Tensor:
        """The scores of all items for queries (m, width), (m, n_items)."""
        return sigmoid_range(products(queries, self.item_vectors()), self.y_range)


class Prior(NamedTuple):
    """The prior of a user before any rating (`retrieval.prior`). In coordinates x in which a `Ridge` is n^power
    |x|^2, n^power is at least `least` (width,) along `axes`, the columns of an orthogonal matrix (width, width)."""

    axes: Tensor
    least: Tensor


class Ridge(NamedTuple):
    """How the vector [p, b] of a new user with n ratings is pulled to the average one, [p_0, b_0]: n^power times
    (factors |p - p_0|^2 + bias (b - b_0)^2) is added to the sum of squared errors; with few ratings more, by `prior`.

    With `alpha`, of implicit ALS, the sum is over all items (Hu, Koren and Volinsky 2008, eq. 3): a choice of strength
    r is a 1 that weighs 1 + alpha r, everything else a 0 that weighs 1."""

    factors: float
    bias: float
    power: float = 0.5
    alpha: float | None = None
    prior: Prior | None = None

    def scale(self, average: Tensor, biased: bool) -> Tensor:
        """sqrt(factors), and sqrt(bias) where vectors end in one, as long as `average`, float64 (width,): what [p, b]
        times these is pulled by is n^power |x|^2."""
        held = torch.full_like(average, self.factors, dtype=torch.float64)
        if biased:
            held[-1] = self.bias
        return held.sqrt()


class TableScorer:
    """The scorer of a model that is a `DotForm`: users (m,), items (n,) -> scores (m, n) float64; consecutive items
    may be a range. It can also score in float32, many times as fast and nearly as well, which is enough to tell which
    few items may be the best.

    `norm` is the length of all items' vectors taken together and `longest` that of the longest one, where they are
    known already; a negative one is not."""

    def __init__(self, form: DotForm, norm: Tensor | None = None, longest: float = -1.0):
        self.form, self._norm, self.longest = form, norm, longest

    def __call__(self, users: Tensor, items: Tensor | range) -> Tensor:
        run = run_of(items)
        return self._of(users, torch.as_tensor(items) if run is None else run)

    def of_each(self, users: Tensor, items: Tensor) -> Tensor:
        """The scores of c items of each user: users (m,), items (m, c) -> (m, c) float64."""
        if len(users) == 1:
            return self._of(users, items[0])
        form, parts = self.form, []
        step = max(1, MAX_NUMBERS // (items.shape[1] * form.items.shape[1]))
        for some, own in zip(users.split(step), items.split(step)):
            dot = torch.bmm(form.items[own].double(), form.users[some].double()[:, :, None])[:, :, 0]
            if form.u_bias is not None and form.i_bias is not None:
                dot += form.u_bias[some, None]
                dot += form.i_bias[own]
            parts.append(self._shown(dot))
        return torch.cat(parts)

    def roughly(self, users: Tensor) -> tuple[Tensor, np.ndarray]:
        """What orders the items: p . q + b_i of all items in float32, (m, n_items), and a bound on the error for each
        user, (m, 1): gamma |p, 1| |q, b| for sums in any order (Higham 2002, eq. 3.5), the latter the length of all
        items at once, and what may be lost where numbers are too small for float32.

        The scores that `__call__` gives are ordered alike, wherever these differ by more than twice the bound."""
        form = self.form
        p, n_terms = form.users.index_select(0, users), form.items.shape[1] + 2
        rough = torch.mv(form.items, p[0])[None] if len(users) == 1 else p @ form.items.T
        if self._norm is None:
            self._norm = torch.linalg.vector_norm(form.items)
        own, norm = torch.linalg.vector_norm(p, dim=1, keepdim=True).double().numpy(), self._norm.item()
        if form.i_bias is not None:
            rough += form.i_bias
            own, norm = own + 1, norm + torch.linalg.vector_norm(form.i_bias).item()
        with np.errstate(invalid="ignore"):     # inf times 0
            return rough, 1.1 * n_terms * 2.0 ** -24 * norm * own + n_terms * 2.0 ** -125

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool, float]:
        """Users, items, both biases (of length 0 where there are none), whether there are any, and mu; over the memory
        of the tables, which are on the CPU."""
        form, biased = self.form, self.form.u_bias is not None and self.form.i_bias is not None
        tables = form.users, form.items, form.u_bias if biased else NO_BIASES, form.i_bias if biased else NO_BIASES
        users, items, u_bias, i_bias = (table.detach().numpy() for table in tables if table is not None)
        return users, items, u_bias, i_bias, biased, float(form.mu)

    @cached_property
    def readable(self) -> bool:
        """Whether users and items are float32, row by row in the CPU's memory."""
        return all(table.dtype == torch.float32 and table.is_contiguous() and table.device.type == "cpu"
                   for table in self.form[:2])

    @property
    def has_rough(self) -> bool:
        """Whether float32 is what the tables hold, and what a product of them is summed in."""
        return (self.form.items.dtype == self.form.users.dtype == torch.float32 and self.form.items.device.type == "cpu"
                and torch.get_float32_matmul_precision() == "highest")

    def _of(self, users: Tensor, items: Tensor | slice) -> Tensor:
        form, p = self.form, self.form.users.index_select(0, users)
        dot = products(p, form.items[items]) if isinstance(items, slice) else products(p, form.items, items)
        if form.u_bias is not None and form.i_bias is not None:     # in place: a table of scores is large
            dot += form.u_bias.index_select(0, users)[:, None]
            dot += form.i_bias[items]
        return self._shown(dot)

    def _shown(self, dot: Tensor) -> Tensor:
        if self.form.mu:
            dot += self.form.mu
        return sigmoid_range(dot, self.form.y_range)
