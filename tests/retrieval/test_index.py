"""Index: the model's order from vectors alone, in a file that holds no ratings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from collab import (
    CollabDataBunch,
    CollabLearner,
    DataError,
    Index,
    UnknownId,
    Vocab,
    collab_learner,
    load_learner,
    synthetic,
)
from collab.files import read_tensors


def fitted(name: str) -> CollabLearner:
    ml = synthetic(60, 40, 900, seed=1)
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, device="cpu"), name, n_factors=4)
    with learn.no_logging():
        learn.fit() if name.startswith("als") else learn.fit_one_cycle(4)
    return learn


@pytest.mark.parametrize("name", ["dot", "dot_bias", "svdpp", "als", "als_explicit"])
def test_the_order_is_the_models_and_the_same_after_saving_and_loading(name: str, tmp_path):
    learn = fitted(name)
    index = learn.index()
    again = Index.load(index.save(tmp_path / "index"))
    for user in learn.data.users:
        seen = learn.rated(user)["item"]
        found, expected = index.recommend(user, 10, exclude=seen), learn.recommend(user)
        assert found["item"].tolist() == expected["item"].tolist() and [*found] == [*expected]
        np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-4, atol=1e-5)
        pd.testing.assert_frame_equal(again.recommend(user, 10, exclude=seen), found, check_exact=True)


def test_a_search_is_a_sort_with_ties_by_id():
    draw = np.random.default_rng(0)
    vectors, queries = draw.integers(-3, 4, (51, 3)).astype(np.float32), draw.integers(-3, 4, (7, 3)).astype(np.float32)
    vectors[0] = 99                                                     # the unknown item is never found
    ids = [f"i{k:02}" for k in range(50)]
    index = Index(torch.from_numpy(vectors), Vocab(ids, "item"))
    exclude = [draw.choice(ids, 5, replace=False).tolist() for _ in queries]
    for k in (1, 10, 60):
        found = index.search(queries, k, exclude)
        for q, query in enumerate(queries):
            order = np.argsort(-(vectors[1:] @ query), kind="stable")
            expected = [ids[i] for i in order if ids[i] not in exclude[q]][:k]
            mine = found[found["query"] == q]
            assert mine["item"].tolist() == expected and mine["rank"].tolist() == [*range(1, len(expected) + 1)]
            assert mine["score"].tolist() == [vectors[ids.index(i) + 1] @ query for i in expected]
    assert index.search(queries[0], 2)["query"].tolist() == [0, 0]
    assert index.search(queries[:0], 2).empty and len(index) == 50


def test_the_file_holds_vectors_and_ids_and_no_rating(tmp_path):
    learn = fitted("dot_bias")
    tensors, config = read_tensors(learn.index().save(tmp_path / "index"), kind="index")
    assert {n: tuple(t.shape) for n, t in tensors.items()} == {"items": (41, 6), "users": (61, 6), "average": (5,),
                                                               "prior.axes": (5, 5), "prior.least": (5,)}
    assert {*config} == {"items", "titles", "users", "y_range", "scale", "method", "fold_in", "known_of_items",
                         "step"}
    assert {*config["fold_in"]} == {"ridge", "ranked", "implicit", "threshold", "columns"}
    assert {*config["known_of_items"]} == {"table", "n_factors"}
    alone = Index.load(learn.index(users=False).save(tmp_path / "items"))
    assert {*read_tensors(tmp_path / "items", kind="index")[0]} == {"items", "average", "prior.axes", "prior.least"}
    assert alone.users is None and alone.user_ids is None
    with pytest.raises(DataError, match="holds no users"):
        alone.recommend(7)
    with pytest.raises(ValueError, match=r"is an index; read it with Index\.load"):
        load_learner(tmp_path / "index")
    with pytest.raises(ValueError, match=r"is a model that was exported; read it with load_learner\(path\)"):
        Index.load(learn.export(tmp_path / "model"))


def test_an_unknown_user_is_the_average_one_or_an_error():
    learn = fitted("dot_bias")
    with pytest.warns(UserWarning, match=r"1 of 1 user ids were not trained on \(such as 9999\)"):
        found = learn.index().recommend(9999, 3)
    with pytest.warns(UserWarning, match="not trained on"):
        assert found["item"].tolist() == learn.recommend(9999, 3)["item"].tolist()
    with pytest.raises(UnknownId):
        learn.index().recommend(9999, unknown="error")


def test_what_cannot_be_searched_is_named():
    index = fitted("dot").index()
    for vectors, says in ((torch.zeros(2, 9), r"shape \(m, 4\), got \(2, 9\)"), (torch.full((1, 4), np.nan), "finite")):
        with pytest.raises(ValueError, match=says):
            index.search(vectors)
    with pytest.raises(ValueError, match="a list for each of 1 queries, got 2"):
        index.search(torch.zeros(4), exclude=[[1], [2]])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        index.search(torch.zeros(4), 0)
    with pytest.raises(DataError, match="method='annoy' is not one of exact, usearch"):
        fitted("dot").index(method="annoy")
    with pytest.raises(DataError, match="EmbeddingNet has no index"):
        fitted("net").index()


def test_the_approximate_search_finds_nearly_all_of_the_best_and_scores_them_exactly():
    pytest.importorskip("usearch")
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(5001, 16, generator=draw) * (0.2 + torch.rand(5001, 1, generator=draw))   # of many lengths
    queries = torch.randn(50, 16, generator=draw)
    ids = Vocab(range(5000), "item")
    exact, near = Index(vectors, ids), Index(vectors, ids, method="usearch")
    exclude = [[0, 1, 2]] * 50
    one, other = exact.search(queries, 10, exclude), near.search(queries, 10, exclude)
    both = one.merge(other, on=["query", "item"])
    assert len(both) > 0.98 * len(one)
    np.testing.assert_allclose(both["score_x"], both["score_y"], rtol=1e-5)
    assert not {0, 1, 2} & {*other["item"]}


class Graph:
    """What is used of usearch's Index, by comparing all."""

    def __init__(self, **_: object):
        self.made = True

    def add(self, keys: np.ndarray, vectors: np.ndarray, threads: int) -> None:
        self.keys, self.vectors = keys, vectors

    def search(self, query: np.ndarray, k: int) -> SimpleNamespace:
        return SimpleNamespace(keys=self.keys[np.argsort(-(self.vectors @ query))[:k]])


def test_the_method_is_that_of_the_file_unless_another_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path):
    modules, learn = __import__("sys").modules, fitted("dot_bias")
    monkeypatch.setitem(modules, "usearch.index", SimpleNamespace(Index=Graph))
    exact, near = learn.index(), learn.index(method="usearch")
    files = exact.save(tmp_path / "exact"), near.save(tmp_path / "near")
    assert [Index.load(file).method for file in files] == ["exact", "usearch"]
    assert [Index.load(file, "exact").method for file in files] == ["exact", "exact"]
    assert Index.load(files[0], method="usearch").method == "usearch"
    for index in (near, Index.load(files[1])):
        pd.testing.assert_frame_equal(index.recommend(7, 5), exact.recommend(7, 5))
    with pytest.raises(DataError, match="is not one of exact, usearch"):
        Index.load(files[0], "annoy")
    monkeypatch.setitem(modules, "usearch.index", None)
    with pytest.raises(ImportError, match="pip install usearch, or .*'exact'"):
        Index.load(files[1])


def test_without_its_package_the_approximate_search_names_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "usearch.index", None)
    with pytest.raises(ImportError, match="pip install usearch"):
        fitted("dot").index(method="usearch")
