"""Splits: which ratings are trained on and which are held back, exactly as their docstrings say."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, LeavePGroupsOut

from collab import (
    CollabDataBunch,
    CollabWarning,
    DataError,
    kfold,
    leave_last,
    movielens_split,
    per_user_split,
    random_split,
    rows_split,
    time_split,
    user_split,
)
from collab.data.split import apply_split


def ratings(n: int = 100, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"user": rng.integers(0, 12, n), "item": rng.integers(0, 30, n),
                         "rating": rng.integers(1, 6, n).astype(float), "time": rng.integers(0, 40, n)})


def lists(parts) -> list[list[int]]:
    return [np.asarray(rows).tolist() for rows in parts]


EVERY = {"random": random_split, "user": user_split, "per user": lambda seed: per_user_split(seed=seed),
         "kfold": lambda seed: kfold(4, seed)[1],
         "time": lambda seed: time_split(), "last": lambda seed: leave_last(2),
         "rows": lambda seed: rows_split([5, 3, 99])}


@pytest.mark.parametrize("name", EVERY)
def test_every_rating_is_on_exactly_one_side_and_rows_ascend(name):
    df = ratings()
    train, valid = apply_split(EVERY[name](seed=3), df)
    assert sorted([*train, *valid]) == list(range(100)) and len(valid)
    assert (np.diff(train) > 0).all() and (np.diff(valid) > 0).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_split_repeats(name):
    df = ratings()
    split = EVERY[name](seed=3)
    assert lists(split(df)) == lists(split(df)) == lists(EVERY[name](seed=3)(df))


@pytest.mark.parametrize("name", ["random", "user", "per user", "kfold"])
def test_another_seed_splits_otherwise_and_no_global_generator_is_touched(name):
    df = ratings()
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    assert len({tuple(EVERY[name](seed=s)(df)[1]) for s in range(5)}) >= 4
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("n, pct, n_valid", [(10, 0.2, 2), (9, 0.2, 1), (4, 0.2, 0), (10, 0.0, 0), (100, 0.29, 29),
                                             (10, 0.3, 3), (1000, 0.999, 999), (7, 1 / 7, 1)])
def test_the_fraction_is_rounded_down(n, pct, n_valid):
    df = ratings(n)
    assert len(random_split(pct)(df)[1]) == len(time_split(pct)(df)[1]) == n_valid


def test_random_split_takes_every_rating_equally_often():
    df = ratings(20)
    taken = np.bincount(np.concatenate([random_split(0.25, seed)(df)[1] for seed in range(2000)]), minlength=20)
    assert np.abs(taken - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)      # five standard deviations


@pytest.mark.parametrize("pct", [-0.1, 1, 1.5, 20])
@pytest.mark.parametrize("split", [random_split, time_split, user_split, per_user_split])
def test_what_is_no_fraction_is_refused(split, pct):
    with pytest.raises(DataError, match=f"below 1, got {pct}"):
        split(pct)


# By time ----------------------------------------------------------------------------------------------------------

def test_time_split_holds_back_the_latest_and_ties_keep_the_order_of_the_table():
    df = pd.DataFrame({"time": [9, 1, 5, 5, 5, 2]})
    assert lists(time_split(0.5)(df)) == [[1, 2, 5], [0, 3, 4]]     # in time: 1, 5, 2, | 3, 4, 0
    assert lists(time_split(1 / 3)(df)) == [[1, 2, 3, 5], [0, 4]]


def test_time_split_never_trains_on_the_future():
    df = ratings()
    train, valid = time_split(0.3)(df)
    assert df["time"].iloc[train].max() <= df["time"].iloc[valid].min()


DAYS = ["2021", "2020", "2022"]
TIMES = {"datetime": pd.to_datetime(DAYS), "zone": pd.to_datetime(DAYS, utc=True),
         "Int64": pd.array([2, 1, 3], dtype="Int64"), "float": [2.0, 1.5, 1e12],
         "dates": [day.date() for day in pd.to_datetime(DAYS)]}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES.keys())
def test_times_may_be_of_any_kind_that_has_an_order(times):
    df = pd.DataFrame({"user": [1, 1, 1], "time": times})
    assert lists(time_split(0.4)(df)) == lists(leave_last(1)(df)) == [[0, 1], [2]]


def test_numbers_written_as_text_are_refused_as_times_since_nine_would_come_after_ten():
    df = ratings(4).assign(time=["9", "10", "11", "12"])
    for split in (time_split(), leave_last()):
        with pytest.raises(DataError, match=r"'time': 4 of 4 times .* \(such as '9' at row 0\); .*to_numeric"):
            split(df)


@pytest.mark.parametrize("times", [
    ["2024-01-09T00:00:00", "2024-01-10", "2023-12-31 23:59:59.5", "2024-01-09 00:00"],
    ["2024-01-09T00:00:00Z", "2024-01-09T23:00-02:00", "2024-01-08T23:30:00+0100", "2024-01-09 00:00:00Z"]])
@pytest.mark.parametrize("dtype", [object, "str", "category", "string[pyarrow]"])
def test_times_by_iso_8601_are_parsed_with_their_zones(times, dtype):
    df = pd.DataFrame({"user": [1, 2, 1, 2], "item": [1, 1, 2, 2], "rating": [1.0, 2, 3, 4], "time": times})
    df["time"] = df["time"].astype(dtype)
    assert lists(time_split(0.25)(df)) == [[0, 2, 3], [1]]          # the second is the latest
    assert lists(time_split(0.75)(df)) == [[2], [0, 1, 3]]          # the third the earliest; the others follow


@pytest.mark.parametrize("bad", ["soon", "now", "01/02/2024", "2024-13-01", "20240101", ""])
def test_a_time_that_does_not_parse_is_named_by_its_row(bad):
    df = ratings(4).assign(time=["2024-01-01", "2024-01-02", bad, "2024-01-03"])
    with pytest.raises(DataError, match=rf"'time': 1 of 4 times .*ISO 8601.*{bad!r} at row 2.*pd.to_"):
        time_split(0.25)(df)


def test_times_with_and_without_a_zone_are_not_compared():
    df = ratings(4).assign(time=["2024-01-01T10:00Z", "2024-01-01T11:00", "2024-01-02", "2024-01-01T12:00+01"])
    with pytest.raises(DataError, match="2 of 4 times have no zone .such as '2024-01-01T11:00' at row 1"):
        leave_last()(df)


def test_missing_times_are_counted():
    with pytest.raises(DataError, match="'time': 2 of 4 times are missing"):
        time_split()(ratings(4).assign(time=[1, None, None, 4]))


def test_time_split_without_a_time_says_how_to_name_it():
    with pytest.raises(DataError, match="time_name="):
        time_split()(ratings().drop(columns="time"))


def test_from_df_splits_by_the_time_column_that_is_named():
    df = pd.DataFrame({"u": [1, 2, 1, 2], "i": [1, 1, 2, 2], "r": [1.0, 2, 3, 4], "when": [4, 3, 2, 1]})
    data = CollabDataBunch.from_df(df, time_name="when", split=time_split(0.25), seed=0)
    assert data.valid.tensors[2].tolist() == [1.0]


# By user ----------------------------------------------------------------------------------------------------------

def test_leave_last_holds_back_the_last_of_each_user_and_short_histories_stay():
    df = pd.DataFrame({"user": list("abababc"), "time": [3, 1, 2, 1, 1, 1, 0]})
    # a: rows 4, 2, 0 in time; b: all at once, so rows 1, 3, 5 as they stand; c has one rating only
    assert lists(leave_last(1)(df)) == [[1, 2, 3, 4, 6], [0, 5]]
    assert lists(leave_last(2)(df)) == [[1, 4, 6], [0, 2, 3, 5]]
    with pytest.warns(CollabWarning, match=r"leave_last\(3\) holds out none of 7 ratings: no user has more than 3"):
        assert lists(leave_last(3)(df)) == [[0, 1, 2, 3, 4, 5, 6], []]


def test_leave_last_without_a_time_takes_the_order_of_the_table():
    df = pd.DataFrame({"user": [(1, 1), (2, 2), (1, 1), (2, 2)], "when": 0})
    split = leave_last()
    says = r"times is known among \['when'\], and the order .*which it may not be; name .*time_name=\.\.\."
    with pytest.warns(UserWarning, match=says) as told:
        assert lists(split(df)) == lists(split(df)) == [[0, 1], [2, 3]]
    assert len(told) == 1


def test_leave_last_agrees_with_pandas():
    df = ratings(400)
    by_time = df.sort_values("time", kind="stable")
    last = by_time.groupby("user").tail(3).index
    enough = df["user"].map(df["user"].value_counts()) > 3
    assert lists(leave_last(3)(df))[1] == sorted(set(last) & set(df.index[enough]))


@pytest.mark.parametrize("n", [0, -1])
def test_leave_last_of_none_is_refused(n):
    with pytest.raises(DataError, match=f"at least 1, got {n}"):
        leave_last(n)


def test_user_split_puts_nobody_on_both_sides():
    df = ratings()
    users = df["user"].to_numpy()
    train, valid = user_split(0.25, seed=1)(df)
    held_back = set(users[valid])
    assert not set(users[train]) & held_back and len(held_back) == int(0.25 * len(set(users)))
    groups = LeavePGroupsOut(len(held_back)).split(df, groups=users)
    assert valid.tolist() in (part[1].tolist() for part in groups)


def test_user_split_takes_ids_of_any_kind():
    df = ratings().assign(user=[(u, "x") for u in ratings()["user"]])
    assert lists(user_split(0.25, seed=1)(df)) == lists(user_split(0.25, seed=1)(ratings()))


@pytest.mark.parametrize("pct", [0.0, 0.25, 0.29, 0.5, 0.9])
def test_per_user_split_takes_the_fraction_of_each_user_rounded_up(pct):
    df = ratings(300).sample(frac=1, random_state=1)
    train, valid = per_user_split(pct, seed=1)(df)
    n, n_valid = df["user"].value_counts(), df["user"].iloc[valid].value_counts()
    assert n_valid.reindex(n.index, fill_value=0).tolist() == [min(math.ceil(round(k * pct, 6)), k - 1) for k in n]
    assert set(df["user"].iloc[train]) == set(df["user"])


def test_per_user_split_tests_everyone_with_two_ratings_and_takes_ids_of_any_kind():
    df = pd.DataFrame({"user": ["a"] * 3 + ["b"] + ["c"] * 2 + ["a"]})
    train, valid = per_user_split(0.25)(df)
    assert df["user"].iloc[valid].value_counts().to_dict() == {"a": 1, "c": 1} and 3 in train
    tuples = ratings().assign(user=[(u, "x") for u in ratings()["user"]])
    assert lists(per_user_split(seed=1)(tuples)) == lists(per_user_split(seed=1)(ratings()))


def test_per_user_split_takes_each_rating_of_a_user_equally_often():
    df = pd.DataFrame({"user": [0, 1, 1, 0, 1, 1, 0, 0]})
    taken = np.bincount(np.concatenate([per_user_split(0.25, seed)(df)[1] for seed in range(800)]), minlength=8)
    assert np.abs(taken - 200).max() < 5 * np.sqrt(800 * 0.25 * 0.75)      # five standard deviations


NAMED = {"numbers": lambda user: user, "text": lambda user: f"u{user:02}", "large": lambda user: 2**60 + user * 10**12,
         "negative": lambda user: -user, "object": lambda user: (user, "x"), "category": lambda user: f"u{user:02}"}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("index", [[3] * 400, [f"r{k % 7}" for k in range(400)], range(400, 0, -1)],
                         ids=["equal", "text", "descending"])
def test_splits_count_rows_whatever_the_ids_and_the_index_are(name, index):
    df = ratings(400)
    other = df.assign(user=[NAMED[name](user) for user in df["user"]]).set_axis(index, axis=0)
    other = other.astype({"user": "category"}) if name == "category" else other
    for how in EVERY.values():
        assert lists(how(seed=3)(other)) == lists(how(seed=3)(df))


def test_per_user_split_takes_the_first_rows_of_a_permutation():
    df = ratings(200)
    held, users = [], df["user"].tolist()
    for user in set(users):
        own = [row for row in np.random.default_rng(5).permutation(200).tolist() if users[row] == user]
        held += own[:math.ceil(len(own) * 0.25)]
    assert lists(per_user_split(0.25, seed=5)(df))[1] == sorted(held)


# Rows and folds ---------------------------------------------------------------------------------------------------

def test_rows_split_takes_positions_or_a_mask():
    df = ratings(5).set_axis([7, 7, 8, 8, 9], axis=0)
    mask = np.array([False, True, False, False, True])
    for rows in ([4, 1], np.array([1, 4, 1]), mask, pd.Series(mask, index=df.index)):
        assert lists(rows_split(rows)(df)) == [[0, 2, 3], [1, 4]]
    assert lists(rows_split([])(df)) == [[0, 1, 2, 3, 4], []]


@pytest.mark.parametrize("rows, message", [([5], "between 0 and 4, got 5 to 5"), ([-1], "got -1"),
                                           ([0.5], "whole numbers, got float64"), (["a"], "whole numbers"),
                                           ([[0], [1]], r"of shape \(2, 1\)"), ([True, False], "2 entries for 5")])
def test_rows_that_are_none_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        rows_split(rows)(ratings(5))


@pytest.mark.parametrize("n, k", [(100, 5), (103, 5), (7, 7), (10, 3)])
def test_folds_partition_the_ratings_evenly(n, k):
    df = ratings(n)
    parts = [split(df) for split in kfold(k, seed=2)]
    assert sorted(np.concatenate([valid for _, valid in parts])) == list(range(n))
    sizes = [len(valid) for _, valid in parts]
    assert sizes == [len(valid) for _, valid in KFold(k).split(df)] and max(sizes) - min(sizes) <= 1
    assert all(sorted([*train, *valid]) == list(range(n)) for train, valid in parts)


def test_folds_that_cannot_be_cut_are_refused():
    with pytest.raises(DataError, match="at least 2 folds, got 1"):
        kfold(1)
    with pytest.raises(DataError, match="3 ratings cannot be cut into 5"):
        kfold(5)[0](ratings(3))


# The canonical folds of MovieLens-100K ----------------------------------------------------------------------------

@pytest.fixture(scope="module")
def like_100k() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"user": rng.integers(1, 944, 100_000), "item": rng.integers(1, 1683, 100_000), "rating": 3.0})
    df.loc[0, ["user", "item"]] = 196, 242
    return df


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_u1_to_u5_are_slices_of_twenty_thousand_rows(k, like_100k):
    train, valid = apply_split(f"u{k}", like_100k)
    assert valid.tolist() == list(range(20_000 * (k - 1), 20_000 * k))
    assert len(train) == 80_000 and not set(train) & set(valid)
    as_text = like_100k.astype({"user": str, "item": str})
    assert lists(movielens_split(f"u{k}")(as_text)) == lists([train, valid])


@pytest.mark.parametrize("other", [lambda df: df.iloc[:-1], lambda df: df.iloc[::-1], lambda df: df.assign(user=1)])
def test_the_canonical_folds_refuse_other_tables(other, like_100k):
    with pytest.raises(DataError, match="belongs to MovieLens-100K in the order of u.data"):
        apply_split("u1", other(like_100k))


@pytest.mark.parametrize("name", ["u6", "ua", "random", ""])
def test_other_names_say_what_to_do(name):
    with pytest.raises(DataError, match=rf"'{name}' is not known; choose one of u1, u2, .*time_split\(0.2\)"):
        apply_split(name, ratings())


# One's own --------------------------------------------------------------------------------------------------------

def fives(table: pd.DataFrame) -> tuple[pd.Index, np.ndarray]:
    return table.index[table["rating"] < 5], np.flatnonzero(table["rating"] == 5)


def test_any_callable_is_a_split():
    df = ratings(200).drop_duplicates(["user", "item"])
    data = CollabDataBunch.from_df(df, split=fives, seed=0)
    assert data.train.n + data.valid.n == len(df) and data.scale == (1.0, 4.0)
    assert data.valid.tensors[2].unique().tolist() == [5.0]
    with pytest.warns(CollabWarning, match=f"puts {len(df) - 2} of {len(df)} ratings into neither part"):
        assert lists(apply_split(lambda t: ([1, 0], []), df)) == [[1, 0], []]      # rows may be left out


@pytest.mark.parametrize("split, message", [
    (lambda t: ([0, 1, 2], [2, 3, 1]), "2 rows on both sides"),
    (lambda t: ([0, 10], [1]), "between 0 and 9, got 0 to 10"),
    (lambda t: ([0], [-1]), "got -1"), (lambda t: ([], [1, 2]), "none of the 10 ratings for training"),
    (lambda t: (t["rating"] > 2, t["rating"] <= 2), "whole numbers, got bool"),
    (lambda t: np.arange(5), "must return .train rows, valid rows., this one returned ndarray"),
    (lambda t: None, "returned NoneType"), (0.2, "valid_pct="), (np.arange(3), "rows_split"), (kfold(5), "kfold"),
])
def test_what_is_no_split_is_refused(split, message):
    with pytest.raises(DataError, match=message):
        apply_split(split, ratings(10))


def test_checking_a_split_needs_few_bytes_a_row():
    n = 200_000
    table, rows = pd.DataFrame({"user": np.zeros(n), "item": 0, "rating": 1.0}), (np.arange(1, n), np.arange(1))
    tracemalloc.start()
    try:
        apply_split(lambda _: rows, table)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * n            # 8 for the positions, and a mask; sorting both sides together takes 24
