"""Learner: the training loop. It knows a model, a loss, an optimizer and batches, and nothing of ratings."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import warn
from ..files import read_tree, write_tree
from ..loaders import count
from ..losses import mse
from ..metrics import as_metrics
from .callback import Callback, Dispatch, as_list, scope
from .callbacks.progress import Progress
from .callbacks.recorder import Recorder
from .callbacks.resume import EpochStart, resuming
from .callbacks.scores import Collect, Scores
from .callbacks.seeded import Seeded, own_randomness, untouched_randomness
from .events import Cancel, CancelStep
from .fitting import fit_flat_cos, fit_one_cycle, fit_sgdr
from .inspection import show_training_loop, summary
from .lr_find import lr_find
from .optim import Hyper, OptFunc, adamw, make_optimizer, set_hyper
from .state import learner_state, restore_state
from .untouched import FITTING, one_fit, turn, untouched


class Verbs(Callback):
    """What one batch does by default; a callback that defines a method of the same name replaces it."""

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
    """Fits `model` to `data` (anything with `train` and `valid` batches, such as a DataBunch).

    A batch is (x, ..., y): the model is called with everything but the last, the loss with (prediction, last).
    The loss must be a mean over the rows of a batch: that of a whole set is then the mean over its rows. `opt_func`,
    an optimizer class of torch, a partial of one or a function, is called with the parameter groups. `lr` and the
    decoupled weight decay `wd` are what a fit takes that is given none; None is what `opt_func` was given (by default
    a rate of 1e-3 and no decay: see `make_optimizer`). With `seed`, what is random inside `fit` (the order of batches,
    dropout) comes from a stream of the learner's own, and the global one is left as it was.

    While it runs, its state is plain attributes for callbacks to read and to change: `n_epochs`, `epoch`, `i`
    (batch of this pass), `batches`, `training`, `xb`, `yb`, `pred`, `loss`, `opt`, `model`. `interrupted` says
    whether the last fit was ended by Ctrl-C."""

    batches: Any
    xb: list[Tensor]
    yb: Tensor
    pred: Tensor
    loss: Tensor

    def __init__(self, data: Any, model: nn.Module, loss_func: Callable[[Tensor, Tensor], Tensor] = mse,
                 opt_func: OptFunc = adamw, lr: Hyper | None = None, wd: Hyper | None = None, metrics: Any = None,
                 cbs: Iterable[Callback] | Callback | None = None, seed: int | None = None):
        if not callable(loss_func):
            raise TypeError(f"loss_func must be a function of (predictions, targets), got {loss_func!r}")
        self.device = torch.device(getattr(data, "device", "cpu"))
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
        """The optimizer: made when it is first needed, and kept with its state from fit to fit."""
        return make_optimizer(self.model, self.opt_func, self.lr, self.wd)

    def set_model(self, model: nn.Module) -> None:
        """Go on with another model, on the learner's device; the next fit begins with a fresh optimizer."""
        self.model = model.to(self.device)
        self.__dict__.pop("opt", None)

    # The loop ---------------------------------------------------------------------------------------------------

    def fit(self, n_epochs: int, lr: Hyper | None = None, wd: Hyper | None = None,
            cbs: Iterable[Callback] | Callback | None = None, resume: str | Path | None = None) -> None:
        """Train for `n_epochs` at a constant learning rate; the optimizer keeps its state between fits.

        `lr` and `wd` are numbers, or one a parameter group: a list, a dict by group name, slice(low, high).
        `resume` is the path of a checkpoint of a fit like this one that was cut off: it ends with the same bits; with
        "auto", the path of the `Checkpoint` among the callbacks, if its file is there.
        Ctrl-C ends a fit cleanly: cleanups run, the history is kept, and `interrupted` is True.
        Afterwards the model is in evaluation mode; a fit that is refused changes nothing.
        Raises ValueError for numbers that make no sense, no training batches, or a checkpoint that does not fit;
        TypeError for batches without a length, RuntimeError inside a fit."""
        try:
            self._check_fit(n_epochs)
            cbs = as_list(cbs)
            cbs = [*cbs, *resuming(resume, [*self.cbs, *cbs])]
            with turn(self.model), own_randomness(), self.added_cbs(cbs), self.calling(self.cbs), one_fit(self):
                set_hyper(self.opt, lr=self.lr if lr is None else lr, weight_decay=self.wd if wd is None else wd)
                self.opt.zero_grad()    # a fit that was cut off may have left gradients
                self.n_epochs, self.interrupted = int(n_epochs), False
                self._fit()
        except KeyboardInterrupt:
            FITTING.discard(self)       # it may have come where the fit had just ended
            self.interrupted = True
            if self.progress in self.cbs:
                print(f"Interrupted in epoch {self.epoch}, batch {self.i}; the history is kept, training can go on.")
        except Cancel as stray:
            raise RuntimeError(f"{type(stray).__name__} was raised where its scope was not open") from stray

    @scope("fit")
    def _fit(self) -> None:
        for self.epoch in range(self.n_epochs):
            self._epoch()

    @scope("fit")
    def trial(self) -> None:
        """A fit without validation, for what looks at training, such as `lr_find`."""
        for self.epoch in range(self.n_epochs):
            self._go_over(self.data.train, training=True)

    @scope("epoch")
    def _epoch(self) -> None:
        self._go_over(self.data.train, training=True)
        if self.data.valid is not None:
            self._go_over(self.data.valid, training=False)

    def _go_over(self, batches: Any, training: bool) -> None:
        self.batches, self.training = batches, training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            self._train() if training else self._validate()

    @scope("train")
    def _train(self) -> None:
        for self.i, (*self.xb, self.yb) in enumerate(self.batches):
            self._batch()

    @scope("validate")
    def _validate(self) -> None:
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

    # Looking: nothing changes, neither weights nor history, random state or mode ---------------------------------

    def validate(self, batches: Any = None) -> dict[str, float]:
        """{"valid_loss": ..., metric: ...} over the whole of `batches`, by default the validation part. Raises
        ValueError where there are none."""
        scores = Scores(copy.deepcopy(self.scores.metrics))
        self._look(batches, scores)
        return {"valid_loss" if name == "loss" else name: value for name, value in scores.values.items()}

    def get_preds(self, batches: Any = None) -> tuple[Tensor, Tensor]:
        """(predictions as they are reported, targets) on the CPU, in the order of the rows; in that of the batches if
        these shuffle and do not know how to come unshuffled (a DataLoader does not)."""
        collect = Collect()
        self._look(batches, collect)
        return torch.cat(collect.preds), torch.cat(collect.targets)

    def decode(self, pred: Tensor) -> Tensor:
        """What is reported for the model's raw output; metrics and `get_preds` see this, the loss does not."""
        return pred

    def untouched(self, weights: bool = False) -> AbstractContextManager[None]:
        """Whatever happens inside this `with`, the learner is afterwards what it was (see `untouched.untouched`)."""
        return untouched(self, weights)

    def _look(self, batches: Any, cb: Callback) -> None:
        batches = self.data.valid if batches is None else batches
        if batches is None:
            raise ValueError("there is no validation part: make the data with valid_pct or split, or pass batches")
        if not count(batches, "batches to look at"):
            raise ValueError("there is nothing to look at: the batches are empty")
        if callable(ordered := getattr(batches, "in_order", None)):
            batches = ordered()                 # training rows, unshuffled
        with untouched(self, batches=batches), self.calling([*(c for c in self.cbs if c.looks), cb]):
            self._go_over(batches, training=False)

    lr_find = lr_find

    # Parameter groups --------------------------------------------------------------------------------------------

    def freeze_to(self, n: int) -> None:
        """Freeze the first `n` parameter groups and thaw the rest; a negative `n` counts from the last. Raises
        ValueError where nothing would be left to train."""
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
        """Write weights, optimizer, history and random states: what `load` goes on from. Atomic, and no pickle."""
        return write_tree(path, learner_state(self))

    def load(self, path: str | Path, with_opt: bool = True) -> None:
        """Take back what `save` or a `Checkpoint` wrote; torch's random state too, unless the learner has its own.

        Raises FileNotFoundError, or ValueError for a file of another kind or a state that does not fit."""
        with untouched_randomness() if self.seed is not None else nullcontext():
            restore_state(self, read_tree(path), with_opt, path)

    # Inspection --------------------------------------------------------------------------------------------------

    summary = summary
    show_training_loop = show_training_loop

    # Callbacks ---------------------------------------------------------------------------------------------------

    def add_cbs(self, cbs: Iterable[Callback] | Callback | None) -> None:
        """Add callbacks for good; a fit that is running does not call them. Raises TypeError for something that is
        not a callback, ValueError for one that is there, and adds none of them then."""
        added = self._checked(cbs)
        if added and self in FITTING:
            warn(f"{', '.join(map(repr, added))} came in the middle of a fit, which goes on without; the next calls "
                 "it. Add callbacks before a fit, or pass them as fit(cbs=...)")
        self.cbs += added

    def _checked(self, cbs: Iterable[Callback] | Callback | None) -> list[Callback]:
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
    def added_cbs(self, cbs: Iterable[Callback] | Callback | None) -> Iterator[Learner]:
        """Callbacks that stay for the length of a `with`."""
        added = self._checked(cbs)
        try:
            self.cbs = [*self.cbs, *added]
            yield self
        finally:
            self.cbs = [cb for cb in self.cbs if all(cb is not one for one in added)]

    @contextmanager
    def removed_cbs(self, cbs: Iterable[Callback] | Callback) -> Iterator[Learner]:
        """Without these callbacks for the length of a `with`; what is added or removed inside by others stays so."""
        before, without = self.cbs, as_list(cbs)
        try:
            self.cbs = [cb for cb in before if all(cb is not one for one in without)]
            yield self
        finally:
            back = [cb for cb in before if any(cb is one for one in [*without, *self.cbs])]
            self.cbs = [*back, *(cb for cb in self.cbs if all(cb is not one for one in back))]

    @contextmanager
    def no_bar(self) -> Iterator[Learner]:
        """No bars for the length of a `with`; the table of epochs is still printed."""
        before, self.progress.bar = self.progress.bar, False
        try:
            yield self
        finally:
            self.progress.bar = before

    def no_logging(self) -> Any:
        """Neither bars nor the table of epochs for the length of a `with`; the history is kept."""
        return self.removed_cbs(self.progress)

    @contextmanager
    def calling(self, cbs: list[Callback]) -> Iterator[None]:
        """Dispatch to these callbacks; nested, since a callback may look in the middle of a fit."""
        for cb in cbs:
            cb.learn = self
        outer = self.run
        try:
            self.run = Dispatch(cbs, self.verbs)
            yield
        finally:
            self.run = outer

    def _check_fit(self, n_epochs: int) -> None:
        if not isinstance(n_epochs, numbers.Integral) or n_epochs < 0:
            raise ValueError(f"n_epochs must be a whole number, at least 0, got {n_epochs!r}")
        if not count(self.data.train, "training batches"):
            raise ValueError("there are no training batches")
        if self.data.valid is not None:
            count(self.data.valid, "validation batches")
        if {id(p) for g in self.opt.param_groups for p in g["params"]} != {id(p) for p in self.model.parameters()}:
            raise RuntimeError("the optimizer holds the parameters of another model; make a new learner for this one")


def _no_callbacks(metrics: Any) -> Any:
    """The metrics. Raises TypeError for a callback among them, such as RankingMetrics."""
    several = list(metrics) if isinstance(metrics, Iterable) else [metrics]
    for m in several:
        cls = m if isinstance(m, type) else type(m)
        if issubclass(cls, Callback):
            raise TypeError(f"{cls.__name__} is a callback, not a metric: pass it as cbs={cls.__name__}(...)")
    return None if metrics is None else several
