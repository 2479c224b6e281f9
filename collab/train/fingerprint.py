"""The fingerprint of a fit: all that a resumed fit must have in common with the one that was cut off."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..loaders import Description, seed_of
from .callbacks.loss_terms import loss_terms_of
from .optim import Hyper
from .schedule import ParamScheduler, value_at

if TYPE_CHECKING:
    from .learner import Learner

HASHES = ("training data", "validation data")
EPOCHS, ROWS, BATCHES, SEED = "epochs", "training rows", "batches an epoch", "seed of the data"
COUNTS = (EPOCHS, ROWS, BATCHES)
BS, LOSS, OPTIMIZER, SCHEDULE, GROUPS = "batch size", "loss", "optimizer", "schedule", "groups that are trained"
OBJECTIVE, TERMS = "objective", "terms of the loss"         # files of before lack them
NOT_HYPERS = (*COUNTS, *HASHES, SEED, BS, LOSS, OBJECTIVE, TERMS, OPTIMIZER, SCHEDULE, GROUPS)  # others: of optimizers
GIVEN = "given"             # of a group: what its rates are where a fit gives none. Files of before have it
POSITIONS = 64              # of a schedule, at which it is compared
CHUNK = 1 << 22             # elements that are hashed at a time, so that data on a GPU need little memory here

Fingerprint = dict[str, object]     # plain values, by what they are called in messages


def fingerprint(learn: Learner) -> Fingerprint:
    """Describe the fit that is about to begin. Data that are TensorBatches, a DataLoader over a TensorDataset or a list
    of batches are identified by a hash of their tensors, others by their numbers alone."""
    train, valid = Description.of(learn.data.train), Description.of(learn.data.valid)
    groups = learn.opt.param_groups
    hypers = {key: [_plain(group.get(key)) for group in groups] for key in groups[0]
              if key not in ("params", "name", GIVEN)}
    return {EPOCHS: learn.n_epochs, ROWS: train.n_rows, BS: train.bs, BATCHES: len(learn.data.train),
            SEED: seed_of(learn.data), HASHES[0]: train.digest or hash_of(train.tensors),
            HASHES[1]: valid.digest or hash_of(valid.tensors),
            LOSS: _name(learn.loss_func), OBJECTIVE: objective_of(learn), TERMS: _terms(learn),
            OPTIMIZER: type(learn.opt).__name__, **hypers,
            SCHEDULE: _schedule(learn),
            GROUPS: [any(p.requires_grad for p in group["params"]) for group in groups]}


def differences(saved: Fingerprint, now: Fingerprint, model: bool = False) -> list[str]:
    """List the differences in words: "batch size 64, this one has 128". Numbers may differ by rounding. If the rows or
    their seed differ, so do the hashes, which are then not listed, and likewise the hyper-parameters of another
    optimizer; those that are one number for all groups differ by that number, not by how many groups there are; another
    seed of equal data is not a difference. Hyper-parameters and schedules of another `model` are not listed."""
    names = [name for name in {**saved, **now} if name != GIVEN and not _same(saved.get(name), now.get(name))
             and not (name in (OBJECTIVE, TERMS) and name not in saved)]
    if OPTIMIZER in names or model:
        names = [name for name in names if name in NOT_HYPERS]
    if model:
        names = [name for name in names if name not in (SCHEDULE, GROUPS)]
    names = [name for name in names
             if name in NOT_HYPERS or not _same(_shared(saved.get(name)), _shared(now.get(name)))]
    if not set(HASHES) & set(names) and saved.get(HASHES[0]) is not None:
        names = [name for name in names if name != SEED]
    if {ROWS, SEED} & set(names):
        names = [name for name in names if name not in HASHES]
    return [_in_words(name, saved.get(name), now.get(name)) for name in names]


def objective_of(learn: Learner) -> str | None:
    """The callback that takes the place of the loss, if one does, in words."""
    owners = [cb for cb in learn.cbs if callable(getattr(type(cb), "get_loss", None))]
    return repr(owners[0]) if owners else None


def _terms(learn: Learner) -> list[str]:
    """The terms of the loss, in words; of a function or an object without words of its own, its name."""
    terms = loss_terms_of(learn.cbs).values()
    return [_name(term) if type(term).__repr__ in (object.__repr__, FunctionType.__repr__) else repr(term)
            for term in terms]


def _in_words(name: str, saved: object, now: object) -> str:
    if name in HASHES:
        return f"other {name}"
    if name == SCHEDULE:
        saved, now = _curves(saved), _curves(now)
    return f"{saved} {name}, this one has {now}" if name in COUNTS else f"{name} {saved}, this one has {now}"


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        return (isinstance(one, int | float) and isinstance(other, int | float)
                and (math.isclose(one, other, rel_tol=1e-9) or one == other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


def _shared(values: object) -> object:
    """What all groups have, where that is one value; otherwise the values of the groups."""
    return values[:1] if isinstance(values, list) and all(_same(value, values[0]) for value in values) else values


def _schedule(learn: Learner) -> dict[str, list[Hyper]]:
    """The values of each scheduled hyper-parameter along the fit, by name."""
    return {name: [value_at(sched, k / POSITIONS) for k in range(POSITIONS)]
            for cb in learn.cbs if isinstance(cb, ParamScheduler) for name, sched in cb.scheds.items()}


def _curves(schedule: Any) -> str:
    """Describe a schedule by its first, largest and last value, those of the last group if there are several."""
    def last(value: Any) -> float:
        several = list(value.values()) if isinstance(value, dict) else value
        return several[-1] if isinstance(several, list) else several
    curves = [(name, [last(v) for v in values]) for name, values in (schedule or {}).items()]
    return ", ".join(f"{name} {v[0]:.3g} ... {max(v):.3g} ... {v[-1]:.3g}" for name, v in curves) or "constant"


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, Tensor) else value


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def hash_of(tensors: Iterable[Tensor] | None) -> str | None:
    """A hash of the values, types and shapes of the tensors; None for None."""
    if tensors is None:
        return None
    sums = hashlib.blake2b(digest_size=16)
    for t in tensors:
        sums.update(f"{t.dtype}{tuple(t.shape)}".encode())
        for part in t.detach().contiguous().flatten().split(CHUNK):
            sums.update(part.cpu().view(torch.uint8).numpy())
    return sums.hexdigest()
