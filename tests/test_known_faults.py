"""Faults that other libraries of this kind have been found to have, one test each: none of them here."""

import csv
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from collab import Callback, CollabDataBunch, CSVLogger, DataError, collab_learner, load_learner, synthetic


@pytest.fixture(scope="module")
def ratings():
    return synthetic(n_users=60, n_items=40, n_ratings=900, seed=1).ratings


@pytest.fixture
def learn(ratings):
    learn = collab_learner(CollabDataBunch.from_df(ratings, seed=0, bs=32), n_factors=4)
    with learn.no_logging():
        learn.fit_one_cycle(2)
    return learn


def test_a_single_row_can_be_predicted(learn, ratings):
    row = ratings.iloc[0]
    assert 1 <= learn.predict(row["user"], row["item"]) <= 5


def test_results_show_ids_and_not_rows(learn, ratings):
    shown = learn.show_results(5)
    pairs = set(zip(ratings["user"], ratings["item"], ratings["rating"]))
    assert all((u, i, r) in pairs for u, i, r in zip(shown["user"], shown["item"], shown["rating"]))
    assert shown["predicted"].tolist() == pytest.approx(learn.predict(shown["user"], shown["item"]).tolist())


def test_an_unknown_id_is_the_average_one_with_a_warning_and_never_an_untrained_row(learn):
    with pytest.warns(UserWarning, match="1 of 1 user ids were not trained on"):
        score = learn.predict(10_000, 1)
    with torch.no_grad():
        model, item = learn.model, learn.data.items[1]
        logits = model.u_weight.weight[1:] @ model.i_weight.weight[item] + model.u_bias.weight[1:, 0]
        logit = logits.mean() + model.i_bias.weight[item, 0] + model.mu
    assert score == pytest.approx(0.5 + 5 * torch.sigmoid(logit).item(), rel=1e-5)


@pytest.mark.parametrize("kind", [int, str])
def test_the_vocabs_come_from_the_training_rows_whatever_kind_the_ids_are(kind):
    df = pd.DataFrame({"user": [1, 2, 1, 2, 3], "item": [1, 2, 2, 1, 9], "rating": [1, 2, 3, 4, 5]})
    df[["user", "item"]] = df[["user", "item"]].astype(kind)
    data = CollabDataBunch.from_df(df, split=lambda d: ([0, 1, 2, 3], [4]))
    assert list(data.users) == [kind(1), kind(2)] and list(data.items) == [kind(1), kind(2)]


def test_restarts_of_equal_length_work(learn):
    with learn.no_logging():
        learn.fit_sgdr(2, cycle_len=1, cycle_mult=1)
    assert len(learn.recorder.rows) == 4


def test_looking_keeps_the_recorded_losses_and_the_log(learn, tmp_path):
    with learn.no_logging():
        learn.fit(2, cbs=CSVLogger(tmp_path / "log.csv"))
    losses = learn.recorder.losses.tolist()
    learn.add_cbs(CSVLogger(tmp_path / "log.csv"))
    learn.get_preds()
    learn.validate()
    assert learn.recorder.losses.tolist() == losses and len(losses) == 4 * len(learn.data.train)
    with open(tmp_path / "log.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2


def test_ctrl_c_in_the_range_test_leaves_the_weights(learn):
    class Stop(Callback):
        in_eval = True

        def after_step(self):
            if self.learn.i >= 5:
                raise KeyboardInterrupt
    before = learn.model.u_weight.weight.clone()
    with pytest.raises(KeyboardInterrupt), learn.added_cbs(Stop()):
        learn.lr_find()
    assert torch.equal(learn.model.u_weight.weight, before)


def test_fewer_rows_than_a_batch_train(ratings):
    learn = collab_learner(CollabDataBunch.from_df(ratings.head(30), seed=0, bs=64), n_factors=2, lr=0.1)
    before = learn.model.i_bias.weight.clone()
    with learn.no_logging():
        learn.fit(3)
    assert not torch.equal(learn.model.i_bias.weight, before)
    assert np.isfinite(learn.recorder.frame()["train_loss"]).all()


def test_a_rating_that_is_nan_is_refused_before_training(ratings):
    with pytest.raises(DataError, match=r"column 'rating': 1 of 900 ratings are missing"):
        CollabDataBunch.from_df(ratings.assign(rating=[math.nan, *ratings["rating"][1:]]))


def test_the_weights_are_saved_with_their_ids(learn, tmp_path):
    learn.export(tmp_path / "m.safetensors")
    loaded = load_learner(tmp_path / "m.safetensors")
    assert list(loaded.data.users) == list(learn.data.users) and list(loaded.data.items) == list(learn.data.items)
    assert loaded.predict(3, 4) == learn.predict(3, 4)
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("model.u_weight.weight"), learn.model.u_weight.weight)
