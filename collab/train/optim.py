"""Optimizers, their parameter groups and hyper-parameters, and weight decay that any of them can decouple."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from inspect import unwrap
from numbers import Real
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import warn
from ..given import is_real

OptFunc = Callable[..., torch.optim.Optimizer]
Hyper = float | slice | Sequence[float] | Mapping[str, float]
Group = dict[str, Any]      # a parameter group as torch has it, and what this module adds to it (OURS)

NUMBER = r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*"
FUSED = (torch.optim.Adam, torch.optim.AdamW)       # their fused pass is as exact, and twice as fast on a CPU too


class Plain(torch.optim.Optimizer):
    """An optimizer without the wrappers that torch puts around these methods for `torch.compile`: the first call of one
    imports `torch._dynamo`, which takes longer than five epochs of MovieLens-100K."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class AdamW(Plain, torch.optim.AdamW):
    """torch's AdamW, likewise."""

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


adamw: OptFunc = partial(AdamW, betas=(0.9, 0.99), fused=True)
"""Adam with decoupled weight decay (Loshchilov and Hutter 2019), one fused pass over all parameters."""


@runtime_checkable
class Grouped(Protocol):
    """A module that says into which groups its parameters fall, so that each may have its own rate and weight decay."""

    def param_groups(self) -> list[Group]:
        """{"name": str, "params": list of parameters, "decay": float} for each group, from the input to the output.
        `decay`, the share of the weight decay that the group gets, may be left out and is then 1. Every parameter is in
        exactly one group."""
        ...


def param_groups(module: nn.Module) -> list[Group]:
    """The groups of a `Grouped` module, or one group of all parameters for any other.

    Raises ValueError unless the groups hold every parameter exactly once."""
    everything = list(module.parameters())
    groups: list[Group] = [{"name": "all", "params": everything}]
    if isinstance(module, Grouped) and issubclass(type(module), Grouped):       # a mere layer may have that name
        groups = module.param_groups()
    if sorted(id(p) for g in groups for p in g["params"]) != sorted(map(id, everything)):
        raise ValueError(f"{type(module).__name__}.param_groups() must hold every parameter of the model exactly once")
    return [{"decay": 1.0, **group} for group in groups]


def sets(opt_func: OptFunc, name: str) -> bool:
    """Whether `opt_func` chooses the hyper-parameter `name` itself: a partial of a class chooses those that it names,
    any other function, such as a lambda, all of them, and a class none."""
    if isinstance(opt_func, partial) and isinstance(opt_func.func, type):
        return name in opt_func.keywords
    return not isinstance(opt_func, type)


def make_optimizer(model: nn.Module, opt_func: OptFunc, lr: Hyper | None = None,
                   wd: Hyper | None = None) -> torch.optim.Optimizer:
    """Make `opt_func(groups)` over all parameters, frozen ones too, so that they can be thawed with their state.

    `opt_func` is an optimizer class of torch, a partial of one, or a function of the groups. Without `lr`, the
    optimizer keeps the rate that it was made with. Without `wd`, it keeps the weight decay that `opt_func` chose (see
    `sets`), applied in its own way, which in Adam and SGD is through the gradient; a class has none. A `wd` replaces
    it, and is decoupled from the gradient in every optimizer: w <- w - lr wd w before each step (Loshchilov and Hutter
    2019). The classes Adam and AdamW run fused.
    Raises ValueError if nothing is trainable, or if `opt_func` leaves parameters out."""
    groups = param_groups(model)
    if not any(p.requires_grad for group in groups for p in group["params"]):
        raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient, so nothing can be trained")
    opt = _fused(opt_func, model)(groups)
    held = {id(p) for group in opt.param_groups for p in group["params"]}
    if missing := sum(id(p) not in held for p in model.parameters()):
        raise ValueError(f"opt_func has left out {missing} of the {len(list(model.parameters()))} parameters of "
                         f"{type(model).__name__}; let it pass on all of the groups that it is given: "
                         "lambda groups: torch.optim.Adam(groups, ...)")
    if any("decay" not in group for group in opt.param_groups):
        _name(opt, groups)
    if not all(group.get("decoupled_weight_decay") for group in opt.param_groups):
        kind: type = type(opt)
        opt.__class__ = _decoupled(kind)
    for group in opt.param_groups:
        if _decay_key(group) not in group:
            group[_decay_key(group)] = 0.0
        if not sets(opt_func, "weight_decay") and "weight_decay" in group:
            group["weight_decay"] = 0.0
        group["given"] = {name: group[name] for name in GIVEN if name in group}
    set_hyper(opt, lr=lr, weight_decay=wd)
    return opt


def _fused(opt_func: OptFunc, model: nn.Module) -> OptFunc:
    """`opt_func` with one fused pass over all parameters, if its class has one and no other way is asked for."""
    kind, asked = (opt_func.func, opt_func.keywords) if isinstance(opt_func, partial) else (opt_func, {})
    if kind in FUSED and not {"fused", "foreach", "capturable", "differentiable"} & set(asked) and all(
            p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in model.parameters()):
        return partial(opt_func, fused=True)
    return opt_func


