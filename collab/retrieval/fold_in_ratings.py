"""Fold in new users: solve their vectors against a model's frozen items. Tensors in, tensors out.

With d_j = [q_j, 1] and w = [p, b], a user with n ratings r_j gets the w that minimises

    sum_j (r_j - range(mu + b_j + w . d_j))^2 + sqrt(n) (factor_ridge |p - p_0|^2 + bias_ridge (b - b_0)^2)

where p_0, b_0 are the average user; loss terms add w' P w (see `fold_in_terms`). Without a range this is linear:
(Q'Q + lambda I) p = Q'r. With a sigmoid it is solved by damped Newton steps; ratings and range are then scaled to
RANGE, so that a ridge means the same for stars and for percentages. The ridge grows with sqrt(n) because Adam divides
gradients by their root mean square, which for a row in n of N batches grows as sqrt(n / N), so that weight decay pulls
as if it were wd sqrt(n) in the sum of squares.

Training has long histories, and its ridge for a user with few ratings believes too much from these. Where that is less
than what is known of a user before any rating (`prior`), the ridge is the latter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..models.blocks import make_blocks
from ..models.dot_form import DotForm, Ridge
from ..moved import keeps_old_names
from ..ragged import Ragged
from .ridge_search import once_each

STEPS, HALVINGS = 50, 40
TOLERANCE, ROUNDING = 1e-9, 1e-13   # of the gradient, relative to that at the average user; of the objective
SAMPLE, MAX_HISTORY = 32, 128       # users whose ratings choose the ridge, and ratings of each
RANGE = 5.0                         # the automatic range of 1 to 5 stars, half a star wider at either end
FINEST, WIDEST = 10 ** 0.5, 1e4    # the ridge is found to this factor, between 1 / WIDEST and WIDEST


class Problem(NamedTuple):
    """The equations of B users, padded to L ratings (mask 0 where padded). All float64."""

    design: Tensor      # (B, L, width)
    offset: Tensor      # (B, L): mu + b_j
    ratings: Tensor     # (B, L)
    mask: Tensor        # (B, L)
    ridge: Tensor       # (B, width, width): R, of which (w - centre)' R (w - centre) is added
    centre: Tensor      # (width,): the average user
    low: float
    span: float         # of the range; 0 for none
    pull: Tensor        # (width, width): of the loss terms

    def of(self, rows: Tensor) -> Problem:
        """The equations of some of the users."""
        return Problem(self.design[rows], self.offset[rows], self.ratings[rows], self.mask[rows], self.ridge[rows],
                       self.centre, self.low, self.span, self.pull)

    def scores(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score, first and second derivative with respect to what goes into the range, each (B, L)."""
        x = self.offset + (self.design @ w[..., None]).squeeze(-1)
        return ranged(x, self.low, self.span)

    def loss(self, w: Tensor) -> Tensor:
        """The objective of each user, (B,)."""
        error = (self.scores(w)[0] - self.ratings) * self.mask
        held = (self._held(w) * (w - self.centre)).sum(1)
        return error.square().sum(1) + held + ((w @ self.pull) * w).sum(1)

    def gradient(self, w: Tensor) -> Tensor:
        """Half the gradient of `loss`, (B, width)."""
        score, slope, _ = self.scores(w)
        inner = (score - self.ratings) * slope * self.mask
        return (inner[:, None] @ self.design).squeeze(1) + self._held(w) + w @ self.pull

    def step(self, w: Tensor, gradient: Tensor) -> Tensor:
        """The Newton step or, where the curvature is not positive, the Gauss-Newton step, which always descends."""
        score, slope, curve = self.scores(w)
        gauss = self._hessian(slope.square() * self.mask)
        if not self.span:
            return torch.linalg.solve(gauss, gradient)
        full = self._hessian((slope.square() + (score - self.ratings) * curve) * self.mask)
        factor, info = torch.linalg.cholesky_ex(full)
        if (bad := info > 0).any():
            factor[bad] = torch.linalg.cholesky(gauss[bad])
        return torch.cholesky_solve(gradient[..., None], factor).squeeze(-1)

    def shares(self, w: Tensor) -> Tensor:
        """What each rating adds to the solution `w`, (B, L, width): the sum over a user's ratings is w less the average
        user, and less what the loss terms add where the average is not 0.

        Without a range a rating adds A^-1 d_j (r_j - r_0j), where A is the left side of the equations and r_0j the
        average user's score (Hu, Koren and Volinsky 2008, section 5). With one, these are the equations of the last
        step, A = sum_j s'_j^2 d_j d_j' + ridge, which `w` solves with (s'_j d_j.(w - w_0) + r_j - s_j) / s'_j."""
        score, slope, _ = self.scores(w)
        moved = slope * (self.design @ (w - self.centre)[..., None]).squeeze(-1) + self.ratings - score
        right = self.design * (slope * moved * self.mask)[..., None]
        return torch.linalg.solve(self._hessian(slope.square() * self.mask), right.mT).mT

    def _hessian(self, weights: Tensor) -> Tensor:
        left = (self.design * weights[..., None]).mT @ self.design
        return left.add_(self.ridge).add_(self.pull)

    def _held(self, w: Tensor) -> Tensor:
        """R (w - centre), (B, width)."""
        return ((w - self.centre)[:, None] @ self.ridge).squeeze(1)


