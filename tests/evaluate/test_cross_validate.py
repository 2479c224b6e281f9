"""Ranking metrics in the history, and one model trained anew on every fold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from collab import (
    EMA,
    BiasBaseline,
    Callback,
    CancelValidate,
    CollabDataBunch,
    CollabLearner,
    DataBunch,
    DataError,
    EarlyStopping,
    EmbeddingDotBias,
    Learner,
    Popularity,
    RankingMetrics,
    RatingSet,
    SaveBest,
    TensorBatches,
    average_learners,
    collab_learner,
    cross_validate,
    evaluate,
    kfold,
    leave_last,
    rmse,
    synthetic,
    user_split,
)

# models that are hardly trained, if at all
pytestmark = pytest.mark.filterwarnings("ignore:.*, and mean and biases alone have:collab.CollabWarning")


@pytest.fixture(scope="module")
def ratings() -> pd.DataFrame:
    return synthetic(n_users=60, n_items=40, n_ratings=1_200, seed=0).ratings


@pytest.fixture
def data(ratings) -> CollabDataBunch:
    return CollabDataBunch.from_df(ratings, seed=0, bs=64, device="cpu")


def small(data: CollabDataBunch, **options) -> CollabLearner:
    return collab_learner(data, n_factors=4, **options)


def quietly(learn: CollabLearner, n_epochs: int = 2) -> None:
    with learn.no_logging():
        learn.fit(n_epochs)


def biases_alone(learn: CollabLearner) -> float:
    """The RMSE of the mean and biases on the validation part."""
    users, items, targets = learn.data.valid.tensors
    preds = BiasBaseline(learn.data.n_users, learn.data.n_items).fit(*learn.data.train.tensors)(users, items)
    return float(rmse(preds.clamp(1, 5), targets))


def raw(data: CollabDataBunch, part: TensorBatches) -> pd.DataFrame:
    """The ratings of a part as they came in."""
    users, items, ratings = (t.numpy() for t in part.tensors)
    names = data.schema.user, data.schema.item, data.schema.rating
    return pd.DataFrame(dict(zip(names, (data.users.decode(users), data.items.decode(items), ratings))))


# RankingMetrics ---------------------------------------------------------------------------------------------------

def test_the_history_holds_what_evaluate_says(data, capsys):
    learn = small(data, cbs=RankingMetrics(k=5, metrics=("ndcg", "auc", "coverage"), threshold=3.0))
    learn.fit(2)
    last = evaluate(learn, k=5, metrics=("ndcg", "auc", "coverage"), threshold=3.0).summary
    row = learn.recorder.rows[-1]
    assert list(row) == ["epoch", "train_loss", "valid_loss", "rmse", "mae", "ndcg@5", "auc", "coverage@5", "seconds"]
    assert [row["ndcg@5"], row["auc"], row["coverage@5"]] == last.tolist()
    printed = capsys.readouterr().out.splitlines()
    assert "ndcg@5" in printed[0] and f"{last['ndcg']:.4f}" in printed[2]


@pytest.mark.parametrize("every, n_epochs, due", [(1, 3, [0, 1, 2]), (2, 5, [1, 3, 4]), (9, 2, [1])])
def test_epochs_that_are_not_due_have_nan(data, every, n_epochs, due):
    learn = small(data, cbs=RankingMetrics(metrics="hit", every=every))
    quietly(learn, n_epochs)
    assert [e for e, row in enumerate(learn.recorder.rows) if not math.isnan(row["hit@10"])] == due


def test_training_is_the_same_to_the_bit_with_and_without(data):
    learners = [small(data, cbs=cbs) for cbs in (None, RankingMetrics(metrics=("ndcg", "auc")))]
    for learn in learners:
        quietly(learn, 3)
    one, other = (learn.model.state_dict() for learn in learners)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_looking_at_what_is_held_out_draws_no_random_number(data):
    data.valid = DataLoader(TensorDataset(*data.valid.tensors), shuffle=True, batch_size=99)
    cb, random = RankingMetrics(), torch.get_rng_state()
    small(data, cbs=cb)
    cb.before_fit()
    assert torch.equal(torch.get_rng_state(), random)


def test_the_weights_of_the_best_ranking_can_be_kept(data):
    learn = small(data, cbs=[RankingMetrics(metrics="ndcg"), SaveBest("ndcg@10")])
    quietly(learn, 4)
    assert evaluate(learn, metrics="ndcg").summary["ndcg"] == learn.recorder.frame()["ndcg@10"].max()


def test_who_watches_a_ranking_passes_over_an_epoch_without_validation(data):
    class Skip(Callback):
        def before_validate(self) -> None:
            if self.learn.epoch == 1:
                raise CancelValidate
    best = SaveBest("ndcg@10")
    learn = small(data, cbs=[Skip(), RankingMetrics(metrics="ndcg"), best, EarlyStopping("ndcg@10", patience=9)])
    quietly(learn, 3)
    assert len(learn.recorder.rows) == 3 and best.best == learn.recorder.frame()["ndcg@10"].max()
    with pytest.raises(ValueError, match="watches 'ndgc@10', but the recorded columns are"):
        quietly(small(data, cbs=[RankingMetrics(metrics="ndcg"), SaveBest("ndgc@10")]))


def test_averaged_weights_are_ranked_where_they_are_what_is_validated(data):
    learn = small(data, cbs=[EMA(), RankingMetrics(metrics="auc")])
    quietly(learn)
    assert evaluate(learn, metrics="auc").summary["auc"] == learn.recorder.rows[-1]["auc"]


def test_what_cannot_be_ranked_is_refused_before_training(ratings, data):
    for options, message in (({"every": 0}, "every must be at least 1, got 0"), ({"k": 0}, "k must be"),
                             ({"metrics": "rmse"}, "got 'rmse'"), ({"threshold": "4"}, "must be a finite number")):
        with pytest.raises(ValueError, match=message):
            RankingMetrics(**options)
    whole = CollabDataBunch.from_df(ratings, valid_pct=0, seed=0, device="cpu")
    with pytest.raises(ValueError, match="no validation part"):
        small(whole, cbs=RankingMetrics()).fit(1)
    plain = DataBunch(TensorBatches(*data.train.tensors), device="cpu")
    learn = Learner(plain, EmbeddingDotBias(2, data.n_users, data.n_items), cbs=RankingMetrics())
    with pytest.raises(TypeError, match="needs a CollabDataBunch, got DataBunch"):
        learn.fit(1)


@pytest.mark.parametrize("model", ["dot_bias", "als"])
@pytest.mark.parametrize("metrics", [[RankingMetrics(k=5)], RankingMetrics, EMA()])
def test_a_callback_among_the_metrics_is_sent_to_cbs(data, model, metrics):
    with pytest.raises(TypeError, match=r"(RankingMetrics|EMA) is a callback, not a metric: pass it as cbs=\1\("):
        collab_learner(data, model, metrics=metrics)


# cross_validate ---------------------------------------------------------------------------------------------------

def test_each_fold_is_what_it_is_alone(ratings):
    table = cross_validate(small, ratings, folds=3, fit=quietly, ranking=("ndcg", "auc"), k=5, seed=7, device="cpu")
    assert list(table) == ["valid_loss", "rmse", "mae", "rmse of biases", "ndcg@5", "ndcg@5 of popularity", "auc",
                           "auc of popularity", "seconds"] and table.index.name == "fold"
    for fold, split in enumerate(kfold(3, seed=7)):
        learn = small(CollabDataBunch.from_df(ratings, split=split, seed=7, device="cpu"))
        quietly(learn)
        ranked, popular = (evaluate(r, k=5, metrics=("ndcg", "auc")).summary for r in (learn, Popularity(learn.data)))
        assert table.loc[fold].drop("seconds").to_dict() == {
            **learn.validate(), "rmse of biases": biases_alone(learn),
            "ndcg@5": ranked["ndcg"], "ndcg@5 of popularity": popular["ndcg"],
            "auc": ranked["auc"], "auc of popularity": popular["auc"]}


def test_folds_may_be_splits_of_ones_own_and_options_reach_the_data(ratings):
    seen = []

    def make(data: CollabDataBunch) -> CollabLearner:
        seen.append(data)
        return small(data)
    renamed = ratings.rename(columns={"rating": "stars"})[["stars", "user", "item", "time"]]
    table = cross_validate(make, renamed, [leave_last(2), lambda df: (range(900), range(900, len(df)))], quietly,
                           user_name="user", item_name="item", rating_name="stars", bs=128, device="cpu")
    assert table.index.tolist() == [0, 1] and [data.train.bs for data in seen] == [128, 128]
    assert [data.valid.n for data in seen] == [120, len(ratings) - 900]


@pytest.mark.parametrize("model", ["als", "ease", "infinite_ae"])
def test_a_solved_model_is_solved_by_default(ratings, model):
    def make(data: CollabDataBunch) -> CollabLearner:
        return collab_learner(data, model, n_factors=4)
    by_hand = cross_validate(make, ratings, 2, lambda learn: learn.fit(), ("ndcg",), device="cpu")
    table = cross_validate(make, ratings, 2, ranking=("ndcg",), device="cpu")
    pd.testing.assert_frame_equal(table.drop(columns="seconds"), by_hand.drop(columns="seconds"))


def test_the_data_of_a_learner_are_split_anew_with_its_options(ratings):
    known = pd.DataFrame({"id": [*range(1, 99)], "name": "a film", "decade": [1980 + k % 4 * 10 for k in range(98)]})
    renamed = ratings.rename(columns={"user": "reader", "item": "book", "rating": "stars"})
    data = CollabDataBunch.from_df(renamed, items=known, item_features=["decade"], bs=128, val_bs=99, seed=0,
                                   device="cpu")
    seen = []

    def make(data: CollabDataBunch) -> CollabLearner:
        seen.append(data)
        return small(data)
    table = cross_validate(make, data, 3, quietly, seed=5, val_bs=77)
    rows = pd.concat([raw(made, made.valid).assign(part=k) for k, made in enumerate(seen)])
    expected = renamed[["reader", "book", "stars"]].sort_values(["reader", "book"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(rows.drop(columns="part").sort_values(["reader", "book"]).reset_index(drop=True),
                                  expected, check_dtype=False)
    assert len(table) == 3 and rows["part"].value_counts().tolist() == [400] * 3
    for made in seen:
        assert (made.train.bs, made.valid.bs, made.seed, made.schema.rating) == (128, 77, 5, "stars")
        assert made.n_items == data.n_items == 99 and made.titles([7]) == ["a film"]
        assert made.item_features.labels == data.item_features.labels and made.user_features is None
    whole = CollabDataBunch.from_df(ratings, implicit=True, threshold=3, bs="full", valid_pct=0, device="cpu")
    cross_validate(make, whole, 2, lambda learn: None)
    assert all(made.implicit and made.threshold == 3 and len(made.train) == 1 for made in seen[3:])
    assert sum(made.valid.n for made in seen[3:]) == whole.train.n == (ratings["rating"] > 3).sum()


def test_all_validation_ratings_are_in_the_folds_also_of_users_without_training_ratings(ratings):
    data = CollabDataBunch.from_df(ratings, split=user_split(0.2), seed=0, device="cpu")
    seen = []
    cross_validate(lambda made: seen.append(made) or small(made), data, 2, lambda learn: None)
    assert sum(made.valid.n for made in seen) == 1_200
    assert all({*made.aside.users.vocab, *(made.aside.users.more or [])} == {*ratings["user"]} for made in seen)


def test_validation_ratings_whose_ids_the_data_did_not_keep_are_left_out_with_a_warning(ratings):
    data = CollabDataBunch.from_df(ratings, split=user_split(0.2), seed=0, device="cpu")
    nameless = CollabDataBunch(data.train, data.valid, None, data.users, data.items, device="cpu")
    seen = []
    with pytest.warns(UserWarning, match=f"{data.valid.n} of 1,200 ratings are left out: .* pass the table"):
        cross_validate(lambda made: seen.append(made) or small(made), nameless, 2, lambda learn: None)
    assert sum(made.valid.n for made in seen) == data.train.n


def test_folds_of_movielens_have_their_names(ml100k: RatingSet):
    untrained = {"fit": lambda learn: None, "bs": 1024, "device": "cpu"}
    table = cross_validate(lambda data: small(data, lr=5e-3), ml100k.ratings, ("u1", "u2"), **untrained)
    assert table.index.tolist() == ["u1", "u2"]
    assert list(table) == ["valid_loss", "rmse", "mae", "rmse of biases", "seconds"]
    assert table["rmse"].tolist() == pytest.approx([1.15, 1.13], abs=0.02)      # those of the mean rating
    assert table["rmse of biases"].tolist() == pytest.approx([0.9536, 0.9435], abs=5e-5)
    assert cross_validate(small, ml100k.ratings, "u2", **untrained).index.tolist() == ["u2"]


def test_an_interrupted_fold_does_not_count(ratings):
    for last, whole in ((3, 2), (1, 0)):
        fits = iter(range(1, 10))

        def fit(learn: CollabLearner, last=last, fits=fits) -> None:
            learn.interrupted = next(fits) == last
        if whole:
            with pytest.warns(UserWarning, match="interrupted in fold 2 of 5: the table has the 2 before it"):
                assert len(cross_validate(small, ratings, fit=fit, device="cpu")) == whole
        else:
            with pytest.raises(KeyboardInterrupt):
                cross_validate(small, ratings, fit=fit, device="cpu")


def test_an_ensemble_is_what_make_learner_trained(ratings):
    members: list[CollabLearner] = []

    def both(data: CollabDataBunch, names: tuple[str, str]) -> CollabLearner:
        members[:] = [collab_learner(data, name, n_factors=4) for name in names]
        for member in members:
            with member.no_logging():
                member.fit()
        return average_learners(members)
    options = {"folds": kfold(2, seed=0), "seed": 0, "device": "cpu"}
    table = cross_validate(lambda data: both(data, ("als", "ease")), ratings, ranking=("ndcg",), **options)
    assert list(table) == ["ndcg@10", "ndcg@10 of popularity", "seconds"]
    assert table["ndcg@10"].iloc[-1] == evaluate(average_learners(members)).summary["ndcg"]
    with pytest.raises(TypeError, match="a mean of rankings has no error; say what to measure"):
        cross_validate(lambda data: both(data, ("als", "ease")), ratings, **options)
    rated = cross_validate(lambda data: both(data, ("als_explicit", "als_explicit")), ratings, **options)
    assert rated["rmse"].iloc[-1] == average_learners(members).validate()["rmse"]


def test_what_makes_no_learner_is_refused(ratings):
    with pytest.raises(TypeError, match="such as lambda data: collab_learner.data, 'als'., got 'als'"):
        cross_validate("als", ratings)


def test_a_metric_that_is_none_is_refused_before_training(ratings):
    with pytest.raises(ValueError, match="got 'rmse'"):
        cross_validate(lambda data: pytest.fail("trained"), ratings, ranking=("rmse",))


def test_data_keep_how_numbers_were_scaled_and_no_times(ratings):
    films = pd.DataFrame({"item": sorted(ratings.iloc[:, 1].unique())})
    films["price"] = np.arange(len(films)) ** 2.0
    seen: list[Any] = []

    def make(data: CollabDataBunch) -> CollabLearner:
        seen.append(data.item_features)
        return collab_learner(data, "dot", n_factors=2)
    options = {"items": films, "item_features": ["price"], "seed": 0, "device": "cpu"}
    for scaling in ("standard", "quantile"):
        data = CollabDataBunch.from_df(ratings, scaling=scaling, **options)
        cross_validate(make, data, folds=kfold(2, seed=0)[:1], fit=lambda learn: None, seed=0)
        assert seen[-1].scaling == scaling == data.item_features.scaling
    assert seen[0].weights.max() > 2 > 1.8 > seen[1].weights.max()     # squares; ranks end at the root of 3
    with pytest.raises(DataError, match="keep neither times"):
        cross_validate(make, data, folds=[leave_last(1)])
