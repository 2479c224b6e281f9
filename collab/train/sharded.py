"""Tables of ids that are spread over the processes, for the length of a `with`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import DataError
from ..memory import give_back
from ..sharded_rows import ShardedRows, rows_of_rank
from .callback import Callback
from .callbacks.averaging import Averaging
from .callbacks.loss_terms import LossTerms
from .callbacks.order import Order
from .callbacks.snapshots import Snapshots
from .callbacks.steps import GradientAccumulation, GradientClip, MixedPrecision
from .callbacks.trackers import SaveBest
from .process_group import ProcessGroup
from .row_adagrad import RowAdagrad
from .torchrec_tables import TorchRecTables, check_installed

if TYPE_CHECKING:
    from .learner import Learner

PIECE = 1 << 24         # numbers that are exchanged at a time, as tables are spread and gathered
ROW_ADAGRAD = "collab_learner(data, opt_func=RowAdagrad)"
AFTER = "leave it out, or train with tables='replicated'"
REFUSED: dict[type[Callback], str] = {
    Averaging: f"averages all weights; {AFTER}", Snapshots: f"keeps copies of all weights; {AFTER}",
    SaveBest: f"keeps copies of all weights; {AFTER}",
    LossTerms: f"reads all weights at every step; {AFTER}", GradientClip: f"needs all gradients at once; {AFTER}",
    GradientAccumulation: "needs all gradients at once; take larger batches in its place, bs=",
    MixedPrecision: f"scales gradients; {AFTER}"}
"""Callbacks that sharded tables cannot serve, and why."""


@runtime_checkable
class KnowsTables(Protocol):
    """A learner that knows the tables of its ids."""

    def id_inputs(self) -> list[list[Tensor]]:
        """The tables in which each input of the model is looked up. Raises DataError where they cannot be sharded."""
        ...

    def before_gathering(self) -> None:
        """Called in all processes while the tables are still spread, before they are gathered."""
        ...


@runtime_checkable
class ComparesItems(Protocol):
    """An objective that says whether it scores each row of a slice with the items of the whole batch."""

    whole_items: bool


@contextmanager
def sharded(learn: Learner, group: ProcessGroup) -> Iterator[ShardedTables]:
    """Spread the learner's tables of ids over the processes of `group`, row by row, and give the callback that trains
    them. At the end, tables that were whole are whole again in every process; those that were built by
    `sharded_tables` in the first process alone, out of a file on its disk. After an error they stay spread.

    Raises DataError, before anything is changed, where TorchRec is missing, and what `id_inputs` raises."""
    check_installed()
    if not isinstance(learn, KnowsTables):
        raise DataError("tables='sharded' needs a learner that knows which tables have a row for each id, such as "
                        "those of collab_learner")
    inputs = learn.id_inputs()
    _check_optimizer(learn)
    _check_tables(learn, inputs)
    before = [table for own in inputs for table in own]
    everywhere = [all(whole) for whole in zip(*group.objects([not isinstance(p, ShardedRows) for p in before]))]
    sizes = [len(own) for own in inputs]
    inputs.clear()
    flat = [_spread(learn, before.pop(0), group) for _ in everywhere]     # each whole table goes before the next
    rest = iter(flat)
    tables = [[next(rest) for _ in range(n)] for n in sizes]
    groups = [_group_of(learn, table) for table in flat]
    engine = TorchRecTables(flat, groups, [learn.opt.param_groups[k]["eps"] for k in groups], group)
    give_back()         # what initial weights were drawn in
    try:
        yield ShardedTables(engine, tables, groups)
        learn.before_gathering()
    finally:
        engine.close()
    for table, in_all in zip(flat, everywhere):
        _gather(learn, table, group, in_all)


class ShardedTables(Callback):
    """Looks up the rows of a batch in one exchange, and steps the tables where the optimizer steps the rest, at the
    rates of its groups. A process that is through with its batches of a validation serves those that are not."""

    order = Order.SHARDED
    in_eval = takes_sparse = True

    def __init__(self, engine: TorchRecTables, tables: Sequence[Sequence[ShardedRows]], groups: Sequence[int]):
        self.engine, self.tables = engine, tables
        flat = [table for own in tables for table in own]
        self.groups = {id(table): k for table, k in zip(flat, groups)}
        self.ended = False          # whether this batch came to its end

    def before_fit(self) -> None:
        learn = self.learn
        for cb in learn.cbs:
            for kind, why in REFUSED.items():
                if isinstance(cb, kind):
                    raise DataError(f"{type(cb).__name__} {why}")
        if any(group["weight_decay"] for group in learn.opt.param_groups):
            raise DataError("weight decay moves all rows at every step, and sharded tables only those of the batch: "
                            "pass wd=0; the default ridge of dot_bias acts on the rows of the batch")
        self.engine.pending, self.engine.rates = [], self._rate

    def before_batch(self) -> None:
        self.ended = False
        self.engine.begin(self._expected)

    def after_step(self) -> None:
        self.engine.push()

    def after_batch(self) -> None:
        self.ended = True

    def cleanup_batch(self) -> None:
        self.engine.begin(None)
        if self.learn.training and not self.ended:
            self.engine.pending = []        # a batch that is cancelled is dropped in all processes

    def after_validate(self) -> None:
        self.engine.serve()

    def _expected(self) -> list[tuple[ShardedRows, Tensor]]:
        """The rows of the batch, of which a process may by now have a slice."""
        learn = self.learn
        inputs = learn.xb
        if learn.share is not None and any(isinstance(cb, ComparesItems) and cb.whole_items for cb in learn.run.cbs):
            inputs = [inputs[0], *learn.share.xb[1:]]
        return [(table, rows) for own, rows in zip(self.tables, inputs) for table in own]

    def _rate(self, table: ShardedRows) -> float:
        rate: float = self.learn.opt.param_groups[self.groups[id(table)]]["lr"]
        return rate


def _check_optimizer(learn: Learner) -> None:
    if not isinstance(learn.opt, RowAdagrad):
        raise DataError(f"sharded tables are trained by RowAdagrad, and this learner has {type(learn.opt).__name__}: "
                        f"{ROW_ADAGRAD}")


def _check_tables(learn: Learner, inputs: Sequence[Sequence[Tensor]]) -> None:
    for table in (table for own in inputs for table in own):
        if table.dtype != torch.float32 or table.device.type != "cpu":
            raise DataError(f"sharded tables are float32 on CPUs, and one of these is {table.dtype} on {table.device}")


def _group_of(learn: Learner, p: Tensor) -> int:
    return next(k for k, group in enumerate(learn.opt.param_groups) if any(p is one for one in group["params"]))


def _replace(learn: Learner, old: Tensor, new: Any) -> None:
    """Put `new` where the model and the optimizer have `old`, whose state goes."""
    for module in learn.model.modules():
        for name, p in module._parameters.items():
            if p is old:
                module._parameters[name] = new
    for group in learn.opt.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    learn.opt.state.pop(old, None)


# Spreading and gathering ---------------------------------------------------------------------------------------------


def _spread(learn: Learner, table: Any, group: ProcessGroup) -> ShardedRows:
    """The table as `ShardedRows` in the learner's model and optimizer: of the first process's, where that is whole."""
    if not any(group.objects(not isinstance(table, ShardedRows))):
        return table
    n_rows, width = table.shape
    spread, state = ShardedRows(n_rows, width, requires_grad=table.requires_grad), learn.opt.state.get(table, {})
    whole = None if isinstance(table, ShardedRows) else table.detach()
    spread.shard = _scattered(whole, spread, (width,), group)
    if any(group.objects(bool(state))):
        sums = state["row_sum"] if state else None
        spread.sums = _scattered(sums, spread, (), group)
        spread.steps = group.from_first(int(state["step"]) if state else None)
    _replace(learn, table, spread)
    return spread


@torch.no_grad()
def _scattered(whole: Tensor | None, table: ShardedRows, row: Sequence[int], group: ProcessGroup) -> Tensor:
    """The rows `own`, each of shape `row`, of what the first process has."""
    mine = torch.empty(table.own.stop - table.own.start, *row)
    for k in range(group.size):
        for rows in _pieces(rows_of_rank(len(table), k, group.size), table.shape[1]):
            if group.rank == 0 and whole is not None:
                part = whole[rows].contiguous()
                if k:
                    dist.send(part, k)
                else:
                    mine[rows] = part
            elif group.rank == k:
                dist.recv(mine[rows.start - table.own.start:rows.stop - table.own.start], 0)
    return mine


@torch.no_grad()
def _gather(learn: Learner, table: ShardedRows, group: ProcessGroup, everywhere: bool) -> None:
    """Put the whole table, and what the optimizer keeps of it, in place of its shards: in every process, or in the
    first."""
    assert table.shard is not None and table.sums is not None
    weights = _gathered(table.shard, table, group, everywhere)
    sums = _gathered(table.sums, table, group, everywhere)
    if weights is None or sums is None:
        return
    whole = nn.Parameter(weights, table.requires_grad)
    _replace(learn, table, whole)
    if table.steps:
        learn.opt.state[whole] = {"step": torch.tensor(float(table.steps)), "row_sum": sums}


def _gathered(shard: Tensor, table: ShardedRows, group: ProcessGroup, everywhere: bool) -> Tensor | None:
    """The rows of all processes, piece by piece: in every process, or in the first, out of a file."""
    shape = (len(table), *shard.shape[1:])
    whole = torch.empty(shape) if everywhere else None
    with tempfile.NamedTemporaryFile(prefix="collab-table-") as file:
        for k in range(group.size):
            for rows in _pieces(rows_of_rank(len(table), k, group.size), table.shape[1]):
                part = torch.empty(rows.stop - rows.start, *shape[1:])
                if group.rank == k:
                    part.copy_(shard[rows.start - table.own.start:rows.stop - table.own.start])
                if whole is not None:
                    dist.broadcast(part, k)
                    whole[rows] = part
                elif group.rank == k and k:
                    dist.send(part, 0)
                elif group.rank == 0:
                    if k:
                        dist.recv(part, k)
                    file.write(part.numpy().data.cast("B"))
        if whole is None and group.rank == 0:
            file.flush()
            size = shard[:0].numel() + len(table) * shard[:1].numel() if len(shard) else 0
            whole = torch.from_file(file.name, shared=False, size=size, dtype=torch.float32).view(shape)
    return whole


def _pieces(rows: slice, width: int) -> Iterator[slice]:
    """Pieces of some rows, of at most PIECE numbers."""
    step = max(1, PIECE // width)
    for begin in range(rows.start, rows.stop, step):
        yield slice(begin, min(rows.stop, begin + step))
