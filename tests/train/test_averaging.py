"""EMA and SWA: the averages, what is validated, and what is trained on meanwhile."""

import pytest
import torch
from helpers import fit_quietly, line_learner, some_cb

from collab import (
    EMA,
    RMSE,
    SWA,
    Callback,
    CollabDataBunch,
    RecordEvery,
    SaveBest,
    ShortEpoch,
    collab_learner,
    synthetic,
)


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


@pytest.mark.parametrize("average", [EMA(decay=0.5), SWA()])
def test_the_unknown_row_is_the_mean_of_the_rows_that_are_kept(average):
    data = CollabDataBunch.from_df(synthetic(n_ratings=3000).ratings, seed=0)
    learn = collab_learner(data, n_factors=3, cbs=average)
    fit_quietly(learn, 1)
    for table in (learn.model.u_weight, learn.model.i_weight, learn.model.u_bias, learn.model.i_bias):
        torch.testing.assert_close(table.weight[0], table.weight[1:].mean(0))


@pytest.mark.parametrize("cb", [EMA(decay=0.5), SWA(), RecordEvery(10), None], ids=str)
def test_after_each_epoch_the_unknown_row_is_the_mean_of_the_rows_in_training(cb):
    data, found = CollabDataBunch.from_df(synthetic(n_ratings=3000).ratings, seed=0), []

    def look(self):
        table = self.learn.model.i_weight.weight.detach()
        found.append((table[0] - table[1:].mean(0)).abs().max().item())
    learn = collab_learner(data, n_factors=3, cbs=[some_cb(after_epoch=look), *([cb] if cb else [])])
    fit_quietly(learn, 2)
    assert found == pytest.approx([0, 0], abs=1e-7)


def test_an_average_is_kept_over_short_epochs_and_the_metrics_stay():
    learn = line_learner([swa := SWA(), ShortEpoch(1, valid=True)], metrics=RMSE())
    fit_quietly(learn, 3)
    assert swa.n == 3 and {"valid_loss", "rmse"} <= set(learn.recorder.rows[-1])
