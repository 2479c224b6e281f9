"""A few texts as a column: by each way the same as pandas takes them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collab import CollabDataBunch, CollabLearner, collab_learner, synthetic
from collab.compiled import not_compiled
from collab.data import texts
from collab.data.catalogue import Catalogue
from collab.data.texts import FEW, MANY, Texts

kernels = pytest.mark.skipif(not_compiled() is not None or not texts.fits(), reason="no kernels here")
some = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def assert_taken(found, expected):
    assert type(found) is type(expected) and found.dtype == expected.dtype and found.tolist() == expected.tolist()
    pd.testing.assert_series_equal(pd.Series(found).str.upper(), pd.Series(expected).str.upper())


@settings(deadline=None)
@given(st.lists(some, min_size=1, max_size=30), st.data())
def test_texts_are_those_that_pandas_takes(given_texts, data):
    rows = np.array(data.draw(st.lists(st.integers(0, len(given_texts) - 1), max_size=40)), dtype=np.int64)
    assert_taken(Texts(given_texts).take(rows), pd.Series(given_texts).array.take(rows))


@pytest.mark.parametrize("longest", [3, MANY // 4 - 2, MANY // 4])
@pytest.mark.parametrize("n", [1, 3, FEW, FEW + 1])
def test_long_texts_and_many_rows(longest, n):
    given_texts = ["", "e\u0301t\u00e9", "\U0001f600" * longest]
    rows = np.arange(n) % 3
    assert_taken(Texts(given_texts).take(rows), pd.Series(given_texts).array.take(rows))


def test_without_numba_texts_are_the_same(monkeypatch):
    rows, given_texts = np.array([2, 0, 2]), ["a", "", "\u00e9"]
    monkeypatch.setattr(texts, "not_compiled", lambda: "no numba")
    assert_taken(Texts(given_texts).take(rows), pd.Series(given_texts).array.take(rows))


@kernels
def test_the_kernel_copies_few_texts_and_nothing_else_changes():
    column = Texts(["a", "bc", ""])
    first, second = column.take(np.array([1, 1])), column.take(np.array([1, 2]))
    assert column._arrays is not None
    first[0] = "changed"
    assert second.tolist() == ["bc", ""] and column.take(np.array([1])).tolist() == ["bc"]


@kernels
def test_a_column_has_room_for_its_own_texts_alone():
    import pyarrow as pa
    column = Texts(["a", "\u00e9t\u00e9", "", "x" * 500])
    rows = np.array([1, 0, 2, 1])
    taken = column.take(rows)
    assert column._arrays is not None
    assert sum(buffer.size for buffer in pa.array(taken).buffers() if buffer) == 8 * (len(rows) + 1) + 5 + 1 + 5


@kernels
def test_what_has_made_lists_can_be_copied_and_pickled():
    ml = synthetic(60, 40, 900, seed=1)
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, device="cpu"), "dot_bias", 4)
    data, index = learn.data, learn.index()
    catalogue, user, rows = data.catalogue, data.users.ids[1], np.array([1, 3])
    learn.model.eval()
    expected, found = learn.recommend(user), index.recommend(user)
    title = catalogue.titles[0]
    assert title in catalogue and catalogue.find_titles(title, data.counts())
    assert catalogue._titles._arrays is not None and index.catalogue._titles._arrays is not None

    again, same = copy.deepcopy(learn), copy.deepcopy(data)
    assert pickle.dumps(catalogue) == pickle.dumps(Catalogue(catalogue.vocab, catalogue.titles))
    for other in (again, CollabLearner(same, learn.model)):
        pd.testing.assert_frame_equal(other.recommend(user), expected)
    for other in (copy.deepcopy(index), pickle.loads(pickle.dumps(index))):
        pd.testing.assert_frame_equal(other.recommend(user), found)
    for other in (again.data.catalogue, same.catalogue, copy.deepcopy(catalogue),
                  pickle.loads(pickle.dumps(catalogue))):
        assert other is not catalogue and other.titles == catalogue.titles and other.vocab == catalogue.vocab
        assert_taken(other.title_column(rows)["title"], catalogue.title_column(rows)["title"])
        assert other[title] == catalogue[title]
    pd.testing.assert_frame_equal(learn.recommend(user), expected)
