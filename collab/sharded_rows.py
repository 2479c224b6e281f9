"""ShardedRows: a table of weights of which each process holds some of the rows, and none all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .processes import rank, size, started

BLOCK = 1 << 16         # rows that are drawn with one seed, whatever the number of processes
ROWS = 1 << 12          # that are worked on at a time: a BLOCK would stay in the allocator
SAFE = {"size", "dim", "numel", "__len__", "element_size", "is_floating_point", "is_complex", "is_inference",
        "requires_grad_", "__hash__", "_has_compatible_shallow_copy_type", "is_contiguous", "nelement"}
"""Methods that read no numbers."""
FACTS = {"shape", "dtype", "device", "layout", "ndim", "requires_grad", "is_leaf", "_version", "is_sparse", "is_meta",
         "is_cuda", "is_quantized", "grad_fn", "grad", "_grad", "itemsize", "nbytes", "_backward_hooks",
         "_post_accumulate_grad_hooks"}
"""Attributes that hold none."""
SAME = {"to", "cpu", "float", "detach"}
"""Methods that would give the same table: it is float32, on the CPU, and no leaf of a graph."""

_building: ContextVar[bool] = ContextVar("building", default=False)


class Engine(Protocol):
    """Whatever exchanges rows between the processes."""

    def look_up(self, table: ShardedRows, rows: Tensor) -> Tensor:
        """The rows (...,) of a table (n, width), of shape (..., width). All processes ask at the same time, each for
        its own rows."""
        ...

    def keep_beside(self, table: ShardedRows, numbers: Tensor) -> bool:
        """Keep a number beside each of this process's rows of a table, (len(own),), if there is room for it."""
        ...

    def beside(self, table: ShardedRows, rows: Tensor) -> Tensor:
        """The numbers that are kept beside rows (...,) of a table, (...,), by `look_up`."""
        ...

    def add_up(self, numbers: Tensor) -> None:
        """Replace numbers by their sum over the processes."""
        ...


class ShardedRows(Tensor):
    """A parameter (n_rows, width), float32, of which this process holds the rows `own`; the first has the first block.

    It takes the place of an embedding's weight: looking rows up works while an `engine` connects the processes, and
    `copy_` of a whole table keeps the rows `own` of it. Anything else raises RuntimeError. `shard` holds the weights of
    the rows `own`, or None before they are drawn by `fill`; `sums` what RowAdagrad keeps of them, (len(own),)."""

    own: slice
    shard: Tensor | None
    sums: Tensor | None
    steps: int
    engine: Engine | None
    draw: Callable[[Tensor], None] | None

    @staticmethod
    def __new__(cls, n_rows: int, width: int, draw: Callable[[Tensor], None] | None = None,
                requires_grad: bool = True) -> ShardedRows:
        table: ShardedRows = Tensor._make_wrapper_subclass(
            cls, (n_rows, width), dtype=torch.float32, device=torch.device("cpu"), requires_grad=requires_grad)
        vars(table)["_is_param"] = True         # as torch marks parameters that are not of its own class
        table.own = rows_of_rank(n_rows, rank(), size())
        table.shard = table.sums = table.engine = None
        table.steps, table.draw = 0, draw
        return table

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        name = getattr(func, "__name__", str(func))
        if func is F.embedding:
            return args[1].look_up(args[0])
        if name == "__getitem__" and isinstance(args[0], ShardedRows):
            return args[0].look_up(args[1])
        if name == "copy_" and isinstance(args[0], ShardedRows):
            return args[0]._keep(args[1])
        if name in ("__get__", "__set__"):
            name = func.__self__.__name__
            if name == "data":          # which a module sets to the same as it is moved to its device
                return args[0]
            if name in FACTS:
                with torch._C.DisableTorchFunctionSubclass():
                    return func(*args, **(kwargs or {}))
        if name in SAME:
            return args[0]
        if name == "__repr__":
            return f"ShardedRows({tuple(args[0].shape)}, rows {args[0].own.start} to {args[0].own.stop})"
        if name in SAFE:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        several = [*args, *(kwargs or {}).values()]
        flat = [one for arg in several for one in (arg if isinstance(arg, list | tuple) else [arg])]
        raise next(one for one in flat if isinstance(one, ShardedRows))._not_here(name)

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise self._not_here("copying")

    @classmethod
    def __torch_dispatch__(cls, *args: Any) -> NoReturn:
        raise RuntimeError(f"{args[0]} needs a whole table, of which this process holds some of the rows")

    def look_up(self, rows: Any) -> Tensor:
        """Rows by their numbers, or a slice of them. All processes ask at the same time."""
        if isinstance(rows, slice):
            rows = torch.arange(*rows.indices(len(self)))
        if not isinstance(rows, Tensor) or rows.dtype != torch.int64:
            raise self._not_here(f"an index of {type(rows).__name__}")
        return self._connected().look_up(self, rows)

    def keep_beside(self, numbers: Tensor) -> bool:
        """Keep a number beside each of the rows `own`, (len(own),), float32 and not trained, while an engine connects
        the processes; False where it has no room for them. The rows that it exchanges are a little wider than the
        table's, and have room unless that is as wide: this takes no memory, and no exchange of its own."""
        return self._connected().keep_beside(self, numbers)

    def beside(self, rows: Tensor) -> Tensor:
        """The numbers beside these rows, (...,). All processes ask at the same time."""
        return self._connected().beside(self, rows)

    def _connected(self) -> Engine:
        if self.engine is None:
            raise RuntimeError(f"the rows of a table of {len(self):,} are spread over processes, and can be looked up "
                               "inside `with learn.distributed(tables='sharded')`; after it the first process has all")
        return self.engine

    @torch.no_grad()
    def fill(self, into: Tensor) -> None:
        """Write the rows `own` into (len(own), width), drawn now if they were not; `shard` is then `into`."""
        if self.shard is not None:
            into.copy_(self.shard)
        elif self.draw is not None:
            self.draw(into)
        self.shard, self.draw = into, None

    @torch.no_grad()
    def average_rest(self, trained: Callable[[slice], Tensor]) -> None:
        """Set the rows that were not trained to the mean of those that were; `trained` says so of the rows `own`, bool
        (len(own),). Before an engine connects the processes, this does nothing."""
        if self.engine is None or self.shard is None:
            return
        mine, total = trained(self.own), torch.zeros(self.shape[1] + 1, dtype=torch.float64)
        pieces = [*zip(self.shard.split(ROWS), mine.split(ROWS))]
        for rows, some in pieces:
            total[:-1] += rows[some].sum(0, dtype=torch.float64)
        total[-1] = mine.count_nonzero()
        self.engine.add_up(total)
        mean = (total[:-1] / total[-1]).to(self.shard)
        for rows, some in pieces:
            rows[~some] = mean

    def _keep(self, whole: Tensor) -> ShardedRows:
        values = whole.detach()[self.own].to(torch.float32)
        if self.shard is None:
            self.shard, self.draw = values.clone(), None
        else:
            self.shard.copy_(values)
        return self

    def _not_here(self, what: str) -> RuntimeError:
        return RuntimeError(
            f"{what} needs all {len(self):,} rows of a table, of which this process holds {self.own.start:,} to "
            f"{self.own.stop:,}; inside `with learn.distributed(tables='sharded')` models are trained and pairs "
            "scored. After it the first process has the whole: save, export and recommend there")


