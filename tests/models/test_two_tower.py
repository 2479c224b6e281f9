"""TwoTower: what its encoders do, cold items, and serving from its tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from collab import (
    CollabDataBunch,
    CollabWarning,
    InBatchSoftmax,
    Index,
    TwoTower,
    Unsupported,
    collab_learner,
    load_learner,
    per_user_split,
    synthetic,
)


@pytest.fixture(scope="module")
def data() -> CollabDataBunch:
    ml = synthetic(80, 50, 1500, seed=0)
    kinds = pd.DataFrame({"item": [*ml.items.iloc[:, 0], 999], "kind": [["x", "y", "z"][k % 3] for k in range(51)]})
    return CollabDataBunch.from_df(ml.ratings, implicit=True, items=kinds, item_features="auto", seed=0, device="cpu",
                                   split=per_user_split(0.25, 0), bs=256)


def known(data: CollabDataBunch) -> tuple[Tensor, Tensor, int]:
    return data.item_features.codes, data.item_features.weights, len(data.item_features.labels)


@pytest.mark.parametrize("hidden", [(), (12,), (12, 10)])
@pytest.mark.parametrize("normalise", [False, True])
def test_pairs_tables_and_cross_agree(data: CollabDataBunch, hidden: tuple[int, ...], normalise: bool):
    model = TwoTower(6, data.n_users, data.n_items, None, known(data), hidden, normalise)
    users, items = torch.arange(data.n_users), torch.arange(data.n_items)
    cross = model.cross(users, items)
    q, c = model.factors("user"), model.factors("item")
    assert q.shape == (data.n_users, 6) and c.shape == (data.n_items, 6)
    torch.testing.assert_close(q @ c.T, cross)
    torch.testing.assert_close(model(users[:9], items[3:12]), cross[:9, 3:12].diagonal())
    if normalise:
        torch.testing.assert_close(c.norm(dim=1), torch.ones(data.n_items))
    with pytest.raises(Unsupported, match="TwoTower learns no biases of items"):
        model.biases("item")


def test_the_encoder_is_the_sum_of_id_and_metadata(data: CollabDataBunch):
    model = TwoTower(6, data.n_users, data.n_items, None, known(data))
    codes, weights, _ = known(data)
    tower = model.candidate
    by_hand = tower.ids.weight[7] + sum(w * tower.meta.table.weight[c] for c, w in zip(codes[7], weights[7]))
    torch.testing.assert_close(tower(torch.tensor([7]))[0], by_hand)


def test_it_trains_serves_from_its_tables_and_comes_back_from_a_file(data: CollabDataBunch, tmp_path: Path):
    torch.manual_seed(0)
    model = TwoTower(8, data.n_users, data.n_items, None, known(data), hidden=(16,), normalise=True)
    learn = collab_learner(data, model, loss_func=InBatchSoftmax(0.1), opt_func=torch.optim.Adagrad, lr=0.1)
    with learn.no_logging():
        learn.fit(5)
    rows = learn.recorder.rows
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    with pytest.warns(CollabWarning, match="does not hold opt_func Adagrad"):
        loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    users = list(data.users)
    found = learn.recommend(users, n=10)
    pd.testing.assert_frame_equal(found, loaded.recommend(users, n=10))
    scores = learn.weight(is_item=False) @ learn.weight().T          # known users and items: rows from 1 on
    scores[data.known.users - 1, data.known.items - 1] = -torch.inf
    for user, table in found.groupby("user", sort=False):
        own = scores[data.users[user] - 1]          # some differ by rounding alone
        torch.testing.assert_close(own[data.items.encode(table["item"].tolist()) - 1], own.topk(10).values)
    everything = learn.recommend(users, n=10, exclude=None)
    merged = everything.merge(found[["user", "item"]], how="left", indicator=True)
    dropped = merged[merged["_merge"] == "left_only"]
    seen = set(zip(data.known.users.tolist(), data.known.items.tolist()))
    pairs = zip(dropped["user"], dropped["item"])
    assert len(dropped) and all((data.users[u], data.items[i]) in seen for u, i in pairs)


def test_a_cold_item_has_the_average_id_and_its_own_metadata(data: CollabDataBunch):
    learn = collab_learner(data, "two_tower", n_factors=8, lr=0.03)
    with learn.no_logging():
        learn.fit_one_cycle(2)
    tower, cold = learn.model.candidate, data.items[999]
    trained = data.trained["item"]
    torch.testing.assert_close(tower.ids.weight[cold], tower.ids.weight[trained].mean(0))
    assert not torch.equal(learn.weight(999), learn.model.candidate(torch.tensor([0]))[0])
    assert 999 in learn.recommend(1, n=60)["item"].tolist()


def test_unknown_users_get_the_average(data: CollabDataBunch):
    learn = collab_learner(data, "two_tower", n_factors=8)
    with pytest.warns(UserWarning, match="average user"):
        assert len(learn.recommend(123456, n=3)) == 3


def test_the_index_ranks_as_the_plain_product_does_and_again_after_a_file(data: CollabDataBunch, tmp_path: Path):
    model = TwoTower(8, data.n_users, data.n_items, None, known(data))
    learn = collab_learner(data, model, opt_func=torch.optim.Adagrad, lr=0.1, metrics=[])
    with learn.no_logging():
        learn.fit(2)
    index = learn.index()
    index.save(tmp_path / "index")
    again = Index.load(tmp_path / "index")
    scores = learn.model.factors("user") @ learn.model.factors("item")[1:].T
    for user in data.users:
        ranked = data.items.decode(scores[data.users[user]].argsort(descending=True, stable=True).numpy() + 1).tolist()
        assert index.recommend(user, n=10)["item"].tolist() == ranked[:10]
        pd.testing.assert_frame_equal(index.recommend(user, n=10), again.recommend(user, n=10))
        seen = set(learn.rated(user)["item"])
        assert learn.recommend(user, n=10)["item"].tolist() == [item for item in ranked if item not in seen][:10]


def test_layers_are_relu_and_linear_by_hand(data: CollabDataBunch):
    model = TwoTower(6, data.n_users, data.n_items, hidden=(12, 10))
    tower, rows = model.query, torch.arange(5)
    first, second = (layer for layer in tower.layers if isinstance(layer, torch.nn.Linear))
    inner = tower.ids.weight[:5].clamp(min=0) @ first.weight.T + first.bias
    by_hand = inner.clamp(min=0) @ second.weight.T + second.bias
    torch.testing.assert_close(tower(rows), by_hand)
    assert (tower.ids.weight[:5] < 0).any() and (inner < 0).any()


def test_on_movielens_the_index_is_the_plain_product_and_again_after_a_file(ml100k, tmp_path: Path):
    """rating > 3, 64 dimensions, Adagrad, batches of 4,096."""
    data = CollabDataBunch.from_df(ml100k.ratings, implicit=True, threshold=3, items=ml100k.items, users=ml100k.users,
                                   item_features="auto", user_features="auto", split=per_user_split(0.25), bs=4096,
                                   seed=0, device="cpu")
    assert (data.train.tensors[2] > 3).all()
    learn = collab_learner(data, "two_tower", n_factors=64, opt_func=torch.optim.Adagrad, lr=0.1, metrics=[])
    with learn.no_logging():
        learn.fit(1)
    learn.index().save(tmp_path / "index")
    index, again = learn.index(), Index.load(tmp_path / "index")
    scores = learn.model.factors("user") @ learn.model.factors("item")[1:].T
    users = list(data.users)[::20]
    order = scores[data.users.encode(users)].argsort(dim=1, descending=True, stable=True) + 1
    for user, best in zip(users, order):
        ranked = data.items.decode(best.numpy()).tolist()
        assert index.recommend(user)["item"].tolist() == again.recommend(user)["item"].tolist() == ranked[:10]
        seen = set(learn.rated(user)["item"])
        assert learn.recommend(user)["item"].tolist() == [item for item in ranked if item not in seen][:10]
        assert index.recommend(user, exclude=seen)["item"].tolist() == learn.recommend(user)["item"].tolist()
