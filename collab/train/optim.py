"""Optimizers, their parameter groups and hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

OptFunc = Callable[..., torch.optim.Optimizer]

adamw: OptFunc = partial(torch.optim.AdamW, betas=(0.9, 0.99), fused=True)
"""Adam with decoupled weight decay (Loshchilov and Hutter 2019), one fused pass over all parameters."""


def make_optimizer(model: nn.Module, opt_func: OptFunc, lr: float, wd: float) -> torch.optim.Optimizer:
    """An optimizer over the model's trainable parameters.

    A model with a method `decay_groups()`, a list of (parameters, share), has a group for each: its weight decay
    is `wd` times its share. Raises ValueError where nothing is trainable or the groups do not hold every
    parameter once."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient, so nothing can be trained")
    shares: list[tuple[list[nn.Parameter], float]] = getattr(model, "decay_groups", lambda: [(trainable, 1.0)])()
    if sorted(id(p) for group, _ in shares for p in group) != sorted(id(p) for p in model.parameters()) and \
            hasattr(model, "decay_groups"):
        raise ValueError(f"{type(model).__name__}.decay_groups() must hold every parameter of the model exactly once")
    groups = [{"params": [p for p in group if p.requires_grad], "decay_share": share} for group, share in shares]
    opt = opt_func([g for g in groups if g["params"]], lr=lr)
    set_hyper(opt, weight_decay=wd)
    return opt


def set_hyper(opt: torch.optim.Optimizer, **values: Any) -> None:
    """Set hyper-parameters in every group by the optimizer's own names; `weight_decay` is scaled by the group's
    share, and `momentum` means beta 1 where there are betas. Raises ValueError for a name the optimizer lacks."""
    for group in opt.param_groups:
        for name, value in values.items():
            if name == "weight_decay":
                group["weight_decay"] = value * group.get("decay_share", 1.0)
            elif name == "momentum" and "betas" in group:
                group["betas"] = (value, *group["betas"][1:])
            elif name in group:
                group[name] = value
            else:
                raise ValueError(f"{type(opt).__name__} has no hyper-parameter {name!r}; it has "
                                 f"{', '.join(k for k in group if k != 'params')}")


def get_hyper(opt: torch.optim.Optimizer, name: str) -> float | None:
    """A hyper-parameter of the last group, `momentum` meaning beta 1 where there are betas; None if it has none."""
    group = opt.param_groups[-1]
    return group["betas"][0] if name == "momentum" and "betas" in group else group.get(name)
