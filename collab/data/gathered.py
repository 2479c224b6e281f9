"""What each user rated, and the interactions of some users, of ratings in memory or in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .histories import Histories
from .interactions import Interactions
from .mapped import MappedBatches
from .mapped_aside import MappedAside
from .mapped_histories import mapped_histories
from .signal import sample
from .vocab import UNKNOWN

if TYPE_CHECKING:
    from .databunch import CollabDataBunch

SOME = 1 << 21          # ratings of some users, where those of all may not fit into memory


def histories_of(data: CollabDataBunch) -> Histories:
    """See `CollabDataBunch.histories`."""
    if isinstance(data.train, MappedBatches):
        return mapped_histories("histories", [data.train.stored], data.n_users)
    x = data.interactions
    return Histories.of(x.users.cpu(), x.items.cpu(), x.ratings.cpu(), x.n_users)


def known_of(data: CollabDataBunch) -> Histories:
    """See `CollabDataBunch.known`."""
    if isinstance(data.train, MappedBatches) and isinstance(data.aside, MappedAside):
        if not data.aside.stored:
            return data.histories               # of all ratings, if none are held out
        return mapped_histories("known", [data.train.stored, *data.aside.stored.values()], len(data.aside.users))
    users, items, ratings = (torch.cat([mine.cpu(), more])
                             for mine, more in zip(data.train.tensors, data.aside.joined()))
    named = (users != UNKNOWN) & (items != UNKNOWN)
    return Histories.of(users[named], items[named], ratings[named], len(data.aside.users))


def interactions_of_some(data: CollabDataBunch) -> Interactions:
    """The interactions in memory, all of them, or of ratings in files those of some users, drawn at random."""
    if not isinstance(data.train, MappedBatches):
        return data.interactions
    train = data.train
    users, items, ratings, _ = sample(lambda: ((u, i, r) for u, i, r in train.blocks()), train.n, data.n_users, SOME)
    return Interactions(users, items, ratings, data.n_users, data.n_items)
