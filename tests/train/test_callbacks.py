"""The callbacks that ship: each against numbers worked out by hand or by another way of computing them."""

import copy
import csv
import math
import warnings

import pytest
import torch
from test_loop import X, Y, fit_quietly, line_learner
from torch import nn

from collab import (
    EMA,
    RMSE,
    SWA,
    Callback,
    CancelBatch,
    CancelStep,
    CancelValidate,
    Checkpoint,
    CollabDataBunch,
    CSVLogger,
    DataBunch,
    EarlyStopping,
    GradientAccumulation,
    GradientClip,
    Learner,
    MixedPrecision,
    ReduceLROnPlateau,
    SaveBest,
    ShortEpoch,
    ShowGraph,
    TensorBatches,
    TensorBoard,
    TerminateOnNaN,
    Threads,
    collab_learner,
    synthetic,
)


class Scripted(Callback):
    """Makes the validation loss what a script says, epoch by epoch; the weights are the number of the epoch."""

    order = 5

    def __init__(self, losses):
        self.losses = losses

    def after_epoch(self):
        self.learn.recorder.rows[-1]["valid_loss"] = self.losses[self.learn.epoch]

    def after_train(self):
        with torch.no_grad():
            self.learn.model.weight.fill_(self.learn.epoch)


def scripted(losses, cb, **options):
    learn = line_learner([Scripted(losses), cb], **options)
    fit_quietly(learn, len(losses))
    return learn


# Trackers ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("patience", "min_delta", "epochs"), [(1, 0, 4), (2, 0, 6), (9, 0, 6), (2, 0.5, 5)])
def test_early_stopping_waits_as_long_as_it_was_told(patience, min_delta, epochs):
    # better at 0, 1, 2 and 4; with min_delta 0.5 only at 0, 1 and 2
    learn = scripted([5, 4, 3, 3.2, 2.9, 3.1], EarlyStopping(patience=patience, min_delta=min_delta))
    assert len(learn.recorder.rows) == epochs


def test_a_new_fit_begins_to_wait_anew():
    stop = EarlyStopping(patience=1)
    learn = scripted([1, 2, 3], stop)
    assert len(learn.recorder.rows) == 2
    fit_quietly(learn, 3)
    assert len(learn.recorder.rows) == 4 and stop.best == 1




def test_watching_what_is_not_recorded_says_what_is():
    with pytest.raises(ValueError, match="EarlyStopping watches 'ndcg', but what is recorded is epoch, train_loss"):
        fit_quietly(line_learner(EarlyStopping("ndcg")), 1)


@pytest.mark.parametrize(("restore", "weight"), [(True, 2), (False, 4)])
def test_the_best_weights_come_back_at_the_end_if_asked_for(restore, weight):
    learn = scripted([5, 4, 3, 3.2, 3.1], SaveBest(restore=restore))
    assert learn.model.weight.item() == weight


def test_the_best_weights_are_in_the_file(tmp_path):
    learn = scripted([5, 3, 4], SaveBest(path=tmp_path / "best", restore=False))
    assert learn.model.weight.item() == 2
    learn.load(tmp_path / "best")
    assert learn.model.weight.item() == 1 and len(learn.recorder.rows) == 2


def test_the_rate_falls_on_a_plateau_and_not_below_its_floor():
    lrs = []

    class Watch(Callback):
        def before_epoch(self):
            lrs.append(self.learn.opt.param_groups[0]["lr"])
    learn = line_learner([Scripted([5, 5, 5, 4, 4, 4, 4]), ReduceLROnPlateau(patience=2, factor=0.1, min_lr=0.005),
                          Watch()], lr=1.0)
    fit_quietly(learn, 7)
    assert lrs == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    assert learn.opt.param_groups[0]["lr"] == pytest.approx(0.01)
    fit_quietly(line := line_learner([Scripted([1] * 9), ReduceLROnPlateau(patience=1, min_lr=0.005)], lr=1.0), 9)
    assert line.opt.param_groups[0]["lr"] == 0.005


def test_training_ends_at_a_loss_that_is_not_finite_before_it_reaches_the_weights(capsys):
    losses = iter([1.0, 1.0, math.nan])
    learn = line_learner(stop := TerminateOnNaN())
    learn.loss_func = lambda pred, target: pred.mean() * 0 + pred.mean() * next(losses)
    fit_quietly(learn, 3)
    assert stop.stopped and torch.isfinite(learn.model.weight).all() and not learn.recorder.rows
    assert "nan in epoch 0, batch 2" in capsys.readouterr().out


# Steps ------------------------------------------------------------------------------------------------------------

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


