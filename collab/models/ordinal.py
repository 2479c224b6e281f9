"""Ordinal ratings: latent normal variables, and the cut-points between which each level lies (see `BayesianFM`)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

ENDS = 1e150            # where the outer levels end: infinite, but its square is a number
WIDE = 3.0              # the deviation of cut-points before any rating
NEAREST = 1e-9          # that two cut-points come to each other
HEAVY = 4               # degrees of freedom of proposals, beside their number
TOGETHER = 12           # differences that are proposed at once, every second time, where there are more
NEWTON = 12             # steps for a new row
DEEP = -700.0           # the logarithm of the least probability that float64 holds to all digits, nearly
POLISH = 4              # steps of Newton beyond it
SMALL = 1e-290          # a probability that is not left to float64
HALF_ROOT = math.sqrt(0.5)
LOG_ROOT = math.log(2 * math.pi) / 2


class Interval(NamedTuple):
    """Intervals of a standard normal variable, `low` to `high`, and the probabilities of the tails beyond both ends, on
    that `side`, 1 or -1, on which they are small and hold all their digits; all float64, (n,) or (S, n). Where it is
    `deep` in a tail, float64 does not hold their difference, and logarithms take their place."""

    low: Tensor
    high: Tensor
    side: Tensor
    tail_low: Tensor
    tail_high: Tensor
    deep: Tensor            # bool

    @classmethod
    def of(cls, low: Tensor, high: Tensor) -> Interval:
        side = torch.copysign(torch.ones_like(low), low + high)
        tail_low, tail_high = (torch.erfc(side * end * HALF_ROOT) / 2 for end in (low, high))
        return cls(low, high, side, tail_low, tail_high, (tail_low - tail_high).abs() < SMALL)

    @classmethod
    def of_levels(cls, cuts: Tensor, classes: Tensor, scores: Tensor, roots: Tensor) -> Interval:
        """Where noise of precision `roots`^2 (n,) must lie, in its deviations, for latent ratings around `scores` (n,)
        to fall on the levels numbered `classes` (n,). Of S chains: `cuts` (S, C - 1), `scores` and `roots` (S, n)."""
        ends = padded(cuts)
        return cls.of((ends[..., classes] - scores) * roots, (ends[..., classes + 1] - scores) * roots)

    def log_probability(self) -> Tensor:
        found = (self.tail_low - self.tail_high).abs().log()
        if self.deep.any():
            wider, ratio = self._logs()
            found[self.deep] = wider + (-torch.expm1(ratio)).log()
        return found

    def draw(self) -> Tensor:
        """Draw from the normal distribution within each, by its inverse."""
        u = torch.rand_like(self.low).clamp_(min=2.0 ** -60)
        found = -self.side * torch.special.ndtri(self.tail_low + u * (self.tail_high - self.tail_low))
        if self.deep.any():
            wider, ratio = self._logs()
            share = ratio.exp() - u[self.deep] * torch.expm1(ratio)
            found[self.deep] = -self.side[self.deep] * ndtri_exp(wider + share.log())
        return found.clamp(self.low, self.high)

    def slopes(self) -> Slopes:
        """The logarithm of the probability and its derivatives by the ends."""
        value = self.log_probability()
        at_low, at_high = ((-end.square() / 2 - LOG_ROOT - value).exp() for end in (self.low, self.high))
        return Slopes(value, at_high, -at_low, at_high * (self.high + at_high), at_low * (at_low - self.low),
                      -at_low * at_high)

    def square(self) -> Tensor:
        """The mean of the square within each."""
        slopes = self.slopes()
        return 1 - self.low * slopes.low - self.high * slopes.high

    def _logs(self) -> tuple[Tensor, Tensor]:
        """Of the deep ones, the logarithm of the larger tail and that of the smaller one over it."""
        low, high = (torch.special.log_ndtr(-self.side[self.deep] * end[self.deep]) for end in (self.low, self.high))
        wider = torch.maximum(low, high)
        return wider, torch.minimum(low, high) - wider


class Slopes(NamedTuple):
    """Log probabilities of intervals, shaped as these, their derivatives, and the second ones with the sign changed."""

    value: Tensor
    high: Tensor
    low: Tensor
    high_high: Tensor
    low_low: Tensor
    low_high: Tensor


def ndtri_exp(logs: Tensor) -> Tensor:
    """The z where log Phi(z) is `logs` (n,), float64, also where Phi(z) is no float64 any more."""
    found = torch.special.ndtri(logs.exp())
    deep = (logs < DEEP).nonzero()[:, 0]
    if len(deep):
        wanted = logs[deep]
        z = -(-2 * wanted - 2 * LOG_ROOT - (-2 * wanted).log()).sqrt()
        for _ in range(POLISH):
            now = torch.special.log_ndtr(z)
            z = z - (now - wanted) * (z.square() / 2 + LOG_ROOT + now).exp()
        found[deep] = z
    return found


def padded(cuts: Tensor) -> Tensor:
    """The ends of all C levels, (..., C + 1)."""
    end = torch.full_like(cuts[..., :1], ENDS)
    return torch.cat([-end, cuts, end], -1)


def middle(n_cuts: int) -> int:
    """The number of the cut-point that stays where it is: without that, a sum added to all cut-points and to all scores
    would change nothing."""
    return n_cuts // 2


def first_cuts(counts: Tensor) -> Tensor:
    """The cut-points of C levels that occur `counts` (C,) times, for scores of 0: float64 (C - 1,)."""
    shares = (counts.double() + 0.5) / (counts + 0.5).sum()
    return torch.special.ndtri(shares.cumsum(0)[:-1])


# Drawing cut-points ------------------------------------------------------------------------------------------------

class Proposal(NamedTuple):
    """The normal distribution of log differences of cut-points that is proposed from where they are, and how likely
    these are."""

    log_density: float      # of the ratings and of the differences
    mean: Tensor            # (C - 2,)
    factor: Tensor          # the Cholesky factor of its precision

    @property
    def degrees(self) -> int:
        return HEAVY + len(self.mean)

    def draw(self) -> Tensor:
        scale = torch._standard_gamma(torch.full_like(self.mean[:1], self.degrees / 2)) / (self.degrees / 2)
        noise = torch.randn_like(self.mean) / scale.sqrt()
        return self.mean + torch.linalg.solve_triangular(self.factor.T, noise[:, None], upper=True)[:, 0]

    def log_of(self, differences: Tensor) -> float:
        """The logarithm of its density there, but for a constant."""
        apart = (self.factor.T @ (differences - self.mean)).square().sum()
        power = (self.degrees + len(self.mean)) / 2
        return (self.factor.diagonal().log().sum() - power * torch.log1p(apart / self.degrees)).item()


def draw_cuts(cuts: Tensor, classes: Tensor, scores: Tensor, roots: Tensor) -> Tensor:
    """Draw all cut-points but the `middle` one, (C - 1,) float64, given scores (n,) and roots of the precisions (n,) of
    the ratings on the levels numbered `classes` (n,), and not given the latent ratings.

    Before any rating they are C - 1 draws of N(0, WIDE^2), sorted. A step of Metropolis and Hastings proposes their log
    differences from the normal distribution that a step of Newton finds from where they are (Gamerman 1997, "Sampling
    from the posterior distribution in generalized linear mixed models"), and accepts by the likelihood of all ratings
    and the odds of proposing the way back. There is nothing to tune, and one draw hardly depends on the one before."""
    if len(cuts) < 2:
        return cuts
    before = differences_of(cuts)
    some = torch.arange(len(before), device=cuts.device)
    if len(before) > TOGETHER and torch.rand(()) < 0.5:
        some = torch.randperm(len(before), device=cuts.device)[:TOGETHER]
    here = proposal(cuts, classes, scores, roots, some)
    if here is None:
        return cuts
    after = before.index_copy(0, some, here.draw())
    chance = torch.rand((), dtype=torch.float64, device=cuts.device).log().item()
    proposed = cuts_of(after, cuts[middle(len(cuts))])
    if not (proposed.isfinite().all() and (proposed.diff() > NEAREST).all()):
        return cuts
    there = proposal(proposed, classes, scores, roots, some)
    if there is None:
        return cuts
    odds = there.log_density - here.log_density + there.log_of(before[some]) - here.log_of(after[some])
    return proposed if odds >= chance else cuts


def differences_of(cuts: Tensor) -> Tensor:
    return cuts.diff().log()


def cuts_of(differences: Tensor, fixed: Tensor) -> Tensor:
    """The cut-points (C - 1,) with these log differences (C - 2,), the middle one of which is `fixed`."""
    steps = torch.cat([torch.zeros_like(differences[:1]), differences.exp()]).cumsum(0)
    return fixed + (steps - steps[middle(len(steps))])


def proposal(cuts: Tensor, classes: Tensor, scores: Tensor, roots: Tensor, some: Tensor) -> Proposal | None:
    """What is proposed from these cut-points; None where rounding leaves nothing of it."""
    slopes, n = Interval.of_levels(cuts, classes, scores, roots).slopes(), len(cuts)

    def by_class(values: Tensor) -> Tensor:
        return torch.bincount(classes, values, minlength=n + 1).to(cuts)     # float32 where there are none
    gradient = by_class(roots * slopes.high)[:-1] + by_class(roots * slopes.low)[1:] - cuts / WIDE ** 2
    squares = roots.square()
    across = by_class(squares * slopes.low_high)[1:-1]
    curvature = torch.diag(by_class(squares * slopes.high_high)[:-1] + by_class(squares * slopes.low_low)[1:]
                           + 1 / WIDE ** 2) + torch.diag(across, 1) + torch.diag(across, -1)
    # by log differences e: c_k is fixed + or - a sum of exp(e_j)
    differences, k = differences_of(cuts), torch.arange(n, device=cuts.device)
    j, m = k[:-1], middle(n)
    moved = ((k[:, None] > j) & (j >= m)).to(cuts) - ((k[:, None] <= j) & (j < m)).to(cuts)
    moved = moved * differences.exp()
    # at the mode, the second derivative of c by e and the Jacobian leave the identity
    precision = moved.T @ curvature @ moved + torch.eye(n - 1).to(cuts)
    factor, failed = torch.linalg.cholesky_ex(precision[some][:, some])
    if failed:
        return None
    ahead = torch.cholesky_solve((moved.T @ gradient + 1)[some, None], factor)[:, 0]
    log_density = slopes.value.sum() - cuts.square().sum() / (2 * WIDE ** 2) + differences.sum()
    return Proposal(log_density.item(), differences[some] + ahead, factor)


# New users -----------------------------------------------------------------------------------------------------------

class Solved(NamedTuple):
    """The most likely x of a new row in each of S chains, (S, width), its covariance (S, width, width), and the factor
    (S,) on the precision of its ratings."""

    x: Tensor
    covariance: Tensor
    noise: Tensor


def solve_new(design: Tensor, offsets: Tensor, weights: Tensor, classes: Tensor, cuts: Tensor, average: Tensor,
              precision: Tensor, degrees: float) -> Solved:
    """Solve a row of n ratings on the levels numbered `classes` (n,), whose latent ratings are design @ x + `offsets`
    plus noise of precision `weights` times the row's own factor, in each of S chains: `design` (S, n, width), the next
    two (S, n), `cuts` (S, C - 1), and x ~ N(average, 1 / precision) beforehand, both (S, width), all float64.

    Steps of Newton on the logarithm of the probability, which is concave (Pratt 1981), take turns with steps of EM
    for the factor, Gamma(degrees / 2, degrees / 2) beforehand, or 1 where `degrees` is 0. The covariance is that of
    the curvature at the mode (Laplace)."""
    x, noise = average, torch.ones_like(average[:, 0])
    for step in range(NEWTON + 1):
        roots = (weights * noise[:, None]).sqrt()
        interval = Interval.of_levels(cuts, classes, (design @ x[..., None])[..., 0] + offsets, roots)
        slopes = interval.slopes()
        curvature = roots.square() * (slopes.high_high + slopes.low_low + 2 * slopes.low_high)
        left = (curvature[..., None] * design).mT @ design + torch.diag_embed(precision)
        if step == NEWTON:
            break
        if degrees:
            noise = (degrees + len(classes)) / (degrees + interval.square().sum(1) / noise)
        gradient = -(roots * (slopes.high + slopes.low))[..., None, :] @ design
        x = x + torch.linalg.solve(left, gradient[:, 0] - precision * (x - average))
    return Solved(x, torch.linalg.inv(left), noise)
