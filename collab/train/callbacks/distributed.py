"""Distributed: one fit by several processes, each of which takes its slice of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ...loaders import Description
from ...numerics import checksum
from ...processes import started, team
from ...sharded_rows import ShardedRows
from ..callback import Callback
from ..events import Cancel, CancelBatch, CancelStep
from ..process_group import MINUTES, Place, ProcessGroup, Says
from ..reduction import Gradients, trained
from ..sharded import sharded
from ..whole import held_interrupt
from .dropout_rows import DropoutRows
from .order import Order
from .resume import Checkpoint
from .scores import Collect, Scores
from .seeded import draw_again, drawn_with
from .steps import GradientAccumulation, scale_gradients

if TYPE_CHECKING:
    from ..learner import Learner

OURS = __name__.partition(".")[0] + "."
TABLES = ("replicated", "sharded")
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
    metrics are those of all rows. Weights, optimizer, history and random states begin as those of the first process,
    which alone prints and writes files. `tables="replicated"`: each process has the whole model, and of large tables
    the rows that are touched are exchanged. `tables="sharded"`: each has some rows of every table of ids, which
    TorchRec looks up and steps by row-wise Adagrad; afterwards they are whole again (see `sharded_tables`, too).

    What one process raises, cancels or is interrupted by ends all of them alike; a batch that one cancels is dropped in
    all. One that does not answer within `minutes` is given up. Raises ValueError for other `tables`, and before a fit,
    for data, models or fits that are not the same in all processes; TypeError for metrics that cannot be merged;
    DataError where tables cannot be sharded."""
    if tables not in TABLES:
        raise ValueError(f"tables={tables!r} is not one of {', '.join(map(repr, TABLES))}")
    if not started():
        yield self
        return
    if any(isinstance(cb, Distributed) for cb in self.cbs):
        raise RuntimeError("this learner is distributed already: one `with` is enough")
    group = ProcessGroup(self.device, minutes)
    try:
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
        self.done: set[str] = set()         # the scopes whose last message was sent
        self.met = 0                        # messages of this batch
        self.steps = 0                      # of the optimizer, so far
        self.weight = 0.0                   # of this slice in the mean over the batch
        self.pending: Cancel | None = None  # heard as this process cancelled a narrower scope
        self.dropout = DropoutRows()

    # Alike before a fit ------------------------------------------------------------------------------------------

    def before_fit(self) -> None:
        self.done.discard("fit")
        with held_interrupt():
            self.group.meet(Place.START)
            self._check_alike()
            self.group.room = max(self.group.room, 3 * len(trained(self.learn.model)))
            self._begin_alike()
        self.dropout.add(self.learn)

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
        mine = _told(learn)
        first, *others = self.group.objects(mine)
        for k, other in enumerate(others, start=1):
            if apart := [name for name in first if first[name] != other[name]]:
                raise ValueError(f"process {k} would train another fit than process 0: its {apart[0]} is "
                                 f"{other[apart[0]]}, not {first[apart[0]]}; give all the same, and the data a seed")

    def _begin_alike(self) -> None:
        """Continue from the weights, the optimizer, the history and the random states of the first process."""
        learn, group = self.learn, self.group
        with torch.no_grad():
            for tensor in _apart(group, [*learn.model.parameters(), *learn.model.buffers()]):
                group.share(tensor)
        moments = [value for state in learn.opt.state.values() for value in state.values() if torch.is_tensor(value)]
        sums = group.objects([checksum(t.contiguous()) for t in moments])
        if any(own != sums[0] for own in sums):
            learn.opt.load_state_dict(group.from_first(learn.opt.state_dict() if not group.rank else None))
        if len({*group.objects((learn.recorder.n_batches, len(learn.recorder.rows)))}) > 1:
            history = group.from_first(learn.recorder.state_dict() if not group.rank else None)
            if group.rank:
                learn.recorder.load_state_dict(history)
        self._draw_alike()

    def _draw_alike(self) -> None:
        train = self.learn.data.train
        draw_again(train, self.group.from_first(drawn_with(train) if not self.group.rank else None))

    # Slices ------------------------------------------------------------------------------------------------------

    def before_train(self) -> None:
        self._go_on()
        self.done.discard("train")
        with held_interrupt():
            self.group.meet(Place.TRAINING)
            self._draw_alike()      # what a model draws of its own may have moved them apart

    def before_validate(self) -> None:
        self.done.discard("validate")

    def before_epoch(self) -> None:
        self.done.discard("epoch")

    def before_batch(self) -> None:
        learn, group = self.learn, self.group
        self._go_on()
        self.done.discard("batch")
        if not learn.training:
            self.met = 2
            if learn.i % group.size != group.rank:
                raise CancelBatch
            return
        self.met, n = 0, len(learn.yb)
        begin, end = n * group.rank // group.size, n * (group.rank + 1) // group.size
        self.weight = (end - begin) / n
        if begin == end:
            begin, end = 0, 1           # of no weight, so that every model has a row to work on
        learn.share = Share(learn.xb, begin, end, n)
        learn.xb, learn.yb = [x[begin:end] for x in learn.xb], learn.yb[begin:end]

    def after_loss(self) -> None:
        learn = self.learn
        if learn.training:
            numbers = self.weight, learn.loss.item() if self.weight else 0.0, self.steps
            rows = self.group.meet(Place.LOSS, numbers=numbers)
            self.met += 1
            if len({row[4] for row in rows}) > 1:
                raise RuntimeError("a callback has skipped a step in some of the processes alone, after the gradients "
                                   "were added up; let it raise CancelStep before that, with an `order` below "
                                   "Order.REDUCTION, or in all of them")
            learn.loss = _Shown.apply(learn.loss, sum(row[2] * row[3] for row in rows))

    def after_step(self) -> None:
        self.steps += 1

    def after_batch(self) -> None:
        self.learn.share = None
        self.done.add("batch")

    def cleanup_batch(self) -> None:
        learn = self.learn
        learn.share = None
        self._cancelled("batch", self.met == 2)
        if learn.training and "batch" not in self.done:     # what others have of it is dropped too
            learn.opt.zero_grad()
            for cb in learn.run.cbs:
                if isinstance(cb, GradientAccumulation):
                    cb.begin()

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
        self._cancelled("train", "train" in self.done)

    def cleanup_validate(self) -> None:
        self._cancelled("validate", "validate" in self.done)

    def cleanup_epoch(self) -> None:
        self._cancelled("epoch", "epoch" in self.done)

    def cleanup_fit(self) -> None:
        self.dropout.remove()
        error, group = self.learn.run.cut_off, self.group
        if error is None:
            self._cancelled("fit", "fit" in self.done)
        elif "fit" not in self.done and group.stopping < Says.INTERRUPT and not group.failed:
            interrupt = isinstance(error, KeyboardInterrupt)
            group.meet(Place.LEFT, Says.INTERRUPT if interrupt else Says.ERROR, error=error)
        group.stopping = Says.ON

    def _ended(self, scope: str, place: Place) -> None:
        self._go_on()
        self.done.add(scope)
        self.group.meet(place)

    def _cancelled(self, scope: str, ended: bool) -> None:
        """Say that this process has cancelled the scope, where it has, and has not heard so from another."""
        says, group = CLOSING[scope], self.group
        if not ended and group.stopping is Says.ON and self.learn.run.cut_off is None:
            try:
                group.meet(Place.LEFT, says)
            except Cancel as wider:
                self.pending = wider
        if group.stopping is says:
            group.stopping = Says.ON

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
            weight = self.slices.weight
            self.learn.loss.register_hook(lambda grad: grad * weight)

    def after_backward(self) -> None:
        with held_interrupt():
            mine = Gradients(self.learn.model)
            rows = self.group.meet(Place.STEP, numbers=mine.numbers)
            self.slices.met += 1
            if any(row[1] == Says.NO_STEP for row in rows):
                raise CancelStep
            mine.add_up([numbers for _, _, *numbers in rows])
        self.reduced = True

    def after_step(self) -> None:
        self.reduced = False

    def after_batch(self) -> None:
        if self.learn.training and self.slices.met == 1:        # a step was skipped before it was this one's turn
            self.slices.met += 1
            self.group.meet(Place.STEP, Says.NO_STEP)
        if self.reduced:            # another callback skipped the step: the next gradients are added to these
            scale_gradients(self.learn.model, 1 / self.group.size)
            self.reduced = False


