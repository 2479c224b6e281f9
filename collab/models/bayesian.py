"""BayesianFM: a factorisation machine fitted by Gibbs sampling, which gives predictive distributions."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..compiled import one_thread
from ..given import is_real
from ..ragged import Ragged
from .drawn_predictions import MAX_PAIRS, DrawnPredictions
from .drawn_side import Columns, DrawnSide, Size
from .forecast import forecast
from .gibbs import SUREST, Design, Draw, Rated, draw_noise, draw_precision, draw_side
from .gibbs_compiled import CompiledDesign, CompiledRated, suits
from .graded_scorer import expected_ratings
from .habits import Habits
from .ordinal import Interval, draw_cuts, first_cuts
from .solved import check_rows

QUIET = 6               # sweeps before rows get a noise of their own
PER_RATING, PER_NUMBER = (260, 220), 64     # bytes of a fit: a rating, by torch and by kernels, and a number of a row
FEW = 8                 # draws that tell how often ratings are expected on each level

Likelihood = Literal["normal", "ordinal"]


class Prepared(NamedTuple):
    """The training rows arranged for sweeps: standardised ratings (n,), both sides' ratings and features, and, where
    ratings are ordinal, the numbers of their levels (n,); the targets are then latent ratings."""

    targets: Tensor
    of_users: Rated
    of_items: Rated
    designs: tuple[Design, Design]
    classes: Tensor | None = None

    def errors(self, u: Draw, i: Draw) -> Tensor:
        """The squared errors of the standardised ratings, float64 (n,)."""
        return (self.targets - self.of_users.scores(u.x, i.x)).double().square()

    def threads(self) -> AbstractContextManager[None]:
        """One thread of torch for a `with` where kernels have threads of their own; sums then have the same bits."""
        return one_thread() if isinstance(self.of_users, CompiledRated) else nullcontext()


class BayesianFM(DrawnPredictions):
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

    With `likelihood` "ordinal", a rating on C levels is the interval that a latent rating falls into, which is normal
    around its score without mu, with precision a_u a_i; between the levels are C - 1 cut-points (an ordered probit:
    Albert, Chib 1993, section 4). What only the unit and the origin of latent ratings would tell apart is fixed: the
    mean precision at 1, and the middle cut-point where the shares of levels put it for a score of 0. A sweep draws the
    cut-points (`draw_cuts`), then latent ratings from truncated normal distributions, then the rest as above. Scores
    are expected ratings, sum over levels of level * P(level), by `probabilities`. They are no product of vectors, so
    that `dot_form` is None; factors and biases are those of latent ratings. The limits of intervals are levels, and
    hold their share of ratings or more.

    Otherwise a prediction is the mean over draws, which is one product of wide factors (`factors`). `predictive` gives
    the distribution of a rating and, with `levels`, the distinct ratings, ascending, `probabilities` that of each
    level. For rows without ratings see `DrawnSide`. Memory: 4 n_draws (n_factors + 2) bytes for each user and item, and
    as much again while scoring; in a fit some 260 bytes per rating, and for each row 64 (n_factors + 4) and
    4 (n_factors + 1)^2; 220 and half of the latter where kernels are compiled (`gibbs_compiled`; on a CPU, if there is
    numba). With these a sweep of the chain over a million ratings takes twice as long as an exact one of `ALS`."""

    n_sweeps = 32
    ranks = False
    default_loss = "mse"
    unknown_row = True
    of_draws = True
    spread: Tensor
    each: Tensor
    cuts: Tensor | None

    def __init__(self, n_factors: int, n_users: int, n_items: int, users: Columns | Size | None = None,
                 items: Columns | Size | None = None, n_draws: int = 128, per_epoch: int = 8, degrees: float = 8.0,
                 history: bool = True, levels: Sequence[float] | None = None, mean: float | None = None,
                 likelihood: Likelihood = "normal"):
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
        if likelihood not in get_args(Likelihood):
            raise ValueError(f"likelihood must be 'normal' or 'ordinal', got {likelihood!r}")
        self.ordinal = likelihood == "ordinal"
        if self.ordinal and len(levels or ()) < 2:
            raise ValueError("likelihood='ordinal' needs levels, at least two distinct ratings: "
                             f"{'these ratings are on no scale of a few levels' if levels is None else levels}; "
                             "leave it out for likelihood='normal'")
        self.n_draws, self.per_epoch, self.degrees = n_draws, per_epoch, float(degrees)
        self.u = DrawnSide(n_users, n_items, n_factors, n_draws, users, history)
        self.i = DrawnSide(n_items, n_users, n_factors, n_draws, items, history)
        self.config |= {"users": users and self.u.size, "items": items and self.i.size}
        self.register_buffer("alpha", torch.ones(n_draws, dtype=torch.float64))
        self.register_buffer("mu", torch.tensor(0.0 if mean is None or self.ordinal else mean))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("levels", None if levels is None else torch.tensor(levels), persistent=False)
        cuts = first_cuts(torch.ones(len(levels or ()))) if self.ordinal else None
        self.register_buffer("cuts", cuts)
        self.register_buffer("kept_cuts", None if cuts is None else cuts.repeat(n_draws, 1))
        self.habits = Habits(n_users, len(levels or ()))
        self.register_buffer("sweeps", torch.tensor(0))
        self.register_buffer("each", torch.tensor(1))       # sweeps from one state that is kept to the next
        self.register_buffer("kept_at", torch.zeros(n_draws, dtype=torch.int64))    # by place: the sweep, 0 for none

    # The chain ---------------------------------------------------------------------------------------------------

    def prepare(self, users: Tensor, items: Tensor, ratings: Tensor) -> Prepared:
        """Rows of users and items and their ratings, each of shape (n,). Raises ValueError for rows that the model does
        not have."""
        users, items, ratings = users.to(self.mu.device), items.to(self.mu.device), ratings.to(self.mu)
        n_users, n_items, width = len(self.u.x), len(self.i.x), self.u.x.shape[1]
        check_rows(users, items, ratings, n_users, n_items)
        by_kernels = suits(self.u.x)
        per_row = PER_NUMBER * (width + 3) + (2 if by_kernels else 4) * width ** 2
        forecast(f"BayesianFM over {len(ratings):,} ratings", PER_RATING[by_kernels] * len(ratings)
                 + per_row * (n_users + n_items), 0.0, users.device, "take fewer n_factors, or dot_bias")
        order = torch.argsort(users, stable=True)
        users, items, ratings = users[order], items[order], ratings[order]
        classes = self._classes(ratings) if self.ordinal else None
        if classes is None:
            self.mu.fill_(ratings.double().mean())
            spread = ratings.double().std(correction=0)
            self.spread.fill_(torch.where(spread > 1e-6 * ratings.abs().max(), spread, 1.0))
        rate, design = (CompiledRated, CompiledDesign) if by_kernels else (Rated, Design)
        rated = rate(users, items, n_users, width), rate(items, users, n_items, width)
        for side, own in zip((self.u, self.i), rated):
            side.share.copy_(own.counts / len(ratings))
        pairs = Ragged.unique(users, items, None, n_users, n_items)
        return Prepared((ratings - self.mu) / self.spread, *rated,
                        (self.u.design(pairs, design), self.i.design(pairs.transposed(n_items), design)), classes)

    def _classes(self, ratings: Tensor) -> Tensor:
        """The numbers of the levels of training ratings (n,), from which a new chain's cut-points are set."""
        classes, levels = self.nearest_level(ratings), self.rating_levels()
        if (off := (levels[classes] - ratings).abs() > 1e-6 * (levels[-1] - levels[0])).any():
            raise ValueError(f"{int(off.sum())} of {len(ratings)} ratings, such as {ratings[off][0].item():g}, are not "
                             f"among the {len(levels)} levels of this model; build it with levels that hold them all")
        if not self.sweeps and self.cuts is not None:
            self.cuts.copy_(first_cuts(torch.bincount(classes, minlength=len(levels))))
        return classes

    @torch.no_grad()
    def sweep(self, prepared: Prepared) -> float:
        """Take `per_epoch` sweeps of the chain; the mean sum of squared errors of the states that these begin at, or
        the `loss` of the last one, where ratings are ordinal."""
        with prepared.threads():
            errors = sum(self._sweep(prepared) for _ in range(self.per_epoch)) / self.per_epoch
        return self.loss(prepared) if self.ordinal else errors

    @torch.no_grad()
    def loss(self, prepared: Prepared) -> float:
        """The sum of squared errors of the chain's state."""
        with prepared.threads():
            if prepared.classes is None or self.cuts is None:
                return prepared.errors(self.u.state, self.i.state).sum().item() * self.spread.item() ** 2
            levels, (scores, roots) = self.rating_levels(), self._seen(prepared)
            even = torch.ones_like(levels)[None]
            expected = expected_ratings(scores[None], roots[None], self.cuts[None], levels, even)
            return (levels[prepared.classes] - expected).square().sum().item()

    @property
    def scores_finished(self) -> bool:
        return self.ordinal

    @torch.no_grad()
    def finish(self, prepared: Prepared) -> None:
        """Count how the training ratings differ from the probabilities that some of the draws give them (`Habits`)."""
        if self.levels is None:
            return
        users, items, classes = prepared.of_users.rows, prepared.of_users.others, prepared.classes
        if classes is None:
            classes = self.nearest_level(self.mu + self.spread * prepared.targets)
        some = self.used[::math.ceil(len(self.used) / FEW)]
        self.habits.count((u, c, self.shares(u, i, some)) for u, i, c in zip(
            *(rows.split(MAX_PAIRS) for rows in (users, items, classes))))

    def _latent(self, prepared: Prepared) -> tuple[Prepared, Tensor | None]:
        """Where ratings are ordinal, draw the cut-points given scores, and then latent ratings."""
        if prepared.classes is None or self.cuts is None:
            return prepared, None
        scores, roots = self._seen(prepared)
        cuts = draw_cuts(self.cuts, prepared.classes, scores, roots)
        drawn = scores + Interval.of_levels(cuts, prepared.classes, scores, roots).draw() / roots
        return prepared._replace(targets=drawn.to(prepared.targets)), cuts

    def _seen(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """Scores and roots of the precisions of latent ratings, float64 (n,)."""
        u, i, rated = self.u.state, self.i.state, prepared.of_users
        return rated.scores(u.x, i.x).double(), rated.weights(u.noise, i.noise).double().sqrt()

    def _sweep(self, prepared: Prepared) -> float:
        prepared, cuts = self._latent(prepared)
        targets, of_users, of_items, designs, classes = prepared
        u, i, sweeps, alpha = self.u.state, self.i.state, int(self.sweeps), torch.ones_like(self.alpha[0])
        errors = prepared.errors(u, i)
        by_user = of_users.sums(errors, i.noise)
        if sweeps and classes is None:
            alpha = draw_precision(len(errors), (by_user * u.noise).sum()).clamp(max=SUREST)
        if self.degrees and sweeps >= QUIET:
            u = u._replace(noise=draw_noise(of_users.counts, alpha * by_user, self.degrees))
            by_item = of_items.sums(errors, u.noise)
            i = i._replace(noise=draw_noise(of_items.counts, alpha * by_item, self.degrees))
        weights = of_users.weights(alpha * u.noise, i.noise)
        u = draw_side(u, of_users.marginal(targets, weights, i.x, u.precision), designs[0], of_users.counts)
        i = draw_side(i, of_items.marginal(targets, weights, u.x, i.precision), designs[1], of_items.counts)
        self.u.go_to(u)
        self.i.go_to(i)
        if self.cuts is not None and cuts is not None:
            self.cuts.copy_(cuts)
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
            if self.cuts is not None and self.kept_cuts is not None:
                self.kept_cuts[place] = self.cuts
            self.kept_at[place] = sweep
        self.sweeps.fill_(sweep)
