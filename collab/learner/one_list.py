"""One known user's list, of a model that only reads its tables: what `recommend` gives, by the shortest way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pandas as pd
import torch
from torch import Tensor, nn

from ..data.frame_kinds import made_of
from ..data.frames import Table
from ..data.vocab import ONE, UNKNOWN
from ..models.dot_form import TableScorer
from ..models.embedding import only_reads
from ..retrieval.compiled_one import best_of_one
from ..train.untouched import turn

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


def one_list(learn: CollabLearner, user: Any, pool: range, n: int, exclude: str | None, as_frame: str) -> Any:
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
    with turn(learn.model):
        if (scores := _scorer(learn)) is None:
            return None
        found = best_of_one(scores, row, whose, pool, n, seen, clip=learn.shown_range)
    if found is None:
        return None
    if as_frame == "dict":
        return data.catalogue.lists(*found)
    columns = data.catalogue.columns(*found)
    return made_of(columns, as_frame, pd.DataFrame if data.catalogue.titles is None else Table)


_KEPT: WeakKeyDictionary[nn.Module, tuple[list, list[Tensor], TableScorer]] = WeakKeyDictionary()


def _scorer(learn: CollabLearner) -> TableScorer | None:
    """The `TableScorer` of a model that only reads its tables, or None where it has another. That of a model of collab
    which reads its very parameters is kept as long as these are the same memory: to make it takes as long as the list.
    What it remembers of values is not asked for here."""
    model = learn.model
    parts = (part._parameters.get("weight") for part in model._modules.values() if part is not None)
    parameters: list[Tensor] = [p for p in (*model._parameters.values(), *parts) if p is not None]
    now = [vars(model).get("y_range"), *[(id(p), p.data_ptr(), p.shape, p.stride()) if p.dim() else p.item()
                                         for p in parameters]]
    kept = _KEPT.get(model)
    if kept is not None and kept[0] == now:
        return kept[2]
    _KEPT.pop(model, None)
    with torch.no_grad():
        scores = learn.collab_model.scorer()
    if not isinstance(scores, TableScorer):
        return None
    memory = {p.data_ptr() for p in parameters}
    if type(model).__module__.startswith("collab.models.") and all(
            table.data_ptr() in memory for table in scores.form[:4] if table is not None):
        _KEPT[model] = now, parameters, scores
    return scores
