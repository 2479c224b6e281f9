"""Excluded: what users have in some parts of the data, which is neither ranked for them nor relevant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from ..data.databunch import CollabDataBunch
from ..data.histories import Histories
from ..data.vocab import UNKNOWN

PARTS = ("train", "valid", "test")
Exclude = str | Sequence[str] | None
"""One part, several, or none."""


def excluded_parts(data: CollabDataBunch, exclude: Exclude, batches: Any = None) -> tuple[str, ...]:
    """The parts that are named, each once, in the order of `PARTS`, where `batches` are measured, by default those of
    validation. Raises ValueError for another name, and for the held-out part that is measured."""
    several = isinstance(exclude, Iterable) and not isinstance(exclude, str)
    named: tuple[object, ...] = () if exclude is None else tuple(exclude) if several else (exclude,)
    if unknown := [name for name in named if name not in PARTS]:
        raise ValueError(f"exclude={exclude!r}: {unknown[0]!r} is not a part of the data; exclude "
                         f"{', '.join(map(repr, PARTS[:-1]))} or {PARTS[-1]!r}, several of them, or None")
    for name in PARTS[1:]:
        if name in named and (name == "valid" if batches is None else batches is getattr(data, name)):
            raise ValueError(f"exclude={exclude!r}: what was held out is to be found, and is never left out; exclude "
                             f"other parts than {name!r}, or measure another one")
    return tuple(name for name in PARTS if name in named)


def seen_in(data: CollabDataBunch, parts: Sequence[str]) -> Histories | None:
    """What each user has in these parts, as far as both ids are known; a part that the data lack is empty. None for no
    part."""
    held_out = [batches for name in parts if name != "train" and (batches := getattr(data, name)) is not None]
    if "train" not in parts and not held_out:
        return None
    if not held_out:
        return data.histories
    pairs = [(users.cpu(), items.cpu()) for batches in held_out for users, items, _ in batches]
    if "train" in parts:
        pairs.append((data.histories.users.cpu(), data.histories.items.cpu()))
    users, items = (torch.cat(column) for column in zip(*pairs))
    known = (users != UNKNOWN) & (items != UNKNOWN)
    return Histories.of(users[known], items[known], None, data.n_users)