def scaled_on_a_cpu(monkeypatch):
    """MixedPrecision with the scaled loss that float16 has on a GPU, in bfloat16 on a CPU."""
    monkeypatch.setattr("collab.train.callbacks.steps._scaler",
                        lambda dtype: torch.amp.GradScaler("cpu", init_scale=1024.0))
    return MixedPrecision()


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


@pytest.mark.parametrize(("n", "batches"), [(2, 2), (0.5, 2), (0.01, 1), (99, 3)])
def test_a_short_epoch_has_its_first_batches_only(n, batches):
    learn = line_learner(ShortEpoch(n))
    fit_quietly(learn, 2)
    assert len(learn.recorder.losses) == 2 * batches and len(learn.recorder.rows) == 2


# Averages ---------------------------------------------------------------------------------------------------------

class Weights(Callback):
    """Keeps a copy of the weight after every step and after every training part."""

    order = -99

    def __init__(self):
        self.steps, self.epochs, self.validated = [], [], []

    def after_step(self):
        self.steps.append(self.learn.model.weight.item())

    def after_train(self):
        self.epochs.append(self.learn.model.weight.item())

    def after_pred(self):
        if not self.learn.training:
            self.validated.append(self.learn.model.weight.item())


def test_ema_follows_its_recurrence_and_validates_with_the_average():
    ema, seen = EMA(decay=0.8), Weights()
    learn = line_learner([seen, ema])
    fit_quietly(learn, 2)
    average, at_epoch = seen.steps[0], []
    for k, weight in enumerate(seen.steps[1:], start=1):
        average = 0.8 * average + 0.2 * weight
        if k in (2, 5):
            at_epoch.append(average)
    assert learn.model.weight.item() == pytest.approx(average, rel=1e-5)
    assert seen.validated == pytest.approx([at_epoch[0]] * 2 + [at_epoch[1]] * 2, rel=1e-5)


def test_averaging_does_not_disturb_the_weights_that_are_trained():
    plain = Weights()
    fit_quietly(line_learner(plain), 3)
    for average in (EMA(keep=False), SWA(keep=False)):
        learn = line_learner([averaged := Weights(), average])
        fit_quietly(learn, 3)
        assert averaged.steps == plain.steps and learn.model.weight.item() == plain.steps[-1]


def test_two_averages_at_once_are_refused():
    with pytest.raises(TypeError, match="EMA and SWA both average"):
        fit_quietly(line_learner([EMA(), SWA()]), 1)


def test_the_best_weights_are_those_that_were_validated():
    seen, best = Weights(), SaveBest()
    learn = line_learner([seen, EMA(decay=0.8), best], lr=0.3)
    fit_quietly(learn, 6)
    epoch = learn.recorder.frame()["valid_loss"].idxmin()
    assert learn.model.weight.item() == seen.validated[2 * epoch]
    assert learn.validate()["valid_loss"] == pytest.approx(best.best)


def test_swa_is_the_plain_mean_of_the_epochs():
    seen = Weights()
    learn = line_learner([seen, SWA(start=1)])
    fit_quietly(learn, 4)
    assert learn.model.weight.item() == pytest.approx(sum(seen.epochs[1:]) / 3, rel=1e-5)
    assert seen.validated[-1] == pytest.approx(sum(seen.epochs[1:]) / 3, rel=1e-5)


def test_an_error_while_validating_gives_the_trained_weights_back():
    class Fail(Callback):
        def after_pred(self):
            if not self.learn.training:
                raise ZeroDivisionError
    seen = Weights()
    learn = line_learner([seen, EMA(decay=0.5, keep=False), Fail()])
    with pytest.raises(ZeroDivisionError):
        fit_quietly(learn, 1)
    assert learn.model.weight.item() == seen.steps[-1]


# Loggers ----------------------------------------------------------------------------------------------------------

def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_log_is_the_frame(tmp_path):
    learn = line_learner(CSVLogger(tmp_path / "logs" / "h.csv"), metrics=RMSE())
    fit_quietly(learn, 2)
    fit_quietly(learn, 1)                                   # goes on in the same file
    learn.validate()                                        # looking writes nothing
    learn.get_preds()
    logged = rows_of(tmp_path / "logs" / "h.csv")
    frame = learn.recorder.frame()
    assert [list(row) for row in logged] == [list(frame)] * 3
    for name in frame:
        assert [float(row[name]) for row in logged] == frame[name].tolist()


def test_the_csv_log_begins_anew_or_goes_on(tmp_path):
    for append, n in ((False, 1), (False, 1), (True, 2)):
        fit_quietly(line_learner(CSVLogger(tmp_path / "h.csv", append=append)), 1)
        assert len(rows_of(tmp_path / "h.csv")) == n


