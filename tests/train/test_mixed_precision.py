"""MixedPrecision: where it changes what is computed, and where it says that it does not."""

import warnings

import pytest
import torch
from helpers import Batchwise, X, fit_quietly, line_learner, scaled_on_a_cpu
from torch import nn

from collab import (
    RMSE,
    Callback,
    CollabDataBunch,
    CollabWarning,
    EmbeddingDot,
    GradientAccumulation,
    GradientClip,
    MixedPrecision,
    ShortEpoch,
    collab_learner,
    synthetic,
)


@pytest.mark.parametrize("model", ["dot", "dot_bias", "bpr"])
def test_mixed_precision_says_where_it_changes_nothing(model):
    data = CollabDataBunch.from_df(synthetic(n_users=30, n_items=20, n_ratings=300).ratings, seed=0)

    def losses(*cbs):
        learn = collab_learner(data, model, n_factors=4, cbs=cbs, metrics=[])
        fit_quietly(learn, 1)
        return learn.recorder.losses
    with pytest.warns(CollabWarning, match=r"changes nothing in EmbeddingDot(Bias)? on batches of 64: .* bfloat16"):
        mixed = losses(MixedPrecision())
    assert mixed.tolist() == losses(Batchwise()).tolist()


@pytest.mark.parametrize(("model", "n", "bs"), [("net", 300, 64), ("classifier", 300, 64), ("own", 24_000, 20_000)])
def test_mixed_precision_changes_what_matrix_products_compute(model, n, bs):
    ratings = synthetic(n_users=200, n_items=150, n_ratings=n).ratings
    data = CollabDataBunch.from_df(ratings, seed=0, bs=bs)      # so large a batch is one product of all factors

    def first(*cbs):
        torch.manual_seed(0)
        module = EmbeddingDot(16, data.n_users, data.n_items, init_std=0.5) if model == "own" else model
        learn = collab_learner(data, module, n_factors=16, cbs=[ShortEpoch(1), *cbs])
        fit_quietly(learn, 1)
        return learn.recorder.losses[0]
    plain, mixed = first(), first(MixedPrecision())             # any warning would be an error
    assert mixed != plain and mixed == pytest.approx(plain, rel=0.02)


# Steps and scales ---------------------------------------------------------------------------------------------------

def test_mixed_precision_computes_in_bfloat16_and_reports_float32():
    seen = []

    class Half(nn.Linear):
        def forward(self, x):
            seen.append((out := super().forward(x)).dtype)
            return out
    learn = line_learner(MixedPrecision(), metrics=RMSE())
    learn.model = Half(1, 1)
    fit_quietly(learn, 5)
    assert set(seen) == {torch.bfloat16} and learn.model.weight.dtype == torch.float32
    assert learn.recorder.losses.dtype == "float32" and learn.get_preds()[0].dtype == torch.float32
    assert learn.recorder.rows[-1]["train_loss"] < learn.recorder.rows[0]["train_loss"]
    exact = learn.model(X[:8]).float()
    torch.testing.assert_close(learn.get_preds()[0], exact, rtol=1e-2, atol=1e-2)


def test_mixed_precision_matches_full_precision_on_ratings():
    def rmse(cbs):
        data = CollabDataBunch.from_df(synthetic().ratings, seed=0)
        learn = collab_learner(data, "net", cbs=cbs)
        with learn.no_logging():
            learn.fit_one_cycle(3)
        return learn.validate()["rmse"]
    assert rmse(MixedPrecision()) == pytest.approx(rmse(None), abs=0.01)


def test_float16_without_a_gpu_says_what_to_use(monkeypatch):
    with pytest.raises(ValueError, match=r"on a CPU use MixedPrecision\(torch.bfloat16\)"):
        fit_quietly(line_learner(MixedPrecision(torch.float16)), 1)
    with pytest.raises(ValueError, match="bfloat16 or torch.float16"):
        MixedPrecision(torch.float64)


def test_a_scaled_loss_gives_the_same_steps_with_clipping_and_accumulation(monkeypatch):
    def weights(precision):
        learn = line_learner([precision, GradientClip(0.5), GradientAccumulation(8)], opt_func=torch.optim.SGD)
        fit_quietly(learn, 3)
        return learn.model.weight, learn.model.bias
    # a scale that is a power of two changes exponents only, so that the steps are equal to the bit
    for plain, scaled in zip(weights(MixedPrecision()), weights(scaled_on_a_cpu(monkeypatch))):
        assert torch.equal(plain, scaled)


def test_gradients_that_overflow_leave_the_step_out_and_lower_the_scale(monkeypatch):
    learn = line_learner(precision := scaled_on_a_cpu(monkeypatch), valid=False)
    before = learn.model.weight.item()
    learn.loss_func = lambda pred, target: (pred * float("inf")).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit_quietly(learn, 1)
    assert learn.model.weight.item() == before and precision.scaler.get_scale() == 1024 / 2**3


def test_a_fit_that_was_cut_off_in_mid_step_can_go_on_and_its_scale_is_kept(monkeypatch):
    class Stop(Callback):
        order = 26                                              # after the gradients were unscaled

        def after_backward(self):
            raise KeyboardInterrupt
    learn = line_learner(precision := scaled_on_a_cpu(monkeypatch))
    fit_quietly(learn, 1, cbs=Stop())
    assert learn.interrupted
    fit_quietly(learn, 1)
    assert not learn.interrupted and precision.scaler.get_scale() == 1024
    other = scaled_on_a_cpu(monkeypatch)
    other.load_state_dict({"scaler": {**precision.state_dict()["scaler"], "scale": 8.0}})
    assert other.scaler.state_dict()["scale"] == 8.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 with a scaled loss needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_on_a_gpu(dtype):
    data = CollabDataBunch.from_df(synthetic().ratings, seed=0, device="cuda")
    cbs = [MixedPrecision(dtype), GradientClip(1.0), GradientAccumulation(128)]
    learn = collab_learner(data, "classifier", cbs=cbs)
    with learn.no_logging():
        learn.fit_one_cycle(3)
    assert learn.validate()["rmse"] < 0.9
