"""Optimizers, their parameter groups and hyper-parameters; weight decay that is decoupled in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import nn

OptFunc = Callable[..., torch.optim.Optimizer]
Hyper = float | slice | Sequence[float] | Mapping[str, float]

adamw: OptFunc = partial(torch.optim.AdamW, betas=(0.9, 0.99), fused=True)
"""Adam with decoupled weight decay (Loshchilov and Hutter 2019), one fused pass over all parameters."""


def param_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The model's own `param_groups()`, a list of {"name", "params", "decay"} from the input side to the output side,
    or one group of everything. `decay` is the share of the weight decay that the group gets, by default 1.

    Raises ValueError where the groups do not hold every parameter exactly once."""
    own = getattr(model, "param_groups", None)
    groups = own() if own else [{"name": "all", "params": list(model.parameters())}]
    if sorted(id(p) for g in groups for p in g["params"]) != sorted(id(p) for p in model.parameters()):
        raise ValueError(f"{type(model).__name__}.param_groups() must hold every parameter of the model exactly once")
    return [{"decay": 1.0, **group} for group in groups]


def make_optimizer(model: nn.Module, opt_func: OptFunc, lr: Hyper, wd: Hyper) -> torch.optim.Optimizer:
    """`opt_func(groups)` over all parameters, frozen ones too, so that they can be thawed with their state.

    `opt_func` is any optimizer class of torch, or a partial of one. Its weight decay is decoupled from the gradient:
    w <- w - lr wd w before each step, where it has no such decay itself.
    Raises ValueError where nothing is trainable, or where `opt_func` brings a weight decay of its own."""
    if isinstance(opt_func, partial) and "weight_decay" in opt_func.keywords:
        raise ValueError("give the weight decay to the learner or to fit, as wd=...; that of the optimizer is not used")
    groups = param_groups(model)
    if not any(p.requires_grad for group in groups for p in group["params"]):
        raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient, so nothing can be trained")
    opt = opt_func(groups)
    if not all(group.get("decoupled_weight_decay") for group in opt.param_groups):
        opt.register_step_pre_hook(_decay)
    set_hyper(opt, lr=lr, weight_decay=wd)
    return opt


def set_hyper(opt: torch.optim.Optimizer, **values: Hyper) -> None:
    """Set hyper-parameters by the optimizer's own names; `momentum` is beta 1 where there are betas.

    A value is one number for all groups, a list of one for each, a dict by group name, or a slice (see `per_group`).
    One number for `weight_decay` is scaled by each group's share. Raises ValueError for a name the optimizer lacks, or
    a value that is negative or not finite."""
    for name, value in values.items():
        for group, one in zip(opt.param_groups, per_group(opt, value)):
            if not 0 <= one < math.inf:
                raise ValueError(f"{name} must be a finite number, at least 0, got {one}")
            if name == "weight_decay":
                one = one * group["decay"] if isinstance(value, Real) else one
                group[_decay_key(group)] = one
                if _decay_key(group) != "weight_decay" and "weight_decay" in group:
                    group["weight_decay"] = 0.0         # its own would go through the gradient
            elif name == "momentum" and "betas" in group:
                group["betas"] = (one, *group["betas"][1:])
            elif name in group:
                group[name] = one
            else:
                raise ValueError(f"{type(opt).__name__} has no hyper-parameter {name!r}; it has "
                                 f"{', '.join(k for k in group if k not in OURS)}")


def get_hyper(opt: torch.optim.Optimizer, name: str) -> float | None:
    """A hyper-parameter of the last group, `momentum` meaning beta 1 where there are betas; None if it has none."""
    group = opt.param_groups[-1]
    if name == "weight_decay":
        return group[_decay_key(group)]
    return group["betas"][0] if name == "momentum" and "betas" in group else group.get(name)


def per_group(opt: torch.optim.Optimizer, value: Any) -> list[Any]:
    """One value a group. slice(low, high) rises by equal factors from the first group to the last; slice(high) is
    high for the last and a tenth of it for the others. Raises ValueError where the values do not fit the groups."""
    groups = opt.param_groups
    if isinstance(value, Real):
        return [value] * len(groups)
    names = [group["name"] for group in groups]
    if isinstance(value, slice):
        if value.start is None:
            return [value.stop / 10] * (len(groups) - 1) + [value.stop]
        if not 0 < value.start <= value.stop:
            raise ValueError(f"slice(low, high) needs 0 < low <= high, got {value}")
        steps = max(len(groups) - 1, 1)
        return [value.start * (value.stop / value.start) ** (k / steps) for k in range(len(groups) - 1)] + [value.stop]
    if isinstance(value, Mapping):
        if set(value) != set(names):
            raise ValueError(f"a value for each of the groups {names} is needed, got {dict(value)}")
        return [value[name] for name in names]
    if len(value) != len(groups):
        raise ValueError(f"a value for each of the {len(groups)} groups {names} is needed, got {list(value)}")
    return list(value)


OURS = ("params", "name", "decay", "our_weight_decay")


def _decay_key(group: dict[str, Any]) -> str:
    return "weight_decay" if group.get("decoupled_weight_decay") else "our_weight_decay"


@torch.no_grad()
def _decay(opt: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Before each step, for optimizers that would add weight decay to the gradient or have none."""
    for group in opt.param_groups:
        if wd := group.get("our_weight_decay"):
            moved = [p for p in group["params"] if p.grad is not None]
            if moved:
                torch._foreach_mul_(moved, 1 - group["lr"] * wd)
