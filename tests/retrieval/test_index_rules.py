"""Rules of an index's lists, and new users of rankers: the answers are those of its learner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from collab import (
    BPR,
    CollabDataBunch,
    CollabLearner,
    DataError,
    FullSoftmax,
    InBatchSoftmax,
    Index,
    Logistic,
    SampledSoftmax,
    TwoTower,
    Vocab,
    collab_learner,
    synthetic,
)
from collab.files import read_tensors, write_tensors
from collab.learner import new_users
from collab.learner.objectives import Objective

ML = synthetic(60, 40, 900, seed=1)
FILMS = ML.items.assign(year=pd.array([*range(1960, 1999), None], dtype="Int64"),
                        genres=["Drama|War", "Comedy", "War", "Drama"] * 10)
RULES: list[dict[str, Any]] = [
    {"where": {"genres": "War", "year": ">=1980"}}, {"among": FILMS["item"][3:20].tolist()},
    {"among": [{"genres": "Comedy"}, {"year": "<1970"}], "without": {"genres": "War"}}, {"diversity": 0.4},
    {"diversity": 1.0, "where": "year>=1970", "without": FILMS["item"][5:9].tolist()}]


def fitted(model: Any, implicit: bool = False, **options: Any) -> CollabLearner:
    data = CollabDataBunch.from_df(ML.ratings, items=FILMS, seed=0, device="cpu", implicit=implicit)
    learn = collab_learner(data, model(data) if callable(model) else model, seed=0, metrics=[], **options)
    with learn.no_logging():
        learn.fit() if learn.collab_model.solved else learn.fit_one_cycle(4)
    return learn


def same(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-4, atol=1e-5)
    return found.drop(columns="score").equals(expected.drop(columns="score"))


@pytest.mark.parametrize(("model", "options"), [
    ("dot", {}), ("dot_bias", {"y_range": (0.5, 5.5)}), ("svdpp", {}), ("als_explicit", {}),
    *((model, {"implicit": True}) for model in ("als", "bpr", "lightgcn", "two_tower", "softmax"))])
def test_lists_by_the_rules_are_those_of_the_learner(model: str, options: dict[str, Any], tmp_path):
    learn = fitted(model, n_factors=4, **options)
    index = Index.load(learn.index().save(tmp_path / "index"))
    users = learn.data.users.ids[[3, 17]].tolist()
    for rules in RULES:
        expected = learn.recommend(users, 6, exclude=None, **rules)
        assert len(expected) > 6 and same(index.recommend(users, 6, **rules), expected)
        one = index.recommend(users[0], 6, as_frame="dict", **rules)
        assert one["item"] == expected["item"].tolist()[:len(one["item"])] and len(one["item"]) > 2
        assert same(learn.index().recommend(users[0], 6, **rules), learn.recommend(users[0], 6, exclude=None, **rules))
    plain = index.recommend(users[0], 6)
    assert plain["item"].tolist() != index.recommend(users[0], 6, diversity=1.0)["item"].tolist()
    seen = {user: learn.rated(user, part="train")["item"].tolist() for user in users}
    assert same(index.recommend(users, 6, seen, diversity=0.4),
                learn.recommend(users, 6, exclude="train", diversity=0.4))


def test_relevance_is_that_of_scores_within_their_range():
    learn = fitted("dot_bias", n_factors=4, y_range=(0.5, 5.5))
    with torch.no_grad():
        learn.model.i_bias.weight.normal_(0, 4, generator=torch.Generator().manual_seed(0))     # deep in the sigmoid
    user = learn.data.users.ids[3]
    for diversity in (0.2, 0.4, 0.6):
        assert same(learn.index().recommend(user, 10, diversity=diversity),
                    learn.recommend(user, 10, exclude=None, diversity=diversity))


OBJECTIVES = [BPR(2), BPR(1, beta=0.5, exclude_seen=False), Logistic(3), SampledSoftmax(4, beta=1.0, log_q=False),
              SampledSoftmax(4, beta=0.5, exclude_seen=True, log_q=False), InBatchSoftmax(temperature=0.5),
              InBatchSoftmax(log_q=False, exclude_seen=True), FullSoftmax(temperature=0.7)]


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_new_users_of_rankers_are_folded_in_as_by_the_learner(objective: Objective, implicit: bool, tmp_path):
    learn = fitted("dot_bias", implicit, n_factors=4, loss_func=type(objective)(**objective.config))
    with torch.no_grad():
        learn.model.mu.fill_(0.7)       # which moves the optimum of some objectives
    index = learn.index(users=False)
    again = Index.load(index.save(tmp_path / "index"))
    for rated in ({4: 5.0, 8: 2.0, 15: 4.0}, {30: 5.0}):
        given: Any = [*rated] if implicit else rated
        for rules in ({}, {"where": {"genres": "War"}}, {"diversity": 0.5}):
            asked: Any = {"ratings": given, "n": 6 if "diversity" in rules else 40, "why": True, **rules}
            found, expected = index.recommend(**asked), learn.recommend(**asked)
            assert same(found, expected) and (asked["n"] == 6 or expected["why"].notna().any())
            pd.testing.assert_frame_equal(again.recommend(**asked), found, check_exact=True)


@pytest.mark.parametrize("options", [
    {"loss_func": "softmax", "loss_terms": {"l2": 0.01}, "model": "dot"}, {"model": "svdpp", "loss_func": "bpr"},
    {"model": "two_tower"}, {"model": "lightgcn"},
    {"model": lambda data: TwoTower(4, data.n_users, data.n_items, hidden=(8,), normalise=True),
     "loss_func": InBatchSoftmax(temperature=0.2)}], ids=["terms", "svdpp", "two_tower", "lightgcn", "unit"])
def test_models_of_every_form_fold_new_users_in(options: dict[str, Any], tmp_path):
    terms = options.pop("loss_terms", None)
    if terms:
        from collab import L2
        options["loss_terms"] = [L2(0.01)]
    learn = fitted(implicit=True, **options)
    index = Index.load(learn.index().save(tmp_path / "index"))
    assert same(index.recommend(ratings=[4, 8, 15], n=6, why=True), learn.recommend(ratings=[4, 8, 15], n=6, why=True))


def test_an_index_keeps_the_columns_that_are_asked_for(tmp_path):
    learn = fitted("dot", n_factors=2)
    user = learn.data.users.ids[3]
    index = Index.load(learn.index(columns=["year"]).save(tmp_path / "some"))
    assert [*index.table] == ["year"] and str(index.table["year"].dtype) == "Int64"
    with pytest.raises(DataError, match=r"where= names a column 'genres' that .* The columns are 'year'"):
        index.recommend(user, where="genres=War")
    with pytest.raises(DataError, match=r"columns= names a column 'genre' that .*; did you mean 'genres'"):
        learn.index(columns=["genre"])
    for bare in (learn.index(columns=[]), Index(torch.ones(3, 2), Vocab([1, 2], "item"), None, torch.ones(2, 2),
                                                Vocab([user], "user"))):
        with pytest.raises(DataError, match="ids"):
            bare.recommend(user, where="year>=1980")
        assert len(bare.recommend(user, 2, among=[2, 1], diversity=0.1)) == 2       # ids need no columns


def test_an_older_file_says_how_to_get_conditions(tmp_path):
    learn = fitted("dot_bias", n_factors=3)
    tensors, config = read_tensors(learn.index().save(tmp_path / "now"), kind="index")
    del config["known_of_items"]
    older = Index.load(write_tensors(tmp_path / "older", tensors, config, kind="index"))
    user = learn.data.users.ids[3]
    with pytest.raises(DataError, match=r"its file is of an earlier version; make it again with learn\.index\(\)"):
        older.recommend(user, without={"genres": "War"})
    assert same(older.recommend(user, 6, diversity=0.5), learn.recommend(user, 6, exclude=None, diversity=0.5))


def test_an_index_without_new_users_chooses_no_ridge(tmp_path, monkeypatch):
    learn = fitted("bpr", implicit=True)
    whole = learn.index()
    monkeypatch.setattr(new_users, "choose_ranked_ridge", None)
    learn._folding = None
    bare = Index.load(learn.index(new_users=False).save(tmp_path / "bare"))
    user = learn.data.users.ids[3]
    assert same(bare.recommend(user), whole.recommend(user))
    with pytest.raises(DataError, match=r"was made without \(new_users=False\)"):
        bare.recommend(ratings=[4])


def test_an_older_file_without_todays_ridge_folds_in_nobody(tmp_path):
    tensors, config = read_tensors(fitted("bpr", implicit=True).index().save(tmp_path / "now"), kind="index")
    del config["fold_in"]["ranked"], tensors["share"]
    ranker = write_tensors(tmp_path / "ranker", tensors, config, kind="index")
    tensors, config = read_tensors(fitted("dot_bias", n_factors=3).index().save(tmp_path / "now"), kind="index")
    config["fold_in"]["ridge"] += [[0.5, 0.5], 0]       # as before there was a prior
    tensors = {name: table for name, table in tensors.items() if "prior" not in name}
    for file, ratings in ((ranker, [4]), (write_tensors(tmp_path / "two", tensors, config, kind="index"), {4: 5.0})):
        with pytest.raises(DataError, match=r"earlier version, which kept no ridge; make it again with learn\.index"):
            Index.load(file).recommend(ratings=ratings)


def test_a_column_that_no_file_holds_is_named_with_the_way_around_it(tmp_path):
    learn = fitted("dot", n_factors=2)
    learn.data.item_table = learn.data.item_table.assign(cast=[["a", "b"]] * 40)
    with pytest.raises(DataError, match=r"column 'cast' of the table.*learn\.index\(columns=\[\.\.\.\]\)"):
        learn.index().save(tmp_path / "index")
    assert not (tmp_path / "index").exists()
    learn.index(columns=["genres"]).save(tmp_path / "index")


def test_a_graph_is_left_where_rules_leave_few_items():
    pytest.importorskip("usearch")
    learn = fitted("dot_bias", n_factors=4)
    exact, near, user = learn.index(), learn.index(method="usearch"), learn.data.users.ids[3]
    for rules in RULES:
        assert same(near.recommend(user, 6, **rules), exact.recommend(user, 6, **rules))
