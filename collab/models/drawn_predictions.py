"""DrawnPredictions: what the draws that a chain kept say of pairs, of levels and of new users."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import SIDES, Scorer, Side
from .dot_form import DotForm, TableScorer
from .drawn_side import DrawnSide
from .graded_scorer import GradedScorer, expected_ratings
from .habits import Habits
from .mixture import Graded, Mixture, Predictive
from .ordinal import solve_new
from .solved import SolvedModel

WARM_UP = 8             # one part in so many of the draws, the first one, is not used
MAX_NUMBERS = 1 << 22   # of users, and of items, that are gathered at a time: 16 MiB
MAX_PAIRS = 1 << 11     # whose distributions are made at a time
STEPS = 3               # of EM, for the noise of a new user

Split = tuple[Tensor, Tensor, Tensor]      # of `DrawnSide.split`


class DrawnPredictions(SolvedModel):
    """The predictions of a `BayesianFM`, from the draws of both sides that it keeps. `kept_cuts` are the cut-points of
    ordinal ratings, (n_draws, C - 1); None where ratings are normal."""

    u: DrawnSide
    i: DrawnSide
    habits: Habits
    degrees: float
    mu: Tensor
    spread: Tensor
    alpha: Tensor
    sweeps: Tensor
    kept_at: Tensor
    levels: Tensor | None
    kept_cuts: Tensor | None

    @property
    def used(self) -> Tensor:
        """The places of the draws that count, int64 (draws,); before the first sweep 0, whose draw is 0."""
        found = (self.kept_at > self.sweeps // WARM_UP).nonzero()[:, 0]
        return found if len(found) else found.new_zeros(1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        if self.kept_cuts is not None:
            return self._expected(users, items)
        used, parts = self.used, [self.mu.new_empty(0)]
        step = max(1, MAX_NUMBERS // self.u.draws[0].numel())
        for some, others in zip(users.split(step), items.split(step)):
            x, z = self.u.draws[some[:, None], used], self.i.draws[others[:, None], used]
            score = (x[..., :-2] * z[..., :-2]).sum((1, 2)) + x[..., -2].sum(1) + z[..., -2].sum(1)
            parts.append(self.mu + self.spread * score / x.shape[1])
        return torch.cat(parts)

    def _expected(self, users: Tensor, items: Tensor) -> Tensor:
        """The expected ordinal ratings of n pairs, (n,); without ratings in training, by all that is unsure."""
        found, cold = self.mu.new_empty(len(users)), self.u.cold[users] | self.i.cold[items]
        assert self.kept_cuts is not None
        used, cuts, levels = self.used, self.kept_cuts[self.used], self.rating_levels()
        for rows in (~cold).nonzero()[:, 0].split(MAX_PAIRS):
            x, z = self.u.draws[users[rows, None], used], self.i.draws[items[rows, None], used]
            scores = (x[..., :-2] * z[..., :-2]).sum(2) + x[..., -2] + z[..., -2]
            found[rows] = expected_ratings(scores.T, (x[..., -1] * z[..., -1]).sqrt().T, cuts, levels,
                                           self.habits.factors[users[rows]])
        for rows in cold.nonzero()[:, 0].split(MAX_PAIRS):
            found[rows] = self.predictive(users[rows], items[rows]).mean.to(found)
        return found

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return self.scorer()(users, items)

    def scorer(self) -> Scorer:
        if self.kept_cuts is not None:
            return GradedScorer(self.u, self.i, self.used, self.kept_cuts, self.rating_levels(), self.habits.factors,
                                self)
        return TableScorer(self._product())

    def dot_form(self) -> DotForm | None:
        return self._product() if self.kept_cuts is None else None

    def _product(self) -> DotForm:
        (users, items), (u_bias, i_bias) = ([own(side) for side in SIDES] for own in (self.factors, self.biases))
        return DotForm(users, items, u_bias, i_bias, self.mu.item())

    def factors(self, side: Side) -> Tensor:
        """The factors of all draws that count beside each other, (n_rows, draws * n_factors), scaled: the product of a
        user and an item is the mean over draws of x_u . z_i, in units of the ratings."""
        x = self._side(side).draws[:, self.used, :-2]
        return (x * (self.spread / x.shape[1]).sqrt()).flatten(1).detach()

    def biases(self, side: Side) -> Tensor:
        return (self.spread * self._side(side).draws[:, self.used, -2].mean(1)).detach()

    def predictive(self, users: Tensor, items: Tensor) -> Predictive:
        """How the ratings of n pairs, or of one user (1,) and n items, are distributed: a normal distribution for each
        draw, which ordinal ratings cut into levels, whose probabilities know the user's `Habits`."""
        found = self._predictive(users, items, self.used)
        return found.weighted(self.habits.factors[users]) if isinstance(found, Graded) else found

    def _predictive(self, users: Tensor, items: Tensor, used: Tensor) -> Predictive:
        """`predictive` without habits, by the draws at the places in `used`."""
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
        parts = [self.habits(some, self.shares(some, others, self.used)) for some, others in pairs]
        return torch.cat([self.mu.new_empty(0, len(levels)), *(part.to(self.mu) for part in parts)])

    def shares(self, users: Tensor, items: Tensor, used: Tensor) -> Tensor:
        """`probabilities` without habits, float64."""
        levels = self.rating_levels().double()
        middles = ((levels[1:] + levels[:-1]) / 2).expand(len(users), -1)
        below = self._predictive(users, items, used).below(middles)
        ends = below.new_zeros(len(users), 1)
        return torch.cat([ends, below, ends + 1], 1).diff(dim=1)

    def drawn_scorer(self, generator: torch.Generator) -> Scorer:
        """By one of the draws that count for each user; what it leaves open of rows without ratings is drawn, too."""
        places = self.used[torch.randint(len(self.used), (len(self.u.x),), generator=generator).to(self.used.device)]

        def scores(users: Tensor, items: Tensor) -> Tensor:
            found = [self.mu.new_empty(0, len(items))]
            for user in users:
                place = places[user][None]
                x, noise = self.u.draws[user, place[0], :-1].double(), self.u.draws[user, place, -1]
                if self.u.cold[user]:
                    of_x, of_b = self.u.unsure(user[None], place)
                    x = x + torch.cat([of_x[0, 0], of_b[0]]).sqrt() * _normal(x, generator)
                found.append(self._drawn(x, noise, place, items, generator, user)[None].to(self.mu))
            return torch.cat(found)
        return scores

    @torch.no_grad()
    def score_drawn(self, items: Tensor, ratings: Tensor, generator: torch.Generator) -> Tensor:
        means, covariance, noise = self._solved(items, ratings)
        k = int(torch.randint(len(means), (), generator=generator))
        x = means[k] + torch.linalg.cholesky(covariance[k]) @ _normal(means[k], generator)
        every = torch.arange(len(self.i.x), device=self.mu.device)
        return self._drawn(x, noise[k][None], self.used[k][None], every, generator).to(self.mu)

    def _drawn(self, x: Tensor, noise: Tensor, place: Tensor, items: Tensor, generator: torch.Generator,
               user: Tensor | None = None) -> Tensor:
        """The scores (n,) of items by the draw at `place` (1,) for a user with these factors and bias, (width,), and
        this noise, (1,)."""
        z, b, a = (t[:, 0] for t in self.i.split(items, place))
        of_z, of_b = (t[:, 0] for t in self.i.unsure(items, place))
        open_ = (of_z * x[:-1].square()).sum(1) + of_b
        scores = z @ x[:-1] + x[-1] + b + open_.sqrt() * _normal(open_, generator)
        if self.kept_cuts is None:
            return self.mu.double() + self.spread * scores
        habits, roots = self.habits.factors[:1] if user is None else self.habits.factors[user][None], noise.double() * a
        return expected_ratings(scores[None], roots.sqrt()[None], self.kept_cuts[place], self.rating_levels(), habits)

    def rating_noise(self, side: Side) -> Tensor:
        """The mean over draws of spread / sqrt(alpha a), times the root of the mean of 1 / a over the other side's
        rows: the standard deviation of the ratings of a row around their prediction. Only the products alpha a_u a_i
        are known well: what one factor takes on over the chain, another loses."""
        if self.kept_cuts is not None:
            raise self.lacks("has the noise of latent ratings, not of ratings; train with likelihood='normal'")
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

    def nearest_level(self, ratings: Tensor) -> Tensor:
        """The number of the level nearest to each rating."""
        levels = self.rating_levels()
        return torch.bucketize(ratings, (levels[1:] + levels[:-1]) / 2)

    def _ratings(self, own: Split, of_x: Tensor, of_u: Tensor, parts: Split, items: Tensor,
                 used: Tensor) -> Predictive:
        """The ratings of `items` (n,), with these `parts`, by n users or one with their `own`. `of_x` are the variances
        of the users' factors, `of_u` the part of the scores' variance that is the users' alone."""
        (x, b_u, a_u), (z, b_i, a_i) = own, parts
        means = (x * z).sum(2) + b_u + b_i
        variances = 1 / (self.alpha[used] * a_u * a_i) + of_u
        if len(new := self.i.cold[items].nonzero()[:, 0]):      # most are not, and add nothing
            of_z, of_i = self.i.unsure(items[new], used)
            x, of_x = (t.expand_as(z)[new] for t in (x, of_x))
            variances[new] += (of_z * (of_x + x.square())).sum(2) + of_i
        if self.kept_cuts is not None:
            return Graded.of(means, variances.sqrt(), self.kept_cuts[used], self.rating_levels())
        return Mixture(self.mu.double() + self.spread * means, self.spread * variances.sqrt())

    def _side(self, side: Side) -> DrawnSide:
        return self.u if side == "user" else self.i

    # New users ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score_new(self, items: Tensor, ratings: Tensor) -> Tensor:
        """The mean over draws of all items' scores, (n_items,), for a new user: see `_solved`."""
        if self.kept_cuts is not None:
            every = torch.arange(len(self.i.x), device=self.mu.device)
            return torch.cat([self.predictive_new(items, ratings, some).mean for some in every.split(MAX_PAIRS)]
                             ).to(self.mu)
        x = self._solved(items, ratings)[0]
        weights = torch.cat([x[:, :-1], torch.ones_like(x[:, :1])], 1).to(self.mu)      # the last of items' biases
        z = self.i.draws[:, self.used, :-1]
        return self.mu + self.spread * (z.flatten(1) @ weights.flatten() + x[:, -1].sum().to(self.mu)) / len(x)

    @torch.no_grad()
    def predictive_new(self, items: Tensor, ratings: Tensor, asked: Tensor) -> Predictive:
        """As `predictive`, with what the ratings leave open of the new user's x."""
        x, covariance, noise = self._solved(items, ratings)
        parts = self.i.split(asked, self.used)
        design = torch.cat([parts[0], torch.ones_like(parts[0][..., :1])], 2).transpose(0, 1)
        whole = (design @ covariance).mul_(design).sum(2).T
        alone = covariance.diagonal(dim1=1, dim2=2)[None, :, :-1]
        found = self._ratings((x[None, :, :-1], x[None, :, -1], noise[None]), alone, whole, parts, asked, self.used)
        return found.weighted(self.habits.factors[:1]) if isinstance(found, Graded) else found

    def _solved(self, items: Tensor, ratings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean (draws, width) and covariance (draws, width, width) of a new user's [x, b] in each draw, given the
        rows `items` (n,) and their `ratings` (n,), and the factor on the precision of that user's ratings, (draws,),
        whose inverse is the mean of the inverse. Before any rating, [x, b] is normal around the average user, with the
        variance that users have; which items were rated does not count. x is the most likely one, found by EM over the
        factor, or by `solve_new` where ratings are ordinal; one on none of the levels then counts as the nearest."""
        z, b_i, a_i = (t.transpose(0, 1) for t in self.i.split(items.to(self.mu.device), self.used))
        design = torch.cat([z, torch.ones_like(z[..., :1])], 2)
        weights, ratings = self.alpha[self.used, None] * a_i, ratings.to(self.mu)
        prior = 1 / self.u.variance[self.used, 0].double().clamp(min=1e-12)
        average, noise = self.u.draws[0, self.used, :-1].double(), torch.ones_like(self.alpha[self.used])
        if self.kept_cuts is not None:
            classes, cuts = self.nearest_level(ratings), self.kept_cuts[self.used]
            found = solve_new(design, b_i, weights, classes, cuts, average, prior, self.degrees)
            return found._replace(noise=found.noise * self._unsure_noise(len(items)))
        wanted = (ratings.double() - self.mu) / self.spread - b_i
        for _ in range(STEPS if self.degrees else 1):
            weighted = (weights * noise[:, None])[..., None] * design
            left = weighted.mT @ design + torch.diag_embed(prior)
            x = torch.linalg.solve(left, (weighted * wanted[..., None]).sum(1) + prior * average)
            errors = (wanted - (design @ x[..., None])[..., 0]).square() * weights
            if self.degrees:
                noise = (self.degrees + len(items)) / (self.degrees + errors.sum(1))
        return x, torch.linalg.inv(left), noise * self._unsure_noise(len(items))

    def _unsure_noise(self, n: int) -> float:
        """1 / (E[a] E[1 / a]) of a new user's factor a on the precision after n ratings: 1 / Gamma(s, r) has the mean
        r / (s - 1)."""
        return (self.degrees + n - 2) / (self.degrees + n) if self.degrees else 1.0


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of this shape, drawn on the CPU."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
