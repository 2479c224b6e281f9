"""LeastSquares: one half of an ALS sweep, as one small problem for each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class LeastSquares:
    """For each row of one side, the x (width,) that minimises

        sum_j [w_j (y_j . x)^2 - 2 t_j y_j . x] + x' gram x + ridge |x|^2

    over the row's ratings r_j of columns c_j, with y_j = design[c_j]. Its normal equations are
    (gram + sum_j w_j y_j y_j' + ridge I) x = sum_j t_j y_j.

    With `alpha`, of implicit choices, w = alpha r and t = 1 + alpha r; without, w = 1 and t = r - offset[c]."""

    design: Tensor              # (n_columns, width); row 0, which pads short histories, is 0
    ridge: Tensor               # (n_rows,)
    alpha: float | None = None
    offset: Tensor | None = None        # (n_columns,), without `alpha`
    gram: Tensor | None = None          # (width, width), with `alpha`: design' design

    @property
    def width(self) -> int:
        return self.design.shape[1]

    def terms(self, columns: Tensor, ratings: Tensor) -> tuple[Tensor, Tensor]:
        """w and t of these ratings, of any one shape."""
        if self.alpha is not None:
            weights = self.alpha * ratings
            return weights, 1 + weights
        assert self.offset is not None
        return torch.ones_like(ratings), ratings - self.offset[columns]

    def errors(self, columns: Tensor, ratings: Tensor, dots: Tensor) -> Tensor:
        """What each rating adds to the objective where y_j . x is `dots`: with `alpha` (1 + w) (1 - dot)^2 - dot^2,
        since dot^2 is part of the sum over all pairs; without, (t - dot)^2. Float64."""
        wanted, dots = self.terms(columns, ratings)[1].double(), dots.double()
        return (wanted - dots).square() if self.alpha is None else wanted * (1 - dots).square() - dots.square()


class Histories(Protocol):
    """The ratings of one side's rows, arranged for solving."""

    counts: Tensor      # int64 (n_rows,): the number of ratings of each row

    def solve(self, problem: LeastSquares, start: Tensor | None, steps: int) -> Tensor:
        """The solutions (n_rows, width), and 0 in rows without ratings: exact ones, or those after some steps of
        conjugate gradients from `start` (n_rows, width)."""

    def error(self, problem: LeastSquares, x: Tensor) -> float:
        """The sum over all ratings of `problem.errors`, where the rows have the vectors x (n_rows, width)."""
