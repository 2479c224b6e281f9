"""The state of a learner: a snapshot that is put back after looking, and a tree that can be written and resumed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch

from ..loaders import generator_of
from .seeded import random_state, set_random_state, untouched_randomness

if TYPE_CHECKING:
    from .learner import Learner

RUNNING = ("batches", "training", "i", "epoch", "n_epochs", "xb", "yb", "pred", "loss")
FITTING: WeakSet[Learner] = WeakSet()
"""The learners whose fit is running: no attribute of theirs, since a copy that is made meanwhile may be fitted."""


@contextmanager
def untouched(learn: Learner, weights: bool = False, batches: Any = None) -> Iterator[None]:
    """Whatever happens inside, afterwards the mode of every module, torch's random state, the generators of the data's
    batches and of `batches`, and the learner's running attributes are what they were; with `weights`, so are the
    model's weights and buffers, its gradients, the optimizer and the callbacks that look."""
    modes = {module: module.training for module in learn.model.modules()}
    running = {name: value for name, value in vars(learn).items() if name in RUNNING}
    parts = (learn.data.train, learn.data.valid, getattr(learn.data, "test", None), batches)
    with ExitStack() as stack:
        stack.enter_context(untouched_randomness(*parts))
        if weights:
            stack.enter_context(_untouched_weights(learn))
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            for name in RUNNING:
                vars(learn).pop(name, None)
            vars(learn).update(running)


@contextmanager
def one_fit(learn: Learner) -> Iterator[None]:
    """Brackets a fit, after which the model is in evaluation mode. A fit that was refused, or cut off before its first
    epoch began, changes nothing: hyper-parameters, gradients and the attributes of callbacks are what they were.

    Raises RuntimeError inside another fit of this learner."""
    if learn in FITTING:
        raise RuntimeError("a fit of this learner is running, and one inside it would break its schedule and stream "
                           "of random numbers; fit again when it is over")
    before = [(now, dict(now)) for now in (*learn.opt.param_groups, *map(vars, learn.cbs))]
    run, grads = learn.run, [(p, p.grad) for p in learn.model.parameters()]
    settings, grad_mode = (learn.n_epochs, learn.interrupted), torch.is_grad_enabled()
    try:
        FITTING.add(learn)
        yield
    except BaseException:
        if "fit" not in run.entered:
            learn.n_epochs, learn.interrupted = settings
            for now, was in before:
                now.clear()
                now.update(was)
            for p, grad in grads:
                p.grad = grad
        raise
    finally:
        torch.set_grad_enabled(grad_mode)       # Ctrl-C may have come on the way out of a `with` that changed it
        FITTING.discard(learn)
        if "fit" in run.entered:
            learn.model.eval()


@contextmanager
def _untouched_weights(learn: Learner) -> Iterator[None]:
    tensors = [*learn.model.parameters(), *learn.model.buffers()]
    before, grads = [t.detach().clone() for t in tensors], [p.grad for p in learn.model.parameters()]
    opt = copy.deepcopy(learn.opt.state_dict())
    cbs = [(cb, dict(vars(cb)), copy.deepcopy(cb.state_dict())) for cb in learn.cbs if cb.looks]
    for p in learn.model.parameters():
        p.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, before):
                tensor.copy_(value)
        for p, grad in zip(learn.model.parameters(), grads):
            p.grad = grad
        learn.opt.load_state_dict(opt)
        for cb, attributes, state in cbs:
            vars(cb).clear()
            vars(cb).update(attributes)
            cb.load_state_dict(state)


def learner_state(learn: Learner) -> dict[str, Any]:
    """Everything that training goes on from, as a tree of dicts, lists, tensors and plain values: the model, the
    optimizer, the random states, the callbacks (the history among them), and where in the fit this is."""
    return {"model": learn.model.state_dict(), "opt": learn.opt.state_dict(), "opt_class": type(learn.opt).__name__,
            "random": random_state(),
            "batches": _generator_state(learn),
            "grads": {name: p.grad for name, p in learn.model.named_parameters() if p.grad is not None},
            "cbs": [{"name": type(cb).__name__, "state": cb.state_dict()} for cb in learn.cbs],
            "epoch": learn.epoch, "i": learn.i, "n_epochs": learn.n_epochs}


def restore_state(learn: Learner, state: dict[str, Any], with_opt: bool = True) -> None:
    """Put a tree from `learner_state` back.

    Callbacks are matched by class, in order; the state of one that is no longer there is left out. Raises ValueError,
    and changes nothing, where the weights or the optimizer do not fit."""
    shapes, saved_shapes = ({name: tuple(t.shape) for name, t in weights.items()}
                            for weights in (learn.model.state_dict(), state["model"]))
    if shapes != saved_shapes:
        raise ValueError(f"the saved state does not fit this {type(learn.model).__name__}: its weights are "
                         f"{saved_shapes}, the model's {shapes}")
    if with_opt:
        if state["opt_class"] != type(learn.opt).__name__:
            raise ValueError(f"the saved state does not fit this {type(learn.opt).__name__}: it is that of "
                             f"{state['opt_class']}; load it with with_opt=False, or with that optimizer")
        try:
            learn.opt.load_state_dict(state["opt"])
        except (KeyError, ValueError) as error:
            raise ValueError(f"the saved state does not fit this {type(learn.opt).__name__}: {error}") from None
    learn.model.load_state_dict(state["model"])
    for name, p in learn.model.named_parameters():
        grad = state["grads"].get(name)
        p.grad = None if grad is None else grad.to(p.device)
    saved = list(state["cbs"])
    for cb in learn.cbs:
        if found := next((s for s in saved if s["name"] == type(cb).__name__), None):
            saved.remove(found)
            cb.load_state_dict(found["state"])
    if state["batches"] is not None and (generator := generator_of(learn.data.train)) is not None:
        generator.set_state(state["batches"])
    set_random_state(state["random"])


def _generator_state(learn: Learner) -> Any:
    generator = generator_of(learn.data.train)
    return None if generator is None else generator.get_state()
