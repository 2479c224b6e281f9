"""why=True: the rated item that speaks for a recommendation, for known users, new ones and from an index."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from collab import CollabDataBunch, CollabLearner, DataError, Index, collab_learner, synthetic
from collab.files import read_tensors, write_tensors
from collab.models.base import Unsupported
from collab.models.dot_form import Ridge

ML = synthetic(60, 40, 900, seed=1)
SOLVED = "als", "als_explicit", "ease", "infinite_ae"


def fitted(name: str, ratings: pd.DataFrame = ML.ratings, titles: bool = True) -> CollabLearner:
    data = CollabDataBunch.from_df(ratings, items=ML.items if titles else None, seed=0, device="cpu",
                                   implicit=name in ("als", "bpr", "ease", "infinite_ae"))
    learn = collab_learner(data, name, n_factors=4)
    with learn.no_logging():
        learn.fit() if name in SOLVED else learn.fit_one_cycle(3)
    return learn


@pytest.fixture(scope="module")
def learn() -> CollabLearner:
    return fitted("dot_bias")


def history(learn: CollabLearner, user: object) -> dict:
    table = learn.rated(user, part="train")
    return dict(zip(table["item"], table["rating"]))


def parts_by_hand(learn: CollabLearner, items: torch.Tensor, ratings: np.ndarray) -> np.ndarray:
    """q_i' A^-1 q_j (r_j - base_j), (n_items, n), by the factors alone, where ratings are a straight line around the
    solution: their weights are the squared slopes of the sigmoid there, and r_j - base_j is what moves the average
    user's logit to the line."""
    form, ridge = learn.collab_model.dot_form(), learn.fold_in().ridge
    assert form.y_range == (0.5, 5.5)
    q = np.c_[form.items.double().numpy(), np.ones(len(form.items))]
    offset = (form.mu + form.i_bias.double().numpy())[items]
    own = torch.as_tensor(items), torch.as_tensor(ratings, dtype=torch.float32)
    w = learn.fold_in().solve(torch.zeros(len(items), dtype=torch.int64), *own, 1)[0].numpy()
    logit = offset + q[items] @ w
    sigmoid = 1 / (1 + np.exp(-logit))
    slope = 5 * sigmoid * (1 - sigmoid)
    line = logit + (ratings - 0.5 - 5 * sigmoid) / slope            # the logit that would give the rating
    base = offset + q[items] @ form.average.double().numpy()
    a = (q[items].T * slope ** 2) @ q[items]
    a += held(ridge, len(items))
    parts = np.c_[q[:, :-1], np.zeros(len(q))] @ np.linalg.inv(a) @ (q[items].T * slope ** 2) * (line - base)
    return parts * (ratings > 0.5 + 5 / (1 + np.exp(-base)))        # of liked items alone


def held(ridge: Ridge, n: int) -> np.ndarray:
    """The ridge of [p, b] with n ratings, (width, width)."""
    scale = np.sqrt([ridge.factors] * (len(ridge.prior.least) - 1) + [ridge.bias])
    axes = scale[:, None] * ridge.prior.axes.numpy()
    return axes * np.maximum(n ** 0.5, ridge.prior.least.numpy()) @ axes.T


def test_the_reason_is_the_rating_with_the_largest_part_in_the_folded_in_score(learn):
    for user in learn.data.users.ids[[3, 20, 41]]:
        rated = history(learn, user)
        items = learn.data.items.encode([*rated])
        parts = parts_by_hand(learn, items, np.array([*rated.values()]))
        titles = learn.data.titles([*rated])
        for table in (learn.recommend(user, 40, why=True), learn.recommend(ratings=rated, n=40, why=True)):
            assert [*table] == ["rank", "item", "title", "score", "why"] and len(table) > 10
            for row, why in zip(learn.data.items.encode(table["item"]), table["why"]):
                best = parts[row].argmax()
                assert why == (titles[best] if parts[row, best] > 1e-6 else None)


def test_reasons_change_nothing_else(learn):
    asked = learn.data.users.ids[[3, 9]]
    for user in (asked[0], asked):
        bare, found = learn.recommend(user, 8), learn.recommend(user, 8, why=True)
        pd.testing.assert_frame_equal(found.drop(columns="why"), bare, check_exact=True)
    assert found["why"].tolist()[:8] == learn.recommend(asked[0], 8, why=True)["why"].tolist()


def test_what_was_rated_low_is_no_reason_and_an_item_is_none_for_itself(learn):
    form = learn.collab_model.dot_form()
    row = int(form.items[1:].norm(dim=1).argmax()) + 1
    item, q = learn.data.items.ids[row], form.items.double().numpy()
    low, high = (learn.recommend(ratings={item: rating}, n=40, why=True, exclude=None) for rating in (1.0, 5.0))
    assert low["why"].isna().all()
    named, title = high.set_index("item")["why"], learn.data.titles([item])[0]
    moved = np.linalg.inv(held(learn.fold_in().ridge, 1))[:-1] @ [*q[row], 1]      # p, by a rating above the average's
    towards = q @ moved / (q[row] @ moved)
    for other in range(1, len(q)):
        if abs(towards[other]) > 1e-3:
            expected = title if towards[other] > 0 and other != row else None
            assert named[learn.data.items.ids[other]] == expected
    assert named[item] is None and named.notna().any()


