"""One list put together from the parts of pandas: the DataFrame that its constructor makes, whatever the ids."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from collab import CollabDataBunch, CollabLearner, Vocab, collab_learner, synthetic
from collab.compiled import not_compiled
from collab.data import frames, list_frames
from collab.data.catalogue import Catalogue
from collab.data.frames import COPIES, Table, frame_of
from collab.data.list_frames import ListFrames
from collab.data.texts import MOST_BYTES
from collab.retrieval import compiled_one

kernels = pytest.mark.skipif(not_compiled() is not None, reason=str(not_compiled()))
fits = pytest.mark.skipif(not list_frames.fits(), reason="pandas is of other parts here")
TITLES = ["", "e\u0301t\u00e9", "", "\U0001f600 \u6771\u4eac", "M*A*S*H (1970)"]
IDS = {
    "int64": np.array([5, 7, 9, 1 << 40]), "int32": np.array([5, 7, 9, 11], np.int32),
    "uint8": np.array([5, 7, 9, 250], np.uint8), "text": ["a", "\u00e9", "tt0068646", "x" * 300],
}


def learner(text: bool = False) -> CollabLearner:
    ml = synthetic(60, 400, 4000, seed=1)
    ratings, items = ml.ratings, ml.items
    if text:
        ratings, items = (table.assign(item="i" + table["item"].astype(str)) for table in (ratings, items))
    learn = collab_learner(CollabDataBunch.from_df(ratings, items=items, seed=0, device="cpu"), "dot_bias", 4)
    learn.model.eval()
    return learn


def written(own: ListFrames, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel writes for these rows, by hand: numbers and text."""
    ids, begins, text = own.arrays
    texts = [bytes(text[begins[row]:begins[row + 1]]) for row in rows]
    ends = np.cumsum([0, *map(len, texts)])
    numbers = np.array([range(1, len(rows) + 1), [ids[row] for row in rows]], np.int64)
    return numbers, np.frombuffer(ends.tobytes() + b"".join(texts), np.uint8)


@pytest.fixture(params=["auto", "python"])
def storage(request):
    """How pandas keeps text; "python" is what it does where there is no pyarrow."""
    frames._names.cache_clear()
    with pd.option_context("mode.string_storage", request.param):
        yield request.param
    frames._names.cache_clear()


@fits
@pytest.mark.parametrize("titled", [True, False])
@pytest.mark.parametrize("kind", IDS)
@pytest.mark.usefixtures("storage")
def test_a_list_is_the_frame_of_its_columns(kind, titled):
    vocab = Vocab(IDS[kind], "item")
    catalogue = Catalogue(vocab, TITLES[1:] if titled else None)
    own, scores = catalogue.list_frames, np.array([.5, .25, -1], np.float32)
    for rows in ([4, 1, 3], [2, 2, 1]):
        numbers, text = written(own, rows)
        made = own.frame(numbers, scores[None].copy(), text, len(text), Table)
        expected = frame_of(catalogue.columns(np.array(rows), scores), Table)
        assert type(made) is Table
        pd.testing.assert_frame_equal(made, expected, check_column_type="exact", check_index_type="exact",
                                      check_exact=True)
        assert [type(column.array) for _, column in made.items()] == [
            type(column.array) for _, column in expected.items()]
        made.insert(0, "user", 5)
        pd.testing.assert_frame_equal(made.sort_values("rank", ascending=False).assign(rank=2.5),
                                      expected.assign(user=5)[list(made)].iloc[::-1].assign(rank=2.5))


def test_other_ids_and_names_are_left_to_pandas():
    for ids in ([0.5, 1.5], [datetime.date(2000, 1, 1)], [(1, 2)]):
        assert Catalogue(Vocab(ids, "item"), None).list_frames is None
    for name in ("rank", "title", "score"):
        assert Catalogue(Vocab([1, 2], name), ["a", "b"]).list_frames is None


@fits
@kernels
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.usefixtures("storage")
def test_the_list_of_a_learner_and_of_an_index_is_made_so(text, monkeypatch):
    monkeypatch.setattr(compiled_one, "PATIENCE", 0)
    frame, made = ListFrames.frame, []
    monkeypatch.setattr(ListFrames, "frame", lambda *args: made.append(args) or frame(*args))
    learn = learner(text)
    user = learn.data.users.ids[1]
    for ask in (learn.recommend, learn.index().recommend):
        found = ask(user)
        assert len(made) == 1, ask
        with monkeypatch.context() as patch:
            patch.setattr(compiled_one.BestOfOne, "compiles", lambda *_, **__: False)
            expected = ask(user)
        assert len(made) == 1
        pd.testing.assert_frame_equal(found, type(found)(expected), check_exact=True)
        made.clear()


@kernels
def test_text_ids_without_room_are_whole(monkeypatch):
    monkeypatch.setattr(compiled_one, "PATIENCE", 0)
    ml = synthetic(60, 400, 4000, seed=1)
    ratings = ml.ratings.assign(item=ml.ratings["item"].map(lambda k: f"{k:05}" + "x" * (MOST_BYTES * (k % 7 == 0))))
    learn = collab_learner(CollabDataBunch.from_df(ratings, seed=0, device="cpu"), "dot_bias", 4)
    learn.model.eval()
    for user in [*learn.data.users][:3]:
        found = learn.recommend(user)
        assert found["item"].tolist() == learn.recommend(user, as_frame="dict")["item"]
        assert found["item"].dtype == pd.Series(["a"]).dtype


@fits
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")
def test_text_that_pandas_keeps_as_objects_is_left_to_it():
    with pd.option_context("future.infer_string", False):
        assert Catalogue(Vocab([1, 2], "item"), ["a", "b"]).list_frames is None
        assert Catalogue(Vocab([1, 2], "item"), None).list_frames is not None


@fits
def test_lists_take_a_title_of_every_item():
    assert Catalogue(Vocab([1, 2], "item"), ["a"]).list_frames is None


@kernels
@pytest.mark.parametrize("longest", [10, MOST_BYTES // 10, MOST_BYTES])
def test_lists_with_long_titles_are_whole(longest, monkeypatch):
    monkeypatch.setattr(compiled_one, "PATIENCE", 0)
    ml = synthetic(60, 400, 4000, seed=1)
    items = ml.items.assign(title=[f"{k:05}" + "\u00e9" * ((longest - 5) // 2 * (k % 3 == 0)) for k in range(400)])
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=items, seed=0, device="cpu"), "dot_bias", 4)
    learn.model.eval()
    for user in [*learn.data.users][:5]:
        table = learn.recommend(user, 12)
        assert table["title"].tolist() == items.set_index("item")["title"][table["item"]].tolist()
        assert table["rank"].tolist() == [*range(1, 13)]


def test_lists_do_not_depend_on_what_is_not_public_in_pandas(monkeypatch):
    learn = learner()
    user = learn.data.users.ids[1]
    expected = learn.recommend(user)
    try:
        for part in ("NumpyBlock", "ExtensionBlock", "BlockManager", "BlockPlacement", "RangeIndex"):
            for other in (lambda *_, **__: 1 / 0, lambda *_, **__: None):
                with monkeypatch.context() as patch:
                    patch.setattr(list_frames, part, other)
                    list_frames.fits.cache_clear()
                    assert not list_frames.fits()
                    vars(learn.data.catalogue).pop("list_frames", None)
                    pd.testing.assert_frame_equal(learn.recommend(user), expected, check_index_type="exact")
    finally:
        list_frames.fits.cache_clear()
    assert list_frames.fits() is not COPIES
