"""The mean and damped biases: by hand, against a naive loop, and as the model of a learner."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from collab import BiasBaseline, CollabDataBunch, CollabLearner, CollabWarning, load_learner, synthetic
from collab.models import baseline


def fitted(u: list[int], i: list[int], r: list[float], **options: float) -> BiasBaseline:
    return BiasBaseline(4, 4).fit(torch.tensor(u), torch.tensor(i), torch.tensor(r), **options)


def test_baseline_of_a_table_of_two_by_two_is_that_by_hand():
    # ratings 1 2 / 3 4: mean 2.5; without damping the biases are the deviations of rows (-1, 1) and columns (-.5, .5)
    model = fitted([1, 1, 2, 2], [1, 2, 1, 2], [1.0, 2.0, 3.0, 4.0], damping_u=0, damping_i=0)
    assert model.mu.item() == 2.5
    np.testing.assert_allclose(model.u_bias, [0, -1, 1, 0], atol=1e-12)      # no rating, no bias: not 0 / 0
    np.testing.assert_allclose(model.i_bias, [0, -0.5, 0.5, 0], atol=1e-12)
    # one sweep, damping 2 a side: b_i = (-.5 - .5 .. ) / (2 + 2) of sums -1 and 1, then b_u of sums -2 and 2
    model = fitted([1, 1, 2, 2], [1, 2, 1, 2], [1.0, 2.0, 3.0, 4.0], damping_u=2, damping_i=2, sweeps=1)
    np.testing.assert_allclose(model.i_bias, [0, -0.25, 0.25, 0], atol=1e-12)
    np.testing.assert_allclose(model.u_bias, [0, -0.5, 0.5, 0], atol=1e-12)
    assert model(torch.tensor([1, 0]), torch.tensor([2, 2])).tolist() == [2.25, 2.75]


def test_baseline_is_that_of_a_naive_loop():
    rng = np.random.default_rng(0)
    n, n_users, n_items = 300, 20, 15
    u, i, r = rng.integers(1, n_users, n), rng.integers(1, n_items, n), rng.integers(1, 6, n).astype(float)
    mu, bu, bi = r.mean(), np.zeros(n_users), np.zeros(n_items)
    for _ in range(10):
        for item in range(n_items):
            mine = i == item
            bi[item] = (r[mine] - mu - bu[u[mine]]).sum() / (3 + mine.sum())
        for user in range(n_users):
            mine = u == user
            bu[user] = (r[mine] - mu - bi[i[mine]]).sum() / (5 + mine.sum())
    model = BiasBaseline(n_users, n_items).fit(*map(torch.from_numpy, (u, i, r)))
    np.testing.assert_allclose(model.u_bias, bu, atol=1e-10)
    np.testing.assert_allclose(model.i_bias, bi, atol=1e-10)
    np.testing.assert_allclose(model(torch.from_numpy(u), torch.from_numpy(i)), mu + bu[u] + bi[i], rtol=1e-6)
    first = model.u_bias.clone()
    model.fit(*map(torch.from_numpy, (u[:50], i[:50], r[:50]))).fit(*map(torch.from_numpy, (u, i, r)))
    assert torch.equal(model.u_bias, first)             # a second fit knows nothing of the one before


@pytest.mark.parametrize("n", [1, 3])
def test_baseline_by_pieces_is_that_of_all_rows_at_once(n, monkeypatch):
    u, i, r = torch.tensor([1, 1, 2, 2, 3]), torch.tensor([1, 2, 1, 2, 3]), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    whole = BiasBaseline(4, 4).fit(u, i, r)
    monkeypatch.setattr(baseline, "ROWS", n)
    pieces = BiasBaseline(4, 4).fit(u, i, r)
    assert torch.equal(pieces.u_bias, whole.u_bias) and torch.equal(pieces.i_bias, whole.i_bias)


def half_sweeps(u, i, r, **options):
    """How often a fit goes over the ratings after their mean and their sums."""
    passes, columns = [], (torch.tensor(u), torch.tensor(i), torch.tensor(r))
    by_blocks = BiasBaseline(4, 4).fit_blocks(lambda: passes.append(1) or [columns], **options)
    assert torch.equal(by_blocks.u_bias, BiasBaseline(4, 4).fit(*columns, **options).u_bias)
    return len(passes) - 2


def test_baseline_sweeps_no_more_than_changes_it():
    # every user rated every item: the second sweep finds what the first left
    assert half_sweeps([1, 1, 2, 2], [1, 2, 1, 2], [1.0, 2.0, 3.0, 4.0], damping_u=0, damping_i=0) == 4
    # of zeros, one sweep
    assert half_sweeps([1, 1, 2, 2], [1, 2, 1, 2], [1.0, 2.0, 3.0, 4.0], damping_u=np.inf, damping_i=np.inf) == 2
    # not settled yet
    assert half_sweeps([1, 1, 2, 3], [1, 2, 2, 2], [1.0, 2.0, 3.0, 5.0], sweeps=3) == 6


def test_baseline_of_blocks_is_that_of_all_ratings():
    u, i, r = torch.tensor([1, 1, 2, 2, 3]), torch.tensor([1, 2, 1, 2, 3]), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    blocks = BiasBaseline(4, 4).fit_blocks(lambda: ((u[k:k + 2], i[k:k + 2], r[k:k + 2]) for k in (0, 2, 4)))
    whole = BiasBaseline(4, 4).fit(u, i, r)
    assert blocks.mu == 3 and torch.equal(blocks.u_bias, whole.u_bias) and torch.equal(blocks.i_bias, whole.i_bias)


def test_baseline_is_a_model_of_a_learner(tmp_path):
    data = CollabDataBunch.from_df(synthetic(20, 15, 200, seed=0).ratings, seed=0, device="cpu")
    model = BiasBaseline(data.n_users, data.n_items).fit(*data.train.tensors)
    learn = CollabLearner(data, model)
    user, item = 3, 7
    score = float(model.mu + model.u_bias[data.users.encode([user])] + model.i_bias[data.items.encode([item])])
    assert learn.predict(user, item) == pytest.approx(np.clip(score, 1, 5), rel=1e-6)
    again = load_learner(learn.export(tmp_path / "biases.safetensors"))
    pd.testing.assert_frame_equal(again.recommend(user), learn.recommend(user))


def test_baseline_is_the_global_mean_where_damping_is_infinite():
    model = fitted([1, 2, 3], [1, 2, 1], [1.0, 5.0, 4.5], damping_u=np.inf, damping_i=np.inf)
    assert model(torch.tensor([0, 1, 3]), torch.tensor([0, 1, 3])).tolist() == [3.5, 3.5, 3.5]


def test_unknown_users_and_items_have_a_bias_of_zero():
    data = CollabDataBunch.from_df(synthetic(n_users=30, n_items=20, n_ratings=300, seed=0).ratings, seed=0)
    model = BiasBaseline(data.n_users, data.n_items).fit(*data.train.tensors)
    learn = CollabLearner(data, model)
    user = 3
    with pytest.warns(CollabWarning, match="average"):
        assert learn.predict(10**6, 10**6) == pytest.approx(model.mu.item())
        both = learn.predict(user, 10**6)
    assert both == pytest.approx((model.mu + model.u_bias[data.users[user]]).item())
