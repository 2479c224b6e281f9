"""CollabLearner: learns what was planted, answers in raw ids, repeats to the bit, and changes nothing by looking."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor, nn

from collab.data.databunch import CollabDataBunch
from collab.data.vocab import UnknownId
from collab.datasets.rating_set import RatingSet
from collab.datasets.synthetic import synthetic
from collab.errors import DataError
from collab.learner.collab_learner import CollabLearner
from collab.learner.factory import collab_learner, load_learner
from collab.losses import mae
from collab.metrics import RMSE
from collab.models.base import CollabModel
from collab.models.baseline import BiasBaseline
from collab.models.embedding import EmbeddingDot, EmbeddingDotBias
from collab.models.net import EmbeddingNet
from collab.retrieval import topk as recommend_module
from collab.train.callback import Callback

MODELS = ("dot", "dot_bias", "net")


@pytest.fixture(scope="module")
def planted() -> RatingSet:
    return synthetic(n_users=200, n_items=120, n_ratings=9_000, seed=0)


def bunch(ml: RatingSet, bs: int = 256, **options: Any) -> CollabDataBunch:
    return CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, bs=bs, device="cpu", **options)


@pytest.fixture(scope="module")
def trained(planted: RatingSet) -> CollabLearner:
    """Shared by tests that only look at it."""
    learn = collab_learner(bunch(planted), n_factors=8)
    learn.fit_one_cycle(10)
    return learn


def small() -> CollabDataBunch:
    return bunch(synthetic(40, 30, 500, seed=1), bs=64)


def quick(model: str | nn.Module = "dot_bias", n_epochs: int = 2, data: CollabDataBunch | None = None,
          **options: Any) -> CollabLearner:
    learn = collab_learner(small() if data is None else data, model, n_factors=5, **options)
    with learn.no_logging():
        learn.fit(n_epochs)
    return learn


class OwnModel(nn.Module):
    """What a researcher brings: embeddings of other names, no `cross`, no `config`."""

    def __init__(self, n_users: int, n_items: int):
        super().__init__()
        self.who, self.what, self.tilt = nn.Embedding(n_users, 3), nn.Embedding(n_items, 3), nn.Embedding(n_items, 1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return 3 + (self.who(users) * self.what(items)).sum(1) + self.tilt(items)[:, 0]


class NoEmbeddings(nn.Module):
    """Scores from the row numbers alone, through a dropout and a batch norm, whose modes matter."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.3), nn.Linear(2, 1))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.layers(torch.stack([users, items], 1).float()).squeeze(1)


# Learning what was planted ----------------------------------------------------------------------------------------

def test_training_beats_the_biases_and_finds_the_planted_ones(trained: CollabLearner, planted: RatingSet):
    users, items, ratings = trained.data.valid.tensors
    baseline = BiasBaseline(trained.data.n_users, trained.data.n_items).fit(*trained.data.train.tensors)
    error = (baseline(users, items).clamp(1, 5) - ratings).square().mean().sqrt().item()
    assert trained.validate()["rmse"] < 0.92 * error
    ids = sorted(planted.items["item"])
    assert np.corrcoef(trained.bias(ids), planted.truth.i_bias)[0, 1] > 0.93


def test_validate_is_the_error_of_get_preds(trained: CollabLearner):
    preds, targets = trained.get_preds()
    assert trained.validate()["rmse"] == pytest.approx((preds - targets).square().mean().sqrt().item(), rel=1e-6)
    assert trained.validate()["mae"] == pytest.approx((preds - targets).abs().mean().item(), rel=1e-6)
    assert preds.min() >= 1 and preds.max() <= 5
    assert torch.equal(targets, trained.data.valid.tensors[2])


def test_fewer_rows_than_a_batch_train():
    learn = quick(data=bunch(synthetic(60, 40, 900, seed=0), bs=1024), n_epochs=3)
    assert len(learn.recorder.losses) == 3 and np.isfinite(learn.recorder.losses).all()
    assert learn.recorder.losses[-1] < learn.recorder.losses[0]


