"""Folding in where the loss was trained with terms: they are part of what is solved, and of the file."""

import numpy as np
import pandas as pd
import pytest
import torch

from collab import BPR, L2, CollabDataBunch, CollabWarning, Gravity, collab_learner, load_learner, synthetic
from collab.learner.new_users import scores_of
from collab.models.dot_form import DotForm
from collab.retrieval.fold_in_ranking import solve_ranked
from collab.retrieval.fold_in_ratings import Ridge, solve
from collab.retrieval.fold_in_terms import pull_of
from collab.train.callbacks.loss_terms import loss_terms_of

TERMS = {"l2": L2(0.3), "gravity": Gravity(0.7)}


def some_form(biased, y_range=None):
    draw = torch.Generator().manual_seed(0)
    users, items, u_bias, i_bias = (torch.randn(*shape, generator=draw) for shape in ((5, 3), (30, 3), (5,), (30,)))
    return DotForm(users, items, u_bias if biased else None, i_bias if biased else None, 0.3, y_range)


@pytest.fixture(scope="module")
def ratings():
    draw = torch.Generator().manual_seed(1)
    return torch.randperm(29, generator=draw)[:12] + 1, torch.randint(1, 6, (12,), generator=draw).float()


@pytest.mark.parametrize("biased", [False, True])
def test_what_terms_ask_of_one_user_is_what_they_are_of_all(biased):
    """w' P w of every user together is n_ratings times the terms, but for what users have no part in."""
    form = some_form(biased)
    pull = pull_of(TERMS, form, n_ratings=100)
    u, v = form.users[1:].double(), form.items[1:].double()
    w = torch.cat([u, form.u_bias[1:, None].double()], 1) if biased else u
    constant = TERMS["l2"].coeff * v.square().sum() / len(v)
    expected = 100 * (sum(term.coeff * term.value(u, v) for term in TERMS.values()) - constant)
    assert ((w @ pull) * w).sum().item() == pytest.approx(expected.item())


def test_without_a_range_it_is_the_linear_system_by_hand(ratings):
    form, (items, values) = some_form(False), ratings
    pull = pull_of(TERMS, form, n_ratings=100)
    q, v = form.items[items].double().numpy(), form.items[1:].double().numpy()
    share = 100 / 4         # of the users that were trained
    held = 0.2 * np.sqrt(12)
    left = q.T @ q + share * (0.3 * np.eye(3) + 0.7 * v.T @ v / 29) + held * np.eye(3)
    right = q.T @ (values.double().numpy() - 0.3) + held * form.users[0].double().numpy()
    solved = solve(form, torch.zeros(12, dtype=torch.int64), items, values, 1, Ridge(0.2, 1.0), pull=pull)
    np.testing.assert_allclose(solved[0], np.linalg.solve(left, right), rtol=1e-8)


@pytest.mark.parametrize("y_range", [(0.5, 5.5), (0.0, 100.0)])
def test_with_a_range_the_written_objective_has_no_slope(y_range, ratings):
    form, (items, values), held = some_form(True, y_range), ratings, Ridge(0.4, 0.1)
    pull, n = pull_of(TERMS, form, n_ratings=100), len(ratings[0])
    solved = solve(form, torch.zeros(n, dtype=torch.int64), items, values, 1, held, pull=pull)
    w = solved[0].clone().requires_grad_(True)
    (low, high), unit = y_range, (y_range[1] - y_range[0]) / 5
    score = form.mu + form.i_bias[items].double() + form.items[items].double() @ w[:-1] + w[-1]
    off = (w - form.average.double()).square()
    total = (((values.double() - low - (high - low) * score.sigmoid()) / unit).square().sum() + w @ pull @ w / unit ** 2
             + n ** 0.5 * (held.factors * off[:-1].sum() + held.bias * off[-1]))
    assert torch.autograd.grad(total, w)[0].abs().max() < 1e-6


