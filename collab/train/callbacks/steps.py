"""Callbacks that change the single step: clipping, accumulation, mixed precision, short epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from itertools import islice
from numbers import Real
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from ...errors import warn
from ..callback import Callback
from ..events import CancelBatch, CancelStep, CancelTrain


class GradientClip(Callback):
    """Scales the gradients down so that their joint 2-norm is at most `max_norm`, before each step.

    Raises ValueError for a `max_norm` that is not above 0."""

    order = 30      # after accumulation has decided that there is a step
    looks = True    # a range test is of the steps that training takes

    def __init__(self, max_norm: float):
        self.max_norm = number("max_norm", max_norm)

    def after_backward(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.learn.model.parameters(), self.max_norm)


class GradientAccumulation(Callback):
    """One step for every `n` rows of training, as if they had been one batch: gradients are weighted by their rows and
    divided by the rows of the step, so that a loss that is a mean over the batch gives the mean over all of them.
    The rows that are left at the end of an epoch make a step of their own, also where its last batch or the rest of it
    was cancelled. Rows whose step another callback leaves out count towards the next one. Raises ValueError for an `n`
    that is not a whole number above 0."""

    order = 20
    looks = True        # a range test is of the steps that training takes

    def __init__(self, n: int):
        self.n = whole("n", n)
        self._begin()

    def _begin(self) -> None:
        self.rows = 0               # in the gradients
        self.divided = False        # whether these are the mean over the rows, and no longer the sum
        self.last = False           # whether nothing more comes before the step

    before_train = _begin

    def after_loss(self) -> None:
        learn = self.learn
        if learn.training:
            rows = len(learn.yb)
            learn.loss.register_hook(lambda grad: self._weighted(grad, rows))   # the recorded loss stays what it was

    def _weighted(self, grad: torch.Tensor, rows: int) -> torch.Tensor:
        self.rows += rows
        return grad * rows

    def after_backward(self) -> None:
        learn = self.learn
        if self.rows < self.n and learn.i + 1 < len(learn.batches) and not self.last:
            raise CancelStep
        scale_gradients(learn.model, 1 / self.rows)
        self.divided = True

    def after_step(self) -> None:
        self._begin()

    def after_batch(self) -> None:
        if self.divided:            # another callback left the step out
            scale_gradients(self.learn.model, self.rows)
            self.divided = False

    cleanup_batch = after_batch

    def after_train(self) -> None:
        run = self.learn.run
        if self.rows:
            self.last = True
            with suppress(CancelStep, CancelBatch, CancelTrain):    # those before this one have had their say
                run.emit_from(self, "after_backward")
                run.step()
                run.emit("after_step")
                run.zero_grad()

    def cleanup_train(self) -> None:
        if self.rows and not self.last and self.learn.run.cut_off is None:      # ended by CancelTrain
            self.after_train()
        if self.rows:                       # cut off before its step
            self.learn.opt.zero_grad()
            self._begin()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]


class MixedPrecision(Callback):
    """Computes scores under torch's autocast: matrix products, such as the layers of a network, in bfloat16 (CPU and
    CUDA) or float16 (CUDA, with a scaled loss: Micikevicius et al. 2018); weights, loss and what is reported stay
    float32. Applies to validation and `get_preds` too.

    A fit warns where its first batch has nothing that is cast: dot models gather, multiply and add, and take a matrix
    product for batches of 16,384 rows and more alone."""

    order = 25      # between accumulation and clipping: gradients are unscaled once a step
    looks = True

    def __init__(self, dtype: torch.dtype = torch.bfloat16):
        if dtype not in (torch.bfloat16, torch.float16):
            raise ValueError(f"mixed precision is torch.bfloat16 or torch.float16, got {dtype}")
        self.dtype = dtype
        self.scaler = _scaler(dtype)
        self.unscaled = False       # whether the gradients are without the scale of the loss
        self.checked = False        # whether anything is cast in the model

    def before_fit(self) -> None:
        self.checked = False
        if self.dtype is torch.float16 and self.learn.device.type != "cuda":
            raise ValueError("float16 needs a CUDA device; on a CPU use MixedPrecision(torch.bfloat16)")
        self._begin_step()          # the fit before may have been cut off in mid-step

    def predict(self) -> None:
        learn, kinds = self.learn, set[torch.dtype]()

        def seen(saved: torch.Tensor) -> torch.Tensor:
            kinds.add(saved.dtype)
            return saved
        check, self.checked = learn.training and not self.checked, self.checked or learn.training
        with torch.autocast(learn.device.type, dtype=self.dtype), \
                saved_tensors_hooks(seen, lambda saved: saved) if check else nullcontext():
            learn.pred = learn.model(*learn.xb)
        if check and self.dtype not in {*kinds, learn.pred.dtype}:
            warn(f"MixedPrecision changes nothing in {type(learn.model).__name__} on batches of {len(learn.yb):,}: "
                 f"there is no matrix product, which is what would be cast to {str(self.dtype).partition('.')[2]}; "
                 "leave the callback out")
        learn.pred = learn.pred.float()

    def backward(self) -> None:
        self.scaler.scale(self.learn.loss).backward()

    def after_backward(self) -> None:
        self.scaler.unscale_(self.learn.opt)
        self.unscaled = self.scaler.is_enabled()

    def step(self) -> None:
        self.scaler.step(self.learn.opt)
        self.scaler.update()
        self.unscaled = False

    def after_batch(self) -> None:
        if self.unscaled:           # another callback left the step out: what comes is added to these gradients
            self._begin_step()
            scale_gradients(self.learn.model, self.scaler.get_scale())

    cleanup_batch = cleanup_train = after_batch

    def _begin_step(self) -> None:
        """A scaler that knows of no gradients, with the scale of the one before."""
        state, self.scaler, self.unscaled = self.scaler.state_dict(), _scaler(self.dtype), False
        if state:
            self.scaler.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        return {"scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])


def _scaler(dtype: torch.dtype) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cuda", enabled=dtype is torch.float16 and torch.cuda.is_available())


class Threads(Callback):
    """Trains with `n` threads of the CPU. Batches of ratings are small: with one thread none waits for another, which
    costs little on an idle machine, and when it is busy more than one can be many times slower.

    Raises ValueError for an `n` that is not a whole number above 0."""

    order = -95
    looks = True

    def __init__(self, n: int = 1):
        self.n = whole("n", n)
        self.before: int | None = None

    def before_fit(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(self.n)

    def cleanup_fit(self) -> None:
        if self.before is not None:
            torch.set_num_threads(self.before)
            self.before = None


class ShortEpoch(Callback):
    """Cuts every epoch to its first `n` batches, or to a fraction of them where `n` is below 1; validation too, if
    `valid`. Schedules go over the short epochs. Raises ValueError for an `n` that is neither."""

    order = -50

    def __init__(self, n: float, valid: bool = False):
        self.n, self.valid = number("n", n) if isinstance(n, Real) and n < 1 else whole("n", n), valid

    def before_train(self) -> None:
        self.learn.batches = First(self.learn.batches, self.n)

    def before_validate(self) -> None:
        if self.valid:
            self.learn.batches = First(self.learn.batches, self.n)


class First:
    """The first `n` of some batches (at least one), or the first fraction `n` of them."""

    def __init__(self, batches: Any, n: float):
        self.batches = batches
        self.n = min(len(batches), int(n) if n >= 1 else max(1, round(n * len(batches))))

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.batches), self.n)


@torch.no_grad()
def scale_gradients(model: nn.Module, by: float) -> None:
    """Multiply every gradient, in place."""
    for p in model.parameters():
        if p.grad is not None:
            p.grad *= by


def whole(name: str, n: Any, least: int = 1) -> int:
    """`n` as a number of things. Raises ValueError unless it is whole and at least `least`."""
    if not _real(n) or not least <= n < math.inf or n != int(n):
        raise ValueError(f"{name} must be a whole number, at least {least}, got {n!r}")
    return int(n)


def number(name: str, value: Any) -> float:
    """Raises ValueError unless `value` is a finite number above 0."""
    if not _real(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
    return float(value)


def _real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
