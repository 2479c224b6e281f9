"""Steps that are left out or come late, and callbacks and fits that are given impossible numbers."""

import contextlib
import math

import pytest
import torch
from helpers import X, Y, fit_quietly, line_learner, raise_at, scaled_on_a_cpu, some_cb
from torch import nn

from collab import (
    EMA,
    SWA,
    Callback,
    CancelBatch,
    CancelEpoch,
    CancelStep,
    CancelTrain,
    DataBunch,
    EarlyStopping,
    GradientAccumulation,
    GradientClip,
    Learner,
    MixedPrecision,
    ReduceLROnPlateau,
    ShortEpoch,
    TensorBatches,
    Threads,
)
from collab.losses import mse


def gradient(model, x, y):
    return torch.autograd.grad(mse(model(x), y), model.weight)[0].item()


def steps(*cbs, epochs=1, **options):
    """The gradients of every step of a fit at rate 0, over batches of 4, 4 and 2 rows, and the learner."""
    seen = []
    watch = some_cb("Watch", order=90, after_step=lambda self: seen.append(self.learn.model.weight.grad.item()))
    learn = line_learner([*cbs, watch], opt_func=torch.optim.SGD, **{"lr": 0.0, **options})
    fit_quietly(learn, epochs)
    return seen, learn


def cancelling(event, error, i, order=0.0):
    """A callback that raises `error` in one batch of training, the `i`-th of each epoch."""
    def method(self):
        if self.learn.training and self.learn.i == i:
            raise error
    return some_cb("Cancelling", order, **{event: method})


# Accumulation ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("event", "order"), [("before_batch", -50), ("before_batch", 50), ("after_pred", 0),
                                              ("after_loss", 0), ("after_backward", 10)])
@pytest.mark.parametrize("error", [CancelBatch(), CancelTrain()])
def test_rows_make_their_step_where_the_last_batch_or_the_rest_is_cancelled(event, order, error):
    """The loss of the last batch is in the gradients where it was cancelled after them."""
    seen, learn = steps(GradientAccumulation(100), cancelling(event, error, 2, order))
    rows = 10 if event == "after_backward" else 8
    assert seen == pytest.approx([gradient(learn.model, X[:rows], Y[:rows])], rel=1e-5)


def test_what_is_left_out_at_its_end_counts_towards_no_other_epoch():
    seen, learn = steps(GradientAccumulation(100), cancelling("after_pred", CancelTrain(), 1), epochs=3)
    assert seen == pytest.approx([gradient(learn.model, X[:4], Y[:4])] * 3, rel=1e-5)


def test_the_late_step_is_clipped_and_unscaled_like_any_other(monkeypatch):
    cancel = cancelling("after_pred", CancelTrain(), 2)
    plain, _ = steps(GradientAccumulation(100), GradientClip(0.5), cancel)
    scaled, _ = steps(GradientAccumulation(100), GradientClip(0.5), cancel, MixedPrecision())
    both, _ = steps(GradientAccumulation(100), GradientClip(0.5), cancel, scaled_on_a_cpu(monkeypatch))
    assert both == scaled == pytest.approx(plain, rel=1e-2) and abs(plain[0]) < 0.5


@pytest.mark.parametrize("error", [CancelEpoch(), KeyboardInterrupt(), ZeroDivisionError()])
def test_a_training_that_is_cut_off_makes_no_late_step_and_leaves_no_gradients(error):
    learn = line_learner([GradientAccumulation(100), cancelling("after_pred", error, 2)], lr=0.5)
    before = learn.model.weight.item()
    with contextlib.suppress(ZeroDivisionError):
        fit_quietly(learn)
    assert learn.model.weight.item() == before and learn.model.weight.grad is None


def test_the_late_step_is_validated_and_averaged():
    """Without it the weights of the epoch, the validation and the average would be those from before the fit."""
    cancel = cancelling("after_pred", CancelTrain(), 2)
    learn = line_learner([GradientAccumulation(100), cancel, swa := SWA()], opt_func=torch.optim.SGD, lr=0.1)
    before, grad = learn.model.weight.item(), gradient(learn.model, X[:8], Y[:8])
    fit_quietly(learn, 1)
    assert swa.n == 1 and learn.model.weight.item() == pytest.approx(before - 0.1 * grad, rel=1e-5)
    assert learn.recorder.rows[0]["valid_loss"] == pytest.approx(learn.validate()["valid_loss"])


@pytest.mark.parametrize("order", [0, 40])
def test_a_step_that_is_left_out_is_made_with_the_next_rows(order):
    """Before accumulation has divided the gradients by their rows, or after it."""
    seen, learn = steps(GradientAccumulation(4), cancelling("after_backward", CancelStep(), 0, order))
    assert seen == pytest.approx([gradient(learn.model, X[:8], Y[:8]), gradient(learn.model, X[8:], Y[8:])], rel=1e-5)


