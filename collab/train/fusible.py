"""Whether a pass over training batches can be fused (see `fused`), and if not, why.

It can where the steps of a batch are the default ones, or an objective's that kernels know, the model is a dot product
(`dot_tables`), the loss the mean squared error, the optimizer AdamW or RowAdagrad, and every callback that listens
inside a batch can take many batches at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..compiled import DotTables, RankingLoss, not_compiled
from ..loaders import columns_of, pieces_of, streamed
from ..losses import mse
from .callback import Callback, Dispatch
from .events import IN_BULK, POINTS, VERBS
from .optim import AdamW
from .row_adagrad import RowAdagrad
from .schedule import ParamScheduler

if TYPE_CHECKING:
    from .learner import Learner

INSIDE = ("before_batch", "after_batch", "cleanup_batch", *POINTS)      # events inside a batch
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
PLAIN = {"amsgrad": False, "maximize": False, "capturable": False, "differentiable": False}     # of AdamW
STEPS = (*VERBS, "drawn", "make_negatives", "setup")            # of an objective, and what it prepares for them
HYPERS = ("lr", "momentum", "weight_decay")         # what may change from batch to batch


@runtime_checkable
class Fusible(Protocol):
    """A model that can say which dot product it is."""

    def dot_tables(self) -> DotTables | None:
        """The parameters of the product; None for a model that is something else."""
        ...


@runtime_checkable
class Ranks(Protocol):
    """A callback that replaces `get_loss` by a loss that kernels know."""

    def kernel_loss(self) -> RankingLoss:
        """The loss of a pass, asked for as it begins."""
        ...


def why_not(learn: Learner, run: Dispatch, batches: object) -> str | None:
    """Why a pass over these batches is not fused, in words; None where it is."""
    tables = tables_of(learn.model)
    if tables is None:
        return f"{type(learn.model).__name__} is not a plain dot product"
    if reason := odd_parameters(learn.model, tables) or _odd_optimizer(learn, tables):
        return reason
    if replaced := [f"{owner} replaces {verb}()" for verb, owner in run.owners.items() if owner is not learn.verbs
                    and not (verb == "get_loss" and ranks(owner))]:
        return replaced[0]
    if run.owners["get_loss"] is learn.verbs and learn.loss_func is not mse:
        return f"the loss is {getattr(learn.loss_func, '__name__', learn.loss_func)}, not mse"
    known = {*HYPERS} - ({"weight_decay"} if isinstance(learn.opt, RowAdagrad) else set())
    if others := {name for cb in run.cbs if isinstance(cb, ParamScheduler) for name in cb.scheds} - known:
        return f"a schedule changes {min(others)}"
    if listening := [cb for cb in run.cbs if not in_bulk(cb)]:
        return f"{listening[0]} listens to every batch"
    return odd_batches(batches, tables) or not_compiled()


def odd_batches(batches: object, tables: DotTables) -> str | None:
    """Why kernels cannot take these batches, in words; None where they can."""
    pieces, lacking = pieces_of(batches), "some ratings are of rows that the model does not have"
    if pieces is not None and (apart := streamed(batches)) is not None:
        return lacking if apart.shape[0] > len(tables.users) or apart.shape[1] > len(tables.items) else None
    columns = columns_of(batches)
    if pieces is None or columns is None or [t.dtype for t in columns] != [torch.int64, torch.int64, torch.float32]:
        return "the batches are not slices of users, items and float32 ratings"
    if any(t.device.type != "cpu" or t.dim() != 1 or t.requires_grad for t in columns):
        return "the ratings are not plain columns on the CPU"
    for rows, table in zip(columns, (tables.users, tables.items)):
        if len(rows) and not 0 <= int((ends := rows.aminmax()).min) <= int(ends.max) < len(table):
            return lacking      # a kernel would write elsewhere
    return None


def in_bulk(cb: Callback) -> bool:
    """Whether a callback does not listen inside a batch, or its class says what it does in a fused pass, or what loss
    kernels take for it, at least as far down as what it does in a batch."""
    return _depth(cb, (*IN_BULK, "kernel_loss")) <= _depth(cb, INSIDE) and not set(INSIDE) & set(vars(cb))


def ranks(cb: object) -> bool:
    """Whether kernels know the loss by which a callback replaces `get_loss`: one of its class, or of a class above that
    changes no step of a batch."""
    return (isinstance(cb, Ranks) and _depth(cb, ("kernel_loss",)) <= _depth(cb, STEPS)
            and not set(STEPS) & set(vars(cb)))


def _depth(cb: object, names: tuple[str, ...]) -> int:
    """How far up in its ancestry a class defines one of these."""
    classes = type(cb).__mro__
    return next((k for k, cls in enumerate(classes) if set(names) & set(vars(cls))), len(classes))


def tables_of(model: nn.Module) -> DotTables | None:
    """The parameters of a model that is a plain dot product; None for another one."""
    if not (isinstance(model, Fusible) and issubclass(type(model), Fusible)) or "forward" in vars(model):
        return None
    tables = model.dot_tables()
    return tables if tables and {*map(id, tables.parameters)} == {*map(id, model.parameters())} else None


def odd_parameters(model: nn.Module, tables: DotTables) -> str | None:
    """Why kernels cannot work on the parameters of a model, in words; None where they can."""
    for p in tables.parameters:
        if p.device.type != "cpu" or p.dtype != torch.float32 or not p.is_contiguous():
            return f"parameters are not float32 on the CPU, but {str(p.dtype).removeprefix('torch.')} on {p.device}"
        if not p.requires_grad:
            return "some parameters are frozen"
        if getattr(p, "_backward_hooks", None) or getattr(p, "_post_accumulate_grad_hooks", None):
            return "a parameter has a hook"
    if any(getattr(module, name, None) for module in model.modules() for name in HOOKS):
        return "the model has a hook"
    if any(isinstance(module, nn.Embedding) and module.sparse for module in model.modules()):
        return "gradients are sparse"
    return None


def _odd_optimizer(learn: Learner, tables: DotTables) -> str | None:
    opt = learn.opt
    name = type(opt).__name__
    if type(opt) not in (torch.optim.AdamW, AdamW, RowAdagrad):
        return f"the optimizer is {name}, not AdamW or RowAdagrad"
    if any(getattr(opt, hooks, None) for hooks in STEP_HOOKS):
        return "the optimizer has a hook"
    for group in opt.param_groups:
        if any(group.get(key, value) != value for key, value in PLAIN.items()):
            return f"{name} is not the plain one: {', '.join(key for key in PLAIN if group.get(key))}"
        if not group.get("betas", (0, 1))[1]:       # the kernels divide by its root
            return f"{name} has a beta2 of 0"
        if type(opt) is RowAdagrad and group["weight_decay"]:
            return "RowAdagrad has a weight decay"
    places = [group_of(opt, p) for p in tables.parameters]
    if places[0] != places[1] or len(set(places[2:])) > 1:
        return "the factors, or the biases, are in several parameter groups"
    if len({steps_of(opt, p) for p in tables.parameters if moves(opt, p)}) > 1:
        return "some parameters have taken more steps than others"
    return None


def group_of(opt: torch.optim.Optimizer, p: Tensor) -> int:
    return next(k for k, group in enumerate(opt.param_groups) if any(p is one for one in group["params"]))


def moves(opt: torch.optim.Optimizer, p: Tensor) -> bool:
    return p.dim() > 0 or not isinstance(opt, RowAdagrad)


def steps_of(opt: torch.optim.Optimizer, p: Tensor) -> int:
    return int(opt.state[p]["step"]) if opt.state.get(p) and "step" in opt.state[p] else 0
