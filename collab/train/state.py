"""The state of a learner as a tree that can be written to a file, and put back whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor

from ..errors import warn
from ..loaders import generator_of
from .callback import Callback, State
from .callbacks.seeded import Drawn, Seeded, draw_again, drawn_with
from .fingerprint import Fingerprint
from .misfit import misfit
from .sharded_state import StoredTables, check_tables, places_of, restore_tables, sharded_tables
from .untouched import remember
from .whole import whole

if TYPE_CHECKING:
    from .learner import Learner

MIRRORS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg",
           "acc_delta", "sum", "prev", "step_size")     # what optimizers keep of each parameter, in its shape
DAMAGE = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)    # raised by reading wrong data


class CallbackState(TypedDict):
    """A callback by the name of its class, and its state."""

    name: str
    state: State


class LearnerState(Drawn):
    """All that training goes on from (see `learner_state`); from `done` to `began`, of a `Checkpoint`."""

    model: dict[str, Tensor]
    opt: State
    opt_class: str
    grads: dict[str, Tensor]
    cbs: list[CallbackState]
    epoch: int
    i: int
    n_epochs: int
    model_class: NotRequired[str]       # not in files of the version before
    done: NotRequired[int]              # batches of this epoch that were trained on
    per_epoch: NotRequired[int]
    start: NotRequired[Drawn]           # when this epoch began
    fit: NotRequired[Fingerprint]
    began: NotRequired[int]             # batches that were trained on before this fit
    tables: NotRequired[State]          # in files beside this one: see `sharded_state`
    stored: NotRequired[StoredTables]   # these, once they are read


@runtime_checkable
class Monitoring(Protocol):
    """A callback that watches one column, and may stand beside others of its class."""

    monitor: str


def learner_state(learn: Learner, without: Callback | None = None) -> LearnerState:
    """All that training goes on from, as a tree of dicts, lists, tensors and plain values: the model, the optimizer,
    the random states, the callbacks (the history among them) except `without`, and the position in the fit."""
    return {"model": learn.model.state_dict(), "opt": learn.opt.state_dict(), "opt_class": type(learn.opt).__name__,
            **drawn_with(learn.data.train),
            "grads": {name: p.grad for name, p in learn.model.named_parameters() if p.grad is not None},
            "cbs": [{"name": type(cb).__name__, "state": cb.state_dict()} for cb in learn.cbs if cb is not without],
            "epoch": learn.epoch, "i": learn.i, "n_epochs": learn.n_epochs, "model_class": type(learn.model).__name__}


def restore_state(learn: Learner, state: LearnerState, *, with_opt: bool = True,
                  source: str | Path = "the saved state") -> None:
    """Put back a tree from `learner_state`.

    Callbacks are matched by class (and by the column that they monitor), in order. The states of callbacks that the
    learner lacks, and of GPUs that are not here, are left out with a CollabWarning.
    Raises ValueError that names the `source`, and changes nothing, if anything in it does not fit. Tables that are
    spread over processes are put back last, since they are not copied: a disk that fails then leaves some of both."""
    check_state(learn, state, with_opt=with_opt, source=source)
    matched, gone = _matched(learn.cbs, state["cbs"])
    spread, stored = sharded_tables(learn), state["stored"].tables if "stored" in state else {}
    put_back, drawn = remember(learn, learn.cbs, but=spread), drawn_with(learn.data.train)
    try:
        if with_opt:
            beside = {places_of(learn)[name] for name in spread}
            own = {k: value for k, value in state["opt"]["state"].items() if k not in beside}
            learn.opt.load_state_dict({**state["opt"], "state": own})
        model = {name: t for name, t in state["model"].items() if name not in stored}
        learn.model.load_state_dict(model, strict=not stored)
        for name, p in learn.model.named_parameters():
            grad = state["grads"].get(name)
            p.grad = None if grad is None else grad.to(p.device)
        for cb, saved in matched:
            try:
                cb.load_state_dict(saved)
            except DAMAGE as error:
                raise ValueError(f"{source} does not fit {cb}: {_said(error)}") from error
        draw_again(learn.data.train, state)
        restore_tables(learn, state, with_opt)
    except BaseException:
        whole(put_back)
        draw_again(learn.data.train, drawn)
        raise
    said = [f"the state of {', '.join(gone)}, which this learner does not have: it is left out; to go on with it, add "
            "such callbacks first (learn.add_cbs, or cbs= where a fit is resumed)"] if gone else []
    if (absent := len(state["random"]) - 1 - torch.cuda.device_count()) > 0:
        said.append(f"the random states of {absent} GPUs that are not here: what was drawn on them is drawn otherwise")
    if said:
        warn(f"{source} holds {'; and '.join(said)}")


def check_state(learn: Learner, state: LearnerState, *, with_opt: bool = True,
                source: str | Path = "the saved state") -> None:
    """Raise ValueError if a tree does not fit the model, the optimizer or the generators; nothing is changed."""
    try:
        _check_weights(learn, state, source)
        if with_opt:
            _check_opt(learn, state, source)
        check_tables(learn, state)
        inner = [cb["state"]["inner"] for cb in state["cbs"] if cb["name"] == Seeded.__name__]
        for states in (state, state.get("start"), *inner):
            if states is not None:
                _check_random(learn, states)
    except DAMAGE as error:
        if str(source) in str(error):
            raise
        raise ValueError(f"{source} is not a whole state of a learner: {_said(error)}") from error


def _check_random(learn: Learner, states: Drawn) -> None:
    """Raise RuntimeError or TypeError unless the states fit torch's generator and that of the batches."""
    torch.Generator().set_state(states["random"][0])
    generator = generator_of(learn.data.train)
    if generator is not None and states["batches"] is not None:
        before = generator.get_state()
        try:
            generator.set_state(states["batches"])
        finally:
            generator.set_state(before)