def rows_of_rank(n_rows: int, rank: int, size: int) -> slice:
    """The rows that a process holds: blocks of ceil(n_rows / size), one after the other."""
    block = -(-n_rows // size)
    return slice(min(n_rows, rank * block), min(n_rows, (rank + 1) * block))


@contextmanager
def sharded_tables() -> Iterator[None]:
    """Build models whose tables of ids are never whole in a process, for tables that would not fit into one:

        with collab.sharded_tables():
            learn = collab_learner(data, "dot_bias")
        with learn.distributed(tables="sharded"):
            learn.fit_one_cycle(5)

    Their weights are drawn when training begins, by each process for its own rows: in blocks with seeds of their own,
    so that they do not depend on the number of processes, but are others than those of a table that is drawn whole. In
    a process that is alone this does nothing."""
    token = _building.set(started())
    try:
        yield
    finally:
        _building.reset(token)


def in_shards() -> bool:
    """Whether tables are to be built in shards."""
    return _building.get()


def drawn_rows(n_rows: int, width: int, std: float) -> ShardedRows:
    """A table whose rows will be drawn as `models.layers.embedding` draws them; its seed is drawn now."""
    seed = int(torch.randint(1 << 62, ()))
    own = rows_of_rank(n_rows, rank(), size())

    def draw(into: Tensor) -> None:
        generator, step = torch.Generator(), min(ROWS, BLOCK)
        for begin in range(own.start // BLOCK * BLOCK, own.stop, step):
            if begin % BLOCK == 0:
                generator.manual_seed(seed + begin // BLOCK)
            drawn = truncated_normal(min(n_rows - begin, step), width, std, generator)
            first, stop = max(begin, own.start), min(begin + len(drawn), own.stop)
            if first < stop:
                into[first - own.start:stop - own.start] = drawn[first - begin:stop - begin]
    return ShardedRows(n_rows, width, draw)


def truncated_normal(n_rows: int, width: int, std: float, generator: torch.Generator) -> Tensor:
    """Numbers of a normal distribution truncated at two deviations, by its inverse: several times as fast as drawing
    again what lies outside."""
    end = torch.tensor(2 ** 0.5).erf().item()
    drawn = torch.empty(n_rows, width).uniform_(-end, end, generator=generator).erfinv_().mul_(std * 2 ** 0.5)
    return drawn.clamp_(-2 * std, 2 * std)
