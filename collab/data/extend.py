"""Further ratings, and people, after the training part: a new CollabDataBunch over the same items."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .aside import Rows
from .batches import TensorBatches
from .databunch import CollabDataBunch, encode
from .features import Features


def extended(data: CollabDataBunch, ratings: pd.DataFrame, weak: pd.DataFrame) -> tuple[CollabDataBunch, Tensor]:
    """(data with the checked `ratings` of `data.table` after its training rows, the old row of each of its user rows).
    Ratings that are too `weak` for the threshold are known, and not trained on.

    The vocab of users gets the new ones too, whose old row is 0; that of items stays, and must have all that are rated.
    Raises DataError for user ids of another kind."""
    users = data.users.with_more(ratings["user"])       # refuses ids of another kind
    old, moved = (torch.from_numpy(np.append(0, one.encode([*other])))
                  for one, other in ((data.users, users), (users, data.users)))
    aside = data.aside.over(users, weak)

    def batches(part: TensorBatches, rows: Rows, bs: int) -> TensorBatches:
        return TensorBatches(*rows, bs=bs, shuffle=part.shuffle, seed=part.generator.initial_seed(), device=data.device,
                             shape=(len(users), data.n_items))

    def held_out(name: str, part: TensorBatches | None) -> TensorBatches | None:
        if part is None:
            return None
        u, i, r = part.tensors
        known = data.aside.of_part(name, part) and aside.batch(name)     # users that were unknown may have become known
        return batches(part, known or (moved[u.cpu()], i, r), part.bs)

    before, further = data.train.tensors, encode(ratings, users, data.items)
    joined = (torch.cat([moved[before[0].cpu()], further[0]]), torch.cat([before[1].cpu(), further[1]]),
              torch.cat([before[2].cpu(), further[2]]))
    full = not data.train.shuffle and data.train.bs >= data.train.n
    features = data.user_features
    return CollabDataBunch(
        batches(data.train, joined, len(joined[0]) if full else data.train.bs), held_out("valid", data.valid),
        held_out("test", data.test), users, data.items, item_table=data.item_table, user_table=data.user_table,
        item_features=data.item_features, title_name=data.title_name, seed=data.seed, device=data.device,
        user_features=None if features is None else Features(features.codes[old], features.weights[old],
                                                             features.labels, features.scaling),
        schema=data.schema, implicit=data.implicit, threshold=data.threshold, aside=aside,
        timed=data.timed), old
