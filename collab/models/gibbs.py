"""Gibbs draws of one side of a Bayesian factorisation machine (see `BayesianFM`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..ragged import Ragged
from .blocks import Block, make_blocks

STEPS = 30              # of conjugate gradients for the weights of features, at most
TOLERANCE = 1e-2        # of the residual, in the norm of the preconditioner, over that of the right side
SHAPE, RATE = 1.0, 1.0  # of the Gamma priors of all precisions
SUREST = 1e6            # the precision of a standardised rating, at most: its noise is at least a thousandth of them


@dataclass(frozen=True)
class Design:
    """The features F of one side's rows, (n_rows, n_features), sparse; those of a group share their precisions."""

    forward: Tensor         # F in csr
    backward: Tensor        # F' in csr
    squares: Tensor         # the squares of F' in csr
    group: Tensor           # int64 (n_features,)
    n_groups: int

    @classmethod
    def of(cls, features: Ragged, group: Tensor, n_groups: int) -> Design:
        """From the entries of F."""
        transposed = features.transposed(len(group))
        squares = Ragged(transposed.starts, transposed.columns, transposed.values.square())
        return cls(features.csr(len(group)), transposed.csr(len(features)), squares.csr(len(features)), group, n_groups)


class Draw(NamedTuple):
    """One side in one state of the chain: x = F beta + p, the last column being the bias."""

    x: Tensor               # (n_rows, width), width = n_factors + 1
    beta: Tensor            # (n_features, width)
    precision: Tensor       # float64 (width,): that of p
    relevance: Tensor       # float64 (n_groups, width): that of beta, by group of features
    noise: Tensor           # float64 (n_rows,): a factor on the precision of a row's ratings


class Equations(NamedTuple):
    """What the ratings say of x given the rest: row r is N(A^-1 b, A^-1), A = sum w y y' and b = sum w t y over its
    ratings, with y = [z, 1] of the other side and t the rating without the other side's bias. In float64: of ratings
    with little noise, A is so much larger than the prior's precision that float32 would lose the latter."""

    left: Tensor            # A, (n_rows, width, width)
    right: Tensor           # b, (n_rows, width)
    noisy: Tensor           # b + N(0, A), (n_rows, width)


class Rated:
    """The n ratings of one side's rows: who rated what, and where a row's ratings are, in padded blocks."""

    def __init__(self, rows: Tensor, others: Tensor, n_rows: int, width: int):
        self.rows, self.others = rows, others
        self.counts = torch.bincount(rows, minlength=n_rows)
        place = torch.arange(len(rows), dtype=torch.float64, device=rows.device)
        self.blocks = [(block.rows, block.values.long(), _inside(block).to(torch.float32))
                       for block in make_blocks(rows, others, place, n_rows, width)]

    def equations(self, targets: Tensor, weights: Tensor, other: Tensor) -> Equations:
        """The equations of all rows from the ratings `targets` (n,), the precision `weights` (n,) of each, and x of the
        other side, (n_others, width)."""
        weights = weights.clamp(max=SUREST)
        design = torch.cat([other[:, :-1], torch.ones_like(other[:, :1])], 1).double()
        wanted = targets - other[self.others, -1]
        both = torch.stack([wanted, wanted + torch.randn_like(wanted) / weights.sqrt()], 1).double()
        n, width = len(self.counts), design.shape[1]
        left, right = design.new_zeros(n, width, width), design.new_zeros(n, width, 2)
        for rows, at, inside in self.blocks:
            factors = design[self.others[at]]
            weighted = (factors * (inside * weights[at])[..., None].double()).mT
            left[rows], right[rows] = weighted @ factors, weighted @ both[at]
        return Equations(left, right[..., 0], right[..., 1])


def _inside(block: Block) -> Tensor:
    return torch.arange(block.columns.shape[1], device=block.rows.device) < block.counts[:, None]


