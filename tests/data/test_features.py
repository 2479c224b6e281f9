"""Features of users and items: encoded by hand, scaled on what was trained, and refused with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from collab import CollabDataBunch, DataError, collab_learner, rows_split
from collab.data.features import Features
from collab.data.vocab import Vocab
from collab.models.embedding import EmbeddingDotBias

pytestmark = pytest.mark.filterwarnings("ignore:the table of .*lacks", "ignore:.* values are infinite",
                                        "ignore:.*test ratings are of")

# Films 10, 20 and 30 are trained on, 40 is only held out, 50 and 60 have no rating at all; 30 is not in the table.
RATINGS = pd.DataFrame({"user": ["ann", "ann", "bob", "bob", "cid", "cid"], "film": [10, 20, 10, 30, 20, 40],
                        "stars": [1.0, 2.0, 5.0, 4.0, 3.0, 5.0]})
FILMS = pd.DataFrame({"film": [50, 20, 10, 40, 60], "title": list("abcde"),
                      "genre": ["War", "Comedy|Drama", "Drama", "Drama|War", None],
                      "year": [2000.0, 1990.0, 1980.0, 1970.0, np.nan]})
IDS = [None, 10, 20, 30, 40, 50, 60]


def bunch(films: pd.DataFrame | None = FILMS, features: Any = ("genre", "year"), ratings: pd.DataFrame = RATINGS,
          **options: Any) -> CollabDataBunch:
    return CollabDataBunch.from_df(ratings, items=films, item_features=features, split=rows_split([5]), seed=0,
                                   device="cpu", **options)


def dense(features: Features | None) -> dict[tuple[str, str], list[float]]:
    """Feature -> its weight in every row, from 0 (unknown) on."""
    assert features is not None and features.codes.dtype == torch.int64 and features.weights.dtype == torch.float32
    table = torch.zeros(len(features.codes), len(features.labels))
    for row in range(len(table)):                                   # as sparse rows are meant, place by place
        for code, weight in zip(features.codes[row].tolist(), features.weights[row].tolist()):
            table[row, code] += weight
    assert len(set(features.labels)) == len(features.labels)
    return dict(zip(features.labels, table.T.tolist()))


def encoded(column: list | pd.Series, trained: list[int], columns: Any = ("x",), **options: Any) -> dict:
    """The features of the rows 1 to n, of which `trained` have a rating, in a column `x` of the table."""
    table = pd.DataFrame({"x": column}, index=pd.RangeIndex(1, len(column) + 1))
    counts = np.isin(np.arange(len(column) + 1), trained).astype(int)
    return dense(Features.of(table, [None, *range(1, len(column) + 1)], counts, columns, **options))


# Values by hand ---------------------------------------------------------------------------------------------------

def test_categories_bags_and_numbers_are_those_by_hand():
    data = bunch()
    assert data.items.ids.tolist() == IDS and data.counts().tolist() == [0, 2, 2, 1, 0, 0, 0]
    found = dense(data.item_features)
    # no trained film is a War film, so that nothing can be learned of War, and of 40 only its Drama is left
    assert list(found) == [("genre", "Comedy"), ("genre", "Drama"), ("year", "")]
    assert found["genre", "Comedy"] == [0, 0, 0.5, 0, 0, 0, 0]
    assert found["genre", "Drama"] == [0, 1, 0.5, 0, 1, 0, 0]
    # of the years 1980 and 1990 the middle ranks are 1/4 and 3/4; 1970 is below all, 2000 above: ranks 0 and 1
    root = 3 ** 0.5
    assert found["year", ""] == pytest.approx([0, -root / 2, root / 2, 0, -root, root, 0])


def test_standard_scores_are_those_of_the_trained_ids_only():
    year = dense(bunch(scaling="standard").item_features)["year", ""]
    assert year == pytest.approx([0, -1, 1, 0, -3, 3, 0])       # mean 1985 and deviation 5 of 1980 and 1990


def test_equal_numbers_share_the_middle_of_their_ranks():
    # trained are 1, 1, 2, 5: ranks 1/4, 1/4, 5/8, 7/8; the cold 3 lies between them, at 3/4
    found = encoded([1, 1, 2, 5, 3], trained=[1, 2, 3, 4])["x", ""]
    assert np.array(found) / 3 ** 0.5 == pytest.approx([0, -0.5, -0.5, 0.25, 0.75, 0.5])


@pytest.mark.parametrize("scaling", ["quantile", "standard"])
def test_numbers_that_say_nothing_weigh_nothing(scaling: str):
    assert encoded([7, 7, 9], [1, 2], scaling=scaling)["x", ""] == [0, 0, 0, 0]
    assert encoded([7.0, np.nan, 9], [1, 2], scaling=scaling)["x", ""] == [0, 0, 0, 0]
    infinite = encoded([1.0, 3.0, np.inf, -np.inf], [1, 2, 3, 4], scaling=scaling)["x", ""]
    assert infinite[3:] == [0, 0] and infinite[1] == -infinite[2] < 0


@pytest.mark.parametrize("dtype", ["Int64", "Float32", "float32", "object"])
def test_numbers_of_every_dtype_are_the_same_numbers(dtype: str):
    if dtype == "object":       # what is no number dtype is words
        assert list(encoded(pd.Series([1, 3], dtype=object, index=[1, 2]), [1, 2])) == [("x", "1"), ("x", "3")]
        return
    column = pd.Series([1, None, 3, 4], dtype=dtype, index=[1, 2, 3, 4])
    assert encoded(column, [1, 2, 3], scaling="standard")["x", ""] == pytest.approx([0, -1, 0, 1, 2])


@pytest.mark.parametrize("dtype", [bool, "boolean", object])
def test_booleans_are_two_categories(dtype: Any):
    found = encoded(pd.Series([True, False, True], dtype=dtype, index=[1, 2, 3]), [1, 2, 3])
    assert found == {("x", "False"): [0, 0, 1, 0], ("x", "True"): [0, 1, 0, 1]}


def test_categoricals_are_words_and_values_of_cold_ids_are_left_out():
    column = pd.Series(pd.Categorical(["a", "b", None, "c"], categories=["z", "c", "b", "a"]), index=[1, 2, 3, 4])
    assert encoded(column, [1, 2, 3]) == {("x", "a"): [0, 1, 0, 0, 0], ("x", "b"): [0, 0, 1, 0, 0]}
    numbers = pd.Series(pd.Categorical([3, 5, 3]), index=[1, 2, 3])
    assert encoded(numbers, [1, 2]) == {("x", "3"): [0, 1, 0, 1], ("x", "5"): [0, 0, 1, 0]}


def test_the_words_of_a_bag_may_be_padded_empty_or_repeated():
    found = encoded(["a | b", "b||", "a|a|b|c", "", "|"], [1, 2])
    assert found["x", "a"] == pytest.approx([0, 1 / 2, 0, 2 / 3, 0, 0])
    assert found["x", "b"] == pytest.approx([0, 1 / 2, 1, 1 / 3, 0, 0])


def test_popularity_counts_training_ratings_where_it_is_asked_for():
    found = dense(bunch(features=["popularity"], scaling="standard").item_features)["popularity", ""]
    logs = np.log1p([2, 2, 1])
    expected = [*(logs - logs.mean()) / logs.std(), *[(0 - logs.mean()) / logs.std()] * 3]
    assert found == pytest.approx([0, *expected], abs=1e-5)         # row 0 has none, like everything of it
    assert ("popularity", "") not in dense(bunch(features="auto", films=FILMS).item_features)


def test_a_column_called_popularity_is_taken_as_it_is():
    found = encoded([1, 3, 9], [1, 2], scaling="standard")["x", ""]
    table = pd.DataFrame({"popularity": [1, 3, 9]}, index=[1, 2, 3])
    for columns in ("auto", ["popularity"]):
        own = Features.of(table, [None, 1, 2, 3], np.array([0, 9, 1, 0]), columns, "standard")
        assert dense(own)["popularity", ""] == found


def test_users_have_features_too():
    people = pd.DataFrame({"user": ["dan", "bob", "ann"], "job": ["cook", "cook", "poet"], "age": [20, 40, 30]})
    data = bunch(users=people, user_features=["job", "age"], scaling="standard")
    assert data.users.ids.tolist() == [None, "ann", "bob", "cid", "dan"]        # dan is cold, of cid nothing is known
    assert dense(data.user_features) == {("job", "cook"): [0, 0, 1, 0, 1], ("job", "poet"): [0, 1, 0, 0, 0],
                                         ("age", ""): [0, -1, 1, 0, -3]}
    only = bunch(None, None, users=people, user_features=["job"])
    assert only.item_features is None and only.n_items == 4 and dense(only.user_features)["job", "poet"][1] == 1


# Which columns ----------------------------------------------------------------------------------------------------

def test_auto_takes_numbers_and_words_that_come_back_but_no_titles():
    n = 60
    table = pd.DataFrame({"title": ["same"] * n, "name": range(n), "url": [f"u{k}" for k in range(n)],
                          "bag": ["a|b", "c", "d|e|f"] * (n // 3), "seven": [str(k % 7) for k in range(n)],
                          "one": ["x"] * n, "year": range(n), "flag": [True, False] * (n // 2)})
    table.index = pd.RangeIndex(1, n + 1)
    features = Features.of(table, [None, *range(1, n + 1)], np.ones(n + 1, int))
    assert list(dict.fromkeys(name for name, _ in features.labels)) == ["bag", "year", "flag"]


def test_without_features_the_vocabs_hold_rated_ids_only():
    data = bunch(features=None)
    assert data.items.ids.tolist() == [None, 10, 20, 30] and data.item_features is None and data.user_features is None


# Ids of every kind ------------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[int], Hashable]] = {
    "string": str, "tuple": lambda k: (k, "x"), "date": lambda k: (pd.Timestamp("2020-01-01") + pd.Timedelta(days=k)
                                                                    ).date(),
    "time": lambda k: pd.Timestamp("2020-01-01") + pd.Timedelta(days=k), "integer": int}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_every_kind_are_joined(kind: str):
    make = KINDS[kind]
    ratings = RATINGS.assign(film=pd.Series([make(k) for k in RATINGS["film"]]))
    films = FILMS.assign(film=pd.Series([make(k) for k in FILMS["film"]]))
    data = bunch(films, ratings=ratings)
    assert data.items.ids.tolist() == [None, *map(make, IDS[1:])]
    assert dense(data.item_features) == dense(bunch().item_features)


@pytest.mark.parametrize("rated, listed", [("int64", "float64"), ("int32", "int64"), ("Int64", "float64"),
                                           ("float64", "int64"), ("int64", "category")])
def test_the_ids_keep_the_type_they_have_in_the_ratings(rated: str, listed: str):
    data = bunch(FILMS.astype({"film": listed}), ratings=RATINGS.astype({"film": rated}))
    plain = bunch(None, None, RATINGS.astype({"film": rated}))
    assert data.items.ids.tolist() == IDS and data.item_features is not None
    assert {type(id) for id in data.items} == {type(id) for id in plain.items}
    assert data.items.decode([1, 5]).dtype == plain.items.decode([1, 2]).dtype
    assert dense(data.item_features) == dense(bunch().item_features)


def test_more_ids_keep_the_type_of_a_vocab_where_they_can():
    assert Vocab([3, 1]).with_more([7.0, 1.0]).ids.tolist() == [None, 1, 3, 7]
    assert [*map(type, Vocab([3, 1]).with_more([7.0]))] == [int] * 3
    assert [*Vocab([3, 1], "item").with_more([7.5])] == [1, 3, 7.5] and Vocab(["b"]).with_more(["a"])["a"] == 1
    with pytest.raises(DataError, match="'7' is of kind string"):
        Vocab([3, 1]).with_more(["7"])


def test_cold_ids_count_as_unseen():
    data = bunch(test=pd.DataFrame({"user": ["ann", "eve"], "film": [40, 99], "stars": [1.0, 2.0]}))
    assert data.valid is not None and data.valid.tensors[1].tolist() == [4]     # 40 has a row, and no training rating
    summary = data.summary()
    assert summary["unseen_items"].tolist() == [0, 1, 2] and summary["unseen_users"].tolist() == [0, 0, 1]
    assert summary["items"].tolist() == [3, 1, 2] and summary["ratings_with_unseen"].tolist() == [0, 1, 2]
    assert data.trained["item"].tolist() == [False, True, True, True, False, False, False]


# What is refused --------------------------------------------------------------------------------------------------

def test_what_cannot_be_a_feature_is_refused_with_a_remedy():
    for features, films, says in (
            (["genre", "director"], FILMS, r"no column 'director'.*the columns are \['title', 'genre', 'year'\]"),
            ("genre", FILMS, r"a list of columns or 'auto', got 'genre'"),
            (["genre"], None, r"item_features need a table of items: pass items="),
            ("auto", FILMS[["film", "title"]], r"nothing to make features of.*\['title'\].*item_features=\['genres'\]"),
            (["genre"], FILMS.assign(genre=None), r"nothing to make features of.*\['genre'\]"),
            ([], FILMS, r"nothing to make features of")):
        with pytest.raises(DataError, match=says):
            bunch(films, features)
    with pytest.raises(DataError, match="scaling 'rank' is neither 'quantile' nor 'standard'"):
        bunch(scaling="rank")
    with pytest.raises(DataError, match="user_features need a table of users: pass users="):
        bunch(user_features="auto")


# Models without features over such data ---------------------------------------------------------------------------

@pytest.mark.parametrize("same_number", [False, True])
def test_cold_rows_of_a_dot_model_are_the_mean_of_the_trained_ones(same_number: bool):
    rng = np.random.default_rng(0)
    ratings = pd.DataFrame({"user": np.arange(200) % 11, "item": rng.integers(1, 8, 200),
                            "rating": rng.integers(1, 6, 200)}).drop_duplicates(["user", "item"])
    films = pd.DataFrame({"item": range(1, 12 if same_number else 13), "g": ["a", "b", "a"] * 3 + ["b"] * (
        2 if same_number else 3)})
    data = CollabDataBunch.from_df(ratings, items=films, item_features=["g"], seed=0, device="cpu")
    assert (data.n_users == data.n_items) == same_number
    learn = collab_learner(data, n_factors=3)
    assert isinstance(learn.model, EmbeddingDotBias)
    with learn.no_logging():
        learn.fit(2)
    for table in (learn.model.i_weight.weight, learn.model.i_bias.weight):
        for row in (0, 8, 9, len(table) - 1):
            assert torch.equal(table[row], table[1:8].mean(0))
    users = learn.model.u_weight.weight
    torch.testing.assert_close(users[0], users[1:].mean(0))
    assert len({learn.predict(3, cold) for cold in (8, 9, 11)}) == 1
