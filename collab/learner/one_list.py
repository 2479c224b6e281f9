"""One known user's list, of a model that only reads its tables: what `recommend` gives, by the shortest way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from ..data.frame_kinds import made_of
from ..data.frames import Table
from ..data.vocab import ONE, UNKNOWN
from ..models.dot_form import TableScorer
from ..models.embedding import only_reads
from ..retrieval.compiled_one import best_of_one
from ..train.untouched import turn

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


def one_list(learn: CollabLearner, user: Any, n: int, exclude: str | None, as_frame: str) -> Any:
    """The table of `recommend(user, n, exclude=exclude, as_frame=as_frame)`, of checked arguments; None where it takes
    the general way: for several users, an unknown one, another model, and where `best_of_one` finds none."""
    if type(user) not in ONE or type(n) is not int or n < 1 or not only_reads(learn.model):
        return None
    data = learn.data
    if (row := data.users.find(user)) == UNKNOWN:
        return None
    whose, seen = row, data.known if exclude == "known" else data.histories if exclude == "train" else None
    if exclude == "known" and data.aside.users.vocab is not data.users:
        whose = int(data.aside.users.encode([user])[0])
    with turn(learn.model), torch.no_grad():
        scores = learn.collab_model.scorer()
        if not isinstance(scores, TableScorer):
            return None
        found = best_of_one(scores, row, whose, range(1, data.n_items), n, seen)
    if found is None:
        return None
    rows, best = found[0], learn.clip(torch.from_numpy(found[1])).numpy()
    if as_frame == "dict":
        return data.catalogue.lists(rows, best)
    columns = data.catalogue.columns(rows, best)
    return made_of(columns, as_frame, pd.DataFrame if data.catalogue.titles is None else Table)
