"""Describe a learner: its layers and parameters, its facts for logs, and the methods that a fit would call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..loaders import Description
from .callback import Dispatch
from .events import SCOPES
from .fingerprint import objective_of
from .fusible import why_not
from .optim import decay_of

if TYPE_CHECKING:
    from .learner import Learner


class Text(str):
    """A text that a prompt and a notebook show without quotes and escapes."""

    def __repr__(self) -> str:
        return str(self)


def summary(self: Learner) -> Text:
    """List the layers with their output shapes for one batch, their parameters and whether these are trained; then the
    loss, the optimizer with its groups, the callbacks, and whether the training pass is compiled (see `fused`)."""
    rows = _layers(self)
    table = [("layer", "type", "output shape", "parameters", "trained")]
    for name, kind, shape, n, trained in rows:
        table.append((name, kind, " x ".join(map(str, shape or ())), f"{n:,}", "yes" if trained else "no" if n else ""))
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in table]
    parameters = list(self.model.parameters())
    total, on = (sum(p.numel() for p in parameters if p.requires_grad or every) for every in (True, False))
    groups = [f"{g['name']} ({sum(p.numel() for p in g['params']):,} parameters)" for g in self.opt.param_groups]
    loss = objective_of(self) or getattr(self.loss_func, "__name__", type(self.loss_func).__name__)
    return Text("\n".join([f"{type(self.model).__name__} on batches of {_first_size(self)}", "", *lines, "",
                           f"{total:,} parameters, {on:,} of them trained", f"Loss: {loss}",
                           f"Optimizer: {type(self.opt).__name__}; groups: {', '.join(groups)}",
                           f"Callbacks: {', '.join(map(repr, self.cbs))}", f"Training: {_how(self)}"]))


def _how(learn: Learner) -> str:
    reason = why_not(learn, Dispatch(learn.cbs, learn.verbs), learn.data.train)
    return "compiled, all batches of an epoch in one pass" if reason is None else f"batch by batch, since {reason}"


def facts(self: Learner) -> dict[str, Any]:
    """What a log keeps of the learner, by name, as plain values: model, parameters, loss, optimizer, learning rate (of
    each group, where they differ) and largest weight decay, the sizes of the data, and the seed. What is not known is
    None."""
    train, valid = (Description.of(part) for part in (self.data.train, self.data.valid))
    trained = any(p.requires_grad for p in self.model.parameters())
    groups = self.opt.param_groups if trained else []
    rates, decays = [group.get("lr") for group in groups], [decay_of(group) for group in groups]
    return {"model": type(self.model).__name__, "n_parameters": sum(p.numel() for p in self.model.parameters()),
            "loss": objective_of(self) or getattr(self.loss_func, "__name__", type(self.loss_func).__name__),
            "optimizer": type(self.opt).__name__ if trained else None,
            "lr": (rates[0] if len({*rates}) == 1 else rates) if trained else None, "wd": max(decays, default=None),
            "seed": self.seed, "bs": train.bs,
            "n_train": train.n_rows, "n_valid": valid.n_rows if self.data.valid is not None else 0,
            "batches_per_epoch": len(self.data.train), "device": str(self.device)}


def show_training_loop(self: Learner) -> Text:
    """The loop as text, with the callbacks that would be called at each event, and those that replace a verb."""
    run = Dispatch(self.cbs, self.verbs)
    lines: list[str] = []

    def event(name: str, depth: int) -> None:
        if called := [type(cb).__name__ for cb in run.callers[name]]:
            lines.append(f"{'   ' * depth}{name}: {', '.join(called)}")

    def verb(name: str, depth: int) -> None:
        owner = run.owners[name]
        lines.append(f"{'   ' * depth}{name}()" + ("" if owner is self.verbs else f" by {type(owner).__name__}"))

    def batch(depth: int, training: bool) -> None:
        event("before_batch", depth)
        for name in ("predict", "get_loss", *(("backward", "step", "zero_grad") if training else ())):
            verb(name, depth)
            if name != "zero_grad":
                event({"predict": "after_pred", "get_loss": "after_loss"}.get(name, f"after_{name}"), depth)
        for when in ("after", "cleanup"):
            event(f"{when}_batch", depth)

    def scope(name: str, depth: int) -> None:
        event(f"before_{name}", depth)
        if name in ("train", "validate"):
            lines.append(f"{'   ' * depth}for each batch:")
            batch(depth + 1, name == "train")
        elif name == "fit":
            lines.append("for each epoch:")
            scope("epoch", 1)
        else:
            for inner in ("train", *(["validate"] if self.data.valid is not None else [])):
                scope(inner, depth + 1)
        for when in ("after", "cleanup"):
            event(f"{when}_{name}", depth)
    scope(SCOPES[0], 0)
    return Text("\n".join(lines))


def _layers(learn: Learner) -> list[tuple[str, str, tuple[int, ...] | None, int, bool]]:
    """(name, type, output shape, parameters, trained) of every module without children, in the order of the model."""
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, args: object, output: object) -> None:
        if isinstance(output, Tensor):
            shapes[module] = tuple(output.shape)
    leaves = [(name, m) for name, m in learn.model.named_modules() if not any(m.children())]
    hooks = [m.register_forward_hook(note) for _, m in leaves]
    try:
        with learn.untouched(), torch.no_grad():
            learn.model.eval()
            learn.model(*next(iter(learn.data.train))[:-1])
    finally:
        for hook in hooks:
            hook.remove()
    rows = [(name or "model", type(m).__name__, shapes.get(m), sum(p.numel() for p in m.parameters()),
             any(p.requires_grad for p in m.parameters())) for name, m in leaves]
    inside = {id(p) for _, m in leaves for p in m.parameters()}
    return rows + [(name, "Parameter", tuple(p.shape), p.numel(), p.requires_grad)
                   for name, p in learn.model.named_parameters() if id(p) not in inside]


def _first_size(learn: Learner) -> int:
    with learn.untouched():
        return len(next(iter(learn.data.train))[-1])
