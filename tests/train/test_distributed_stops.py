"""What one process raises, cancels or is interrupted by ends all of them alike, and none waits for ever; a process that
is killed is started again, and the run ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import raise_at
from processes import in_processes, values
from torch import nn

from collab import (
    RMSE,
    CancelBatch,
    CancelEpoch,
    CancelFit,
    CancelStep,
    CancelTrain,
    CancelValidate,
    Checkpoint,
    CollabDataBunch,
    DataBunch,
    GradientAccumulation,
    Learner,
    collab_learner,
    synthetic,
)
from collab.losses import mse
from collab.train.events import EVENTS, IN_BULK

RATINGS = synthetic(n_users=120, n_items=90, n_ratings=1_500, seed=3).ratings
X = torch.linspace(-1, 1, 24).unsqueeze(1)
CANCELS = CancelStep, CancelBatch, CancelTrain, CancelValidate, CancelEpoch, CancelFit
ERRORS = ValueError, KeyboardInterrupt


def line(*cbs):
    """A line on six batches, with three of validation."""
    torch.manual_seed(0)
    batches = [(x, 3 * x + 1) for x in X.split(4)]
    learn = Learner(DataBunch(batches, batches[:3], device="cpu"), nn.Linear(1, 1), mse, lr=0.1, metrics=[RMSE()])
    learn.add_cbs(cbs)
    return learn


def ended(learn, **fit):
    """How a fit over all processes ended: "ok" or the error, and what it left behind."""
    try:
        with learn.no_logging(), learn.distributed(minutes=0.3):
            learn.fit(3, **fit)
        how = "ok"
    except BaseException as error:
        how = f"{type(error).__name__}: {error}"
    left = [p.tolist() for p in learn.model.parameters()], learn.recorder.losses.tolist(), len(learn.recorder.rows)
    return how, left, learn.interrupted


@pytest.mark.parametrize("event", [event for event in EVENTS if event not in IN_BULK])
def test_a_stop_of_one_process_is_one_of_all(event):
    """Whatever it is: the processes have taken the same steps."""
    orders = (-50, 15) if event in ("after_loss", "after_backward", "after_epoch") else (15,)
    cases = [(error, order) for error in (*CANCELS, *ERRORS) for order in orders]
    at = int(event not in ("before_fit", "after_fit", "cleanup_fit"))

    def work(rank):
        return [ended(line(*[raise_at(event, error("here"), at, order)] if rank == 1 else []))
                for error, order in cases]
    for case, (one, left, *_), (other, own, *_) in zip(cases, *values(in_processes(2, work))):
        assert left[0] == own[0], case
        assert (one, other) == ("ok", "ok") or (other != "ok" and one.startswith(
            "OtherProcess: process 1 has failed with ")), (case, one, other)


@pytest.mark.parametrize("event", ["after_loss", "after_backward", "after_validate"])
def test_stops_among_three(event):
    def work(rank):
        return [ended(line(*[raise_at(event, error("here"), 1, 15)] if rank == 2 else []))
                for error in (*CANCELS, *ERRORS)]
    for one, other, third in zip(*values(in_processes(3, work))):
        assert one[:2] == other[:2] and one[1][0] == third[1][0]
        assert one[0].startswith("OtherProcess: process 2 has failed with ") == (third[0] != "ok")


@pytest.mark.parametrize("error", [CancelStep, CancelBatch])
def test_a_step_that_one_process_skips_after_the_sum_is_refused(error):
    def work(rank):
        return ended(line(*[raise_at("after_backward", error(), 1, 60)] if rank == 1 else []))
    for how, *_ in values(in_processes(2, work)):
        assert "a callback has skipped a step in some of the processes alone" in how


def test_what_a_stop_leaves_is_what_it_leaves_in_one_process():
    """Steps, losses and weights: those of one process with the same stop."""
    for event, error in [("after_batch", CancelFit), ("before_batch", CancelTrain), ("after_loss", CancelBatch),
                         ("after_train", CancelEpoch), ("after_backward", CancelStep)]:
        def work(rank, event=event, error=error):
            return ended(line(*[raise_at(event, error(), at=2)] if rank == 1 else []))
        alone = ended(line(raise_at(event, error(), at=2)))
        for how, (weights, losses, rows), _ in values(in_processes(2, work)):
            assert how == "ok" and rows == alone[1][2] and len(losses) == len(alone[1][1])
            for p, own in zip(weights, alone[1][0]):
                torch.testing.assert_close(torch.tensor(p), torch.tensor(own), atol=1e-6, rtol=0)


def test_a_step_that_one_process_skips_is_made_up_for():
    """With accumulated gradients too: what is skipped is in the next step."""
    def work(rank):
        skip = raise_at("after_backward", CancelStep(), at=1, order=15 if rank else 40)
        return ended(line(GradientAccumulation(8), *[skip] if rank else []))
    many = values(in_processes(2, work))
    alone = ended(line(GradientAccumulation(8), raise_at("after_backward", CancelStep(), at=1, order=15)))
    assert many[0] == many[1]
    for p, own in zip(many[0][1][0], alone[1][0]):
        torch.testing.assert_close(torch.tensor(p), torch.tensor(own), atol=1e-6, rtol=0)


def test_a_step_that_is_skipped_after_the_sum_counts_once():
    def work(rank):
        return ended(line(raise_at("after_backward", CancelStep(), at=1, order=40)))
    alone = work(0)
    for _, (weights, *_), _ in values(in_processes(4, work)):
        for p, own in zip(weights, alone[1][0]):
            torch.testing.assert_close(torch.tensor(p), torch.tensor(own), atol=1e-6, rtol=0)


def test_a_process_that_is_killed_is_told_of():
    def work(rank):
        die = type("Die", (raise_at("after_step", None).__class__.__mro__[1],), {
            "after_step": lambda self: os.kill(os.getpid(), signal.SIGKILL)})()
        return ended(line(*[die] if rank == 1 else []))
    first, second = in_processes(2, work)
    assert second == ("died", signal.SIGKILL)
    assert first[1][0].startswith("OtherProcess: another process was killed, or has not answered for 0.3 minutes")


def test_processes_that_make_other_calls_are_told_of():
    def work(rank):
        learn = line()
        with learn.no_logging(), learn.distributed(minutes=0.3):
            if rank:
                learn.validate()
            learn.fit(1)
    for how, what in in_processes(2, work):
        assert how == "raised" and "at different places: START in process 0, VALIDATED in process 1" in what


# Resuming --------------------------------------------------------------------------------------------------------

def learner():
    data = CollabDataBunch.from_df(RATINGS, seed=0, bs=100, device="cpu")
    return collab_learner(data, n_factors=5, lr=5e-3, wd=0.1, seed=1, metrics=RMSE())


def fitted(learn, path, *cbs):
    with learn.no_logging(), learn.distributed():
        learn.fit_one_cycle(3, cbs=[Checkpoint(path, every=5), *cbs], resume="auto")
    return {name: p.detach() for name, p in learn.model.named_parameters()}, learn.recorder.rows[-1]["rmse"]


class Enough(Exception):
    pass


def test_begun_by_four_processes_and_ended_by_two_and_by_one(tmp_path):
    """Cut off twice: the RMSE of one process that was never cut off, to 1e-6."""
    def cut(rank, at):
        with pytest.raises((Enough, RuntimeError)):
            fitted(learner(), tmp_path / "part", raise_at("after_batch", Enough(), at=at, order=200))
    whole = fitted(learner(), tmp_path / "whole")
    values(in_processes(4, lambda rank: cut(rank, 12)))
    values(in_processes(2, lambda rank: cut(rank, 24)))
    weights, rmse = fitted(learner(), tmp_path / "part")
    assert rmse == pytest.approx(whole[1], abs=1e-6)
    for name, p in whole[0].items():
        torch.testing.assert_close(weights[name], p, atol=1e-5, rtol=0)


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
import torch
torch.set_num_threads(1)
from train.test_distributed_stops import fitted, learner
from collab import Callback

class Die(Callback):
    def after_step(self):
        marks = Path({folder!r}) / "died"
        if os.environ["RANK"] == "1" and {die} and self.learn.recorder.n_batches == 17 and not marks.exists():
            marks.touch()
            os.kill(os.getpid(), signal.SIGKILL)

weights, rmse = fitted(learner(), Path({folder!r}) / "run", Die())
torch.save(weights, Path({folder!r}) / f"weights{{os.environ['RANK']}}")
"""


def test_a_process_that_is_killed_is_started_again_by_torchrun(tmp_path):
    """SIGKILL in the middle of the second epoch: the weights of the run that was left alone, bit by bit."""
    found = []
    for die in (False, True):
        folder = tmp_path / str(die)
        folder.mkdir()
        tests = Path(__file__).parents[1]
        (folder / "script.py").write_text(SCRIPT.format(paths=[str(tests), str(tests.parent)], folder=str(folder),
                                                        die=die))
        done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                               "--max-restarts", "1", "--monitor-interval", "0.1", folder / "script.py"],
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert (folder / "died").exists() == die
        found += [torch.load(folder / f"weights{rank}", weights_only=True) for rank in (0, 1)]
    for weights in found[1:]:
        assert all(torch.equal(found[0][name], p) for name, p in weights.items())
