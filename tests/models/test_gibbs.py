"""Gibbs draws, beside exact algebra and by Geweke's joint test."""

import math

import pytest
import torch

from collab.compiled import not_compiled
from collab.models import bayesian
from collab.models.bayesian import BayesianFM
from collab.models.gibbs import (
    Design,
    Draw,
    Rated,
    draw_noise,
    draw_precision,
    draw_relevance,
    draw_side,
    gamma,
)
from collab.models.gibbs_compiled import CompiledDesign, CompiledRated
from collab.models.ordinal import WIDE
from collab.ragged import Ragged

WIDTH, N_ROWS, N_OTHERS, DRAWS = 3, 4, 5, 4_000
ROWS = torch.tensor([0, 0, 0, 1, 1, 2])             # row 3 has no ratings
OTHERS = torch.tensor([0, 2, 4, 1, 2, 3])
TARGETS = torch.tensor([0.5, -1.0, 0.3, 1.2, 0.1, -0.7])
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 1.5, 1.0, 3.0])
FEATURES = torch.tensor([[1.0, 0.0], [1.0, 0.5], [1.0, -1.0], [1.0, 2.0]])

kernels = pytest.mark.skipif(not_compiled() is not None, reason=str(not_compiled()))
WAYS = {"torch": (Rated, Design), "kernels": (CompiledRated, CompiledDesign)}
both_ways = pytest.mark.parametrize("way", ["torch", pytest.param("kernels", marks=kernels)], scope="module")


