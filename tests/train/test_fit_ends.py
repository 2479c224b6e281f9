"""How a fit begins and ends: what is refused changes nothing, no error hides another, Ctrl-C is kept inside, and what a
`with` or a look inside a fit has changed is put back, and nothing else."""

import contextlib
import inspect
import io
import signal
import sys
import types
from functools import partial

import pytest
import torch
from helpers import X, Y, fit_quietly, line_learner, raise_at, some_cb
from torch import nn

from collab import (
    BPR,
    EMA,
    SWA,
    Callback,
    CancelBatch,
    CancelFit,
    CollabDataBunch,
    CollabWarning,
    DataBunch,
    EarlyStopping,
    SaveBest,
    Threads,
    collab_learner,
    synthetic,
)
from collab.train.learner import Learner


@pytest.fixture(scope="module")
def data():
    return CollabDataBunch.from_df(synthetic(30, 20, 300, seed=1).ratings, seed=0, bs=32, device="cpu")


def failing(event, error, name="Failing", order=0.0):
    def method(self):
        raise error
    return some_cb(name, order, **{event: method})


# Errors in cleanups ---------------------------------------------------------------------------------------------------

def test_an_error_in_a_cleanup_is_a_note_of_the_error_that_came_first():
    learn = line_learner([raise_at("after_loss", ZeroDivisionError("first")),
                          failing("cleanup_train", KeyError("second"), "Second"),
                          failing("cleanup_fit", OSError("third"), "Third")])
    with pytest.raises(ZeroDivisionError, match="first") as caught:
        fit_quietly(learn)
    assert caught.value.__notes__ == ["and then, in cleanup_train of Second, KeyError: 'second'",
                                      "and then, in cleanup_fit of Third, OSError: third"]


def test_without_another_error_the_first_one_in_a_cleanup_is_raised_and_all_cleanups_run():
    ran = []
    learn = line_learner([failing("cleanup_fit", KeyError("one"), "One", order=1),
                          failing("cleanup_fit", OSError("two"), "Two", order=2),
                          some_cb(order=3, cleanup_fit=lambda self: ran.append(1))])
    with pytest.raises(KeyError, match="one") as caught:
        fit_quietly(learn)
    assert caught.value.__notes__ == ["and then, in cleanup_fit of Two, OSError: two"] and ran == [1]


@pytest.mark.parametrize("event", ["cleanup_batch", "cleanup_validate", "cleanup_epoch", "cleanup_fit"])
def test_a_cancel_in_a_cleanup_is_an_error(event):
    with pytest.raises(RuntimeError, match=f"CancelFit was raised in {event} of Failing: a cleanup cannot cancel"):
        fit_quietly(line_learner(failing(event, CancelFit())))


@pytest.mark.parametrize("cancel", [CancelFit, CancelBatch])
def test_an_error_in_a_cleanup_is_raised_also_where_a_cancel_ended_the_scope(cancel):
    learn = line_learner([raise_at("after_loss", cancel()), failing("cleanup_batch", ZeroDivisionError())])
    with pytest.raises(ZeroDivisionError):
        fit_quietly(learn)


def test_ctrl_c_in_a_cleanup_does_not_hide_an_error():
    learn = line_learner([raise_at("after_loss", ZeroDivisionError()), failing("cleanup_epoch", KeyboardInterrupt())])
    with pytest.raises(ZeroDivisionError) as caught:
        fit_quietly(learn)
    assert "in cleanup_epoch of Failing, KeyboardInterrupt" in caught.value.__notes__[0]


def test_an_error_in_a_cleanup_after_ctrl_c_is_not_lost_with_it():
    learn = line_learner([raise_at("after_loss", KeyboardInterrupt()), failing("cleanup_fit", ZeroDivisionError())])
    with pytest.raises(ZeroDivisionError) as caught:
        fit_quietly(learn)
    assert caught.value.__notes__ == ["in cleanup_fit of Failing, after a KeyboardInterrupt"]


def test_ctrl_c_in_a_cleanup_ends_the_fit_as_interrupted_and_the_other_cleanups_run():
    ran = []
    learn = line_learner([failing("cleanup_epoch", KeyboardInterrupt(), order=1),
                          some_cb(order=2, cleanup_epoch=lambda self: ran.append(self.learn.epoch))])
    fit_quietly(learn, 3)
    assert learn.interrupted and ran == [0]


# A fit that is refused ------------------------------------------------------------------------------------------------

