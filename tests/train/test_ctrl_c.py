"""Ctrl-C at any line of what puts things back: all is put back, and then KeyboardInterrupt is raised."""

import linecache
import sys
import threading
from pathlib import Path

import pytest
import torch

import collab.train
from collab import CollabDataBunch, GradientClip, collab_learner, synthetic
from collab.train.callbacks.seeded import Seeded, untouched_randomness
from collab.train.whole import whole

FILES = {str(Path(collab.train.__file__).parent / name)
         for name in ("untouched.py", "callbacks/seeded.py", "whole.py")}


class Interrupt:
    """A trace function that raises KeyboardInterrupt at the `at`-th line of FILES.

    Left out are lines at which Python looks for no signal (`try:`, and a `with` that is being left), and those by
    which `cleanup_fit` comes to its own `try`: a Ctrl-C as a function is entered comes before it can be caught."""

    def __init__(self, at):
        self.at, self.lines, self.place = at, 0, None

    def __call__(self, frame, event, arg):
        return self.line if frame.f_code.co_filename in FILES else None

    def line(self, frame, event, arg):
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        own = frame.f_code is Seeded.cleanup_fit.__code__
        if event == "line" and not (text == "try:" or text.startswith("with ") or own):
            self.lines += 1
            if self.lines == self.at:
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}: {text}"
                raise KeyboardInterrupt
        return self.line


def interrupted(do, at):
    """Where Ctrl-C came; None where `do` was done before."""
    interrupt, tracing = Interrupt(at), sys.gettrace()
    sys.settrace(interrupt)
    try:
        do()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(tracing)
    return interrupt.place


def in_another_thread(do):
    thread = threading.Thread(target=do)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def looks_of_another_thread_leave_no_trace(learn):
    before = torch.get_rng_state()

    def look():
        with untouched_randomness():
            torch.rand(1)
        learn.validate()                    # waits for ever where the turn was not handed on
    in_another_thread(look)
    return torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def learn():
    data = CollabDataBunch.from_df(synthetic(12, 9, 60, seed=1).ratings, seed=0, bs=16, device="cpu")
    learn = collab_learner(data, n_factors=2, cbs=GradientClip(1.0))
    with learn.no_logging():
        learn.fit(1)
    learn.cbs.remove(learn.progress)
    return learn


def state_of(learn):
    running = {name: getattr(learn, name, None) for name in ("n_epochs", "epoch", "i", "training")}
    callbacks = [(type(cb), {k: str(v) for k, v in vars(cb).items() if k != "learn"}) for cb in learn.cbs]
    hyper = [{k: v for k, v in group.items() if k != "params"} for group in learn.opt.param_groups]
    tensors = [*learn.model.state_dict().values(), *(t for s in learn.opt.state.values() for t in s.values()),
               learn.data.train.generator.get_state(), torch.get_rng_state()]
    return (running, callbacks, str(hyper), [m.training for m in learn.model.modules()], torch.is_grad_enabled(),
            [t.tolist() for t in tensors])


@pytest.mark.filterwarnings("ignore:lr_find suggests no learning rate")
@pytest.mark.parametrize("look", ["validate", "lr_find"])
def test_after_ctrl_c_at_any_line_of_a_look_the_learner_is_what_it_was(look, learn):
    do = {"validate": learn.validate, "lr_find": lambda: learn.lr_find(num_it=2, plot=False)}[look]
    learn.validate()
    before, at = state_of(learn), 0
    while (place := interrupted(do, at := at + 1)) is not None:
        assert state_of(learn) == before, place
        assert looks_of_another_thread_leave_no_trace(learn), place
    assert at > 80


def test_after_ctrl_c_at_any_line_of_a_fit_the_random_state_is_what_it_was_and_fits_go_on(learn):
    before, at = torch.get_rng_state(), 0
    while (place := interrupted(lambda: learn.fit(1), at := at + 1)) is not None:
        assert torch.equal(torch.get_rng_state(), before), place
        assert looks_of_another_thread_leave_no_trace(learn), place
        assert all(vars(cb).keys() >= {"learn"} for cb in learn.cbs), place
    assert at > 60 and not learn.interrupted


def test_a_fit_whose_end_ctrl_c_cut_off_goes_on_with_its_own_stream():
    """Not with the random state that others draw from, should the end be done twice."""
    def rest(at):
        data = CollabDataBunch.from_df(synthetic(12, 9, 60, seed=1).ratings, seed=0, bs=16, device="cpu")
        learn = collab_learner(data, n_factors=2, seed=4)
        seeded = next(cb for cb in learn.cbs if isinstance(cb, Seeded))
        seeded.before_fit()
        torch.rand(1)
        place = interrupted(seeded.cleanup_fit, at)
        seeded.before_fit()
        drawn = torch.rand(1).item()
        seeded.cleanup_fit()
        return place, drawn
    (_, alone), at = rest(None), 0
    while (found := rest(at := at + 1))[0] is not None:
        assert found[1] == alone, found[0]
    assert at > 8


def test_a_step_is_done_whole_however_often_ctrl_c_comes():
    tries, done = iter([KeyboardInterrupt, KeyboardInterrupt, None]), []

    def step():
        done.append("begun")
        if (error := next(tries)) is not None:
            raise error
        done.append("whole")
    with pytest.raises(KeyboardInterrupt):
        whole(step)
    assert done == ["begun", "begun", "begun", "whole"]
    whole(lambda: done.append("once"))
    assert done[4:] == ["once"]


def test_an_error_in_a_step_that_is_done_whole_is_raised():
    with pytest.raises(ZeroDivisionError):
        whole(lambda: 1 / 0)


def test_a_scope_that_was_never_left_keeps_no_other_thread_from_putting_the_random_state_back(learn):
    """Ctrl-C may come as `__exit__` is entered, where nothing can catch it."""
    scope = untouched_randomness()
    scope.__enter__()
    del scope
    assert looks_of_another_thread_leave_no_trace(learn)
