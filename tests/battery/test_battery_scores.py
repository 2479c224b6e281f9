"""Every model: its predictions are what its own forward gives; cold and unknown ids are average ones."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from collab import CollabWarning, DataError, UnknownId, evaluate

from .cases import METADATA
from .ratings import (
    BARE_ITEM,
    BARE_USER,
    COLD_ITEMS,
    COLD_USERS,
    ITEMS,
    NEW,
    NOVELTY,
    ONCE,
    STRANGER,
    TWIN,
    USER,
    USERS,
    held_out,
    valid_table,
)

SOME_USERS = [USER, ONCE[1], BARE_USER]
SOME_ITEMS = [ITEMS[4], ITEMS[20], COLD_ITEMS[0]]


def test_there_are_as_many_users_as_items_and_cold_ones_of_both(it):
    assert it.data.n_users == it.data.n_items == 41
    assert [u for u in it.users if not it.data.trained["user"][it.row(u)]] == COLD_USERS
    assert [i for i in it.items if not it.data.trained["item"][it.column(i)]] == COLD_ITEMS
    assert [len(it.history(user)) for user in ONCE] == [1, 1]
    assert STRANGER not in it.data.users and NOVELTY not in it.data.items


def test_predict_one(it):
    for user in SOME_USERS:
        for item in SOME_ITEMS:
            score = it.learn.predict(user, item)
            assert type(score) is float
            it.assert_near(score, it.scores[it.row(user), it.column(item)])


def test_predict_several(it):
    users, items = (list(np.repeat(SOME_USERS, 3)), SOME_ITEMS * 3)
    expected = [it.scores[it.row(u), it.column(i)] for u, i in zip(users, items)]
    for as_several in (list, np.array, pd.Series):
        it.assert_near(it.learn.predict(as_several(users), as_several(items)), expected)
    it.assert_near(it.learn.predict(USER, it.items), it.scores[it.row(USER), 1:])
    it.assert_near(it.learn.predict(it.users, ITEMS[6]), it.scores[1:, it.column(ITEMS[6])])
    with pytest.raises(ValueError, match="2 users and 3 items cannot be paired"):
        it.learn.predict(USERS[1:3], ITEMS[1:4])


def test_predict_by_title(it):
    title = it.titles[ITEMS[2]]
    assert it.learn.predict(USER, title.upper()) == it.learn.predict(USER, ITEMS[2])
    with pytest.raises(DataError, match="2 items have the title"):
        it.learn.predict(USER, TWIN)


def test_predict_unknown_ids(it):
    for user, item in ((STRANGER, ITEMS[4]), (USER, NOVELTY), (STRANGER, NOVELTY)):
        with pytest.warns(CollabWarning, match="stand for the average"):
            score = it.learn.predict(user, item)
        it.assert_near(score, it.scores[it.row(user), it.column(item)])
        with pytest.raises(UnknownId):
            it.learn.predict(user, item, unknown="error")


def test_cold_ids_of_which_nothing_is_known_are_unknown_ones(it):
    bare = it.case.name in METADATA
    for user in [BARE_USER] if bare else COLD_USERS:
        it.assert_near(it.raw[it.row(user)], it.raw[0])
    for item in [BARE_ITEM] if bare else COLD_ITEMS:
        it.assert_near(it.raw[:, it.column(item)], it.raw[:, 0])


@pytest.mark.parametrize("it", sorted(METADATA), indirect=True)
def test_metadata_tell_cold_ids_apart(it):
    cold = [it.column(item) for item in COLD_ITEMS]
    assert len(np.unique(it.raw[it.row(USER), cold].round(6))) > 3


def test_the_unknown_row_is_the_average_of_the_trained_ones(it):
    """Which table belongs to which side is seen from what the forward asks it for."""
    asked: dict[nn.Embedding, list[int]] = {}

    def note(table, rows):
        asked.setdefault(table, rows[0].flatten().tolist())

    model = copy.deepcopy(it.learn.model).eval()
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    for table in tables:
        table.register_forward_pre_hook(note)
    with torch.no_grad():
        model(torch.tensor([6, 6, 6]), torch.tensor([5, 5, 5]))
    sides = {table: {6: "user", 5: "item"}[rows[0]] for table, rows in asked.items() if len({*rows}) == 1}
    if not it.learn.collab_model.unknown_row and tables:
        assert {"softmax": {"item"}, "sasrec": {"item"}}.get(it.case.name, {"user", "item"}) == {*sides.values()}
        for table, side in sides.items():
            trained = it.data.trained[side]
            average = table.weight[trained].double().mean(0)
            for row in (~trained).nonzero().flatten().tolist():
                assert torch.allclose(table.weight[row].double(), average, atol=1e-6), (side, row)


@pytest.mark.parametrize("it", ["dot", "als", "als_explicit", "ease", "infinite_ae", "bpr"], indirect=True)
def test_scores_that_are_linear_in_a_side_are_average_for_the_unknown_of_it(it):
    users, items = (it.data.trained[by].numpy() for by in ("user", "item"))
    it.assert_near(it.raw[0], it.raw[users].mean(0))
    it.assert_near(it.raw[:, 0], it.raw[:, items].mean(1))


def test_predict_for_somebody_new(it):
    with it.able("new_people"):
        scores = it.learn.predict(ratings=NEW, item=it.items)
        assert np.isfinite(scores).all() and scores.std() > 0
        assert it.case.ranks or (scores.min() >= 1 and scores.max() <= 5)
        assert it.learn.predict(ratings=NEW, item=ITEMS[7]) == scores[it.column(ITEMS[7]) - 1]
        assert (it.learn.predict(ratings={ITEMS[4]: 1.0, ITEMS[9]: 5.0}, item=it.items) != scores).any()


@pytest.mark.parametrize("it", ["ease", "softmax"], indirect=True)
def test_somebody_new_with_the_history_of_another_has_their_scores_where_users_are_their_history(it):
    it.assert_near(it.learn.predict(ratings=it.history(USER), item=it.items), it.scores[it.row(USER), 1:])


def test_probabilities(it):
    with it.able("probabilities"):
        table = it.learn.probabilities(USER, SOME_ITEMS)
        levels = [1.0, 2.0, 3.0, 4.0, 5.0]
        assert [*table] == ["user", "item", *levels, "most_likely"] and table["item"].tolist() == SOME_ITEMS
        shares = table[levels].to_numpy(float)
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
        assert (table["most_likely"] == np.array(levels)[shares.argmax(1)]).all()
        expected = [it.scores[it.row(USER), it.column(item)] for item in SOME_ITEMS]
        if it.learn.model.classes:
            it.assert_near(shares @ levels, expected)
        else:                           # of a normal distribution, what lies beyond the scale counts as its ends
            np.testing.assert_allclose(shares @ levels, expected, atol=0.2)


def test_predictions_of_what_was_held_out_and_the_error_on_them(it):
    preds, targets = (t.numpy() for t in it.learn.get_preds())
    assert targets.tolist() == [rating for *_, rating in held_out()]
    expected = [it.scores[it.row(user), it.column(item)] for user, item, _ in held_out()]
    assert preds.shape == targets.shape
    it.assert_near(preds, expected)
    found = it.learn.validate()
    assert np.isfinite(found["valid_loss"]) or it.case.name == "rank_ensemble"      # which has no loss
    if not it.case.ranks:
        assert found["rmse"] == pytest.approx(np.sqrt(np.square(preds - targets).mean()), rel=1e-5)
        assert found["mae"] == pytest.approx(np.abs(preds - targets).mean(), rel=1e-5)


def test_errors_beside_the_baselines(it):
    with it.able("errors"):
        table = it.interp.errors().set_index("model")
        preds, targets = (t.double().numpy() for t in it.learn.get_preds())
        rated = np.array([rating for user in it.users for rating in it.history(user).values()])
        assert table.loc[it.model, "rmse"] == pytest.approx(np.sqrt(np.square(preds - targets).mean()), rel=1e-5)
        assert table.loc["mean rating", "mae"] == pytest.approx(np.abs(targets - rated.mean()).mean(), rel=1e-2)
        pd.testing.assert_frame_equal(it.interp.errors(valid_table()).set_index("model"), table)


def test_evaluate_finds_what_a_naive_ranking_finds(it):
    k, found = 5, {}
    for user in it.users:
        relevant = {item for one, item, _ in held_out() if one == user and item in it.items}
        left = [item for item in it.items if item not in it.history(user)]
        if relevant := relevant & {*left}:
            scores = it.raw[it.row(user), [it.column(item) for item in left]].astype(np.float32)
            top = {left[place] for place in np.argsort(-scores, kind="stable")[:k]}
            found[user] = len(top & relevant), len(relevant)
    result = evaluate(it.learn, k=k, metrics=("precision", "recall", "hit"))
    expected = pd.DataFrame(found, index=["hits", "n"]).T
    assert result.per_user["user"].tolist() == [*found]
    assert result.per_user["precision"].tolist() == pytest.approx((expected["hits"] / k).tolist())
    assert result.summary["recall"] == pytest.approx((expected["hits"] / expected["n"]).mean())
    assert result.baseline is not None and it.model in str(result)


def test_show_results(it):
    shown = it.learn.show_results(60)
    assert shown["rating"].tolist() == [rating for *_, rating in held_out()]
    known = [user if user in it.users else None for user, *_ in held_out()]
    assert shown["user"].astype(object).where(shown["user"].notna(), None).tolist() == known
    it.assert_near(shown["predicted"], it.learn.get_preds()[0].numpy())


def test_rated(it):
    known, mine = it.learn.rated(USER), it.learn.rated(USER, part="train")
    assert {*known["item"]} == it.known(USER) and {*mine["item"]} == {*it.history(USER)}
    assert known["rating"].is_monotonic_decreasing and mine["title"].tolist() == it.data.titles(mine["item"])
    assert it.learn.rated(STRANGER)["item"].tolist() == [ITEMS[4], NOVELTY]
    with pytest.raises(UnknownId):
        it.learn.rated("nobody")