def refusals(learn):
    """Fits that are refused, each by something else."""
    for order in (-1000, 0, 1000):          # before any other callback has begun, between them, after all of them
        yield partial(learn.fit, 1, lr=9.0, cbs=failing("before_fit", ZeroDivisionError(), order=order))
    yield lambda: learn.fit(1, lr=9.0, resume="nowhere")
    yield lambda: learn.fit_one_cycle(1, cbs=[EMA(), SWA()])


@pytest.mark.parametrize("cb", [SaveBest(), EMA(decay=0.5), SWA(), EarlyStopping(patience=3), Threads(2)])
def test_a_refused_fit_changes_nothing(cb):
    learn = line_learner(cb, seed=3)
    fit_quietly(learn, 2)
    with learn.removed_cbs(cb):
        fit_quietly(learn, 2)                               # so that the callback's own weights are old ones
    learn.model.train()
    learn.model.weight.grad = torch.ones_like(learn.model.weight)

    def state():
        plain = {k: v for k, v in vars(learn).items() if isinstance(v, (int, float, bool))}
        hyper = [{k: v for k, v in group.items() if k != "params"} for group in learn.opt.param_groups]
        return str((plain, hyper, learn.model.state_dict(), learn.model.weight.grad, learn.model.training,
                    [vars(cb) for cb in learn.cbs], learn.recorder.rows, torch.get_rng_state().sum(),
                    torch.get_num_threads(), learn.cbs))
    before = state()
    for refused in refusals(learn):
        with pytest.raises((ZeroDivisionError, FileNotFoundError, TypeError)):
            refused()
        assert state() == before


def test_a_callback_that_refuses_by_itself_is_not_asked_to_clean_up():
    """It has begun nothing; what an earlier fit left to it must not be put into the model."""
    called = []

    class Picky(Callback):
        refuse = False

        def before_fit(self):
            if self.refuse:
                raise ValueError("not this one")

        def cleanup_fit(self):
            called.append(1)
    learn = line_learner(picky := Picky())
    fit_quietly(learn)
    picky.refuse = True
    with pytest.raises(ValueError, match="not this one"):
        fit_quietly(learn)
    assert called == [1]


def test_the_best_weights_of_an_earlier_fit_do_not_come_back_where_the_history_is_missing():
    learn = line_learner(SaveBest())
    fit_quietly(learn, 1)
    with torch.no_grad():
        learn.model.weight.fill_(7)
    with learn.removed_cbs(learn.recorder), pytest.raises(TypeError, match="reads the history"):
        fit_quietly(learn, 1)
    assert learn.model.weight.item() == 7


# Callbacks that come and go -------------------------------------------------------------------------------------------

def test_a_context_takes_back_only_what_it_changed_itself():
    learn = line_learner()
    standing = list(learn.cbs)
    stays, visitor, late = some_cb("Stays"), some_cb("Visitor"), some_cb("Late")
    with learn.no_logging():
        learn.add_cbs(stays)
    with learn.added_cbs(visitor):
        learn.add_cbs(late)
        learn.cbs.remove(stays)
    assert learn.cbs == [*standing, late]                   # in their places, the one that was removed for good is gone
    with learn.removed_cbs(late), learn.removed_cbs([late, standing[0]]):
        learn.add_cbs(stays)
    assert learn.cbs == [*standing, late, stays]


def test_a_callback_that_is_added_in_the_middle_of_a_fit_stays_and_is_called_from_the_next_on():
    calls = []
    late = some_cb("Late", after_epoch=lambda self: calls.append(self.learn.epoch))
    adding = some_cb(before_epoch=lambda self: self.learn.epoch == 0 and self.learn.add_cbs(late))
    learn = line_learner()
    with pytest.warns(CollabWarning, match="Late came in the middle of a fit"):
        fit_quietly(learn, 2, cbs=adding)
    assert late in learn.cbs and adding not in learn.cbs and calls == []
    fit_quietly(learn, 2)
    assert calls == [0, 1]


def test_of_several_callbacks_none_is_added_where_one_is_refused():
    learn = line_learner()
    before = list(learn.cbs)
    for bad, error in ((5, TypeError), (learn.recorder, ValueError)):
        for add in (learn.add_cbs, lambda cbs: learn.fit(1, cbs=cbs)):
            with pytest.raises(error):
                add([some_cb(), bad])
            assert learn.cbs == before
    with pytest.raises(ValueError, match="already there"):
        learn.add_cbs([twice := some_cb(), twice])


