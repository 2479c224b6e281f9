"""Equations: a new user's vector from their ratings alone, and what each rating adds to it."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ..models.dot_form import DotForm, Ridge
from .fold_in_ratings import Problem, newton, problem_of

LEAST = 1e-6        # of the score before a range: what adds less raises nothing


class Equations:
    """All that solving a new user's vector takes: `form` holds the items and, in row 0 of its users, to whom new ones
    are pulled; `ridge` says how strongly; `pull` is the part of the loss terms (`fold_in_terms`)."""

    def __init__(self, form: DotForm, ridge: Ridge, pull: Tensor | None = None):
        self.form, self.ridge, self.pull = form, ridge, pull

    def solve(self, items: Tensor, ratings: Tensor) -> Tensor:
        """[p, b] (without biases p), float64 (width,), of a user who gave the rows `items` (n,) these ratings (n,);
        for implicit data strengths above 0."""
        return newton(self._problem(items, ratings))[0]

    @torch.no_grad()
    def reasons(self, items: Tensor, ratings: Tensor, chosen: Tensor) -> Tensor:
        """For each of the rows `chosen` (k,), the liked item that raises its score most above the average user's, int64
        (k,) on the CPU, or 0 where none does: see `contributions`. Liked is what is rated above the average user's
        score: what was rated lower raises the scores of what is unlike it, which nobody takes for a reason. What a
        rating adds to the user's bias raises all items alike, and does not count; nor is an item its own reason."""
        if not len(items) or not len(chosen):
            return torch.zeros(len(chosen), dtype=torch.int64)
        parts = self.contributions(items, ratings, chosen, bias=False)
        if self.ridge.alpha is None:
            problem = self._problem(items, ratings)
            parts = parts * (problem.ratings > problem.scores(problem.centre[None])[0])[0]
        return strongest(parts, items, chosen)

    @torch.no_grad()
    def contributions(self, items: Tensor, ratings: Tensor, chosen: Tensor, *, bias: bool = True) -> Tensor:
        """What each of n ratings adds to the scores of the rows `chosen`, before a range, float64 (k, n); exact, see
        `Problem.shares`: without the loss terms' part the sum is the score less the average user's. Without `bias`,
        what it adds by the factors alone."""
        problem = self._problem(items, ratings)
        design = self.form.items[chosen.to(self.form.items.device)].double()
        if self.form.u_bias is not None:
            design = torch.cat([design, torch.full_like(design[:, :1], bias)], 1)
        return design @ problem.shares(newton(problem))[0].T

    def _problem(self, items: Tensor, ratings: Tensor) -> Problem:
        device = self.form.items.device
        return problem_of(self.form, items.to(device)[None], ratings.to(device)[None],
                          torch.tensor([len(items)], device=device), self.ridge, self._all)

    @cached_property
    def _all(self) -> Tensor | None:
        """`pull` or, for implicit ALS, the sum over all items."""
        if self.ridge.alpha is None:
            return self.pull
        known = self.form.items[1:].double()
        return known.T @ known


def strongest(parts: Tensor, items: Tensor, chosen: Tensor) -> Tensor:
    """For each of `chosen` (k,), which of the rated `items` (n,) adds most to it, int64 (k,) on the CPU; 0 where none
    adds more than LEAST. `parts` (k, n) is what each adds; what an item that comes twice adds is summed."""
    rows, place = torch.unique(items.cpu(), return_inverse=True)
    parts = parts.cpu().double()
    total = parts.new_zeros(len(parts), len(rows)).index_add_(1, place, parts)
    most, best = total.masked_fill(rows == chosen.cpu()[:, None], 0.0).max(1)
    return torch.where(most > LEAST, rows[best], 0)
