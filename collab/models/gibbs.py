"""Gibbs draws of one side of a Bayesian factorisation machine (see `BayesianFM`)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..ragged import Ragged
from .blocks import MAX_NUMBERS, Block, make_blocks

STEPS = 30              # of conjugate gradients for the weights of features, at most
TOLERANCE = 1e-2        # of the residual, in the norm of the preconditioner, over that of the right side
SHAPE, RATE = 1.0, 1.0  # of the Gamma priors of all precisions
SUREST = 1e6            # the precision of a standardised rating, at most: its noise is at least a thousandth of them


class Draw(NamedTuple):
    """One side in one state of the chain: x = F beta + p, the last column being the bias."""

    x: Tensor               # (n_rows, width), width = n_factors + 1
    beta: Tensor            # (n_features, width)
    precision: Tensor       # float64 (width,): that of p
    relevance: Tensor       # float64 (n_groups, width): that of beta, by group of features
    noise: Tensor           # float64 (n_rows,): a factor on the precision of a row's ratings


class Marginal(NamedTuple):
    """What the ratings say of x and of beta, p being integrated out. Of row r they say that x is N(A^-1 b, A^-1), with
    A = sum w y y' and b = sum w t y over its ratings, y = [z, 1] of the other side and t the rating without the other
    side's bias. Where P = diag(precision) and S = (A + P)^-1,

        x given beta is N(S (b + P F beta), S),  M = P - P S P = P S A,  beta is N(H^-1 F' P S b, H^-1), H = F' M F + L

    L being the prior's precision. All is solved in float64: of ratings with little noise, A is so much larger than P
    that float32 would lose the latter."""

    alone: Tensor           # S b + N(0, S), (n_rows, width)
    pulled: Tensor          # P S b + N(0, M), (n_rows, width)
    middle: Tensor          # M, (n_rows, width, width), or as a `Design` of kernels has it


class Design:
    """The features F of one side's rows, (n_rows, n_features), sparse; those of a group share their precisions.

    Tables of beta and of rows may have more columns than width, which are 0 (`wide`)."""

    def __init__(self, features: Ragged, group: Tensor, n_groups: int):
        """From the entries of F; `group` int64 (n_features,)."""
        self.group, self.n_groups = group, n_groups
        transposed = features.transposed(len(group))
        squares = Ragged(transposed.starts, transposed.columns, transposed.values.square())
        self.forward, self.backward = features.csr(len(group)), transposed.csr(len(features))
        self.squares = squares.csr(len(features))

    def wide(self, table: Tensor) -> Tensor:
        """The table with as many columns as products take."""
        return table

    def ahead(self, beta: Tensor) -> Tensor:
        """F beta."""
        return self.forward @ beta

    def back(self, rows: Tensor) -> Tensor:
        """F' rows."""
        return self.backward @ rows

    def through(self, middle: Tensor, rows: Tensor) -> Tensor:
        """M_r times row r."""
        return (middle @ rows[..., None])[..., 0]

    def diagonal(self, middle: Tensor) -> Tensor:
        """The diagonal of F' M F."""
        return self.squares @ torch.diagonal(middle, dim1=1, dim2=2).contiguous()


class Rated:
    """The n ratings of one side's rows: who rated what, and where a row's ratings are, in padded blocks."""

    def __init__(self, rows: Tensor, others: Tensor, n_rows: int, width: int):
        self.rows, self.others = rows, others
        self.counts = torch.bincount(rows, minlength=n_rows)
        place = torch.arange(len(rows), dtype=torch.float64, device=rows.device)
        self.blocks = [(block.rows, block.values.long(), _inside(block).to(torch.float32))
                       for block in make_blocks(rows, others, place, n_rows, width)]
        self.order = torch.argsort(rows, stable=True)

    def scores(self, x: Tensor, other: Tensor) -> Tensor:
        """What x of this side and of the other one say of the ratings, (n,)."""
        parts, step = [x.new_empty(0)], max(1, MAX_NUMBERS // x.shape[1])
        for rows, others in zip(self.rows.split(step), self.others.split(step)):
            own, theirs = x[rows], other[others]
            parts.append((own[:, :-1] * theirs[:, :-1]).sum(1) + own[:, -1] + theirs[:, -1])
        return torch.cat(parts)

    def weights(self, own: Tensor, other: Tensor) -> Tensor:
        """The precision of each rating, the product of its row's and the other side's, float32 (n,)."""
        return (own[self.rows] * other[self.others]).clamp(max=SUREST).float()

    def sums(self, errors: Tensor, other: Tensor) -> Tensor:
        """The sums by row of `errors` (n,), each times the other side's factor; float64 (n_rows,)."""
        sums = torch.zeros(len(self.counts), dtype=torch.float64, device=errors.device)
        return sums.index_add_(0, self.rows, errors.double() * other[self.others])

    def marginal(self, targets: Tensor, weights: Tensor, other: Tensor, precision: Tensor) -> Marginal:
        """What ratings with `targets` (n,) and precisions `weights` (n,) say, beside x of the other side, (n_others,
        width), and the `precision` of p."""
        noises, own, free = normal(self, other)
        design = torch.cat([other[:, :-1], torch.ones_like(other[:, :1])], 1).double()
        noise, wanted = torch.empty_like(noises), targets - other[self.others, -1]
        noise[self.order] = noises
        both = torch.stack([wanted, wanted + noise / weights.sqrt()], 1).double()
        own, free = own.double() * precision.sqrt(), free.double()
        alone, pulled = free / precision.sqrt(), torch.zeros_like(own)        # of rows without ratings
        middle = other.new_zeros(*own.shape, own.shape[1])
        for rows, at, inside in self.blocks:
            factors = design[self.others[at]]
            weighted = (factors * (inside * weights[at])[..., None].double()).mT
            right = weighted @ both[at]
            right[..., 1] += own[rows]
            factor = torch.linalg.cholesky(weighted @ factors + torch.diag(precision))
            solution = torch.cholesky_inverse(factor)
            right = solution @ right
            alone[rows] = right[..., 0] + torch.linalg.solve_triangular(factor.mT, free[rows, :, None], upper=True)[
                ..., 0]
            pulled[rows] = precision * right[..., 1] - own[rows]
            middle[rows] = (torch.diag(precision) - precision[:, None] * solution * precision).to(middle)
        return Marginal(alone.to(other), pulled.to(other), middle)


def normal(rated: Rated, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standard normal numbers: for the ratings, in the order of their rows, and two for each number of x."""
    shape = len(rated.counts), other.shape[1]
    noises = torch.randn(len(rated.rows), dtype=torch.float32, device=other.device)
    own, free = (torch.randn(shape, dtype=torch.float32, device=other.device) for _ in range(2))
    return noises, own, free


def _inside(block: Block) -> Tensor:
    return torch.arange(block.columns.shape[1], device=block.rows.device) < block.counts[:, None]


def draw_side(side: Draw, marginal: Marginal, design: Design, counts: Tensor) -> Draw:
    """Draw beta without p, then x given beta, then the precisions. `counts` (n_rows,) are numbers of ratings; rows
    without any take no part, and get F beta."""
    beta, known = draw_weights(side, marginal, design), counts > 0
    mean = design.ahead(beta)
    pull = design.through(marginal.middle, mean)
    beta, mean, pull = (table[:, :side.x.shape[1]] for table in (beta, mean, pull))
    x = torch.where(known[:, None], (marginal.alone + (mean - pull / side.precision)).to(mean), mean)
    squares = (x - mean).double().square().sum(0)
    return Draw(x, beta, gamma(SHAPE + known.sum() / 2, RATE + squares / 2),
                draw_relevance(beta, design.group, design.n_groups), side.noise)


def draw_weights(side: Draw, marginal: Marginal, design: Design) -> Tensor:
    """Draw beta given all but x. The draw solves H beta = F' P S b + N(0, H) by conjugate gradients from the last one
    (Papandreou and Yuille 2010), to TOLERANCE or in STEPS: so much less than the draw varies is left of the error."""
    prior = side.relevance[design.group].to(side.beta)
    held = design.wide(prior)
    right = design.back(marginal.pulled) + design.wide(prior.sqrt() * torch.randn_like(side.beta))
    scale = design.wide(1 / (design.diagonal(marginal.middle) + prior))

    def image(v: Tensor) -> Tensor:
        return design.back(design.through(marginal.middle, design.ahead(v))).addcmul_(held, v)
    beta = design.wide(side.beta)
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


def draw_noise(counts: Tensor, sums: Tensor, degrees: float) -> Tensor:
    """Draw each row's factor on the precision of its ratings, (n_rows,): Gamma((nu + n) / 2, (nu + sum) / 2) over
    the `sums` (n_rows,) of squared errors, each times the precision that all else gives it. A row without ratings draws
    from the prior."""
    return gamma((degrees + counts) / 2, (degrees + sums) / 2)


def draw_precision(n: int, total: Tensor) -> Tensor:
    """Draw the precision of all n ratings from the sum of their squared errors, each times the noise of its rows."""
    return gamma(SHAPE + n / 2, RATE + total / 2)


def gamma(shape: Tensor | float, rate: Tensor) -> Tensor:
    """Draw from Gamma(shape, rate), in float64."""
    shape = torch.as_tensor(shape, dtype=torch.float64, device=rate.device).expand_as(rate).contiguous()
    return torch._standard_gamma(shape) / rate
