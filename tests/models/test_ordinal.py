"""Truncated normal variables, cut-points and new users of ordinal ratings, beside scipy and integrals."""

import numpy as np
import pytest
import torch
from scipy import optimize, special
from scipy.stats import norm, truncnorm

from collab.models.ordinal import ENDS, TOGETHER, WIDE, Interval, draw_cuts, first_cuts, middle, ndtri_exp, solve_new

INF = float("inf")


def interval(low, high, n=1):
    ends = (torch.full((n,), min(max(end, -ENDS), ENDS), dtype=torch.float64) for end in (low, high))
    return Interval.of(*ends)


# Truncated normal variables ----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-0.5, INF), (-INF, 5), (2, 2.001), (-8, 3), (8, 9), (30, 31),
                                           (30, INF), (-INF, -30), (-30.01, -30), (-INF, INF), (-40, -39.9)])
def test_draws_have_the_moments_of_a_truncated_normal_variable(low, high):
    torch.manual_seed(0)
    n = 100_000
    drawn = interval(low, high, n).draw().numpy()
    assert ((drawn >= low) & (drawn <= high)).all()
    mean, variance, _, kurtosis = truncnorm.stats(low, high, moments="mvsk")
    assert abs(drawn.mean() - mean) < 4.5 * np.sqrt(variance / n)
    kurtosis = kurtosis if abs(low) < 8 else 6.0        # of an exponential one; scipy loses it in the tails
    assert abs(drawn.var() - variance) < 4.5 * variance * np.sqrt((2 + kurtosis) / n)


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (3, INF), (-30.5, -30), (30, 30.5)])
def test_and_the_quantiles(low, high):
    torch.manual_seed(0)
    drawn = interval(low, high, 100_000).draw().numpy()
    for share in (0.01, 0.25, 0.5, 0.9, 0.999):
        below = (drawn <= truncnorm.ppf(share, low, high)).mean()
        assert abs(below - share) < 4.5 * np.sqrt(share * (1 - share) / 100_000)


def test_probabilities_in_the_tails_keep_their_digits():
    for low, high in ((-1, 1), (30, 31), (-31, -30), (0.5, 0.501), (-INF, -37), (12, INF)):
        mirrored = (-high, -low) if low + high > 0 else (low, high)
        expected = norm.logcdf(mirrored[1]) + np.log1p(-np.exp(np.subtract(*norm.logcdf(mirrored))))
        assert interval(low, high).log_probability().item() == pytest.approx(expected, rel=1e-11)


def test_the_inverse_of_a_log_probability_is_that_of_scipy():
    logs = np.array([-1e-5, -0.1, -1, -20, -699, -701, -1e3, -1e4, -1e6])
    np.testing.assert_allclose(ndtri_exp(torch.tensor(logs)).numpy(), special.ndtri_exp(logs), rtol=1e-11)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 0.3), (0.5, 2.0), (-3.0, -2.9), (4.0, 5.0), (-ENDS, -1),
                                           (0.7, ENDS)])
def test_slopes_are_derivatives(low, high):
    """Differences of scipy's log probabilities, of which the second ones lose half of the digits."""
    ends = np.array([low, high])

    def value(at):
        at = -at[::-1] if at.sum() > 0 else at
        return norm.logcdf(at[1]) + np.log1p(-np.exp(norm.logcdf(at[0]) - norm.logcdf(at[1])))
    found = interval(low, high).slopes()
    step = np.where(np.abs(ends) < 10, 1e-5, 0.0)
    first = [(value(ends + d) - value(ends - d)) / 2e-5 for d in np.diag(step)]
    np.testing.assert_allclose([found.low.item(), found.high.item()], first, atol=1e-6)
    step *= 10
    second = [(value(ends + d) - 2 * value(ends) + value(ends - d)) / 1e-8 for d in np.diag(step)]
    np.testing.assert_allclose([found.low_low.item(), found.high_high.item()], -np.array(second), rtol=1e-3, atol=1e-5)
    across = [value(ends + step * np.array(signs)) for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
    mixed = (across[0] - across[1] - across[2] + across[3]) / 4e-8 if step.all() else 0.0
    assert found.low_high.item() == pytest.approx(-mixed, rel=1e-3, abs=1e-5)


def test_the_mean_square_within_an_interval():
    for low, high in ((-1, 1), (0.5, 3), (2, INF), (-INF, -5), (-3, -2.5)):
        mean, variance = truncnorm.stats(low, high)
        assert interval(low, high).square().item() == pytest.approx(variance + mean ** 2, rel=1e-9)


# Cut-points --------------------------------------------------------------------------------------------------------

SCORES = torch.tensor([-1.0, -0.5, 0.0, 0.2, 0.7, 1.5, -2.0, 0.4]).double()
ROOTS = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.5, 1.0, 0.7, 1.0]).double()


