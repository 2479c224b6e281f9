"""Pairs that are rated again are merged where a split lets them, and positions are those of the given table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from collab import (
    CollabDataBunch,
    CollabWarning,
    DataError,
    collab_learner,
    cross_validate,
    kfold,
    leave_last,
    per_user_split,
    rows_split,
    time_split,
)

AGAIN = pd.DataFrame({"user": [1, 1, 2, 2, 3, 3], "item": [10, 10, 20, 30, 20, 10], "rating": [1.0, 5, 2, 3, 4, 2],
                      "time": [1, 100, 2, 3, 4, 5]})

BEYOND = r"1 of 6 rows rate a pair again \(first: user 1, item 10\) beyond the split: it stays on both sides, since an"


def made(df: pd.DataFrame, **options: Any) -> CollabDataBunch:
    return CollabDataBunch.from_df(df, **{"seed": 0, "device": "cpu", **options})


def rows(data: CollabDataBunch, part: str = "train") -> list[tuple[Any, Any, float]]:
    users, items, ratings = (t.numpy() for t in getattr(data, part).tensors)
    return list(zip(data.users.decode(users), data.items.decode(items), ratings.tolist()))


@pytest.mark.parametrize("split", [time_split(0.17), rows_split([1])], ids=["time", "position"])
def test_the_mean_of_a_pair_takes_no_rating_from_beyond_the_split(split):
    with pytest.warns(CollabWarning, match=BEYOND):
        data = made(AGAIN, split=split, duplicates="mean")
    assert rows(data) == [(1, 10, 1.0), (2, 20, 2.0), (2, 30, 3.0), (3, 20, 4.0), (3, 10, 2.0)]
    assert rows(data, "valid") == [(1, 10, 5.0)]


def test_leave_last_keeps_the_last_rating_of_a_pair_for_validation_as_it_is():
    with pytest.warns(CollabWarning, match=BEYOND):
        data = made(AGAIN, split=leave_last(), duplicates="mean")
    assert (1, 10, 1.0) in rows(data) and (1, 10, 5.0) in rows(data, "valid")


def test_each_part_merges_its_own_rows_and_says_so_once():
    df = pd.concat([AGAIN, AGAIN.assign(rating=AGAIN["rating"] + 1, time=AGAIN["time"] + 0.5)])
    says = r"6 of 12 rows rate a pair again .*in training, and one in validation: 1 is on both sides; duplicates='last'"
    with pytest.warns(CollabWarning, match=says) as caught:
        data = made(df, split=time_split(0.17), duplicates="mean")      # the two latest of twelve: both of (1, 10)
    assert len(caught) == 1
    assert rows(data) == [(1, 10, 1.5), (2, 20, 2.5), (2, 30, 3.5), (3, 20, 4.5), (3, 10, 2.5)]
    assert rows(data, "valid") == [(1, 10, 5.5)]


def test_any_other_split_sees_each_pair_once():
    df = pd.concat([AGAIN] * 3, ignore_index=True)
    for fold in kfold(3):
        with pytest.warns(CollabWarning, match="13 of 18 rows rate a pair again"):
            data = made(df, split=fold, duplicates="mean")
        assert data.train.n + data.valid.n == 5
        assert not {pair[:2] for pair in rows(data)} & {pair[:2] for pair in rows(data, "valid")}


def test_what_was_held_out_is_found_again_with_the_same_means():
    with pytest.warns(CollabWarning, match=BEYOND):
        data = made(AGAIN, split=time_split(0.17), duplicates="mean")
    with pytest.warns(CollabWarning, match=BEYOND):
        again = data.table(AGAIN, "mean", split=time_split(0.17))
    assert again[["user", "item", "rating"]].values.tolist() == [[1, 10, 5.0]] and again.index.tolist() == [0]


def test_positions_count_the_rows_that_a_threshold_leaves_out():
    data = made(AGAIN, split=rows_split([1, 2, 4]), implicit=True, threshold=1)
    assert rows(data) == [(2, 30, 3.0), (3, 10, 2.0)]                   # row 0 is not above it
    assert rows(data, "valid") == [(None, 10, 5.0), (2, None, 2.0), (3, None, 4.0)]
    mask = [False, True, True, False, True, False]
    assert rows(made(AGAIN, split=rows_split(mask), implicit=True, threshold=1), "valid") == rows(data, "valid")


def test_a_split_whose_training_rows_are_all_below_the_threshold_is_refused():
    with pytest.raises(DataError, match="nothing is left to train on.*threshold"):
        made(AGAIN, split=rows_split([1, 2, 3, 4]), implicit=True, threshold=2.5)


def test_data_that_were_made_are_not_split_anew_by_position():
    with pytest.raises(DataError, match="keep neither times nor the order of the table"):
        cross_validate(lambda data: data, made(AGAIN.drop(index=1), valid_pct=0), [rows_split([0])])


# One rating of each pair ------------------------------------------------------------------------------------------

def again_and_again(n: int = 400) -> pd.DataFrame:
    """Pairs that are rated up to some ten times, several of them at one time, in no order."""
    rng = np.random.default_rng(3)
    return pd.DataFrame({"user": rng.integers(0, 9, n), "item": rng.integers(0, 8, n),
                         "rating": np.arange(n, dtype=float), "time": rng.integers(0, 60, n)})


@pytest.mark.parametrize("how", ["first", "last"])
@pytest.mark.parametrize("column", ["time", "day", None])
def test_the_one_that_is_kept_is_that_of_pandas_after_a_stable_sort_by_time(how, column):
    df = again_and_again()
    df["day"] = pd.Timestamp("2024-05-01") + pd.to_timedelta(df["time"], unit="D")
    by_time = df.sort_values("time", kind="stable") if column else df
    wanted = by_time.drop_duplicates(["user", "item"], keep=how).sort_index()
    df = df.drop(columns=[name for name in ("time", "day") if name != column])
    say = f"by column '{column}'" if column else "by the order of the table, which has no column of times"
    with pytest.warns(CollabWarning, match=f"328 of 400 rows rate a pair again .*the {how} one is kept, {say}") as said:
        data = made(df, time_name=column, valid_pct=0, duplicates=how)
    assert len(said) == 1 and rows(data) == [*wanted[["user", "item", "rating"]].itertuples(index=False, name=None)]
    with pytest.warns(CollabWarning, match="328 of 400"):
        assert data.table(df, how)["rating"].tolist() == wanted["rating"].tolist()


@pytest.mark.parametrize("split", [time_split(0.3), leave_last(), per_user_split(), rows_split([*range(100)]), None])
def test_a_pair_of_which_one_rating_is_kept_is_on_one_side_of_any_split(split):
    df = again_and_again()
    last = {*df.sort_values("time", kind="stable").drop_duplicates(["user", "item"], keep="last")["rating"]}
    with pytest.warns(CollabWarning, match="328 of 400 rows rate a pair again") as said:
        data = made(df, split=split, duplicates="last", test=0.1 if split is None else None)
    held = [*rows(data, "valid"), *([] if data.test is None else rows(data, "test"))]
    assert len(said) == 1 and len(rows(data)) + len(held) == 72 and held
    assert {rating for _, _, rating in rows(data) + held} == last
    assert not {pair[:2] for pair in rows(data)} & {pair[:2] for pair in held}
    if getattr(split, "by_position", False):        # positions of the table as it was given
        assert {rating for _, _, rating in held} == last & {*map(float, range(100))}


def test_times_must_be_there_where_they_say_which_rating_is_the_last():
    df = AGAIN.assign(time=[1, None, 2, 3, 4, 5])
    assert made(df, valid_pct=0, duplicates="keep").train.n == 6        # and are not needed otherwise
    with pytest.raises(DataError, match="column 'time': 1 of 6 times are missing .first at row 1.; .*bad_rows='drop'"):
        made(df, valid_pct=0, duplicates="last")
    with pytest.warns(CollabWarning, match="1 of 6 rows is left out"):
        assert rows(made(df, valid_pct=0, duplicates="last", bad_rows="drop"))[0] == (1, 10, 1.0)


def test_ratings_held_out_of_pairs_that_are_trained_on_are_counted_once():
    df = again_and_again()
    with pytest.warns(CollabWarning) as said:
        data = made(df)
    trained = {pair[:2] for pair in rows(data)}
    both = sum(pair[:2] in trained for pair in rows(data, "valid"))
    assert len(said) == 1 and f"and {both} of the 80 ratings held out are of pairs that are trained on too" in str(
        said[0].message)
    with pytest.warns(CollabWarning) as said:
        data = made(df, test=0.1)
    trained = {pair[:2] for pair in rows(data)}
    both = sum(pair[:2] in trained for part in ("valid", "test") for pair in rows(data, part))
    assert len(said) == 1 and f"and {both} of the {data.valid.n + data.test.n} ratings held out" in str(said[0].message)
    with pytest.warns(CollabWarning) as said:
        cross_validate(collab_learner, df, folds=3, fit=lambda learn: None, seed=0)
    assert sum("rate a pair again" in str(one.message) for one in said) == 1


@pytest.mark.filterwarnings("error::collab.CollabWarning")
@pytest.mark.parametrize("split", [None, time_split(0.3), leave_last(), rows_split([1, 2])])
def test_nothing_is_said_of_pairs_that_are_kept_by_choice(split):
    data = made(again_and_again(), split=split, duplicates="keep")
    assert data.train.n + data.valid.n == 400
    data.batches(again_and_again())         # to measure on, each row counts


def test_interactions_are_added_up_and_not_merged_in_another_way():
    for how in ("mean", "error", "last"):
        with pytest.raises(DataError, match=f"duplicates='{how}' is for ratings; with implicit=True.*the sum"):
            made(AGAIN, implicit=True, duplicates=how)


def test_options_that_would_not_be_used_are_not_taken_in_silence():
    with pytest.warns(CollabWarning, match=r"valid_pct=0\.5 is not used"):
        assert made(AGAIN.drop(index=1), split=rows_split([1]), valid_pct=0.5).valid.n == 1
    with pytest.raises(DataError, match="scaling='standard' is of the numbers among"):
        made(AGAIN, valid_pct=0, scaling="standard")


def test_a_split_that_holds_out_nothing_is_warned_of():
    once = AGAIN.drop(index=1)
    with pytest.warns(CollabWarning, match=r"leave_last\(2\) holds out none of 5 ratings: no user has more than 2"):
        assert made(once, split=leave_last(2)).valid is None
    with pytest.warns(CollabWarning, match="per_user_split holds out none of 3 ratings: no user has more than 1"):
        assert made(once.drop_duplicates("user"), split=per_user_split()).valid is None
    with pytest.warns(CollabWarning, match=r"valid_pct=0\.1 holds out none of 5 ratings"):
        assert made(once, valid_pct=0.1).valid is None
    for options in ({"valid_pct": 0}, {"split": rows_split([])}, {"split": per_user_split(0)}):     # as was said
        assert made(once, **options).valid is None
