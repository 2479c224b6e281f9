"""Tables sharded by rows with TorchRec, and stepped by its fused row-wise Adagrad."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError
from ..sharded_rows import ShardedRows
from .process_group import Place, ProcessGroup
from .whole import held_interrupt

MULTIPLE = 4            # of the width of fbgemm's rows; narrower ones are filled up with zeros
INSTALL = 'pip install "collab-torch[sharded]" && pip install --no-deps torchrec==1.8.0'
Rates = Callable[[ShardedRows], float]
Expected = Callable[[], list[tuple[ShardedRows, Tensor]]]


def check_installed() -> None:
    """Raise DataError where TorchRec is not installed, or does not load."""
    try:
        with _quiet():
            import_module("torchrec")
    except (ImportError, OSError, RuntimeError) as error:
        raise DataError(f"sharded tables need TorchRec, which cannot be imported ({error}): {INSTALL}") from error
    logging.getLogger("torch.fx._symbolic_trace").addFilter(_no_advice)


class Kind(NamedTuple):
    """Tables that one collection holds: of one width, stepped at one rate."""

    width: int
    group: int


@dataclass
class LookedUp:
    """Rows of a table that were looked up in this step."""

    table: ShardedRows
    rows: Tensor            # as they were asked for
    version: int
    rate: float             # TorchRec steps by the rate that it had here
    sent: Tensor            # what it gave, (n, padded width), with its graph
    leaf: Tensor            # (*rows.shape, width): gradients are added up here until the step

    beside: Tensor          # (*rows.shape, padded width - width): what is kept beside the rows

    def covers(self, table: ShardedRows, rows: Tensor) -> bool:
        """Whether these rows are the ones that were asked for, or a slice of them."""
        return self.table is table and self.version == rows._version and place_in(self.rows, rows) is not None

    def part(self, of: Tensor, rows: Tensor) -> Tensor:
        """These rows of `leaf` or of `beside`."""
        return of if rows.shape == self.rows.shape else of[place_in(self.rows, rows)]


class TorchRecTables:
    """The engine of `tables`, of which `groups` are the parameter groups. A lookup is one exchange between all
    processes; a step is one more, whatever was looked up, since gradients wait until `push`."""

    def __init__(self, tables: Sequence[ShardedRows], groups: Sequence[int], eps: Sequence[float],
                 group: ProcessGroup):
        self.group = group
        self.pending: list[LookedUp] = []       # with gradients to come
        self.found: list[LookedUp] = []         # of this batch: asked for again, they are not exchanged again
        self.expected: Expected | None = None   # rows that are exchanged together, known when the first are asked for
        self.rates: Rates = lambda table: 0.0   # of the next step
        kinds = dict[Kind, list[tuple[str, ShardedRows]]]()
        self.names = {id(table): f"table_{k}" for k, table in enumerate(tables)}
        epsilons = dict[Kind, float]()
        for table, k, own in zip(tables, groups, eps):
            kind = Kind(table.shape[1], k)
            kinds.setdefault(kind, []).append((self.names[id(table)], table))
            epsilons[kind] = own
        self.collections = [Collection(kind, own, epsilons[kind]) for kind, own in kinds.items()]
        for table in tables:
            table.engine = self

    def close(self) -> None:
        """Part from the tables; their `shard` and `sums` stay."""
        for collection in self.collections:
            collection.keep()
        self.found, self.expected, self.pending = [], None, []

    # Looking up --------------------------------------------------------------------------------------------------

    def look_up(self, table: ShardedRows, rows: Tensor) -> Tensor:
        one = self._looked_up(table, rows)
        return one.part(one.leaf, rows)

    def beside(self, table: ShardedRows, rows: Tensor) -> Tensor:
        one = self._looked_up(table, rows)
        return one.part(one.beside, rows)[..., 0]

    def keep_beside(self, table: ShardedRows, numbers: Tensor) -> bool:
        room = self._collection(table).room[self.names[id(table)]]
        if room.shape[1]:
            room[:, 0] = numbers
        return bool(room.shape[1])

    def _looked_up(self, table: ShardedRows, rows: Tensor) -> LookedUp:
        if self.expected is not None:
            self.fetch_expected(table, rows)
        known = next((one for one in self.found if one.covers(table, rows)), None)
        if known is None:
            self._fetch([(table, rows)])
        return known or self.found[-1]

    def begin(self, expected: Expected | None) -> None:
        """Begin a batch, in which these rows are looked up, all in one exchange."""
        self.found, self.expected = [], expected

    def fetch_expected(self, table: ShardedRows, rows: Tensor) -> None:
        """Exchange all that is expected, if these rows are part of it."""
        assert self.expected is not None
        wanted = self.expected()
        if any(own is table and place_in(expected, rows) is not None for own, expected in wanted):
            self.expected = None
            self._fetch(wanted)

    def _fetch(self, wanted: Sequence[tuple[ShardedRows, Tensor]]) -> None:
        """Look up several tables in one exchange for each kind."""
        names = [self.names[id(table)] for table, _ in wanted]
        flat = {name: rows.reshape(-1) for name, (_, rows) in zip(names, wanted)}
        assert len(flat) == len(wanted)
        sent = self._exchange(flat)
        assert sent is not None
        learning = torch.is_grad_enabled()
        for name, (table, rows) in zip(names, wanted):
            width = table.shape[1]
            leaf, beside = (part.view(*rows.shape, part.shape[1])
                            for part in (sent[name].detach()[:, :width], sent[name].detach()[:, width:]))
            leaf.requires_grad_(learning and table.requires_grad)
            one = LookedUp(table, rows, rows._version, self.rates(table), sent[name], leaf, beside)
            self.found.append(one)
            if leaf.requires_grad:
                self.pending.append(one)

    def add_up(self, numbers: Tensor) -> None:
        with held_interrupt():
            self.group.meet(Place.AVERAGED)
            dist.all_reduce(numbers)

    def sums(self, table: ShardedRows) -> tuple[Tensor, float]:
        """What TorchRec keeps of the rows `own`, (len(own),), and which share that is of RowAdagrad's sums."""
        collection = self._collection(table)
        return collection.sums[self.names[id(table)]], collection.share

    def _collection(self, table: ShardedRows) -> Collection:
        return next(one for one in self.collections if self.names[id(table)] in one.tables)

    def serve(self) -> None:
        """Give rows to processes that look some up, until all processes are here."""
        while self._exchange({}) is not None:
            pass

    def _exchange(self, rows: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The rows of tables by name, all kinds at once; None where no process asks for any."""
        with held_interrupt():
            asked = [collection.asked(rows) for collection in self.collections]
            told = self.group.meet(Place.LOOKED_UP, numbers=[sum(1 << k for k, one in enumerate(asked) if one)])
            wanted = [any(int(number) >> k & 1 for _, _, number, *_ in told) for k in range(len(asked))]
            if not any(wanted):
                return None
            answers = [collection.ask(rows, self.rates) for collection, one in zip(self.collections, wanted) if one]
            return {name: values.values() for answer in answers for name, values in answer.items()}

    # Stepping ----------------------------------------------------------------------------------------------------

    def push(self) -> None:
        """Step every table by the gradients of what was looked up, added up over the processes."""
        by_table = dict[int, list[LookedUp]]()
        for one in self.pending:
            by_table.setdefault(id(one.table), []).append(one)
        self.pending, self.found = [], []
        if not by_table:
            return
        if all(len(own) == 1 and own[0].rate == self.rates(own[0].table) for own in by_table.values()):
            sent = {self.names[key]: own[0].sent for key, own in by_table.items()}
            grads = {self.names[key]: _gradient(own[0]) for key, own in by_table.items()}
        else:               # TorchRec steps a table at each of its lookups, by the rate then: one for all of them
            joined = {self.names[key]: _joined(own) for key, own in by_table.items()}
            sent = self._exchange({name: rows for name, (rows, _) in joined.items()}) or {}
            grads = {name: grad for name, (_, grad) in joined.items()}
        with held_interrupt(), _undivided():
            self.group.meet(Place.STEPPED)
            torch.autograd.backward([sent[name] for name in grads], [_padded(grad) for grad in grads.values()])
        for own in by_table.values():
            own[0].table.steps += 1


class Collection:
    """Tables of one kind in TorchRec."""

    def __init__(self, kind: Kind, tables: Sequence[tuple[str, ShardedRows]], eps: float):
        with _quiet():
            from fbgemm_gpu.split_embedding_configs import EmbOptimType
            from torchrec.distributed.embedding import EmbeddingCollectionSharder
            from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
            from torchrec.distributed.types import ShardingEnv
            from torchrec.modules.embedding_configs import EmbeddingConfig
            from torchrec.modules.embedding_modules import EmbeddingCollection
            from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
        self.tables, self.keyed = dict(tables), KeyedJaggedTensor
        padded = kind.width + -kind.width % MULTIPLE
        # A row's sum is the mean square of its numbers: of a padded row, width / padded of what it is without. Step and
        # eps times the root of that give the step without.
        self.share = kind.width / padded
        whole = EmbeddingCollection(device=torch.device("meta"), tables=[
            EmbeddingConfig(name=name, num_embeddings=len(table), embedding_dim=padded, feature_names=[name],
                            weight_init_min=0.0, weight_init_max=0.0, init_fn=_untouched)
            for name, table in tables])
        sharder = EmbeddingCollectionSharder(fused_params={
            "optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "learning_rate": 0.0, "eps": eps * math.sqrt(self.share)})
        size = dist.get_world_size()
        with _quiet():
            plan = construct_module_sharding_plan(
                whole, {name: row_wise(compute_kernel="fused") for name in self.tables}, sharder=sharder,
                world_size=size, local_size=size, device_type="cpu")
            env = ShardingEnv.from_process_group(dist.group.WORLD)
            self.module: Any = sharder.shard(whole, plan, env, torch.device("cpu"))
        self.kernels = [part.emb_module for lookup in self.module._lookups for part in lookup._emb_modules]
        weights, sums = (dict(zip(self.tables, own, strict=True)) for own in self._held())
        self.room = {name: weights[name][:, kind.width:] for name in self.tables}      # their gradients are 0
        for name, table in self.tables.items():
            table.fill(weights[name][:, :kind.width])
            if table.sums is not None:
                sums[name].copy_(table.sums * self.share)
            table.sums = None
        self.sums = sums

    def _held(self) -> tuple[list[Tensor], list[Tensor]]:
        """The weights and sums of this process's rows, of each table."""
        weights = [w.detach() for kernel in self.kernels for w in kernel.split_embedding_weights()]
        return weights, [s.detach() for kernel in self.kernels for (s,) in kernel.split_optimizer_states()]

    def asked(self, rows: dict[str, Tensor]) -> bool:
        """Whether rows of these tables are among those that are asked for, by name of the table."""
        return any(name in rows for name in self.tables)

    def ask(self, rows: dict[str, Tensor], rates: Rates) -> Any:
        """Begin an exchange, at the rate of the step that follows."""
        rate = rates(next(iter(self.tables.values()))) * math.sqrt(self.share)
        for kernel in self.kernels:
            kernel.set_learning_rate(rate)
        none = torch.empty(0, dtype=torch.int64)
        flat = [rows.get(name, none) for name in self.tables]
        return self.module(self.keyed(list(self.tables), torch.cat(flat), lengths=torch.tensor([*map(len, flat)])))

    def keep(self) -> None:
        for name, table in self.tables.items():
            table.sums, table.engine = self.sums[name] / self.share, None


def _no_advice(record: logging.LogRecord) -> bool:
    """Leave out torch's advice to TorchRec, which users cannot take."""
    return "is_fx_tracing" not in record.getMessage()


def _untouched(weights: Tensor) -> Tensor:
    """Initial weights come from `ShardedRows.fill`."""
    return weights


def _gradient(one: LookedUp) -> Tensor:
    grad = one.leaf.new_zeros(one.leaf.shape) if one.leaf.grad is None else one.leaf.grad
    return grad.reshape(-1, one.table.shape[1])


def _joined(several: Sequence[LookedUp]) -> tuple[Tensor, Tensor]:
    """The distinct rows (n,) of several lookups of a table, and their gradients (n, width)."""
    rows, places = torch.unique(torch.cat([one.rows.reshape(-1) for one in several]), return_inverse=True)
    grads = torch.cat([_gradient(one) for one in several])
    return rows, grads.new_zeros(len(rows), grads.shape[1]).index_add_(0, places, grads)


def place_in(whole: Tensor, rows: Tensor) -> slice | None:
    """Which part of `whole`, contiguous numbers of rows, the tensor `rows` is in memory; None where it is none."""
    if rows.is_set_to(whole):
        return slice(0, len(whole))
    if not (whole.dim() == rows.dim() == 1 and whole.is_contiguous() and rows.is_contiguous() and len(rows)
            and rows.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()):
        return None
    begin = rows.storage_offset() - whole.storage_offset()
    return slice(begin, begin + len(rows)) if 0 <= begin <= len(whole) - len(rows) else None


def _padded(grad: Tensor) -> Tensor:
    return F.pad(grad, (0, -grad.shape[1] % MULTIPLE))


@contextmanager
def _undivided() -> Iterator[None]:
    """Let TorchRec add gradients up over the processes; by default it takes their mean."""
    from torchrec.distributed import comm_ops
    before = comm_ops.get_gradient_division()
    try:
        comm_ops.set_gradient_division(False)
        yield
    finally:
        comm_ops.set_gradient_division(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of TorchRec's own imports and defaults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