def test_of_a_ranker_too_the_terms_are_part_of_the_objective():
    films = synthetic(40, 30, 500, seed=1)
    data = CollabDataBunch.from_df(films.ratings, seed=0, device="cpu")
    objective, form, items = BPR(), some_form(False), torch.tensor([1, 4, 6, 9])
    form = form._replace(items=torch.randn(data.n_items, 3, generator=torch.Generator().manual_seed(2)))
    objective.setup(data)
    pull = pull_of(TERMS, form, n_ratings=100)
    w = solve_ranked(form, objective.exact_loss, items, 0.5, 1e-9, pull).requires_grad_(True)
    total = (2 * objective.exact_loss(form.items.double() @ w, items, items) + w @ pull @ w / 2
             + 0.25 * (w - form.users[0].double()).square().sum())
    assert torch.autograd.grad(total, w)[0].abs().max() < 1e-5


@pytest.fixture(scope="module")
def learn():
    """A product model of chosen items, held by both terms: without them every unrated pair is as good as chosen."""
    films = synthetic(120, 60, 1500, n_factors=3, noise=0.2, seed=3)
    data = CollabDataBunch.from_df(films.ratings.assign(rating=1.0), valid_pct=0, seed=0, bs=2000, device="cpu")
    learn = collab_learner(data, "dot", n_factors=6, lr=0.05, wd=0.0, loss_terms=[L2(0.02), Gravity(2.0)])
    with learn.no_logging():
        learn.fit(150)
    return learn


def test_known_users_folded_in_from_their_own_ratings_are_what_training_made_of_them(learn):
    rows = [row for row in range(1, learn.data.n_users) if 8 <= len(learn.data.histories[row][0]) <= 30][:20]
    plain = collab_learner(learn.data, "dot", n_factors=6)
    plain.model.load_state_dict(learn.model.state_dict())
    wanted, errors = learn.model.u_weight.weight @ learn.model.i_weight.weight.T, []
    for some in (learn, plain):
        off = torch.stack([scores_of(some, *learn.data.histories[row]) - wanted[row] for row in rows])
        errors.append(off.square().mean().sqrt().item())
    assert errors[0] < 0.05 and errors[0] < errors[1] / 3


def test_a_loaded_learner_folds_in_as_the_one_that_was_exported(learn, tmp_path):
    loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    rated = dict.fromkeys(list(learn.data.items)[:5], 1.0)
    pd.testing.assert_frame_equal(loaded.recommend(ratings=rated), learn.recommend(ratings=rated))
    assert [repr(t) for t in loss_terms_of(loaded.cbs).values()] == ["L2(0.02)", "Gravity(2)"]


def test_another_term_is_left_out_with_one_warning_that_names_it(learn):
    def spread(model):
        return model.u_weight.weight.var()
    other = collab_learner(learn.data, "dot", n_factors=6, loss_terms=[L2(0.02), spread])
    other.model.load_state_dict(learn.model.state_dict())
    with pytest.warns(CollabWarning, match="without 'spread', which the loss was trained with") as said:
        other.recommend(ratings=dict.fromkeys(list(learn.data.items)[:5], 1.0))
    assert len(said) == 1
    only = pull_of({"l2": L2(0.02)}, other.model.dot_form(), 10)
    with pytest.warns(CollabWarning):
        assert torch.equal(pull_of(loss_terms_of(other.cbs), other.model.dot_form(), 10), only)


def test_ratings_on_another_scale_are_folded_in_alike():
    films, found = synthetic(60, 40, 1500, seed=1), []
    for times in (1.0, 200.0):
        data = CollabDataBunch.from_df(films.ratings.assign(rating=films.ratings["rating"] * times), seed=0, bs=256)
        learn = collab_learner(data, "dot_bias", n_factors=4)
        with learn.no_logging():
            learn.fit(4)
        rated = {5: 5 * times, 6: times, 7: 4 * times, 8: 5 * times}
        found.append(learn.predict(item=list(range(10, 20)), ratings=rated) / times)
    np.testing.assert_allclose(found[1], found[0], atol=0.02)