def _check_weights(learn: Learner, state: LearnerState, source: str | Path) -> None:
    if differs := misfit(state["model"], learn.model, state.get("model_class")):
        raise ValueError(f"{source} does not fit this {type(learn.model).__name__}: {differs}; make the learner with a "
                         "model of the saved one's class and arguments")
    now, saved = ({name: t.dtype for name, t in weights.items() if isinstance(t, Tensor)}
                  for weights in (learn.model.state_dict(), state["model"]))
    for name, dtype in saved.items():
        if dtype != now[name]:
            raise ValueError(f"{source} does not fit this {type(learn.model).__name__}: its {name} is {dtype}, the "
                             f"model's {now[name]}; convert the model first, with model.to({dtype})")
    parameters = dict(learn.model.named_parameters())
    for name, grad in state["grads"].items():
        if name not in parameters or grad.shape != parameters[name].shape:
            raise ValueError(f"{source} holds a gradient of {name}, shape {tuple(grad.shape)}, which does not fit this "
                             f"{type(learn.model).__name__}")


def _check_opt(learn: Learner, state: LearnerState, source: str | Path) -> None:
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


def _matched(cbs: Iterable[Callback],
             saved: list[CallbackState]) -> tuple[list[tuple[Callback, State]], list[str]]:
    """The callbacks with their states, and the names of those that are not there and whose state is not empty."""
    left, matched = list(saved), []
    for cb in cbs:
        kind = type(cb).__name__, cb.monitor if isinstance(cb, Monitoring) else None
        if found := next((s for s in left if (s["name"], s["state"].get("monitor")) == kind), None):
            left = [s for s in left if s is not found]
            matched.append((cb, found["state"]))
    return matched, [s["name"] + (f" of {s['state']['monitor']!r}" if "monitor" in s["state"] else "") for s in left
                     if any(map(_holds, s["state"].values()))]


def _holds(value: object) -> bool:
    return isinstance(value, Tensor) or bool(value)


def _said(error: Exception) -> str:
    return f"it holds no {error}" if isinstance(error, KeyError) else str(error)