def chain(cuts, classes, n, scores=SCORES, roots=ROOTS):
    """Cut-points of n steps, (n, C - 1), and the share of steps that were accepted."""
    torch.manual_seed(0)
    found = [cuts]
    for _ in range(n):
        found.append(draw_cuts(found[-1], classes, scores, roots))
    found = torch.stack(found)
    return found[1:], (found[1:] != found[:-1]).any(1).double().mean().item()


def agrees(values, mean):
    """Whether the mean over a chain, (n, k), is that one, (k,), by the spread of means over 50 blocks."""
    blocks = values.view(50, -1, *values.shape[1:]).mean(1)
    error = blocks.std(0) / 50 ** 0.5
    return bool(((blocks.mean(0) - torch.as_tensor(mean)).abs() < 4.5 * error).all())


def posterior(cuts, classes):
    """Of cut-points (m, C - 1), the density but for a constant: sorted normal ones times the likelihood."""
    ends = np.pad(cuts, ((0, 0), (1, 1)), constant_values=((0, 0), (-INF, INF)))
    score, root = SCORES.numpy(), ROOTS.numpy()
    high, low = (norm.cdf((ends[:, classes.numpy() + k] - score) * root) for k in (1, 0))
    return np.exp(norm.logpdf(cuts, scale=WIDE).sum(1)) * (high - low).prod(1)


@pytest.mark.parametrize("classes", [[0, 0, 1, 1, 2, 2, 0, 2], [0, 0, 0, 2, 2, 2, 0, 2]])
def test_two_cut_points_have_the_posterior_of_an_integral(classes):
    """Also where no rating is on the middle level, whose ends may meet."""
    classes = torch.tensor(classes)
    start = torch.tensor([-1.0, 0.4], dtype=torch.float64)
    drawn, accepted = chain(start, classes, 3_000)
    assert middle(2) == 1 and (drawn[:, 1] == start[1]).all() and accepted > 0.5
    grid = np.linspace(-12, 0.4, 20_001)[:-1]
    weight = posterior(np.stack([grid, np.full_like(grid, 0.4)], 1), classes)
    weight /= weight.sum()
    assert agrees(torch.stack([drawn[:, 0], drawn[:, 0] ** 2], 1), [weight @ grid, weight @ grid ** 2])


def test_three_cut_points_have_the_posterior_of_an_integral():
    classes = torch.tensor([0, 1, 2, 1, 3, 3, 0, 2])
    drawn, _ = chain(torch.tensor([-1.0, 0.1, 1.0], dtype=torch.float64), classes, 3_000)
    a, c = np.meshgrid(np.linspace(-9, 0.1, 401)[:-1], np.linspace(0.1, 9, 401)[1:], indexing="ij")
    weight = posterior(np.stack([a.ravel(), np.full(a.size, 0.1), c.ravel()], 1), classes)
    weight /= weight.sum()
    a, c = a.ravel(), c.ravel()
    assert agrees(torch.stack([drawn[:, 0], drawn[:, 2], drawn[:, 0] * drawn[:, 2], drawn[:, 2] ** 2], 1),
                  [weight @ a, weight @ c, weight @ (a * c), weight @ c ** 2])


def test_many_cut_points_without_ratings_are_sorted_normal_draws():
    """Those above the middle one are draws of N(0, WIDE^2) of which each is above it."""
    n, nothing = TOGETHER + 6, torch.zeros(0, dtype=torch.float64)
    start = first_cuts(torch.ones(n + 1))
    drawn, _ = chain(start, torch.zeros(0, dtype=torch.int64), 3_000, nothing, nothing)
    fixed = start[middle(n)].item()
    above, below = drawn[:, middle(n) + 1:], drawn[:, :middle(n)]
    high, low = truncnorm(fixed / WIDE, INF, scale=WIDE), truncnorm(-INF, fixed / WIDE, scale=WIDE)
    assert (drawn.diff() > 0).all()
    assert agrees(torch.stack([above.mean(1), below.mean(1), (above ** 2).mean(1)], 1),
                  [high.mean(), low.mean(), high.moment(2)])