def draw_side(side: Draw, equations: Equations, design: Design, counts: Tensor) -> Draw:
    """Draw beta without p, then x given beta, then the precisions. `counts` (n_rows,) are numbers of ratings; rows
    without any take no part, and get F beta."""
    precision, known = side.precision, counts > 0
    factor = torch.linalg.cholesky(equations.left + torch.diag(precision))
    beta = draw_weights(side, equations, factor, design)
    mean = design.forward @ beta
    noise = (factor @ torch.randn_like(equations.right)[..., None])[..., 0]
    solved = torch.cholesky_solve((equations.right + precision * mean + noise)[..., None], factor)[..., 0]
    x = torch.where(known[:, None], solved.to(mean), mean)
    squares = (x - mean).double().square().sum(0)
    return Draw(x, beta, gamma(SHAPE + known.sum() / 2, RATE + squares / 2),
                draw_relevance(beta, design.group, design.n_groups), side.noise)


def draw_weights(side: Draw, equations: Equations, factor: Tensor, design: Design) -> Tensor:
    """Draw beta given all but x: N(H^-1 h, H^-1), where P = diag(precision), `factor` is the Cholesky factor of A + P,

        H = F' M F + diag(relevance),    M = P - P (A + P)^-1 P = P (A + P)^-1 A,    h = F' P (A + P)^-1 b

    The draw solves H beta = h + N(0, H) by conjugate gradients from the last one (Papandreou and Yuille 2010), to
    TOLERANCE or in STEPS: so much less than the draw varies is left of the error."""
    precision, held = side.precision, side.relevance[design.group]
    held = held.to(side.beta)
    own = torch.randn_like(equations.right) * precision.sqrt()
    pulled = torch.cholesky_solve((equations.noisy + own)[..., None], factor)[..., 0]
    right = design.backward @ (precision * pulled - own).to(side.x) + held.sqrt() * torch.randn_like(side.beta)
    middle = precision[:, None] * torch.cholesky_solve(equations.left, factor)
    middle = ((middle + middle.mT) / 2).to(side.x)
    scale = 1 / (design.squares @ torch.diagonal(middle, dim1=1, dim2=2).contiguous() + held)

    def image(v: Tensor) -> Tensor:
        return design.backward @ (middle @ (design.forward @ v)[..., None])[..., 0] + held * v
    beta = side.beta
    residual = right - image(beta)
    scaled = scale * residual
    direction, size = scaled, (residual * scaled).sum()
    enough = TOLERANCE ** 2 * (right * scale * right).sum()
    for _ in range(STEPS):
        if size <= enough:
            break
        ahead = image(direction)
        length = size / (direction * ahead).sum()
        beta, residual = beta + length * direction, residual - length * ahead
        scaled = scale * residual
        new = (residual * scaled).sum()
        direction, size = scaled + new / size * direction, new
    return beta


def draw_relevance(beta: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """Draw the precisions of the groups' weights, (n_groups, width)."""
    squares = torch.zeros(n_groups, beta.shape[1], dtype=torch.float64, device=beta.device)
    squares.index_add_(0, group, beta.double().square())
    sizes = torch.bincount(group, minlength=n_groups)[:, None]
    return gamma(SHAPE + sizes / 2, RATE + squares / 2)


def draw_noise(rated: Rated, errors: Tensor, degrees: float) -> Tensor:
    """Draw what the precision is times for the ratings of each row, (n_rows,): Gamma((nu + n) / 2, (nu + sum) / 2) over
    `errors` (n,), squared and times the precision that all else gives them. A row without ratings draws from the prior.
    """
    sums = torch.zeros(len(rated.counts), dtype=torch.float64, device=errors.device)
    sums.index_add_(0, rated.rows, errors)
    return gamma((degrees + rated.counts) / 2, (degrees + sums) / 2)


def draw_precision(errors: Tensor) -> Tensor:
    """Draw the precision of all ratings from their squared errors (n,), each times its row's noise."""
    return gamma(SHAPE + len(errors) / 2, RATE + errors.sum() / 2)


def gamma(shape: Tensor | float, rate: Tensor) -> Tensor:
    """Draw from Gamma(shape, rate), in float64."""
    shape = torch.as_tensor(shape, dtype=torch.float64, device=rate.device).expand_as(rate).contiguous()
    return torch._standard_gamma(shape) / rate
