"""Learner: the training loop. It knows a model, a loss, an optimizer and batches, but not that these are ratings."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import warn
from ..given import told
from ..loaders import Batches, Data, count, device_of, unshuffled
from ..losses import mse
from ..metrics import Metric, as_metrics
from ..processes import is_main, started
from .callback import Callback, Cbs, Dispatch, as_list, scope
from .callbacks.distributed import Distributed, Share, distributed
from .callbacks.progress import Progress
from .callbacks.recorder import Recorder
from .callbacks.resume import EpochStart, resuming
from .callbacks.scores import Collect, Scores
from .callbacks.seeded import Seeded, own_randomness, untouched_randomness
from .events import Cancel, CancelStep
from .fitting import fit_flat_cos, fit_one_cycle, fit_sgdr
from .foreseen import foreseen
from .fused import Chunk, fused, release
from .inspection import facts, show_training_loop, summary
from .lr_find import lr_find
from .optim import Hyper, OptFunc, adamw, check_hyper, make_optimizer, set_hyper
from .sharded_state import read_state, write_state
from .sparse_gradients import sparse_gradients
from .state import learner_state, restore_state
from .untouched import FITTING, Modes, one_fit, turn, untouched

MetricLike = Metric | Callable[..., Any]        # a metric, its class, or a function of (predictions, targets)


class Verbs(Callback):
    """The steps of a batch; a callback that defines a method of the same name replaces it."""

    def predict(self) -> None:
        self.learn.pred = self.learn.model(*self.learn.xb)

    def get_loss(self) -> None:
        self.learn.loss = self.learn.loss_func(self.learn.pred, self.learn.yb)

    def backward(self) -> None:
        self.learn.loss.backward()

    def step(self) -> None:
        self.learn.opt.step()

    def zero_grad(self) -> None:
        self.learn.opt.zero_grad()


class Learner:
    """Fits `model` to `data` (see `loaders.Data`), anything with `train` and `valid` batches, such as a DataBunch.

    A batch is (x, ..., y): the model is called with all of it but the last tensor, the loss with (prediction, last).
    The loss must be a mean over the rows of a batch; that of a whole set is then the mean over its rows. `opt_func`,
    an optimizer class of torch, a partial of one or a function, is called with the parameter groups. `lr` and the
    decoupled weight decay `wd` apply to fits that are given none; None leaves what `opt_func` was given (by default a
    rate of 1e-3 and no decay: see `make_optimizer`). `metrics` are evaluated on the validation part. With `seed`, the
    random numbers of a fit (the order of batches, dropout) come from streams of the learner's own, and the global
    stream is left alone.

    During a fit its state is plain attributes that callbacks may read and change: `n_epochs`, `epoch`, `i` (the batch
    of this pass), `batches`, `training`, `xb`, `yb`, `pred`, `loss`, `opt`, `model`; and `share`, where several
    processes take slices of each batch (see `distributed`), of which `xb` and `yb` are one. `interrupted` says whether
    Ctrl-C ended the last fit."""

    data: Any               # a `Data`; callbacks know what else theirs has
    batches: Batches
    xb: list[Tensor]
    yb: Tensor
    pred: Tensor
    loss: Tensor
    chunk: Chunk
    share: Share | None = None

    def __init__(self, data: Data, model: nn.Module, loss_func: Callable[[Tensor, Tensor], Tensor] = mse,
                 opt_func: OptFunc = adamw, *, lr: Hyper | None = None, wd: Hyper | None = None,
                 metrics: Iterable[MetricLike] | MetricLike | None = None, cbs: Cbs = None, seed: int | None = None):
        if not callable(loss_func):
            raise TypeError(f"loss_func must be a function of (predictions, targets), got {loss_func!r}")
        check_hyper(lr=lr, wd=wd)
        _check_unwrapped(model)
        self.device = device_of(data)
        self.data, self.model, self.loss_func = data, model.to(self.device), loss_func
        self.opt_func, self.lr, self.wd, self.seed = opt_func, lr, wd, seed
        self.scores = Scores(as_metrics(_no_callbacks(metrics)))
        self.recorder, self.progress, self.epoch_start = Recorder(), Progress(), EpochStart()
        self.cbs: list[Callback] = []
        self.n_epochs, self.epoch, self.i, self.training, self.interrupted = 0, 0, 0, False, False
        self.verbs = Verbs()
        self.verbs.learn = self
        self.run = Dispatch([], self.verbs)
        if seed is not None and not isinstance(seed, numbers.Integral):
            raise TypeError(f"seed must be a whole number or None, got {seed!r}")
        self.add_cbs([*([Seeded(seed)] if seed is not None else []), self.epoch_start, self.scores,
                      self.recorder, self.progress])
        self.add_cbs(cbs)

    def __repr__(self) -> str:
        epochs = len(self.recorder.rows)
        return f"{type(self).__name__}({type(self.model).__name__} on {self.data!r}; {epochs} epochs trained)"

    @cached_property
    def opt(self) -> torch.optim.Optimizer:
        """The optimizer: made when first needed, and kept with its state from fit to fit."""
        return make_optimizer(self.model, self.opt_func, self.lr, self.wd)

    def set_model(self, model: nn.Module) -> None:
        """Replace the model, and move it to the learner's device; the next fit begins with a fresh optimizer."""
        _check_unwrapped(model)
        self.model = model.to(self.device)
        self.__dict__.pop("opt", None)

    @property
    def n_rows(self) -> int:
        """The number of rows of the batch, in all processes."""
        return len(self.yb) if self.share is None else self.share.n

    distributed = distributed

    # The loop ---------------------------------------------------------------------------------------------------

    @told
    def fit(self, n_epochs: int, lr: Hyper | None = None, *, wd: Hyper | None = None, cbs: Cbs = None,
            resume: str | Path | None = None) -> None:
        """Train for `n_epochs` at a constant learning rate; the optimizer keeps its state between fits.

        `lr` and `wd` are numbers, or have one for each parameter group: a list, a dict by group name, slice(low, high).
        `cbs` are called in this fit only. `resume` is the path of a checkpoint of a fit like this one that was cut off:
        training goes on from there, and ends with the same bits, if this fit too has a `Checkpoint` as often. With
        "auto" it is the path of the `Checkpoint` among the callbacks, if that file exists.
        Ctrl-C ends a fit cleanly: cleanups run, the history is kept, and `interrupted` is True.
        Afterwards the model is in evaluation mode. A fit that is refused changes nothing.
        Raises ValueError for impossible numbers, no training batches, or a checkpoint that does not fit; TypeError for
        what is not a number, and batches without a length; RuntimeError inside another fit."""
        try:
            self._check_fit(n_epochs)
            lr, wd = self.lr if lr is None else lr, self.wd if wd is None else wd
            check_hyper(lr=lr, wd=wd)
            cbs = as_list(cbs)
            cbs = [*cbs, *resuming(resume, [*self.cbs, *cbs])]
            with turn(self.model), own_randomness(), self.added_cbs(cbs), self.calling(self.cbs), one_fit(self):
                set_hyper(self.opt, lr=lr, weight_decay=wd)
                self.opt.zero_grad()    # a fit that was cut off may have left gradients
                self.n_epochs, self.interrupted = int(n_epochs), False
                self._fit()
        except KeyboardInterrupt:
            FITTING.discard(self)       # Ctrl-C may have come just as the fit ended
            self.interrupted = True
            if self.progress in self.cbs and is_main():
                print(f"Interrupted in epoch {self.epoch}, batch {self.i}; the history is kept, training can go on.")
        except Cancel as stray:
            raise RuntimeError(f"{type(stray).__name__} was raised where its scope was not open") from stray

    @scope("fit")
    def _fit(self) -> None:
        for self.epoch in range(self.n_epochs):
            self._epoch()

    @scope("fit")
    def trial(self) -> None:
        """Train without validation, for tests of training such as `lr_find`."""
        for self.epoch in range(self.n_epochs):
            self._go_over(self.data.train, training=True)

    @scope("epoch")
    def _epoch(self) -> None:
        self._go_over(self.data.train, training=True)
        if self.data.valid is not None:
            self._go_over(self.data.valid, training=False)

    def _go_over(self, batches: Batches, training: bool) -> None:
        self.batches, self.training = batches, training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            self._train() if training else self._validate()

    @scope("train")
    def _train(self) -> None:
        if fused(self):         # the same steps, compiled
            return
        with sparse_gradients(self):    # those of the rows that a batch touches, where tables are large
            for self.i, (*self.xb, self.yb) in enumerate(self.batches):
                self._batch()

    @scope("validate")
    def _validate(self) -> None:
        with foreseen(self):    # the same predictions, compiled
            for self.i, (*self.xb, self.yb) in enumerate(self.batches):
                self._batch()

    @scope("batch")
    def _batch(self) -> None:
        run = self.run
        run.predict()
        run.emit("after_pred")
        run.get_loss()
        run.emit("after_loss")
        if self.training:
            run.backward()
            with suppress(CancelStep):
                run.emit("after_backward")
                run.step()
                run.emit("after_step")
                run.zero_grad()

    fit_one_cycle = fit_one_cycle
    fit_sgdr = fit_sgdr
    fit_flat_cos = fit_flat_cos

    # Evaluation: nothing changes, neither weights nor history, random state or mode ------------------------------

    def validate(self, batches: object = None) -> dict[str, float]:
        """Evaluate loss and metrics over the whole of `batches`, by default the validation part: {"valid_loss": ...,
        metric: ...}. Raises ValueError if there are none."""
        scores = Scores(copy.deepcopy(self.scores.metrics))
        self._look(batches, scores)
        return {"valid_loss" if name == "loss" else name: value for name, value in scores.values.items()}

    def get_preds(self, batches: object = None) -> tuple[Tensor, Tensor]:
        """Predict `batches`, by default the validation part: (predictions as reported, targets) on the CPU, first
        dimension the rows. They are in the order of the rows, or in that of the batches if these shuffle and have no
        `in_order` (as a DataLoader). Raises ValueError if there are none."""
        collect = Collect()
        self._look(batches, collect)
        return torch.cat(collect.preds), torch.cat(collect.targets)

    def decode(self, pred: Tensor) -> Tensor:
        """Turn the model's raw output into what metrics and `get_preds` report; the loss sees the raw output."""
        return pred

    def untouched(self, weights: bool = False) -> AbstractContextManager[Modes]:
        """Restore the learner after this `with`, whatever happens inside (see `untouched.untouched`)."""
        return untouched(self, weights)

    def _look(self, batches: Any, cb: Callback) -> None:
        batches = self.data.valid if batches is None else batches
        if batches is None:
            raise ValueError("there is no validation part: make the data with valid_pct or split, or pass batches")
        if not count(batches, "batches to evaluate"):
            raise ValueError("there is nothing to evaluate: the batches are empty")
        batches = unshuffled(batches)           # training rows too
        with untouched(self, batches=batches), self.calling([*(c for c in self.cbs if c.in_eval), cb]):
            self._go_over(batches, training=False)

    lr_find = lr_find

    # Parameter groups --------------------------------------------------------------------------------------------

    def freeze_to(self, n: int) -> None:
        """Freeze the first `n` parameter groups and thaw the rest; a negative `n` counts from the last. Raises
        ValueError if nothing would be left to train."""
        groups = self.opt.param_groups
        first = n if n >= 0 else len(groups) + n
        if not 0 <= first < len(groups):
            raise ValueError(f"freeze_to({n}) leaves nothing to train: the groups are {[g['name'] for g in groups]}")
        for k, group in enumerate(groups):
            for p in group["params"]:
                p.requires_grad_(k >= first)
                p.grad = None

    def unfreeze(self) -> None:
        """Thaw every parameter group."""
        self.freeze_to(0)

    # Files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write weights, optimizer, history and random states, for `load`: whole or not at all, and without pickle. Of
        several processes, the first one alone writes; sharded tables, each of them (see `Checkpoint`)."""
        return write_state(self, Path(path), learner_state(self))

    def load(self, path: str | Path, with_opt: bool = True) -> None:
        """Restore what `save` or a `Checkpoint` wrote; torch's random state too, unless the learner has its own. Inside
        `with learn.distributed()`, the first process reads for all.

        Raises FileNotFoundError, or ValueError for a file of another kind or a state that does not fit."""
        with untouched_randomness() if self.seed is not None else nullcontext():
            restore_state(self, read_state(path), with_opt=with_opt, source=path)

    # Inspection --------------------------------------------------------------------------------------------------

    summary = summary
    facts = facts
    show_training_loop = show_training_loop

    # Callbacks ---------------------------------------------------------------------------------------------------

    def add_cbs(self, cbs: Cbs) -> None:
        """Add callbacks for good; a running fit does not call them. Raises TypeError for something that is not a
        callback, ValueError for one that is already there, and then adds none of them."""
        added = self._checked(cbs)
        if added and self in FITTING:
            warn(f"{', '.join(map(repr, added))} came in the middle of a fit, which goes on without; the next calls "
                 "it. Add callbacks before a fit, or pass them as fit(cbs=...)")
        self.cbs += added

    def _checked(self, cbs: Cbs) -> list[Callback]:
        checked: list[Callback] = []
        for cb in as_list(cbs):
            if isinstance(cb, type):
                raise TypeError(f"{cb.__name__} is a class; add an instance of it: {cb.__name__}(...)")
            if not isinstance(cb, Callback):
                raise TypeError(f"a callback is an instance of a class derived from Callback, got {cb!r}")
            if any(cb is other for other in [*self.cbs, *checked]):
                raise ValueError(f"this {cb} is already there, and would be called twice")
            checked.append(cb)
        for cb in checked:
            cb.learn = self
        return checked

    @contextmanager
    def added_cbs(self, cbs: Cbs) -> Iterator[Learner]:
        """Add callbacks for the length of a `with`."""
        added = self._checked(cbs)
        try:
            self.cbs = [*self.cbs, *added]
            yield self
        finally:
            self.cbs = [cb for cb in self.cbs if all(cb is not one for one in added)]

    @contextmanager
    def removed_cbs(self, cbs: Cbs) -> Iterator[Learner]:
        """Remove callbacks for the length of a `with`; others that are added or removed inside stay so."""
        before, without = self.cbs, as_list(cbs)
        try:
            self.cbs = [cb for cb in before if all(cb is not one for one in without)]
            yield self
        finally:
            back = [cb for cb in before if any(cb is one for one in [*without, *self.cbs])]
            self.cbs = [*back, *(cb for cb in self.cbs if all(cb is not one for one in back))]

    @contextmanager
    def no_bar(self) -> Iterator[Learner]:
        """Show no bars for the length of a `with`; the table of epochs is still printed."""
        before, self.progress.bar = self.progress.bar, False
        try:
            yield self
        finally:
            self.progress.bar = before

    def no_logging(self) -> AbstractContextManager[Learner]:
        """Show neither bars nor the table of epochs for the length of a `with`; the history is kept."""
        return self.removed_cbs(self.progress)

    @contextmanager
    def calling(self, cbs: list[Callback]) -> Iterator[None]:
        """Dispatch events to these callbacks; nested, since a callback may evaluate in the middle of a fit."""
        for cb in cbs:
            cb.learn = self
        outer = self.run
        try:
            self.run = Dispatch([cb for cb in cbs if is_main() or not cb.main_only], self.verbs)
            yield
        finally:
            release(self.run)
            self.run = outer

    def _check_fit(self, n_epochs: int) -> None:
        if not isinstance(n_epochs, numbers.Integral) or n_epochs < 0:
            raise ValueError(f"n_epochs must be a whole number, at least 0, got {n_epochs!r}")
        if started() and not any(isinstance(cb, Distributed) for cb in self.cbs):
            raise RuntimeError("this is one of several processes that torchrun has started, and each would train a "
                               "model of its own on all of the data; fit inside `with learn.distributed():`")
        if not count(self.data.train, "training batches"):
            raise ValueError("there are no training batches")
        if self.data.valid is not None:
            count(self.data.valid, "validation batches")
        if {id(p) for g in self.opt.param_groups for p in g["params"]} != {id(p) for p in self.model.parameters()}:
            raise RuntimeError("the optimizer holds the parameters of another model; make a new learner for this one")


def _check_unwrapped(model: nn.Module) -> None:
    """Raise TypeError for a model that was put into torch's own wrapper for several processes or devices."""
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        raise TypeError(f"give the model itself, not {type(model).__name__} around it, which hides its methods; fit "
                        "inside `with learn.distributed():`")


def _no_callbacks(metrics: Iterable[MetricLike] | MetricLike | None) -> list[MetricLike]:
    """The metrics as a list. Raises TypeError for a callback among them, such as RankingMetrics."""
    many = isinstance(metrics, Iterable) and not isinstance(metrics, str)   # a text is refused by its whole name
    several: list[Any] = [] if metrics is None else [*cast(Iterable[Any], metrics)] if many else [metrics]
    for m in several:
        cls: type = m if isinstance(m, type) else type(m)
        if issubclass(cls, Callback):
            raise TypeError(f"{cls.__name__} is a callback, not a metric: pass it as cbs={cls.__name__}(...)")
    return several
