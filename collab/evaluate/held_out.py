"""HeldOut: what a ranking is to find, and what of the held-out ratings was left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.databunch import CollabDataBunch
from ..data.history import Histories
from ..data.implicit import check_threshold, with_weights
from ..data.schema import check_ratings
from ..data.vocab import UNKNOWN
from ..learner import SEVERAL, Ids
from .result import said

TOO_WEAK = -math.inf        # the rating of a row that is no interaction by the threshold of its data


class NobodyToRank(ValueError):
    """Nobody has a relevant item to find; `why` says what became of the held-out ratings."""

    def __init__(self, why: str):
        super().__init__(f"there is nobody with a relevant item to find: {why}; pass other batches or users, a lower "
                         "threshold, or exclude_seen=False")
        self.why = why


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The relevant items of each of `users` (m,), rows ascending: `n_relevant` (m,) of them, `relevant` by user row.
    `seen` is what must not be recommended. `left_out` counts users, and ratings, each under the first that applies."""

    data: CollabDataBunch
    users: Tensor
    n_relevant: Tensor
    relevant: Histories
    seen: Histories | None
    left_out: dict[str, int]

    @classmethod
    def of(cls, data: CollabDataBunch, batches: Any = None, threshold: float | None = None, exclude_seen: bool = True,
           users: Ids | None = None, unknown_items: str = "drop") -> HeldOut:
        """See `evaluate`, whose arguments these are."""
        if unknown_items not in ("drop", "miss"):
            raise ValueError(f"unknown_items={unknown_items!r} is neither 'drop' nor 'miss'")
        check_threshold(threshold)
        user, item, rating = _columns(data, batches)
        among = torch.unique(user[user != UNKNOWN]) if users is None else _known(data, users)
        rest = torch.ones_like(user, dtype=torch.bool) if users is None else torch.isin(user, among)
        seen, left_out, never = data.histories if exclude_seen else None, {}, torch.zeros_like(user, dtype=torch.bool)
        for name, out in (("ratings_of_unknown_users", user == UNKNOWN),
                          ("ratings_not_above_threshold", ~(rating > (TOO_WEAK if threshold is None else threshold))),
                          ("ratings_of_unknown_items", item == UNKNOWN if unknown_items == "drop" else never),
                          ("ratings_seen_in_training", never if seen is None else
                           torch.isin(pair_keys(data, user, item), pair_keys(data, seen.users, seen.items)))):
            left_out[name], rest = int((rest & out).sum()), rest & ~out
        user, item = user[rest], item[rest]
        again = torch.from_numpy(pd.Series(pair_keys(data, user, item).numpy()).duplicated().to_numpy(copy=True))
        once = ~again | (item == UNKNOWN)           # unknown items share a row, and are different ones
        left_out["ratings_repeated"] = int((~once).sum())
        relevant = Histories.of(user[once], item[once], torch.ones(int(once.sum())), data.n_users)
        n_relevant = relevant.starts.diff()
        rows = torch.nonzero(n_relevant)[:, 0]
        left_out = {"users_without_relevant_items": len(among) - len(rows), **left_out}
        if not len(rows):
            raise NobodyToRank(f"none of {len(rating):,} held-out ratings counts (left out: {said(left_out)})")
        return cls(data, rows, n_relevant[rows], relevant, seen, left_out)

    def hits(self, found: Tensor) -> Tensor:
        """Which of the recommended items, rows (m, w), -1 where there is none, are relevant: bool, of that shape."""
        position, items = self.relevant.pairs(self.users)
        asked = torch.arange(len(found))[:, None]
        return torch.isin(pair_keys(self.data, asked, found), pair_keys(self.data, position, items)) & (found > 0)


def pair_keys(data: CollabDataBunch, users: Tensor, items: Tensor) -> Tensor:
    """One integer a pair."""
    return users * data.n_items + items


def _columns(data: CollabDataBunch, batches: Any) -> tuple[Tensor, Tensor, Tensor]:
    batches = data.valid if batches is None else batches
    if batches is None:
        raise ValueError("there is no validation part: make the data with valid_pct or split, or pass batches")
    if isinstance(batches, pd.DataFrame):
        batches = [data.batches(batches).tensors, _too_weak(data, batches)]
    if callable(ordered := getattr(batches, "in_order", None)):
        batches = ordered()                 # training rows, unshuffled
    parts = [tuple(batch) for batch in batches]
    if not parts or any(len(part) != 3 for part in parts):
        raise ValueError(f"batches must hold (users, items, ratings), such as data.valid, data.test or a table of "
                         f"ratings; got {batches!r}")
    user, item, rating = (torch.cat([t.cpu() for t in column]) for column in zip(*parts))
    return user, item, rating


def _too_weak(data: CollabDataBunch, table: pd.DataFrame) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of a checked table that `data.batches` leaves out, since they are not above `data.threshold`."""
    table = with_weights(table, data.schema.rating)
    own = [data.schema.user, data.schema.item, data.schema.rating]
    user, item, rating = (table[name] for name in (own if {*own} <= {*table} else ("user", "item", "rating")))
    weak = ~(check_ratings(rating) > (TOO_WEAK if data.threshold is None else data.threshold)).to_numpy()
    return (torch.from_numpy(data.users.encode(user[weak])), torch.from_numpy(data.items.encode(item[weak])),
            torch.full((int(weak.sum()),), TOO_WEAK))


def _known(data: CollabDataBunch, users: Ids) -> Tensor:
    listed: list[Any] = list(users) if isinstance(users, SEVERAL) else [users]
    rows = data.users.encode(listed)
    if (rows == UNKNOWN).any():
        raise data.users.unknown(listed[int(np.argmax(rows == UNKNOWN))])
    return torch.unique(torch.from_numpy(rows))
