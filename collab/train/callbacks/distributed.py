"""Distributed: one fit by several processes, each of which takes its slice of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...drawn import Slice, slice_batches
from ...given import is_real
from ...loaders import Batches
from ...numerics import checksum
from ...processes import started, team
from ..alike import check_same, share_weights, sum_of_rows, told
from ..callback import Callback, Dispatch
from ..events import Cancel, CancelBatch, CancelStep, CancelTrain
from ..process_group import MINUTES, Place, ProcessGroup, Says
from ..reduction import Gradients, trained
from ..sharded import sharded
from ..untouched import FITTING
from ..whole import held_interrupt
from .dropout_rows import DropoutRows
from .order import Order
from .resume import Checkpoint
from .scores import Collect, Scores
from .seeded import draw_again, drawn_with
from .steps import GradientAccumulation, scale_gradients

if TYPE_CHECKING:
    from ..learner import Learner

TABLES = ("replicated", "sharded")
OTHER_BATCHES = ("the processes have come to different batches; let the data draw them from a torch generator, or from "
                 "torch's global random numbers before each pass, which all processes have in common")
CLOSING = {"batch": Says.BATCH, "train": Says.TRAIN, "validate": Says.VALIDATE, "epoch": Says.EPOCH, "fit": Says.FIT}


class Share(NamedTuple):
    """The rows from `begin` to before `end` of a batch of `n`, with inputs `xb`, that this process has."""

    xb: list[Tensor]
    begin: int
    end: int
    n: int


@contextmanager
def distributed(self: Learner, tables: str = "replicated", *, minutes: float = MINUTES) -> Iterator[Learner]:
    """Train with all processes that torchrun has started, for the length of a `with`; in a process that is alone, this
    does nothing.

        with learn.distributed():
            learn.fit_one_cycle(5)

    Every process runs the same script, and makes the same calls inside the `with`. Each takes its slice of every
    training batch, so that `bs` is the size of the whole, and all end with the same bits, to rounding those of one
    process: the gradients of all rows are added up before each step. Validation batches are dealt out. Losses and
    metrics are those of all rows. All have the weights of the first process from the beginning of the `with`, and its
    optimizer, history and random states from that of a fit; it alone prints, and reads and writes the learner's files.
    `tables="replicated"`: each process has the whole model, and of large tables the rows that are touched are
    exchanged. `tables="sharded"`: each has some rows of every table of ids, which TorchRec looks up and steps by
    row-wise Adagrad; afterwards they are whole again (see `sharded_tables`, too). Dropout and what models of collab
    draw for the rows of a batch are those of one process, too; a model that draws otherwise (such as a SoftmaxNet, one
    input for all rows of a user) sees other random numbers.

    What one process raises, cancels or is interrupted by ends all of them alike; a batch that one cancels is dropped in
    all, with the rows that wait for the same step. One that does not answer within `minutes` is given up. Raises
    ValueError for other `tables` or `minutes`, and for models, data or fits that are not the same in all processes;
    TypeError for metrics that cannot be merged; DataError where tables cannot be sharded; RuntimeError inside another
    such `with`, and for batches that are not the same; OtherProcess, a RuntimeError, where another process fails or
    does not come."""
    if tables not in TABLES:
        raise ValueError(f"tables={tables!r} is not one of {', '.join(map(repr, TABLES))}")
    if not (is_real(minutes) and minutes > 0):
        raise ValueError(f"minutes must be a number above 0, got {minutes!r}")
    if not started():
        yield self
        return
    if any(isinstance(cb, Distributed) for cb in self.cbs):
        raise RuntimeError("this learner is distributed already: one `with` is enough")
    group = ProcessGroup(self.device, minutes)
    try:
        share_weights(group, self.model)
        slices = Distributed(group)
        with ExitStack() as stack:
            cbs: list[Callback] = [slices, Reduction(slices)]
            if tables == "sharded":
                cbs.append(stack.enter_context(sharded(self, group)))
            with self.added_cbs(cbs), team(group):
                yield self
        group.meet(Place.LEFT)
    except BaseException as error:
        if not group.failed:
            group.meet(Place.LEFT, Says.ERROR, error=error)
        raise
    finally:
        group.close()


class Distributed(Callback):
    """Takes this process's slice of every training batch, and makes its loss that of all slices; of a validation, takes
    every so manieth batch whole, and adds up what all have measured. See `distributed`, which adds it together with
    `Reduction`."""

    order = Order.DISTRIBUTED
    in_eval = takes_sparse = True

    def __init__(self, group: ProcessGroup):
        self.group = group
        self.runs: WeakKeyDictionary[Dispatch, _At] = WeakKeyDictionary()    # an evaluation inside a fit has its own
        self.steps = 0                      # of the optimizer, so far
        self.weight = 0.0                   # of this slice in the mean over the batch
        self.pending: Cancel | None = None  # heard as this process cancelled a narrower scope
        self.dropout = DropoutRows()

    @property
    def at(self) -> _At:
        """How far the innermost pass has come."""
        return self.runs.setdefault(self.learn.run, _At())

    # Alike before a fit ------------------------------------------------------------------------------------------

    def before_fit(self) -> None:
        with held_interrupt():
            self._start(Place.START)
            self._check_alike()
            self.group.room = max(self.group.room, 3 * len(trained(self.learn.model)))
            self._begin_alike()
        self.dropout.add(self.learn)

    def _start(self, place: Place) -> None:
        """Begin anew with all processes, whatever has ended a fit or an evaluation before."""
        self.group.meet(place)
        self.group.stopping, self.group.failed, self.pending, self.steps = Says.ON, False, None, 0

    def _check_alike(self) -> None:
        learn = self.learn
        for metric in learn.scores.metrics:
            metric.check_merges()
        if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in learn.model.modules()):
            raise ValueError(f"{type(learn.model).__name__} normalises over the rows of a batch (BatchNorm), of which "
                             "each process has a slice; build it without, such as with batch_norm=False")
        if any(isinstance(cb, GradientAccumulation) for cb in learn.cbs) and any(
                isinstance(cb, Checkpoint) and cb.every is not None for cb in learn.cbs):
            raise ValueError("a checkpoint in the middle of an accumulated step would hold the gradients of one process"
                             " alone: with GradientAccumulation, leave out every= of Checkpoint")
        check_same(self.group, told(learn))

    def _begin_alike(self) -> None:
        """Continue from the weights, the optimizer, the history and the random states of the first process."""
        learn, group = self.learn, self.group
        share_weights(group, learn.model)
        moments = [value for state in learn.opt.state.values() for value in state.values() if torch.is_tensor(value)]
        sums = group.objects([checksum(t.contiguous()) for t in moments])
        if any(own != sums[0] for own in sums):
            learn.opt.load_state_dict(group.from_first(learn.opt.state_dict() if not group.rank else None))
        if len({*group.objects((learn.recorder.n_batches, len(learn.recorder.rows)))}) > 1:
            history = group.from_first(learn.recorder.state_dict() if not group.rank else None)
            if group.rank:
                learn.recorder.load_state_dict(history)
        self._draw_alike(learn.data.train)

    def _draw_alike(self, batches: Batches) -> None:
        draw_again(batches, self.group.from_first(drawn_with(batches) if not self.group.rank else None))

    # Slices ------------------------------------------------------------------------------------------------------

    def before_train(self) -> None:
        self._go_on()
        self.at.done.discard("train")
        with held_interrupt():
            self.group.meet(Place.TRAINING)
            self._draw_alike(self.learn.data.train)     # what a model draws of its own may have moved them apart

    def before_validate(self) -> None:
        self._go_on()
        self.at.done.discard("validate")
        with held_interrupt():
            if self.learn in FITTING:
                self.group.meet(Place.VALIDATING)
            else:
                self._start(Place.VALIDATING)
                share_weights(self.group, self.learn.model)
            self._draw_alike(self.learn.batches)

    def before_epoch(self) -> None:
        self.at.done.discard("epoch")

    def before_batch(self) -> None:
        learn, group, at = self.learn, self.group, self.at
        self._go_on()
        at.done.discard("batch")
        if not learn.training:
            at.met = 2
            if learn.i % group.size != group.rank:
                raise CancelBatch
            return
        at.met, at.begun, n = 0, False, len(learn.yb)
        begin, end = n * group.rank // group.size, n * (group.rank + 1) // group.size
        self.weight = (end - begin) / n
        if begin == end:
            begin, end = 0, 1           # of no weight, so that every model has a row to work on
        slice_batches(Slice(begin, end, n))
        learn.share, self.rows = Share(learn.xb, begin, end, n), sum_of_rows((*learn.xb, learn.yb))
        learn.xb, learn.yb = [x[begin:end] for x in learn.xb], learn.yb[begin:end]

    def after_loss(self) -> None:
        learn = self.learn
        if learn.training:
            numbers = self.weight, learn.loss.item() if self.weight else 0.0, self.steps, self.rows
            rows = self.group.meet(Place.LOSS, numbers=numbers)
            self.at.met += 1
            if len({row[5] for row in rows}) > 1:
                raise RuntimeError(OTHER_BATCHES)
            if len({row[4] for row in rows}) > 1:
                raise RuntimeError("a callback has skipped a step in some of the processes alone, after the gradients "
                                   "were added up; let it raise CancelStep before that, with an `order` below "
                                   "Order.REDUCTION, or in all of them")
            learn.loss = _Shown.apply(learn.loss, sum(row[2] * row[3] for row in rows))

    def after_step(self) -> None:
        self.steps += 1

    def after_batch(self) -> None:
        self.learn.share, self.at.begun = None, False
        self.at.done.add("batch")

    def cleanup_batch(self) -> None:
        learn, at = self.learn, self.at
        learn.share = None
        if learn.training:
            slice_batches(None)
        said = self._cancelled("batch", at.met == 2, at.begun)
        if learn.training and "batch" not in at.done and not isinstance(learn.run.cut_off, CancelTrain):
            self._drop(said)

    def _drop(self, said: list[list[float]] | None) -> None:
        """Clear what waits for a step, unless all have `said` that they cancel before the batch was added to it."""
        unbegun = said is not None and not any(place != Place.LEFT or begun for place, _, begun, *_ in said)
        if not unbegun:
            self.learn.opt.zero_grad()
            for cb in self.learn.run.cbs:
                if isinstance(cb, GradientAccumulation):
                    cb.begin()
        self.at.begun = False

    # The ends of scopes ------------------------------------------------------------------------------------------

    def after_train(self) -> None:
        self._ended("train", Place.TRAINED)

    def after_validate(self) -> None:
        with held_interrupt():
            self._ended("validate", Place.VALIDATED)
            for cb in self.learn.run.cbs:
                if isinstance(cb, Scores | Collect):
                    cb.merge(self.group.objects(cb.state()))

    def after_epoch(self) -> None:
        self._ended("epoch", Place.EPOCH_ENDED)

    def after_fit(self) -> None:
        self._ended("fit", Place.FIT_ENDED)

    def cleanup_train(self) -> None:
        said = self._cancelled("train", "train" in self.at.done, self.at.begun)
        if "train" not in self.at.done and self.learn.run.cut_off is None:
            self._drop(said)

    def cleanup_validate(self) -> None:
        self._cancelled("validate", "validate" in self.at.done)
        if self.learn not in FITTING and "validate" not in self.at.done:
            self._cut_off()

    def cleanup_epoch(self) -> None:
        self._cancelled("epoch", "epoch" in self.at.done)

    def cleanup_fit(self) -> None:
        self.dropout.remove()
        group = self.group
        self._cancelled("fit", "fit" in self.at.done)
        if "fit" not in self.at.done:
            self._cut_off()
        if group.stopping is Says.INTERRUPT:        # some may have taken a step that others have not
            share_weights(group, self.learn.model)
        group.stopping = Says.ON

    def _ended(self, scope: str, place: Place) -> None:
        self._go_on()
        self.at.done.add(scope)
        self.group.meet(place)

    def _cancelled(self, scope: str, ended: bool, begun: bool = False) -> list[list[float]] | None:
        """Say that this process has cancelled the scope, where it has, and has not heard so from another; and whether
        it has `begun` to add to the gradients. What all have said, or None."""
        says, group, said = CLOSING[scope], self.group, None
        if not ended and group.stopping is Says.ON and self.learn.run.cut_off is None:
            try:
                said = group.meet(Place.LEFT, says, [begun])
            except Cancel as wider:
                self.pending = wider
        if group.stopping is says:
            group.stopping = Says.ON
        return said

    def _cut_off(self) -> None:
        """Say which error has ended this process's fit or evaluation, where it is its own."""
        error, group = self.learn.run.cut_off, self.group
        if error is not None and group.stopping < Says.INTERRUPT and not group.failed:
            interrupt = isinstance(error, KeyboardInterrupt)
            group.meet(Place.LEFT, Says.INTERRUPT if interrupt else Says.ERROR, error=error)

    def _go_on(self) -> None:
        pending, self.pending = self.pending, None
        if pending is not None:
            raise pending


