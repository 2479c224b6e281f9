"""What the parts of a databunch hold, and which of their users and items were not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from ..errors import warn
from ..loaders import in_blocks
from .frames import Table
from .mapped import MappedBatches
from .vocab import UNKNOWN

if TYPE_CHECKING:
    from .databunch import CollabDataBunch

PARTS = ("train", "valid", "test")


def summary(data: CollabDataBunch) -> pd.DataFrame:
    """See `CollabDataBunch.summary`."""
    rows: list[dict[str, object]] = []
    for name in PARTS:
        if (part := getattr(data, name)) is None:
            continue
        if name == "train" and isinstance(part, MappedBatches):     # whose ids are all trained on
            rows.append({"part": name, "ratings": part.n, "users": int(data.trained["user"].sum()),
                         "items": int(data.trained["item"].sum()), "mean": data.mean, "unseen_users": 0,
                         "unseen_items": 0, "ratings_with_unseen": 0})
            continue
        users, items, ratings = (t.cpu() for t in part.tensors)
        known_user, known_item = data.trained["user"][users], data.trained["item"][items]
        unseen = {"unseen_users": 0, "unseen_items": 0, **data.unseen.get(name, {})}
        rows.append({"part": name, "ratings": part.n,
                     "users": len(torch.unique(users[known_user])) + unseen["unseen_users"],
                     "items": len(torch.unique(items[known_item])) + unseen["unseen_items"],
                     "mean": ratings.double().mean().item(), **unseen,
                     "ratings_with_unseen": int((~known_user | ~known_item).sum())})
    return pd.DataFrame(rows).set_index("part")


def count_unseen(data: CollabDataBunch) -> dict[str, dict[str, int]]:
    """See `CollabDataBunch.unseen`."""
    found = {}
    for name in PARTS[1:]:
        if name in data.aside.parts:
            users, items, _ = data.aside.parts[name]
            found[name] = {"unseen_users": _untrained(users, data.trained["user"]),
                           "unseen_items": _untrained(items, data.trained["item"])}
    return found


def warn_of_unseen(data: CollabDataBunch) -> None:
    """Warn of test ratings whose user or item has row 0."""
    users, items, _ = data.test.tensors
    if n := int(((users == UNKNOWN) | (items == UNKNOWN)).sum()):
        warn(f"{n:,} of {data.test.n:,} test ratings are of a user or an item that was not trained on (see summary()): "
             "errors take the average one for these, and rankings leave them out; drop them, or train on all ids")


def _untrained(rows: Tensor, trained: Tensor) -> int:
    """The number of distinct rows that are not trained, bool (n,), or beyond n. Row 0 is not counted: it stands for ids
    that were not kept."""
    found = torch.unique(rows[rows != UNKNOWN])
    beyond = found >= len(trained)
    return int(beyond.sum()) + int((~trained[found[~beyond]]).sum())


def first_ratings(data: CollabDataBunch, n: int) -> pd.DataFrame:
    """The first `n` training ratings: raw ids, titles where there are any, ratings."""
    users, items, ratings = (t[:n].cpu().numpy() for t in next(iter(in_blocks(data.train))))
    shown = pd.DataFrame({"user": data.users.decode(users), "item": data.items.decode(items)})
    if titles := data.titles(shown["item"]):
        shown = Table(shown.assign(title=titles))
    return shown.assign(rating=ratings)
