"""Implicit data: what is taken for a strength, thresholds, repeats, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from collab import (
    CollabDataBunch,
    CollabWarning,
    DataError,
    collab_learner,
    leave_last,
    synthetic,
    time_split,
)
from collab.data.implicit import WEIGHT, with_weights
from collab.data.new_user import rated_file

RATINGS = pd.DataFrame({"user": [1, 1, 2, 2, 3, 3, 3], "item": list("abacbcb"), "rating": [5, 3, 4, 1, 2, 5, 4]})


def made(df: pd.DataFrame, **options: Any) -> CollabDataBunch:
    return CollabDataBunch.from_df(df, **{"implicit": True, "valid_pct": 0.0, "seed": 0, "device": "cpu", **options})


def rows(data: CollabDataBunch) -> set[tuple[Any, Any, float]]:
    users, items, ratings = (t.numpy() for t in data.train.tensors)
    return set(zip(data.users.decode(users), data.items.decode(items), ratings.tolist()))


# Data -------------------------------------------------------------------------------------------------------------

def test_a_threshold_keeps_what_is_rated_above_it():
    assert rows(made(RATINGS, threshold=3)) == {(1, "a", 5), (2, "a", 4), (3, "c", 5), (3, "b", 4)}


def test_a_table_of_two_columns_weighs_every_interaction_1():
    data = made(RATINGS[["user", "item"]].drop_duplicates())
    assert data.train.tensors[2].unique().tolist() == [1.0]
    assert data.batches(RATINGS[["user", "item"]].head(2)).tensors[2].tolist() == [1.0, 1.0]


def test_a_third_column_that_is_no_rating_is_not_taken_for_one():
    frame = RATINGS.drop(columns="rating").assign(timestamp=range(7), shop="x").drop_duplicates(["user", "item"])
    data = made(frame)
    assert data.train.tensors[2].unique().tolist() == [1.0] and data.schema.time == "timestamp"
    assert made(frame.assign(timestamp=2.0), rating_name="timestamp").train.tensors[2].unique().tolist() == [2.0]


def test_a_column_of_ratings_or_strengths_is_found_by_its_name_in_any_place():
    frame = RATINGS.assign(timestamp=range(7))[["user", "item", "timestamp", "rating"]]
    data = made(frame)
    assert data.schema.rating == "rating" and data.schema.time == "timestamp" and rows(data) == rows(made(RATINGS))
    assert rows(made(frame, threshold=3)) == rows(made(RATINGS, threshold=3))
    plays = frame.rename(columns={"rating": "plays"})
    assert made(plays, time_name="timestamp").schema.rating == "plays"
    assert made(plays.assign(rating=1)).schema.rating == "plays"                # the first of several
    assert made(plays[["plays", "user", "item"]], user_name="user", item_name="item").schema.rating == "plays"


@pytest.mark.parametrize("truth", [[True, False, True, True, True, True, False],
                                   ["True", "False", "true", "TRUE", "True", "True", "False"],
                                   pd.array([True, False, True, True, True, True, False], dtype="bool[pyarrow]")])
@pytest.mark.parametrize("name", ["liked", "is_purchased", "Clicked"])
def test_a_column_of_booleans_says_what_was_chosen(name: str, truth: Any):
    table = RATINGS[["user", "item"]].assign(note=list("pqrstuv"), **{name: truth})
    chosen = {(1, "a", 1), (2, "a", 1), (2, "c", 1), (3, "b", 1), (3, "c", 1)}
    with pytest.warns(CollabWarning, match=f"'{name}': 2 of 7 interactions have a strength of 0 and are left out"):
        assert rows(made(table)) == chosen
    assert rows(made(table, rating_name=name, threshold=0.5)) == chosen


def test_booleans_of_another_name_are_not_used_and_warned_of():
    table = RATINGS[["user", "item"]].assign(mobile=[True, False] * 3 + [True])
    with pytest.warns(CollabWarning, match=r"^column 'mobile' is not used.*rating_name='mobile'$"):
        assert rows(made(table)) == {(1, "a", 1), (1, "b", 1), (2, "a", 1), (2, "c", 1), (3, "b", 2), (3, "c", 1)}
    assert made(table.assign(plays=2.0)).schema.rating == "plays"


@pytest.mark.parametrize("name", ["rating", "count", "ts"])
def test_times_are_never_taken_for_strengths(name: str):
    frame = pd.DataFrame({"user": [1, 1, 2], "item": list("abb"), name: [881250949, 891717742, 880606923]})
    for times in (frame, frame.astype({name: "Int64"}), frame.assign(**{name: [881250949.0, 891717742, None]})):
        assert made(times).train.tensors[2].tolist() == [1.0] * 3
    data = made(frame, time_name=name, split=leave_last(1))
    assert rows(data) == {(1, "a", 1.0), (2, "b", 1.0)} and data.schema.time == name


@pytest.mark.parametrize("name", ["n_clicks", "views", "play_count", "num_purchases", "quantity", "nClicks",
                                  "Play Count", "Star", "listens", "NViews", "n_baskets"])
def test_a_column_that_counts_is_known_by_a_word_of_its_name(name: str):
    frame = RATINGS.rename(columns={"rating": name}).assign(timestamp=range(7))
    assert made(frame[["user", "item", "timestamp", name]]).schema.rating == name
    assert made(frame.assign(rating=1)).schema.rating == "rating"           # the whole name goes before a word


def test_numbers_in_third_place_that_are_not_used_are_warned_of():
    with pytest.warns(UserWarning, match="^column 'x' is not used, and every row counts .* say rating_name='x'$"):
        assert made(RATINGS.rename(columns={"rating": "x"})).schema.rating == "weight"
    for name in ("clicked_at", "viewTime", "view_id", "avg_rating"):        # neither a strength nor a warning
        assert made(RATINGS.rename(columns={"rating": name})).schema.rating == "weight"
    assert made(RATINGS.rename(columns={"rating": "x"}), time_name="x").schema.rating == "weight"
    assert made(RATINGS.assign(rating="good").rename(columns={"rating": "view"})).schema.rating == "weight"


@pytest.mark.parametrize("name", ["stars", "weight"])
def test_a_column_of_strengths_that_is_not_there_is_named(name: str):
    with pytest.raises(DataError, match=f"no column '{name}' for the rating"):
        made(RATINGS[["user", "item"]], rating_name=name)
    with pytest.raises(DataError, match=r"needs two columns \(user, item\), this one has 1: \['user'\]"):
        made(RATINGS[["user"]])


def test_a_threshold_without_a_column_to_compare_is_refused():
    frame = RATINGS.drop(columns="rating").assign(timestamp=range(7), liked=RATINGS["rating"])
    for columns in (["user", "item"], ["user", "item", "timestamp", "liked"]):
        with pytest.raises(DataError, match=r"(?s)threshold=0\.5 .*'item'.*rating_name="):
            made(frame[columns], threshold=0.5)
    assert rows(made(frame, threshold=3, rating_name="liked")) == rows(made(RATINGS, threshold=3))
    data = made(RATINGS.rename(columns={"rating": "weight"}), threshold=3)
    with pytest.raises(DataError, match="threshold=3 "):
        data.batches(RATINGS[["user", "item"]])


def test_somebody_new_is_told_by_what_was_chosen():
    learn = collab_learner(made(RATINGS.assign(item=[50, 12, 50, 7, 12, 7, 12])), "als", n_factors=2, seed=0)
    with learn.no_logging():
        learn.fit(2)
    expected = learn.recommend(ratings={50: 1, 12: 1})
    assert expected["item"].tolist() == [7]
    table = pd.DataFrame({"item": [50, 12]})
    times = table.assign(rating=[9e8, 8e8])
    for chosen in ([50, 12], {12, 50}, np.array([50, 12]), table, table.assign(user=9), times):
        pd.testing.assert_frame_equal(learn.recommend(ratings=chosen), expected)
    assert learn.recommend(ratings=table.assign(rating=[5, 1]))["score"].tolist() != expected["score"].tolist()
    for wrong, says in ((table.assign(user=[8, 9]), "holds 2 users"), ([99], "99 is not among"),
                        ("50", "a list of items")):
        with pytest.raises(DataError, match=says):
            learn.recommend(ratings=wrong)


def test_pairs_that_come_again_are_counted_without_a_warning():
    assert (3, "b", 2.0) in rows(made(RATINGS[["user", "item"]]))
    assert (3, "b", 6.0) in rows(made(RATINGS))


def test_rows_of_no_strength_are_left_out_and_counted():
    frame = pd.DataFrame({"user": [1, 1, 2, 2, 2, 3], "item": list("abaacb"), "plays": [0, 2, 0, 3, 1, 0]})
    with pytest.warns(UserWarning, match="'plays': 3 of 6 interactions have a strength of 0 .*left out"):
        data = made(frame)
    assert rows(data) == {(1, "b", 2), (2, "a", 3), (2, "c", 1)} and 3 not in data.users
    with pytest.raises(DataError, match="all 6 interactions have a strength of 0"):
        made(frame.assign(plays=0))


PLAYED = pd.DataFrame({"user": [1, 1, 1, 2, 2, 2], "item": list("abaccb"), "plays": [1, 2, 4, 3, 5, 7],
                       "time": [1, 2, 9, 3, 4, 8]})


@pytest.mark.parametrize("split", [time_split(0.34), leave_last(1)])
def test_a_split_by_time_lets_no_later_strength_into_training(split: Any):
    data = made(PLAYED, split=split)
    assert rows(data) == {(1, "a", 1), (1, "b", 2), (2, "c", 8)}        # not 5 plays of a, 4 of which came last
    users, items, plays = data.valid.tensors
    held_out = [(1, "a", 4), (2, "b", 7)]
    assert [*zip(data.users.decode(users), data.items.decode(items), plays.tolist())] == held_out
    assert data.table(PLAYED, split=split)[["user", "item", "rating"]].apply(tuple, axis=1).tolist() == held_out


def test_any_other_split_sees_each_pair_once():
    seen: list[int] = []
    data = made(PLAYED, split=lambda df: seen.append(len(df)) or (range(3), range(3, len(df))))
    assert seen == [4] and rows(data) == {(1, "a", 5), (1, "b", 2), (2, "c", 8)}


def test_histories_hold_each_pair_once():
    data = made(RATINGS)
    items, strengths = data.histories[data.users[3]]
    assert dict(zip(data.items.decode(items.numpy()), strengths.tolist())) == {"b": 6.0, "c": 5.0}


def test_implicit_data_have_no_scale():
    assert made(RATINGS).scale is None
    assert CollabDataBunch.from_df(RATINGS.head(6), valid_pct=0.0, seed=0).scale == (1, 5)


@pytest.mark.parametrize("options, what", [
    ({"threshold": 9}, "none of 7 ratings is above"), ({"threshold": "3"}, "finite number"),
    ({"threshold": 3, "implicit": False}, "needs implicit=True"), ({"rating_name": "score"}, "no column 'score'")])
def test_what_is_wrong_is_said(options: dict[str, Any], what: str):
    with pytest.raises(DataError, match=what):
        made(RATINGS, **options)


def test_negative_strengths_are_refused_unless_a_threshold_leaves_them_out():
    frame = RATINGS.assign(rating=[1, -1, 1, 1, 1, 1, 1])
    with pytest.raises(DataError, match="negative strength"):
        made(frame)
    assert len(rows(made(frame, threshold=0))) == 5


@pytest.mark.parametrize("values", [["yes", "no"], ["ja", "nein"], ["1", "0"]])
def test_text_of_two_values_that_is_not_used_is_warned_of(values):
    df = pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 1, 3], "liked": values * 2})
    with pytest.warns(CollabWarning, match="column 'liked' is not used, and every row counts as chosen"):
        data = CollabDataBunch.from_df(df, implicit=True, valid_pct=0, seed=0)
    assert data.train.n == 4


def test_zeros_and_ones_that_are_named_for_a_deed_are_what_booleans_are():
    df = pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 1, 3], "liked": [1, 0, 1, 1]})
    with pytest.warns(CollabWarning, match="column 'liked': 1 of 4 interactions have a strength of 0"):
        data = CollabDataBunch.from_df(df, implicit=True, valid_pct=0, seed=0)
    assert data.train.n == 3
    with pytest.warns(CollabWarning, match="column 'minutes' is not used"):
        CollabDataBunch.from_df(df.rename(columns={"liked": "minutes"}), implicit=True, valid_pct=0, seed=0)


def test_a_new_users_ratings_count_as_choices_above_the_threshold_alone(tmp_path: Path) -> None:
    """As in training: what somebody disliked was not chosen. A list holds choices."""
    data = CollabDataBunch.from_df(synthetic(60, 40, 1200, seed=0).ratings, implicit=True, threshold=3, seed=0)
    learn = collab_learner(data, "als", n_factors=4)
    with learn.no_logging():
        learn.fit(3)
    with pytest.warns(CollabWarning, match="2 of 3 ratings are not above threshold=3"):
        mixed = learn.recommend(ratings={5: 5, 6: 1, 7: 3})
    assert not {5, 6, 7} & {*mixed["item"]}                             # seen, liked or not
    expected = learn.recommend(ratings={5: 5}, without=[6, 7])
    pd.testing.assert_frame_equal(mixed, expected)
    added = learn.add_ratings(pd.DataFrame({"user": 999, "item": [5, 6, 7], "rating": [5, 1, 3]}))
    assert added.recommend(999)["item"].tolist() == mixed["item"].tolist()
    with pytest.raises(DataError, match="none of 1 ratings is above threshold=3"):
        learn.recommend(ratings={6: 1})
    listed = learn.recommend(ratings=[5, 6])
    assert len(listed) == 10
    (tmp_path / "mine.csv").write_text("item,rating\n5,5\n6,1\n")
    assert rated_file(data, tmp_path / "mine.csv").to_dict("list") == {"item": [5, 6], "rating": [5, 1]}
    (tmp_path / "chosen.csv").write_text("item\n5\n6\n")
    chosen = rated_file(data, tmp_path / "chosen.csv")
    assert chosen.to_dict("list") == {"item": [5, 6]}
    pd.testing.assert_frame_equal(learn.recommend(ratings=chosen), listed)


@pytest.mark.parametrize("threshold, shown", [(3.0, "3"), (0.5, "0.5")])
def test_a_threshold_without_ratings_is_shown_as_it_was_given(threshold, shown):
    with pytest.raises(DataError, match=rf"^threshold={shown} is for a table with ratings"):
        with_weights(pd.DataFrame({"user": [1], "item": [2]}), WEIGHT, threshold)
