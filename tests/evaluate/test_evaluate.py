"""evaluate: against plain Python over raw ids; what is left out is counted; looking changes nothing."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from collab import (
    CollabDataBunch,
    CollabLearner,
    CollabWarning,
    DataError,
    EmbeddingDotBias,
    Learner,
    Popularity,
    RatingSet,
    UnknownId,
    collab_learner,
    compare,
    evaluate,
    per_user_split,
    synthetic,
)
from collab.data.split import rows_split
from collab.evaluate import evaluation
from collab.evaluate.evaluation import NAMES as EVERY
from collab.retrieval import topk as recommend_module

NAMES = tuple(name for name in EVERY if name != "diversity")       # tables of scores have no factors


class Table(nn.Module):
    """Scores that are given."""

    table: Tensor

    def __init__(self, table: Any):
        super().__init__()
        self.register_buffer("table", torch.as_tensor(table, dtype=torch.float32))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.table[users, items]


def bunch(rows: list[tuple], n_train: int, **options: Any) -> CollabDataBunch:
    """Ratings (user, item, rating), of which the first `n_train` are trained on."""
    df = pd.DataFrame(rows, columns=["user", "item", "rating"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*rate a pair again")
        return CollabDataBunch.from_df(df, split=rows_split(range(n_train, len(df))), seed=0, device="cpu", **options)


TRAIN = [("ann", i, 3.0) for i in "STUVWXYZ"] + [("bob", i, 3.0) for i in "ABCXYZ"]


def worked(held_out: list[tuple]) -> CollabLearner:
    """For bob, who has seen A, B, C, X, Y, Z: scores fall from S to W."""
    data = bunch(TRAIN + held_out, len(TRAIN))
    return CollabLearner(data, Table(-torch.arange(data.n_items).expand(data.n_users, -1)))


def test_the_worked_example():
    rows = [("zoe", i, 1.0) for i in "ABCXYZ"] + [("ann", "Z", 1.0)] + [("ann", i, 5.0) for i in "ABC"]
    data = bunch(rows, 7)
    order = {"A": 5, "X": 4, "B": 3, "Y": 2, "Z": 0, "C": 1}                # ann has seen Z: A X B Y, and C
    scores = torch.zeros(data.n_users, data.n_items)
    for item, score in order.items():
        scores[:, data.items[item]] = score
    learn = CollabLearner(data, Table(scores))
    assert evaluate(learn, k=4).summary.to_dict() == pytest.approx(
        {"ndcg": 0.7039, "precision": 0.5, "recall": 2 / 3, "map": 0.5556, "mrr": 1, "hit": 1}, abs=5e-5)
    assert evaluate(learn, k=2, metrics="map").summary["map"] == 0.5
    five = evaluate(learn, k=5, exclude=None)
    assert five.summary["recall"] == 1 and five.left_out["ratings_seen_in_training"] == 0


# Against plain Python ---------------------------------------------------------------------------------------------

def naive(learn: Any, train: list[tuple], held_out: list[tuple], k: int, threshold: float | None, exclude_seen: bool,
          unknown: str) -> tuple[dict[str, dict], dict[str, int], float]:
    """{user: {metric: value}}, what is left out, and coverage: a loop over raw ids."""
    items, users = sorted({i for _, i, _ in train}), sorted({u for u, _, _ in train})
    seen = {u: {i for v, i, _ in train if v == u} for u in users}
    raters = Counter(i for _, i in {(u, i) for u, i, _ in train})
    relevant: dict[str, list] = {u: [] for u, _, _ in held_out if u in users}
    out: Counter = Counter()
    for u, i, r in held_out:
        if u not in users:
            out["ratings_of_unknown_users"] += 1
        elif threshold is not None and r <= threshold:
            out["ratings_not_above_threshold"] += 1
        elif i not in items and unknown == "drop":
            out["ratings_of_unknown_items"] += 1
        elif exclude_seen and i in seen[u]:
            out["ratings_seen_in_training"] += 1
        elif i in relevant[u]:
            out["ratings_repeated"] += 1
        else:
            relevant[u].append(i)
    out["users_without_relevant_items"] = sum(not r for r in relevant.values())
    found, listed = {}, set()
    for u in sorted(u for u, r in relevant.items() if r):
        score = {i: learn.model.table[learn.data.users[u], learn.data.items[i]].item() for i in items}
        candidates = [i for i in items if not (exclude_seen and i in seen[u])]
        top = sorted(candidates, key=lambda i: (-score[i], i))[:k]
        listed |= set(top)
        ranks = [rank for rank, i in enumerate(top, start=1) if i in relevant[u]]
        best = min(k, len(relevant[u]))
        shares = [raters[i] / len(users) for i in top]
        there = [i in relevant[u] for i in candidates]
        found[u] = {
            "n_relevant": len(relevant[u]), "precision": len(ranks) / k, "recall": len(ranks) / len(relevant[u]),
            "ndcg": sum(1 / math.log2(r + 1) for r in ranks) / sum(1 / math.log2(r + 2) for r in range(best)),
            "map": sum((n + 1) / r for n, r in enumerate(ranks)) / best, "mrr": 1 / ranks[0] if ranks else 0.0,
            "hit": float(bool(ranks)), "novelty": np.mean([-math.log2(s) for s in shares]) if top else math.nan,
            "popularity": np.mean(shares) if top else math.nan,
            "auc": roc_auc_score(there, [score[i] for i in candidates]) if len(set(there)) == 2 else math.nan}
    return found, dict(out), len(listed) / len(items)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 14), st.sampled_from([None, 3.0]), st.booleans(),
       st.sampled_from(["drop", "miss"]), st.sampled_from([1, 30, 1 << 22]))
def test_every_number_is_what_plain_python_says(seed: int, k: int, threshold: float | None, exclude_seen: bool,
                                                unknown: str, max_scores: int):
    rng = np.random.default_rng(seed)

    def draw(n: int, users: str, items: str) -> list[tuple]:
        return [(str(rng.choice([*users])), str(rng.choice([*items])), float(rng.integers(1, 6))) for _ in range(n)]
    train, held_out = draw(30, "abcdef", "ABCDEFGHIJ"), draw(25, "abcdefgh", "ABCDEFGHIJKL")
    data = bunch(train + held_out, len(train))
    learn = CollabLearner(data, Table(rng.integers(-2, 3, (data.n_users, data.n_items))))     # many ties
    expected, left_out, coverage = naive(learn, train, held_out, k, threshold, exclude_seen, unknown)
    options = {"k": k, "metrics": NAMES, "threshold": threshold, "exclude": "train" if exclude_seen else None,
               "unknown_items": unknown}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recommend_module, "MAX_SCORES", max_scores)
        patch.setattr(evaluation, "MAX_SCORES", max_scores)
        if not expected:
            with pytest.raises(ValueError, match="no user has a relevant item"):
                evaluate(learn, **options)
            return
        result = evaluate(learn, **options)
    assert result.per_user["user"].tolist() == list(expected)
    for row in result.per_user.to_dict("records"):
        assert {**row, "user": None} == pytest.approx({**expected[row["user"]], "user": None}, nan_ok=True, abs=1e-12)
    means = pd.DataFrame(expected).T.drop(columns="n_relevant").mean().to_dict()
    assert result.summary.to_dict() == pytest.approx({**means, "coverage": coverage}, nan_ok=True, abs=1e-12)
    assert {name: n for name, n in result.left_out.items() if n} == {name: n for name, n in left_out.items() if n}


# What is left out -------------------------------------------------------------------------------------------------

def test_each_rating_that_does_not_count_is_counted_once():
    held_out = [("bob", "S", 5.0), ("bob", "S", 4.0),           # found, and again
                ("bob", "T", 1.0), ("bob", "new", 1.0),         # disliked
                ("bob", "new", 5.0), ("bob", "A", 5.0),         # not trained on; seen in training
                ("cem", "S", 5.0), ("cem", "new", 1.0),         # a user who was not trained on
                ("ann", "X", 5.0)]                              # who has nothing else
    result = evaluate(worked(held_out), threshold=3.0)
    assert result.left_out == {"users_without_relevant_items": 1, "ratings_of_unknown_users": 2,
                               "ratings_not_above_threshold": 2, "ratings_of_unknown_items": 1,
                               "ratings_seen_in_training": 2, "ratings_repeated": 1}
    assert result.per_user[["user", "n_relevant", "mrr"]].values.tolist() == [["bob", 1, 1.0]]
    assert "ratings seen in training 2" in repr(result)


def test_unknown_items_are_dropped_or_cannot_be_found():
    learn = worked([("bob", "S", 5.0), ("bob", "new", 5.0), ("bob", "newer", 5.0)])
    assert evaluate(learn, metrics="recall").summary["recall"] == 1
    missed = evaluate(learn, metrics="recall", unknown_items="miss")
    assert missed.summary["recall"] == pytest.approx(1 / 3) and not any(missed.left_out.values())


@pytest.mark.parametrize("batches", ["valid", "in order", "table", "test"])
def test_an_unknown_item_that_comes_again_is_missed_once(batches):
    held_out = [("bob", "S", 5.0), ("bob", "new", 5.0), ("bob", "new", 4.0)]
    table = pd.DataFrame(held_out, columns=["user", "item", "rating"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(rate a pair again|test ratings are of a user or an item)")
        data = bunch(TRAIN + held_out, len(TRAIN), test=table)
        learn = CollabLearner(data, Table(-torch.arange(data.n_items).expand(data.n_users, -1)))
        part = {"valid": None, "in order": data.valid.in_order(), "table": table, "test": data.test}[batches]
        missed = evaluate(learn, part, metrics="recall", unknown_items="miss")
    assert missed.summary["recall"] == 0.5 and missed.left_out["ratings_repeated"] == 1
    assert missed.question.nameless.tolist() == [False]


def test_unknown_items_without_ids_each_count_with_a_warning():
    learn = worked([("bob", "S", 5.0), ("bob", "new", 5.0), ("bob", "newer", 5.0)])
    nameless = DataLoader(TensorDataset(*learn.data.valid.tensors))
    with pytest.warns(UserWarning, match="^1 further held-out ratings are of unknown items whose .* pass the table"):
        missed = evaluate(learn, nameless, metrics="recall", unknown_items="miss")
    assert missed.summary["recall"] == pytest.approx(1 / 3)


def test_what_is_rated_above_the_threshold_is_relevant_as_in_from_df_and_a_lower_rating_hides_no_better_one():
    held_out = [("bob", "S", 4.1), ("bob", "T", 4.0), ("bob", "U", 2.0), ("bob", "U", 4.5)]
    assert evaluate(worked(held_out), threshold=4.0).per_user["n_relevant"].tolist() == [2]


def test_rows_of_a_table_that_are_too_weak_to_be_interactions_are_counted():
    data = bunch([(u, i, 5.0) for u, i, _ in TRAIN], len(TRAIN), implicit=True, threshold=3)
    learn = CollabLearner(data, Table(torch.zeros(data.n_users, data.n_items)))
    rows = [("bob", "S", 5.0), ("bob", "T", 3.0), ("bob", "new", 1.0), ("ann", "A", -2.0), ("cem", "S", 1.0)]
    table = pd.DataFrame(rows, columns=["user", "item", "rating"])
    result = evaluate(learn, table)
    assert result.per_user[["user", "n_relevant"]].values.tolist() == [["bob", 1]]
    assert {name: n for name, n in result.left_out.items() if n} == {
        "users_without_relevant_items": 1, "ratings_of_unknown_users": 1, "ratings_not_above_threshold": 3}
    assert evaluate(learn, table, users="bob").left_out["ratings_not_above_threshold"] == 2


@pytest.mark.parametrize("name", ["count", "weight", "listens"])
def test_a_table_of_interactions_needs_no_strengths(name):
    renamed = {"user": "reader", "item": "book", "rating": name}
    rows = pd.DataFrame(TRAIN, columns=["user", "item", "rating"]).rename(columns=renamed)
    data = CollabDataBunch.from_df(rows, *renamed.values(), valid_pct=0, seed=0, implicit=True, device="cpu")
    learn = CollabLearner(data, Table(torch.zeros(data.n_users, data.n_items)))
    pairs = pd.DataFrame([("bob", "S"), ("bob", "T"), ("ann", "A"), ("ann", "A")], columns=["reader", "book"])
    expected = evaluate(learn, pairs.assign(**{name: [1.0, 3.0, 2.0, 1.0]})).per_user
    assert expected["n_relevant"].tolist() == [1, 2]
    for table in (pairs, pairs.set_axis(["user", "item"], axis=1), pairs.assign(shelf="top")):
        before = table.copy()
        pd.testing.assert_frame_equal(evaluate(learn, table).per_user, expected)
        pd.testing.assert_frame_equal(table, before)
    if name != "weight":
        with pytest.raises(DataError, match=repr(name)):        # the strengths are there, under another name
            evaluate(learn, pairs.assign(plays=2.0))
    rated = CollabDataBunch.from_df(rows, *renamed.values(), valid_pct=0, seed=0, device="cpu")
    with pytest.raises(DataError, match=f"there is no column '{name}' for the rating"):
        evaluate(Popularity(rated), pairs)


def test_users_may_be_chosen():
    learn = worked([("bob", "S", 5.0), ("ann", "A", 5.0), ("ann", "S", 5.0), ("cem", "S", 5.0)])
    assert evaluate(learn, users=["bob"]).per_user["user"].tolist() == ["bob"]
    assert evaluate(learn, users="ann").left_out["ratings_seen_in_training"] == 1
    assert evaluate(learn, users=pd.Series(["bob", "ann", "bob"])).per_user["user"].tolist() == ["ann", "bob"]
    only = evaluate(worked([("bob", "S", 5.0)]), users=["ann", "bob"])
    assert only.left_out["users_without_relevant_items"] == 1
    with pytest.raises(UnknownId, match="'cem' is not among the 2 users"):
        evaluate(learn, users=["bob", "cem"])


def test_only_the_items_among_are_ranked_and_relevant():
    held_out = [("bob", "S", 5.0), ("bob", "V", 5.0), ("bob", "new", 5.0), ("bob", "A", 5.0), ("ann", "A", 5.0)]
    learn, among = worked(held_out), ("U", "V", "W", "A")           # bob's scores fall from U to W, and he has seen A
    result = evaluate(learn, k=2, metrics=("mrr", "auc", "coverage"), among=among)
    assert result.summary.tolist() == [(1 / 2 + 1) / 2, 1 / 2, 3 / 4]       # ann has seen all but A, so no auc
    assert {name: n for name, n in result.left_out.items() if n} == {
        "ratings_of_unknown_items": 1, "ratings_of_items_not_among": 1, "ratings_seen_in_training": 1}
    assert "ratings of items not among 1" in repr(result)
    assert result.baseline.summary["coverage"] == 3 / 4 and result.baseline.per_user["n_relevant"].tolist() == [1, 1]
    pd.testing.assert_frame_equal(evaluate(Popularity(learn.data), k=2, metrics=("mrr", "auc", "coverage"),
                                           among=iter(among)).per_user, result.baseline.per_user)
    missed = evaluate(learn, among=among, unknown_items="miss")
    assert missed.left_out["ratings_of_items_not_among"] == 2 and missed.per_user["n_relevant"].tolist() == [1, 1]
    assert evaluate(learn, among="V", users="bob").summary["mrr"] == 1
    everything = evaluate(learn, among=learn.data.items, metrics=NAMES)
    pd.testing.assert_frame_equal(everything.per_user, evaluate(learn, metrics=NAMES).per_user)
    with pytest.warns(CollabWarning, match="1 of 2 items in among= were not trained on .*new.. and are left"):
        some = evaluate(learn, among=["V", "new"])
    pd.testing.assert_frame_equal(some.per_user, evaluate(learn, among=["V"]).per_user)
    with pytest.raises(UnknownId, match="none of the 2 items in among= is known"):
        evaluate(learn, among=["newer", "new"])
    with pytest.raises(ValueError, match="no user has a relevant item.*ratings of items not among"):
        evaluate(learn, among=["X"])
    with pytest.raises(ValueError, match="among other items; evaluate both with the same `among`"):
        compare(result, evaluate(learn, k=2))
    again = evaluate(learn, k=2, metrics=result.metrics, among=among[::-1])
    assert compare(result, again)["difference"].tolist() == [0, 0]


def test_cold_items_can_be_ranked_among_themselves():
    films = pd.DataFrame({"id": ["A", "B", "C", "D"], "year": [1990, 1995, 1999, 2000]})
    data = bunch([("u1", "A", 1.0), ("u2", "B", 1.0), ("u1", "D", 1.0)], 2, items=films, item_features=["year"])
    cold = data.items.decode((~data.trained["item"]).nonzero()[1:, 0].numpy())
    learn = CollabLearner(data, Table(torch.arange(data.n_items).expand(data.n_users, -1)))
    result = evaluate(learn, metrics="mrr", among=cold)
    assert cold.tolist() == ["C", "D"] and result.summary["mrr"] == 1 and result.baseline.summary["mrr"] == 0.5


def test_a_k_beyond_the_catalogue_counts_the_missing_ranks_as_misses():
    result = evaluate(worked([("bob", "S", 5.0), ("bob", "W", 5.0)]), k=10 ** 9, metrics=("precision", "recall", "map"))
    assert result.summary.tolist() == [2 / 10 ** 9, 1, (1 + 2 / 5) / 2]


def test_a_rank_that_stays_empty_is_not_taken_for_the_last_item_of_the_user_before():
    rows = [("ann", "A", 1.0), ("ann", "B", 1.0), ("bob", "B", 1.0), ("bob", "C", 1.0)]
    data = bunch([*rows, ("ann", "C", 1.0), ("bob", "A", 1.0)], 4)
    flat = CollabLearner(data, Table(torch.zeros(data.n_users, data.n_items)))
    assert evaluate(flat, k=3, metrics=("recall", "precision")).per_user.values.tolist() == [
        ["ann", 1, 1, 1 / 3], ["bob", 1, 1, 1 / 3]]


def test_equal_scores_are_ranked_in_the_order_of_ids():
    data = bunch([*TRAIN, ("bob", "S", 5.0), ("bob", "V", 5.0)], len(TRAIN))
    flat = CollabLearner(data, Table(torch.zeros(data.n_users, data.n_items)))
    assert evaluate(flat, metrics=("mrr", "map", "auc")).summary.tolist() == [1, (1 + 2 / 4) / 2, 0.5]


# Arguments --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, message", [
    ({"k": 0}, "k must be a whole number, at least 1, got 0"), ({"k": 2.5}, "got 2.5"), ({"k": True}, "got True"),
    ({"metrics": ("ndcg", "ndgc")}, "metrics are of ndcg, precision, .*; got 'ndgc'"), ({"metrics": ()}, r"got \(\)"),
    ({"unknown_items": "keep"}, "neither 'drop' nor 'miss'"), ({"threshold": 6}, "a lower threshold"),
    ({"threshold": "4"}, "threshold must be a finite number or None, got '4'"),
    ({"batches": DataLoader(TensorDataset(torch.tensor([1, 2])))}, "must hold .users, items, ratings.")])
def test_arguments_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(worked([("bob", "S", 5.0)]), **options)


def test_without_a_validation_part_or_a_collab_data_bunch_it_says_what_is_needed():
    learn = worked([])
    with pytest.raises(ValueError, match="no validation part: make the data with valid_pct or split, or pass batches"):
        evaluate(learn)
    with pytest.raises(TypeError, match=r"Popularity\(data\), got None"):
        evaluate(None)


def test_held_out_ratings_may_be_batches_of_any_kind_or_a_table():
    learn = worked([("bob", "S", 5.0), ("bob", "V", 5.0), ("ann", "B", 5.0)])
    valid, expected = learn.data.valid, evaluate(learn).per_user
    table = pd.DataFrame({"user": ["bob", "bob", "ann"], "item": ["S", "V", "B"], "rating": 5.0})
    loader = DataLoader(TensorDataset(*valid.tensors))
    for batches in (valid.with_(bs=1), valid.with_(bs=2, shuffle=True), loader, table):
        pd.testing.assert_frame_equal(evaluate(learn, batches).per_user, expected)


def test_training_ratings_are_found_where_they_may_be_recommended_again():
    learn = worked([("bob", "S", 5.0)])
    with pytest.raises(ValueError, match="exclude=None"):
        evaluate(learn, learn.data.train)
    assert evaluate(learn, learn.data.train, k=30, exclude=None).summary["recall"] == 1


# Learners ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def planted() -> CollabDataBunch:
    ml = synthetic(n_users=120, n_items=80, n_ratings=4_000, seed=0)
    return CollabDataBunch.from_df(ml.ratings, split=per_user_split(0.25), seed=0, bs=256, device="cpu")


@pytest.mark.parametrize("model", ["dot", "dot_bias", "net"])
def test_looking_changes_nothing(planted, model):
    learn = collab_learner(planted, model, n_factors=5)
    learn.model.train()
    before, random = copy.deepcopy(learn.model.state_dict()), torch.get_rng_state()
    shuffle = planted.train.generator.get_state()
    shuffled = DataLoader(TensorDataset(*planted.valid.tensors), shuffle=True, batch_size=99)
    first = evaluate(learn, shuffled, metrics=NAMES)
    evaluate(learn, planted.train, exclude=None)
    evaluate(Popularity(planted), shuffled)
    pd.testing.assert_frame_equal(evaluate(learn, metrics=NAMES).per_user, first.per_user)
    assert all(module.training for module in learn.model.modules()) and not learn.recorder.rows
    assert torch.equal(torch.get_rng_state(), random) and torch.equal(planted.train.generator.get_state(), shuffle)
    assert all(torch.equal(value, before[name]) for name, value in learn.model.state_dict().items())
    learn.model.eval()                                          # what was ranked was without dropout
    pd.testing.assert_frame_equal(evaluate(learn, metrics=NAMES).per_user, first.per_user)


def test_any_learner_over_the_data_can_be_evaluated(planted):
    model = EmbeddingDotBias(4, planted.n_users, planted.n_items)
    pd.testing.assert_frame_equal(evaluate(Learner(planted, model)).per_user,
                                  evaluate(CollabLearner(planted, copy.deepcopy(model))).per_user)


def test_popularity_ranks_by_the_number_of_training_ratings():
    rows = [("u1", "C", 1.0), ("u2", "C", 1.0), ("u1", "B", 5.0), ("u2", "A", 5.0), ("u3", "D", 2.0)]
    data = bunch([*rows, ("u3", "A", 1.0)], len(rows))          # u3 gets C, then A before B, the smaller id
    result = evaluate(Popularity(data), k=3, metrics=("mrr", "coverage", "novelty", "popularity"))
    assert result.summary["mrr"] == 0.5 and result.summary["coverage"] == 3 / 4
    assert result.summary["popularity"] == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)
    assert result.summary["novelty"] == pytest.approx((math.log2(3 / 2) + 2 * math.log2(3)) / 3)


def test_pairs_and_all_pairs_of_the_popularity_model_agree(planted):
    model, users, items = Popularity(planted).model, torch.tensor([1, 2]), torch.tensor([3, 0])
    assert torch.equal(model(users, items), model.cross(users, items).diagonal())
    assert model.cross(users, items).tolist() == [planted.counts()[items].tolist()] * 2


def test_popularity_counts_users_once_however_often_they_rate():
    rows = [("u1", "A", 1.0)] * 3 + [("u2", "B", 1.0)]
    result = evaluate(Popularity(bunch([*rows, ("u2", "A", 1.0)], 4)), k=1, metrics=("popularity", "novelty"))
    assert result.summary.tolist() == [0.5, 1.0]


def test_cold_users_and_items_dilute_neither_popularity_nor_novelty():
    rows = [("u1", "A", 1.0), ("u1", "B", 1.0), ("u2", "A", 1.0), ("u2", "C", 1.0), ("u1", "C", 5.0)]
    known = pd.DataFrame({"id": ["u1", "u2", "u3", "u4"], "age": [20, 30, 40, 50]})
    films = pd.DataFrame({"id": ["A", "B", "C", "D"], "year": [1990, 1995, 1999, 2000]})
    data = bunch(rows, 4, users=known, items=films, user_features=["age"], item_features=["year"])
    scores = torch.zeros(data.n_users, data.n_items)
    scores[:, data.items["C"]], scores[:, data.items["D"]] = 1, 2       # u1 gets D, which nobody rated, then C
    result = evaluate(CollabLearner(data, Table(scores)), k=2, metrics=("popularity", "novelty"))
    assert result.summary.tolist() == [(1 / 2 + 1 / 2) / 2, 1.0]        # D counts as if one user had rated it


def test_popularity_is_measured_alike_beside_every_model_but_itself(planted, monkeypatch):
    learn, options = collab_learner(planted, n_factors=5), {"k": 5, "threshold": 3.0, "metrics": ("ndcg", "auc")}
    result, alone = evaluate(learn, **options), evaluate(Popularity(planted), **options)
    pd.testing.assert_frame_equal(result.baseline.per_user, alone.per_user)
    assert alone.baseline is None and repr(alone).splitlines()[1].split() == ["MostPopular"]
    shown = repr(result).splitlines()
    assert shown[0] == f"Top 5 of {len(alone.per_user)} users"
    assert shown[1].split() == ["EmbeddingDotBias", "MostPopular"]
    assert shown[2].split() == ["ndcg", f"{result.summary['ndcg']:.4f}", f"{alone.summary['ndcg']:.4f}"]
    monkeypatch.setattr(evaluation, "Popularity", lambda data: pytest.fail("measured"))
    assert evaluate(learn, baseline=False, **options).baseline is None


def test_popularity_on_movielens_100k_is_where_others_find_it(ml100k: RatingSet):
    data = CollabDataBunch.from_df(ml100k.ratings, split=per_user_split(0.25), seed=0, bs=1024, device="cpu")
    result = evaluate(Popularity(data))
    assert len(result.per_user) == 943 and 0.23 < result.summary["ndcg"] < 0.26      # .244 on the same protocol