class _Shown(torch.autograd.Function):
    """A loss that shows another value than the one whose gradient it has."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, shown: float) -> Tensor:
        return torch.full_like(loss, shown)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def _told(learn: Learner) -> dict[str, Any]:
    """What a process tells the others of the fit that it is about to begin, by what it is called in messages."""
    train, valid = Description.of(learn.data.train), Description.of(learn.data.valid)
    shapes = {name: tuple(t.shape) for name, t in learn.model.state_dict().items()}
    groups = [{k: v for k, v in g.items() if isinstance(v, int | float | str | bool)} for g in learn.opt.param_groups]
    return {"number of epochs": learn.n_epochs, "number of training batches": len(learn.data.train),
            "training rows": _sums(train), "validation rows": _sums(valid), "model": type(learn.model).__name__,
            "shape of parameters": shapes, "optimizer": type(learn.opt).__name__, "hyper-parameters": groups,
            "callbacks": [type(cb).__name__ for cb in learn.run.cbs if type(cb).__module__.startswith(OURS)
                          and not cb.main_only]}        # others may be there to watch one process


def _sums(part: Description) -> list[int]:
    return [part.n_rows or 0, *map(checksum, part.tensors or ())]


def _apart(group: ProcessGroup, tensors: list[Tensor]) -> list[Tensor]:
    """The tensors that are not the same in all processes."""
    tensors = [t for t in tensors if not isinstance(t, ShardedRows)]
    sums = group.objects([checksum(t.contiguous()) for t in tensors])
    return [t for t, *own in zip(tensors, *sums) if len(set(own)) > 1]
