"""ALS: matrix factorisation by alternating least squares, of ratings or of implicit choices."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..compiled import one_thread
from ..data.interactions import Interactions
from ..errors import warn
from ..given import is_real
from ..numerics import products
from .base import SIDES, CollabModel, Scorer, Side, named_tables
from .blocks import Blocks
from .dot_form import DotForm, Ridge
from .embedding import table_scorer, with_user_rows
from .layers import embedding, rows_of
from .least_squares import Histories, LeastSquares
from .row_by_row import RowByRow
from .solved import SolvedModel, check_rows

MEAN_WEIGHT = 7.0       # alpha times the mean rating


@dataclass(frozen=True)
class Arranged:
    """Training rows arranged for both halves of a sweep. Memory: some 17 bytes per rating."""

    n: int                      # ratings; of an implicit model, rated pairs
    mean: float
    by_user: Histories
    by_item: Histories

    def threads(self) -> AbstractContextManager[None]:
        """One thread of torch for a `with` where kernels have threads of their own: what torch adds to them is little,
        and its idle threads take a core from them."""
        return one_thread() if isinstance(self.by_user, RowByRow) else nullcontext()


class ALS(SolvedModel):
    """Factors x_u, y_i that minimise one of two objectives, user by user and item by item in closed form.

    `implicit` (Hu, Koren, Volinsky 2008, eqs. 3-5): a rated item is preferred (p = 1) with confidence
    c = 1 + alpha r, every other item is not (p = 0) with confidence 1. Over all pairs

        sum_ui c_ui (p_ui - x_u . y_i)^2 + reg (sum_u n_u^nu |x_u|^2 + sum_i n_i^nu |y_i|^2)

    where n_u, n_i are numbers of ratings and nu = `reg_power`: 0 in the paper, here by default 0.2 (a positive one is
    due to Rendle et al. 2021, "Revisiting the performance of iALS"). `alpha` is by default 7 over the mean rating, so
    that a click weighs as much as an average rating. These and `reg` were chosen on validation parts of MovieLens-100K;
    choose them anew for other data. The equations of a user are
    (Y'Y + Y' diag(alpha r) Y + reg n_u^nu I) x_u = Y' (1 + alpha r), the diagonal and the right side over rated items:
    Y'Y is computed once for all users. A pair rated twice counts with the sum, a pair rated 0 does not count.

    Not `implicit` (Zhou et al. 2008, with biases): score = mu + b_u + b_i + p_u . q_i over the rated pairs only,

        sum (r - score)^2 + reg (sum_u n_u^nu (s |p_u|^2 + b_u^2) + sum_i n_i^nu (s |q_i|^2 + b_i^2))

    with nu = 1 by default, mu the mean and s the deviation of the ratings (`spread`), so that ratings on another scale
    give the same predictions on that scale: with r = mu + s t it is s^2 times the same sum for t, where p = s^1/2 p_t
    and b = s b_t; p_t and b_t are solved for. [p_u, b_u] is solved jointly against rows [q_i, 1].

    A sweep goes over the items and then the users. By default their equations are solved by `cg_steps` = 3 steps of
    conjugate gradients from the previous solution (Takács, Pilászy, Tikk 2011); with cg_steps=0 exactly, by Cholesky.
    Either way the objective never rises. In float32 on a CPU compiled kernels take the steps without the equations
    (`RowByRow`); otherwise these are summed by batched products (`Blocks`). On 75,000 choices of MovieLens-100K (32
    factors, alpha 5, reg 30, nu 0) a sweep takes 2.7 ms, in batches 15, exactly 19, and the objective gets as low:
    after 15 sweeps 183,344 against 183,318. `solve_user` is always exact.

    `u_weight` (n_users, n_factors), `i_weight`, and without `implicit` `u_bias` (n_users, 1), `i_bias` and `mu` hold
    the solution, in units of the ratings; row 0 is the average of the others. `dtype` "float64" solves and keeps it in
    double precision."""

    n_sweeps = 15
    reads_tables = True
    spread: Tensor

    def __init__(self, n_factors: int, n_users: int, n_items: int, implicit: bool = True, reg: float | None = None,
                 alpha: float | None = None, reg_power: float | None = None, cg_steps: int = 3, dtype: str = "float32"):
        super().__init__()
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
        reg = (22.0 if implicit else 0.133) if reg is None else reg
        reg_power = (0.2 if implicit else 1.0) if reg_power is None else reg_power
        for name, value in (("reg", reg), ("alpha", alpha)):
            if value is not None and not (is_real(value) and 0 < value < math.inf):
                raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
        if cg_steps < 0:
            raise ValueError(f"cg_steps must be at least 1, or 0 for exact solutions, got {cg_steps!r}")
        self.config |= {"reg": reg, "reg_power": reg_power}
        self.implicit, self.reg, self.reg_power, self.cg_steps = implicit, reg, reg_power, cg_steps
        self.alpha = MEAN_WEIGHT if alpha is None else alpha
        self.ranks, self.default_loss = implicit, "preference" if implicit else "mse"
        std = 0.1 / math.sqrt(n_factors)
        self.u_weight, self.i_weight = embedding(n_users, n_factors, std), embedding(n_items, n_factors, std)
        if not implicit:
            self.u_bias, self.i_bias = embedding(n_users, 1), embedding(n_items, 1)
            self.mu = nn.Parameter(torch.zeros(()))
            self.register_buffer("spread", torch.ones(()))
        self.to(getattr(torch, dtype)).requires_grad_(False)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        dot = (self.u_weight(users) * self.i_weight(items)).sum(1)
        return dot if self.implicit else dot + self.u_bias(users)[:, 0] + self.i_bias(items)[:, 0] + self.mu

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        dot = products(self.u_weight(users), rows_of(self.i_weight, items))
        return dot if self.implicit else dot + self.u_bias(users) + self.i_bias(items).T + self.mu

    # Solving -----------------------------------------------------------------------------------------------------

    def prepare(self, users: Tensor, items: Tensor, ratings: Tensor) -> Arranged:
        """Rows of users and items and their ratings, each of shape (n,), as blocks for both halves of a sweep.

        Raises ValueError for rows that the model does not have, and, if `implicit`, for negative ratings."""
        weight = self.u_weight.weight
        users, items, ratings = users.to(weight.device), items.to(weight.device), ratings.to(weight)
        n_users, n_items = len(weight), len(self.i_weight.weight)
        check_rows(users, items, ratings, n_users, n_items)
        pair, order = torch.sort(users * n_items + items, stable=True)
        ratings = ratings[order]
        if self.implicit:
            pairs = len(torch.unique_consecutive(pair))
            pair, ratings = _strengths(pair, ratings)
            if none := pairs - len(pair):
                warn(f"{none:,} of {pairs:,} pairs have a strength of 0, and count as not chosen; leave out their "
                     "rows, or take ratings on a scale with ALS(..., implicit=False)")
            if self.config.get("alpha") is None:        # kept for folding in new users
                self.alpha = self.config["alpha"] = MEAN_WEIGHT / ratings.double().mean().item()
        mean = ratings.double().mean().to(ratings)
        if not self.implicit:
            self._take_spread(ratings)
            ratings = self._standard(ratings, mean)
        users, items = pair // n_items, pair % n_items
        return Arranged(len(pair), mean.item(), self._histories(users, items, ratings, n_users),
                        self._histories(items, users, ratings, n_items))

    @torch.no_grad()
    def sweep(self, prepared: Arranged) -> None:
        """Solve for all items, then for all users. The weights are replaced at the end, all of them at once."""
        with prepared.threads():
            before = (self._table("i"), self._table("u")) if self.cg_steps else (None, None)
            items = self._solved(prepared.by_item, self._table("u"), before[0])
            users = self._solved(prepared.by_user, items, before[1])
            users, items = self._in_ratings(users), self._in_ratings(items)
            for side, solved in (("u", users), ("i", items)):
                getattr(self, f"{side}_weight").weight.copy_(solved[:, :self.u_weight.embedding_dim])
                if not self.implicit:
                    getattr(self, f"{side}_bias").weight.copy_(solved[:, -1:])
            if not self.implicit:
                self.mu.fill_(prepared.mean)

    def solve_user(self, items: Tensor, ratings: Tensor) -> Tensor:
        """The vector of a new user from the rows they rated, shape (n,): x_u (n_factors,) or, without `implicit`,
        [p_u, b_u] (n_factors + 1,). Solves the equations of a sweep's users, exactly."""
        return self.solve_users(torch.ones_like(items), items, ratings, 2)[1]

    @torch.no_grad()
    def solve_users(self, users: Tensor, items: Tensor, ratings: Tensor, n_users: int) -> Tensor:
        """`solve_user` for rows 1 to n_users - 1 of new users: (n_users, width), zeros for users without ratings."""
        weight = self.i_weight.weight
        users, items, ratings = users.to(weight.device), items.to(weight.device), ratings.to(weight)
        check_rows(users, items, ratings, n_users, len(weight))
        if self.implicit:
            pair, order = torch.sort(users * len(weight) + items, stable=True)
            pair, ratings = _strengths(pair, ratings[order])
            users, items = pair // len(weight), pair % len(weight)
        else:
            ratings = self._standard(ratings, self.mu)
        blocks = Blocks(users, items, ratings, n_users, self._width)
        return self._in_ratings(self._solved(blocks, self._table("i")))

    def id_tables(self) -> dict[Side, list[Tensor]]:
        return named_tables(self, "weight") if self.implicit else named_tables(self, "weight", "bias")

    def scorer(self) -> Scorer:
        return table_scorer(self)

    def dot_form(self) -> DotForm:
        users, items = (self.factors(side).detach() for side in SIDES)
        if self.implicit:
            return DotForm(users, items)
        u_bias, i_bias = (self.biases(side).detach() for side in SIDES)
        return DotForm(users, items, u_bias, i_bias, self.mu.item())

    def closed_form(self) -> tuple[DotForm, Ridge]:
        form, spread = self.dot_form(), 1.0 if self.implicit else self.spread.item()
        nobody = form._replace(users=torch.zeros_like(form.users[:1]),
                               u_bias=None if form.u_bias is None else torch.zeros_like(form.u_bias[:1]))
        return nobody, Ridge(self.reg * spread, self.reg, self.reg_power, self.alpha if self.implicit else None)

    def with_users(self, interactions: Interactions, kept: Tensor, fresh: Tensor,
                   solved: Callable[[], Tensor]) -> CollabModel:
        if not self.implicit:
            return with_user_rows(self, interactions.n_users, kept, fresh, solved())
        users = interactions.users.to(fresh.device)
        mine = torch.isin(users, fresh)
        place = torch.searchsorted(fresh, users[mine]) + 1
        solution = self.solve_users(place, interactions.items[mine], interactions.ratings[mine], len(fresh) + 1)[1:]
        return with_user_rows(self, interactions.n_users, kept, fresh, solution)

    @torch.no_grad()
    def score_new(self, items: Tensor, ratings: Tensor) -> Tensor:
        solved, factors = self.solve_user(items, ratings), self.i_weight.weight
        if self.implicit:
            return products(solved[None], factors)[0]
        return products(solved[None, :-1], factors)[0] + solved[-1] + self.i_bias.weight[:, 0] + self.mu

    @torch.no_grad()
    def loss(self, prepared: Arranged) -> float:
        """The whole objective, summed in float64; the sum over all pairs is one over the Gram matrices of the sides."""
        with prepared.threads():
            users, items = (_known(self._table(side)) for side in "ui")
            shift = 0.0 if self.implicit else (self.mu - prepared.mean) / self.spread       # mu is 0 before a sweep
            total = prepared.by_user.error(self._problem(prepared.by_user, items, shift), users)
            for table, histories in ((users, prepared.by_user), (items, prepared.by_item)):
                total += (self._ridge(histories).double() * table.square().sum(1)).sum().item()
            if not self.implicit:
                return total * self.spread.item() ** 2
            return total + ((users.T @ users).double() * (items.T @ items)).sum().item()

    # Inside ------------------------------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        return self.u_weight.embedding_dim + (not self.implicit)

    def _table(self, side: str) -> Tensor:
        """The factors of one side and, without `implicit`, the bias in a last column, both for standardised ratings."""
        weight = getattr(self, f"{side}_weight").weight
        return weight if self.implicit else torch.cat([weight / self.spread.sqrt(),
                                                       getattr(self, f"{side}_bias").weight / self.spread], 1)

    def _in_ratings(self, table: Tensor) -> Tensor:
        """The result of `_table` in units of the ratings."""
        return table if self.implicit else torch.cat([table[:, :-1] * self.spread.sqrt(),
                                                      table[:, -1:] * self.spread], 1)

    def _standard(self, ratings: Tensor, mean: Tensor) -> Tensor:
        return ((ratings.double() - mean) / self.spread).to(ratings)

    @torch.no_grad()
    def _take_spread(self, ratings: Tensor) -> None:
        """Set `spread` to the deviation of these ratings (1 where they are all equal), and rescale the weights so that
        the standardised ones stay the same."""
        spread = ratings.double().std(correction=0)
        spread = torch.where(spread > 1e-6 * ratings.abs().max(), spread, 1.0).to(self.spread)
        for name, factor in (("weight", (spread / self.spread).sqrt()), ("bias", spread / self.spread)):
            for side in "ui":
                getattr(self, f"{side}_{name}").weight.mul_(factor)
        self.spread.copy_(spread)

    def _histories(self, rows: Tensor, columns: Tensor, ratings: Tensor, n_rows: int) -> Histories:
        """Histories by rows, for sweeps: compiled where there are kernels for this model, which is several times as
        fast, and otherwise by torch."""
        if self.cg_steps and RowByRow.suits(self.u_weight.weight):
            return RowByRow(rows, columns, ratings, n_rows)
        return Blocks(rows, columns, ratings, n_rows, self._width)

    def _ridge(self, histories: Histories) -> Tensor:
        """The ridge of each row, 0 where it has no ratings."""
        counts = histories.counts.to(self.u_weight.weight.dtype)
        return torch.where(counts > 0, self.reg * counts ** self.reg_power, 0.0)

    def _problem(self, histories: Histories, known: Tensor, shift: Tensor | float = 0.0) -> LeastSquares:
        """The equations of one side, the other being `known`: its vectors are the design, and without `implicit` their
        biases, with a `shift`, the offsets of the ratings, in whose place there are ones."""
        ridge = self._ridge(histories)
        if self.implicit:
            return LeastSquares(known, ridge, alpha=self.alpha, gram=known.T @ known)
        ones = torch.ones_like(known[:, :1])
        ones[0] = 0.0           # row 0 pads short histories, and must add nothing
        return LeastSquares(torch.cat([known[:, :-1], ones], 1), ridge, offset=known[:, -1] + shift)

    def _solved(self, histories: Histories, other: Tensor, before: Tensor | None = None) -> Tensor:
        """Solve one side with the `other` fixed: exactly, or by steps that begin at `before`; zeros where there are no
        ratings, and the average in row 0."""
        try:
            solved = histories.solve(self._problem(histories, _known(other)), before, self.cg_steps)
        except ArithmeticError as error:
            raise ValueError(f"{error}; raise reg={self.reg}, or build the model with dtype='float64'") from None
        solved[0] = solved[1:].mean(0)
        return solved


def _known(table: Tensor) -> Tensor:
    """The table with row 0 zeroed: the unknown row has no ratings."""
    known = table.clone()
    known[0] = 0.0
    return known


def _strengths(pair: Tensor, ratings: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted pairs, each once with the sum of its ratings, where that is above 0. Raises ValueError for negative
    ratings."""
    if (negative := ratings < 0).any():
        raise ValueError(f"{int(negative.sum())} of {len(ratings)} ratings are negative (such as "
                         f"{ratings[negative][0].item():g}); implicit=True takes counts or strengths of interest, at "
                         "least 0; for ratings on a scale build the model with implicit=False")
    pair, where = torch.unique_consecutive(pair, return_inverse=True)
    ratings = torch.zeros(len(pair), dtype=ratings.dtype, device=ratings.device).index_add_(0, where, ratings)
    if not (ratings > 0).any():
        raise ValueError("all ratings are 0: nothing was observed")
    return pair[ratings > 0], ratings[ratings > 0]