# Inside a running fit -------------------------------------------------------------------------------------------------

def test_a_fit_inside_a_fit_is_refused():
    for event in ("before_fit", "before_epoch", "after_batch", "after_validate", "cleanup_fit"):
        learn = line_learner(some_cb(**{event: lambda self: self.learn.fit(1)}), seed=1)
        state = torch.get_rng_state()
        with pytest.raises(RuntimeError, match="a fit of this learner is running"):
            fit_quietly(learn)
        assert torch.equal(torch.get_rng_state(), state)
        learn.cbs = [cb for cb in learn.cbs if type(cb).__name__ != "Some"]
        fit_quietly(learn)                                  # and afterwards it may be fitted again


@pytest.mark.filterwarnings("ignore:lr_find suggests no learning rate")
@pytest.mark.parametrize("event", ["before_epoch", "after_batch", "after_validate", "after_epoch"])
@pytest.mark.parametrize("name", ["dot_bias", "bpr"])
def test_a_range_test_inside_a_fit_changes_nothing_of_it(data, name, event):
    def fitted(**methods):
        torch.set_num_threads(2)
        learn = collab_learner(data, name, n_factors=4, seed=1, cbs=some_cb(order=200, **methods))
        before = torch.get_rng_state()
        with learn.no_logging():
            learn.fit_one_cycle(2)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        assert threads == 2 and torch.equal(torch.get_rng_state(), before)
        return learn.recorder.losses.tolist(), learn.recorder.lrs, learn.recorder.frame()["valid_loss"].tolist()

    def find(self):
        if self.learn.epoch == 0 and self.learn.i in (0, 1):
            self.learn.lr_find(num_it=5)
    assert fitted(**{event: find}) == fitted(**{event: lambda self: None})


def test_a_validation_in_the_middle_of_an_epoch_leaves_the_negatives_of_training_as_they_are(data):
    def losses(**methods):
        learn = collab_learner(data, "bpr", n_factors=4, seed=1, cbs=some_cb(**methods))
        fit_quietly(learn)
        return learn.recorder.losses.tolist()
    assert any(isinstance(cb, BPR) for cb in collab_learner(data, "bpr").cbs)
    assert losses(after_batch=lambda self: self.learn.training and self.learn.validate()) == losses(
        after_batch=lambda self: None)


# Ctrl-C ---------------------------------------------------------------------------------------------------------------

class Interrupt:
    """A trace function that raises KeyboardInterrupt at the `at`-th line of collab and contextlib inside a fit."""

    def __init__(self, at):
        self.at, self.lines, self.fit = at, -1, None        # the first line of `fit` is before anything can be caught

    def __call__(self, frame, event, arg):
        if frame.f_code is inspect.unwrap(Learner.fit).__code__:
            self.fit = frame
        ours = "collab" in frame.f_code.co_filename or frame.f_code.co_filename == contextlib.__file__
        return self.line if self.fit is not None and ours else None

    def line(self, frame, event, arg):
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                sys.settrace(None)
                raise KeyboardInterrupt
        elif event == "return" and frame is self.fit:
            sys.settrace(None)
        return self.line


@pytest.mark.parametrize(("name", "stride"), [("als", 11), ("dot_bias", 7)])
def test_ctrl_c_at_any_line_of_a_fit_stays_inside_and_the_learner_can_go_on(name, stride):
    """A real Ctrl-C comes between any two lines, also while callbacks are looked up, or added and taken away."""
    data = CollabDataBunch.from_df(synthetic(12, 9, 60, seed=1).ratings, seed=0, device="cpu")
    learn = collab_learner(data, name, n_factors=2)
    before, tracing = list(learn.cbs), sys.gettrace()

    def fit(at):
        sys.settrace(interrupt := Interrupt(at))
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                learn.fit(1)
        finally:
            sys.settrace(tracing)
            signal.signal(signal.SIGINT, signal.default_int_handler)    # held signals raise nothing; this one does
        return interrupt.lines
    fit(None)                                               # what is imported late is there now
    lines = fit(None)
    assert lines > 500 and not learn.interrupted
    for at in [*range(1, 120), *range(120, lines - 150, stride), *range(lines - 150, lines)]:
        fit(at)
        assert learn.interrupted and learn.cbs == before and torch.is_grad_enabled(), at
    torch.set_num_threads(1)        # where the clean-up itself was cut off
    fit(None)
    assert not learn.interrupted


