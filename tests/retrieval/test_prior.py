"""The prior of new users: its formula by loops, the prior that made the users, and tables that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from collab.models.dot_form import DotForm, Prior, Ridge
from collab.retrieval import prior as module
from collab.retrieval.fold_in_ratings import solve
from collab.retrieval.prior import prior_of


def held(prior: Prior, ridge: Ridge, biased: bool) -> np.ndarray:
    """The ridge matrix of the prior alone."""
    scale = np.full(len(prior.least), ridge.factors ** 0.5)
    if biased:
        scale[-1] = ridge.bias ** 0.5
    axes = scale[:, None] * prior.axes.numpy()
    return axes * prior.least.numpy() @ axes.T


def by_loops(form: DotForm, users: Tensor, items: Tensor, ratings: Tensor, ridge: Ridge) -> np.ndarray:
    """The ridge v S^-1 as the module's docstring has it."""
    biased = form.u_bias is not None
    p, q = form.users.double().numpy(), form.items.double().numpy()
    b, c = (t.double().numpy() if biased else np.zeros(len(p) + len(q)) for t in (form.u_bias, form.i_bias))
    low, high = form.y_range or (0.0, 0.0)
    unit = (high - low) / 5 or 1.0
    squares, of_nobody, m = [], [], {"user": [], "item": []}
    for u, i, r in zip(users.tolist(), items.tolist(), ratings.tolist()):
        def score(x: float) -> float:
            return (low + (high - low) / (1 + np.exp(-x)) if form.y_range else x) / unit
        x = form.mu + b[u] + c[i] + p[u] @ q[i]
        slope = (score(x + 1e-6) - score(x - 1e-6)) / 2e-6
        squares.append((score(x) - r / unit) ** 2)
        of_nobody.append((score(form.mu + b[0] + c[i] + p[0] @ q[i]) - r / unit) ** 2)
        for side, d in (("user", q[i]), ("item", p[u])):
            d = np.append(d, 1.0) if biased else d
            m[side].append(slope ** 2 * np.outer(d, d))
    e, used = np.mean(squares), 0.0
    tables = {"user": (p, b, users), "item": (q, c, items)}
    for side, (table, bias, rows) in tables.items():
        known, n = np.unique(rows.numpy(), return_counts=True)
        w = np.column_stack([table[known], bias[known]]) if biased else table[known]
        s = np.cov(w.T, bias=True)
        for count in n:
            a = count * s @ np.mean(m[side], 0) / e
            used += np.trace(np.linalg.solve(np.eye(len(a)) + a, a))
    v = min(e / (1 - used / len(users)) ** 2, np.mean(of_nobody))
    known, n = np.unique(users.numpy(), return_counts=True)
    w = np.column_stack([p[known], b[known]]) - np.append(p[0], b[0]) if biased else p[known] - p[0]
    training = np.full(w.shape[1], ridge.factors)
    if biased:
        training[-1] = ridge.bias
    left = [np.linalg.inv(count * np.mean(m["user"], 0) + count ** ridge.power * np.diag(training)) for count in n]
    return v * np.linalg.inv(w.T @ w / len(w) + e * np.mean(left, 0))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("y_range", [None, (0.5, 5.5), (0.0, 100.0)])
def test_it_is_the_ridge_of_the_docstring(biased: bool, y_range: tuple[float, float] | None):
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)
    form = DotForm(normal(30, 3), normal(20, 3), normal(30) if biased else None, normal(20) if biased else None, 0.3,
                   y_range)
    users, items = torch.randint(1, 30, (400,), generator=draw), torch.randint(1, 20, (400,), generator=draw)
    ratings = torch.rand(400, generator=draw) * 4 + 1
    ridge = Ridge(0.7, 0.2, 0.8)
    found = held(prior_of(form, users, items, ratings, ridge), ridge, biased)
    np.testing.assert_allclose(found, by_loops(form, users, items, ratings, ridge), rtol=1e-5, atol=1e-7)


S = torch.tensor([[0.8, 0.3, 0.1], [0.3, 0.3, 0.0], [0.1, 0.0, 0.4]]).double()
NOISE = 0.5