def test_without_titles_reasons_are_ids():
    learn = fitted("als", titles=False)
    user = learn.data.users.ids[4]
    found = learn.recommend(user, 5, why=True)
    assert [*found] == ["rank", "item", "score", "why"] and {*found["why"]} <= {*history(learn, user)}


def test_other_models_name_the_liked_item_that_is_most_similar():
    learn = fitted("net")
    user = learn.data.users.ids[7]
    rated = history(learn, user)
    mean = np.mean([*rated.values()])
    liked = [item for item, rating in rated.items() if rating > mean]
    assert 0 < len(liked) < len(rated)
    found = learn.recommend(user, 40, why=True)
    factors = torch.nn.functional.normalize(learn.weight().double(), dim=1)
    cosines = factors @ factors.T
    for item, why in zip(found["item"], found["why"]):
        row = learn.data.items[item] - 1
        best = max(sorted(liked), key=lambda other: cosines[row, learn.data.items[other] - 1])
        assert why == (learn.data.titles([best])[0] if cosines[row, learn.data.items[best] - 1] > 1e-6 else None)


def test_ease_names_what_adds_most_to_the_score():
    learn = fitted("ease")
    user = learn.data.users.ids[7]
    rows = learn.data.histories[learn.data.users[user]][0]
    weight = learn.collab_model.weight
    found = learn.recommend(user, 10, why=True)
    for item, why in zip(found["item"], found["why"]):
        best = rows[weight[learn.data.items[item], rows].argmax()]
        assert why == learn.data.catalogue.titles[best - 1]


def test_without_ratings_or_similarities_there_is_no_reason():
    learn = fitted("als")
    with pytest.warns(UserWarning, match="not trained on"):
        assert learn.recommend(-5, 4, why=True)["why"].tolist() == [None] * 4
    means = fitted("infinite_ae")
    with pytest.raises(Unsupported, match="learns no factors of items"):
        means.recommend(means.data.users.ids[1], why=True)


@pytest.mark.parametrize("name", ["dot_bias", "dot", "svdpp", "als", "als_explicit"])
def test_an_index_folds_in_as_its_model_does(name: str, tmp_path, learn):
    learn = learn if name == "dot_bias" else fitted(name)
    rated = history(learn, learn.data.users.ids[7])
    rated = [*rated] if learn.data.implicit else rated
    index = learn.index(users=False)
    expected = learn.recommend(ratings=rated, n=12, why=True)
    found = index.recommend(ratings=rated, n=12, why=True)
    assert found["item"].tolist() == expected["item"].tolist() and [*found] == [*expected]
    assert found["why"].tolist() == expected["why"].tolist()
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-4, atol=1e-5)
    again = Index.load(index.save(tmp_path / "index"))
    pd.testing.assert_frame_equal(again.recommend(ratings=rated, n=12, why=True), found, check_exact=True)
    pd.testing.assert_frame_equal(again.recommend(ratings=rated, n=12), found.drop(columns="why"), check_exact=True)
    shorter = again.recommend(ratings=rated, n=12, exclude=[found["item"].iloc[0]])
    assert shorter["item"].tolist()[:11] == found["item"].tolist()[1:]


def test_an_index_refuses_the_ratings_that_its_model_refuses(learn):
    index, item = learn.index(), learn.data.items.ids[1]
    for ratings, says in (({item: 9.0}, "1 of 1 ratings lie outside the scale of 1 to 5"), ({item: "x"}, "be numbers"),
                          ({}, "no ratings to fold in"), ([item], r"ratings are \{item: rating\}, a Series")):
        with pytest.raises(DataError, match=says):
            index.recommend(ratings=ratings)
    with pytest.raises(TypeError, match="either a user, or the ratings="):
        index.recommend(7, ratings={item: 4.0})
    with pytest.raises(DataError, match="give a user, or the ratings="):
        index.recommend()
    with pytest.raises(DataError, match="holds no ratings, so that it cannot say why"):
        index.recommend(learn.data.users.ids[1], why=True)
    with pytest.raises(DataError, match="for a new one pass a list"):
        index.recommend(ratings={item: 4.0}, exclude={7: [item]})


def test_an_index_that_cannot_fold_in_says_why(learn, tmp_path):
    network = fitted("softmax").index()
    for index in (network, Index.load(network.save(tmp_path / "network"))):
        with pytest.raises(DataError, match="its model scores them in a way of its own, .* ask the learner"):
            index.recommend(ratings=[ML.items["item"].iloc[0]])
    tensors, config = read_tensors(learn.index().save(tmp_path / "now"), kind="index")
    del config["fold_in"], tensors["average"]
    older = Index.load(write_tensors(tmp_path / "older", tensors, config, kind="index"))
    user = learn.data.users.ids[2]
    pd.testing.assert_frame_equal(older.recommend(user), learn.index().recommend(user), check_exact=True)
    with pytest.raises(DataError, match=r"of an earlier version, which kept no ridge; make it again"):
        older.recommend(ratings={learn.data.items.ids[1]: 4.0})
