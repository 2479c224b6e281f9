"""What one process raises, cancels or is interrupted by ends all of them alike, and none waits for ever; a process that
is killed is started again, and the run ends as if nothing had happened."""

import os
import signal
import time
from functools import partial

import pytest
import torch
from helpers import raise_at
from processes import ended_after_a_kill, in_processes, values
from torch import nn

from collab import (
    RMSE,
    Callback,
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


@pytest.mark.parametrize(("event", "error", "at"), [
    ("before_batch", CancelTrain, 3), ("after_loss", CancelTrain, 3), ("after_batch", CancelTrain, 2),
    ("after_loss", CancelBatch, 3), ("after_backward", CancelTrain, 2)])
def test_rows_that_wait_for_a_step_are_those_of_all(event, error, at):
    """A pass that all cut short at once takes the step of one process; where one alone does, all drop these rows."""
    def work(rank, ranks=(0, 1)):
        return ended(line(GradientAccumulation(8), *[raise_at(event, error(), at)] if rank in ranks else []))
    for ranks in ((0, 1), (1,)):
        first, second = values(in_processes(2, partial(work, ranks=ranks)))
        assert first == second and first[0] == "ok"
        if len(ranks) == 2 and event != "after_backward":
            for p, own in zip(first[1][0], work(0)[1][0]):
                torch.testing.assert_close(torch.tensor(p), torch.tensor(own), atol=1e-6, rtol=0)


def test_a_batch_that_is_cancelled_after_the_sum_is_dropped_whole():
    """What is added up afterwards does not depend on the number of processes."""
    def work(rank):
        return ended(line(GradientAccumulation(8), raise_at("after_backward", CancelBatch(), at=1, order=60)))
    two, four = (values(in_processes(n, work))[0][1][0] for n in (2, 4))
    for p, own in zip(two, four):
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
        assert how == "raised" and "at different places: START in process 0, VALIDATING in process 1" in what


def test_a_call_that_the_first_process_alone_makes_is_told_of():
    def work(rank):
        learn = line()
        with learn.no_logging(), learn.distributed(minutes=0.3):
            learn.fit(1)
            if rank == 0:
                learn.validate()
    for how, what in in_processes(2, work):
        assert how == "raised" and "Process 1 has left the `with learn.distributed()` already: what one " in what


def test_a_process_that_does_not_come_is_told_of():
    def work(rank):
        if rank == 0:
            with line().distributed(minutes=0.02):
                pass
    first, second = in_processes(2, work)
    assert second == ("gave", None) and first == ("raised", (
        "OtherProcess: not all of the 2 processes have come to `with learn.distributed()` within 0.02 minutes: each "
        "must run it, not the first alone"))


@pytest.mark.parametrize(("error", "event", "order"), [
    (ValueError, "before_fit", 15), (ValueError, "after_step", -99), (KeyboardInterrupt, "after_step", -99),
    (ValueError, "after_validate", 15)])
def test_after_a_stop_the_processes_fit_again(error, event, order):
    """Twice stopped by one of them, which catches the error, and then as if nothing had happened."""
    def work(rank):
        learn, hows = line(), []
        with learn.no_logging(), learn.distributed(minutes=0.3):
            for stopped in (True, True, False):
                try:
                    learn.fit(1, cbs=raise_at(event, error("here"), 0, order) if rank == 1 and stopped else None)
                    hows.append("ok")
                except (ValueError, RuntimeError) as raised:
                    hows.append(f"{type(raised).__name__}: {raised}")
        return hows, [p.tolist() for p in learn.model.parameters()]
    (first, left), (second, own) = values(in_processes(2, work))
    assert left == own
    assert second == (["ok"] * 3 if error is KeyboardInterrupt else ["ValueError: here"] * 2 + ["ok"])
    assert first == [how if how == "ok" else f"OtherProcess: process 1 has failed with {how}" for how in second]


def test_after_ctrl_c_all_have_the_weights_of_the_first_process():
    """One was stopped after a step that another has not taken."""
    def work(rank):
        learn = line()
        class Stopped(Callback):
            def step(self):
                if self.learn.i == 2:
                    os.kill(os.getpid(), signal.SIGINT)
                self.learn.opt.step()
        with learn.no_logging(), learn.distributed(minutes=0.3):
            learn.fit(1, cbs=Stopped() if rank == 1 else None)
            return learn.interrupted, [p.tolist() for p in learn.model.parameters()]
    first, second = values(in_processes(2, work))
    assert first == second and first[0]


def test_an_error_of_an_evaluation_is_told_at_once():
    """And the one that has failed may catch it."""
    def work(rank):
        learn, cb = line(), raise_at("after_loss", ValueError("here"))
        cb.in_eval = True
        learn.add_cbs([cb] if rank == 1 else [])
        with learn.no_logging(), learn.distributed(minutes=0.3):
            with pytest.raises(ValueError if rank else RuntimeError, match="here" if rank else "process 1 has failed"):
                learn.validate()
            learn.fit(1)
            return learn.validate()
    first, second = values(in_processes(2, work))
    assert first == second


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


def test_the_file_of_the_first_process_is_that_of_all(tmp_path):
    """Where each has folders of its own, as on several machines."""
    def work(rank):
        with pytest.raises((Enough, RuntimeError)):
            fitted(learner(), tmp_path / f"{rank}", raise_at("after_batch", Enough(), at=12, order=200))
        return fitted(learner(), tmp_path / f"{rank}")
    whole = fitted(learner(), tmp_path / "whole")
    for _, rmse in values(in_processes(2, work)):
        assert rmse == pytest.approx(whole[1], abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "whole"]


def test_what_was_saved_is_there_for_all_at_once(tmp_path):
    class Late(Callback):
        main_only = True

        def after_fit(self):
            time.sleep(0.3)

    def work(rank):
        learn = line(Late())
        with learn.no_logging(), learn.distributed(minutes=0.3):
            learn.fit(1)
            trained, path = learn.model.weight.detach().clone(), learn.save(tmp_path / "state")
            with torch.no_grad():
                learn.model.weight.zero_()
            learn.load(path)
        return trained, learn.model.weight.detach()
    for trained, loaded in values(in_processes(2, work)):
        assert trained.item() and torch.equal(loaded, trained)


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
        if os.environ["RANK"] == "1" and self.learn.recorder.n_batches == 17 and not marks.exists():
            marks.touch()
            os.kill(os.getpid(), signal.SIGKILL)

weights, rmse = fitted(learner(), Path({folder!r}) / "run", Die())
torch.save(weights, Path({folder!r}) / f"weights{{os.environ['RANK']}}")
"""


def test_a_process_that_is_killed_is_started_again_by_torchrun(tmp_path, fresh):
    """SIGKILL in the middle of the second epoch: the weights of the run that was left alone, bit by bit."""
    whole, _ = values(in_processes(2, lambda rank: fitted(learner(), tmp_path / "whole")[0]))
    for weights in ended_after_a_kill(tmp_path, SCRIPT, fresh):
        assert weights.keys() == whole.keys()
        assert all(torch.equal(whole[name], p) for name, p in weights.items())
