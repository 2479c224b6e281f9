"""Metrics: computed over the whole set, however it was cut into batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from collab import CollabDataBunch, collab_learner, synthetic
from collab.metrics import MAE, MSE, RMSE, Metric, WholeSet, as_metrics, rmse


def feed(metric: Metric, pred: torch.Tensor, target: torch.Tensor, sizes: list[int]) -> float:
    metric.reset()
    for p, t in zip(pred.split(sizes), target.split(sizes)):
        metric.update(p, t)
    return metric.value()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0, 1000))
def test_metrics_over_unequal_batches_are_those_of_the_whole_set(sizes: list[int], seed: int):
    draw = torch.Generator().manual_seed(seed)
    pred, target = torch.randn(2, sum(sizes), generator=draw) * 3
    assert feed(RMSE(), pred, target, sizes) == pytest.approx(math.sqrt(mean_squared_error(target, pred)), rel=1e-6)
    assert feed(MSE(), pred, target, sizes) == pytest.approx(mean_squared_error(target, pred), rel=1e-6)
    assert feed(MAE(), pred, target, sizes) == pytest.approx(mean_absolute_error(target, pred), rel=1e-6)


def test_rmse_is_the_root_of_one_mean_and_no_mean_of_roots():
    pred, target = torch.zeros(4), torch.tensor([1.0, 1.0, 1.0, 5.0])
    assert feed(RMSE(), pred, target, [3, 1]) == pytest.approx(math.sqrt(28 / 4))
    assert feed(RMSE(), pred, target, [3, 1]) != pytest.approx((1 + 5) / 2)


def test_sums_do_not_lose_small_errors_among_many():
    error = torch.full((1000,), 0.001)
    metric = MSE()
    metric.update(torch.tensor([4096.0]), torch.tensor([0.0]))      # a float32 sum of 2^24 would swallow the rest
    for part in error.split(1):
        metric.update(part, torch.zeros(1))
    assert metric.value() * 1001 - 4096.0 ** 2 == pytest.approx(1000 * 1e-6, rel=1e-2)


def test_a_plain_function_is_called_once_over_the_whole_set():
    calls = []

    def r2(pred: torch.Tensor, target: torch.Tensor) -> float:
        calls.append(len(pred))
        return r2_score(target, pred)
    (metric,) = as_metrics(r2)
    pred, target = torch.randn(2, 31, generator=torch.Generator().manual_seed(0))
    assert metric.name == "r2"
    assert feed(metric, pred, target, [10, 20, 1]) == pytest.approx(r2_score(target, pred)) and calls == [31]


@pytest.mark.parametrize("metric", [r2_score, functools.partial(r2_score, force_finite=False)],
                         ids=["plain", "partial"])
def test_a_function_of_scikit_learn_is_given_the_targets_first(metric: Callable):
    pred, target = torch.tensor([2.0, 3.0, 3.0, 4.0]), torch.tensor([1.0, 3.0, 4.0, 4.0])
    (made,) = as_metrics(metric)
    assert made.name == "r2_score"
    assert feed(made, pred, target, [3, 1]) == pytest.approx(1 - 2 / 6)         # the other way round 1 - 2 / 2 = 0


def test_a_learner_says_the_r2_of_scikit_learn():
    learn = collab_learner(CollabDataBunch.from_df(synthetic(40, 30, 600, seed=0).ratings, seed=0, device="cpu"),
                           n_factors=2, metrics=[r2_score, rmse, mean_absolute_error])
    with learn.no_logging():
        learn.fit(1)
    preds, targets = (t.double() for t in learn.get_preds())
    mean = targets.mean()
    expected = 1 - ((targets - preds) ** 2).sum() / ((targets - mean) ** 2).sum()
    found = learn.validate()
    assert found["r2_score"] == pytest.approx(expected.item(), abs=1e-9)
    assert found["rmse"] == pytest.approx((targets - preds).square().mean().sqrt().item(), abs=1e-9)
    assert found["mean_absolute_error"] == pytest.approx((targets - preds).abs().mean().item(), abs=1e-9)


def test_of_another_function_it_can_be_said_that_it_takes_the_targets_first():
    shares = WholeSet(lambda true, guess: (guess / true).mean(), "share", target_first=True)
    assert feed(shares, torch.tensor([1.0, 3.0]), torch.tensor([2.0, 6.0]), [1, 1]) == 0.5
    own = WholeSet(r2_score, "as it comes", target_first=False)
    assert feed(own, torch.tensor([2.0, 3.0, 3.0, 4.0]), torch.tensor([1.0, 3.0, 4.0, 4.0]), [4]) == 0.0


def test_rmse_as_a_function_is_the_root_over_the_whole_set():
    pred, target = torch.zeros(4), torch.tensor([1.0, 1.0, 1.0, 5.0])
    (metric,) = as_metrics(rmse)
    assert metric.name == "rmse" and feed(metric, pred, target, [3, 1]) == pytest.approx(math.sqrt(28 / 4))
    with pytest.raises(ValueError, match=r"\(3, 1\), targets \(3,\)"):
        rmse(torch.zeros(3, 1), torch.zeros(3))


def test_reset_forgets_what_was_fed():
    for metric in (RMSE(), WholeSet(lambda p, t: (p - t).abs().mean(), "gap")):
        feed(metric, torch.ones(5), torch.zeros(5), [5])
        assert feed(metric, torch.full((3,), 2.0), torch.zeros(3), [3]) == 2.0


def test_metrics_of_nothing_are_not_a_number():
    for metric in (RMSE(), MSE(), MAE(), WholeSet(lambda p, t: 1.0)):
        assert math.isnan(metric.value())
    empty = RMSE()
    empty.update(torch.empty(0), torch.empty(0))
    assert math.isnan(empty.value())


def test_shapes_that_differ_are_refused():
    for metric in (RMSE(), MSE(), MAE()):
        with pytest.raises(ValueError, match=rf"{metric.name}: predictions have shape \(3, 1\), targets \(3,\)"):
            metric.update(torch.zeros(3, 1), torch.zeros(3))


def test_a_metric_keeps_no_graph():
    weight = torch.ones(3, requires_grad=True)
    for metric in (RMSE(), WholeSet(lambda p, t: p.sum())):
        metric.update(weight * 2, torch.zeros(3))
        assert not any(t.requires_grad for t in [*getattr(metric, "preds", []), getattr(metric, "total", None)]
                       if t is not None)


def test_metrics_may_be_given_one_or_many_as_class_object_or_function():
    made = as_metrics([RMSE, MAE(), torch.nn.HuberLoss(), functools.partial(np.mean)])
    assert [m.name for m in made] == ["rmse", "mae", "HuberLoss", "mean"]
    assert as_metrics(None) == [] and [m.name for m in as_metrics(RMSE)] == ["rmse"]


def test_what_is_no_metric_and_two_of_one_name_are_refused():
    with pytest.raises(TypeError, match="'rmse' is not a metric"):
        as_metrics("rmse")
    with pytest.raises(TypeError, match="3 is not a metric"):
        as_metrics(3)
    with pytest.raises(ValueError, match="two metrics are named 'rmse'"):
        as_metrics([RMSE(), RMSE])
