"""What processes that train one model must have alike: their data, weights and settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..loaders import Description
from ..numerics import checksum
from ..sharded_rows import ShardedRows
from .process_group import ProcessGroup

if TYPE_CHECKING:
    from .learner import Learner

ROWS = "training rows", "validation rows"       # told by their sums, which say nothing to people
SHAPES, N_BATCHES = "shape of parameters", "number of training batches"
BY_ROWS = SHAPES, N_BATCHES                     # what differs, too, where data are split differently
SEEDED = ", with data of the same seed, such as seed=0"
OURS = __name__.partition(".")[0] + "."


def told(learn: Learner) -> dict[str, Any]:
    """What a process tells the others of the fit that it is about to begin, by what it is called in messages."""
    train, valid = Description.of(learn.data.train), Description.of(learn.data.valid)
    groups = [{k: v for k, v in g.items() if isinstance(v, int | float | str | bool)} for g in learn.opt.param_groups]
    return {"number of epochs": learn.n_epochs, N_BATCHES: len(learn.data.train),
            ROWS[0]: _sums(train), ROWS[1]: _sums(valid), "model": type(learn.model).__name__,
            SHAPES: _shapes(learn.model), "optimizer": type(learn.opt).__name__,
            "hyper-parameters": groups,
            "callbacks": [type(cb).__name__ for cb in learn.run.cbs if type(cb).__module__.startswith(OURS)
                          and not cb.main_only]}        # others may be there to watch one process


def _sums(part: Description) -> list[int | str]:
    return [part.n_rows or 0, *([part.digest] if part.digest is not None else map(_in_halves, part.tensors or ()))]


def _in_halves(t: Tensor) -> int:
    """A checksum that changes too where rows of one half are in the other."""
    half = len(t) // 4 * 2
    return 3 * checksum(t[:half].contiguous()) + checksum(t[half:].contiguous())


def sum_of_rows(batch: Sequence[Tensor]) -> float:
    """A number that tells batches of other rows apart."""
    return float(sum(k * _in_halves(t) for k, t in enumerate(batch, start=1)) % (1 << 52))


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in model.state_dict().items()}


def check_same(group: ProcessGroup, mine: dict[str, Any]) -> None:
    """Raise ValueError where a process tells something else than the first one."""
    first, *others = group.objects(mine)
    for k, other in enumerate(others, start=1):
        if apart := [name for name in first if first[name] != other[name]]:
            name = apart[0]
            if name in ROWS:
                raise ValueError(f"process {k} has other {name} than process 0: give the data a seed, seed=0, so that "
                                 "all split them alike")
            own, others_own = _where_apart(first[name], other[name])
            raise ValueError(f"process {k} would train another fit than process 0: {name}: {others_own}, not {own}; "
                             f"each must make the same calls{SEEDED if name in BY_ROWS else ''}")


def _where_apart(one: Any, other: Any) -> tuple[Any, Any]:
    """The two; of dicts what is not alike."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return one, other
    apart = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    own, others_own = ({name: of[name] for name in apart if name in of} for of in (one, other))
    return own, others_own


def share_weights(group: ProcessGroup, model: nn.Module) -> None:
    """Give all processes the parameters and buffers of the first one, where theirs differ. Raises ValueError for models
    of other shapes."""
    check_same(group, {SHAPES: _shapes(model)})
    tensors = [t for t in (*model.parameters(), *model.buffers()) if not isinstance(t, ShardedRows)]
    sums = group.objects([checksum(t.contiguous()) for t in tensors])
    with torch.no_grad():
        for t, *own in zip(tensors, *sums):
            if len(set(own)) > 1:
                group.share(t)
