"""as_frame: the same table as pandas, polars, pyarrow or lists."""

from __future__ import annotations

import pandas as pd
import pytest

from collab import CollabDataBunch, CollabLearner, DataError, collab_learner, synthetic
from collab.data.frame_kinds import framed


@pytest.fixture(scope="module")
def learn() -> CollabLearner:
    ml = synthetic(30, 20, 300, seed=1)
    return collab_learner(CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, device="cpu"), "dot", n_factors=3)


@pytest.mark.parametrize("call", [
    lambda learn, **kind: learn.recommend(7, 5, **kind), lambda learn, **kind: learn.recommend([7, 8], 5, **kind),
    lambda learn, **kind: learn.recommend(ratings={3: 5.0, 4: 2.0}, n=5, why=True, **kind),
    lambda learn, **kind: next(learn.recommend_all(3, **kind)),
    lambda learn, **kind: learn.similar_items(3, 4, 0, **kind),
    lambda learn, **kind: learn.similar_users(7, 4, 0, **kind), lambda learn, **kind: learn.rated(7, **kind)])
def test_every_kind_holds_the_same_columns_and_values(learn, call):
    pa, pl = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    table = call(learn)
    expected = {name: [None if value is None or value != value else value for value in column.tolist()]
                for name, column in table.items()}
    assert isinstance(table, pd.DataFrame) and len(table)
    pd.testing.assert_frame_equal(call(learn, as_frame="pandas"), table, check_exact=True)
    polars, arrow, lists = (call(learn, as_frame=kind) for kind in ("polars", "pyarrow", "dict"))
    assert isinstance(polars, pl.DataFrame) and isinstance(arrow, pa.Table) and isinstance(lists, dict)
    assert polars.to_dict(as_series=False) == arrow.to_pydict() == lists == expected
    assert "score" not in table or str(polars["score"].dtype) == "Float32"


def test_other_kinds_and_ids_that_they_cannot_hold_are_named(learn):
    for wrong, says in (("polar", "not one of pandas, polars, pyarrow, dict; did you mean"), (None, "not one of")):
        with pytest.raises(DataError, match=says):
            learn.recommend_all(3, as_frame=wrong)
    mixed = pd.DataFrame({"item": pd.Series([(1, 2), "a"], dtype=object)})
    with pytest.raises(DataError, match="cannot hold these ids in one column"):
        framed(mixed, "pyarrow")
    assert framed(mixed, "dict") == {"item": [(1, 2), "a"]}


def test_an_index_gives_every_kind_too(learn):
    pytest.importorskip("polars")
    index, out = learn.index(), learn.data.items.ids[3]
    for asked in ({"user": 7}, {"user": [7, 8]}, {"ratings": {3: 5.0, 4: 2.0}, "why": True}):
        table = index.recommend(n=6, exclude=[out], **asked)
        lists, polars = (index.recommend(n=6, exclude=[out], as_frame=kind, **asked) for kind in ("dict", "polars"))
        assert lists == {name: [None if value is None else value for value in column.tolist()]
                         for name, column in table.items()} == polars.to_dict(as_series=False)
    with pytest.raises(DataError, match="holds no users"):
        learn.index(users=False).recommend(7, as_frame="dict")
    with pytest.raises(DataError, match="as_frame='list' is not one of"):
        index.recommend(7, as_frame="list")
