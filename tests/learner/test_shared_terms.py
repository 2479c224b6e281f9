"""What a model adds to all scores of a user has a gradient of exactly 0 where these are only compared: what a sum of
gradients that cancel leaves is rounding, which Adam and Adagrad would scale up to whole steps."""

import contextlib
import copy

import pytest
import torch
from helpers import Batchwise

from collab import (
    BPR,
    Callback,
    CancelFit,
    CollabDataBunch,
    FullSoftmax,
    InBatchSoftmax,
    Logistic,
    LossTerms,
    SampledSoftmax,
    collab_learner,
    synthetic,
)
from collab.learner.objectives import Objective
from collab.losses import mse

RATINGS = synthetic(n_users=40, n_items=30, n_ratings=400, seed=3).ratings
ITEMS = RATINGS[["item"]].drop_duplicates().assign(kind=lambda items: ["a", "b", "c"] * (len(items) // 3))
COMPARING = [BPR(3), SampledSoftmax(5), InBatchSoftmax(), FullSoftmax()]
SHARED = {"dot_bias": {"u_bias.weight", "mu"}, "svdpp": {"u_bias.weight", "mu"},
          "hybrid": {"u_bias.weight", "mu", "layers.3.bias"}, "net": {"layers.3.bias"}}


def moved(model="dot_bias", objective=COMPARING[0], cbs=(), **options):
    """The names of the parameters that two epochs change, and of those that they leave as they are."""
    known = {"items": ITEMS, "item_features": ["kind"]} if model == "hybrid" else {}
    data = CollabDataBunch.from_df(RATINGS, seed=0, bs=64, device="cpu", **known)
    learn = collab_learner(data, model, loss_func=objective, cbs=cbs, metrics=[], seed=1,
                           **{"n_factors": 5, "lr": 5e-3, "wd": 0.0, "opt_func": torch.optim.AdamW, **options})
    before = {name: p.detach().clone() for name, p in learn.model.named_parameters()}
    with learn.no_logging():
        learn.fit(2)
    assert not learn.model.compared
    assert all(p.grad is None or not p.grad.any() for p in learn.model.parameters())
    unmoved = {name for name, p in learn.model.named_parameters() if torch.equal(p, before[name])}
    return before.keys() - unmoved, unmoved


@pytest.mark.parametrize("cbs", [[], [Batchwise()]], ids=["compiled", "loop"])
@pytest.mark.parametrize("opt_func", [torch.optim.AdamW, torch.optim.Adagrad])
@pytest.mark.parametrize("objective", COMPARING, ids=str)
def test_a_users_bias_and_the_mean_are_left_alone(objective, opt_func, cbs):
    assert moved(objective=objective, opt_func=opt_func, cbs=cbs)[1] == SHARED["dot_bias"]


@pytest.mark.parametrize(("model", "objective", "options"), [
    ("svdpp", BPR(3), {"id_drop": 0.0}), ("svdpp", BPR(3), {"id_drop": 0.3}), ("svdpp", InBatchSoftmax(), {}),
    ("net", BPR(3), {}), ("hybrid", BPR(3), {"hidden": [4]})],
    ids=["svdpp", "some unknown", "in the batch", "net", "hybrid"])
def test_other_models(model, objective, options):
    assert moved(model, objective, **options)[1] == SHARED[model]


class Anchored(BPR):
    """A pair's own score is also a rating."""

    def get_loss(self):
        super().get_loss()
        self.learn.loss = self.learn.loss + 0.1 * mse(self.learn.pred, self.learn.yb)


class Pointwise(FullSoftmax):
    """Its loss is made in `predict`."""

    def predict(self):
        super().predict()
        self.loss = self.loss + 0.1 * mse(self.learn.pred, self.learn.yb)


class Listening(BPR):
    def after_loss(self):
        self.learn.loss = self.learn.loss + rated(self.learn.model)


def biases(model):
    return model.u_bias.weight.square().sum() + (model.mu - 1) ** 2


def rated(model):
    return model(torch.arange(1, 5), torch.arange(1, 5)).square().mean()


@pytest.mark.parametrize(("objective", "options"), [
    (Logistic(3), {}), (BPR(3), {"y_range": (0.5, 5.5)}), (Anchored(3), {}), (BPR(3), {"cbs": [LossTerms(biases)]}),
    (BPR(3), {"cbs": [LossTerms(rated)]}), (Pointwise(), {}), (Listening(3), {})],
    ids=["logistic", "range", "own", "term", "term of scores", "own predict", "own event"])
def test_they_are_trained_where_they_do_not_cancel(objective, options):
    assert not moved(objective=objective, **options)[1]


def test_the_other_gradients_are_not_changed(monkeypatch):
    found = []
    for compares in (True, False):
        monkeypatch.setattr(BPR, "compares", compares)
        data = CollabDataBunch.from_df(RATINGS, seed=0, bs=len(RATINGS), device="cpu")
        learn = collab_learner(data, "dot_bias", 5, loss_func=BPR(3), cbs=[Batchwise()], opt_func=torch.optim.SGD,
                               lr=1.0, wd=0.0, metrics=[], seed=1)
        with learn.no_logging():
            learn.fit(1)
        found.append(dict(learn.model.named_parameters()))
    one, other = found
    assert all(torch.equal(one[name], other[name]) for name in ("u_weight.weight", "i_weight.weight", "i_bias.weight"))
    assert not torch.equal(one["u_bias.weight"], other["u_bias.weight"])        # rounding


class Copies(Callback):
    def after_pred(self):
        self.copy = copy.deepcopy(self.learn.model)
        raise self.error

    error = CancelFit


def test_copies_and_what_comes_after_an_error_compare_nothing(monkeypatch):
    for error in (CancelFit, ZeroDivisionError):
        data = CollabDataBunch.from_df(RATINGS, seed=0, bs=64, device="cpu")
        learn = collab_learner(data, "dot_bias", 5, loss_func=BPR(3), metrics=[], seed=1)
        cb = Copies()
        cb.error = error
        with learn.no_logging(), contextlib.suppress(ZeroDivisionError):
            learn.fit(1, cbs=cb)
        for model in (learn.model, cb.copy):
            assert not model.compared
            model(torch.tensor([1]), torch.tensor([1])).sum().backward()
            assert model.u_bias.weight.grad[1] == 1


def test_only_collabs_own_objectives_say_so():
    assert not Objective.compares and not Logistic.compares and not Anchored.compares
    assert type("Named", (BPR,), {}).compares
