"""ALS: every solution and every objective against naive dense algebra in numpy, and what sweeps and fold-in promise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from als_naive import KINDS, joined, model, naive_loss, naive_side, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from collab.errors import CollabWarning
from collab.models import blocks as blocks_module
from collab.models.als import ALS
from collab.models.blocks import SPREAD, conjugate_gradients, make_blocks

kinds = pytest.mark.parametrize("kind", list(KINDS))


# The algebra ------------------------------------------------------------------------------------------------------

@kinds
@settings(max_examples=20, deadline=None)
@given(n_users=st.integers(2, 12), n_items=st.integers(2, 12), n_factors=st.integers(1, 6), n=st.integers(1, 60),
       seed=st.integers(0, 99))
def test_a_sweep_solves_the_items_and_then_the_users_as_dense_algebra_does(kind: str, n_users: int, n_items: int,
                                                                          n_factors: int, n: int, seed: int):
    m, data = model(kind, n_users, n_items, n_factors, seed), rows(n_users, n_items, n, seed)
    prepared = m.prepare(*data)
    expected = naive_side(m, "i", data)
    m.sweep(prepared)
    np.testing.assert_allclose(joined(m, "i")[1:], expected[1:], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(joined(m, "u")[1:], naive_side(m, "u", data)[1:], rtol=1e-8, atol=1e-10)
    for side in "ui":
        np.testing.assert_allclose(joined(m, side)[0], joined(m, side)[1:].mean(0), rtol=1e-12, atol=1e-14)


@kinds
def test_the_solution_of_one_user_and_one_item_by_hand(kind: str):
    # one factor y = 2, one rating r = 3
    m = ALS(1, 2, 2, dtype="float64", **KINDS[kind])
    m.i_weight.weight.fill_(2.0)
    if m.implicit:      # (y^2 + alpha r y^2 + reg) x = (1 + alpha r) y
        c = 1 + m.alpha * 3
        expected = [c * 2 / (c * 4 + m.reg)]
    else:               # with mu = 1 and no item bias: [[4 + reg, 2], [2, 1 + reg]] [p, b] = [4, 2]
        m.mu.fill_(1.0)
        m.i_bias.weight.zero_()
        expected = np.linalg.solve([[4 + m.reg, 2], [2, 1 + m.reg]], [4, 2])
    np.testing.assert_allclose(m.solve_user(torch.tensor([1]), torch.tensor([3.0])), expected, rtol=1e-12)


@kinds
@pytest.mark.parametrize("n", [1, 30, 88])
def test_the_loss_is_the_naive_double_sum(kind: str, n: int):
    m, data = model(kind), rows(n=n)
    prepared = m.prepare(*data)
    assert m.loss(prepared) == pytest.approx(naive_loss(m, data), rel=1e-12)


@kinds
@pytest.mark.parametrize("cg_steps", [0, 1, 3])
def test_the_loss_never_rises(kind: str, cg_steps: int):
    m, data = model(kind, 60, 50, 8, cg_steps=cg_steps), rows(60, 50, 900)
    prepared = m.prepare(*data)
    losses = []
    for _ in range(15):
        m.sweep(prepared)
        losses.append(m.loss(prepared))
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(losses))
    assert losses[-1] < losses[0]


@kinds
def test_as_many_steps_as_factors_solve_exactly_and_three_go_most_of_the_way(kind: str):
    data = rows(60, 50, 900)
    exact, many, three = (model(kind, 60, 50, 8, cg_steps=steps) for steps in (0, 30, 3))
    for m in (exact, many, three):
        for _ in range(20):
            m.sweep(m.prepare(*data))
    np.testing.assert_allclose(joined(many, "u"), joined(exact, "u"), rtol=1e-6, atol=1e-8)
    assert three.loss(three.prepare(*data)) == pytest.approx(exact.loss(exact.prepare(*data)), rel=0.02)


def test_a_solved_system_is_left_as_it_is():
    left = torch.eye(3).expand(2, 3, 3)
    right = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    assert torch.equal(conjugate_gradients(left, right, torch.zeros(2, 3), 5), right)


@kinds
def test_cut_into_small_pieces_the_answer_is_the_same(kind: str, monkeypatch: pytest.MonkeyPatch):
    data = rows(30, 25, 400)
    whole, cut = model(kind, 30, 25), model(kind, 30, 25)
    whole.sweep(whole.prepare(*data))
    monkeypatch.setattr(blocks_module, "MAX_NUMBERS", 16)
    prepared = cut.prepare(*data)
    assert all(len(block.rows) == 1 for block in prepared.by_user.blocks)
    cut.sweep(prepared)
    for side in "ui":
        np.testing.assert_allclose(joined(cut, side), joined(whole, side), rtol=1e-10, atol=1e-12)
    assert cut.loss(prepared) == pytest.approx(whole.loss(whole.prepare(*data)), rel=1e-12)


def test_float32_is_near_float64():
    data = rows(60, 50, 900)
    single, double = (ALS(8, 60, 50, reg=1.0, alpha=5.0, dtype=dtype) for dtype in ("float32", "float64"))
    double.load_state_dict(single.state_dict())
    for m in (single, double):
        for _ in range(5):
            m.sweep(m.prepare(*data))
    assert single.u_weight.weight.dtype == torch.float32 and double.i_weight.weight.dtype == torch.float64
    users, items = torch.arange(1, 60), torch.arange(1, 50)
    torch.testing.assert_close(single.cross(users, items).double(), double.cross(users, items), atol=1e-4, rtol=1e-4)


@kinds
def test_cross_is_every_pair_and_forward_every_batch_size(kind: str):
    m = model(kind)
    users, items = torch.tensor([3, 0, 6]), torch.tensor([1, 8, 1, 2])
    pairwise = torch.stack([torch.cat([m(u[None], i[None]) for i in items]) for u in users])
    torch.testing.assert_close(m.cross(users, items), pairwise)


# Blocks -----------------------------------------------------------------------------------------------------------

@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30), width=st.integers(1, 9))
def test_blocks_hold_every_rating_once_and_hardly_more(lengths: list[int], width: int):
    if not sum(lengths):
        return
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    owner = owner[torch.randperm(len(owner), generator=torch.Generator().manual_seed(0))]
    columns, values = torch.arange(1, len(owner) + 1), torch.arange(1, len(owner) + 1) * 0.5
    found: dict[int, list[tuple[int, float]]] = {}
    for block in make_blocks(owner, columns, values, len(lengths), width):
        assert block.counts.max() <= SPREAD * block.counts.min() and block.counts.max() == block.columns.shape[1]
        for row, cols, vals in zip(block.rows.tolist(), block.columns.tolist(), block.values.tolist()):
            assert row not in found and (np.array(cols) > 0).sum() == lengths[row]
            found[row] = [(c, v) for c, v in zip(cols, vals) if c]
            assert all(v == 0 for c, v in zip(cols, vals) if not c)
    assert sorted(found) == [row for row, n in enumerate(lengths) if n]
    for row, pairs in found.items():
        mine = owner == row
        assert pairs == list(zip(columns[mine].tolist(), values[mine].tolist()))


# What is promised -------------------------------------------------------------------------------------------------

@kinds
def test_a_known_users_own_history_gives_their_vector(kind: str):
    m, (users, items, ratings) = model(kind), rows()
    for _ in range(3):
        m.sweep(m.prepare(users, items, ratings))
    everything = torch.arange(12)
    for user in users.unique():
        mine = users == user
        np.testing.assert_allclose(m.solve_user(items[mine], ratings[mine]), joined(m, "u")[user], rtol=1e-9,
                                   atol=1e-12)
        torch.testing.assert_close(m.score_new(items[mine], ratings[mine]), m.cross(user[None], everything)[0])


def test_a_pair_that_comes_twice_counts_with_its_sum_and_one_of_zero_not_at_all():
    users, items = torch.tensor([1, 2, 2, 3, 3]), torch.tensor([1, 2, 3, 1, 3])
    once, twice = model("implicit", 4, 4), model("implicit", 4, 4)
    once.sweep(once.prepare(users, items, torch.tensor([3.0, 1.0, 2.0, 4.0, 5.0])))
    more_users, more_items = torch.cat([torch.tensor([1, 2]), users]), torch.cat([torch.tensor([1, 1]), items])
    with pytest.warns(CollabWarning, match="1 of 6 pairs have a strength of 0"):
        prepared = twice.prepare(more_users, more_items, torch.tensor([1.0, 0.0, 2.0, 1.0, 2.0, 4.0, 5.0]))
    twice.sweep(prepared)
    for side in "ui":
        np.testing.assert_allclose(joined(twice, side), joined(once, side), rtol=1e-12)


def test_the_order_of_the_rows_changes_no_bit():
    users, items, ratings = rows(30, 25, 300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    for kind in KINDS:
        one, other = model(kind, 30, 25), model(kind, 30, 25)
        for _ in range(3):
            one.sweep(one.prepare(users, items, ratings))
            other.sweep(other.prepare(users[order], items[order], ratings[order]))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))


def test_known_factors_are_found_again():
    """Ratings that are a mean, biases and products of 3 factors, without noise, are predicted where not observed."""
    rng = np.random.default_rng(0)
    n_users, n_items = 120, 100
    truth = (3.5 + rng.normal(0, 0.5, (n_users, 1)) + rng.normal(0, 0.5, (1, n_items))
             + rng.normal(0, 0.6, (n_users, 3)) @ rng.normal(0, 0.6, (3, n_items)))
    users, items = (torch.from_numpy(a) for a in np.nonzero(rng.random((n_users, n_items)) < 0.4))
    known = (users > 0) & (items > 0)
    users, items = users[known], items[known]
    ratings = torch.from_numpy(truth[users, items])
    torch.manual_seed(0)
    m = ALS(3, n_users, n_items, implicit=False, reg=1e-4, dtype="float64")
    for _ in range(40):
        m.sweep(m.prepare(users, items, ratings))
    error = m.cross(torch.arange(1, n_users), torch.arange(1, n_items)).numpy() - truth[1:, 1:]
    assert np.sqrt((error ** 2).mean()) < 0.02 < 0.5 < truth.std()


def test_two_crowds_are_recommended_what_their_own_crowd_chose():
    users = torch.arange(1, 41).repeat_interleave(10)
    draw = torch.Generator().manual_seed(0)
    crowd = (users > 20).long()
    items = 1 + torch.randint(0, 15, users.shape, generator=draw) + 15 * crowd
    torch.manual_seed(0)
    m = ALS(2, 41, 31, reg=1.0, alpha=5.0)
    for _ in range(10):
        m.sweep(m.prepare(users, items, torch.ones(len(users))))
    scores = m.cross(torch.arange(1, 41), torch.arange(1, 31))
    assert scores[:20, :15].min() > scores[:20, 15:].max() and scores[20:, 15:].min() > scores[20:, :15].max()


def test_config_builds_the_same_kind_of_model_again():
    for kind in KINDS:
        m = model(kind)
        again = ALS(**m.config)
        again.load_state_dict(m.state_dict())
        users, items = torch.arange(9), torch.arange(9)
        assert torch.equal(again(users, items), m(users, items)) and again.config == m.config


# What is wrong is said --------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("options", "message"), [
    ({"reg": 0.0}, "reg must be a finite number above 0, got 0.0"),
    ({"alpha": -1.0}, "alpha must be a finite number above 0, got -1.0"),
    ({"cg_steps": -1}, "cg_steps must be at least 1, or 0 for exact solutions, got -1"),
    ({"dtype": "half"}, "dtype must be 'float32' or 'float64', got 'half'")])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ALS(4, 5, 6, **options)


@pytest.mark.parametrize(("users", "items", "ratings", "message"), [
    ([1, 2], [1, 2], [1.0], r"one shape \(n,\), got \(2,\), \(2,\) and \(1,\)"),
    ([], [], [], "there are no ratings to solve from"),
    ([1, 5], [1, 2], [1.0, 1.0], "users must be rows from 1 to 4 .* got 5; build the model with n_users=6"),
    ([1, 2], [0, 2], [1.0, 1.0], "items must be rows from 1 to 5, got 0; row 0 stands for unknown ones"),
    ([1, 2], [1, 2], [1.0, float("nan")], "1 of 2 ratings are not finite"),
    ([1, 2], [1, 2], [1.0, -2.0], "1 of 2 ratings are negative .* implicit=False"),
    ([1, 2], [1, 2], [0.0, 0.0], "all ratings are 0")])
def test_rows_that_cannot_be_solved_from_are_refused(users: list[int], items: list[int], ratings: list[float],
                                                     message: str):
    with pytest.raises(ValueError, match=message):
        ALS(4, 5, 6).prepare(torch.tensor(users).long(), torch.tensor(items).long(), torch.tensor(ratings))


def test_an_interrupted_sweep_leaves_the_weights_of_the_one_before(monkeypatch: pytest.MonkeyPatch):
    m, data = model("implicit"), rows()
    prepared = m.prepare(*data)
    m.sweep(prepared)
    before = [p.clone() for p in m.parameters()]
    solve, calls = torch.linalg.cholesky_ex, []

    def interrupted(*args: Any) -> Tensor:
        calls.append(1)
        if len(calls) > 1:      # the items are solved
            raise KeyboardInterrupt
        return solve(*args)
    monkeypatch.setattr(torch.linalg, "cholesky_ex", interrupted)
    with pytest.raises(KeyboardInterrupt):
        m.sweep(prepared)
    assert all(torch.equal(p, b) for p, b in zip(m.parameters(), before))


def test_alpha_is_by_default_seven_over_the_mean_strength_so_that_their_unit_does_not_matter():
    users, items, ratings = torch.tensor([1, 1, 2, 3, 3, 3]), torch.tensor([1, 2, 2, 1, 1, 3]), torch.arange(1., 7.)
    tables = []
    for unit in (1.0, 10.0):
        torch.manual_seed(0)
        m = ALS(2, 4, 4, cg_steps=0, dtype="float64")
        prepared = m.prepare(users, items, unit * ratings)
        for _ in range(3):
            m.sweep(prepared)
        assert m.alpha == m.config["alpha"] == pytest.approx(7 / (unit * 21 / 5))       # a pair twice: 5 of them
        tables.append(m.i_weight.weight.clone())
        assert ALS(**m.config).alpha == m.alpha
    torch.testing.assert_close(tables[0], tables[1])


# Scales -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("cg_steps", [0, 3])
@pytest.mark.parametrize(("times", "plus"), [(1e-3, 0.0), (200.0, 0.0), (1e5, 0.0), (1e12, 0.0), (2.0, -6.0)])
def test_ratings_on_another_scale_give_the_same_predictions_on_that_scale(times: float, plus: float, cg_steps: int):
    users, items, ratings = rows(40, 30, 500)
    new = torch.tensor([1, 4, 9]), torch.tensor([5.0, 1.0, 4.0])
    scores, losses = [], []
    for a, b in ((1.0, 0.0), (times, plus)):
        torch.manual_seed(0)
        m = ALS(4, 40, 30, implicit=False, cg_steps=cg_steps)
        prepared = m.prepare(users, items, ratings.float() * a + b)
        for _ in range(5):
            m.sweep(prepared)
        again = ALS(**m.config)         # as a file makes it
        again.load_state_dict(m.state_dict())
        every = torch.arange(40), torch.arange(30)
        scores.append([(m.cross(*every) - b) / a, (again.score_new(new[0], new[1] * a + b) - b) / a])
        losses.append(m.loss(prepared) / a ** 2)
    for one, other in zip(*scores):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_ratings_that_are_all_equal_are_predicted_as_they_are():
    users, items, ratings = rows(20, 15, 100)
    m = ALS(3, 20, 15, implicit=False)
    m.sweep(m.prepare(users, items, torch.full_like(ratings, 7.0)))
    every = m.cross(torch.arange(20), torch.arange(15))
    torch.testing.assert_close(every, torch.full((20, 15), 7.0), atol=0.05, rtol=0)


def test_going_on_with_ratings_of_another_spread_begins_where_the_first_ended():
    """The standardised weights stay; more people have nearly the same spread, and a second fit exactly the same."""
    users, items, ratings = rows(20, 15, 100)
    m = ALS(3, 20, 15, implicit=False, dtype="float64")
    m.sweep(m.prepare(users, items, ratings))
    before = m._table("u").clone()
    m.prepare(users, items, ratings * 10)
    torch.testing.assert_close(m._table("u"), before)
    assert m.spread.item() == pytest.approx(10 * ratings.numpy().std())
