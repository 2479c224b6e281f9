"""Choosing among models that rank: what a user has in another held-out part is neither ranked nor a miss."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from collab import (
    CollabDataBunch,
    CollabLearner,
    CollabWarning,
    Popularity,
    compare,
    compare_models,
    cross_validate,
    draws,
    evaluate,
    rows_split,
    synthetic,
    user_split,
)

SECOND = 1 / math.log2(3)       # the NDCG of one relevant item at rank 2
ROWS = [("zoe", item, 5.0) for item in "ABCDEF"] + [("ann", item, 5.0) for item in "ABC"]
TABLE = pd.DataFrame(ROWS, columns=["user", "item", "rating"])


class ById(nn.Module):
    """Items in the order of their ids: A, B, C ..."""

    def __init__(self, n_items: int):
        super().__init__()
        self.table = nn.Parameter(-torch.arange(n_items, dtype=torch.float32))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.table[items]


def by_id(data: CollabDataBunch) -> CollabLearner:
    learn = CollabLearner(data, ById(data.n_items), lr=1e-9)
    valid, learn.data.valid = learn.data.valid, None
    with learn.no_logging():
        learn.fit(1)            # a learner without a history would be trained by a recipe
    learn.data.valid = valid
    return learn


def ann_and(item: str):
    """A split that holds out ann's rating of an item."""
    def split(df: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        held = ((df["user"] == "ann") & (df["item"] == item)).to_numpy()
        return np.flatnonzero(~held), np.flatnonzero(held)
    return split


def three_parts(**options) -> CollabDataBunch:
    """Ann is trained on A; B is her test item, and C that of validation."""
    return CollabDataBunch.from_df(TABLE, **{"test": ann_and("B"), "split": ann_and("C"), "seed": 0, "device": "cpu"}
                                   | options)


# evaluate ---------------------------------------------------------------------------------------------------------

def test_what_is_in_the_test_part_is_not_ranked_where_that_is_excluded():
    learn = by_id(three_parts())
    assert evaluate(learn).summary["ndcg"] == pytest.approx(SECOND)                     # the list is B C D E F
    result = evaluate(learn, exclude=("train", "test"))                                 # the list is C D E F
    assert result.summary[["ndcg", "mrr", "hit"]].tolist() == [1, 1, 1]
    assert result.baseline is not None and result.baseline.summary["ndcg"] == 1
    assert evaluate(learn, exclude=("train", "test"), metrics="auc").summary["auc"] == 1
    assert evaluate(learn, metrics="auc").summary["auc"] == pytest.approx(3 / 4)        # B is above, D, E, F below
    assert evaluate(learn, exclude="test").summary["ndcg"] == pytest.approx(SECOND)     # the list is A C D E F
    assert evaluate(learn, learn.data.test, exclude=("valid", "train")).summary["ndcg"] == 1


def test_pairs_of_excluded_parts_are_no_longer_relevant_and_counted():
    data = three_parts(test=TABLE.iloc[[8]], split=rows_split([7, 8]))                  # C is in both parts
    learn = by_id(data)
    result = evaluate(learn, exclude=("train", "test"))                                 # B alone is to be found
    assert result.left_out["ratings_of_excluded_parts"] == 1 and result.left_out["ratings_seen_in_training"] == 0
    assert result.per_user["n_relevant"].tolist() == [1] and result.summary["ndcg"] == 1
    assert "ratings_of_excluded_parts" not in evaluate(learn).left_out


def test_a_part_that_the_data_lack_excludes_nothing():
    learn = by_id(CollabDataBunch.from_df(TABLE, split=ann_and("C"), seed=0, device="cpu"))
    both, one = evaluate(learn, exclude=("test", "train")), evaluate(learn)
    pd.testing.assert_frame_equal(both.per_user, one.per_user)
    none = evaluate(learn, exclude="test")
    pd.testing.assert_frame_equal(none.per_user, evaluate(learn, exclude=None).per_user)


def test_ids_without_training_ratings_do_not_hide_other_items():
    further = pd.DataFrame([("eve", "C", 5.0), ("ann", "Q", 5.0), ("ann", "B", 5.0)], columns=[*TABLE])
    with pytest.warns(CollabWarning, match="2 of 3 test ratings are of a user or an item that was not trained on"):
        learn = by_id(three_parts(test=further, split=rows_split([8])))
    valid = evaluate(learn, exclude=("train", "test"))
    assert valid.summary["ndcg"] == 1 and valid.per_user["user"].tolist() == ["ann"]


@pytest.mark.parametrize("exclude, message", [
    ("valid", "what was held out is to be found, .* exclude other parts than 'valid'"),
    (("train", "valid"), "what was held out is to be found"),
    (("train", "tests"), "'tests' is not a part of the data; exclude 'train', 'valid' or 'test'"),
    (3, "3 is not a part of the data"),
])
def test_what_is_measured_cannot_be_excluded(exclude, message):
    with pytest.raises(ValueError, match=message):
        evaluate(by_id(three_parts()), exclude=exclude)


def test_results_of_other_candidates_are_not_compared():
    learn = by_id(three_parts())
    one, both = evaluate(learn), evaluate(learn, exclude=("test", "train"))
    with pytest.raises(ValueError, match="a was evaluated with exclude='train', b with exclude='train, test'"):
        compare(one, both)
    assert compare(both, evaluate(learn, exclude=["train", "test"])).loc["ndcg", "difference"] == 0


# cross_validate and compare_models --------------------------------------------------------------------------------

def no_fit(learn: CollabLearner) -> None:
    pass


@pytest.mark.parametrize("data, options", [
    (three_parts(), {}),
    (three_parts(split=None, valid_pct=0), {}),
    (TABLE, {"test": ann_and("B"), "device": "cpu"}),
    (TABLE.iloc[[*range(7), 8]].reset_index(drop=True), {"test": TABLE.iloc[[7]], "device": "cpu"}),
    (three_parts(implicit=True), {}),
], ids=["three parts", "two parts", "a table and a split", "two tables", "implicit"])
def test_folds_neither_train_on_the_test_part_nor_rank_it(data, options):
    made = []
    table = cross_validate(lambda data: made.append(data) or by_id(data), data, [ann_and("C")], no_fit,
                           ranking=("ndcg",), **options)
    assert table["ndcg@10"].tolist() == table["ndcg@10 of popularity"].tolist() == [1]
    one, = made
    assert (one.train.n, one.valid.n, one.test.n) == (7, 1, 1)
    assert [one.aside.items.decode(one.aside.parts[part][1]).tolist() for part in ("valid", "test")] == [["C"], ["B"]]
    found = compare_models(data, {"mine": by_id}, folds=[ann_and("C")], metrics="ndcg", **options)
    assert found.table.set_index("model")["ndcg@10"].to_dict() == {"mine": 1, "MostPopular": 1}


def test_a_comparison_on_the_validation_part_does_not_rank_the_test_part_and_one_on_the_latter_is_what_evaluate_says():
    data = three_parts()
    found = {part: compare_models(data, {"mine": by_id}, metrics="ndcg", part=part).table.set_index("model")["ndcg@10"]
             for part in ("valid", "test")}
    assert found["valid"].to_dict() == {"mine": 1, "MostPopular": 1}
    assert found["test"]["mine"] == evaluate(by_id(data), data.test).summary["ndcg"] == 1       # B C D E F


def test_a_test_part_of_unknown_ids_stays_a_test_part_without_a_word():
    ratings = synthetic(60, 40, 1200, seed=3).ratings
    data = CollabDataBunch.from_df(ratings, test=user_split(0.1, seed=1), seed=0, device="cpu")
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cross_validate(lambda made: seen.append(made) or Untrained(made), data, draws(2, 0.1), no_fit,
                       ranking=("ndcg",))
    assert [made.test.n for made in seen] == [data.test.n] * 2
    assert {*seen[0].aside.users.decode(seen[0].aside.parts["test"][0])} == {
        *data.aside.users.decode(data.aside.parts["test"][0])}


class Untrained:
    """Popularity, as something that cross_validate measures."""

    interrupted, ranks = False, True

    def __init__(self, data: CollabDataBunch):
        self.popular = Popularity(data)
        self.data, self.model, self.untouched = data, self.popular.model, self.popular.untouched

    def validate(self) -> dict[str, float]:
        return {}


def test_a_test_part_whose_ids_were_not_kept_hides_what_is_known():
    data = three_parts(split=None, valid_pct=0)
    nameless = CollabDataBunch(data.train, None, data.test, data.users, data.items, device="cpu", seed=0)
    nameless.test.tensors[1][:] = 0
    made = []
    cross_validate(lambda data: made.append(data) or by_id(data), nameless, [ann_and("A")], no_fit, ranking=("ndcg",))
    assert made[0].test is None


# draws ------------------------------------------------------------------------------------------------------------

def test_draws_hold_out_a_small_part_of_every_user_each_another_one():
    table = pd.DataFrame({"user": [1] * 25 + [2] * 50 + [3] * 3 + [4], "item": range(79), "rating": 3.0})
    held = [set(split(table)[1].tolist()) for split in draws(3, 0.08, seed=5)]
    for rows in held:
        assert [table["user"][[*rows]].tolist().count(user) for user in (1, 2, 3, 4)] == [2, 4, 1, 0]
    assert held[0] != held[1] != held[2] != held[0]
    assert held == [set(split(table)[1].tolist()) for split in draws(3, 0.08, seed=5)]
    assert held[:2] == [set(split(table)[1].tolist()) for split in draws(2, 0.08, seed=5)]
    assert held[0] != set(draws(1, 0.08, seed=6)[0](table)[1].tolist())


@pytest.mark.parametrize("given", [(0,), (2.5,), (True,), (4, 0), (4, 1), (4, "8%")])
def test_no_draws_and_no_share_are_refused(given):
    with pytest.raises(ValueError, match="draws needs a whole number of them|share is a fraction"):
        draws(*given)
