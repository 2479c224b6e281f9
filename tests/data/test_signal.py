"""The signal in residuals, beside plain loops and planted factors."""

import numpy as np
import pytest
import torch

from collab.data import signal as module
from collab.data.signal import Signal, contrast, contrast_of, sample, signal, signal_of


def by_loops(users, items, e, n_users, n_items):
    table = np.zeros((n_users, n_items))
    table[users, items] = e
    if n_users < n_items:
        table = table.T
    n = table.shape[1]
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    chance = sum((table[:, i] ** 2 * table[:, j] ** 2).sum() for i, j in pairs)
    excess = sum((table[:, i] * table[:, j]).sum() ** 2 for i, j in pairs) / chance - 1
    spread = 4 * sum((table[:, i] ** 2 * table[:, j] ** 2).sum() ** 2 - (table[:, i] ** 4 * table[:, j] ** 4).sum()
                     for i, j in pairs)
    return excess, spread ** 0.5 / chance


def residuals(n_users=30, n_items=20, share=0.5, factors=0.0, seed=0):
    draw = np.random.default_rng(seed)
    users, items = np.nonzero(draw.random((n_users, n_items)) < share)
    p, q = draw.standard_normal((n_users, 3)), draw.standard_normal((n_items, 3))
    e = draw.standard_normal(len(users)) + factors * (p[users] * q[items]).sum(1)
    return torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(e), n_users, n_items


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_the_signal_is_that_of_plain_loops(shape):
    given = residuals(*shape)
    assert tuple(signal(*given)) == pytest.approx(by_loops(*(t.numpy() for t in given[:3]), *shape), rel=1e-4)


@pytest.mark.parametrize("numba", [True, False])
def test_random_signs_estimate_it(monkeypatch, numba):
    given = residuals(200, 100, factors=0.3)
    exact = signal(*given)
    monkeypatch.setattr(module, "DENSE", 0)
    if not numba:
        monkeypatch.setattr(module, "not_compiled", lambda: "numba is missing")
        monkeypatch.setattr(module, "CHUNK", 999)
    estimated = signal(*given)
    assert estimated.excess == pytest.approx(exact.excess, rel=0.1)
    assert estimated.deviation == pytest.approx(exact.deviation, rel=0.1)
    assert estimated == signal(*given)
    monkeypatch.setattr("collab.data.signal.ROWS", 7)
    assert tuple(signal(*given)) == pytest.approx(tuple(estimated), rel=1e-12)


def test_noise_has_none_and_factors_have_much():
    found = [signal(*residuals(150, 100, seed=seed)) for seed in range(20)]
    assert all(abs(s.excess) < 4 * s.deviation for s in found)
    assert np.mean([s.excess / s.deviation for s in found]) == pytest.approx(0, abs=0.8)
    planted = signal(*residuals(150, 100, factors=0.5))
    assert planted.excess > 20 * planted.deviation


def test_residuals_of_nothing_have_no_signal():
    users = torch.arange(5)
    assert signal(users, users, torch.ones(5), 5, 5) == (0.0, 0.0)
    assert signal(users, users.flip(0) * 0, torch.zeros(5), 5, 5) == (0.0, 0.0)


def in_parts(*columns, n=997):
    """What yields columns a few rows at a time."""
    return lambda: zip(*(column.split(n) for column in columns))


@pytest.mark.parametrize("exactly", [True, False])
@pytest.mark.parametrize("shape", [(150, 100), (100, 150)])
def test_the_signal_of_parts_is_that_of_the_whole(shape, exactly, monkeypatch):
    if not exactly:
        monkeypatch.setattr(module, "DENSE", 0)
    users, items, e, *n = residuals(*shape, factors=0.5)
    assert signal_of(in_parts(users, items, e), len(e), *n) == pytest.approx(signal(users, items, e, *n), rel=1e-5)
    counts = torch.bincount(users, minlength=n[0]), torch.bincount(items, minlength=n[1])
    found = Signal(0.7, 0.1)
    assert contrast_of(found, in_parts(users, items, e), counts, (4.0, 2.5)) == pytest.approx(
        contrast(found, users, items, *n, (4.0, 2.5)), rel=1e-5)


@pytest.mark.parametrize("most", [50, 400, 10**6])
def test_a_sample_of_parts_has_whole_users_in_order(most):
    users, items, e, n_users, _ = residuals(150, 100)
    kept, its_items, values, share = sample(in_parts(users, items, e, n=10), len(e), n_users, most)
    assert share == min(1.0, most / len(e)) and (most > 1000) == (len(kept) == len(e))
    mine = torch.isin(users, kept)
    for own, whole in ((kept, users), (its_items, items), (values, e)):
        assert torch.equal(own, whole[mine])
    again = sample(in_parts(users, items, e, n=10**6), len(e), n_users, most)
    assert torch.equal(again[0], kept)