# Mixed precision ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("cut", [CancelStep(), CancelBatch()])
@pytest.mark.parametrize("accumulation", [[], [GradientAccumulation(4)]])
def test_a_step_that_is_left_out_after_unscaling_breaks_no_later_batch(monkeypatch, cut, accumulation):
    def gradients(precision):
        return steps(precision, *accumulation, cancelling("after_backward", cut, 0, order=40), epochs=2)[0]
    assert gradients(scaled_on_a_cpu(monkeypatch)) == gradients(MixedPrecision())       # a scale of 2^10: to the bit


def test_a_checkpoint_of_a_step_that_was_left_out_goes_on_as_the_fit_did(monkeypatch, tmp_path):
    from collab import Checkpoint

    def fitted(*cbs, **options):
        learn = line_learner([scaled_on_a_cpu(monkeypatch), cancelling("after_backward", CancelStep(), 0, order=40),
                              *cbs], bs=2)
        fit_quietly(learn, 2, **options)
        return learn.model.weight.item()
    whole = fitted()
    stop = cancelling("before_batch", KeyboardInterrupt(), 1, order=200)
    fitted(Checkpoint(tmp_path / "c", every=1), stop)
    assert fitted(resume=tmp_path / "c") == whole


# Averages -------------------------------------------------------------------------------------------------------------

def test_an_epoch_that_ended_early_counts_towards_the_mean_of_the_epochs():
    weights = []
    after = some_cb(order=-99, cleanup_train=lambda self: weights.append(self.learn.model.weight.item()))
    learn = line_learner([swa := SWA(), after, cancelling("after_step", CancelTrain(), 1)])
    fit_quietly(learn, 3)
    assert swa.n == 3 and learn.model.weight.item() == pytest.approx(sum(weights) / 3, rel=1e-5)


def test_an_epoch_that_was_cut_off_does_not_count_towards_the_mean():
    learn = line_learner([swa := SWA(keep=False), raise_at("after_loss", CancelEpoch(), at=7)])
    fit_quietly(learn, 3)
    assert swa.n == 2


# Numbers that cannot be -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("make", "said"), [
    (lambda: GradientClip(0), "max_norm must be a finite number above 0, got 0"),
    (lambda: GradientClip(None), "max_norm must be a finite number above 0, got None"),
    (lambda: GradientAccumulation(None), "n must be a whole number, at least 1, got None"),
    (lambda: GradientAccumulation(2.5), "n must be a whole number, at least 1, got 2.5"),
    (lambda: Threads(0), "n must be a whole number, at least 1, got 0"),
    (lambda: ShortEpoch(1.5), "n must be a whole number, at least 1, got 1.5"),
    (lambda: ShortEpoch(0), "n must be a finite number above 0, got 0"),
    (lambda: ShortEpoch(math.inf), "n must be a whole number"),
    (lambda: EMA(None), "decay must be a finite number above 0, got None"),
    (lambda: EMA(1), "decay must lie between 0 and 1"),
    (lambda: SWA(-1), "start must be a whole number, at least 0, got -1"),
    (lambda: EarlyStopping(patience=None), "patience must be a whole number, at least 0, got None"),
    (lambda: ReduceLROnPlateau(patience="2"), "patience must be a whole number, at least 0, got '2'"),
    (lambda: line_learner().fit_one_cycle(1, moms=(0.9, 0.8)), r"three numbers .* or None; got \(0.9, 0.8\)"),
    (lambda: line_learner().fit_one_cycle(1, moms=(0.9, 1.0, 0.9)), "at least 0 and below 1"),
    (lambda: line_learner().fit_one_cycle(1, moms=0.9), "three numbers"),
    (lambda: line_learner().fit_one_cycle(1, div=0), "div must be a finite number above 0, got 0"),
    (lambda: line_learner().fit_one_cycle(1, div_final=-1), "div_final must be a finite number above 0"),
    (lambda: line_learner().fit_flat_cos(1, div_final=0), "div_final must be a finite number above 0"),
    (lambda: line_learner().fit_flat_cos(1, pct_start=None), "pct_start is a fraction")])
def test_impossible_numbers_are_named_before_anything_is_trained(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_whole_numbers_may_be_written_as_floats_and_patience_may_be_none_at_all():
    assert GradientAccumulation(8.0).n == 8 and ShortEpoch(2.0).n == 2 and EarlyStopping(patience=0).patience == 0


# Targets that are no float32 ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.float64, torch.float16])
@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_a_learner_trains_on_targets_of_any_number_type(loss, dtype):
    from collab import DataBunch, Learner, losses
    y = (X[:, 0] > 0).to(dtype)

    def fitted(targets):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 1), nn.Flatten(0))
        learn = Learner(DataBunch([(X, targets)], [(X, targets)], device="cpu"), model, getattr(losses, loss), lr=0.1)
        fit_quietly(learn, 2)
        return [*(row[key] for row in learn.recorder.rows for key in ("train_loss", "valid_loss")),
                model[0].weight.item()]
    assert fitted(y) == pytest.approx(fitted(y.float()), rel=1e-6)