def ranged(x: Tensor, low: float, span: float) -> tuple[Tensor, Tensor, Tensor]:
    """Scores from what goes into a range of this `span` from `low` up, 0 for none, with first and second derivative."""
    if not span:
        return x, torch.ones_like(x), torch.zeros_like(x)
    s = torch.sigmoid(x)
    slope = span * s * (1 - s)
    return low + span * s, slope, slope * (1 - 2 * s)


def units(form: DotForm) -> tuple[float, float, float]:
    """(low, span, unit): the range in units of which it spans RANGE, span 0 for none; and that unit, in ratings."""
    low, high = form.y_range or (0.0, 0.0)
    unit = (high - low) / RANGE or 1.0
    return low / unit, (high - low) / unit, unit


@torch.no_grad()
def solve(form: DotForm, users: Tensor, items: Tensor, ratings: Tensor, n_users: int, ridge: Ridge,
          tolerance: float = TOLERANCE, pull: Tensor | None = None) -> Tensor:
    """[p, b] (without biases p) of `n_users` users from rows and ratings of shape (n,), float64 (n_users, width);
    `pull` is that of the loss terms (`pull_of`).

    A user without ratings gets the average user's. Exact to a gradient of `tolerance`."""
    solved = form.average.double().repeat(n_users, 1)
    for rows, problem in problems(form, users, items, ratings, n_users, ridge, pull):
        solved[rows] = newton(problem, tolerance)
    return solved


def problems(form: DotForm, users: Tensor, items: Tensor, ratings: Tensor, n_users: int, ridge: Ridge,
             pull: Tensor | None = None) -> Iterator[tuple[Tensor, Problem]]:
    """Pairs (rows of users, their equations), users with histories of similar length together."""
    device = form.items.device
    blocks = make_blocks(users.to(device), items.to(device), ratings.to(device).double(), n_users, len(form.average))
    for block in blocks:
        yield block.rows, problem_of(form, block.columns.long(), block.values, block.counts, ridge, pull)


def problem_of(form: DotForm, columns: Tensor, ratings: Tensor, counts: Tensor, ridge: Ridge,
               pull: Tensor | None = None) -> Problem:
    """The equations of B users: rows of items and ratings, (B, L), of which the first `counts` (B,) are theirs."""
    centre, biased = form.average.double(), form.u_bias is not None
    low, span, unit = units(form)
    pull = centre.new_zeros(len(centre), len(centre)) if pull is None else pull / unit ** 2
    design, ratings = form.items[columns].double(), ratings.double() / unit
    offset = torch.full(columns.shape, form.mu, dtype=torch.float64, device=columns.device)
    if biased:
        design = torch.cat([design, torch.ones_like(design[..., :1])], 2)
        assert form.i_bias is not None      # a form has both biases or neither
        offset = offset + form.i_bias[columns].double()
    if ridge.alpha is not None:     # (1 + a)(1 - x)^2 - x^2 = a (x - (1 + a) / a)^2 and a constant, beside x'Gx
        root = (ridge.alpha * ratings).sqrt()
        design, ratings = design * root[..., None], root + 1 / root
    mask = (torch.arange(columns.shape[1], device=columns.device) < counts[:, None]).double()
    scale, weight = ridge.scale(centre, biased), (counts[:, None].double() ** ridge.power).expand(-1, len(centre))
    if ridge.prior is None:
        axes = torch.diag(scale)
    else:
        axes = scale[:, None] * ridge.prior.axes.to(centre)
        weight = torch.maximum(weight, ridge.prior.least.to(centre))
    held = (axes * weight[:, None]) @ axes.T
    return Problem(design * mask[..., None], offset, ratings, mask, held, centre, low, span, pull)


