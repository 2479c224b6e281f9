"""BayesianFM: a factorisation machine fitted by Gibbs sampling, which gives predictive distributions."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..compiled import one_thread
from ..given import is_real
from ..ragged import Ragged
from .base import SIDES, Scorer, Side
from .dot_form import DotForm, TableScorer
from .drawn_side import Columns, DrawnSide, Size
from .forecast import forecast
from .gibbs import SUREST, Design, Draw, Rated, draw_noise, draw_precision, draw_side
from .gibbs_compiled import CompiledDesign, CompiledRated, suits
from .habits import Habits
from .mixture import Mixture
from .solved import SolvedModel, check_rows

QUIET = 6               # sweeps before rows get a noise of their own
WARM_UP = 8             # one part in so many of the draws, the first one, is not used
MAX_NUMBERS = 1 << 22   # of users, and of items, that are gathered at a time: 16 MiB
PER_RATING, PER_NUMBER = 220, 64        # bytes that a fit takes: for a rating, and for each number of a row
MAX_PAIRS = 1 << 11     # whose distributions are made at a time
FEW = 16                # draws that tell how often ratings are expected on each level
STEPS = 3               # of EM, for the noise of a new user


Split = tuple[Tensor, Tensor, Tensor]      # of `DrawnSide.split`


class Prepared(NamedTuple):
    """The training rows arranged for sweeps: standardised ratings (n,), and both sides' ratings and features."""

    targets: Tensor
    of_users: Rated
    of_items: Rated
    designs: tuple[Design, Design]

    def errors(self, u: Draw, i: Draw) -> Tensor:
        """The squared errors of the standardised ratings, float64 (n,)."""
        return (self.targets - self.of_users.scores(u.x, i.x)).double().square()

    def threads(self) -> AbstractContextManager[None]:
        """One thread of torch for a `with` where kernels have threads of their own; sums then have the same bits."""
        return one_thread() if isinstance(self.of_users, CompiledRated) else nullcontext()


