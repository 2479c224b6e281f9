"""margin: intervals and tests of two predictions of the same ratings, paired by user."""

import numpy as np
import pytest
import torch
from scipy import stats

from collab import MAE, RMSE, WholeSet
from collab.select.paired import PerUser, compared, margin


def drawn(n=4000, users=200, gap=0.05, seed=0):
    rng = np.random.default_rng(seed)
    of, target = rng.integers(users, size=n), rng.normal(size=n)
    shared, own = rng.normal(size=users)[of], rng.normal(size=(2, n))
    a, b = (target + 0.5 * shared + 0.3 * noise + extra for noise, extra in zip(own, (0, gap * np.sign(shared))))
    return [torch.from_numpy(x) for x in (a, b, target, of)]


def test_values_are_the_metrics_themselves():
    a, b, target, users = drawn()
    found = margin(MAE(), a, b, target, users)
    of_a, of_b = ((pred - target).abs().mean().item() for pred in (a, b))
    assert found["value"].tolist() == pytest.approx([of_b, of_a, of_a - of_b])
    assert found["users"].eq(200).all() and found.index.tolist() == ["default recipe", "tuned", "difference"]


def test_the_interval_is_that_of_a_mean_over_users_who_rated_alike():
    """With one rating each, the bootstrap of a mean error is that of Student's interval."""
    a, b, target, _ = drawn()
    found = margin(MAE(), a, b, target, torch.arange(4000)).loc["difference"]
    each = ((a - target).abs() - (b - target).abs()).numpy()
    low, high = stats.t.interval(0.95, 3999, each.mean(), stats.sem(each))
    assert [found["low"], found["high"]] == pytest.approx([low, high], abs=0.1 * (high - low))


def test_the_ratings_of_one_user_count_together():
    a, b, target, users = drawn()
    by_user, by_rating = (margin(RMSE(), a, b, target, of) for of in (users, torch.arange(4000)))
    widths = [(found["high"] - found["low"])["tuned"] for found in (by_user, by_rating)]
    assert widths[0] > 1.5 * widths[1]


def test_a_real_difference_is_found_and_none_is_not():
    better = margin(RMSE(), *drawn(gap=0.2)).loc["difference"]
    assert better["high"] < 0 and better["p_value"] < 0.01
    same = margin(RMSE(), *drawn(gap=0.0)).loc["difference"]
    assert same["low"] < 0 < same["high"] and same["p_value"] > 0.05
    nothing = margin(RMSE(), *(lambda a, _, *rest: (a, a, *rest))(*drawn())).loc["difference"]
    assert nothing["value"] == 0 and nothing["p_value"] == 1


def test_a_difference_of_roots_is_tested_as_models_are_compared():
    """By all 2^8 ways to swap the predictions of users."""
    a, b, target, users = drawn(200, 8, 0.02, seed=1)
    squares = [np.bincount(users, (pred - target).square().numpy()) for pred in (a, b)]
    swaps = np.array([[k >> bit & 1 for bit in range(8)] for k in range(256)])
    of_a, of_b = (np.where(swaps, *pair).sum(1) for pair in (squares[::-1], squares))
    found = np.abs(np.sqrt(of_a) - np.sqrt(of_b))
    p = margin(RMSE(), a, b, target, users)["p_value"]["difference"]
    assert 0.01 < p < 0.99 and p == pytest.approx((found >= found[0] - 1e-12).mean(), abs=0.02)
    assert p == compared(PerUser(np.column_stack(squares), np.bincount(users).astype(float), True),
                         ["a", "b"])["p_value"][0]


def test_a_metric_that_is_no_mean_is_computed_anew():
    a, b, target, users = drawn(1000, 50, 0.2)
    root = WholeSet(lambda p, t: (p - t).square().mean().sqrt(), "root", "min")
    anew, sums = margin(root, a, b, target, users), margin(RMSE(), a, b, target, users)
    assert anew["value"].tolist() == pytest.approx(sums["value"].tolist())
    assert anew["low"].tolist() == pytest.approx(sums["low"].tolist(), abs=0.02)
    assert anew["p_value"]["difference"] < 0.02
