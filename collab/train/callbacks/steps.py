"""Callbacks that change single steps: clipping, accumulation, mixed precision, threads, short epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import islice

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ...errors import warn
from ...given import is_real
from ...loaders import Batches, Track, columns_of, pieces_of
from ..callback import Callback, State
from ..events import CancelBatch, CancelStep, CancelTrain
from .order import Order


class GradientClip(Callback):
    """Scales the gradients down so that their joint 2-norm is at most `max_norm`, before each step.

    Raises ValueError for a `max_norm` that is not above 0."""

    order = Order.CLIP
    in_eval = True  # so that lr_find takes the steps that training takes

    def __init__(self, max_norm: float):
        self.max_norm = number("max_norm", max_norm)

    def after_backward(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.learn.model.parameters(), self.max_norm)


class GradientAccumulation(Callback):
    """Takes one step for every `n` rows of training, as if they were one batch: each batch's gradients are weighted by
    its rows and divided by the rows of the step, so that the mean loss of each batch gives the mean over all rows.

    The rows left at the end of an epoch make a step of their own, even if its last batch, or the rest of it, is
    cancelled. Rows whose step another callback skips count towards the next one. Raises ValueError for an `n` that is
    not a whole number above 0."""

    order = Order.ACCUMULATION
    takes_sparse = True
    in_eval = True      # so that lr_find takes the steps that training takes

    def __init__(self, n: int):
        self.n = whole("n", n)
        self.begin()

    def begin(self) -> None:
        """Forget the rows of a step that is dropped."""
        self.rows = 0               # in the gradients
        self.divided = False        # whether these are the mean over the rows, rather than the sum
        self.last = False           # whether no further batch comes before the step

    before_train = begin

    def after_loss(self) -> None:
        learn = self.learn
        if learn.training:
            rows = learn.n_rows
            learn.loss.register_hook(lambda grad: self._weighted(grad, rows))   # the recorded loss stays as it is

    def _weighted(self, grad: Tensor, rows: int) -> Tensor:
        self.rows += rows
        return grad * rows

    def after_backward(self) -> None:
        learn = self.learn
        if self.rows < self.n and learn.i + 1 < len(learn.batches) and not self.last:
            raise CancelStep
        scale_gradients(learn.model, 1 / self.rows)
        self.divided = True

    def after_step(self) -> None:
        self.begin()

    def after_batch(self) -> None:
        if self.divided:            # another callback skipped the step
            scale_gradients(self.learn.model, self.rows)
            self.divided = False

    cleanup_batch = after_batch

    def after_train(self) -> None:
        run = self.learn.run
        if self.rows:
            self.last = True
            with suppress(CancelStep, CancelBatch, CancelTrain):    # callbacks before this one were asked already
                run.emit_from(self, "after_backward")
                run.step()
                run.emit("after_step")
                run.zero_grad()

    def cleanup_train(self) -> None:
        if self.rows and not self.last and self.learn.run.cut_off is None:      # ended by CancelTrain
            self.after_train()
        if self.rows:                       # cut off before its step
            self.learn.opt.zero_grad()
            self.begin()

    def state_dict(self) -> State:
        return {"rows": self.rows}

    def load_state_dict(self, state: State) -> None:
        self.rows = state["rows"]


class MixedPrecision(Callback):
    """Computes scores under torch's autocast: matrix products, such as the layers of a network, in bfloat16 (CPU and
    CUDA) or float16 (CUDA, with a scaled loss: Micikevicius et al. 2018); weights, loss and reported predictions stay
    float32. Applies to validation and `get_preds` too.

    A fit whose first batch has nothing to cast gives a CollabWarning: dot models gather, multiply and add, and use a
    matrix product only for batches of 16,384 rows or more. Raises ValueError for another dtype and, before training,
    for float16 without a CUDA device."""

    order = Order.MIXED_PRECISION
    in_eval = True

    def __init__(self, dtype: torch.dtype = torch.bfloat16):
        if dtype not in (torch.bfloat16, torch.float16):
            raise ValueError(f"mixed precision is torch.bfloat16 or torch.float16, got {dtype}")
        self.dtype = dtype
        self.scaler = _scaler(dtype)
        self.unscaled = False       # whether the scale of the loss was taken out of the gradients
        self.checked = False        # whether it was checked that the model has something to cast

    def before_fit(self) -> None:
        self.checked = False
        if self.dtype is torch.float16 and self.learn.device.type != "cuda":
            raise ValueError("float16 needs a CUDA device; on a CPU use MixedPrecision(torch.bfloat16)")
        self._begin_step()          # an earlier fit may have been cut off in the middle of a step

    def predict(self) -> None:
        learn, kinds = self.learn, set[torch.dtype]()

        def seen(saved: Tensor) -> Tensor:
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
        if self.unscaled:           # another callback skipped the step: the next gradients are added to these
            self._begin_step()
            scale_gradients(self.learn.model, self.scaler.get_scale())

    cleanup_batch = cleanup_train = after_batch

    def _begin_step(self) -> None:
        """Replace the scaler by one that has seen no gradients, with the scale of the old one."""
        state, self.scaler, self.unscaled = self.scaler.state_dict(), _scaler(self.dtype), False
        if state:
            self.scaler.load_state_dict(state)

    def state_dict(self) -> State:
        return {"scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: State) -> None:
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])


def _scaler(dtype: torch.dtype) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cuda", enabled=dtype is torch.float16 and torch.cuda.is_available())


class Threads(Callback):
    """Trains with `n` threads of the CPU. Batches of ratings are small: several threads gain little on an idle machine,
    and on a busy one, where they wait for each other, can be many times slower than one.

    Raises ValueError for an `n` that is not a whole number above 0."""

    order = Order.THREADS
    in_eval = True

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
    """Cuts every epoch to its first `n` batches, or to the first fraction `n` of them if it is below 1; with `valid`,
    validation too. Schedules are stretched over the short epochs. Raises ValueError for an `n` that is neither a
    fraction above 0 nor a whole number."""

    order = Order.SHORT_EPOCH

    def __init__(self, n: float, valid: bool = False):
        self.n, self.valid = number("n", n) if is_real(n) and n < 1 else whole("n", n), valid

    def before_train(self) -> None:
        self.learn.batches = First(self.learn.batches, self.n)

    def before_validate(self) -> None:
        if self.valid:
            self.learn.batches = First(self.learn.batches, self.n)


class First:
    """The first `n` of some batches, or the first fraction `n` of them, but at least one."""

    def __init__(self, batches: Batches, n: float):
        self.batches = batches
        self.n = min(len(batches), int(n) if n >= 1 else max(1, round(n * len(batches))))

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Sequence[Tensor]]:
        return islice(iter(self.batches), self.n)

    @property
    def bs(self) -> int | None:
        return getattr(self.batches, "bs", None)

    @property
    def tensors(self) -> Sequence[Tensor] | None:
        return None if pieces_of(self.batches) is None else columns_of(self.batches)

    def pieces(self) -> Iterator[Sequence[Track]]:
        """These batches, where the whole ones are slices of pieces (see `pieces_of`)."""
        whole, left = pieces_of(self.batches), self.n
        assert whole is not None
        for piece in whole.pieces():
            short = []
            for track in piece:
                short.append(track.first(left))
                left -= len(short[-1].sizes)
            yield short
            if not left:
                return


@torch.no_grad()
def scale_gradients(model: nn.Module, by: float) -> None:
    """Multiply every gradient, in place."""
    for p in model.parameters():
        if p.grad is not None:
            p.grad *= by


def whole(name: str, n: object, least: int = 1) -> int:
    """Check that `n` is a whole number of at least `least`. Raises ValueError, with `name`, unless it is."""
    if not is_real(n) or not least <= n < math.inf or n != int(n):
        raise ValueError(f"{name} must be a whole number, at least {least}, got {n!r}")
    return int(n)


def number(name: str, value: object) -> float:
    """Check that `value` is a finite number above 0. Raises ValueError, with `name`, unless it is."""
    if not is_real(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
    return float(value)
