"""What watches a number: in which direction, over which fits, and what of it a refused fit leaves alone."""

import math
import warnings

import pytest
import torch
from helpers import Scripted, fit_quietly, line_learner, scripted
from sklearn.metrics import log_loss, max_error, mean_absolute_error, r2_score
from torch import nn

from collab import (
    RMSE,
    SWA,
    Callback,
    CancelEpoch,
    CancelTrain,
    CancelValidate,
    CollabDataBunch,
    CollabWarning,
    EarlyStopping,
    LossTerms,
    RankingMetrics,
    ReduceLROnPlateau,
    SaveBest,
    SnapshotEnsemble,
    TerminateOnNaN,
    collab_learner,
    synthetic,
)
from collab.metrics import Metric, WholeSet, known_mode
from collab.train.callbacks.snapshots import Snapshots


def zero(model):
    return torch.zeros(())


def metric(name):
    def f(pred, target):
        return 0.0
    f.__name__ = name
    return f


# Direction --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["huber", "RMSE", "MAE", "nll", "msle", "valid_loss", "train_loss", "HuberLoss",
                                  "brier_score_loss", "mean_squared_error", "error_rate"])
def test_smaller_is_better_of_losses_and_errors_however_they_are_written(name):
    assert known_mode(name) == "min"


@pytest.mark.parametrize("name", ["ndcg@10", "MAP", "hit@5", "recall", "accuracy", "r2_score", "F1",
                                  "d2_absolute_error_score"])
def test_larger_is_better_of_scores(name):
    assert known_mode(name) == "max"


@pytest.mark.parametrize("name", ["lossless", "terror", "novelty", "neg_mean_squared_error", "seconds"])
def test_other_names_say_nothing(name):
    assert known_mode(name) is None


@pytest.mark.parametrize(("name", "best"), [("huber", 2), ("RMSE", 2), ("nll", 2), ("ndcg", 0), ("accuracy", 0)])
def test_the_best_epoch_is_kept_whatever_is_watched(name, best):
    class Script(Scripted):
        def after_epoch(self):
            self.learn.recorder.rows[-1][name] = self.losses[self.learn.epoch]
    learn = line_learner([Script([5, 4, 3, 3.5]), SaveBest(name)], metrics=metric(name))
    fit_quietly(learn, 4)
    assert learn.model.weight.item() == best


@pytest.mark.parametrize(("function", "sign"), [(mean_absolute_error, 1), (max_error, 1), (log_loss, 1),
                                                (r2_score, -1)])
def test_metrics_of_scikit_learn_say_a_direction(function, sign):
    def flipped(pred, target):
        return mean_absolute_error(target, pred)
    watch = EarlyStopping(function.__name__, patience=9)
    fit_quietly(line_learner(watch, metrics=WholeSet(flipped, function.__name__)), 1)
    assert watch.sign == sign


def test_a_direction_that_a_metric_states_is_before_its_name():
    class Errorless(Metric):
        name, mode = "rows_without_error", "max"

        def reset(self):
            pass

        def update(self, pred, target):
            pass

        def value(self):
            return 0.0
    for made, sign in ((Errorless(), -1), (WholeSet(metric("f"), "hits", mode="min"), 1)):
        watch = EarlyStopping(made.name)
        fit_quietly(line_learner(watch, metrics=made), 1)
        assert watch.sign == sign


@pytest.mark.parametrize("make", [EarlyStopping, SaveBest, ReduceLROnPlateau])
def test_a_name_that_says_no_direction_is_refused_before_training(make):
    learn = line_learner(make("within_one"), metrics=metric("within_one"))
    before = learn.model.weight.item()
    with pytest.raises(ValueError, match="watches .within_one., and nothing says .*: say mode=.min. or"):
        fit_quietly(learn, 1)
    assert learn.model.weight.item() == before and not learn.recorder.rows
    watch = make("within_one", mode="max")
    fit_quietly(line_learner(watch, metrics=metric("within_one")), 1)
    assert watch.sign == -1