def drawn(n_users: int, counts: int | Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors [p, b] of users drawn from N(0, S), and users, items and ratings of random items: 3 + b_i + [q, 1] . w
    and noise of variance NOISE."""
    draw = torch.Generator().manual_seed(seed)
    w = torch.randn(n_users, 3, generator=draw).double() @ torch.linalg.cholesky(S).T
    users = torch.arange(n_users).repeat_interleave(counts)
    items = torch.randint(1, 200, users.shape, generator=draw)
    scores = 3 + ITEMS.i_bias[items] + w[users, 2] + (w[users, :2] * ITEMS.items[items]).sum(1)
    return w, users, items, scores + NOISE ** 0.5 * torch.randn(len(users), generator=draw)


def some_items() -> DotForm:
    draw = torch.Generator().manual_seed(0)
    return DotForm(torch.zeros(1, 2), torch.randn(200, 2, generator=draw), torch.zeros(1),
                   torch.randn(200, generator=draw), 3.0)


ITEMS = some_items()


def trained(ridge: Ridge) -> tuple[DotForm, Tensor, Tensor, Tensor, Ridge]:
    """A model whose users were solved with this ridge, and its training rows: 0 to 25 ratings each."""
    _, users, items, ratings = drawn(3000, torch.arange(3000) % 26, seed=1)
    w = solve(ITEMS, users, items, ratings, 3000, ridge)
    return ITEMS._replace(users=w[:, :2], u_bias=w[:, 2]), users, items, ratings, ridge


@pytest.mark.parametrize("ridge", [0.05, 0.25, 1.0])
def test_the_prior_that_made_the_users_is_found_also_where_training_had_far_too_weak_a_ridge(ridge: float):
    """Along every axis v S^-1 is found to a factor of 1.7: one step of EM does not end at the true S, and v is the
    error on unseen ratings of these users, who are not known exactly. The weakest training ridge is a tenth to a
    hundredth of v S^-1."""
    model = trained(Ridge(ridge, ridge, 0.0))
    found = np.linalg.eigvals(held(prior_of(*model), model[-1], True) @ S.numpy() / NOISE).real
    assert found.min() > 1 / 1.7 and found.max() < 1.7, found


def test_few_ratings_are_believed_as_much_as_they_are_worth():
    """The squared error of new users' vectors is within 3 % of that of the Bayes estimate with the true S and noise,
    the least there is, from one rating to ten; that of training's ridge is not."""
    model = trained(Ridge(0.05, 0.05, 0.0))
    ridge = model[-1]
    for n in (1, 3, 10):
        w, users, items, ratings = drawn(2000, n, seed=2)
        d = torch.cat([ITEMS.items[items], torch.ones(len(items), 1)], 1).double().view(2000, n, 3)
        wanted = (ratings - 3 - ITEMS.i_bias[items]).view(2000, n, 1)
        best = torch.linalg.solve(d.mT @ d + NOISE * torch.linalg.inv(S), d.mT @ wanted).squeeze(2)
        least = (best - w).square().sum(1).mean()
        ours, trainings = ((solve(ITEMS, users, items, ratings, 2000, held) - w).square().sum(1).mean()
                           for held in (ridge._replace(prior=prior_of(*model)), ridge))
        assert ours < 1.03 * least and trainings > 1.1 * least, n


def test_tables_that_say_nothing_give_a_finite_prior():
    one = torch.ones(4, dtype=torch.int64)
    for users, items, ratings, mu in ((one, torch.arange(1, 5), torch.full((4,), 3.0), 3.0),    # without an error
                                      (one, torch.arange(1, 5), torch.zeros(4), 0.0),
                                      (one[:1], one[:1], torch.tensor([5.0]), 3.0),
                                      (torch.arange(1, 5), torch.arange(1, 5), torch.tensor([1.0, 2, 4, 5]), 3.0)):
        form = DotForm(torch.zeros(5, 2), torch.ones(5, 2), torch.zeros(5), torch.zeros(5), mu)
        prior = prior_of(form, users, items, ratings, Ridge(1.0, 1.0))
        assert prior.axes.isfinite().all() and prior.least.isfinite().all() and (prior.least >= 0).all()


def test_ratings_of_0_that_are_met_exactly_give_a_finite_prior():
    draw = torch.Generator().manual_seed(0)
    form = DotForm(torch.zeros(20, 4), 10 * torch.randn(30, 4, generator=draw))
    users, items = (torch.randint(1, n, (200,), generator=draw) for n in (20, 30))
    prior = prior_of(form, users, items, torch.zeros(200), Ridge(1.0, 1.0))
    assert prior.axes.isfinite().all() and prior.least.isfinite().all()


def test_of_many_ratings_a_sample_is_looked_at(monkeypatch):
    model = trained(Ridge(0.25, 0.25, 0.0))
    whole = held(prior_of(*model), model[-1], True)
    monkeypatch.setattr(module, "SAMPLE", 2000)
    part = held(prior_of(*model), model[-1], True)
    np.testing.assert_allclose(part, whole, rtol=0.1, atol=0.05)
    assert not np.array_equal(part, whole)
