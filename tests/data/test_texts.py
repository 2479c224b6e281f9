"""A few texts as a column: by each way the same as pandas takes them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collab.compiled import not_compiled
from collab.data import texts
from collab.data.texts import FEW, LONG, Texts

some = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def assert_taken(found, expected):
    assert type(found) is type(expected) and found.dtype == expected.dtype and found.tolist() == expected.tolist()
    pd.testing.assert_series_equal(pd.Series(found).str.upper(), pd.Series(expected).str.upper())


@settings(deadline=None)
@given(st.lists(some, min_size=1, max_size=30), st.data())
def test_texts_are_those_that_pandas_takes(given_texts, data):
    rows = np.array(data.draw(st.lists(st.integers(0, len(given_texts) - 1), max_size=40)), dtype=np.int64)
    assert_taken(Texts(given_texts).take(rows), pd.Series(given_texts).array.take(rows))


@pytest.mark.parametrize("longest", [3, LONG, LONG + 1])
@pytest.mark.parametrize("n", [1, FEW, FEW + 1])
def test_long_texts_and_many_rows(longest, n):
    given_texts = ["", "e\u0301t\u00e9", "\U0001f600" * longest]
    rows = np.arange(n) % 3
    assert_taken(Texts(given_texts).take(rows), pd.Series(given_texts).array.take(rows))


def test_without_numba_texts_are_the_same(monkeypatch):
    rows, given_texts = np.array([2, 0, 2]), ["a", "", "\u00e9"]
    monkeypatch.setattr(texts, "not_compiled", lambda: "no numba")
    assert_taken(Texts(given_texts).take(rows), pd.Series(given_texts).array.take(rows))


@pytest.mark.skipif(not_compiled() is not None or not texts.fits(), reason="no kernels here")
def test_the_kernel_copies_few_texts_and_nothing_else_changes():
    column = Texts(["a", "bc", ""])
    first, second = column.take(np.array([1, 1])), column.take(np.array([1, 2]))
    assert column._copies is not None
    first[0] = "changed"
    assert second.tolist() == ["bc", ""] and column.take(np.array([1])).tolist() == ["bc"]