class Reduction(Callback):
    """Adds up the gradients of all processes before a step, weighted by their rows."""

    order = Order.REDUCTION
    in_eval = takes_sparse = True

    def __init__(self, slices: Distributed):
        self.slices, self.group = slices, slices.group
        self.reduced = False        # whether the gradients are those of all rows, and no step has taken them

    def before_train(self) -> None:
        self.reduced = False

    def after_loss(self) -> None:
        if self.learn.training:
            self.learn.loss.register_hook(self._weighted)

    def _weighted(self, grad: Tensor) -> Tensor:
        self.slices.at.begun = True
        return grad * self.slices.weight

    def cleanup_batch(self) -> None:
        self.reduced = False        # of a batch that was cancelled, the gradients are dropped

    def after_backward(self) -> None:
        with held_interrupt():
            mine = Gradients(self.learn.model)
            rows = self.group.meet(Place.STEP, numbers=mine.numbers)
            self.slices.at.met += 1
            if any(row[1] == Says.NO_STEP for row in rows):
                raise CancelStep
            mine.add_up([numbers for _, _, *numbers in rows])
        self.reduced = True

    def after_step(self) -> None:
        self.reduced = False

    def after_batch(self) -> None:
        if self.learn.training and self.slices.at.met == 1:        # a step was skipped before it was this one's turn
            self.slices.at.met += 1
            self.group.meet(Place.STEP, Says.NO_STEP)
        if self.reduced:            # another callback skipped the step: the next gradients are added to these
            scale_gradients(self.learn.model, 1 / self.group.size)
            self.reduced = False


@dataclass
class _At:
    """How far a fit or an evaluation has come."""

    done: set[str] = field(default_factory=set)     # the scopes whose last message was sent
    met: int = 0                                    # messages of this batch
    begun: bool = False                             # whether this batch was added to the gradients


class _Shown(torch.autograd.Function):
    """A loss that shows another value than the one whose gradient it has."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, shown: float) -> Tensor:
        return torch.full_like(loss, shown)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
