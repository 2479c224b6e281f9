"""A few texts as a column: by each way the same as pandas takes them."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collab import CollabDataBunch, CollabLearner, collab_learner, synthetic
from collab.compiled import not_compiled
from collab.data.catalogue import Catalogue
from collab.data.texts import MANY, MOST_BYTES, NoTexts, Texts

some = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def assert_taken(found, expected):
    assert type(found) is type(expected) and found.dtype == expected.dtype and found.tolist() == expected.tolist()
    pd.testing.assert_series_equal(pd.Series(found).str.upper(), pd.Series(expected).str.upper())


@settings(deadline=None)
@given(st.lists(some, min_size=1, max_size=30), st.data())
def test_texts_are_those_that_pandas_takes(given_texts, data):
    rows = np.array(data.draw(st.lists(st.integers(0, len(given_texts) - 1), max_size=40)), dtype=np.int64)
    assert_taken(Texts(given_texts).take(rows), pd.Series(given_texts).array.take(rows))


@pytest.mark.parametrize("n", [1, 3, MANY, MANY + 1])
def test_few_and_many_rows(n):
    given_texts = ["", "e\u0301t\u00e9", "\U0001f600" * 3]
    rows = np.arange(n) % 3
    assert_taken(Texts(given_texts).take(rows), pd.Series(given_texts).array.take(rows))


arrows = pytest.mark.skipif(not Texts(["a"]).are_arrows, reason="pandas keeps text without pyarrow here")
kernels = pytest.mark.skipif(not_compiled() is not None, reason=str(not_compiled()))


@arrows
def test_arrays_are_the_bytes_of_all_texts():
    given_texts = ["", "a", "\u00e9t\u00e9", "", "x" * 500]
    texts = Texts(given_texts)
    begins, text = texts.arrays
    assert [bytes(text[a:b]).decode() for a, b in pairwise(begins)] == given_texts and texts.longest == 500
    assert not begins.flags.writeable and not text.flags.writeable


@arrows
@kernels
@settings(deadline=None)
@given(st.lists(some, min_size=1, max_size=30), st.data())
def test_the_kernel_copies_the_texts_of_rows(given_texts, data):
    from collab.data.text_kernels import gather
    rows = np.array(data.draw(st.lists(st.integers(0, len(given_texts) - 1), min_size=1, max_size=40)), dtype=np.int64)
    texts = Texts(given_texts)
    room = texts.room(len(rows))
    size = gather(*texts.arrays, rows, room)
    assert size == 8 * (len(rows) + 1) + sum(len(given_texts[row].encode()) for row in rows)
    column = texts.copied(room, size, len(rows))
    assert_taken(column, pd.Series(given_texts).array.take(rows))
    column[0] = "changed"
    assert texts.all == given_texts and texts.column.tolist() == given_texts


@arrows
@kernels
@pytest.mark.parametrize("longest", [1, 20, 3000])
def test_a_column_keeps_no_more_than_twice_its_own_texts(longest):
    import pyarrow as pa

    from collab.data.text_kernels import gather
    texts = Texts(["a", "\u00e9t\u00e9", "", "x" * longest])
    rows = np.array([1, 0, 2, 1])
    size = gather(*texts.arrays, rows, room := texts.room(len(rows)))
    own = 8 * (len(rows) + 1) + 5 + 1 + 5
    assert size == own
    offsets, kept = pa.array(texts.copied(room, size, len(rows))).buffers()[1:]
    assert own <= offsets.size <= 2 * own and kept.size == offsets.size - 8 * (len(rows) + 1)


@arrows
def test_there_is_room_for_texts_up_to_a_size():
    texts = Texts(["", "a", "x" * (MOST_BYTES // 2)])
    assert texts.room(2).shape == (8 * 3 + MOST_BYTES,) and texts.room(3) is None
    none = NoTexts(4)
    assert none.arrays[0].tolist() == [0] * 5 and none.room(3).shape == (32,)


def test_what_has_made_lists_can_be_copied_and_pickled():
    ml = synthetic(60, 40, 900, seed=1)
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, device="cpu"), "dot_bias", 4)
    data, index = learn.data, learn.index()
    catalogue, user, rows = data.catalogue, data.users.ids[1], np.array([1, 3])
    learn.model.eval()
    expected, found = learn.recommend(user), index.recommend(user)
    title = catalogue.titles[0]
    assert title in catalogue and catalogue.find_titles(title, data.counts())

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
