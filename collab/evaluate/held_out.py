"""HeldOut: the items that rankings are to find, and counts of the ratings that were left out."""

from __future__ import annotations

import datetime
import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.allowed import Chosen, allowed
from ..data.databunch import CollabDataBunch, encode
from ..data.frames import as_frame, is_table
from ..data.histories import Histories
from ..data.implicit import check_threshold, names_strength
from ..data.vocab import UNKNOWN, Ids, Vocab, labels
from ..errors import warn
from .excluded import Exclude, excluded_parts, seen_in
from .result import Question, said

NAMELESS = 0                # the key of an item whose raw id is not known
TOO_WEAK = -math.inf        # the rating of a row that is not an interaction by its data's threshold


class NobodyToRank(ValueError):
    """No user has a relevant item to find; `why` says what became of the held-out ratings."""

    def __init__(self, why: str):
        super().__init__(f"no user has a relevant item to find: {why}; pass other batches or users, a lower "
                         "threshold, or exclude=None")
        self.why = why


def say_unknown(left_out: dict[str, int], n_found: int) -> None:
    """Warn where most held-out ratings are of users or items that were not trained on; `n_found` of them count."""
    unknown = left_out["ratings_of_unknown_users"] + left_out["ratings_of_unknown_items"]
    n = n_found + sum(count for name, count in left_out.items() if name.startswith("ratings"))
    if 2 * unknown > n:
        warn(f"{unknown:,} of {n:,} held-out ratings are of users or items that were not trained on, and are left out "
             "of the ranking metrics; hold out ratings of known ones, such as with per_user_split()")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The relevant items of `users` (m,), rows ascending: `n_relevant` (m,) of them each, `relevant` by user row.
    `candidates` are the items to rank, `seen` those not to recommend. `left_out` counts users, and ratings, each under
    the first reason that applies. `question` identifies the relevant items by raw ids."""

    data: CollabDataBunch
    users: Tensor
    n_relevant: Tensor
    relevant: Histories
    candidates: Tensor
    seen: Histories | None
    left_out: dict[str, int]
    question: Question

    @classmethod
    def of(cls, data: CollabDataBunch, batches: Any = None, threshold: float | None = None,
           exclude: Exclude = "train", users: Ids | None = None, unknown_items: str = "drop",
           among: Chosen | None = None) -> HeldOut:
        """The held-out part for the arguments of `evaluate`."""
        if unknown_items not in ("drop", "miss"):
            raise ValueError(f"unknown_items={unknown_items!r} is neither 'drop' nor 'miss'")
        excluded = excluded_parts(data, exclude, batches)
        check_threshold(threshold)
        user, item, rating, key = _columns(data, batches)
        asked = torch.unique(user[user != UNKNOWN]) if users is None else _known(data.users, users)
        kept = allowed(data.catalogue, lambda: data.item_table, among=among)
        pool = torch.arange(1, data.n_items) if kept is None else torch.from_numpy(kept).nonzero()[:, 0]
        rest = torch.ones_like(user, dtype=torch.bool) if users is None else torch.isin(user, asked)
        trained = data.histories if "train" in excluded else None
        seen = seen_in(data, excluded)
        left_out, never = dict[str, int](), torch.zeros_like(user, dtype=torch.bool)
        for name, out in (("ratings_of_unknown_users", user == UNKNOWN),
                          ("ratings_not_above_threshold", ~(rating > (TOO_WEAK if threshold is None else threshold))),
                          ("ratings_of_unknown_items", item == UNKNOWN if unknown_items == "drop" else never),
                          ("ratings_of_items_not_among", never if among is None else ~torch.isin(item, pool)),
                          ("ratings_seen_in_training", never if trained is None else
                           trained.holds(user, item, data.n_items)),
                          ("ratings_of_excluded_parts", never if seen is trained or seen is None else
                           seen.holds(user, item, data.n_items))):
            left_out[name], rest = int((rest & out).sum()), rest & ~out
        if among is None:
            del left_out["ratings_of_items_not_among"]
        if not {*excluded} - {"train"}:
            del left_out["ratings_of_excluded_parts"]
        user, item, key = user[rest], item[rest], key[rest]
        lost, named = item == UNKNOWN, item.clone()         # unknown items share a row, and differ by id
        names, codes = torch.unique(key[lost], return_inverse=True)
        named[lost] = data.n_items + codes
        pairs = user * (data.n_items + len(names)) + named
        again, nobody = torch.from_numpy(pd.Series(pairs).duplicated().to_numpy(copy=True)), lost & (key == NAMELESS)
        if n := int((again & nobody).sum()):
            warn(f"{n:,} further held-out ratings are of unknown items whose ids these batches have not kept: each "
                 "counts as another item, though one may come again; pass the table of ratings in place of the batches")
        once = ~again | nobody
        left_out["ratings_repeated"] = int((~once).sum())
        user, item, key = user[once], item[once], key[once]
        relevant = Histories.of(user, item, torch.ones(len(user)), data.n_users)
        n_relevant = relevant.starts.diff()
        rows = torch.nonzero(n_relevant)[:, 0]
        left_out = {"users_without_relevant_items": len(asked) - len(rows), **left_out}
        if not len(rows):
            raise NobodyToRank(f"none of {len(rating):,} held-out ratings counts (left out: {said(left_out)})")
        names = torch.zeros(data.n_users, dtype=torch.int64).index_add_(0, user, key)[rows].numpy()
        nameless = torch.bincount(user[key == NAMELESS], minlength=data.n_users)[rows].numpy() > 0
        return cls(data, rows, n_relevant[rows], relevant, pool, seen, left_out,
                   Question(names, nameless, ", ".join(excluded) or None,
                            None if among is None else _pool_key(data, pool)))

    def hits(self, found: Tensor) -> Tensor:
        """Whether the recommended items, rows (m, w), -1 where there is none, are relevant: bool (m, w)."""
        position, items = self.relevant.pairs(self.users)
        asked = torch.arange(len(found))[:, None]
        return torch.isin(pair_keys(self.data, asked, found), pair_keys(self.data, position, items)) & (found > 0)


def pair_keys(data: CollabDataBunch, users: Tensor, items: Tensor) -> Tensor:
    """One integer per pair."""
    return users * data.n_items + items


def _columns(data: CollabDataBunch, batches: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(user rows, item rows, ratings, hashes of the raw item ids or NAMELESS)."""
    if is_table(batches):
        batches = _with_strengths(data, as_frame(batches))
        table, weak = data.table(batches, "keep"), _too_weak(data, batches)
        user, item, rating = (torch.cat(columns) for columns in zip(encode(table, data.users, data.items), weak))
        codes, ids = pd.factorize(table["item"].to_numpy())
        return user, item, rating, torch.cat([_id_keys(ids)[codes], torch.full_like(weak[0], NAMELESS)])
    batches = data.part(batches)
    kept = next((rows for name in ("valid", "test") if (rows := data.aside.of_part(name, batches))), None)
    if kept is not None:
        users, items, rating = kept
        rows, codes = torch.unique(items, return_inverse=True)
        return (data.aside.users.within(users), data.aside.items.within(items), rating,
                _id_keys(data.aside.items.decode(rows))[codes])
    if callable(ordered := getattr(batches, "in_order", None)):
        batches = ordered()                 # training rows, unshuffled
    parts = [tuple(batch) for batch in batches]
    if not parts or any(len(part) != 3 for part in parts):
        raise ValueError(f"batches must hold (users, items, ratings), such as data.valid, data.test or a table of "
                         f"ratings; got {batches!r}")
    user, item, rating = (torch.cat([t.cpu() for t in column]) for column in zip(*parts))
    rows, codes = torch.unique(item, return_inverse=True)
    return user, item, rating, _id_keys(data.items.decode(rows.numpy()))[codes]


