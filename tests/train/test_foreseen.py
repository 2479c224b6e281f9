"""Predictions of a validation pass that are compiled are those of the model."""

import pytest
import torch

from collab import Callback, CancelBatch, CollabDataBunch, TensorBatches, collab_learner, synthetic
from collab.loaders import Track
from collab.train import foreseen
from collab.train.callback import Dispatch
from collab.train.callbacks.scores import Collect

DATA = CollabDataBunch.from_df(synthetic(n_users=120, n_items=90, n_ratings=2_500, seed=3).ratings, seed=0, bs=32,
                               val_bs=64, device="cpu")


@pytest.fixture(params=[("dot", {}), ("dot_bias", {}), ("dot_bias", {"y_range": None}), ("dot_bias", {"n_factors": 9})],
                ids=str)
def learn(request):
    model, options = request.param
    made = collab_learner(DATA, model, **{"n_factors": 5, **options})
    with torch.no_grad():
        for p in made.model.parameters():
            p.normal_(std=0.5, generator=torch.Generator().manual_seed(len(p.shape)))
    return made


@pytest.fixture
def compiled(monkeypatch):
    """Whether passes were compiled, one after the other."""
    monkeypatch.setattr(foreseen, "MANY", 1)
    real, calls = foreseen._foreseeable, []

    def asked(learn, tables):
        found = real(learn, tables)
        calls.append(found is not None)
        return found
    monkeypatch.setattr(foreseen, "_foreseeable", asked)
    return calls


@pytest.mark.parametrize("threads", [1, 2])
def test_predictions_and_scores_are_the_models_own(learn, compiled, monkeypatch, threads):
    torch.set_num_threads(threads)
    preds, targets = learn.get_preds()
    values = learn.validate()
    torch.set_num_threads(1)
    assert compiled == [True, True]
    monkeypatch.setattr(foreseen, "MANY", 1 << 30)
    own, same_targets = learn.get_preds()
    assert compiled[2:] == [False] and torch.equal(targets, same_targets)
    torch.testing.assert_close(preds, own, rtol=1e-6, atol=1e-5)
    assert values == pytest.approx(learn.validate(), rel=1e-5)
    assert (preds - preds.mean()).abs().max() > 0.1


class Halved(Callback):
    in_eval = True

    def predict(self):
        self.learn.pred = self.learn.model(*self.learn.xb) / 2


class Swapped(Callback):
    in_eval = True

    def before_batch(self):
        self.learn.xb = [self.learn.xb[0].flip(0), self.learn.xb[1]]


@pytest.mark.parametrize("cb", [Halved(), Swapped()], ids=["predict", "before_batch"])
def test_a_callback_that_changes_input_or_prediction_has_its_way(learn, compiled, cb):
    plain = learn.get_preds()[0]
    learn.add_cbs(cb)
    changed = learn.get_preds()[0]
    assert compiled == [True, False]
    wanted = [learn.decode(learn.model(users.flip(0) if isinstance(cb, Swapped) else users, items)
                           / (2 if isinstance(cb, Halved) else 1)) for users, items, _ in DATA.valid]
    torch.testing.assert_close(changed, torch.cat(wanted).detach())
    assert (plain - changed).abs().max() > 0.1


def test_other_weights_other_predictions(learn, compiled):
    before = learn.get_preds()[0]
    with torch.no_grad():
        learn.model.u_weight.weight.neg_()
    after = learn.get_preds()[0]
    wanted = torch.cat([learn.model(users, items) for users, items, _ in DATA.valid])
    torch.testing.assert_close(after, learn.decode(wanted).detach(), atol=1e-5, rtol=1e-6)
    assert (after - before).abs().max() > 0.1 and all(compiled)


class SecondOnly(Callback):
    in_eval = True

    def before_chunk(self):
        """Nothing."""

    def before_batch(self):
        if self.learn.i != 1:
            raise CancelBatch


def test_a_batch_that_is_left_out_takes_no_predictions_of_others(learn, compiled):
    whole = learn.get_preds()[0]
    learn.add_cbs(SecondOnly())
    assert torch.equal(learn.get_preds()[0], whole[64:128]) and compiled == [True, True]


def test_batches_in_an_order_of_their_own_are_predicted_one_by_one(learn, compiled):
    shuffled = TensorBatches(*DATA.valid.tensors, bs=64, shuffle=True)
    learn.batches, learn.training, learn.run = shuffled, False, Dispatch([], learn.verbs)
    with foreseen.foreseen(learn):
        assert learn.run.predict == learn.verbs.predict
    assert compiled == [False]


class Ascending(TensorBatches):
    """In the order of the ratings."""

    def pieces(self):
        order = torch.argsort(self.tensors[2], stable=True)
        yield [Track.of([t[order] for t in self.tensors], self.bs)]


def test_batches_of_other_rows_are_predicted_by_the_model(learn, compiled):
    ascending = Ascending(*DATA.valid.tensors, bs=64)
    collect = Collect()
    learn.batches, learn.training, collect.learn = ascending, False, learn
    learn.run = Dispatch([collect], learn.verbs)
    with foreseen.foreseen(learn), torch.no_grad():
        for learn.i, (*learn.xb, learn.yb) in enumerate(ascending):
            learn._batch()
    wanted = torch.cat([learn.decode(learn.model(users, items)) for users, items, _ in ascending]).detach()
    assert torch.equal(torch.cat(collect.preds), wanted) and compiled == [True]


class Shrinking(Callback):
    in_eval = True

    @torch.no_grad()
    def after_batch(self):
        self.learn.model.u_weight.weight.mul_(0.5)


def test_weights_that_change_between_batches_are_the_ones_that_predict(learn, compiled):
    learn.add_cbs(Shrinking())
    start = learn.model.u_weight.weight.detach().clone()
    preds = learn.get_preds()[0]
    for k, (users, items, _) in enumerate(DATA.valid):
        with torch.no_grad():
            learn.model.u_weight.weight.copy_(start * 0.5 ** k)
            wanted = learn.decode(learn.model(users, items))
        torch.testing.assert_close(preds[k * 64:(k + 1) * 64], wanted, atol=1e-5, rtol=1e-6)
    assert compiled == [True]


def test_predictions_are_float32_whatever_torch_takes_by_default(learn, compiled):
    wanted = learn.get_preds()[0]
    torch.set_default_dtype(torch.float64)
    try:
        preds = learn.get_preds()[0]
    finally:
        torch.set_default_dtype(torch.float32)
    assert preds.dtype == torch.float32 and torch.equal(preds, wanted) and compiled == [True, True]


def test_without_numba_the_loop_predicts(learn, compiled, monkeypatch):
    monkeypatch.setattr(foreseen, "not_compiled", lambda: "numba is missing")
    learn.validate()
    assert compiled == [False]


def test_rows_that_the_model_does_not_have_raise_as_ever(learn, compiled):
    users, items, ratings = DATA.valid.tensors
    with pytest.raises(IndexError):
        learn.get_preds(TensorBatches(users + 1000, items, ratings, bs=64))
    assert compiled == [False]
