"""The state of a learner in files: its tables, where processes hold rows of them, in a folder beside the main one.

Each process writes its rows to a file of its own; the main file, written last, names the folder and how many there are.
Any number of processes read of them the rows that they hold, piece by piece."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import DataError
from ..files import TensorFile, read_tree, reading, tensor_file, write_tensors, write_tree
from ..processes import is_main, of_first
from ..sharded_rows import ShardedRows, rows_of_rank
from .process_group import Place
from .torchrec_tables import TorchRecTables

if TYPE_CHECKING:
    from .learner import Learner
    from .state import LearnerState

WEIGHTS, SUMS = "weights.", "sums."     # what the tensors of a file are called, before the name of their table


@dataclass
class StoredTable:
    """A table in the files: its shape (n_rows, width), the steps it has taken, and by how much its sums are multiplied.
    """

    shape: tuple[int, int]
    steps: int
    share: float


class StoredTables:
    """The tables of a checkpoint, by name, in the files of `size` processes. Raises FileNotFoundError or DataError for
    files that are missing or hold other rows."""

    def __init__(self, path: Path, facts: dict[str, Any]):
        with reading(path):
            folder, self.size = str(facts["folder"]), int(facts["size"])
            if Path(folder).name != folder or self.size < 1:
                raise ValueError(f"{folder!r} is not the name of a folder, or {self.size} is no number of processes")
            self.tables = {str(name): StoredTable((int(n), int(width)), int(own["steps"]), float(own["share"]))
                           for name, own in facts["tables"].items() for n, width in [own["shape"]]}
        self.path, self.folder = path, path.parent / folder
        self.checked = set[int]()       # the files that are known to be whole
        if not self.folder.is_dir():
            raise FileNotFoundError(f"there is no folder {self.folder.absolute()}, which holds the tables of {path}: "
                                    "copy or move both, and keep the folder's name")

    def check(self, wanted: dict[str, slice]) -> None:
        """Read the files that hold rows of these tables, and see that they are whole."""
        for k in {*range(self.size)} - self.checked:
            if any(_common(self.rows(name, k), rows) for name, rows in wanted.items()):
                with self._open(k, check=True):
                    self.checked.add(k)

    def rows(self, name: str, k: int) -> slice:
        """Which rows of a table the file of process `k` holds."""
        return rows_of_rank(self.tables[name].shape[0], k, self.size)

    def read(self, name: str, rows: slice, weights: Tensor, sums: Tensor | None) -> None:
        """Copy rows of a table to `weights` (n, width), and their sums, as they are, to `sums` (n,)."""
        for k in range(self.size):
            there = self.rows(name, k)
            if common := _common(there, rows):
                part = slice(common.start - there.start, common.stop - there.start)
                to = slice(common.start - rows.start, common.stop - rows.start)
                with self._open(k, check=False) as file:
                    file.read_rows(WEIGHTS + name, part, weights[to])
                    if sums is not None:
                        file.read_rows(SUMS + name, part, sums[to])

    @contextmanager
    def _open(self, k: int, check: bool) -> Iterator[TensorFile]:
        """The file of process `k`. Raises DataError unless it holds the rows that it must."""
        with tensor_file(_file(self.folder, k), kind="rows", check=check) as file:
            for name, table in self.tables.items():
                n = len(range(*self.rows(name, k).indices(table.shape[0])))
                if (file.shapes.get(WEIGHTS + name), file.shapes.get(SUMS + name)) != ((n, table.shape[1]), (n,)):
                    raise DataError(f"{file.path} does not hold {n:,} rows of {name}, as {self.path} says; copy both "
                                    "again")
            yield file


# Writing -------------------------------------------------------------------------------------------------------------


def write_state(learn: Learner, path: Path, state: LearnerState) -> Path:
    """Write a state: whole or not at all, and without pickle. Of several processes the first one alone does; while rows
    of tables are spread over them, all call this, and each writes its own. What an earlier write has left is removed.

    Raises OSError; DataError while gradients wait for a step that a callback has skipped."""
    spread = {name: p for name, p in sharded_tables(learn).items() if p.engine is not None}
    engine = next((table.engine for table in spread.values()), None)
    if not isinstance(engine, TorchRecTables):
        _write_main(path, state, "")
        return path
    if engine.pending:
        raise DataError("a callback has skipped a step of sharded tables, whose gradients wait for the next and are "
                        "not written: write after a step")
    group = engine.group
    folder: str = group.exchange(f"{path.name}.tables-{uuid.uuid4().hex[:8]}")[0]
    held = {name: (table, *engine.sums(table)) for name, table in spread.items()}
    write_rows(path.parent / folder, group.rank, {name: (weights(table), sums)
                                                  for name, (table, sums, _) in held.items()})
    group.meet(Place.SAVED)
    _write_main(path, {**state, "model": {name: t for name, t in state["model"].items() if name not in spread},
                       "tables": {"folder": folder, "size": group.size, "tables": {
                           name: {"shape": [*table.shape], "steps": table.steps, "share": share}
                           for name, (table, _, share) in held.items()}}}, folder)
    group.meet(Place.SAVED)         # what is written can be read by all
    return path


def _write_main(path: Path, state: LearnerState, folder: str) -> None:
    """Write the main file, in the first process, and remove other folders of tables than this one."""
    if is_main():
        write_tree(path, state)
        for left in _folders(path):
            if left.name != folder:
                shutil.rmtree(left, ignore_errors=True)


def write_rows(folder: Path, k: int, tables: dict[str, tuple[Tensor, Tensor]]) -> Path:
    """Write the rows of process `k`: of each table the weights (n, width) and the sums (n,)."""
    tensors = {prefix + name: t for name, own in tables.items() for prefix, t in zip((WEIGHTS, SUMS), own)}
    return write_tensors(_file(folder, k), tensors, {}, kind="rows")


def _file(folder: Path, k: int) -> Path:
    return folder / f"{k}.safetensors"


def _folders(path: Path) -> Iterator[Path]:
    """The folders of tables that checkpoints at this path have made."""
    name = re.compile(re.escape(path.name) + r"\.tables-[0-9a-f]{8}")
    return (one for one in path.parent.iterdir() if name.fullmatch(one.name) and one.is_dir())


# Reading -------------------------------------------------------------------------------------------------------------


def read_state(path: str | Path) -> Any:
    """Read what `write_state` wrote; where processes share work, the first one reads the main file for all. Tables in
    files beside it are `stored`, to be read by `restore_tables`; the model has their shape in place of their weights.
    """
    state = of_first(partial(read_tree, path))
    if isinstance(state, dict) and "tables" in state:
        stored = StoredTables(Path(path), state["tables"])
        with reading(path):
            state["model"] |= {name: torch.empty(table.shape, device="meta") for name, table in stored.tables.items()}
        state["stored"] = stored
    return state


def check_tables(learn: Learner, state: LearnerState) -> None:
    """Raise DataError or FileNotFoundError unless the rows that this process needs are in the files, and whole."""
    if stored := state.get("stored"):
        parameters = dict(learn.model.named_parameters())
        stored.check({name: _own(parameters[name]) for name in stored.tables})


def restore_tables(learn: Learner, state: LearnerState, with_opt: bool) -> None:
    """Put back the rows that this process holds: of stored tables, and of those of `state` that it holds in part."""
    places, stored = places_of(learn), state.get("stored")
    for name, p in learn.model.named_parameters():
        if stored and (table := stored.tables.get(name)):
            sums = torch.empty(len(weights(p))) if with_opt else None
            stored.read(name, _own(p), weights(p), sums)
            if sums is not None:
                _keep_sums(learn, p, sums, table.share, table.steps)
        elif isinstance(p, ShardedRows) and with_opt:
            own = state["opt"]["state"].get(places[name])
            _keep_sums(learn, p, torch.zeros(len(weights(p))) if own is None else own["row_sum"][p.own], 1.0,
                       0 if own is None else int(own["step"]))


def sharded_tables(learn: Learner) -> dict[str, ShardedRows]:
    """The parameters of which this process holds some rows, by name."""
    return {name: p for name, p in learn.model.named_parameters() if isinstance(p, ShardedRows)}


def places_of(learn: Learner) -> dict[str, int]:
    """The number that each parameter has in the state of the optimizer, by name."""
    numbers = {id(p): k for k, p in enumerate(p for group in learn.opt.param_groups for p in group["params"])}
    return {name: numbers[id(p)] for name, p in learn.model.named_parameters()}


def weights(table: Tensor) -> Tensor:
    """The weights that this process holds."""
    if not isinstance(table, ShardedRows):
        return table.detach()
    if table.shard is None:
        table.shard, table.draw = torch.empty(table.own.stop - table.own.start, table.shape[1]), None
    return table.shard


def _keep_sums(learn: Learner, p: Tensor, sums: Tensor, share: float, steps: int) -> None:
    """Put back what RowAdagrad has of the rows that this process holds, where it is `share` of what `sums` says."""
    if not isinstance(p, ShardedRows):
        if steps:
            learn.opt.state[p] = {"step": torch.tensor(float(steps)), "row_sum": (sums / share).to(p)}
        return
    p.steps = steps
    if isinstance(p.engine, TorchRecTables):
        now, own = p.engine.sums(p)
        now.copy_(sums if own == share else sums * (own / share))
    else:
        p.sums = sums / share


def _own(p: Tensor) -> slice:
    return p.own if isinstance(p, ShardedRows) else slice(0, len(p))


def _common(one: slice, other: slice) -> slice | None:
    begin, end = max(one.start, other.start), min(one.stop, other.stop)
    return slice(begin, end) if begin < end else None