def test_tensorboard_has_every_epoch(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    learn = line_learner(TensorBoard(tmp_path, every=2))
    fit_quietly(learn, 2)
    events = reader.EventAccumulator(str(tmp_path)).Reload()
    losses = [event.value for event in events.Scalars("epoch/valid_loss")]
    assert losses == pytest.approx(learn.recorder.frame()["valid_loss"].tolist())
    assert [event.step for event in events.Scalars("batch/loss")] == [0, 2, 4]


def test_tensorboard_without_its_package_says_what_to_install(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard$"):
        fit_quietly(line_learner(TensorBoard()), 1)


def test_the_graph_holds_both_losses():
    learn = line_learner(graph := ShowGraph(always=True))
    fit_quietly(learn, 3)
    training, valid = graph.figure.axes[0].get_lines()
    assert len(training.get_xdata()) == 9
    assert valid.get_ydata().tolist() == learn.recorder.frame()["valid_loss"].tolist()


def test_every_callback_can_be_used_with_every_other():
    learn = line_learner([EarlyStopping(), SaveBest(), ReduceLROnPlateau(), TerminateOnNaN(), GradientClip(1.0),
                          GradientAccumulation(8), MixedPrecision(), EMA(), ShortEpoch(2), ShowGraph(always=True)])
    before = copy.deepcopy(learn.model.state_dict())
    fit_quietly(learn, 3)
    assert not torch.equal(before["weight"], learn.model.weight) and torch.isfinite(learn.model(X) - Y).all()


# What goes wrong where callbacks meet ---------------------------------------------------------------------------------

def test_the_epoch_that_stops_the_fit_is_printed_and_logged(tmp_path, capsys):
    learn = line_learner([Scripted([5, 6, 7]), EarlyStopping(patience=1), CSVLogger(tmp_path / "h.csv")])
    with learn.no_bar():
        learn.fit(3)
    assert len(learn.recorder.rows) == len(rows_of(tmp_path / "h.csv")) == 2
    assert len(capsys.readouterr().out.splitlines()) == 3       # the header and two epochs


@pytest.mark.parametrize("average", [EMA(decay=0.5), SWA()])
def test_the_unknown_row_is_the_mean_of_the_rows_that_are_kept(average):
    data = CollabDataBunch.from_df(synthetic(n_ratings=3000).ratings, seed=0)
    learn = collab_learner(data, n_factors=3, cbs=average)
    fit_quietly(learn, 1)
    for table in (learn.model.u_weight, learn.model.i_weight, learn.model.u_bias, learn.model.i_bias):
        torch.testing.assert_close(table.weight[0], table.weight[1:].mean(0))


def test_a_checkpoint_from_the_middle_of_an_epoch_is_loaded_with_its_unknown_row(tmp_path):
    data = CollabDataBunch.from_df(synthetic(n_ratings=3000).ratings, seed=0)
    learn, other = collab_learner(data, n_factors=3), collab_learner(data, n_factors=3)
    fit_quietly(learn, 1, cbs=Checkpoint(tmp_path / "c", every=20))
    other.load(tmp_path / "c")
    torch.testing.assert_close(other.model.i_bias.weight[0], other.model.i_bias.weight[1:].mean(0))


def test_a_schedule_over_short_epochs_goes_to_its_end():
    learn = line_learner(ShortEpoch(2), bs=1)
    with learn.no_logging():
        learn.fit_flat_cos(4, lr=1.0, pct_start=0.5, div_final=10)
    assert learn.recorder.lrs[:5] == [1.0] * 5 and learn.recorder.lrs[-1] < 0.3 and len(learn.recorder.lrs) == 8


def test_an_average_is_kept_over_short_epochs_and_the_metrics_stay():
    learn = line_learner([swa := SWA(), ShortEpoch(1, valid=True)], metrics=RMSE())
    fit_quietly(learn, 3)
    assert swa.n == 3 and {"valid_loss", "rmse"} <= set(learn.recorder.rows[-1])


def test_accumulated_gradients_end_with_their_epoch():
    whole = line_learner([GradientAccumulation(8), ShortEpoch(1)], opt_func=torch.optim.SGD)
    fit_quietly(whole, 2)                                   # one batch of 4 rows an epoch: a step of its own each
    plain = line_learner(ShortEpoch(1), opt_func=torch.optim.SGD)
    fit_quietly(plain, 2)
    torch.testing.assert_close(whole.model.weight, plain.model.weight)


def test_the_csv_log_of_a_resumed_fit_has_every_epoch(tmp_path):
    class Stop(Callback):
        order = 101

        def after_batch(self):
            if self.learn.training and (self.learn.epoch, self.learn.i) == (2, 1):
                raise KeyboardInterrupt
    log, state = tmp_path / "h.csv", tmp_path / "c"
    fit_quietly(line_learner([CSVLogger(log), Checkpoint(state, every=1)]), 4, cbs=Stop())
    fit_quietly(resumed := line_learner(CSVLogger(log)), 4, resume=state)
    assert [int(row["epoch"]) for row in rows_of(log)] == [0, 1, 2, 3] == resumed.recorder.frame()["epoch"].tolist()


def test_every_cleanup_runs_even_if_one_of_them_fails():
    ran = []

    def cleaner(name, order, fails):
        def cleanup_fit(self):
            ran.append(name)
            if fails:
                raise ZeroDivisionError
        return type(name, (Callback,), {"cleanup_fit": cleanup_fit, "order": order})()
    with pytest.raises(ZeroDivisionError):
        fit_quietly(line_learner([cleaner("a", 1, False), cleaner("b", 2, True), cleaner("c", 3, False)]), 1)
    assert ran == ["a", "b", "c"]


def test_a_cancel_outside_its_scope_is_named():
    class Astray(Callback):
        def after_epoch(self):
            raise CancelBatch
    with pytest.raises(RuntimeError, match="CancelBatch was raised where its scope was not open"):
        fit_quietly(line_learner(Astray()), 1)


def test_an_attribute_named_like_a_verb_replaces_nothing():
    class Counts(Callback):
        def __init__(self):
            self.step = 0

        def after_step(self):
            self.step += 1
    fit_quietly(line_learner(counts := Counts()), 1)
    assert counts.step == 3


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="a callback is an instance of a class derived from Callback, got 5"):
        line_learner(5)


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


def test_a_loss_that_is_not_finite_is_said_in_a_warning():
    learn = line_learner(lr=1e30, bs=1)
    with pytest.warns(UserWarning, match="begin again with a lower learning rate"):
        fit_quietly(learn, 3)


def test_a_falling_rate_on_a_plateau_is_not_for_schedules():
    with pytest.raises(TypeError, match="use it with fit"):
        line_learner(ReduceLROnPlateau()).fit_one_cycle(1)


def test_nan_is_looked_for_in_every_nth_batch_only():
    for every, stopped in ((1, True), (2, False)):
        losses = iter([1.0, math.nan, 1.0])                     # of the three batches, the second
        learn = line_learner(stop := TerminateOnNaN(every), valid=False, lr=0.0)
        learn.loss_func = lambda pred, target, losses=losses: pred.mean() * 0 + next(losses)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit_quietly(learn, 1)
        assert stop.stopped is stopped
    with pytest.raises(ValueError, match="at least 1"):
        TerminateOnNaN(0)


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


def test_an_epoch_without_validation_is_passed_over():
    class NoValidation(Callback):
        def before_validate(self):
            if self.learn.epoch == 1:
                raise CancelValidate
    learn = line_learner([NoValidation(), best := SaveBest(), EarlyStopping(patience=1)])
    fit_quietly(learn, 3)
    assert len(learn.recorder.rows) == 3 and "valid_loss" not in learn.recorder.rows[1] and best.weights is not None


def test_the_csv_log_leaves_a_cell_empty_and_never_joins_two_rows(tmp_path):
    class NoValidation(Callback):
        def before_validate(self):
            if self.learn.epoch == 1:
                raise CancelValidate
    fit_quietly(line_learner([NoValidation(), CSVLogger(tmp_path / "h.csv")]), 3)
    assert [row["valid_loss"] == "" for row in rows_of(tmp_path / "h.csv")] == [False, True, False]
    text = (tmp_path / "h.csv").read_text()
    (tmp_path / "h.csv").write_text(text.rstrip("\n"))          # as an editor may leave it
    fit_quietly(line_learner(CSVLogger(tmp_path / "h.csv", append=True)), 1)
    assert (tmp_path / "h.csv").read_text().startswith(text) and len(rows_of(tmp_path / "h.csv")) == 4


@pytest.mark.parametrize("make", [EarlyStopping, SaveBest, ReduceLROnPlateau, lambda: CSVLogger("never")])
def test_what_reads_the_history_says_so_when_nobody_keeps_it(make):
    learn = line_learner(make())
    with learn.removed_cbs([learn.recorder, learn.progress]), pytest.raises(TypeError, match="reads the history"):
        learn.fit(1)
