"""The callbacks that ship: each against numbers worked out by hand or by another way of computing them."""

import copy

import pytest
import torch
from helpers import Scripted, X, Y, fit_quietly, line_learner, rows_of

from collab import (
    EMA,
    Callback,
    CancelBatch,
    Checkpoint,
    CollabDataBunch,
    CSVLogger,
    EarlyStopping,
    GradientAccumulation,
    GradientClip,
    MixedPrecision,
    ReduceLROnPlateau,
    SaveBest,
    ShortEpoch,
    ShowGraph,
    TerminateOnNaN,
    collab_learner,
    synthetic,
)

# Trackers ---------------------------------------------------------------------------------------------------------

# Steps ------------------------------------------------------------------------------------------------------------

# Averages ---------------------------------------------------------------------------------------------------------

# Loggers ----------------------------------------------------------------------------------------------------------

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


def test_a_checkpoint_from_the_middle_of_an_epoch_is_loaded_with_its_unknown_row(tmp_path):
    data = CollabDataBunch.from_df(synthetic(n_ratings=3000).ratings, seed=0)
    learn, other = collab_learner(data, n_factors=3), collab_learner(data, n_factors=3)
    fit_quietly(learn, 1, cbs=Checkpoint(tmp_path / "c", every=20))
    other.load(tmp_path / "c")
    torch.testing.assert_close(other.model.i_bias.weight[0], other.model.i_bias.weight[1:].mean(0))


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


def test_a_loss_that_is_not_finite_is_said_in_a_warning():
    learn = line_learner(lr=1e30, bs=1)
    with pytest.warns(UserWarning, match="begin again with a lower learning rate"):
        fit_quietly(learn, 3)


@pytest.mark.parametrize("make", [EarlyStopping, SaveBest, ReduceLROnPlateau, lambda: CSVLogger("never")])
def test_what_reads_the_history_says_so_when_nobody_keeps_it(make):
    learn = line_learner(make())
    with learn.removed_cbs([learn.recorder, learn.progress]), pytest.raises(TypeError, match="reads the history"):
        learn.fit(1)