def test_without_a_validation_part_fit_works_and_validate_says_what_to_do():
    learn = quick(data=bunch(synthetic(40, 30, 500, seed=1), valid_pct=0))
    assert "valid_loss" not in learn.recorder.frame()
    for look in (learn.validate, learn.get_preds):
        with pytest.raises(ValueError, match="no validation part: .*valid_pct"):
            look()
    assert learn.validate(learn.data.train)["rmse"] > 0


# Predicting -------------------------------------------------------------------------------------------------------

def by_hand(learn: CollabLearner, user: Any, item: Any) -> float:
    u, i, model = learn.data.users[user], learn.data.items[item], learn.model
    x = (model.u_weight.weight[u].double() @ model.i_weight.weight[i].double() + model.u_bias.weight[u, 0]
         + model.i_bias.weight[i, 0] + model.mu).item()
    low, high = model.y_range
    return min(max(low + (high - low) / (1 + math.exp(-x)), learn.scale[0]), learn.scale[1])


def test_predict_is_the_formula_for_one_and_for_many(trained: CollabLearner):
    assert isinstance(trained.predict(7, 11), float)
    assert trained.predict(7, 11) == pytest.approx(by_hand(trained, 7, 11), abs=1e-5)
    users, items = [7, 8, 9], [11, 3, 5]
    each = [by_hand(trained, u, i) for u, i in zip(users, items)]
    for several in (list, np.array, pd.Series, pd.Index, pd.array):
        np.testing.assert_allclose(trained.predict(several(users), several(items)), each, atol=1e-5)
    np.testing.assert_allclose(trained.predict(7, items), [by_hand(trained, 7, i) for i in items], atol=1e-5)
    np.testing.assert_allclose(trained.predict(users, 11), [by_hand(trained, u, 11) for u in users], atol=1e-5)
    assert trained.predict(range(1, 4), [5]).shape == (3,) and trained.predict([7], 11).shape == (1,)
    assert trained.predict([], 11).shape == (0,)


def test_predict_pairs_as_many_or_one(trained: CollabLearner):
    with pytest.raises(ValueError, match="2 users and 3 items cannot be paired"):
        trained.predict([1, 2], [1, 2, 3])


def test_predict_scores_many_pairs_in_parts_with_the_same_result(trained: CollabLearner,
                                                                  monkeypatch: pytest.MonkeyPatch):
    whole = trained.predict(range(1, 100), 5)
    monkeypatch.setattr("collab.models.base.MAX_PAIRS", 7)
    np.testing.assert_allclose(trained.predict(range(1, 100), 5), whole, rtol=1e-5)