# What a fit leaves ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ZeroDivisionError])
def test_after_a_fit_the_model_is_in_evaluation_mode(valid, error):
    learn = line_learner(None if error is None else raise_at("after_step", error()), valid=valid)
    learn.model.train()
    with contextlib.suppress(ZeroDivisionError):
        fit_quietly(learn)
    assert not learn.model.training


@pytest.mark.parametrize("generator", [True, False])
def test_training_draws_the_same_with_and_without_a_validation_part(generator):
    """A DataLoader draws a seed each time that it is gone over, from its generator or from torch's global state."""
    def weight(valid):
        torch.manual_seed(0)
        rows = torch.utils.data.TensorDataset(X, Y)
        shared = torch.Generator().manual_seed(5) if generator else None
        loaders = [torch.utils.data.DataLoader(rows, batch_size=4, shuffle=True, generator=shared) for _ in range(2)]
        model = nn.Sequential(nn.Linear(1, 3), nn.Dropout(0.5), nn.Linear(3, 1))
        learn = Learner(DataBunch(loaders[0], loaders[1] if valid else None, device="cpu"), model, lr=0.1)
        fit_quietly(learn, 3)
        return model[0].weight.detach()
    assert torch.equal(weight(True), weight(False))


def test_the_header_is_printed_again_where_the_columns_change(capsys):
    from collab import CancelValidate
    skipping = some_cb(before_validate=lambda self: self.learn.epoch or (_ for _ in ()).throw(CancelValidate()))
    with (learn := line_learner(skipping)).no_bar():
        learn.fit(3)
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert words[0] == ["epoch", "train_loss", "seconds"]
    assert words[2] == ["epoch", "train_loss", "valid_loss", "seconds"]
    assert [line[0] for line in words] == ["epoch", "0", "epoch", "1", "2"]


# Methods that are no plain ones ---------------------------------------------------------------------------------------

def odd_callbacks(do):
    """Callbacks whose after_loss and cleanup_fit are static, of the class, or attributes of the instance."""
    static = type("Static", (Callback,), {"before_fit": staticmethod(do), "cleanup_fit": staticmethod(lambda: None)})
    of_class = type("OfClass", (Callback,), {"before_fit": classmethod(lambda cls: do()),
                                             "cleanup_fit": classmethod(lambda cls: None)})
    instance = some_cb("Instance")
    instance.before_fit, instance.cleanup_fit = do, lambda: None
    bound = some_cb("Bound")
    bound.before_fit, bound.cleanup_fit = types.MethodType(lambda self: do(), learn_of := object()), lambda: None
    assert learn_of is not bound
    return [static(), of_class(), instance, bound]


@pytest.mark.parametrize("k", range(4))
def test_a_static_or_class_method_or_a_function_of_the_instance_may_be_an_event(k):
    calls = []
    one, other = odd_callbacks(lambda: calls.append(1))[k], odd_callbacks(lambda: calls.append(2))[k]
    learn = line_learner([one, other])
    shown = learn.show_training_loop()
    assert f"{type(one).__name__}, {type(one).__name__}, Progress" in shown.splitlines()[0]
    fit_quietly(learn)
    assert calls == [1, 2]

    def refuse():
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):                  # the true error, and none of the clean-up
        fit_quietly(line_learner(odd_callbacks(refuse)[k]))


def test_a_static_verb_replaces_the_default_one():
    learn = line_learner(type("Still", (Callback,), {"step": staticmethod(lambda: None)})())
    before = learn.model.weight.item()
    assert "step() by Still" in learn.show_training_loop()
    fit_quietly(learn)
    assert learn.model.weight.item() == before


# A loss that is none --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("loss", "said"), [(lambda p, t: (p - t).square().mean().view(1), r"of shape \(1,\)"),
                                            (lambda p, t: (p - t).square(), r"of shape \(4, 1\)"),
                                            (lambda p, t: 3.0, "3.0")])
def test_a_loss_that_is_not_one_number_is_refused_at_the_first_batch(loss, said):
    learn = line_learner()
    learn.loss_func = loss
    before = learn.model.weight.item()
    with pytest.raises(TypeError, match=f"tensor of shape \\(\\), but that of this batch is {said}"):
        fit_quietly(learn)
    with pytest.raises(TypeError, match=r"loss\.mean\(\)"):
        learn.validate()
    assert learn.model.weight.item() == before