def _id_keys(ids: Iterable[Hashable]) -> Tensor:
    """A hash of each raw id, int64: the same for equal ones in every process, however they are stored. None, the id of
    an unknown item, has NAMELESS."""
    listed = [*ids]
    text = np.fromiter((repr(_plain(id)) for id in listed), dtype=object, count=len(listed))
    keys = torch.from_numpy(pd.util.hash_array(text, categorize=False).view(np.int64))
    return keys.masked_fill(torch.tensor([id is None for id in listed], dtype=torch.bool), NAMELESS)


def _pool_key(data: CollabDataBunch, pool: Tensor) -> int:
    return int(_id_keys(data.items.decode(pool.numpy())).sum())


def _plain(id: Hashable) -> Hashable:
    """The id as plain Python, where 5.0 is 5 and a date one Timestamp."""
    if isinstance(id, tuple):
        return tuple(map(_plain, id))
    if isinstance(id, (np.datetime64, datetime.datetime)):
        return pd.Timestamp(id)                 # it prints the same in whatever unit
    id = id.item() if isinstance(id, np.generic) else id
    return int(id) if isinstance(id, float) and id.is_integer() else id


def _with_strengths(data: CollabDataBunch, table: pd.DataFrame) -> pd.DataFrame:
    """The table, with strengths of 1 where it holds interactions without strengths, as in `from_df`."""
    own = data.schema.user, data.schema.item, data.schema.rating
    name = next((rating for user, item, rating in (own, ("user", "item", "rating")) if {user, item} <= {*table}), None)
    if (not data.implicit or data.threshold is not None or name is None or name in table or
            any(names_strength(column) for _, column in table.items())):
        return table
    made = table.copy(deep=False)
    made[name] = 1.0
    return made


def _too_weak(data: CollabDataBunch, table: pd.DataFrame) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of a checked table that `data.batches` leaves out, since they are not above `data.threshold`."""
    users, items, ratings = encode(data.weak(table), data.users, data.items)
    return users, items, torch.full_like(ratings, TOO_WEAK)


def _known(vocab: Vocab, ids: Ids) -> Tensor:
    """The rows of one id or several, each once, ascending."""
    listed = labels(ids)
    rows = vocab.encode(listed)
    if (rows == UNKNOWN).any():
        raise vocab.unknown(listed[int(np.argmax(rows == UNKNOWN))])
    return torch.unique(torch.from_numpy(rows))
