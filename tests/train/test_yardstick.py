"""One warning where training ends up worse than predicting the mean, and none where that says nothing."""

import math
import warnings

import pytest
import torch
from helpers import fit_quietly, line_learner
from torch import nn

from collab import (
    Callback,
    CollabDataBunch,
    CollabWarning,
    EmbeddingDot,
    EmbeddingNet,
    collab_learner,
    mse,
    synthetic,
)

RATINGS = synthetic(n_users=60, n_items=40, n_ratings=1500, seed=1).ratings
MEAN = "predicting the mean for all rows has"


def data(bs=16, **options):         # 75 batches an epoch
    return CollabDataBunch.from_df(RATINGS, seed=0, bs=bs, device="cpu", **options)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Tanh(nn.Module):
    """Scores from -1 to 1."""

    def __init__(self, n_users, n_items):
        super().__init__()
        self.u, self.i = nn.Embedding(n_users, 4), nn.Embedding(n_items, 4)

    def forward(self, users, items):
        return torch.tanh((self.u(users) * self.i(items)).sum(1))


def said(learn, n=3, **options):
    """The warnings of a fit, and the epochs it had when each came."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.showwarning = lambda message, category, *_: found.append((str(message), len(learn.recorder.rows)))
        warnings.simplefilter("always", CollabWarning)
        fit_quietly(learn, n, **options)
    return found


def test_a_scale_that_the_model_cannot_reach_is_said_once():
    made = data()
    learn = collab_learner(made, Tanh(made.n_users, made.n_items), lr=0.1)
    ((message, rows),) = said(learn, 30)
    assert rows < 20                            # it is not said at the end alone
    ratings = made.train.tensors[2]
    assert f"{MEAN} {ratings.var(correction=0).item():.4g}:" in message
    ((_, rows),) = said(learn, 3)               # and once more in another fit
    assert rows > 30


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_the_mean_is_measured_by_the_loss_in_use(loss):
    made = data()
    learn = collab_learner(made, Tanh(made.n_users, made.n_items), loss_func=loss)
    ((message, _),) = said(learn, 3)
    error = made.train.tensors[2] - made.train.tensors[2].mean()
    of_the_mean = {"mse": error.square(), "mae": error.abs(),
                   "huber": torch.where(error.abs() <= 1, error.square() / 2, error.abs() - 0.5)}[loss].mean().item()
    assert f"{MEAN} {of_the_mean:.4g}:" in message


def test_a_dropout_that_leaves_nothing_is_said():
    made = data()
    ((message, _),) = said(collab_learner(made, EmbeddingNet(8, made.n_users, made.n_items, drop=0.99)), 4)
    assert MEAN in message


def test_training_that_is_thrown_back_in_the_middle_is_said_before_the_fit_is_over():
    class Break(Callback):
        def before_epoch(self):
            if self.learn.epoch == 3:
                with torch.no_grad():
                    self.learn.model.i_bias.weight.fill_(50.0)
    ((message, rows),) = said(collab_learner(data(), n_factors=3), 12, cbs=Break())
    assert "training loss of epoch 3 is" in message and rows == 4


@pytest.mark.parametrize("name", ["dot_bias", "net", "svdpp", "classifier", "als_explicit", "als", "bpr", "softmax",
                                  "two_tower", "ease"])
def test_models_that_learn_or_rank_or_have_another_loss_say_nothing(name):
    learn = collab_learner(data(bs=64), name, n_factors=3)
    assert said(learn, 4) == []


@pytest.mark.parametrize(("lr", "n"), [(1, 0), (5, 0), (10, 1)])
def test_many_short_epochs_are_judged_by_their_mean(lr, n):
    """At 1 each epoch falls by less than 1%, though all of them end below the mean; at 10 the descent swings above."""
    made = data(bs="full")
    model = EmbeddingDot(5, made.n_users, made.n_items, init_std=0.5)
    learn = collab_learner(made, model, opt_func=torch.optim.SGD, lr=lr)
    found, losses = said(learn, 600), learn.recorder.losses
    mean = made.train.tensors[2].var(correction=0).item()
    assert len(found) == n and (losses[-60:].mean() > mean) == bool(n)
    assert lr > 1 or losses[0] > losses[1] > 0.99 * losses[0] > mean


def test_a_fit_that_is_still_on_its_way_says_nothing():
    assert said(collab_learner(data(bs=64), "dot", n_factors=3), 3) == []           # 57 steps from scores of 0
    fast = collab_learner(data(), "dot", n_factors=3, lr=0.03)
    assert said(fast, 6) == [] and fast.recorder.rows[0]["train_loss"] > 2 > fast.recorder.rows[-1]["train_loss"]


class Logits(Tanh):
    """Five classes, of which the first is always said."""

    def forward(self, users, items):
        sure = torch.tensor([50.0, 0, 0, 0, 0])
        return super().forward(users, items)[:, None] + sure


def of_classes(pred, target):
    return nn.functional.cross_entropy(pred, target.long() - 1)


@pytest.mark.parametrize("make", [
    lambda made: collab_learner(made, Tanh(made.n_users, made.n_items), lr=0.0),
    lambda made: collab_learner(made, Logits(made.n_users, made.n_items), loss_func=of_classes, metrics=[]),
    lambda made: collab_learner(made, Tanh(made.n_users, made.n_items),
                                loss_terms=[lambda model: model.u.weight.sum() * 0]),
], ids=["nothing is trained", "a loss of classes", "terms"])
def test_what_cannot_be_compared_is_not(make):
    learn = make(CollabDataBunch.from_df(RATINGS.assign(rating=RATINGS["rating"].round().clip(1, 5)), seed=0, bs=16,
                                        device="cpu"))
    assert said(learn, 3) == []
    assert learn.recorder.rows[-1]["train_loss"] > 5


def test_targets_that_are_all_alike_are_no_yardstick():
    made = CollabDataBunch.from_df(RATINGS.assign(rating=3.0), seed=0, bs=16, device="cpu")
    assert said(collab_learner(made, Tanh(made.n_users, made.n_items)), 3) == []


def test_a_learner_that_knows_nothing_of_ratings_says_nothing():
    learn = line_learner(lr=0.0, bs=1)
    assert said(learn, 20) == []


def test_looking_at_the_mean_draws_no_random_number_and_changes_no_training():
    def losses(*removed):
        learn = collab_learner(data(), n_factors=3, seed=1)
        learn.cbs = [cb for cb in learn.cbs if type(cb).__name__ not in removed]
        fit_quietly(learn, 2)
        return learn.recorder.losses.tolist()
    assert losses() == losses("MeanYardstick")


def test_a_loss_that_is_not_finite_is_said_once_a_fit():
    made = data()
    learn = collab_learner(made, n_factors=3)
    learn.loss_func = lambda pred, target: mse(pred, target) * (math.nan if learn.epoch > 0 else 1.0)
    ((message, rows),) = said(learn, 4)
    assert "the training loss of epoch 1 is nan" in message and rows == 2


def test_a_last_step_that_breaks_the_weights_is_seen_in_the_validation():
    class Break(Callback):
        def after_step(self):
            if (self.learn.epoch, self.learn.i) == (1, 74):
                with torch.no_grad():
                    self.learn.model.mu.fill_(math.nan)
    ((message, _),) = said(collab_learner(data(), n_factors=3, cbs=Break()), 2)
    assert "the validation loss of epoch 1 is nan" in message