@pytest.mark.parametrize("n_levels", [2, 5, 10])
def test_cut_points_far_from_the_ratings_come_to_them(n_levels):
    """Their start is for scores of 0, and these deviate by 2: they are hundreds of standard errors away."""
    torch.manual_seed(1)
    true = torch.linspace(-2, 2, n_levels - 1).double() if n_levels > 2 else torch.zeros(1).double()
    scores = 2 * torch.randn(20_000).double()
    roots = torch.rand(20_000).double() + 0.5
    classes = torch.bucketize(scores + torch.randn(20_000).double() / roots, true)
    start = first_cuts(torch.bincount(classes))
    start += true[middle(n_levels - 1)] - start[middle(n_levels - 1)]
    drawn, accepted = chain(start, classes, 150, scores, roots)
    assert accepted > 0.6 or n_levels == 2
    torch.testing.assert_close(drawn[50:].mean(0), true, atol=0.05, rtol=0)


def test_first_cut_points_give_the_shares_of_levels():
    cuts = first_cuts(torch.tensor([10, 20, 0, 70]))
    shares = norm.cdf(cuts.numpy())
    np.testing.assert_allclose(shares, [10.5 / 102, 31 / 102, 31.5 / 102])


# New users ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("degrees", [0.0, 8.0])
def test_a_new_row_is_the_most_likely_one(degrees):
    """In each of two chains, by scipy's minimum; the covariance is the inverse of its curvature there."""
    draw = np.random.default_rng(0)
    design, offsets = draw.normal(size=(2, 9, 3)), 0.3 * draw.normal(size=(2, 9))
    weights, cuts = draw.gamma(4, 0.25, size=(2, 9)), np.array([[-1.0, 0.0, 0.8], [-2.0, 0.1, 1.5]])
    average, precision = draw.normal(size=(2, 3)), draw.gamma(2, 1, size=(2, 3))
    classes = np.array([3, 0, 1, 2, 3, 3, 0, 1, 2])
    found = solve_new(*(torch.from_numpy(t) for t in (design, offsets, weights, classes, cuts, average, precision)),
                      degrees)
    for s in range(2):
        ends, noise = np.r_[-INF, cuts[s], INF], found.noise[s].item()

        def loss(x, s=s, ends=ends, noise=noise):
            root = np.sqrt(weights[s] * noise)
            score = design[s] @ x + offsets[s]
            inside = norm.cdf((ends[classes + 1] - score) * root) - norm.cdf((ends[classes] - score) * root)
            return -np.log(inside).sum() + (precision[s] * (x - average[s]) ** 2).sum() / 2
        best = optimize.minimize(loss, average[s], tol=1e-12, method="Nelder-Mead", options={"maxiter": 10_000})
        np.testing.assert_allclose(found.x[s].numpy(), best.x, atol=2e-4)
        steps = 1e-3 * np.eye(3)
        curvature = [[(loss(best.x + a + b) - loss(best.x + a - b) - loss(best.x - a + b) + loss(best.x - a - b)) / 4e-6
                      for a in steps] for b in steps]
        np.testing.assert_allclose(found.covariance[s].numpy(), np.linalg.inv(curvature), rtol=2e-3, atol=1e-4)
        if not degrees:
            assert noise == 1.0


def test_the_noise_of_a_new_row_maximises_its_posterior():
    """Of x and log noise together, which is noise^4 exp(-4 noise) beforehand; 12 steps of EM come near it."""
    draw = np.random.default_rng(1)
    design, offsets, weights = np.ones((1, 40, 1)), draw.normal(size=(1, 40)), np.ones((1, 40))
    cuts, classes = np.array([[-1.0, 0.0, 1.0]]), draw.integers(0, 4, 40)
    found = solve_new(*(torch.from_numpy(t) for t in (design, offsets, weights, classes, cuts, np.zeros((1, 1)),
                                                      np.ones((1, 1)))), 8.0)

    def loss(both):
        x, noise = both[0], np.exp(both[1])
        ends, score = np.r_[-INF, cuts[0], INF], x + offsets[0]
        inside = norm.cdf((ends[classes + 1] - score) * noise ** 0.5) - norm.cdf((ends[classes] - score) * noise ** 0.5)
        return -np.log(inside).sum() + x ** 2 / 2 - 4 * np.log(noise) + 4 * noise
    best = optimize.minimize(loss, [0.0, 0.0], tol=1e-10, method="Nelder-Mead")
    assert found.x.item() == pytest.approx(best.x[0], abs=0.02)
    assert found.noise.item() == pytest.approx(np.exp(best.x[1]), rel=0.05)
