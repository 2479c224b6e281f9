"""Further ratings, and people, after the training part: a new CollabDataBunch over the same items."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .batches import TensorBatches
from .databunch import CollabDataBunch, encode
from .features import Features


def extended(data: CollabDataBunch, ratings: pd.DataFrame, weak: pd.DataFrame) -> tuple[CollabDataBunch, Tensor]:
    """(data with the checked `ratings` of `data.table` after its training rows, the old row of each of its user rows).
    Those that are too `weak` for the threshold are known, and not trained on.

    The vocab of users has the new ones too, and 0 is the old row of those; that of items stays, and has all that are
    rated. Raises DataError for user ids of another kind."""
    users = data.users.with_more(ratings["user"])       # refuses ids of another kind
    old, moved = (torch.from_numpy(np.append(0, one.encode([*other])))
                  for one, other in ((data.users, users), (users, data.users)))
    new = copy.copy(data)
    for cached in ("histories", "known", "trained", "_levels"):
        vars(new).pop(cached, None)
    new.users, new.aside = users, data.aside.over(users, weak)

    def batches(part: TensorBatches, rows: tuple[Tensor, ...], bs: int) -> TensorBatches:
        return TensorBatches(*rows, bs=bs, shuffle=part.shuffle, seed=part.generator.initial_seed(), device=data.device,
                             shape=(len(users), data.n_items))
    train, further = (moved[data.train.tensors[0].cpu()], *data.train.tensors[1:]), encode(ratings, users, data.items)
    joined = tuple(torch.cat([mine.cpu(), more]) for mine, more in zip(train, further))
    full = not data.train.shuffle and data.train.bs >= data.train.n
    new.train = batches(data.train, joined, len(joined[0]) if full else data.train.bs)
    for name in ("valid", "test"):
        if (part := getattr(data, name)) is not None:
            rows = (moved[part.tensors[0].cpu()], *part.tensors[1:])
            mine = data.aside.of_part(name, part) and new.aside.batch(name)      # some of whose users were unknown
            setattr(new, name, batches(part, mine or rows, part.bs))
    if (features := data.user_features) is not None:
        new.user_features = Features(features.codes[old], features.weights[old], features.labels, features.scaling)
    return new, old
