"""Columns of polars and pyarrow as ids: several ids, wherever a pandas Series of them is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from collab import CollabDataBunch, CollabLearner, collab_learner, evaluate, synthetic
from collab.data.vocab import several

COLUMNS = {"polars": pl.Series, "arrow": pa.array, "chunked": lambda ids: pa.chunked_array([ids]),
           "pandas": pd.Series, "arrow in pandas": lambda ids: pd.Series(ids, dtype="int64[pyarrow]"),
           "categories": lambda ids: pd.Series(ids).astype("category")}


@pytest.fixture(scope="module")
def learn() -> CollabLearner:
    ml = synthetic(30, 20, 300, seed=1)
    made = collab_learner(CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, device="cpu"), n_factors=4)
    with made.no_logging():
        made.fit(1)
    return made


@pytest.fixture(params=COLUMNS)
def column(request):
    return COLUMNS[request.param]


def test_a_column_is_several_ids(learn: CollabLearner, column):
    users, items = [7, 3, 7], [2, 5, 9]
    np.testing.assert_array_equal(learn.predict(column(users), column(items)), learn.predict(users, items))
    np.testing.assert_array_equal(learn.predict(7, column(items)), learn.predict(7, items))
    np.testing.assert_array_equal(learn.predict(item=column(items), ratings={1: 4.0}),
                                  learn.predict(item=items, ratings={1: 4.0}))
    for options in ({"n": 2}, {"n": 2, "exclude": None}):
        pd.testing.assert_frame_equal(learn.recommend(column(users), **options), learn.recommend(users, **options))
    pd.testing.assert_frame_equal(next(learn.recommend_all(2, column(users))), next(learn.recommend_all(2, users)))
    pd.testing.assert_frame_equal(learn.index().recommend(column(users), 2), learn.index().recommend(users, 2))
    pd.testing.assert_frame_equal(learn.recommend(7, among=column(items), without=column([5])),
                                  learn.recommend(7, among=items, without=[5]))
    assert learn.weight(column(items)).equal(learn.weight(items)) and learn.bias(column([2])).shape == (1,)
    per_user = [evaluate(learn, users=asked, baseline=False).per_user for asked in (column(users), users)]
    pd.testing.assert_frame_equal(*per_user)


def test_a_column_of_one_id_is_a_list_of_one(learn: CollabLearner, column):
    assert learn.predict(column([7]), 2).shape == (1,)
    assert "user" in learn.recommend(column([7]), 2) and "user" in learn.index().recommend(column([7]), 2)


def test_probabilities_name_the_ids_of_columns(column):
    data = CollabDataBunch.from_df(synthetic(30, 20, 300, seed=1).ratings, seed=0, device="cpu")
    classes = collab_learner(data, "classifier", n_factors=4)
    pd.testing.assert_frame_equal(classes.probabilities(column([7, 3]), 2), classes.probabilities([7, 3], 2))


@pytest.mark.parametrize("ids", [7, "text", b"bytes", (1, 2), None, 2.5, pd.Timestamp("2026"), np.int64(3)])
def test_whatever_is_no_column_is_one_id(ids):
    assert not several(ids)


def test_somebody_new_may_list_what_they_chose_in_a_column():
    chosen = synthetic(30, 20, 300, seed=1).ratings[["user", "item"]]
    learn = collab_learner(CollabDataBunch.from_df(chosen, implicit=True, seed=0, device="cpu"), "als", n_factors=4)
    for column in (pl.Series, pa.array):
        pd.testing.assert_frame_equal(learn.recommend(ratings=column([1, 2])), learn.recommend(ratings=[1, 2]))
