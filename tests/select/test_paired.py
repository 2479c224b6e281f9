"""Intervals cover, p-values are those of the permutation test, and corrections those of Holm."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from collab.select import paired
from collab.select.paired import PerUser, compared, holm, intervals


def means(values: np.ndarray) -> PerUser:
    """(users, models): one value per user, as of a ranking."""
    return PerUser(values, np.ones(len(values)))


def test_holm_multiplies_by_what_is_left_and_never_falls():
    # worked out by hand: 4 * .01, 3 * .013, 2 * .04, 1 * .05, each at least the one before
    assert holm(np.array([0.04, 0.01, 0.05, 0.013])).tolist() == pytest.approx([0.08, 0.04, 0.08, 0.04])
    assert holm(np.array([0.4, 0.5])).tolist() == [0.8, 0.8]
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_holm_rejects_what_the_step_down_procedure_rejects():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p, alpha = rng.random(6) ** 3, rng.choice([0.01, 0.05, 0.2])
        rejected = set()
        for step, k in enumerate(np.argsort(p)):
            if p[k] > alpha / (6 - step):
                break
            rejected.add(int(k))
        assert {*np.flatnonzero(holm(p) <= alpha).tolist()} == rejected


def test_the_p_value_of_squared_errors_is_that_of_all_choices_of_signs():
    rng = np.random.default_rng(1)
    shares = np.array([3.0, 1, 5, 2, 4, 1, 2, 3])
    totals = np.stack([rng.random(8) * shares, rng.random(8) * shares * 1.8], 1)
    row = compared(PerUser(totals, shares, root=True), ["one", "other"]).iloc[0]
    theirs = stats.permutation_test(totals.T, lambda a, b: (a - b).sum(), permutation_type="samples")
    flips = [abs((np.array(s) * (totals[:, 0] - totals[:, 1])).sum()) for s in itertools.product([-1, 1], repeat=8)]
    exact = np.mean(np.array(flips) >= abs((totals[:, 0] - totals[:, 1]).sum()) - 1e-12)
    assert theirs.pvalue == pytest.approx(exact)
    assert row["p_value"] == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 10_000))
    rmse = np.sqrt(totals.sum(0) / shares.sum())
    assert row["difference"] == pytest.approx(rmse[0] - rmse[1]) and row["users"] == 8
    assert row["low"] < row["difference"] < row["high"]


def test_equal_models_are_never_told_apart():
    values = np.random.default_rng(2).random(50)
    row = compared(means(np.stack([values, values], 1)), ["one", "other"]).iloc[0]
    assert (row["difference"], row["low"], row["high"], row["p_value"], row["p_holm"]) == (0, 0, 0, 1, 1)


def test_p_values_are_corrected_for_all_pairs():
    rng = np.random.default_rng(3)
    pairs = compared(means(rng.random((40, 3)) + np.array([0, 0.1, 0.2])), ["a", "b", "c"])
    assert pairs[["a", "b"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert pairs["p_holm"].tolist() == holm(pairs["p_value"].to_numpy()).tolist()


@pytest.mark.parametrize("root", [False, True], ids=["mean", "root"])
def test_intervals_cover_the_truth_where_a_users_ratings_are_alike(root: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paired, "N_INTERVAL", 400)
    monkeypatch.setattr(paired, "N_TEST", 1)
    # Errors of a user share a part, so that ratings are no independent draws: users are.
    rng, inside, paired_inside, n_times = np.random.default_rng(4), 0, 0, 100
    truth = np.array([2.0, 2.5])                                # mean squared errors of two models
    for _ in range(n_times):
        shares = rng.integers(1, 20, 120).astype(float)
        own = rng.exponential(1.0, 120)
        totals = np.stack([shares * own * mean for mean in truth], 1)
        metric = PerUser(totals, shares, root)
        want = np.sqrt(truth) if root else truth
        row = intervals(metric, ["a", "b"]).loc["a"]
        inside += row["low"] <= want[0] <= row["high"]
        pair = compared(metric, ["a", "b"]).iloc[0]
        paired_inside += pair["low"] <= want[0] - want[1] <= pair["high"]
    for n in (inside, paired_inside):                           # percentile intervals are a little too short here
        assert stats.binomtest(int(n), n_times, 0.92).pvalue > 0.001


def test_many_users_are_joined_into_groups_with_the_same_figures(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(5)
    many = means(rng.random((3000, 2)) + np.array([0.02, 0]))
    whole, whole_pairs = intervals(many, ["a", "b"]), compared(many, ["a", "b"])
    monkeypatch.setattr(paired, "MAX_GROUPS", 500)
    joined, pairs = intervals(many, ["a", "b"]), compared(many, ["a", "b"])
    assert len(many.grouped(0).shares) == 500 and many.grouped(0).totals.sum() == pytest.approx(many.totals.sum())
    assert joined["value"].tolist() == whole["value"].tolist()
    assert (joined["high"] - joined["low"]).to_numpy() == pytest.approx((whole["high"] - whole["low"]).to_numpy(),
                                                                         rel=0.15)
    assert pairs["difference"].tolist() == whole_pairs["difference"].tolist() and pairs["users"].tolist() == [3000]
    assert pairs["p_value"].iloc[0] == pytest.approx(whole_pairs["p_value"].iloc[0], abs=0.02)


def test_equal_models_are_called_different_as_seldom_as_promised(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paired, "N_INTERVAL", 1)
    monkeypatch.setattr(paired, "N_TEST", 1000)
    rng, wrong, n_times = np.random.default_rng(6), 0, 100
    for _ in range(n_times):
        pairs = compared(means(rng.normal(size=(40, 4))), list("abcd"))
        wrong += (pairs["p_holm"] < 0.05).any()
    assert stats.binomtest(int(wrong), n_times, 0.05, alternative="greater").pvalue > 0.001
