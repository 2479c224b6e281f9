"""EASE: its weights, scores and objective against dense numpy, and how histories are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import dense, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from collab import ragged
from collab.data.interactions import Interactions
from collab.models import ease as ease_module
from collab.models.ease import EASE

OPTIONS: list[dict[str, Any]] = [{"reg": 2.0}, {"reg": 0.5, "implicit": False}, {"reg": 1.0, "dropout": 0.3},
                                 {"reg": 1.0, "user_power": 0.5}]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=[", ".join(o) for o in OPTIONS])


def naive(x: np.ndarray, reg: float, dropout: float = 0.0, user_power: float = 0.0,
          implicit: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(B, G, ridge) by the formulas of the papers."""
    counts = (x != 0).sum(1)
    w = np.array([n ** -user_power if n else 0.0 for n in counts])
    w /= (w * counts).sum() / counts.sum()
    g = x.T @ np.diag(w) @ x
    ridge = reg + dropout / (1 - dropout) * g.diagonal()
    p = np.linalg.inv(g + np.diag(ridge))
    b = np.eye(len(p)) - p @ np.diag(1 / p.diagonal())
    np.fill_diagonal(b, 0.0)
    return b, g, ridge


@every_option
@settings(max_examples=20, deadline=None)
@given(n_users=st.integers(2, 12), n_items=st.integers(2, 14), n=st.integers(1, 70), seed=st.integers(0, 99))
def test_weights_and_scores_are_those_of_dense_numpy(options: dict[str, Any], n_users: int, n_items: int, n: int,
                                                     seed: int):
    data = rows(n_users, n_items, n, seed)
    x = dense(data, n_users, n_items, options.get("implicit", True))
    b = naive(x, **options)[0]
    m = EASE(n_items, **options)
    m.set_interactions(Interactions(*data, n_users, n_items))
    m.sweep(m.prepare(*data))
    np.testing.assert_allclose(m.weight[1:, 1:].T, b, rtol=1e-5, atol=1e-6)
    assert not m.weight[:, 0].any() and not m.weight.diagonal()[1:].any()
    users, items = torch.arange(n_users), torch.arange(n_items)
    scores = m.cross(users, items).numpy()
    known = x.any(1)
    expected = x @ b
    expected[~known] = expected[known].mean(0)          # who rated nothing is the average user
    np.testing.assert_allclose(scores[1:, 1:], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores[0, 1:], expected[known].mean(0), rtol=1e-4, atol=1e-5)
    pairs = users.repeat_interleave(n_items), items.repeat(n_users)
    np.testing.assert_allclose(m(*pairs).view(n_users, n_items), scores, rtol=1e-4, atol=1e-5)


