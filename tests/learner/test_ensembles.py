"""Ensembles: means by hand, folding, snapshots along a fit, and several learners as one."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Batchwise
from torch import nn

from collab import (
    SWA,
    Callback,
    CancelFit,
    Checkpoint,
    CollabDataBunch,
    CollabInterpretation,
    DataError,
    EmbeddingDot,
    EmbeddingDotBias,
    EmbeddingNet,
    Ensemble,
    RatingClassifier,
    RatingCrossEntropy,
    SaveBest,
    SnapshotEnsemble,
    SVDpp,
    Unsupported,
    average_learners,
    collab_learner,
    load_learner,
    merge_dot_models,
    mse,
    synthetic,
)

RANGE = (0.5, 5.5)
USERS, ITEMS = torch.tensor([0, 3, 5, 5]), torch.tensor([1, 0, 7, 2])


def some(cls, *args, n_factors=3, seed=0, **options):
    torch.manual_seed(seed)
    model = cls(n_factors, 6, 8, *args, **options)
    for p in model.parameters():
        p.data.normal_()
    return model.eval()


@pytest.fixture(scope="module")
def data():
    ml = synthetic(n_users=60, n_items=40, n_ratings=1500, seed=1)
    return CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, bs=64, device="cpu")


def learner(data, model="dot_bias", seed=0):
    learn = collab_learner(data, model, n_factors=3, seed=seed)
    learn.cbs.remove(learn.progress)
    return learn


def scores(model, data):
    users, items, _ = data.valid.tensors
    with torch.no_grad():
        score = getattr(model.eval(), "scores", model)
        return score(users, items)


# Models -----------------------------------------------------------------------------------------------------------

def test_an_ensemble_is_the_mean_of_its_members():
    models = [some(EmbeddingDotBias, RANGE), some(EmbeddingNet, seed=1), some(EmbeddingDot, seed=2)]
    by_hand = sum(m(USERS, ITEMS) for m in models) / 3
    torch.testing.assert_close(Ensemble(models)(USERS, ITEMS), by_hand)
    assert not Ensemble(models).crosses                         # the network does not
    dots = Ensemble([models[0], models[2]])
    pairwise = torch.stack([dots(u.expand(4), ITEMS) for u in USERS])
    torch.testing.assert_close(dots.cross(USERS, ITEMS), pairwise)


def test_an_ensemble_of_classifiers_is_the_mean_of_probabilities():
    models = [some(RatingClassifier, (1, 2, 5), seed=k) for k in range(3)]
    whole, shares = Ensemble(models), sum(m.probabilities(USERS, ITEMS) for m in models) / 3
    torch.testing.assert_close(whole.probabilities(USERS, ITEMS), shares)
    torch.testing.assert_close(whole(USERS, ITEMS).softmax(1), shares)
    torch.testing.assert_close(whole.scores(USERS, ITEMS), shares @ torch.tensor([1.0, 2, 5]))
    torch.testing.assert_close(whole.to_scores(whole(USERS, ITEMS)), whole.scores(USERS, ITEMS))
    nested = Ensemble([whole, whole])
    torch.testing.assert_close(nested.probabilities(USERS, ITEMS), shares)
    assert Ensemble(nested.members).rating_levels().tolist() == [1, 2, 5]
    with pytest.raises(ValueError, match="differ in levels"):
        Ensemble([models[0], some(RatingClassifier, (1, 2, 4))])
    mixed = Ensemble([models[0], some(EmbeddingDot)])
    torch.testing.assert_close(mixed(USERS, ITEMS), (models[0].scores(USERS, ITEMS)
                                                     + some(EmbeddingDot)(USERS, ITEMS)) / 2)
    with pytest.raises(Unsupported, match="Ensemble gives scores, not probabilities"):
        mixed.probabilities(USERS, ITEMS)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_folded_model_is_the_mean_before_the_sigmoid(n):
    models = [some(EmbeddingDotBias, RANGE, seed=k) for k in range(n)]
    logit = sum(torch.logit((m(USERS, ITEMS).double() - 0.5) / 5) for m in models) / n
    folded = merge_dot_models(models)
    torch.testing.assert_close(folded(USERS, ITEMS).double(), 0.5 + 5 * torch.sigmoid(logit), atol=1e-5, rtol=1e-5)
    assert folded.config["n_factors"] == 3 * n and folded.config["y_range"] == RANGE
    dots = [some(EmbeddingDot, seed=k, n_factors=k + 1) for k in range(n)]          # factors may differ in number
    torch.testing.assert_close(merge_dot_models(dots)(USERS, ITEMS), Ensemble(dots)(USERS, ITEMS), atol=1e-5, rtol=1e-5)
    linear = [some(EmbeddingDotBias, seed=k) for k in range(n)]                     # so that means commute
    torch.testing.assert_close(merge_dot_models(linear).cross(USERS, ITEMS), Ensemble(linear).cross(USERS, ITEMS),
                               atol=1e-5, rtol=1e-5)


def test_folding_draws_no_random_number_and_leaves_the_models_alone():
    models = [some(EmbeddingDotBias, seed=k) for k in range(2)]
    before, state = copy.deepcopy(models[0].state_dict()), torch.get_rng_state()
    merge_dot_models(models).u_weight.weight.data.zero_()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[name]) for name, t in models[0].state_dict().items())


def test_models_that_do_not_belong_together_are_refused():
    dot, bias = some(EmbeddingDot), some(EmbeddingDotBias)
    for models, message in (([dot, bias], "EmbeddingDot, EmbeddingDotBias"), ([some(EmbeddingNet)], "EmbeddingNet"),
                            ([], "got none"), ([bias, some(EmbeddingDotBias, RANGE)], "differ in y_range"),
                            ([dot, EmbeddingDot(3, 6, 9)], "differ in n_items: 8, 9")):
        with pytest.raises(ValueError, match=message):
            merge_dot_models(models)
    with pytest.raises(ValueError, match="differ in n_users"):
        Ensemble([dot, EmbeddingDot(3, 5, 8)])
    with pytest.raises(ValueError, match="no models"):
        Ensemble([])


# Learners ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", ["dot_bias", "net", "classifier"])
def test_learners_of_several_seeds_become_one_that_is_exported_as_any_other(data, model, tmp_path):
    learners = [learner(data, model, seed) for seed in range(3)]
    for learn in learners:
        learn.fit(1)
    before = [copy.deepcopy(learn.model.state_dict()) for learn in learners]
    whole = average_learners(learners, merge=False)
    mean = sum(scores(learn.model, data) for learn in learners) / 3
    torch.testing.assert_close(whole.get_preds()[0], mean.clamp(1, 5))
    assert whole.validate()["rmse"] == pytest.approx((mean.clamp(1, 5) - data.valid.tensors[2]).square().mean() ** 0.5)
    loaded = load_learner(whole.export(tmp_path / "m.safetensors"), device="cpu")
    assert loaded.model.config == whole.model.config and type(loaded.loss_func) is type(whole.loss_func)
    pd.testing.assert_frame_equal(loaded.recommend([1, 2]), whole.recommend([1, 2]), check_exact=True)
    assert torch.equal(loaded.get_preds(data.valid)[0], whole.get_preds()[0])
    whole.fit(1)                            # all members at once, with a fresh optimizer
    assert [g["name"] for g in whole.opt.param_groups] == [g["name"] for g in learners[0].opt.param_groups]
    assert all(torch.equal(t, old[name]) for learn, old in zip(learners, before)
               for name, t in learn.model.state_dict().items())


def test_the_unknown_row_of_every_member_is_its_average(data):
    whole = average_learners([learner(data, seed=k) for k in range(2)], merge=False)
    whole.fit(1)
    for member in whole.model.members:
        torch.testing.assert_close(member.u_weight.weight[0], member.u_weight.weight[1:].mean(0))
    with pytest.warns(UserWarning, match="average user"):
        whole.predict(10**6, 1)
    with pytest.raises(DataError, match="Ensemble learns no factors of items"):
        whole.similar_items(1)


def test_a_folded_learner_interprets_and_recommends_as_any_other(data):
    learners = [learner(data, seed=k) for k in range(2)]
    for learn in learners:
        learn.fit(2)
    whole = average_learners(learners)
    assert type(whole.model) is EmbeddingDotBias and whole.model.config["n_factors"] == 6
    np.testing.assert_allclose(whole.bias(), (learners[0].bias() + learners[1].bias()) / 2, atol=1e-7)
    interp = CollabInterpretation(whole)
    assert len(interp.biases()) == 15 and interp.explain(1, 2).parts is not None
    with pytest.warns(UserWarning, match="average"):
        assert 1 <= whole.predict("nobody" if data.users.kind == "string" else 10**6, 1) <= 5


def test_learners_that_do_not_belong_together_are_refused(data):
    other = CollabDataBunch.from_df(synthetic(n_users=50, n_items=40, n_ratings=900, seed=1).ratings, seed=0)
    with pytest.raises(DataError, match="different users or items"):
        average_learners([learner(data), learner(other)])
    with pytest.raises(ValueError, match="no learners"):
        average_learners([])
    with pytest.raises(ValueError, match="EmbeddingNet"):
        average_learners([learner(data), learner(data, "net")], merge=True)
    mixed = average_learners([learner(data), learner(data, "classifier")])
    assert mixed.loss_func is mse and mixed.validate()["rmse"] > 0
    assert isinstance(average_learners([learner(data, "classifier")] * 2).loss_func, RatingCrossEntropy)


def test_an_ensemble_of_ones_own_models_is_loaded_into_one_that_is_built_again(data, tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.who = nn.Embedding(data.n_users, 1)

        def forward(self, users, items):
            return self.who(users)[:, 0]

    whole = average_learners([collab_learner(data, Own()) for _ in range(2)])
    path = whole.export(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="Ensemble, a member of which is a plain module"):
        load_learner(path)
    loaded = load_learner(path, model=Ensemble([Own(), Own()]), device="cpu")
    assert torch.equal(loaded.get_preds(data.valid)[0], whole.get_preds()[0])


# Snapshots --------------------------------------------------------------------------------------------------------

class Weights(Callback):
    """The weights at the end of every epoch."""

    def before_fit(self):
        self.kept = []

    def after_train(self):
        self.kept.append(copy.deepcopy(self.learn.model))


@pytest.mark.parametrize(("model", "folded", "cls"), [
    ("dot_bias", None, EmbeddingDotBias), ("dot_bias", False, Ensemble), ("net", None, Ensemble),
    ("classifier", None, Ensemble)])
def test_a_learner_predicts_with_the_mean_of_the_ends_of_its_cycles(data, model, folded, cls):
    learn, watch, snap = learner(data, model), Weights(), SnapshotEnsemble(merge=folded)
    learn.fit_sgdr(3, cycle_len=1, cycle_mult=2, cbs=[watch, snap])
    ends = [watch.kept[k] for k in (0, 2, 6)]                   # epochs 1, 1 + 2, 1 + 2 + 4
    assert len(snap.snapshots) == 3 and type(learn.model) is cls
    for model, weights in zip(ends, snap.snapshots):
        assert all(torch.equal(t, weights[name]) for name, t in model.state_dict().items())
    whole = merge_dot_models(ends) if cls is EmbeddingDotBias else Ensemble(ends)
    torch.testing.assert_close(scores(learn.model, data), scores(whole, data))
    with torch.no_grad():
        loss = learn.loss_func(whole.eval()(*data.valid.tensors[:2]), data.valid.tensors[2]).item()
    assert learn.validate()["valid_loss"] == pytest.approx(loss, rel=1e-5)
    assert len(learn.recorder.rows) == 7
    for table in learn.model.modules():                         # row 0 of all tables is the average
        if isinstance(table, nn.Embedding):
            torch.testing.assert_close(table.weight[0], table.weight[1:].mean(0))
    learn.fit(1)                                                # with a fresh optimizer


def test_during_the_fit_the_weights_in_training_are_validated_and_trained(data):
    plain, snapped = learner(data), learner(data)
    plain.fit_sgdr(2, cycle_len=2, cycle_mult=1)
    snapped.fit_sgdr(2, cycle_len=2, cycle_mult=1, cbs=SnapshotEnsemble(n=1))
    same = ["train_loss", "valid_loss", "rmse"]
    assert plain.recorder.frame()[same].equals(snapped.recorder.frame()[same])
    torch.testing.assert_close(scores(plain.model, data), scores(snapped.model, data), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("options", "epochs"), [({"every": 1}, [0, 1, 2, 3, 4]), ({"every": 2}, [0, 2, 4]),
                                                 ({"every": 1, "n": 2}, [3, 4]), ({"every": 9}, [4])])
def test_every_so_many_epochs_are_counted_back_from_the_last(data, options, epochs):
    learn, watch, snap = learner(data), Weights(), SnapshotEnsemble(**options)
    learn.fit_one_cycle(5, cbs=[watch, snap])
    assert [next(k for k, m in enumerate(watch.kept) if torch.equal(m.u_weight.weight, w["u_weight.weight"]))
            for w in snap.snapshots] == epochs


def test_a_fit_that_is_cut_off_keeps_its_weights_and_what_was_copied(data):
    class Stop(Callback):
        def after_epoch(self):
            if self.learn.epoch == 1:
                raise self.how

    for how in (CancelFit, KeyboardInterrupt):
        learn, snap, stop = learner(data), SnapshotEnsemble(every=1), Stop()
        stop.how = how
        model = learn.model
        learn.fit(4, cbs=[snap, stop])
        assert learn.model is model and len(snap.snapshots) == 2
        assert snap.combined().config["n_factors"] == 6
        learn.fit(1)


def test_a_resumed_fit_ends_with_the_same_ensemble(data, tmp_path):
    class Stop(Callback):
        order = 200

        def after_batch(self):
            if self.learn.training and (self.learn.epoch, self.learn.i) == (2, 7):
                raise KeyboardInterrupt

    for every in (None, 5):
        whole = learner(data)
        whole.fit_sgdr(2, 1, cbs=[SnapshotEnsemble(merge=False), Batchwise()])
        cut, path = learner(data), tmp_path / "c.safetensors"
        cut.fit_sgdr(2, 1, cbs=[SnapshotEnsemble(merge=False), Checkpoint(path, every), Stop()])
        resumed = learner(data)
        resumed.fit_sgdr(2, 1, cbs=[SnapshotEnsemble(merge=False), Batchwise()], resume=path)
        assert all(torch.equal(t, resumed.model.state_dict()[name]) for name, t in whole.model.state_dict().items())


def test_fits_without_cycles_and_rivals_for_the_weights_are_refused(data):
    learn = learner(data)
    with pytest.raises(TypeError, match="no cycles"):
        learn.fit(1, cbs=SnapshotEnsemble())
    for rival in (SWA(), SaveBest()):
        with pytest.raises(TypeError, match="both decide"):
            learn.fit(1, cbs=[SnapshotEnsemble(every=1), rival])
    learn.fit(2, cbs=[SnapshotEnsemble(every=1), SWA(keep=False), SaveBest(restore=False)])
    for options in ({"n": 0}, {"every": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            SnapshotEnsemble(**options)


# Models beside each other -----------------------------------------------------------------------------------------

def hybrid_data():
    """With cold items, 41 to 50, whose kind says what they are liked for."""
    rng = np.random.default_rng(0)
    ratings = pd.DataFrame({"user": rng.integers(1, 31, 800), "item": rng.integers(1, 41, 800)})
    ratings = ratings.drop_duplicates()
    ratings["rating"] = np.where(ratings["item"] % 2, 4.5, 1.5) + rng.integers(-1, 2, len(ratings)) / 2
    items = pd.DataFrame({"item": range(1, 51), "kind": ["odd", "even"] * 25})
    return CollabDataBunch.from_df(ratings, items=items, item_features=["kind"], seed=0, bs=64, device="cpu")


def test_a_folded_hybrid_keeps_what_its_members_say_of_cold_items_and_unknown_users(tmp_path):
    learners = [learner(hybrid_data(), "hybrid", seed) for seed in range(2)]
    for learn in learners:
        learn.fit_one_cycle(8, lr_max=0.05)
    folded = average_learners(learners, merge=True)
    assert folded.predict(1, 49) > folded.predict(1, 50) + 1
    users, items = torch.tensor([0, 0, 3, 3]), torch.tensor([0, 49, 50, 0])
    low, high = folded.model.y_range
    logits = [torch.logit((learn.model.eval()(users, items) - low) / (high - low)) for learn in learners]
    torch.testing.assert_close(folded.model.eval()(users, items), low + (high - low) * (sum(logits) / 2).sigmoid(),
                               atol=1e-5, rtol=1e-5)
    loaded = load_learner(folded.export(tmp_path / "m.safetensors"), device="cpu")
    loaded.save(tmp_path / "c.safetensors")
    loaded.load(tmp_path / "c.safetensors")         # which fills the unknown rows of models that average them
    assert loaded.predict(1, 49) == folded.predict(1, 49) and loaded.model.unknown_row


def test_an_ensemble_multiplies_the_ratings_once_for_many_recommendations(data, monkeypatch):
    whole = average_learners([learner(data, "svdpp", seed=k) for k in range(2)])
    mean = whole.model.cross(torch.arange(5), torch.arange(9))
    torch.testing.assert_close(whole.model.scorer()(torch.arange(5), torch.arange(9)), mean)
    calls, own = [], SVDpp._sums
    monkeypatch.setattr(SVDpp, "_sums", lambda model, side: calls.append(side) or own(model, side))
    monkeypatch.setattr("collab.retrieval.topk.MAX_SCORES", 64)
    whole.recommend([*range(1, 30)], n=3)
    assert calls == ["u", "i"] * 2
    assert not Ensemble([some(EmbeddingDot), some(EmbeddingNet)]).crosses