def test_predictions_are_clipped_to_the_scale_of_the_ratings():
    learn = quick("dot_bias", n_epochs=0)
    for bias, end in ((50.0, 5.0), (-50.0, 1.0)):
        nn.init.constant_(learn.model.u_bias.weight, bias)
        assert learn.predict(1, 1) == end and set(learn.recommend(1, n=5)["score"]) == {end}
        assert learn.get_preds()[0].unique().tolist() == [end]
    learn = quick(n_epochs=0, y_range=None, data=CollabDataBunch.from_df(pd.DataFrame({
        "u": np.arange(150) // 15, "i": np.arange(150) % 15, "r": np.linspace(0, 1, 150)}), seed=0, device="cpu"))
    nn.init.constant_(learn.model.u_bias.weight, 50.0)
    assert learn.scale is None and learn.predict(1, 1) > 40               # 150 levels are no scale


def test_an_unknown_user_gets_the_average_user_s_score_and_a_warning(trained: CollabLearner):
    model = trained.model
    for table in (model.u_weight, model.u_bias, model.i_weight, model.i_bias):
        torch.testing.assert_close(table.weight[0], table.weight[1:].mean(0), rtol=1e-5, atol=1e-7)
    item = trained.data.items[11]
    scores = (model.u_weight.weight[1:].double() @ model.i_weight.weight[item].double()
              + model.u_bias.weight[1:, 0] + model.i_bias.weight[item, 0] + model.mu)
    low, high = model.y_range
    with pytest.warns(UserWarning, match=r"1 of 1 user ids were not trained on \(such as 10000\)") as caught:
        score = trained.predict(10_000, 11)
    assert caught[0].filename == __file__                                 # the line that asked, not one of collab's
    assert score == pytest.approx(low + (high - low) * torch.sigmoid(scores.mean()).item(), abs=1e-5)
    with pytest.warns(UserWarning, match=r"1 of 3 user ids .* \(such as 10000\)"):
        several = trained.predict([3, 10_000, 4], 11)
    assert several[1] == pytest.approx(score, abs=1e-5) and several[0] == pytest.approx(trained.predict(3, 11))
    with pytest.warns(UserWarning, match="item ids"):
        assert 1 <= trained.predict(3, 10_000) <= 5
    with pytest.warns(UserWarning, match="average user") as caught:
        assert len(trained.recommend(10_000, n=4)) == 4
    assert caught[0].filename == __file__


def test_an_unknown_id_is_an_error_where_one_is_asked_for(trained: CollabLearner):
    for ask in (lambda: trained.predict(10_000, 11, unknown="error"), lambda: trained.bias(10_000),
                lambda: trained.predict([1, 2], [3, 10_000], unknown="error"), lambda: trained.similar_items(10_000),
                lambda: trained.recommend(10_000, unknown="error"), lambda: trained.recommend(1, among=[10_000]),
                lambda: trained.rated(10_000), lambda: trained.weight([1, 10_000])):
        with pytest.raises(UnknownId, match="10000"):
            ask()
    with pytest.raises(ValueError, match="unknown='skip' is neither 'average' nor 'error'"):
        trained.predict(1, 1, unknown="skip")


def test_an_id_of_another_kind_is_an_error_that_says_so(trained: CollabLearner):
    for ask in (lambda: trained.predict("7", 11), lambda: trained.predict(7, ["11"]), lambda: trained.recommend("7"),
                lambda: trained.similar_items("11"), lambda: trained.bias(["11"]), lambda: trained.predict(None, 11)):
        with pytest.raises(DataError):
            ask()
    with pytest.raises(DataError, match="'7' is of kind string"):
        trained.predict("7", 11)


# Recommending -----------------------------------------------------------------------------------------------------

def test_recommend_is_the_order_of_predict_without_what_was_rated(trained: CollabLearner):
    rated = set(trained.rated(7)["item"])
    table = trained.recommend(7, n=1000)
    assert list(table) == ["rank", "item", "title", "score"]
    assert set(table["item"]) == set(trained.data.items) - rated and len(table) == len(set(table["item"]))
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    np.testing.assert_allclose(table["score"], trained.predict(7, table["item"]), atol=1e-5)
    assert (np.diff(table["score"]) <= 0).all()
    assert trained.recommend(7, n=5).equals(table.head(5))
    everything = trained.recommend(7, n=1000, exclude=None)
    assert set(everything["item"]) == set(trained.data.items)
    titles = trained.data.item_table["title"]
    assert table["title"].tolist() == [titles[item] for item in table["item"]]


def test_recommend_chooses_among_the_given_items_in_any_order(trained: CollabLearner):
    among = [90, 3, 41, 3, 77]
    table = trained.recommend(7, n=10, exclude=None, among=among)
    assert sorted(table["item"]) == [3, 41, 77, 90]
    assert table.equals(trained.recommend(7, n=10, exclude=None, among=np.array(among[::-1])))
    whole = trained.recommend(7, n=1000, exclude=None)
    assert table["item"].tolist() == [i for i in whole["item"] if i in among]
    assert trained.recommend(7, among=[]).empty
    rated = trained.rated(7)["item"]
    assert trained.recommend(7, among=rated).empty and len(trained.recommend(7, among=rated, exclude=None))


def test_recommend_for_several_users_is_each_user_s_own_table(trained: CollabLearner):
    table = trained.recommend([9, 7, 9], n=4)
    assert list(table) == ["user", "rank", "item", "title", "score"] and table["user"].dtype == np.int64
    assert table["user"].tolist() == [9] * 4 + [7] * 4 + [9] * 4
    for part, user in ((table[:4], 9), (table[4:8], 7), (table[8:], 9)):
        own = trained.recommend(user, n=4)
        assert part["item"].tolist() == own["item"].tolist() and part["rank"].tolist() == [1, 2, 3, 4]
        np.testing.assert_allclose(part["score"], own["score"], atol=1e-5)
    for several in (np.array, pd.Series, pd.Index, pd.array):
        assert trained.recommend(several([9, 7, 9]), n=4).equals(table)
    assert trained.recommend([], n=4).empty and list(trained.recommend([], n=4)) == list(table)


def test_recommend_in_blocks_is_recommend_at_once(trained: CollabLearner, monkeypatch: pytest.MonkeyPatch):
    users = list(trained.data.users)
    whole = trained.recommend(users, n=3)
    monkeypatch.setattr(recommend_module, "MAX_SCORES", 500)
    blocks = trained.recommend(users, n=3)
    assert blocks[["user", "item"]].equals(whole[["user", "item"]])
    np.testing.assert_allclose(blocks["score"], whole["score"], atol=1e-5)


def test_ids_of_several_parts_stay_whole():
    ml = synthetic(20, 15, 150, seed=0)
    ratings = ml.ratings.assign(user=[("u", u) for u in ml.ratings["user"]])
    learn = quick(data=CollabDataBunch.from_df(ratings, items=ml.items, seed=0, device="cpu"))
    table = learn.recommend([("u", 3), ("u", 4)], n=2)
    assert table["user"].tolist() == [("u", 3)] * 2 + [("u", 4)] * 2
    assert isinstance(learn.predict(("u", 3), 1), float)        # a tuple is one id


def test_unique_ids_of_a_column_may_be_asked_for():
    ml = synthetic(20, 15, 150, seed=0)
    ratings = ml.ratings.assign(user="u" + ml.ratings["user"].astype(str))
    learn = quick(data=CollabDataBunch.from_df(ratings, seed=0, device="cpu"))
    users = ratings["user"].unique()        # an extension array, not a numpy one
    assert learn.predict(users, 1).shape == (20,)
    assert learn.recommend(users, n=1, exclude=None)["user"].tolist() == list(users)


def test_whoever_has_rated_everything_is_recommended_nothing():
    ratings = pd.DataFrame([(u, i, 1 + (u * i) % 5) for u in range(4) for i in range(6) if u == 0 or i != u],
                           columns=["user", "item", "rating"])
    learn = quick(data=CollabDataBunch.from_df(ratings, valid_pct=0, seed=0, device="cpu"))
    assert learn.recommend(0).empty and list(learn.recommend(0)) == ["rank", "item", "score"]
    assert learn.recommend([0, 2])[["user", "item"]].to_numpy().tolist() == [[2, 2]]
    assert len(learn.recommend(0, n=10**12, exclude=None)) == 6      # no room is made for what there is not


def test_similar_items_and_users_are_those_of_sklearn_s_cosine(trained: CollabLearner):
    for table, vocab, similar in ((trained.model.i_weight, trained.data.items, trained.similar_items),
                                  (trained.model.u_weight, trained.data.users, trained.similar_users)):
        ids, cosine = np.array(list(vocab)), cosine_similarity(table.weight[1:].detach())
        found = similar(ids[5], n=8)
        own = np.argsort(-np.delete(cosine[5], 5), kind="stable")[:8]
        assert found[vocab.name].tolist() == np.delete(ids, 5)[own].tolist()
        np.testing.assert_allclose(found["score"], np.delete(cosine[5], 5)[own], atol=1e-6)
        assert len(similar(ids[5], n=10_000)) == len(ids) - 1
    assert "title" in trained.similar_items(5) and "title" not in trained.similar_users(5)


@pytest.mark.parametrize("part, options", [(("train",), {"part": "train"}), (("train", "valid"), {})])
def test_rated_are_the_ratings_best_first_held_out_or_not(trained: CollabLearner, part: tuple[str, ...],
                                                           options: dict[str, str]):
    users, items, ratings = (torch.cat(column).numpy() for column in
                             zip(*(getattr(trained.data, name).tensors for name in part)))
    mine = users == trained.data.users[7]
    expected = sorted(zip(-ratings[mine], range(mine.sum()), trained.data.items.decode(items[mine])))
    table = trained.rated(7, **options)
    assert table["item"].tolist() == [item for _, _, item in expected]
    assert table["rating"].tolist() == [-r for r, _, _ in expected] and list(table) == ["item", "title", "rating"]
    assert trained.rated(7, n=3, **options).equals(table.head(3))


@pytest.mark.filterwarnings("ignore:.*rate a pair again")
def test_a_pair_that_was_rated_again_is_listed_once_with_its_mean():
    frame = pd.DataFrame({"user": [1, 1, 1, 1, 2], "item": list("cabca"), "rating": [1.0, 3, 4, 4, 5]})
    learn = collab_learner(CollabDataBunch.from_df(frame, valid_pct=0.0, seed=0, device="cpu"), n_factors=2)
    assert learn.rated(1).to_dict("list") == {"item": ["b", "a", "c"], "rating": [4.0, 3.0, 2.5]}
    assert learn.rated(1, n=1)["item"].tolist() == ["b"]
    plays = CollabDataBunch.from_df(frame, implicit=True, valid_pct=0.0, seed=0, device="cpu")
    more = collab_learner(plays, "als", n_factors=2).add_ratings(frame.head(1))
    assert more.rated(1).to_dict("list") == {"item": ["c", "b", "a"], "rating": [6.0, 4.0, 3.0]}


# What was learned -------------------------------------------------------------------------------------------------

def test_biases_and_weights_of_one_of_some_and_of_all(trained: CollabLearner):
    model, items, users = trained.model, trained.data.items, trained.data.users
    assert trained.bias(11).shape == () and trained.bias(11) == model.i_bias.weight[items[11], 0]
    assert trained.weight(11).shape == (8,) and torch.equal(trained.weight(11), model.i_weight.weight[items[11]])
    some = [11, 3, 11]
    assert torch.equal(trained.bias(some), model.i_bias.weight[[items[i] for i in some], 0])
    assert torch.equal(trained.weight(some, is_item=False), model.u_weight.weight[[users[i] for i in some]])
    assert trained.bias([11]).shape == (1,) and trained.weight([11]).shape == (1, 8)
    assert torch.equal(trained.bias(is_item=False), model.u_bias.weight[1:, 0])
    assert torch.equal(trained.weight(), model.i_weight.weight[1:])
    trained.bias().fill_(7)                                               # copies: nobody can break the model
    trained.weight(11).fill_(7)
    assert not (model.i_bias.weight == 7).any() and not (model.i_weight.weight == 7).any()


def test_models_without_biases_or_factors_say_so():
    with pytest.raises(DataError, match="EmbeddingDot learns no biases of items"):
        quick("dot", n_epochs=0).bias(1)
    with pytest.raises(DataError, match="NoEmbeddings learns no factors of users: it has no embedding u_weight"):
        quick(NoEmbeddings(), n_epochs=0).similar_users(1)


# A model of one's own ---------------------------------------------------------------------------------------------

def test_a_model_of_one_s_own_trains_predicts_and_recommends():
    data = small()
    torch.manual_seed(0)
    learn = quick(OwnModel(data.n_users, data.n_items), n_epochs=0, data=data)
    before = learn.validate()["rmse"]
    with learn.no_logging():
        learn.fit(10)
    assert learn.validate()["rmse"] < before
    for table in (learn.model.who, learn.model.what, learn.model.tilt):
        torch.testing.assert_close(table.weight[0], table.weight[1:].mean(0))
    table = learn.recommend(3, n=5)
    np.testing.assert_allclose(table["score"], learn.predict(3, table["item"]), atol=1e-5)
    with pytest.warns(UserWarning, match="average user"):
        assert 1 <= learn.predict(999, 1) <= 5


def test_a_model_without_embeddings_works_too():
    learn = quick(NoEmbeddings(), n_epochs=3)
    table = learn.recommend([3, 4], n=4)
    assert len(table) == 8
    np.testing.assert_allclose(table["score"], learn.predict(table["user"], table["item"]), atol=1e-5)


def test_a_model_whose_scores_are_a_column_is_refused_in_its_first_batch():
    class Column(NoEmbeddings):
        def forward(self, users: Tensor, items: Tensor) -> Tensor:
            return super().forward(users, items)[:, None]
    with pytest.raises(ValueError, match=r"predictions have shape \(64, 1\)"):
        quick(Column(), n_epochs=1)
    with pytest.raises(ValueError, match=r"Column gave scores of shape \(1, 1\)"):
        quick(Column(), n_epochs=0).predict(1, 1)


def test_a_model_of_other_sizes_is_refused_before_training():
    data = small()
    with pytest.raises(DataError, match=r"n_users=40, but the data have 41 rows.*data\.n_users"):
        collab_learner(data, EmbeddingDot(5, data.n_users - 1, data.n_items))
    with pytest.raises(DataError, match="n_items=7"):
        collab_learner(data, EmbeddingDot(5, data.n_users, 7))


def test_what_is_no_data_no_model_and_no_name_is_refused():
    with pytest.raises(DataError, match="got DataFrame; make one .*from_df"):
        collab_learner(synthetic(5, 5, 10).ratings)
    with pytest.raises(TypeError, match="must be an nn.Module instance"):
        collab_learner(small(), EmbeddingDot)
    with pytest.raises(ValueError, match="'svd' is not one of dot_bias, dot, net"):
        collab_learner(small(), "svd")


# The range --------------------------------------------------------------------------------------------------------

def test_the_range_is_half_a_step_wider_than_the_ratings_or_as_asked():
    data = small()
    assert collab_learner(data).model.y_range == (0.5, 5.5)
    assert collab_learner(data, "net").model.y_range == (0.5, 5.5)
    assert collab_learner(data, y_range=None).model.y_range is None
    for asked in ((0, 6), [0, 6], np.array([0, 6])):
        assert collab_learner(data, y_range=asked).model.y_range == (0.0, 6.0)
    assert collab_learner(data, y_range=(1, 5)).model.y_range == (1.0, 5.0)


def test_a_range_that_excludes_ratings_is_refused_with_their_number_and_an_example():
    data = small()
    low, n = int((data.train.tensors[2] < 2).sum()), data.train.n
    with pytest.raises(DataError, match=rf"{low} of {n} training ratings lie outside y_range \(2, 6\), such as 1"):
        collab_learner(data, y_range=(2, 6))
    ratings = pd.DataFrame({"u": [1, 1, 2, 2, 3], "i": [1, 2, 1, 2, 1], "r": [3.0, 4.0, 3.0, 4.0, 9.5]})
    data = CollabDataBunch.from_df(ratings, split=lambda df: (np.arange(4), np.array([4])), seed=0, device="cpu")
    with pytest.raises(DataError, match=r"1 of 1 validation ratings .* \(2, 5\), such as 9.5"):
        collab_learner(data, y_range=(2, 5))


@pytest.mark.parametrize("y_range", [(5, 1), (3, 3), (1,), (1, 2, 3), 5, "big", (0, math.inf), (math.nan, 5), ("a", 1)])
def test_a_range_that_is_none_is_refused(y_range: Any):
    with pytest.raises(DataError, match=r"y_range must be \(low, high\) with low < high"):
        collab_learner(small(), y_range=y_range)


def test_ratings_that_are_all_equal_are_predicted():
    ratings = pd.DataFrame([(u, i, 4.0) for u in range(5) for i in range(5)], columns=["user", "item", "rating"])
    learn = quick(data=CollabDataBunch.from_df(ratings, seed=0, device="cpu"))
    assert learn.model.y_range == (3.5, 4.5) and learn.predict(1, 1) == 4.0 and learn.validate()["rmse"] == 0


# The same seed, the same bits -------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_state_alone(model: str):
    ml = synthetic(40, 30, 500, seed=1)

    def weights(seed: int) -> Tensor:
        learn = collab_learner(CollabDataBunch.from_df(ml.ratings, seed=seed, device="cpu"), model, n_factors=5)
        learn.fit_one_cycle(2)
        return torch.cat([p.detach().flatten() for p in learn.model.parameters()])
    torch.manual_seed(123)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = weights(5)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    torch.manual_seed(321)
    assert torch.equal(weights(5), first)
    assert not torch.equal(weights(6), first)


def test_the_learner_s_own_seed_decides_initial_weights():
    data = small()
    one, same, other = (collab_learner(data, seed=s).model.u_weight.weight for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


# Looking changes nothing ------------------------------------------------------------------------------------------

def snapshot(learn: CollabLearner) -> dict[str, Any]:
    return {"weights": copy.deepcopy(learn.model.state_dict()), "modes": [m.training for m in learn.model.modules()],
            "optimizer": copy.deepcopy(learn.opt.state_dict()), "torch": torch.get_rng_state(),
            "numpy": np.random.get_state()[1].copy(),
            "order": learn.data.train.generator.get_state(), "rows": copy.deepcopy(learn.recorder.rows),
            "losses": learn.recorder.losses.copy(), "lrs": list(learn.recorder.lrs), "grad": torch.is_grad_enabled(),
            "requires": [p.requires_grad for p in learn.model.parameters()],
            "attributes": {k: v if isinstance(v, (int, float, str, bool, tuple, type(None))) else id(v)
                           for k, v in vars(learn).items() if k != "cbs"}, "cbs": list(learn.cbs)}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else a is b or a == b


def odd_modes(learn: CollabLearner) -> None:
    """Training mode, but for one module, as someone may have left it."""
    learn.model.train()
    next(m for m in learn.model.modules() if not list(m.children())).eval()


LOOKS: dict[str, Callable[[CollabLearner], Any]] = {
    "validate": lambda learn: learn.validate(), "validate train": lambda learn: learn.validate(learn.data.train),
    "get_preds": lambda learn: learn.get_preds(), "get_preds train": lambda learn: learn.get_preds(learn.data.train),
    "predict": lambda learn: learn.predict([1, 2], 3), "recommend": lambda learn: learn.recommend([1, 2], n=3),
    "rated": lambda learn: learn.rated(1)}
TABLES: dict[str, Callable[[CollabLearner], Any]] = {
    "similar_items": lambda learn: learn.similar_items(1), "similar_users": lambda learn: learn.similar_users(1),
    "weight": lambda learn: learn.weight()}


@pytest.mark.parametrize("model", MODELS)
def test_looking_changes_nothing(model: str, tmp_path):
    learn = quick(model)
    odd_modes(learn)
    looks = {**LOOKS, **TABLES, "export": lambda learn: learn.export(tmp_path / "m.safetensors", note=1)}
    if model == "dot_bias":
        looks["bias"] = lambda learn: learn.bias()
    before = snapshot(learn)
    for name, look in looks.items():
        look(learn)
        assert same(before, snapshot(learn)), name


class Noisy(OwnModel):
    """Draws random numbers whenever it is asked, and may break."""

    broken = False

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        noise = torch.randn(len(users))
        if self.broken:
            raise RuntimeError("broken model")
        return super().forward(users, items) + 0.01 * noise


@pytest.mark.parametrize("broken", [False, True])
def test_looking_at_a_random_or_broken_model_changes_nothing(broken: bool):
    data = small()
    learn = quick(Noisy(data.n_users, data.n_items), data=data)
    odd_modes(learn)
    learn.model.broken = broken
    before = snapshot(learn)
    for name, look in LOOKS.items():
        if broken and name != "rated":
            with pytest.raises(RuntimeError, match="broken model"):
                look(learn)
        else:
            look(learn)
        assert same(before, snapshot(learn)), name


def test_looking_changes_nothing_when_a_callback_or_a_metric_raises():
    class Breaks(Callback):
        in_eval = True

        def after_pred(self) -> None:
            raise RuntimeError("broken callback")

    class BrokenMetric(RMSE):
        def value(self) -> float:
            raise RuntimeError("broken metric")
    learn = quick()
    odd_modes(learn)
    with learn.added_cbs(Breaks()):
        before = snapshot(learn)
        for look in (learn.validate, learn.get_preds):
            with pytest.raises(RuntimeError, match="broken callback"):
                look()
            assert same(before, snapshot(learn))
    learn.scores.metrics.append(BrokenMetric())
    before = snapshot(learn)
    with pytest.raises(RuntimeError, match="broken metric"):
        learn.validate()
    assert same(before, snapshot(learn))


def test_training_goes_on_after_looking_as_if_nobody_had_looked():
    def weights(looks: list[Callable[[CollabLearner], Any]]) -> list[Tensor]:
        learn = quick("net", n_epochs=1)
        for look in looks:
            look(learn)
        with learn.no_logging():
            learn.fit(1)
        return [p.detach() for p in learn.model.parameters()]
    assert same(weights([]), weights(list(LOOKS.values())))


def test_no_warning_is_given_where_everything_is_known(trained: CollabLearner):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(trained.predict([1, 2], [3, 4])) == 2
        assert len(trained.recommend([1, 2], among=[3, 4], exclude=None)) == 4


def test_model_names_build_the_models_they_name():
    data = small()
    kinds = {name: type(collab_learner(data, name, n_factors=6).model) for name in MODELS}
    assert kinds == {"dot": EmbeddingDot, "dot_bias": EmbeddingDotBias, "net": EmbeddingNet}
    learn = collab_learner(data, n_factors=6)
    assert learn.model.u_weight.weight.shape == (data.n_users, 6)
    # before training, a user and an item have about their biases; of the model by hand, everyone is average
    assert collab_learner(data, n_factors=6, lr=5e-3).predict(1, 1) == pytest.approx(data.mean, abs=0.05)


def test_lr_and_wd_follow_the_root_of_the_batch_size_unless_given():
    ml = synthetic(40, 30, 500, seed=1)
    small_bs, large_bs = (collab_learner(bunch(ml, bs=bs), "net") for bs in (64, 1024))
    assert large_bs.lr == pytest.approx(4 * small_bs.lr) and large_bs.wd == pytest.approx(4 * small_bs.wd)
    given = collab_learner(bunch(ml, bs=1024), lr=1e-3, wd=0.0)
    assert (given.lr, given.wd) == (1e-3, 0.0)


def test_two_learners_of_one_seed_over_one_data_do_the_same():
    data = CollabDataBunch.from_df(synthetic(n_ratings=3000).ratings, seed=0)
    weights = []
    for _ in range(2):
        learn = collab_learner(data, n_factors=3)
        with learn.no_logging():
            learn.fit_one_cycle(1)
        weights.append(learn.model.i_weight.weight)
    assert torch.equal(*weights)


def test_a_model_may_name_its_tables_and_one_without_any_has_no_average():
    class Named(CollabModel):
        def __init__(self, data):
            super().__init__()
            self.u, self.i = (torch.nn.Parameter(torch.rand(n, 2)) for n in (data.n_users, data.n_items))

        def forward(self, users, items):
            return (self.u[users] * self.i[items]).sum(1)

        def id_tables(self):
            return {"user": [self.u], "item": [self.i]}

    class Bare(Named):
        def id_tables(self):
            return {}
    data = CollabDataBunch.from_df(synthetic(n_ratings=3000).ratings, seed=0)
    named, bare = collab_learner(data, Named(data)), collab_learner(data, Bare(data))
    torch.testing.assert_close(named.model.u[0], named.model.u[1:].mean(0))
    with pytest.warns(UserWarning, match="stand for the average user"):
        named.predict(10**6, 1)
    with pytest.raises(UnknownId):
        bare.predict(10**6, 1)


def test_a_loss_may_be_given_by_its_name_and_is_loaded_again(tmp_path):
    data = CollabDataBunch.from_df(synthetic(n_ratings=3000).ratings, seed=0)
    learn = collab_learner(data, loss_func="mae", n_factors=3, lr=slice(1e-3, 1e-2))
    learn.export(tmp_path / "m")
    loaded = load_learner(tmp_path / "m")
    assert loaded.loss_func is mae and loaded.lr == [1e-3, 1e-2]
    with pytest.raises(ValueError, match="loss_func 'hinge' is not one of mse, mae"):
        collab_learner(data, loss_func="hinge")


def test_a_learner_prints_what_it_is():
    learn = collab_learner(CollabDataBunch.from_df(synthetic(n_ratings=3000).ratings, seed=0, device="cpu"))
    assert repr(learn).startswith("CollabLearner(EmbeddingDotBias on CollabDataBunch(train 2,400") and \
        repr(learn).endswith("0 epochs trained)")


def test_a_model_that_is_misspelt_is_refused_with_the_nearest_name():
    data = CollabDataBunch.from_df(synthetic(20, 10, 100, seed=0).ratings, seed=0, device="cpu")
    with pytest.raises(ValueError, match=r"model 'dotbias' is not one of .*; did you mean 'dot_bias'\? Instead of"):
        collab_learner(data, "dotbias")
    with pytest.raises(ValueError, match=r"'zzz' is not one of .*; instead of a name, you can pass a module"):
        collab_learner(data, "zzz")
