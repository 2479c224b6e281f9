"""RecordEvery: what it prints, draws and leaves alone."""

import math

import pytest
from helpers import Batchwise, fit_quietly, line_learner
from helpers import small_data as data
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from collab import MAE, RMSE, RecordEvery, collab_learner


@pytest.mark.parametrize("model", ["bpr", "softmax"])
def test_looking_does_not_disturb_what_an_objective_draws(model):
    def losses(*cbs):
        learn = collab_learner(data(bs=50), model, n_factors=3, seed=1, metrics=[])
        fit_quietly(learn, 2, cbs=cbs)
        return learn.recorder.losses.tolist()
    assert losses(RecordEvery(2)) == losses(Batchwise())


@pytest.mark.parametrize(("n", "epochs", "printed"), [
    (1, 10, range(11)), (10, 2000, range(0, 2001, 100)), (10, 333, [*range(0, 333, 20), 333])])
def test_some_twenty_lines_of_a_fit_are_printed_and_its_first_and_last_among_them(n, epochs, printed, capsys):
    learn = line_learner(bs=10)
    learn.fit(epochs, cbs=(record := RecordEvery(n)))
    assert [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()[1:]] == list(printed)
    assert len(record.rows) == 1 + math.ceil(epochs / n)


def test_each_quantity_has_axes_of_its_own_on_the_scale_of_its_later_values():
    record = RecordEvery(10)
    fit_quietly(line_learner(bs=10, lr=0.03, metrics=[RMSE(), MAE()]), 400, cbs=record)
    axes = record.plot().figure.axes
    frame = record.frame()
    assert [ax.get_ylabel() for ax in axes] == ["loss", "rmse", "mae"]
    assert [line.get_label() for line in axes[1].get_lines()] == ["train_rmse", "valid_rmse"]
    for ax, name in zip(axes, ("loss", "rmse", "mae")):
        later = frame.loc[frame["iteration"] >= 40, [f"train_{name}", f"valid_{name}"]]
        low, high = ax.get_ylim()
        assert low < later.min().min() and later.max().max() < high < frame[f"train_{name}"][0]
        assert later.max().max() - later.min().min() > 0.9 * (high - low)
    plt.close(axes[0].figure)
    ax = Figure().subplots()
    record.plot(ax, "mae")
    assert ax.get_ylabel() == "mae" and record.plot(Figure().subplots()).get_ylabel() == "loss"
    with pytest.raises(ValueError, match="'mse' is not recorded; what is, is loss, rmse, mae"):
        record.plot(what="mse")
    with pytest.raises(ValueError, match="loss, mae are on scales of their own"):
        record.plot(ax, ["loss", "mae"])


def test_a_plot_of_metrics_that_no_epoch_has_says_where_they_are():
    learn = line_learner(metrics=RMSE())
    fit_quietly(learn, 1, cbs=RecordEvery(1))
    with pytest.raises(ValueError, match="no metric was recorded after an epoch.* RecordEvery .* its own plot"):
        learn.recorder.plot_metrics()