def test_terms_of_a_loss_are_better_when_they_are_smaller():
    watch = EarlyStopping("zero")
    fit_quietly(line_learner([LossTerms(zero), watch]), 1)
    assert watch.sign == 1


def test_ranking_metrics_go_up_and_epochs_without_them_do_not_count():
    data = CollabDataBunch.from_df(synthetic(n_users=40, n_items=30, n_ratings=500).ratings, seed=0)
    stop = EarlyStopping("map@5", patience=1)

    class Seen(Callback):
        order, values = 79, []

        def after_epoch(self):
            row = self.learn.recorder.rows[-1]
            if not math.isnan(row["map@5"]):
                row["map@5"] = 0.1 * self.learn.epoch               # better each time it is measured
            self.values.append(row["map@5"])
    learn = collab_learner(data, n_factors=2, cbs=[RankingMetrics(5, ["map", "novelty"], every=2), stop, Seen()])
    fit_quietly(learn, 4)
    assert stop.sign == -1 and len(learn.recorder.rows) == 4 and stop.best == pytest.approx(0.3)
    assert [math.isnan(v) for v in Seen.values] == [True, False, True, False]
    with pytest.raises(ValueError, match="watches 'novelty@5', and nothing says"):
        fit_quietly(learn, 1, cbs=EarlyStopping("novelty@5"))


def test_a_loss_that_is_nan_counts_as_an_epoch_that_is_no_better():
    learn = line_learner([Scripted([5, math.nan, 3]), EarlyStopping(patience=1)], valid=False)
    with pytest.warns(CollabWarning, match="training loss of epoch 1 is nan"):
        learn.loss_func = lambda pred, target: pred.mean() * (math.nan if learn.epoch == 1 else 1)
        fit_quietly(learn, 3)
    assert len(learn.recorder.rows) == 2


# Fits that are refused, and fits that follow each other ---------------------------------------------------------------

def test_a_fit_that_is_refused_puts_no_older_weights_back():
    learn = line_learner(best := SaveBest())
    fit_quietly(learn, 2)
    with torch.no_grad():
        learn.model.weight.fill_(7.0)
    kept, value = best.weights, best.best
    with learn.removed_cbs([learn.recorder, learn.progress]), pytest.raises(TypeError, match="reads the history"):
        learn.fit(1)

    class Refuses(Callback):
        order = 99

        def before_fit(self):
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        fit_quietly(learn, 1, cbs=Refuses())
    assert learn.model.weight.item() == 7.0
    assert best.weights is kept and best.best == value              # it has forgotten nothing either


def test_a_fit_that_is_refused_leaves_the_snapshots_of_an_earlier_one():
    learn = line_learner(snap := Snapshots(lambda models: models[-1], every=1))
    fit_quietly(learn, 2)
    kept, model = snap.snapshots, learn.model
    with pytest.raises(TypeError, match="both decide on the model that is kept"):
        fit_quietly(learn, 1, cbs=SWA())
    assert snap.snapshots is kept and len(kept) == 2 and learn.model is model


def test_a_worse_second_fit_leaves_the_better_file(tmp_path):
    script = Scripted([5, 3, 4])
    learn = line_learner([script, best := SaveBest(path=tmp_path / "best")])
    fit_quietly(learn, 3)
    script.losses = [9, 8, 8.5]
    fit_quietly(learn, 3)
    assert best.best == 8 and len(learn.recorder.rows) == 6         # the best of this fit, which the model has
    learn.load(tmp_path / "best")
    assert len(learn.recorder.rows) == 2                            # that of the first
    script.losses = [2.5, 6, 6]
    fit_quietly(learn, 3)
    learn.load(tmp_path / "best")
    assert learn.recorder.rows[-1]["valid_loss"] == 2.5


def test_another_learner_and_a_file_that_is_gone_are_written_anew(tmp_path):
    best = SaveBest(path=tmp_path / "best")
    scripted([1, 2], best)
    learn = scripted([5, 6], best)
    learn.load(tmp_path / "best")
    assert learn.recorder.rows[-1]["valid_loss"] == 5
    (tmp_path / "best").unlink()
    fit_quietly(learn, 2)
    assert (tmp_path / "best").exists()


