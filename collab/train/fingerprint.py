"""What a fit is of: what a fit that is resumed must have in common with the one that was cut off."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sized
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .schedule import ParamScheduler, value_at

if TYPE_CHECKING:
    from .learner import Learner

HASHES = ("training data", "validation data")
EPOCHS, ROWS, BATCHES, SEED = "epochs", "training rows", "batches an epoch", "seed of the data"
COUNTS = (EPOCHS, ROWS, BATCHES)
POSITIONS = 64              # of a schedule, at which it is compared
CHUNK = 1 << 22             # elements that are hashed at a time, so that little memory is needed for data on a GPU


def fingerprint(learn: Learner) -> dict[str, Any]:
    """The fit that is about to begin, by name: plain values. Data are known by a hash of their tensors, where they are
    TensorBatches, a DataLoader over a TensorDataset, or a list of batches; of other batches only numbers are known."""
    train = learn.data.train
    groups = learn.opt.param_groups
    hypers = {key: [_plain(group.get(key)) for group in groups] for key in groups[0] if key not in ("params", "name")}
    return {EPOCHS: learn.n_epochs, ROWS: _rows(train), "batch size": _bs(train), BATCHES: len(train),
            SEED: getattr(learn.data, "seed", None), HASHES[0]: _hash(train), HASHES[1]: _hash(learn.data.valid),
            "loss": _name(learn.loss_func), "optimizer": type(learn.opt).__name__, **hypers,
            "schedule": _schedule(learn),
            "groups that are trained": [any(p.requires_grad for p in group["params"]) for group in groups]}


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs, in words: "batch size 64, this one has 128". Numbers may differ by rounding. Where rows or their
    seed differ, the hashes do too, and say nothing new; another seed of data that are the same is no difference."""
    names = [name for name in {**saved, **now} if not _same(saved.get(name), now.get(name))]
    if not set(HASHES) & set(names) and saved.get(HASHES[0]) is not None:
        names = [name for name in names if name != SEED]
    if {ROWS, SEED} & set(names):
        names = [name for name in names if name not in HASHES]
    return [_in_words(name, saved.get(name), now.get(name)) for name in names]


def _in_words(name: str, saved: Any, now: Any) -> str:
    if name in HASHES:
        return f"other {name}"
    if name == "schedule":
        saved, now = _curves(saved), _curves(now)
    return f"{saved} {name}, this one has {now}" if name in COUNTS else f"{name} {saved}, this one has {now}"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        numbers = isinstance(one, int | float) and isinstance(other, int | float)
        return numbers and (math.isclose(one, other, rel_tol=1e-9) or one == other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


def _schedule(learn: Learner) -> dict[str, list[Any]]:
    """Hyper-parameter -> its values along the fit, of every scheduler."""
    return {name: [value_at(sched, k / POSITIONS) for k in range(POSITIONS)]
            for cb in learn.cbs if isinstance(cb, ParamScheduler) for name, sched in cb.scheds.items()}


def _curves(schedule: dict[str, list[Any]] | None) -> str:
    """A schedule by its first, largest and last value, those of the last group where there are several."""
    def last(value: Any) -> float:
        several = list(value.values()) if isinstance(value, dict) else value
        return several[-1] if isinstance(several, list) else several
    curves = [(name, [last(v) for v in values]) for name, values in (schedule or {}).items()]
    return ", ".join(f"{name} {v[0]:.3g} ... {max(v):.3g} ... {v[-1]:.3g}" for name, v in curves) or "constant"


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _inner(batches: Any) -> Any:
    """The batches themselves, where something stands around them that moves them to a device."""
    return getattr(batches, "batches", batches)


def _tensors(batches: Any) -> Iterable[Tensor] | None:
    inner = _inner(batches)
    for holder in (inner, getattr(inner, "dataset", None)):
        if isinstance(tensors := getattr(holder, "tensors", None), list | tuple):
            return tensors
    if isinstance(inner, list | tuple) and all(isinstance(t, Tensor) for batch in inner for t in batch):
        return [t for batch in inner for t in batch]
    return None


def _rows(batches: Any) -> int | None:
    inner = _inner(batches)
    if isinstance(inner, list | tuple):
        return sum(len(batch[-1]) for batch in inner)
    n, dataset = getattr(inner, "n", None), getattr(inner, "dataset", None)
    return n if isinstance(n, int) else len(dataset) if isinstance(dataset, Sized) else None


def _bs(batches: Any) -> int | None:
    inner = _inner(batches)
    bs = getattr(inner, "bs", getattr(inner, "batch_size", None))
    return bs if isinstance(bs, int) else None


def _hash(batches: Any) -> str | None:
    tensors = None if batches is None else _tensors(batches)
    if tensors is None:
        return None
    sums = hashlib.blake2b(digest_size=16)
    for t in tensors:
        sums.update(f"{t.dtype}{tuple(t.shape)}".encode())
        for part in t.detach().contiguous().flatten().split(CHUNK):
            sums.update(part.cpu().view(torch.uint8).numpy())
    return sums.hexdigest()