@every_option
def test_the_loss_is_the_naive_objective_and_the_solution_its_least(options: dict[str, Any]):
    data = rows(n=60)
    x = dense(data, 9, 12, options.get("implicit", True))
    b, g, ridge = naive(x, **options)
    m = EASE(12, **options)
    prepared = m.prepare(*data)

    def objective(b: np.ndarray) -> float:
        return np.trace((np.eye(11) - b).T @ g @ (np.eye(11) - b)) + (ridge[:, None] * b ** 2).sum()
    assert m.loss(prepared) == pytest.approx(np.trace(g))
    assert m.sweep(prepared) == pytest.approx(objective(b), rel=1e-9)
    assert m.loss(prepared) == pytest.approx(objective(b), rel=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(20):
        step = rng.normal(0, 0.01, b.shape)
        np.fill_diagonal(step, 0.0)
        assert objective(b + step) > objective(b)


def test_two_items_by_hand():
    # users {1}, {1, 2}: G = [[2, 1], [1, 1]], + I = [[3, 1], [1, 2]], B_12 = 1 / 3 (ridge of 2 on 1), B_21 = 1 / 2
    m = EASE(3, reg=1.0).solve(torch.tensor([1, 2, 2]), torch.tensor([1, 1, 2]), torch.ones(3))
    torch.testing.assert_close(m.weight[1:, 1:], torch.tensor([[0.0, 0.5], [1 / 3, 0.0]]))
    torch.testing.assert_close(m.cross(torch.tensor([1, 2]), torch.tensor([1, 2])),
                               torch.tensor([[0.0, 1 / 3], [0.5, 1 / 3]]))


def test_the_unknown_user_gets_the_average_users_score_and_the_unknown_item_the_average_items():
    data = rows()
    m = EASE(12, reg=2.0).solve(*data)
    users, items = torch.arange(1, 9), torch.arange(12)
    torch.testing.assert_close(m.cross(torch.tensor([0]), items)[0], m.cross(users, items).mean(0))
    torch.testing.assert_close(m.cross(users, items)[:, 0], m.cross(users, items[1:]).mean(1))


def test_somebody_new_is_scored_from_their_history():
    users, items, ratings = rows()
    for implicit in (True, False):
        m = EASE(12, reg=2.0, implicit=implicit).solve(users, items, ratings)
        mine = users == 3
        torch.testing.assert_close(m.score_new(items[mine], ratings[mine]),
                                   m.cross(torch.tensor([3]), torch.arange(12))[0])


def test_in_small_pieces_everything_is_the_same(monkeypatch: pytest.MonkeyPatch):
    data = rows(30, 25, 300)
    users, items = torch.arange(30).repeat_interleave(25), torch.arange(25).repeat(30)
    whole = EASE(25, reg=2.0).solve(*data)
    expected = whole.cross(torch.arange(30), torch.arange(25))
    for module in (ease_module, ragged):
        monkeypatch.setattr(module, "MAX_NUMBERS", 7)
    cut = EASE(25, reg=2.0).solve(*data)
    torch.testing.assert_close(cut.weight, whole.weight)
    torch.testing.assert_close(cut.cross(torch.arange(30), torch.arange(25)), expected)
    torch.testing.assert_close(cut.cross(torch.arange(30), torch.tensor([4, 2])), expected[:, [4, 2]])
    torch.testing.assert_close(cut(users, items).view(30, 25), expected)


def test_no_pairs_have_no_scores():
    m = EASE(12).solve(*rows())
    nobody = torch.zeros(0, dtype=torch.int64)
    assert m(nobody, nobody).shape == (0,) and m.cross(nobody, torch.arange(12)).shape == (0, 12)


def test_an_item_that_always_comes_with_another_is_recommended_to_whoever_has_the_other():
    rng = np.random.default_rng(0)
    x = rng.random((200, 20)) < 0.3
    x[:, 7] = x[:, 3]
    users, items = (torch.from_numpy(a) + 1 for a in np.nonzero(x))
    held_out = (users == 5) & (items == 8)
    m = EASE(21, reg=5.0).solve(users[~held_out], items[~held_out], torch.ones(int((~held_out).sum())))
    assert m.similarity("item")(torch.tensor([4]), torch.arange(1, 21)).argmax() == 7       # row 8 is item 7
    assert m.score_new(torch.tensor([4]), torch.ones(1)).argmax() == 8


def test_pairs_that_come_twice_count_once_or_with_their_sum():
    users, items = torch.tensor([1, 1, 2, 2, 1]), torch.tensor([1, 2, 1, 2, 2])
    ratings = torch.tensor([1.0, 2.0, 3.0, 4.0, 2.0])
    for implicit in (True, False):
        once = EASE(3, reg=1.0, implicit=implicit).solve(users[:4], items[:4], torch.tensor([1.0, 4.0, 3.0, 4.0]))
        twice = EASE(3, reg=1.0, implicit=implicit).solve(users, items, ratings)
        torch.testing.assert_close(twice.weight, once.weight)
        torch.testing.assert_close(twice.cross(users, items), once.cross(users, items))


def test_the_state_holds_the_weights_and_the_histories_are_remembered_anew():
    data = rows()
    m = EASE(12, reg=2.0).solve(*data)
    assert list(m.state_dict()) == ["weight"]
    again = EASE(**m.config)
    again.load_state_dict(m.state_dict())
    again.set_interactions(Interactions(*data, 9, 12))
    assert torch.equal(again.cross(torch.arange(9), torch.arange(12)), m.cross(torch.arange(9), torch.arange(12)))


@pytest.mark.parametrize(("options", "message"), [
    ({"n_items": 60_000}, "n_items=60,000 is too many for EASE.*leave out rarely rated items, or take ALS"),
    ({"n_items": 5, "reg": 0.0}, "reg must be a finite number above 0, got 0.0"),
    ({"n_items": 5, "dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0")])
def test_what_cannot_be_built_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        EASE(**options)


def test_where_memory_is_too_small_the_error_says_what_would_be_needed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ease_module, "MAX_ITEMS", 10**8)
    with pytest.raises(ValueError, match=r"EASE over 10,000,000 items needs some 2,000,000 GB while .*take ALS"):
        EASE(10**7)                             # 400 TB: no machine gives them
    m = EASE(12, reg=2.0)
    needs = "EASE over 12 items needs"
    for error, raised, message in ((torch.OutOfMemoryError("CUDA out of memory"), ValueError, needs),
                                   (MemoryError(), ValueError, needs),
                                   (RuntimeError("something else"), RuntimeError, "^something else$")):
        def fails(*_: Any, error: BaseException = error, **__: Any) -> None:
            raise error
        monkeypatch.setattr(torch.linalg, "cholesky_ex", fails)
        with pytest.raises(raised, match=message):
            m.solve(*rows())
    assert not m.weight.any()


def test_rows_it_does_not_have_are_refused():
    m = EASE(5)
    for users, items, message in (([1, 2], [1, 5], "items must be rows from 1 to 4"), ([0, 1], [1, 2], "users must be"),
                                  ([], [], "there are no ratings")):
        with pytest.raises(ValueError, match=message):
            m.prepare(torch.tensor(users).long(), torch.tensor(items).long(), torch.ones(len(users)))
