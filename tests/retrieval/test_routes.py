"""One score on every route: a user alone, among others, in blocks of another size, by an index. Ties are by id."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import collab.retrieval.topk
from collab import CollabDataBunch, CollabInterpretation, collab_learner, synthetic
from collab.numerics import products

ALIKE = list(range(901, 914))           # items that the same people rated alike, with weights that are the same
RATED = ["dot", "dot_bias", "net", "classifier", "svdpp", "hybrid", "als_explicit"]
RANKED = ["als", "ease", "infinite_ae", "bpr", "softmax", "two_tower"]
ROUNDING = 1e-5                         # of the scale of scores


def data(implicit: bool) -> CollabDataBunch:
    ratings = synthetic(n_users=70, n_items=87, n_ratings=2500, seed=3).ratings[["user", "item", "rating"]]
    liked = ratings[ratings["item"] == ratings.groupby("item")["rating"].mean().idxmax()]
    ratings = pd.concat([ratings, *(liked.assign(item=item) for item in ALIKE)], ignore_index=True)
    items = pd.DataFrame({"item": ratings["item"].unique()})
    items["genre"] = np.where(items["item"].isin(ALIKE), "alike", items["item"].astype(str).str[-1])
    return CollabDataBunch.from_df(ratings, valid_pct=0, items=items, item_features=["genre"], implicit=implicit,
                                   bs=256, seed=0, device="cpu")


@pytest.fixture(scope="module")
def bunches():
    return {implicit: data(implicit) for implicit in (False, True)}


@pytest.fixture(scope="module", params=[*RATED, *RANKED])
def learn(request, bunches):
    name = request.param
    made = collab_learner(bunches[name in RANKED], name, **({} if name in ("ease", "infinite_ae") else
                                                            {"n_factors": 13}))
    with made.no_logging():
        made.fit(1)
    alike = torch.from_numpy(made.data.items.encode(ALIKE))
    with torch.no_grad():
        tables = [m.weight for m in made.model.modules()
                  if isinstance(m, torch.nn.Embedding) and m.num_embeddings == made.data.n_items]
        for table in [made.model.weight] if name == "ease" else tables:
            table[alike] = table[alike[:1]].clone()
    return made


def lists(learn, **options):
    """Every user's whole list, asked alone: one table under another."""
    return pd.concat([learn.recommend(user, n=200, **options).assign(user=user) for user in learn.data.users],
                     ignore_index=True)


def test_a_user_gets_one_list_alone_among_others_and_in_other_blocks(learn, monkeypatch):
    alone = lists(learn, exclude=None)
    together = learn.recommend(list(learn.data.users), n=200, exclude=None)
    with monkeypatch.context() as patch:
        patch.setattr(collab.retrieval.topk, "MAX_SCORES", 7 * 31)       # blocks of 31 items for 7 users at most
        in_blocks = learn.recommend(list(learn.data.users), n=200, exclude=None)
    scale = together["score"].abs().max()
    for other in (alone, in_blocks):
        pd.testing.assert_series_equal(other["score"], together["score"], rtol=0, atol=ROUNDING * scale)
        assert_same_order(other, together, ROUNDING * scale)


def assert_same_order(left: pd.DataFrame, right: pd.DataFrame, rounding: float) -> None:
    """Two sets of lists hold the same items, in the same order but for those whose scores differ by less."""
    moved = left["item"].to_numpy() != right["item"].to_numpy()
    scores = right.set_index(["user", "item"])["score"]
    for row in np.flatnonzero(moved):
        user = right["user"].iloc[row]
        assert abs(scores[user, left["item"].iloc[row]] - scores[user, right["item"].iloc[row]]) <= rounding


def test_items_that_are_the_same_come_in_the_order_of_their_ids(learn):
    for table in (lists(learn, exclude=None),
                  learn.recommend(list(learn.data.users), n=200, exclude=None)):
        alike = table[table["item"].isin(ALIKE)]
        assert len(alike) == len(ALIKE) * (learn.data.n_users - 1)
        assert (alike.groupby("user")["item"].agg(list).map(lambda ids: ids == ALIKE)).all()
        assert (alike.groupby("user")["score"].nunique() == 1).all()


def test_an_index_gives_the_learners_lists(learn, tmp_path):
    if learn.model.__class__.__name__ in ("EmbeddingNet", "RatingClassifier", "EASE", "InfiniteAE"):
        with pytest.raises(ValueError, match="has no index"):
            learn.index()
        return
    index, users = learn.index(), list(learn.data.users)
    alone = lists(learn, exclude=None)
    found = pd.concat([index.recommend(user, n=200).assign(user=user) for user in users], ignore_index=True)
    scale = alone["score"].abs().max()
    pd.testing.assert_series_equal(found["score"], alone["score"], rtol=0, atol=ROUNDING * scale)
    assert_same_order(found, alone, ROUNDING * scale)
    assert found[found["item"].isin(ALIKE)].groupby("user")["item"].agg(list).map(lambda ids: ids == ALIKE).all()
    again = type(index).load(index.save(tmp_path / "index"))
    for user in users[:20]:         # the same call over the same numbers: to the bit
        pd.testing.assert_frame_equal(again.recommend(user, n=200), index.recommend(user, n=200), check_exact=True)


def test_somebody_new_gets_items_that_are_the_same_in_the_order_of_their_ids(learn):
    if learn.model.__class__.__name__ in ("EmbeddingNet", "RatingClassifier"):
        with pytest.raises(ValueError, match="cannot score new users"):
            learn.recommend(ratings={1: 4, 2: 5, 3: 3})
        return
    listed = learn.recommend(ratings={1: 4, 2: 5, 3: 3}, n=200)
    alike = listed[listed["item"].isin(ALIKE)]
    assert alike["item"].tolist() == ALIKE and alike["score"].nunique() == 1


def test_products_are_those_of_float64_in_blocks_of_any_size(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    left, right = torch.randn(5, 23, generator=draw), torch.randn(57, 23, generator=draw)
    rows = torch.randperm(57, generator=draw)[:31]
    expected = left.double().numpy() @ right.double().numpy().T
    with torch.no_grad():
        for most in (1 << 22, 100):
            monkeypatch.setattr("collab.numerics.MAX_NUMBERS", most)
            np.testing.assert_allclose(products(left, right).numpy(), expected, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(products(left, right, rows).numpy(), expected[:, rows], rtol=1e-12, atol=1e-12)
        assert products(left[:0], right).shape == (0, 57) and products(left, right[:0]).shape == (5, 0)
    left.requires_grad_()
    trained = products(left, right, rows)
    assert trained.dtype == torch.float32 and trained.requires_grad
    torch.testing.assert_close(trained.detach(), torch.from_numpy(expected).float()[:, rows], rtol=1e-4, atol=1e-5)


def test_neighbours_that_are_the_same_come_in_the_order_of_their_ids(learn):
    if learn.model.__class__.__name__ in ("EASE", "InfiniteAE", "SoftmaxNet"):
        return                          # they have no factors of items, or others than those that score
    found = learn.similar_items(1, n=200, min_ratings=0)
    alike = found[found["item"].isin(ALIKE)]
    assert alike["item"].tolist() == ALIKE and alike["score"].nunique() == 1
    if learn.model.__class__.__name__ != "TwoTower":
        for measure in ("cosine", "dot", 0.5):
            near = CollabInterpretation(learn).neighbors(1, k=200, measure=measure, min_ratings=0)
            assert near[near["id"].isin(ALIKE)]["id"].tolist() == ALIKE