def _name(opt: torch.optim.Optimizer, groups: list[Group]) -> None:
    """Name the groups that a user's function has made, and give each the whole weight decay."""
    for k, group in enumerate(opt.param_groups):
        group.setdefault("name", "all" if len(opt.param_groups) == 1 else str(k))
        group.setdefault("decay", 1.0)
    if lost := {group["name"]: group["decay"] for group in groups if group["decay"] != 1.0}:
        warn(f"opt_func has made groups of its own: the model's shares of the weight decay, {lost}, are lost, and wd "
             "goes to all alike; let it pass on the groups it is given: lambda groups: torch.optim.Adam(groups, ...)")


def check_hyper(**given: Any) -> None:
    """Check rates and decays under the names of their arguments: None, a number, or several (see `per_group`). Raises
    TypeError for what is not a number, such as text, and ValueError for one that is negative or not finite."""
    for name, value in given.items():
        if value is None or hasattr(value, "_fields"):      # see `per_group`
            continue
        several = ([one for one in (value.start, value.stop) if one is not None] if isinstance(value, slice) else
                   [*value.values()] if isinstance(value, Mapping) else
                   [*value] if isinstance(value, Iterable) and not isinstance(value, str | Tensor) else [value])
        for one in several:
            if not is_real(one):
                quoted = isinstance(one, str) and re.fullmatch(NUMBER, one)
                raise TypeError(f"{name} must be a number (or one for each parameter group: a list, a dict or a slice),"
                                f" got {value!r}{'; leave out the quotation marks' if quoted else ''}")
            if not 0 <= one < math.inf:
                raise ValueError(f"{name} must be a finite number, at least 0, got {one}")


def set_hyper(opt: torch.optim.Optimizer, **values: Hyper | None) -> None:
    """Set hyper-parameters by the optimizer's own names; `momentum` is beta 1 where there are betas.

    A value is one number for all groups, a list of one for each, a dict by group name, or a slice (see `per_group`);
    None restores what the optimizer was made with. One number for `weight_decay` is scaled by each group's share.
    Raises ValueError for a name that the optimizer lacks, or a value that is negative or not finite."""
    for name, value in values.items():
        if value is None:
            for group in opt.param_groups:
                group.update({key: group["given"][key] for key in (name, "our_" + name) if key in group["given"]})
            continue
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
    """A hyper-parameter of the last group, None if it has none; `momentum` is beta 1 where there are betas."""
    group = opt.param_groups[-1]
    if name == "weight_decay":
        return decay_of(group)
    return group["betas"][0] if name == "momentum" and "betas" in group else group.get(name)


def decay_of(group: Group) -> float:
    """The weight decay of a group, 0 where it has none."""
    decay: float = group.get(_decay_key(group)) or group.get("weight_decay") or 0.0
    return decay


def per_group(opt: torch.optim.Optimizer, value: Any) -> list[float]:
    """One value for each group. slice(low, high) rises by equal factors from the first group to the last; slice(high)
    is high for the last group and a tenth of it for the others. Raises ValueError for values that do not fit the
    groups."""
    groups = opt.param_groups
    if isinstance(value, Real):
        return [cast(float, value)] * len(groups)
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
    if fields := getattr(value, "_fields", ()):         # such as the suggestions of lr_find
        raise ValueError(f"one rate is needed, not all of {value}: pass .{fields[0]}, say")
    if len(value) != len(groups):
        raise ValueError(f"a value for each of the {len(groups)} groups {names} is needed, got {list(value)}")
    return list(value)


GIVEN = ("lr", "weight_decay", "our_weight_decay")
OURS = ("params", "name", "decay", "our_weight_decay", "given")


def _decay_key(group: Group) -> str:
    return "weight_decay" if group.get("decoupled_weight_decay") else "our_weight_decay"


class Decoupled(torch.optim.Optimizer):
    """Weight decay before each step, for optimizers that would add it to the gradient or have none. It is part of the
    optimizer's class rather than a hook, so that copies and pickles keep it."""

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        with torch.no_grad():
            for group in self.param_groups:
                if wd := group["our_weight_decay"]:
                    moved = [p for p in group["params"] if p.grad is not None]
                    if moved:
                        torch._foreach_mul_(moved, 1 - group["lr"] * wd)
        return super().step(closure)

    def __reduce__(self) -> tuple[object, ...]:
        return _bare, (type(self).__bases__[1],), self.__getstate__()


@cache
def _decoupled(kind: type) -> type[torch.optim.Optimizer]:
    """The class with `Decoupled` in front, under its own name."""
    vars(Decoupled.step)["hooked"] = True       # so that torch leaves the hooks to the step behind this one
    return type(kind.__name__, (Decoupled, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def _bare(kind: type) -> torch.optim.Optimizer:
    """A decoupled optimizer as copies and pickles begin: without its state, which follows."""
    cls = _decoupled(kind)
    return cls.__new__(cls)
