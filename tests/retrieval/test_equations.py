"""What each rating adds to a folded-in score: against closed forms, and against solving again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from collab.models.als import ALS
from collab.models.dot_form import DotForm, Ridge
from collab.retrieval.equations import Equations, strongest


def made(n_items: int = 12, k: int = 3, y_range: tuple[float, float] | None = None, biased: bool = True) -> DotForm:
    draw = torch.Generator().manual_seed(3)
    users, items = (torch.randn(n, k, generator=draw) for n in (4, n_items))
    if not biased:
        return DotForm(users, items, y_range=y_range)
    return DotForm(users, items, torch.randn(4, generator=draw), torch.randn(n_items, generator=draw), 0.4, y_range)


ITEMS, RATINGS = torch.tensor([2, 5, 7, 11]), torch.tensor([5.0, 1.0, 4.0, 3.0])


@pytest.mark.parametrize("biased", [True, False])
def test_a_rating_adds_what_the_closed_form_says(biased: bool):
    form, ridge = made(biased=biased), Ridge(0.7, 0.3)
    q = form.items.double().numpy()
    offset = np.zeros(12)
    if biased:
        q, offset = np.c_[q, np.ones(12)], 0.4 + form.i_bias.double().numpy()
    centre = form.average.double().numpy()
    held = np.diag(2.0 * np.array([0.7] * 3 + [0.3] * biased))      # the root of 4 ratings
    mine = q[ITEMS]
    inverse = np.linalg.inv(mine.T @ mine + held)
    base = offset + q @ centre                                      # the average user's scores
    expected = q @ inverse @ mine.T * (RATINGS.numpy() - base[ITEMS])
    found = Equations(form, ridge).contributions(ITEMS, RATINGS, torch.arange(12))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    solved = Equations(form, ridge).solve(ITEMS, RATINGS).numpy()
    np.testing.assert_allclose(found.sum(1), offset + q @ solved - base, rtol=1e-9)


def test_a_contribution_is_what_the_score_loses_when_the_item_is_rated_as_the_average_user_would():
    form, ridge = made(), Ridge(0.7, 0.3)
    of = Equations(form, ridge)
    vectors = torch.cat([form.items, torch.ones(12, 1)], 1).double()
    base = vectors @ form.average.double() + form.mu + form.i_bias.double()
    parts = of.contributions(ITEMS, RATINGS, torch.arange(12))
    for j, item in enumerate(ITEMS.tolist()):
        without = RATINGS.double()
        without[j] = base[item]
        lost = vectors @ (of.solve(ITEMS, RATINGS) - of.solve(ITEMS, without))
        torch.testing.assert_close(parts[:, j], lost, rtol=1e-9, atol=1e-12)


def test_with_a_range_contributions_add_up_to_the_score_before_it():
    form = made(y_range=(0.5, 5.5))
    of = Equations(form, Ridge(0.7, 0.3))
    vectors = torch.cat([form.items, torch.ones(12, 1)], 1).double()
    moved = vectors @ (of.solve(ITEMS, RATINGS) - form.average.double())
    torch.testing.assert_close(of.contributions(ITEMS, RATINGS, torch.arange(12)).sum(1), moved, rtol=1e-6, atol=1e-8)
    assert moved.abs().max() > 0.1


def test_implicit_als_adds_what_its_authors_say():
    model = ALS(4, 5, 30, alpha=7.0, reg=0.2, dtype="float64")
    form, ridge = model.closed_form()
    y = form.items.numpy()[1:]
    rows, strengths = torch.tensor([3, 8, 21]), torch.tensor([1.0, 2.0, 0.5])
    c = 1 + 7.0 * strengths.numpy()
    mine = y[rows - 1]
    a = y.T @ y + mine.T @ np.diag(c - 1) @ mine + 0.2 * 3 ** ridge.power * np.eye(4)
    expected = y @ np.linalg.inv(a) @ mine.T * c                    # Hu, Koren and Volinsky 2008, section 5
    found = Equations(form, ridge).contributions(rows, strengths, torch.arange(1, 30))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(found.sum(1), model.score_new(rows, strengths)[1:], rtol=1e-9)


def test_explicit_als_is_folded_in_by_its_own_equations():
    model = ALS(4, 5, 30, implicit=False, reg=0.2, dtype="float64")
    draw = torch.Generator().manual_seed(0)
    pairs = torch.randperm(4 * 29, generator=draw)[:60]
    ratings = torch.randint(1, 6, (60,), generator=draw).double()
    model.sweep(model.prepare(1 + pairs // 29, 1 + pairs % 29, ratings))
    form, ridge = model.closed_form()
    rows, given = torch.tensor([3, 8, 21]), torch.tensor([1.0, 5.0, 4.0], dtype=torch.float64)
    solved = Equations(form, ridge).solve(rows, given)
    torch.testing.assert_close(form.scores(form.queries(solved[None]))[0], model.score_new(rows, given), rtol=1e-8,
                               atol=1e-8)


def test_the_strongest_is_another_item_that_adds_something():
    parts = torch.tensor([[0.5, 0.2, 0.4], [-1.0, -0.5, -0.2], [0.3, 0.9, 0.1]])
    # item 4 is rated twice; item 9 is itself the third that is recommended
    assert strongest(parts, torch.tensor([4, 9, 4]), torch.tensor([1, 2, 9])).tolist() == [4, 0, 4]
    assert Equations(made(), Ridge(1, 1)).reasons(ITEMS[:0], RATINGS[:0], torch.tensor([1, 2])).tolist() == [0, 0]