class BayesianFM(SolvedModel):
    """A factorisation machine of two sides whose weights are drawn from their posterior by Gibbs sampling:

        score = mu + b_u + b_i + x_u . z_i,    [x_u, b_u] = sum_f F_uf beta_f + p_u,    items alike

    The features F of a user are a constant, the items rated in training, each 1 / sqrt(n_u) (SVD++: Koren 2008, eq. 15;
    for both sides: Rendle, Zhang, Koren 2019, "On the difficulty of evaluating baselines"), and the metadata. p and
    beta are normal around 0, with a precision for each factor and, for beta, each column of features (automatic
    relevance determination); all precisions have the prior Gamma(1, 1). A rating is normal around its score, with
    precision alpha a_u a_i, where a_u, a_i ~ Gamma(nu / 2, nu / 2) make up for users who rate erratically and items
    that divide: `degrees` is nu, and 0 leaves them out. (Salakhutdinov, Mnih 2008; Rendle 2012, "Factorization machines
    with libFM", section 5.2.) Ratings are standardised inside, so that other scales give the same on that scale.

    A sweep of a learner is `per_epoch` sweeps of the chain, each of which draws all users and then all items, jointly
    with the weights of their features. `n_draws` states of the chain are kept: when there are as many, every second one
    is dropped, and from then on half as many are taken; those of the first eighth of the sweeps are not used. A further
    fit goes on with the chain. The random state is torch's, which a learner seeds and a checkpoint holds: on a CPU, a
    resumed chain has the same bits.

    A prediction is the mean over draws, which is one product of wide factors (`factors`). `predictive` gives the
    distribution of a rating and, with `levels`, the distinct ratings, ascending, `probabilities` that of each level.
    For rows without ratings see `DrawnSide`. Memory: 4 n_draws (n_factors + 2) bytes for each user and item, and as
    much again while scoring; in a fit some 220 bytes per rating, and for each row 64 (n_factors + 4) and
    4 (n_factors + 1)^2, half of the latter where kernels are compiled (`gibbs_compiled`; on a CPU, if there is numba):
    with these a sweep of the chain over a million ratings takes twice as long as an exact one of explicit `ALS`."""

    n_sweeps = 32
    ranks = False
    default_loss = "mse"
    unknown_row = True
    of_draws = True
    mu: Tensor
    spread: Tensor
    alpha: Tensor
    sweeps: Tensor
    each: Tensor
    kept_at: Tensor
    levels: Tensor | None

    def __init__(self, n_factors: int, n_users: int, n_items: int, users: Columns | Size | None = None,
                 items: Columns | Size | None = None, n_draws: int = 128, per_epoch: int = 8, degrees: float = 8.0,
                 history: bool = True, levels: Sequence[float] | None = None, mean: float | None = None):
        super().__init__()
        for name, value in (("n_factors", n_factors), ("n_draws", n_draws), ("per_epoch", per_epoch)):
            if not isinstance(value, numbers.Integral) or value < 1:
                raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
        if not (is_real(degrees) and (degrees == 0 or 2 < degrees < math.inf)):
            raise ValueError(f"degrees must be a finite number above 2, so that ratings have a variance, or 0 for one "
                             f"noise of all, got {degrees!r}")
        levels = None if levels is None else tuple(map(float, levels))
        if levels is not None and any(low >= high for low, high in pairwise(levels)):
            raise ValueError(f"levels must be the distinct ratings, ascending, got {levels}")
        self.config |= {"levels": levels}
        self.n_draws, self.per_epoch, self.degrees = n_draws, per_epoch, float(degrees)
        self.u = DrawnSide(n_users, n_items, n_factors, n_draws, users, history)
        self.i = DrawnSide(n_items, n_users, n_factors, n_draws, items, history)
        self.config |= {"users": users and self.u.size, "items": items and self.i.size}
        self.register_buffer("alpha", torch.ones(n_draws, dtype=torch.float64))
        self.register_buffer("mu", torch.tensor(0.0 if mean is None else mean))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("levels", None if levels is None else torch.tensor(levels), persistent=False)
        self.habits = Habits(n_users, len(levels or ()))
        self.register_buffer("sweeps", torch.tensor(0))
        self.register_buffer("each", torch.tensor(1))       # sweeps from one state that is kept to the next
        self.register_buffer("kept_at", torch.zeros(n_draws, dtype=torch.int64))    # by place: the sweep, 0 for none

    # Scores ------------------------------------------------------------------------------------------------------

    @property
    def used(self) -> Tensor:
        """The places of the draws that count, int64 (draws,); before the first sweep 0, whose draw is 0."""
        found = (self.kept_at > self.sweeps // WARM_UP).nonzero()[:, 0]
        return found if len(found) else found.new_zeros(1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        used, parts = self.used, [self.mu.new_empty(0)]
        step = max(1, MAX_NUMBERS // self.u.draws[0].numel())
        for some, others in zip(users.split(step), items.split(step)):
            x, z = self.u.draws[some[:, None], used], self.i.draws[others[:, None], used]
            score = (x[..., :-2] * z[..., :-2]).sum((1, 2)) + x[..., -2].sum(1) + z[..., -2].sum(1)
            parts.append(self.mu + self.spread * score / x.shape[1])
        return torch.cat(parts)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return self.scorer()(users, items)

    def scorer(self) -> Scorer:
        return TableScorer(self.dot_form())

    def dot_form(self) -> DotForm:
        (users, items), (u_bias, i_bias) = ([own(side) for side in SIDES] for own in (self.factors, self.biases))
        return DotForm(users, items, u_bias, i_bias, self.mu.item())

    def factors(self, side: Side) -> Tensor:
        """The factors of all draws that count beside each other, (n_rows, draws * n_factors), scaled: the product of a
        user and an item is the mean over draws of x_u . z_i, in units of the ratings."""
        x = self._side(side).draws[:, self.used, :-2]
        return (x * (self.spread / x.shape[1]).sqrt()).flatten(1).detach()

    def biases(self, side: Side) -> Tensor:
        return (self.spread * self._side(side).draws[:, self.used, -2].mean(1)).detach()

    def predictive(self, users: Tensor, items: Tensor, used: Tensor | None = None) -> Mixture:
        """How the ratings of n pairs, or of one user (1,) and n items, are distributed: a normal distribution for each
        draw, or for each of the places in `used`."""
        used = self.used if used is None else used
        parts = self.i.split(items, used)
        of_x, of_b = self.u.unsure(users, used)
        if self.u.cold[users].any():
            of_b = (of_x * parts[0].square()).sum(2) + of_b
        return self._ratings(self.u.split(users, used), of_x, of_b, parts, items, used)

    def probabilities(self, users: Tensor, items: Tensor) -> Tensor:
        """P(level) of n pairs, (n, C): that of a rating nearer to the level than to any other, times what the user's
        `Habits` make of it."""
        levels = self.rating_levels()
        pairs = zip(users.split(MAX_PAIRS), items.split(MAX_PAIRS))
        parts = [self.habits(some, self._shares(some, others, self.used)) for some, others in pairs]
        return torch.cat([self.mu.new_empty(0, len(levels)), *(part.to(self.mu) for part in parts)])

    def _shares(self, users: Tensor, items: Tensor, used: Tensor) -> Tensor:
        """`probabilities` without habits, float64."""
        levels = self.rating_levels().double()
        below = self.predictive(users, items, used).below(((levels[1:] + levels[:-1]) / 2).expand(len(users), -1))
        ends = below.new_zeros(len(users), 1)
        return torch.cat([ends, below, ends + 1], 1).diff(dim=1)

    def drawn_scorer(self, generator: torch.Generator) -> Scorer:
        """By one of the draws that count for each user; what it leaves open of rows without ratings is drawn, too."""
        places = self.used[torch.randint(len(self.used), (len(self.u.x),), generator=generator).to(self.used.device)]

        def scores(users: Tensor, items: Tensor) -> Tensor:
            found = [self.mu.new_empty(0, len(items))]
            for user in users:
                place = places[user][None]
                x = self.u.draws[user, place[0], :-1].double()
                if self.u.cold[user]:
                    of_x, of_b = self.u.unsure(user[None], place)
                    x = x + torch.cat([of_x[0, 0], of_b[0]]).sqrt() * _normal(x, generator)
                found.append(self._drawn(x, place, items, generator)[None].to(self.mu))
            return torch.cat(found)
        return scores

    @torch.no_grad()
    def score_drawn(self, items: Tensor, ratings: Tensor, generator: torch.Generator) -> Tensor:
        means, covariance, _ = self._solved(items, ratings)
        k = int(torch.randint(len(means), (), generator=generator))
        x = means[k] + torch.linalg.cholesky(covariance[k]) @ _normal(means[k], generator)
        every = torch.arange(len(self.i.x), device=self.mu.device)
        return self._drawn(x, self.used[k][None], every, generator).to(self.mu)

    def _drawn(self, x: Tensor, place: Tensor, items: Tensor, generator: torch.Generator) -> Tensor:
        """The scores (n,) of items by the draw at `place` (1,) for a user with these factors and bias, (width,)."""
        z, b, _ = (t[:, 0] for t in self.i.split(items, place))
        of_z, of_b = (t[:, 0] for t in self.i.unsure(items, place))
        open_ = (of_z * x[:-1].square()).sum(1) + of_b
        return self.mu.double() + self.spread * (z @ x[:-1] + x[-1] + b + open_.sqrt() * _normal(open_, generator))

    def rating_noise(self, side: Side) -> Tensor:
        """The mean over draws of spread / sqrt(alpha a), times the root of the mean of 1 / a over the other side's
        rows: the standard deviation of the ratings of a row around their prediction. Only the products alpha a_u a_i
        are known well: what one factor takes on over the chain, another loses."""
        if not self.degrees:
            raise self.lacks("has one noise for all, since degrees=0; train with degrees=8, the default")
        other = self.i if side == "user" else self.u
        own, theirs = (of.draws[:, self.used, -1].double() for of in (self._side(side), other))
        average = theirs[~other.cold].reciprocal().mean(0) if not other.cold.all() else 1.0
        return self.spread * (average / (self.alpha[self.used] * own)).sqrt().mean(1)

    def rating_levels(self) -> Tensor:
        if self.levels is None:
            raise self.lacks("knows of no levels of ratings to give probabilities of; predict with interval=0.9")
        return self.levels

    def _ratings(self, own: Split, of_x: Tensor, of_u: Tensor, parts: Split, items: Tensor, used: Tensor) -> Mixture:
        """The ratings of `items` (n,), with these `parts`, by n users or one with their `own`. `of_x` are the variances
        of the users' factors, `of_u` the part of the scores' variance that is the users' alone."""
        (x, b_u, a_u), (z, b_i, a_i) = own, parts
        means = (x * z).sum(2) + b_u + b_i
        variances = 1 / (self.alpha[used] * a_u * a_i) + of_u
        if len(new := self.i.cold[items].nonzero()[:, 0]):      # most are not, and add nothing
            of_z, of_i = self.i.unsure(items[new], used)
            x, of_x = (t.expand_as(z)[new] for t in (x, of_x))
            variances[new] += (of_z * (of_x + x.square())).sum(2) + of_i
        return Mixture(self.mu.double() + self.spread * means, self.spread * variances.sqrt())

    def _side(self, side: Side) -> DrawnSide:
        return self.u if side == "user" else self.i

    # The chain ---------------------------------------------------------------------------------------------------

    def prepare(self, users: Tensor, items: Tensor, ratings: Tensor) -> Prepared:
        """Rows of users and items and their ratings, each of shape (n,). Raises ValueError for rows that the model does
        not have."""
        users, items, ratings = users.to(self.mu.device), items.to(self.mu.device), ratings.to(self.mu)
        n_users, n_items, width = len(self.u.x), len(self.i.x), self.u.x.shape[1]
        check_rows(users, items, ratings, n_users, n_items)
        by_kernels = suits(self.u.x)
        per_row = PER_NUMBER * (width + 3) + (2 if by_kernels else 4) * width ** 2
        forecast(f"BayesianFM over {len(ratings):,} ratings", PER_RATING * len(ratings) + per_row * (n_users + n_items),
                 0.0, users.device, "take fewer n_factors, or dot_bias")
        order = torch.argsort(users, stable=True)
        users, items, ratings = users[order], items[order], ratings[order]
        self.mu.fill_(ratings.double().mean())
        spread = ratings.double().std(correction=0)
        self.spread.fill_(torch.where(spread > 1e-6 * ratings.abs().max(), spread, 1.0))
        rate, design = (CompiledRated, CompiledDesign) if by_kernels else (Rated, Design)
        rated = rate(users, items, n_users, width), rate(items, users, n_items, width)
        for side, own in zip((self.u, self.i), rated):
            side.cold.copy_(own.counts == 0)
        pairs = Ragged.unique(users, items, None, n_users, n_items)
        return Prepared((ratings - self.mu) / self.spread, *rated,
                        (self.u.design(pairs, design), self.i.design(pairs.transposed(n_items), design)))

    @torch.no_grad()
    def sweep(self, prepared: Prepared) -> float:
        """Take `per_epoch` sweeps of the chain; the mean sum of squared errors of the states that these begin at."""
        with prepared.threads():
            return sum(self._sweep(prepared) for _ in range(self.per_epoch)) / self.per_epoch

    @torch.no_grad()
    def loss(self, prepared: Prepared) -> float:
        """The sum of squared errors of the chain's state."""
        with prepared.threads():
            return prepared.errors(self.u.state, self.i.state).sum().item() * self.spread.item() ** 2

    @torch.no_grad()
    def finish(self, prepared: Prepared) -> None:
        """Count how the training ratings differ from the probabilities that some of the draws give them (`Habits`)."""
        if self.levels is None:
            return
        users, items = prepared.of_users.rows, prepared.of_users.others
        classes = torch.bucketize(self.mu + self.spread * prepared.targets, (self.levels[1:] + self.levels[:-1]) / 2)
        some = self.used[::math.ceil(len(self.used) / FEW)]
        self.habits.count((u, c, self._shares(u, i, some)) for u, i, c in zip(
            *(rows.split(MAX_PAIRS) for rows in (users, items, classes))))

    def _sweep(self, prepared: Prepared) -> float:
        targets, of_users, of_items, designs = prepared
        u, i, sweeps = self.u.state, self.i.state, int(self.sweeps)
        errors = prepared.errors(u, i)
        by_user = of_users.sums(errors, i.noise)
        alpha = draw_precision(len(errors), (by_user * u.noise).sum()) if sweeps else torch.ones_like(self.alpha[0])
        alpha = alpha.clamp(max=SUREST)
        if self.degrees and sweeps >= QUIET:
            u = u._replace(noise=draw_noise(of_users.counts, alpha * by_user, self.degrees))
            by_item = of_items.sums(errors, u.noise)
            i = i._replace(noise=draw_noise(of_items.counts, alpha * by_item, self.degrees))
        weights = of_users.weights(alpha * u.noise, i.noise)
        u = draw_side(u, of_users.marginal(targets, weights, i.x, u.precision), designs[0], of_users.counts)
        i = draw_side(i, of_items.marginal(targets, weights, u.x, i.precision), designs[1], of_items.counts)
        self.u.go_to(u)
        self.i.go_to(i)
        self._count(alpha)
        return errors.sum().item() * self.spread.item() ** 2

    def _count(self, alpha: Tensor) -> None:
        """Count a sweep, and keep the state of the chain where it is one of those that are kept. A place is free while
        it is written, so that nothing is used that Ctrl-C has left half done."""
        sweep = int(self.sweeps) + 1
        if sweep % int(self.each) == 0 and (self.kept_at > 0).all():
            self.kept_at[self.kept_at % (2 * self.each) > 0] = 0
            self.each.mul_(2)
        if sweep % int(self.each) == 0:
            place = int((self.kept_at == 0).nonzero()[0])
            self.u.keep(place)
            self.i.keep(place)
            self.alpha[place] = alpha
            self.kept_at[place] = sweep
        self.sweeps.fill_(sweep)

    # New users ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score_new(self, items: Tensor, ratings: Tensor) -> Tensor:
        """The mean over draws of all items' scores, (n_items,), for a new user: see `_solved`."""
        x = self._solved(items, ratings)[0]
        weights = torch.cat([x[:, :-1], torch.ones_like(x[:, :1])], 1).to(self.mu)      # the last of items' biases
        z = self.i.draws[:, self.used, :-1]
        return self.mu + self.spread * (z.flatten(1) @ weights.flatten() + x[:, -1].sum().to(self.mu)) / len(x)

    @torch.no_grad()
    def predictive_new(self, items: Tensor, ratings: Tensor, asked: Tensor) -> Mixture:
        """As `predictive`, with what the ratings leave open of the new user's x."""
        x, covariance, noise = self._solved(items, ratings)
        parts = self.i.split(asked, self.used)
        design = torch.cat([parts[0], torch.ones_like(parts[0][..., :1])], 2).transpose(0, 1)
        whole = (design @ covariance).mul_(design).sum(2).T
        alone = covariance.diagonal(dim1=1, dim2=2)[None, :, :-1]
        return self._ratings((x[None, :, :-1], x[None, :, -1], noise[None]), alone, whole, parts, asked, self.used)

    def _solved(self, items: Tensor, ratings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean (draws, width) and covariance (draws, width, width) of a new user's [x, b] in each draw, given the
        rows `items` (n,) and their `ratings` (n,), and the factor on the precision of that user's ratings, (draws,),
        whose inverse is the mean of the inverse. Before any rating, [x, b] is normal around the average user, with the
        variance that users have; which items were rated does not count. x is the most likely one, found by EM over the
        factor."""
        z, b_i, a_i = (t.transpose(0, 1) for t in self.i.split(items.to(self.mu.device), self.used))
        design = torch.cat([z, torch.ones_like(z[..., :1])], 2)
        wanted = (ratings.to(self.mu.device).double() - self.mu) / self.spread - b_i
        weights = self.alpha[self.used, None] * a_i
        prior = 1 / self.u.variance[self.used, 0].double().clamp(min=1e-12)
        average, noise = self.u.draws[0, self.used, :-1].double(), torch.ones_like(self.alpha[self.used])
        for _ in range(STEPS if self.degrees else 1):
            weighted = (weights * noise[:, None])[..., None] * design
            left = weighted.mT @ design + torch.diag_embed(prior)
            x = torch.linalg.solve(left, (weighted * wanted[..., None]).sum(1) + prior * average)
            errors = (wanted - (design @ x[..., None])[..., 0]).square() * weights
            if self.degrees:
                noise = (self.degrees + len(items)) / (self.degrees + errors.sum(1))
        if self.degrees:        # 1 / Gamma(a, b) has the mean b / (a - 1)
            noise = noise * (self.degrees + len(items) - 2) / (self.degrees + len(items))
        return x, torch.linalg.inv(left), noise


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of this shape, drawn on the CPU."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
