"""Ids as codes: what pandas finds by hashing, found by tables and by sorting, for every kind of id."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from collab import CollabDataBunch, CollabWarning, DataError, Vocab, rows_split
from collab.data import vocab as vocab_module
from collab.data.codes import Groups, coded, distinct, in_order, is_coded, merged, repeats, stable_order

RNG = np.random.default_rng(0)
PICKS = RNG.integers(0, 7, 60)


def of(values, dtype=None) -> pd.Series:
    """60 ids, drawn from seven values."""
    return pd.Series(pd.Series(values, dtype=dtype).array[PICKS])


DAYS = [datetime.date(2020, 1, k) for k in range(1, 8)]
IDS = {
    "dense": of(range(7)), "from minus three": of(range(-3, 4)), "shuffled": of([5, 2, 9, 1, 30, 4, 8]),
    "wide": of([-10**6, 5, 10**6, 7, 8, 9, 4]), "beyond 2**53": of(range(2**53, 2**53 + 7)),
    "far beyond, and wide": of([2**62 + 1, 2**62, -2**62, 3, 4, 5, 6]), "near the end": of(range(2**63 - 7, 2**63)),
    "ends of int64": of([-2**63, 2**63 - 1] * 3 + [0]), "near its begin": of(range(-2**63, -2**63 + 7)),
    "int8": of([-128, 127, 0, 1, 2, 3, -1], "int8"), "uint8": of([0, 255, 1, 2, 3, 4, 250], "uint8"),
    "dense int8": of([-128, -127, -100, -90, -101, -102, -103], "int8"), "int32": of(range(100, 107), "int32"),
    "uint64": of([2**64 - 1 - k for k in range(7)], "uint64"), "Int64": of(range(7), "Int64"),
    "float": of([0.5, -1, 2, 3, 4, 1e15, 7]), "bool": of([True, False] * 3 + [True]), "text": of(list("gfedcba")),
    "object text": of(list("gfedcba"), object), "tuples": of([(k, "x") for k in range(7)], object),
    "days": of(DAYS, object), "moments": of(pd.to_datetime(DAYS)), "zoned": of(pd.to_datetime(DAYS, utc=True)),
    "decimals": of([Decimal(k) / 7 for k in range(7)], object),
    "no order": of([(1, "a"), ("a", 1), (2,), ("b",), (None,), (DAYS[0],), (0.5,)], object),
}


@pytest.fixture(params=IDS)
def ids(request) -> pd.Series:
    return IDS[request.param]


def test_the_ids_at_the_codes_are_the_column_again(ids):
    for given in (ids, coded(ids), pd.Index(ids, tupleize_cols=False)):
        codes, each = distinct(given)
        assert len(codes) == 60 and each.is_unique and set(each) == set(ids) and each.dtype == ids.dtype
        assert each.take(codes).tolist() == ids.tolist()


def test_a_coded_column_is_its_ids_in_a_few_bytes(ids):
    column = coded(ids.rename("user"))
    assert is_coded(column) and not is_coded(ids) and column.name == "user" and column.array.codes.itemsize == 1
    assert column.tolist() == ids.tolist() and column[::-1].index.tolist() == list(range(60))[::-1]
    assert not is_coded(pd.Series(["a", None], dtype="category"))       # ids that are missing have no code


def test_the_ids_of_a_part_come_sorted_or_as_they_first_occur_in_it(ids):
    part, own = coded(ids).iloc[30:40], ids.iloc[30:40]
    if coded(ids).array.categories.is_monotonic_increasing:
        assert in_order(part).tolist() == sorted(set(own))
    else:
        assert in_order(part).tolist() == list(dict.fromkeys(own))


@pytest.mark.parametrize("kind", [kind for kind in IDS if kind != "no order"])
def test_a_vocab_of_codes_is_that_of_the_ids_and_both_are_encoded_alike(kind, monkeypatch):
    ids = IDS[kind]
    column, vocab = coded(ids), Vocab(ids[:20], "user")
    assert Vocab(column[:20], "user") == vocab and vocab._index.dtype == ids.dtype
    rows = vocab.encode(ids)
    assert vocab.encode(column).tolist() == rows.tolist() and rows.dtype == np.int64
    monkeypatch.setattr(vocab_module, "MANY", 1)        # ids by the thousand are looked up once each
    assert vocab.encode(ids).tolist() == rows.tolist()
    known = {id: row for row, id in enumerate(vocab, 1)}
    assert rows.tolist() == [known.get(id, 0) for id in ids]


def test_ids_of_categories_with_arrow_types_and_without_use_are_plain():
    for values in (["b", "a", "c"], [3, 1, 2]):
        arrow = pd.Series(values).convert_dtypes(dtype_backend="pyarrow").astype("category")
        vocab = Vocab(arrow[:2])
        assert list(vocab) == sorted(values[:2]) and not isinstance(vocab._index.dtype, pd.ArrowDtype)
        assert vocab.encode(arrow).tolist() == [2, 1, 0]


# Pairs ------------------------------------------------------------------------------------------------------------

def pairs(seed: int, n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"user": rng.integers(-9, 9, n) * 10**17, "item": rng.choice(list("abcdefghijkl"), n),
                         "rating": rng.normal(size=n)}, index=rng.integers(0, 5, n))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("as_codes", [False, True])
def test_repeated_pairs_and_their_means_are_those_of_pandas(seed, as_codes):
    table = pairs(seed)
    asked = table.assign(user=coded(table["user"]), item=coded(table["item"])) if as_codes else table
    again = repeats(asked)
    assert again.tolist() == table.duplicated(["user", "item"]).tolist()
    for how in ("mean", "sum"):
        one = merged(asked, again, how)
        of_pandas = table.groupby(["user", "item"], sort=False)["rating"].transform(how)[~again]
        assert one["rating"].tolist() == of_pandas.tolist() and one.index.tolist() == of_pandas.index.tolist()
        assert one["user"].tolist() == table["user"][~again].tolist()
    assert repeats(asked[~again]) is None


def test_two_columns_that_swap_their_ids_are_not_the_same_pair():
    assert repeats(pd.DataFrame({"user": [0, 1, 0, 1], "item": [1, 0, 0, 1]})) is None
    assert repeats(pd.DataFrame({"user": [0, 1, 0], "item": [1, 0, 1]})).tolist() == [False, False, True]
    assert repeats(pd.DataFrame({"user": [], "item": []})) is None


# Order ------------------------------------------------------------------------------------------------------------

ORDERED = {"few": PICKS, "int8": PICKS.astype(np.int8) - 4, "wide": RNG.integers(-2**62, 2**62, 60),
           "uint64": RNG.integers(0, 2**63, 60).astype(np.uint64) * 2, "float": PICKS / 3, "none": PICKS[:0],
           "one": PICKS[:1], "seconds": PICKS.astype("datetime64[s]"), "dates": np.array(DAYS, dtype=object)[PICKS],
           "nanoseconds": RNG.integers(0, 2**62, 60).view("datetime64[ns]"),
           "just fits": np.array([0, 2**57 - 1, 5] * 20), "does not fit": np.array([-1, 2**57, 5] * 20)}


@pytest.mark.parametrize("values", ORDERED.values(), ids=ORDERED.keys())
def test_an_order_keeps_equal_values_as_they_stand(values):
    order = stable_order(values)
    assert order.tolist() == sorted(range(len(values)), key=lambda row: values[row])


def test_groups_are_the_rows_of_each_user_in_the_order_that_is_given():
    users, order = IDS["text"], RNG.permutation(60)
    groups = Groups(users, order)
    rows = {user: [row for row in order.tolist() if users[row] == user] for user in "abcdefg"}
    own = users[groups.rows].tolist()
    assert [list(dict.fromkeys(own)).count(user) for user in rows] == [1] * 7
    for k, row in enumerate(groups.rows.tolist()):
        assert rows[own[k]][groups.within[k]] == row and groups.sizes[k] == len(rows[own[k]])
    assert sorted(groups.rows.tolist()) == list(range(60))


# From a table to batches ------------------------------------------------------------------------------------------

INDEXES = {"equal": [7] * 60, "text": list("ab") * 30, "two levels": pd.MultiIndex.from_arrays([PICKS, PICKS]),
           "descending": range(60, 0, -1)}


def test_rows_are_counted_whatever_the_index_of_the_table(ids):
    table = pd.DataFrame({"u": ids, "i": np.arange(60), "r": np.arange(60) % 5 + 1.0})
    kept = table.drop(index=[3, 9, 50])
    for index in INDEXES.values():
        odd = table.set_axis(index, axis=0)
        data = CollabDataBunch.from_df(odd, split=rows_split([3, 9, 50]), seed=0, device="cpu")
        users, items, ratings = (t.numpy() for t in data.train.tensors)
        assert data.users.decode(users).tolist() == kept["u"].tolist() and ratings.tolist() == kept["r"].tolist()
        assert data.items.decode(items).tolist() == kept["i"].tolist()
        assert data.valid.tensors[0].tolist() == data.users.encode(ids.iloc[[3, 9, 50]]).tolist()
        assert data.aside.items.decode(data.aside.parts["valid"][1]).tolist() == [3, 9, 50]


def test_a_split_changes_neither_the_ratings_nor_the_table_that_they_came_from():
    table = pd.DataFrame({"u": [1, 2, 1, 2], "i": [1, 1, 2, 2], "r": [1.0, 2, 3, 4]})
    before = table.copy()

    def split(df: pd.DataFrame):
        df["user"], df["new"] = 0, 1
        df = df.assign(rating=0.0)
        return [0, 1, 2], [3]
    data = CollabDataBunch.from_df(table, split=split, seed=0, device="cpu")
    pd.testing.assert_frame_equal(table, before)
    assert data.train.tensors[2].tolist() == [1, 2, 3] and data.train.tensors[0].tolist() == [1, 2, 1]
    data.train.tensors[2].zero_()
    pd.testing.assert_frame_equal(table, before)


def test_a_table_that_a_split_sees_has_the_ids_as_they_came_and_each_pair_once():
    seen = []

    def split(df: pd.DataFrame):
        seen.append(df)
        return np.arange(len(df) - 1), [len(df) - 1]
    table = pd.DataFrame({"u": list("aab"), "i": [1, 1, 2], "r": [1.0, 2, 3], "x": [7, 8, 9]}, index=[5, 5, 5])
    with pytest.warns(CollabWarning, match="1 of 3 rows"), pytest.raises(DataError, match="at least two"):
        CollabDataBunch.from_df(table, split=split, duplicates="mean", seed=0)
    pd.testing.assert_frame_equal(seen[0], pd.DataFrame({"user": ["a", "b"], "item": [1, 2], "rating": [1.5, 3.0],
                                                         "x": [7, 9]}))
