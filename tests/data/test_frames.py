"""Tables print whole rows in a pipe too, where pandas would leave out the titles."""

import datetime
import pickle

import numpy as np
import pandas as pd
import pytest

from collab import CollabDataBunch, CollabInterpretation, collab_learner, synthetic
from collab.data.frames import Table, frame_of

LONG = "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb (1963)"


def test_tables_with_titles_print_whole_rows_in_a_pipe(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")         # the width that pandas assumes for a pipe
    ml = synthetic(30, 20, 300, seed=0)
    data = CollabDataBunch.from_df(ml.ratings, items=ml.items.assign(title=f"{LONG} again"), seed=0)
    learn = collab_learner(data, n_factors=2)
    interp, user, item = CollabInterpretation(learn), ml.ratings["user"][0], ml.ratings["item"][0]
    for made in (learn.recommend(user, n=3), learn.recommend([user, user], n=2), learn.similar_items(item, n=3),
                 learn.rated(user), learn.show_results(3), data.show_batch(3), interp.biases(n=3),
                 interp.neighbors(item, k=3), interp.similar_pairs(0.0, n=3), interp.pca(2).table(0),
                 learn.recommend(user).head(2).assign(more=1.0)):
        lines = repr(made).splitlines()
        assert len(lines) == 1 + len(made) and "..." not in lines[0]
        assert all(f"{LONG} again" in line for line in lines[1:])


def test_a_table_is_otherwise_an_ordinary_frame(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    plain = pd.DataFrame({"item": [1], "title": [LONG], "score": [0.5]})
    made = Table(plain)
    pd.testing.assert_frame_equal(made, plain)
    pd.testing.assert_frame_equal(plain, made, check_frame_type=False)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(made)), plain)
    assert LONG in repr(made) and LONG not in repr(plain)
    with pd.option_context("display.max_columns", 2):
        assert repr(made) == repr(plain)        # the user's own setting is obeyed


@pytest.mark.parametrize("values", [
    np.array([3, 1]), np.array([3, 1], dtype=np.int8), np.array([0.5, np.nan], dtype=np.float32),
    np.array([True, False]), np.array(["a", "b"], dtype=object), np.array([(1, 2), "b"], dtype=object),
    np.array([datetime.date(2000, 1, 2), datetime.date(2001, 1, 2)]),
    np.array(["2000-01-02", "2001-01-02"], dtype="datetime64[s]"), pd.array([1, None], dtype="Int64"),
    pd.Series(["a", "b"]).array, pd.date_range("2000", periods=2, tz="UTC").array,
    pd.array([pd.Timestamp("2000"), pd.Timestamp("2001", tz="UTC")], dtype=object)])
def test_a_frame_of_arrays_is_that_of_pandas(values):
    columns = {"rank": np.array([1, 2]), "item": values, "title": pd.Series(["x", "y"]).array}
    for n in (2, 0):
        some = {name: own[:n] for name, own in columns.items()}
        made, expected = frame_of(some, Table), Table(some)
        pd.testing.assert_frame_equal(made, expected, check_column_type="exact", check_index_type="exact")
        assert type(made) is type(made.head()) is Table
        made.insert(0, "user", 5)
        pd.testing.assert_frame_equal(made.sort_values("rank", ascending=False).assign(rank=2.5),
                                      expected.assign(user=5)[list(made)].iloc[::-1].assign(rank=2.5))


@pytest.mark.parametrize("storage", ["auto", "python"])
def test_text_is_text_without_pyarrow_too(storage):
    with pd.option_context("mode.string_storage", storage):
        columns = {"item": np.array(["x", "y"], dtype=object), "title": pd.Series(["a", "b"]).array}
        made, expected = frame_of(columns, Table), Table(columns)
        for name in columns:
            pd.testing.assert_series_equal(made[name], expected[name])


def test_frames_share_neither_names_nor_numbers():
    numbers = np.array([1, 2])
    first, second = (frame_of({"a": numbers.copy(), "b": np.array([0.5, 1.5])}) for _ in range(2))
    first.columns.name, first.index.name = "changed", "changed"
    first.loc[0, "a"] = 7
    assert frame_of({"a": numbers, "b": numbers}).columns.name is second.columns.name is second.index.name is None
    assert second["a"].tolist() == [1, 2]


def test_titles_are_text_in_an_empty_table_too():
    ml = synthetic(30, 20, 300, seed=0)
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0), n_factors=2)
    item, text = ml.ratings["item"][0], pd.Series(["a"]).dtype
    for made in (learn.recommend(ml.ratings["user"][0], among=[item], without=[item]), learn.recommend([]),
                 learn.index().recommend([])):
        assert len(made) == 0 and made["title"].dtype == text
