"""Every model: its lists are the order of its own scores, and every route gives the same ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from collab import CollabWarning, Index, UnknownId

from .cases import METADATA
from .ratings import COLD_ITEMS, COLD_USERS, ITEMS, NEW, NOVELTY, ONCE, STRANGER, USER, USERS

EVERYBODY = [USER, ONCE[0], COLD_USERS[1]]


def unseen(it, user, part="known"):
    """What somebody has not rated."""
    seen = it.history(user) if part == "train" else it.known(user)
    return [item for item in it.items if item not in seen]


def check_list(it, table, row, candidates, n=None):
    """The best `n` of the candidates by the scores of a row, best first, as they are reported."""
    n = len(candidates) if n is None else n
    found = table["item"].tolist()
    assert len(found) == len({*found}) == min(n, len(candidates)) and {*found} <= {*candidates}
    raw = it.raw[row, [it.column(item) for item in found]]
    rest = [it.raw[row, it.column(item)] for item in candidates if item not in {*found}]
    assert (np.diff(raw) <= it.rounding).all() and raw.min() >= max(rest, default=-np.inf) - it.rounding
    assert table["rank"].tolist() == [*range(1, len(found) + 1)]
    assert table["title"].tolist() == [it.titles[item] for item in found]
    it.assert_near(table["score"], raw if it.case.ranks else raw.clip(1, 5))


def test_recommend_to_one(it):
    for user in EVERYBODY:
        check_list(it, it.learn.recommend(user, n=7), it.row(user), unseen(it, user), 7)
        check_list(it, it.learn.recommend(user, n=1000), it.row(user), unseen(it, user))


def test_recommend_what_was_seen_too(it):
    check_list(it, it.learn.recommend(USER, n=100, exclude=None), it.row(USER), it.items)
    check_list(it, it.learn.recommend(USER, n=100, exclude="train"), it.row(USER), unseen(it, USER, "train"))
    assert it.known(USER) - {*it.history(USER)}         # so that there is a difference


def test_recommend_to_several(it):
    table = it.learn.recommend(EVERYBODY, n=5)
    assert [*table] == ["user", "rank", "item", "title", "score"] and table["user"].unique().tolist() == EVERYBODY
    for user, mine in table.groupby("user"):
        check_list(it, mine.reset_index(drop=True), it.row(user), unseen(it, user), 5)


def test_recommend_to_somebody_unknown(it):
    with pytest.warns(CollabWarning, match="1 of 1 user ids were not trained on"):
        table = it.learn.recommend("nobody", n=100)
    check_list(it, table, 0, it.items)
    with pytest.warns(CollabWarning, match="1 of 2 user ids"):
        both = it.learn.recommend([USER, "nobody"], n=100, exclude=None)
    assert (both["user"] == "nobody").sum() == len(it.items)
    with pytest.warns(CollabWarning, match="not trained on"):       # what a stranger is known to have rated is left out
        check_list(it, it.learn.recommend(STRANGER, n=100), 0, [item for item in it.items if item != ITEMS[4]])
    with pytest.raises(UnknownId):
        it.learn.recommend("nobody", unknown="error")


def test_recommend_among_and_without(it):
    some = [*ITEMS[:9], *COLD_ITEMS]
    check_list(it, it.learn.recommend(USER, n=100, among=some, exclude=None), it.row(USER), sorted({*some}))
    title = it.titles[ITEMS[2]]
    left = sorted({*some} - {ITEMS[2], ITEMS[3]})
    check_list(it, it.learn.recommend(USER, n=100, among=some, without=[title, ITEMS[3]], exclude=None), it.row(USER),
               left)
    with pytest.warns(CollabWarning, match="1 of 2 items in among="):
        check_list(it, it.learn.recommend(USER, among=[ITEMS[1], NOVELTY], exclude=None), it.row(USER), [ITEMS[1]])


def test_cold_items_that_are_alike_come_in_the_order_of_their_ids(it):
    table = it.learn.recommend(it.users, n=100, exclude=None)
    if it.case.name not in METADATA:
        cold = table[table["item"].isin(COLD_ITEMS)]
        assert all(ids == COLD_ITEMS for ids in cold.groupby("user")["item"].agg(list))


def test_recommend_to_everybody(it, tmp_path):
    tables = list(it.learn.recommend_all(n=3))
    whole = pd.concat(tables, ignore_index=True)
    assert whole["user"].unique().tolist() == it.users
    pd.testing.assert_frame_equal(whole, it.learn.recommend(it.users, n=3), check_exact=False, atol=it.rounding)
    path = it.learn.recommend_all(n=3, users=EVERYBODY, path=tmp_path / "recs.csv")
    written = pd.read_csv(path)
    expected = it.learn.recommend(EVERYBODY, n=3)
    assert [*written] == [*expected] and written["item"].tolist() == expected["item"].tolist()
    it.assert_near(written["score"], expected["score"])


def test_recommend_to_somebody_new(it):
    with it.able("new_people"):
        table = it.learn.recommend(ratings=NEW, n=100)
        assert {*table["item"]} == {*it.items} - {*NEW}
        assert np.isfinite(table["score"]).all() and table["score"].is_monotonic_decreasing
        it.assert_near(table["score"], it.learn.predict(ratings=NEW, item=table["item"]))
        assert {*it.learn.recommend(ratings=NEW, n=100, exclude=None)["item"]} == {*it.items}
        with pytest.warns(CollabWarning, match="1 of 5 items that are rated were not trained on"):
            again = it.learn.recommend(ratings=pd.Series({**NEW, NOVELTY: 3.0}), n=100)
        pd.testing.assert_frame_equal(again, table)


def test_somebody_new_with_the_ratings_of_a_trained_user(it):
    with it.able("new_people"):
        for user in (USER, ONCE[0]):
            mine = it.history(user)
            table = it.learn.recommend(ratings=mine, n=100)
            assert {*table["item"]} == {*it.items} - {*mine} and np.isfinite(table["score"]).all()
        titled = {it.titles[item]: rating for item, rating in it.history(ONCE[0]).items()}
        pd.testing.assert_frame_equal(it.learn.recommend(ratings=titled, n=100), table)


def test_index_gives_the_same_lists(it):
    with it.able("index"):
        index = it.learn.index()
        assert len(index) == len(it.items)
        for user in EVERYBODY:
            check_list(it, index.recommend(user, n=100), it.row(user), it.items)
        without = it.learn.recommend(EVERYBODY, n=5, without=[*NEW], exclude=None)
        pd.testing.assert_frame_equal(index.recommend(EVERYBODY, n=5, exclude=[*NEW]), without, check_exact=False,
                                      check_frame_type=False, atol=it.rounding)
        with pytest.warns(CollabWarning, match="not trained on"):
            check_list(it, index.recommend("nobody", n=100), 0, it.items)


def test_index_is_searched_and_kept_in_a_file(it, tmp_path):
    with it.able("index"):
        index = it.learn.index()
        near = index.search(index.users[it.row(USER)], k=6, exclude=[ITEMS[:4]])
        check_list(it, near, it.row(USER), ITEMS[4:], 6)
        loaded = Index.load(index.save(tmp_path / "index.safetensors"))
        pd.testing.assert_frame_equal(loaded.recommend(EVERYBODY, n=9), index.recommend(EVERYBODY, n=9),
                                      check_exact=True)
        alone = Index.load(it.learn.index(users=False).save(tmp_path / "items.safetensors"))
        assert alone.users is None
        pd.testing.assert_frame_equal(alone.search(index.users[1:4], k=9), index.search(index.users[1:4], k=9))


# Neighbours --------------------------------------------------------------------------------------------------------

def cosines(weight: torch.Tensor, place: int) -> np.ndarray:
    unit = torch.nn.functional.normalize(weight.double(), dim=1)
    return (unit @ unit[place]).numpy()


@pytest.mark.parametrize("by", ["item", "user"])
def test_the_nearest(it, by):
    ids, id = (it.items, ITEMS[4]) if by == "item" else (it.users, USER)
    with it.able(f"similar_{by}s"):
        similar = it.learn.similar_items if by == "item" else it.learn.similar_users
        table, counts = similar(id, n=100, min_ratings=0), it.data.counts(by)[1:].numpy()
        assert [*table] == ["rank", by, *(["title"] if by == "item" else []), "score"]
        assert {*table[by]} == {*ids} - {id} and table["score"].is_monotonic_decreasing
        enough = [one for one, n in zip(ids, counts) if n >= 9 and one != id]
        assert {*similar(id, n=100, min_ratings=9)[by]} == {*enough}
        if f"{by}_factors" not in it.case.lacks:
            likeness = cosines(it.learn.weight(is_item=by == "item"), ids.index(id))
            np.testing.assert_allclose(table["score"], [likeness[ids.index(one)] for one in table[by]], atol=1e-5)
        elif by == "item" and "new_people" not in it.case.lacks:    # what one choice adds to the others
            alone = it.learn.predict(ratings={id: 1.0}, item=table[by])
            it.assert_near(table["score"], alone)
        with pytest.raises(UnknownId):
            similar("nobody" if by == "user" else 1)


@pytest.mark.parametrize("by", ["item", "user"])
def test_factors(it, by):
    is_item, ids = by == "item", it.items if by == "item" else it.users
    with it.able(f"{by}_factors"):
        weight = it.learn.weight(is_item=is_item)
        assert weight.shape[0] == len(ids) and not weight.requires_grad and weight.isfinite().all()
        assert torch.equal(it.learn.weight(ids[3:5], is_item), weight[3:5])
        assert torch.equal(it.learn.weight(ids[3], is_item), weight[3])
        if is_item:
            assert torch.equal(it.learn.weight(it.titles[ids[2]]), weight[2])
        table = getattr(it.learn.model, f"{by[0]}_weight", None)
        if any(own is getattr(table, "weight", None) for own in it.learn.collab_model.id_tables().get(by, [])):
            assert torch.equal(weight, table.weight.detach()[1:])
        with pytest.raises(UnknownId):
            it.learn.weight(1 if is_item else "nobody", is_item)


@pytest.mark.parametrize("by", ["item", "user"])
def test_biases(it, by):
    is_item, ids = by == "item", it.items if by == "item" else it.users
    with it.able(f"{by}_biases"):
        bias = it.learn.bias(is_item=is_item)
        assert bias.shape == (len(ids),) and not bias.requires_grad and bias.isfinite().all()
        assert bias.std() > 0
        assert torch.equal(it.learn.bias(ids[3:5], is_item), bias[3:5])
        assert it.learn.bias(ids[3], is_item).shape == () and it.learn.bias(ids[3], is_item) == bias[3]
        with pytest.raises(UnknownId):
            it.learn.bias(1 if is_item else "nobody", is_item)


def test_factors_and_biases_make_up_the_score(it):
    if it.case.lacks & {"parts", "item_factors", "user_factors"}:
        return
    logits = it.raw[1:, 1:]
    if (limits := getattr(it.learn.model, "y_range", None)) is not None:
        share = (logits - limits[0]) / (limits[1] - limits[0])
        logits = np.log(share / (1 - share))
    rest = logits - (it.learn.weight(is_item=False).double() @ it.learn.weight().double().T).numpy()
    for by, shape in (("item", (1, -1)), ("user", (-1, 1))):
        if f"{by}_biases" not in it.case.lacks:
            rest = rest - it.learn.bias(is_item=by == "item").double().numpy().reshape(shape)
    np.testing.assert_allclose(rest, rest.mean(), atol=2e-5)
    assert {"item_biases", "user_biases"} - it.case.lacks or abs(rest.mean()) < 2e-5
    assert USERS[0] == it.users[0]
