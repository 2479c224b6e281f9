"""A compiled step of row-wise Adagrad beside its formula in float64, for rows that one rating of the batch touches and
for rows that several do."""

import numpy as np
import pandas as pd
import pytest
import torch

from collab import Callback, CollabDataBunch, TerminateOnNaN, collab_learner
from collab.train.row_adagrad import RowAdagrad

pytestmark = pytest.mark.filterwarnings("ignore:1 of 11 rows rate a pair again")

# both rows once; a user often; an item often; both often; a pair twice
PAIRS = [(1, 1), (2, 2), (2, 3), (3, 4), (4, 4), (5, 5), (5, 6), (6, 6), (6, 5), (7, 7), (7, 7)]
LR, EPS, LOW, HIGH = 0.05, 1e-10, 0.5, 5.5


class Ridges(Callback):
    """Ridges of the kernels, and no batch-by-batch form: it is for compiled passes."""

    def __init__(self, ridges):
        self.ridges = ridges

    def before_chunk(self):
        self.learn.chunk.ridges = self.ridges

    def after_chunk(self):
        pass


def by_hand(tables, ridges, users, items, ratings):
    """The tables (factors and bias of users, of items) and the sums of their rows, after one step from sums of 0."""
    (p, b), (q, c), mean = tables
    z = (p[users] * q[items]).sum(1) + b[users] + c[items] + mean
    s = 1 / (1 + np.exp(-z))
    g = 2 / len(ratings) * (LOW + (HIGH - LOW) * s - ratings) * (HIGH - LOW) * s * (1 - s)
    found = []
    for own, other, rows, others, held, held_bias in ((p, q, users, items, ridges[0], ridges[2]),
                                                      (q, p, items, users, ridges[1], ridges[3])):
        bias, times = (b if own is p else c), np.bincount(rows, minlength=len(own)) * 2 / len(ratings)
        slope, bias_slope = np.zeros_like(own), np.zeros_like(bias)
        np.add.at(slope, rows, g[:, None] * other[others])
        np.add.at(bias_slope, rows, g)
        slope += (times * held)[:, None] * own
        bias_slope += times * held_bias * bias
        total, bias_total = (slope ** 2).mean(1), bias_slope ** 2
        found += [own - LR * slope / (np.sqrt(total)[:, None] + EPS),
                  bias - LR * bias_slope / (np.sqrt(bias_total) + EPS), total, bias_total]
    return found


@pytest.mark.parametrize("cbs", [[], [TerminateOnNaN()]], ids=["at once where it can", "after the batch"])
@pytest.mark.parametrize("held", [0.0, 0.3], ids=["free", "with ridges"])
@pytest.mark.parametrize("n_factors", [1, 3, 8, 13, 50])
def test_a_step(n_factors, held, cbs):
    draw = np.random.default_rng(n_factors)
    rated = pd.DataFrame(PAIRS, columns=["user", "item"]).assign(rating=draw.integers(1, 6, len(PAIRS)) * 1.0)
    data = CollabDataBunch.from_df(rated, valid_pct=0, bs=len(PAIRS), seed=0, device="cpu")
    learn = collab_learner(data, n_factors=n_factors, opt_func=RowAdagrad, lr=LR, wd=0.0, y_range=(LOW, HIGH))
    model = learn.model
    with torch.no_grad():
        for p in model.parameters():
            if p.dim():
                p.normal_(std=0.5 * n_factors ** -0.25, generator=torch.Generator().manual_seed(n_factors))
    tables = model.dot_tables()
    sides = [[t.detach().double().numpy().copy() for t in side]
             for side in ((tables.users, tables.user_bias[:, 0]), (tables.items, tables.item_bias[:, 0]))]
    ridges = [held * draw.random(len(side[0])) for side in sides] * 2
    users, items, ratings = (t.numpy() for t in data.train.tensors)
    expected = by_hand((*sides, tables.mean.item()), ridges, users, items, ratings.astype(float))
    with learn.no_logging():
        learn.fit(1, cbs=[Ridges([ridge.astype(np.float32) for ridge in ridges]), *cbs])
    touched = [np.unique(users), np.unique(items)]
    for k, (table, bias) in enumerate(((tables.users, tables.user_bias), (tables.items, tables.item_bias))):
        rows = touched[k]
        found = [table, bias[:, 0], learn.opt.state[table]["row_sum"], learn.opt.state[bias]["row_sum"]]
        for own, right in zip(found, expected[4 * k:]):
            np.testing.assert_allclose(own.detach().numpy()[rows], right[rows], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("cbs", [[], [TerminateOnNaN()]], ids=["at once where it can", "after the batch"])
@pytest.mark.parametrize("n_factors", [1, 8, 50])
def test_a_first_step_where_the_ridge_all_but_cancels_the_error(n_factors, cbs):
    """Users p = a q whose two parts of the gradient differ by 3 in 10,000: the difference of their squares is rounding,
    while the step of the first gradient, of whatever size, is `LR` on average over the factors."""
    n, off = 8, 1 + 3e-4
    rated = pd.DataFrame({"user": range(n), "item": range(n), "rating": [5.0] * (n - 1) + [1.0]})
    data = CollabDataBunch.from_df(rated, valid_pct=0, bs=n, seed=0, device="cpu")
    learn = collab_learner(data, n_factors=n_factors, opt_func=RowAdagrad, lr=LR, wd=0.0, y_range=(LOW, HIGH))
    tables = learn.model.dot_tables()
    users, items, ratings = data.train.tensors
    a = torch.where(ratings > 3, 0.5, -0.5)[:, None]        # of the sign that a ridge holds back
    with torch.no_grad():
        tables.items.normal_(std=n_factors ** -0.5, generator=torch.Generator().manual_seed(n_factors))
        tables.users[users] = a * tables.items[items]
        for bias in (tables.user_bias, tables.item_bias, tables.mean):
            bias.zero_()
    p, q = tables.users.detach().double().numpy().copy(), tables.items.detach().double().numpy()
    z = (p[users] * q[items]).sum(1)
    s = 1 / (1 + np.exp(-z))
    pull = (LOW + (HIGH - LOW) * s - ratings.numpy()) * (HIGH - LOW) * s * (1 - s)      # times q: 2 / n of the gradient
    held = np.zeros(len(p), np.float32)
    held[users] = -pull / a[:, 0].numpy() * off
    assert (held[users] > 0).all()
    free = np.zeros(len(q), np.float32)
    with learn.no_logging():
        learn.fit(1, cbs=[Ridges([held, free, np.zeros_like(held), free]), *cbs])
    moved = (tables.users.detach().double().numpy() - p)[users]
    np.testing.assert_allclose((moved ** 2).mean(1) ** 0.5, LR, rtol=0.02)