# What each callback of single steps does ----------------------------------------------------------------------------

def test_accumulated_steps_equal_those_of_the_large_batch():
    def weights(bs, cbs):
        torch.manual_seed(0)
        x, y = torch.randn(50, 4), torch.randn(50, 1)
        learn = Learner(DataBunch(TensorBatches(x, y, bs=bs), device="cpu"), nn.Linear(4, 1).double().float(),
                        opt_func=torch.optim.SGD, lr=0.1, cbs=cbs)
        torch.manual_seed(1)
        for p in learn.model.parameters():
            nn.init.normal_(p)
        fit_quietly(learn, 3)
        return torch.cat([p.flatten() for p in learn.model.parameters()]), learn.recorder.rows[-1]["train_loss"]
    # steps of 16 rows from batches of 4; from batches of 7 they would be of 21: 50 rows leave a shorter last step
    for small, large in ((4, 16), (7, 21)):
        (one, loss), (many, mean) = weights(large, None), weights(small, GradientAccumulation(large))
        torch.testing.assert_close(one, many, rtol=1e-5, atol=1e-6)
        assert loss == pytest.approx(mean, rel=1e-5)        # what is recorded is the loss, not its weighted form


def test_accumulation_and_clipping_work_together():
    norms = []

    class Watch(Callback):
        def after_step(self):
            norms.append(torch.cat([p.grad.flatten() for p in self.learn.model.parameters()]).norm().item())
    fit_quietly(line_learner([Watch(), GradientClip(0.5), GradientAccumulation(8)], lr=0.0), 1)
    assert norms == pytest.approx([0.5, 0.5])               # ten rows in steps of eight and two; both gradients larger


def test_clipping_leaves_small_gradients_alone():
    def weight(cbs):
        learn = line_learner(cbs, opt_func=torch.optim.SGD)
        fit_quietly(learn, 1)
        return learn.model.weight.item()
    assert weight(GradientClip(1e6)) == weight(None) != weight(GradientClip(0.01))


@pytest.mark.parametrize(("n", "batches"), [(2, 2), (0.5, 2), (0.01, 1), (99, 3)])
def test_a_short_epoch_has_its_first_batches_only(n, batches):
    learn = line_learner(ShortEpoch(n))
    fit_quietly(learn, 2)
    assert len(learn.recorder.losses) == 2 * batches and len(learn.recorder.rows) == 2


def test_a_schedule_over_short_epochs_goes_to_its_end():
    learn = line_learner(ShortEpoch(2), bs=1)
    with learn.no_logging():
        learn.fit_flat_cos(4, lr=1.0, pct_start=0.5, div_final=10)
    assert learn.recorder.lrs[:5] == [1.0] * 5 and learn.recorder.lrs[-1] < 0.3 and len(learn.recorder.lrs) == 8


def test_accumulated_gradients_end_with_their_epoch():
    whole = line_learner([GradientAccumulation(8), ShortEpoch(1)], opt_func=torch.optim.SGD)
    fit_quietly(whole, 2)                                   # one batch of 4 rows an epoch: a step of its own each
    plain = line_learner(ShortEpoch(1), opt_func=torch.optim.SGD)
    fit_quietly(plain, 2)
    torch.testing.assert_close(whole.model.weight, plain.model.weight)


def test_training_uses_the_threads_it_was_told_and_gives_them_back():
    seen, before = [], torch.get_num_threads()

    class Look(Callback):
        def after_batch(self):
            seen.append(torch.get_num_threads())
    torch.set_num_threads(2)
    try:
        fit_quietly(line_learner([Threads(1), Look()]), 1)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_rows_count_towards_a_step_also_when_another_callback_leaves_the_step_out():
    class SkipFirst(Callback):
        def after_backward(self):
            if self.learn.i == 0:
                raise CancelStep
    grads = []

    class Watch(Callback):
        def after_step(self):
            grads.append(self.learn.model.weight.grad.item())
    learn = line_learner([SkipFirst(), GradientAccumulation(4), Watch()], opt_func=torch.optim.SGD, lr=0.0)
    fit_quietly(learn, 1)
    whole = torch.autograd.grad(learn.loss_func(learn.model(X[:8]), Y[:8]), learn.model.weight)[0].item()
    assert grads[0] == pytest.approx(whole)                     # the mean over both batches, not over one