@pytest.fixture(scope="module")
def other():
    return torch.randn(N_OTHERS, WIDTH, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def start():
    return Draw(torch.zeros(N_ROWS, WIDTH), torch.zeros(2, WIDTH), torch.tensor([1.0, 2.0, 4.0]).double(),
                torch.tensor([[1.0, 0.5, 2.0], [3.0, 1.0, 0.7]]).double(), torch.ones(N_ROWS, dtype=torch.float64))


@pytest.fixture(scope="module")
def drawn(start, other, way):
    """[beta, x] of many draws, (DRAWS, 2 WIDTH + N_ROWS WIDTH), with the precisions held."""
    torch.manual_seed(0)
    row, column = FEATURES.nonzero(as_tuple=True)
    rate, of = WAYS[way]
    rated = rate(ROWS, OTHERS, N_ROWS, WIDTH)
    design = of(Ragged.of(row, column, FEATURES[row, column], N_ROWS), torch.tensor([0, 1]), 2)
    found, now = [], start
    for _ in range(DRAWS):
        one = draw_side(now, rated.marginal(TARGETS, WEIGHTS, other, start.precision), design, rated.counts)
        now = start._replace(beta=one.beta)
        found.append(torch.cat([one.beta.flatten(), one.x.flatten()]))
    return torch.stack(found).double()


@pytest.fixture(scope="module")
def exact(start, other):
    """Mean and covariance of [beta, p] from the normal equations of all ratings at once, in float64, as [beta, x]."""
    n_beta, n_p = 2 * WIDTH, N_ROWS * WIDTH
    of_x = torch.cat([torch.kron(FEATURES.double(), torch.eye(WIDTH).double()), torch.eye(n_p).double()], 1)
    y = torch.cat([other[OTHERS, :-1], torch.ones(len(ROWS), 1)], 1).double()
    picked = torch.zeros(len(ROWS), n_p).double()
    for k, row in enumerate(ROWS):
        picked[k, row * WIDTH:(row + 1) * WIDTH] = y[k]
    ahead = picked @ of_x
    prior = torch.cat([start.relevance.flatten(), start.precision.repeat(N_ROWS)]).double()
    covariance = torch.linalg.inv(ahead.T @ (WEIGHTS.double()[:, None] * ahead) + torch.diag(prior))
    mean = covariance @ (ahead.T @ (WEIGHTS * (TARGETS - other[OTHERS, -1])).double())
    both = torch.cat([torch.eye(n_beta, n_beta + n_p).double(), of_x])
    known = torch.arange(n_beta + n_p) < n_beta + 3 * WIDTH         # x of row 3 is its mean, F beta
    return (both @ mean)[known], (both @ covariance @ both.T)[known][:, known]


@both_ways
def test_the_joint_draw_of_weights_and_rows_has_the_exact_mean(drawn, exact):
    mean, covariance = exact
    error = (drawn[:, :len(mean)].mean(0) - mean) / (covariance.diagonal() / DRAWS).sqrt()
    assert error.abs().max() < 4.5                  # 15 numbers, whose errors are standard normal


@both_ways
def test_and_the_exact_covariance(drawn, exact):
    mean, covariance = exact
    own = torch.cov(drawn[:, :len(mean)].T)
    variances = covariance.diagonal()
    error = ((variances[:, None] * variances + covariance.square()) / DRAWS).sqrt()     # of a sample covariance
    assert ((own - covariance) / error).abs().max() < 4.5


@both_ways
def test_a_row_without_ratings_is_what_its_features_say(drawn):
    beta, last = drawn[:, :2 * WIDTH].view(-1, 2, WIDTH), drawn[:, -WIDTH:]
    torch.testing.assert_close(last, beta[:, 0] + 2 * beta[:, 1], atol=1e-5, rtol=1e-5)


def test_precisions_are_drawn_from_their_conjugate_posteriors():
    """Means and variances of Gamma(a, b): a / b and a / b^2."""
    torch.manual_seed(0)
    errors = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    alphas = torch.stack([draw_precision(3, errors.sum()) for _ in range(5_000)])
    check_gamma(alphas, 1 + 3 / 2, 1 + 3.5 / 2)
    counts, sums = torch.tensor([0, 2, 1, 0]), torch.tensor([0.0, 1.5, 2.0, 0.0], dtype=torch.float64)
    noise = torch.stack([draw_noise(counts, sums, 8.0) for _ in range(5_000)])
    for row, (n, total) in enumerate([(0, 0.0), (2, 1.5), (1, 2.0), (0, 0.0)]):
        check_gamma(noise[:, row], (8 + n) / 2, (8 + total) / 2)
    beta = torch.tensor([[1.0], [2.0], [3.0]])
    relevance = torch.stack([draw_relevance(beta, torch.tensor([0, 1, 1]), 2) for _ in range(5_000)]).double()
    check_gamma(relevance[:, 0, 0], 1.5, 1.5)
    check_gamma(relevance[:, 1, 0], 2.0, 1 + 13 / 2)


def check_gamma(values, shape, rate):
    n, mean, variance = len(values), shape / rate, shape / rate ** 2
    assert abs(values.mean().item() - mean) < 4.5 * math.sqrt(variance / n)
    spread = variance * math.sqrt((2 + 6 / shape) / n)      # of a sample variance: kurtosis 6 / shape
    assert abs(values.var().item() - variance) < 4.5 * spread


# Geweke 2004, "Getting it right" ---------------------------------------------------------------------------------

N_USERS, N_ITEMS = 4, 4                             # row 0 of each is the unknown one
PAIRS = torch.tensor([[1, 1], [1, 2], [1, 3], [2, 1], [2, 3], [3, 2], [3, 3]])


def prior_draw(model, designs):
    """Weights, rows and precisions from the prior: the state of a chain before any rating."""
    for side, design in zip((model.u, model.i), designs):
        width = side.x.shape[1]
        precision = gamma(1.0, torch.ones(width, dtype=torch.float64))
        relevance = gamma(1.0, torch.ones(side.n_groups, width, dtype=torch.float64))
        beta = (torch.randn_like(side.beta) / relevance[design.group].sqrt()).float()
        x = design.ahead(design.wide(beta))[:, :width] + (torch.randn_like(side.x) / precision.sqrt()).float()
        half = torch.full((len(x),), model.degrees / 2, dtype=torch.float64)
        side.go_to(Draw(x, beta, precision, relevance, gamma(half, half)))
    model.alpha[0] = gamma(1.0, torch.ones((), dtype=torch.float64))
    if model.ordinal:                                   # sorted draws around a fixed one
        fixed, below = model.cuts[1] / WIDE, torch.special.ndtr(model.cuts[1] / WIDE)
        low, high = torch.rand(2, dtype=torch.float64)
        ends = torch.special.ndtri(torch.stack([low * below, below + high * (1 - below)]))
        model.cuts.copy_(WIDE * torch.stack([ends[0], fixed, ends[1]]))


def seen(model):
    """Bounded functions of everything that is drawn, and of two products, so that no moment is infinite."""
    u, i = model.u, model.i
    numbers = [*model.cuts[[0, 2]], *model.cuts.diff().log()] if model.ordinal else [model.alpha[0].log()]
    numbers += [u.noise[1].log(), i.noise[2].log(), u.x[1, 0].abs().log()]
    numbers += [i.x[2, -1].abs().log()]
    numbers += [t.flatten()[-1].log() for t in (u.precision, i.precision, u.relevance, i.relevance)]
    numbers += [u.beta[0, 0], i.beta[-1, -1], u.x[2, -1], u.x[1, 0] * i.x[1, 0], u.x[3, 0] * u.beta[0, 0]]
    return torch.stack([torch.tanh(t.double() / 2) for t in numbers])


def machine(likelihood):
    """Of ordinal ratings, four levels, one of which no rating has in the beginning."""
    model = BayesianFM(1, N_USERS, N_ITEMS, per_epoch=1, n_draws=2, levels=[1, 2, 3, 4, 5][likelihood == "ordinal":],
                       likelihood=likelihood)
    users, items = PAIRS.T
    ratings = torch.tensor([1.0, 2, 3, 4, 5, 4, 3])
    prepared = model.prepare(users, items, ratings if likelihood == "normal" else ratings.clamp(3))
    model.sweeps.fill_(100)         # past the first sweeps, in which not everything is drawn
    return model, prepared


def simulated(n_chains, n, likelihood):
    """The functions over chains that begin in the prior and take turns: ratings given the state, the state given
    ratings. Their means by chain, which do not depend on each other."""
    model, prepared = machine(likelihood)
    users, items = PAIRS.T
    found = []
    for turn in range(n_chains * n):
        if turn % n == 0:
            prior_draw(model, prepared.designs)
        model.kept_at.zero_()           # the state, and so alpha, is kept in the first place
        x, z = model.u.x[users], model.i.x[items]
        score = (x[:, :-1] * z[:, :-1]).sum(1) + x[:, -1] + z[:, -1]
        precision = model.u.noise[users] * model.i.noise[items] * (1.0 if model.ordinal else model.alpha[0])
        targets = score + torch.randn(len(users), dtype=torch.float64) / precision.sqrt()
        classes = torch.bucketize(targets, model.cuts) if model.ordinal else None
        model._sweep(prepared._replace(targets=targets.float(), classes=classes))
        found.append(seen(model))
    return torch.stack(found).view(n_chains, n, -1).mean(1)


@both_ways
@pytest.mark.parametrize("likelihood", ["normal", "ordinal"])
def test_ratings_and_states_that_take_turns_stay_in_the_prior(way, likelihood, monkeypatch):
    """Geweke's joint test of every conditional at once: the mean of each function over chains is its mean over draws
    from the prior."""
    monkeypatch.setattr(bayesian, "suits", lambda table: way == "kernels")
    torch.manual_seed(1)
    model, prepared = machine(likelihood)
    prior = []
    for _ in range(1_500):
        prior_draw(model, prepared.designs)
        prior.append(seen(model))
    prior = torch.stack(prior)
    chains = simulated(100, 30, likelihood)
    error = (prior.var(0) / len(prior) + chains.var(0) / len(chains)).sqrt()
    off = (chains.mean(0) - prior.mean(0)) / error
    assert off.abs().max() < 4.5, off
