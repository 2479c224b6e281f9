"""What is recorded, printed and drawn."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers import X, Y, fit_quietly, line_learner
from matplotlib.figure import Figure

from collab import RMSE, Callback
from collab.losses import mse
from collab.train.callbacks import recorder as recorder_module


def test_the_loss_of_every_batch_is_kept_in_order(monkeypatch):
    monkeypatch.setattr(recorder_module, "FLUSH", 2)

    class Keep(Callback):
        losses = []

        def after_loss(self):
            if self.learn.training:
                self.losses.append(self.learn.loss.item())
    learn = line_learner(keep := Keep())
    fit_quietly(learn, 2)
    assert learn.recorder.losses.tolist() == keep.losses and len(keep.losses) == 6


def test_an_epoch_has_its_mean_losses_metrics_and_time():
    learn = line_learner(lr=0.0, metrics=RMSE())            # batches of 4, 4 and 2 rows; nothing is learned
    fit_quietly(learn, 2)
    frame = learn.recorder.frame()
    assert list(frame) == ["epoch", "train_loss", "valid_loss", "rmse", "seconds"]
    with torch.no_grad():
        train, valid = mse(learn.model(X), Y).item(), mse(learn.model(X[:8]), Y[:8]).item()
    assert frame["train_loss"].tolist() == pytest.approx([train] * 2)
    assert frame["valid_loss"].tolist() == pytest.approx([valid] * 2)
    assert frame["rmse"].tolist() == pytest.approx([valid ** 0.5] * 2)
    assert (frame["seconds"] > 0).all() and frame["epoch"].tolist() == [0, 1]


def test_no_batch_waits_for_the_device(monkeypatch):
    """Reading a number from a tensor waits for the device: how often that happens must not grow with the batches."""
    reads = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__"):
        own = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, *a, own=own, **k: (reads.append(1), own(self, *a, **k))[1])

    def count(bs):
        learn = line_learner(bs=bs, metrics=RMSE(), opt_func=torch.optim.SGD)
        reads.clear()
        with learn.no_logging():
            learn.fit_one_cycle(1)
        return len(reads)
    assert count(bs=1) == count(bs=5) > 0                       # ten batches and two


def test_the_history_goes_on_from_fit_to_fit():
    learn = line_learner()
    fit_quietly(learn, 1)
    fit_quietly(learn, 2)
    assert learn.recorder.frame()["epoch"].tolist() == [0, 1, 2] and len(learn.recorder.lrs) == 9


def test_an_epoch_joins_its_own_batches_and_leaves_those_before_it(monkeypatch):
    """Of many short epochs, none goes over all that were; asked for in their midst, the history is whole."""
    monkeypatch.setattr(recorder_module, "FLUSH", 1)
    joined = []
    monkeypatch.setattr(recorder_module.Columns, "joined", classmethod(
        lambda cls, pieces, own=recorder_module.Columns.joined: (joined.append(len(pieces)), own(pieces))[1]))

    class Look(Callback):
        def after_loss(self):
            if self.learn.training and self.learn.epoch == 5 and self.learn.i == 1:
                self.seen = self.learn.recorder.losses
    learn = line_learner(look := Look(), metrics=RMSE())
    fit_quietly(learn, 8)
    assert max(joined[:5]) == 3 and len(look.seen) == 5 * 3 + 2
    frame, losses = learn.recorder.frame(), learn.recorder.losses.astype(float).reshape(8, 3)
    assert frame["train_loss"].tolist() == pytest.approx((losses @ [0.4, 0.4, 0.2]).tolist())
    assert look.seen.tolist() == learn.recorder.losses[:17].tolist() and learn.recorder.ends == [*range(3, 25, 3)]


def test_smoothing_is_the_debiased_exponential_mean():
    learn = line_learner()
    fit_quietly(learn, 1)
    (a, b, c), beta = learn.recorder.losses.astype(float), 0.9
    mean2 = (beta * 0.1 * a + 0.1 * b) / (1 - beta ** 2)
    mean3 = (beta ** 2 * 0.1 * a + beta * 0.1 * b + 0.1 * c) / (1 - beta ** 3)
    assert learn.recorder.smooth_losses(beta).tolist() == pytest.approx([a, mean2, mean3])


def test_plots_draw_on_the_given_axes_and_return_them():
    learn = line_learner()
    with learn.no_logging():
        learn.fit_one_cycle(2)
    for plot in (learn.recorder.plot_loss, learn.recorder.plot_sched):
        ax = Figure().subplots()
        assert plot(ax=ax) is ax
        assert ax.get_xlabel() == "batch"
    ax = learn.recorder.plot_loss(ax=Figure().subplots(), skip=2)
    training, valid = ax.get_lines()
    np.testing.assert_allclose(training.get_ydata(), learn.recorder.smooth_losses()[2:])
    assert valid.get_xdata().tolist() == [3, 6]             # each at the end of its epoch
    np.testing.assert_allclose(valid.get_ydata(), learn.recorder.frame()["valid_loss"])


def test_the_plots_of_schedule_and_metrics_show_what_was_recorded():
    learn = line_learner(metrics=RMSE())
    with learn.no_logging():
        learn.fit_one_cycle(2)
    ax = learn.recorder.plot_sched(ax=Figure().subplots())
    right = ax.figure.axes[1]
    assert ax.get_lines()[0].get_ydata().tolist() == learn.recorder.lrs
    assert right.get_lines()[0].get_ydata().tolist() == learn.recorder.moms
    (line,) = learn.recorder.plot_metrics(ax=Figure().subplots()).get_lines()
    assert line.get_label() == "rmse" and line.get_ydata().tolist() == learn.recorder.frame()["rmse"].tolist()


def test_an_interrupt_at_any_moment_leaves_losses_rates_and_sizes_together(monkeypatch):
    calls = []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return 0.0
    learn = line_learner(lr=0.0)
    monkeypatch.setattr(recorder_module, "get_hyper", interrupted)
    fit_quietly(learn, 1)
    assert learn.interrupted and len(learn.recorder.losses) == len(learn.recorder.lrs) == len(learn.recorder.moms) == 1
    fit_quietly(learn, 1)
    with torch.no_grad():
        expected = mse(learn.model(X), Y).item()
    assert learn.recorder.rows[-1]["train_loss"] == pytest.approx(expected)


SCRIPT = """
import torch
from torch import nn
from collab import DataBunch, Learner
x = torch.ones(4, 1)
learn = Learner(DataBunch([(x, x)] * 3, [(x, x)], device="cpu"), nn.Linear(1, 1))
{fit}
"""


@pytest.fixture
def run_fit(fresh):
    """What a fit prints into a pipe."""
    def run_fit(fit):
        done = fresh.run("-c", SCRIPT.format(fit=fit))
        assert done.returncode == 0, done.stderr
        return done.stdout
    return run_fit


def test_in_a_pipe_there_is_a_table_and_no_bar(run_fit):
    lines = run_fit("learn.fit(2)").splitlines()
    assert lines[0].split() == ["epoch", "train_loss", "valid_loss", "seconds"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1"]
    assert not any("\r" in line or "%" in line for line in lines)


def test_no_bar_in_a_terminal_leaves_the_table(monkeypatch, capsys):
    monkeypatch.setattr("collab.train.callbacks.progress.bars_wanted", lambda: True)
    learn = line_learner()
    with learn.no_bar():
        learn.fit(1)
    assert "train_loss" in (plain := capsys.readouterr().out) and "Epoch" not in plain
    learn.fit(1)
    assert "Epoch 1/1" in capsys.readouterr().out


def test_no_logging_prints_nothing(run_fit):
    assert run_fit("with learn.no_logging(): learn.fit(1)") == ""


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
def test_in_a_terminal_there_are_bars_and_the_table():
    import os
    import pty
    chunks = []

    def read(fd):
        chunks.append(data := os.read(fd, 4096))
        return data
    program = SCRIPT.format(fit="learn.fit(2)")
    saved = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)                                        # pty.spawn copies everything to standard output
    try:
        assert pty.spawn([sys.executable, "-c", program], read) == 0
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(null)
    text = b"".join(chunks).decode()
    assert "Epoch 1/2" in text and "Epoch 2/2" in text and "100.00%" in text and "train_loss" in text


def test_in_a_notebook_there_are_bars_and_the_table(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SCRIPT.format(fit="learn.fit(2)"))])
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = json.dumps(book.cells[0].outputs)
    assert "<table" in shown and "train_loss" in shown and shown.count("<td>0</td>") and "Epoch" not in shown
