"""Turns, so that one thread at a time trains or evaluates a model, and putting back what evaluation changes."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn

from ..loaders import Batches, parts_of
from .callback import Callback, State
from .callbacks.seeded import untouched_randomness
from .whole import whole

if TYPE_CHECKING:
    from .learner import Learner

RUNNING = ("batches", "training", "i", "epoch", "n_epochs", "xb", "yb", "share", "pred", "loss")
FITTING: WeakSet[Learner] = WeakSet()
"""The learners whose fit is running. Not an attribute of a learner, since a copy made meanwhile may be fitted."""

Modes = dict[nn.Module, bool]
"""The modules of a model, and whether each is in training mode."""

_TURNS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()     # not in the model, which is copied


def turn(model: nn.Module) -> threading.RLock:
    """The lock that a thread holds while it trains or evaluates a model: both switch its mode."""
    return _TURNS.setdefault(model, threading.RLock())      # one call of a dict: two threads get the same lock


@contextmanager
def untouched(learn: Learner, weights: bool = False, *, batches: Batches | None = None) -> Iterator[Modes]:
    """Restore, whatever happens inside, the mode of every module, torch's random state, the generators of the data's
    batches and of `batches`, and the learner's running attributes; with `weights`, also the model's weights, buffers
    and gradients, the optimizer, and the callbacks that are called in evaluation. It gives the modes of the modules.

    One thread at a time evaluates a model; others wait for their turn, and for the end of a fit. Ctrl-C is raised once
    all is restored: the first attempt is made in this very frame, since Ctrl-C may come as a function is entered."""
    with turn(learn.model), untouched_randomness(*parts_of(learn.data).values(), batches):
        modes, own = _modes(learn.model), vars(learn)
        running = _running(own)
        put_weights_back = remember(learn, _in_eval(learn.cbs)) if weights else None

        def put_back() -> None:
            if put_weights_back is not None:
                put_weights_back()
            for module, mode in modes.items():
                if module.training != mode:         # setting it takes longer than a small model takes to score a user
                    module.training = mode
            own.update(running)
            for name in RUNNING:
                if name not in running:
                    own.pop(name, None)
        try:
            for p in learn.model.parameters() if weights else ():
                p.grad = None
            yield modes
        finally:
            try:
                put_back()
            except KeyboardInterrupt:
                whole(put_back)
                raise


# Functions: since Python 3.12 a comprehension is part of the frame around it, and a Ctrl-C inside one kept the turn.

def _modes(model: nn.Module) -> Modes:
    """The modes of a model's modules."""
    return {module: module.training for module in model.modules()}


def _running(own: State) -> State:
    """The running attributes among those of a learner."""
    return {name: own[name] for name in RUNNING if name in own}


def _in_eval(cbs: Iterable[Callback]) -> list[Callback]:
    """The callbacks that are called in evaluation."""
    return [cb for cb in cbs if cb.in_eval]


@contextmanager
def one_fit(learn: Learner) -> Iterator[None]:
    """Bracket a fit, after which the model is in evaluation mode. A fit that is refused, or cut off before its first
    epoch, changes nothing: hyper-parameters, gradients and the attributes of callbacks are restored.

    Raises RuntimeError inside another fit of this learner."""
    if learn in FITTING:
        raise RuntimeError("a fit of this learner is running, and one inside it would break its schedule and stream "
                           "of random numbers; fit again when it is over")
    before = [(now, dict(now)) for now in (*learn.opt.param_groups, *map(vars, learn.cbs))]
    run, grads = learn.run, [(p, p.grad) for p in learn.model.parameters()]
    settings, grad_mode = (learn.n_epochs, learn.interrupted), torch.is_grad_enabled()

    def put_back() -> None:
        learn.n_epochs, learn.interrupted = settings
        for now, was in before:
            _take(now, was)
        for p, grad in grads:
            p.grad = grad
    try:
        FITTING.add(learn)
        yield
    except BaseException:
        if "fit" not in run.entered:
            try:
                put_back()
            except KeyboardInterrupt:
                whole(put_back)
        raise
    finally:
        torch.set_grad_enabled(grad_mode)       # Ctrl-C may have come on the way out of a `with` that changed it
        FITTING.discard(learn)
        if "fit" in run.entered:
            learn.model.eval()


def _take(now: State, was: State) -> None:
    """Make `now` equal to `was`; should Ctrl-C come in between, no entry that both have is ever missing."""
    now.update(was)
    for name in now.keys() - was.keys():
        del now[name]


def remember(learn: Learner, cbs: Iterable[Callback]) -> Callable[[], None]:
    """Copy weights, buffers, gradients, the optimizer and these callbacks; return a function that puts them back."""
    tensors = [*learn.model.parameters(), *learn.model.buffers()]
    before, grads = [t.detach().clone() for t in tensors], [p.grad for p in learn.model.parameters()]
    opt = copy.deepcopy(learn.opt.state_dict())
    states = [(cb, dict(vars(cb)), copy.deepcopy(cb.state_dict())) for cb in cbs]

    def put_back() -> None:
        with torch.no_grad():
            for tensor, value in zip(tensors, before):
                tensor.copy_(value)
        for p, grad in zip(learn.model.parameters(), grads):
            p.grad = grad
        learn.opt.load_state_dict(opt)
        for cb, attributes, state in states:
            _take(vars(cb), attributes)
            cb.load_state_dict(state)
    return put_back