def newton(problem: Problem, tolerance: float = TOLERANCE) -> Tensor:
    """Minimise each user's objective from the average user down, (B, width). A step is halved until it descends, so
    that the objective never rises. Converged users are skipped."""
    solved = problem.centre.repeat(len(problem.ratings), 1)
    gradient = problem.gradient(solved)
    left = torch.arange(len(solved), device=solved.device)
    enough = tolerance * gradient.norm(dim=1).clamp(min=1.0)
    for _ in range(STEPS if problem.span else 1):
        w, some = solved[left], problem.of(left)
        step, before = some.step(w, gradient[left]), some.loss(w)
        size = torch.ones_like(before)
        for _ in range(HALVINGS if problem.span else 0):
            rises = some.loss(w - size[:, None] * step) > before * (1 + ROUNDING)
            if not rises.any():
                break
            size = torch.where(rises, size / 2, size)
        solved[left] = w - size[:, None] * step
        gradient[left] = some.gradient(solved[left])
        left = left[gradient[left].norm(dim=1) > enough[left]]
        if not len(left):
            break
    return solved


@torch.no_grad()
def choose_ridge(form: DotForm, users: Tensor, items: Tensor, ratings: Tensor, pull: Tensor | None = None) -> Ridge:
    """The ridge with which trained users, folded in from their own training ratings, come nearest to their trained
    vectors: the least mean squared difference of their scores of all items before the range, by steps up and down of
    the factors' ridge and the bias' in turn.

    This measures the pull of training itself (its decay, its early end). The error on hidden ratings would choose too
    weak a ridge, because the items have seen those ratings. `users`, `items`, `ratings` are the training rows; the
    search takes SAMPLE users, evenly spaced."""
    users, items, ratings = users.cpu(), items.cpu(), ratings.cpu()
    known = torch.unique(users)
    sample = known[torch.linspace(0, len(known) - 1, min(SAMPLE, len(known))).long()]
    mine = torch.isin(users, sample)
    users, items, ratings = torch.searchsorted(sample, users[mine]), items[mine], ratings[mine]
    some = Ragged.of(users, items, ratings, len(sample)).first(MAX_HISTORY)
    users, items, ratings = some.rows, some.columns, some.values
    every = form.items.double()
    gram, mean = every.T @ every / len(every), every.mean(0)
    rows = sample.to(form.users.device)
    wanted = form.users[rows].double()
    if form.u_bias is not None:
        gram = torch.cat([torch.cat([gram, mean[:, None]], 1), torch.cat([mean, mean.new_ones(1)])[None]])
        wanted = torch.cat([wanted, form.u_bias[rows, None].double()], 1)

    @once_each
    def distance(ridge: Ridge) -> float:
        off = solve(form, users, items, ratings, len(sample), ridge, 1e-3, pull) - wanted
        return ((off @ gram) * off).sum().item()
    best, least, factor = Ridge(1.0, 1.0), distance(Ridge(1.0, 1.0)), 10.0
    while factor >= FINEST * 0.99:
        before = best
        for kind in ("factors", "bias")[:1 if form.u_bias is None else 2]:
            for times in (factor, 1 / factor):
                while 1 / WIDEST < (x := getattr(best, kind) * times) < WIDEST:
                    if (found := distance(next := best._replace(**{kind: x}))) >= least:
                        break
                    best, least = next, found
        factor = factor ** 0.5 if best == before else factor
    return best


keeps_old_names(__name__)