def test_a_file_that_cannot_be_is_said_before_training(tmp_path):
    learn = line_learner(SaveBest(path=tmp_path))
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file in it"):
        fit_quietly(learn, 1)
    assert not learn.recorder.rows


@pytest.mark.parametrize(("min_lr", "rates"), [(0.01, [0.001, 0.01]), (0.0, [0.0001, 0.01]), (0.002, [0.001, 0.01])])
def test_a_plateau_never_raises_a_rate(min_lr, rates):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(1, 1), nn.Linear(1, 1)

        def forward(self, x):
            return self.b(self.a(x))

        def param_groups(self):
            return [{"name": "a", "params": list(self.a.parameters())},
                    {"name": "b", "params": list(self.b.parameters())}]

    class Flat(Scripted):
        after_train = None
    learn = line_learner([Flat([1, 1]), ReduceLROnPlateau(min_lr=min_lr)])
    learn.set_model(Two())
    fit_quietly(learn, 2, lr=[0.001, 0.1])
    assert [group["lr"] for group in learn.opt.param_groups] == pytest.approx(rates)


# Epochs that CancelTrain ends -----------------------------------------------------------------------------------------

class EndsEarly(Callback):
    """Cancels the training part of the second epoch at its second batch, and keeps every weight that was reached."""

    order = 60

    def __init__(self):
        self.ends = []

    def before_batch(self):
        if self.learn.training and (self.learn.epoch, self.learn.i) == (1, 1):
            raise CancelTrain

    def cleanup_train(self):
        self.ends.append(self.learn.model.weight.item())


@pytest.mark.parametrize("valid", [True, False])
def test_an_epoch_that_is_cut_short_is_part_of_the_average(valid):
    learn = line_learner([swa := SWA(), cut := EndsEarly()], valid=valid)
    fit_quietly(learn, 3)
    assert swa.n == 3 and learn.model.weight.item() == pytest.approx(sum(cut.ends) / 3, rel=1e-5)


@pytest.mark.parametrize("valid", [True, False])
def test_an_epoch_that_is_cut_short_is_among_the_snapshots(valid):
    learn = line_learner([snap := Snapshots(lambda models: models[-1], every=1), cut := EndsEarly()], valid=valid)
    fit_quietly(learn, 3)
    assert [weights["weight"].item() for weights in snap.snapshots] == cut.ends


def test_an_ensemble_has_a_snapshot_of_an_epoch_that_is_cut_short():
    class Cut(Callback):
        def after_batch(self):
            if self.learn.training and (self.learn.epoch, self.learn.i) == (1, 0):
                raise CancelTrain
    data = CollabDataBunch.from_df(synthetic(n_users=40, n_items=30, n_ratings=500).ratings, seed=0)
    learn = collab_learner(data, n_factors=2)
    fit_quietly(learn, 2, cbs=[snap := SnapshotEnsemble(every=1), Cut()])
    assert len(snap.snapshots) == 2 and learn.model.config["n_factors"] == 4


def test_an_epoch_that_is_cancelled_is_in_no_average():
    class Cancel(Callback):
        def before_batch(self):
            if self.learn.training and self.learn.epoch == 1:
                raise CancelEpoch
    fit_quietly(line_learner([swa := SWA(), Cancel()], metrics=RMSE()), 3)
    assert swa.n == 2


# What each tracker does ---------------------------------------------------------------------------------------------

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
    with pytest.raises(ValueError, match="EarlyStopping watches 'ndcg', but the recorded columns are epoch,"):
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


def test_an_epoch_without_validation_is_passed_over():
    class NoValidation(Callback):
        def before_validate(self):
            if self.learn.epoch == 1:
                raise CancelValidate
    learn = line_learner([NoValidation(), best := SaveBest(), EarlyStopping(patience=1)])
    fit_quietly(learn, 3)
    assert len(learn.recorder.rows) == 3 and "valid_loss" not in learn.recorder.rows[1] and best.weights is not None
