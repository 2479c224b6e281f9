"""The state of a learner as a tree that can be written, and put back whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import warn
from ..loaders import generator_of
from .callback import Callback
from .callbacks.seeded import Seeded, random_state, set_random_state
from .untouched import remember
from .whole import whole

if TYPE_CHECKING:
    from .learner import Learner

MIRRORS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg",
           "acc_delta", "sum", "prev", "step_size")     # what optimizers keep of each parameter in its shape
DAMAGE = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)    # what reading the wrong raises


def learner_state(learn: Learner, without: Callback | None = None) -> dict[str, Any]:
    """Everything that training goes on from, as a tree of dicts, lists, tensors and plain values: the model, the
    optimizer, the random states, the callbacks (the history among them) but for `without`, and where in the fit this
    is."""
    return {"model": learn.model.state_dict(), "opt": learn.opt.state_dict(), "opt_class": type(learn.opt).__name__,
            "random": random_state(),
            "batches": _generator_state(learn),
            "grads": {name: p.grad for name, p in learn.model.named_parameters() if p.grad is not None},
            "cbs": [{"name": type(cb).__name__, "state": cb.state_dict()} for cb in learn.cbs if cb is not without],
            "epoch": learn.epoch, "i": learn.i, "n_epochs": learn.n_epochs}


def restore_state(learn: Learner, state: dict[str, Any], with_opt: bool = True,
                  source: Any = "the saved state") -> None:
    """Put a tree from `learner_state` back.

    Callbacks are matched by class (and by what they monitor), in order; the state of one that is no longer there is
    left out, and so are random states of GPUs that are not here, which is warned of.
    Raises ValueError that names the `source`, and changes nothing, where anything in it does not fit."""
    check_state(learn, state, with_opt, source)
    matched, gone = _matched(learn.cbs, state["cbs"])
    put_back, generator = remember(learn, learn.cbs), generator_of(learn.data.train)
    drawn, random = _generator_state(learn), random_state()
    try:
        if with_opt:
            learn.opt.load_state_dict(state["opt"])
        learn.model.load_state_dict(state["model"])
        for name, p in learn.model.named_parameters():
            grad = state["grads"].get(name)
            p.grad = None if grad is None else grad.to(p.device)
        for cb, saved in matched:
            try:
                cb.load_state_dict(saved)
            except DAMAGE as error:
                raise ValueError(f"{source} does not fit {cb}: {_said(error)}") from error
        if state["batches"] is not None and generator is not None:
            generator.set_state(state["batches"])
        set_random_state(state["random"])
    except BaseException:
        whole(put_back)
        if generator is not None:
            generator.set_state(drawn)
        set_random_state(random)
        raise
    said = [f"the state of {', '.join(gone)}, which this learner does not have: it is left out; to go on with it, add "
            "such callbacks first (learn.add_cbs, or cbs= where a fit is resumed)"] if gone else []
    if (absent := len(state["random"]) - 1 - torch.cuda.device_count()) > 0:
        said.append(f"the random states of {absent} GPUs that are not here: what was drawn on them is drawn otherwise")
    if said:
        warn(f"{source} holds {'; and '.join(said)}")


def check_state(learn: Learner, state: dict[str, Any], with_opt: bool = True, source: Any = "the saved state") -> None:
    """Raises ValueError where a tree does not fit the model, the optimizer or the generators; nothing is changed."""
    try:
        _check_weights(learn, state, source)
        if with_opt:
            _check_opt(learn, state, source)
        inner = [cb["state"]["inner"] for cb in state["cbs"] if cb["name"] == Seeded.__name__]
        for states in (state, state.get("start"), *inner):
            if states is not None:
                _check_random(learn, states)
    except DAMAGE as error:
        if str(source) in str(error):
            raise
        raise ValueError(f"{source} is not a whole state of a learner: {_said(error)}") from error


def _check_random(learn: Learner, states: dict[str, Any]) -> None:
    """Raises RuntimeError or TypeError for states that are not those of torch's generator and the batches'."""
    torch.Generator().set_state(states["random"][0])
    generator, before = generator_of(learn.data.train), _generator_state(learn)
    if generator is not None and states["batches"] is not None:
        try:
            generator.set_state(states["batches"])
        finally:
            generator.set_state(before)


def _check_weights(learn: Learner, state: dict[str, Any], source: Any) -> None:
    now, saved = ({name: (tuple(t.shape), t.dtype) for name, t in weights.items() if isinstance(t, Tensor)}
                  for weights in (learn.model.state_dict(), state["model"]))
    kinds = tuple({k: shape for k, (shape, _) in some.items()} for some in (saved, now))
    if kinds[0] != kinds[1]:
        raise ValueError(f"{source} does not fit this {type(learn.model).__name__}: its weights are {kinds[0]}, the "
                         f"model's {kinds[1]}")
    for name, (_, dtype) in saved.items():
        if dtype != now[name][1]:
            raise ValueError(f"{source} does not fit this {type(learn.model).__name__}: its {name} is {dtype}, the "
                             f"model's {now[name][1]}; convert the model first, with model.to({dtype})")
    parameters = dict(learn.model.named_parameters())
    for name, grad in state["grads"].items():
        if name not in parameters or grad.shape != parameters[name].shape:
            raise ValueError(f"{source} holds a gradient of {name}, shape {tuple(grad.shape)}, which does not fit this "
                             f"{type(learn.model).__name__}")


def _check_opt(learn: Learner, state: dict[str, Any], source: Any) -> None:
    name, groups = type(learn.opt).__name__, learn.opt.param_groups
    if state["opt_class"] != name:
        raise ValueError(f"{source} does not fit this {name}: it is that of {state['opt_class']}; load it with "
                         "with_opt=False, or with that optimizer")
    saved, kept = state["opt"]["param_groups"], state["opt"]["state"]
    if [len(group["params"]) for group in saved] != [len(group["params"]) for group in groups]:
        raise ValueError(f"{source} does not fit this {name}: it has groups of "
                         f"{[len(group['params']) for group in saved]} parameters, and these are "
                         f"{[len(group['params']) for group in groups]}")
    if lacking := next((key for one, other in zip(saved, groups) for key in other if key not in one), None):
        raise ValueError(f"{source} does not fit this {name}: it holds no {lacking}")
    places = (k for group in saved for k in group["params"])
    for k, p in zip(places, (p for group in groups for p in group["params"])):
        for key, value in kept.get(k, {}).items():
            if key in MIRRORS and isinstance(value, Tensor) and value.dim() and value.shape != p.shape:
                raise ValueError(f"{source} does not fit this {name}: its {key} has shape {tuple(value.shape)}, the "
                                 f"parameter {tuple(p.shape)}")


def _matched(cbs: Iterable[Callback], saved: list[dict[str, Any]]) -> tuple[list[tuple[Callback, Any]], list[str]]:
    """Callbacks with the state that is theirs, and the names of those that are not there and whose state is not
    empty."""
    left, matched = list(saved), []
    for cb in cbs:
        kind = type(cb).__name__, getattr(cb, "monitor", None)
        if found := next((s for s in left if (s["name"], s["state"].get("monitor")) == kind), None):
            left = [s for s in left if s is not found]
            matched.append((cb, found["state"]))
    return matched, [s["name"] + (f" of {s['state']['monitor']!r}" if "monitor" in s["state"] else "") for s in left
                     if any(map(_holds, s["state"].values()))]


def _holds(value: Any) -> bool:
    return isinstance(value, Tensor) or bool(value)


def _said(error: Exception) -> str:
    return f"it holds no {error}" if isinstance(error, KeyError) else str(error)


def _generator_state(learn: Learner) -> Any:
    generator = generator_of(learn.data.train)
    return None if generator is None else generator.get_state()
