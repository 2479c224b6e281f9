"""One known user's list, of a model that only reads its tables: what `recommend` gives, by the shortest way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..data.frame_kinds import made_of
from ..data.frames import Table
from ..data.vocab import ONE, UNKNOWN
from ..models.dot_form import TableScorer
from ..models.embedding import SET, only_reads
from ..retrieval.compiled_one import best_of_one
from ..train.untouched import turn

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


def one_list(learn: CollabLearner, user: Any, n: int, exclude: str | None, as_frame: str) -> Any:
    """The table of `recommend(user, n, exclude=exclude, as_frame=as_frame)`, of checked arguments; None where it takes
    the general way: for several users, an unknown one, another model, and where `best_of_one` finds none."""
    model, data = learn.model, learn.data
    if type(user) not in ONE or type(n) is not int or n < 1 or (row := data.users.find(user)) == UNKNOWN:
        return None
    whose, seen = row, data.known if exclude == "known" else data.histories if exclude == "train" else None
    if exclude == "known" and data.aside.users.vocab is not data.users:
        whose = int(data.aside.users.encode([user])[0])
    kept = _KEPT.get(model)
    with turn(model) if kept is None else kept.turn:
        scores = kept.scores if kept is not None and kept.holds(model) else _scorer(learn)
        if scores is None:
            return None
        found = best_of_one(scores, row, whose, range(1, len(scores.form.items)), n, seen, clip=learn.shown_range)
    if found is None:
        return None
    if as_frame == "dict":
        return data.catalogue.lists(*found)
    columns = data.catalogue.columns(*found)
    return made_of(columns, as_frame, pd.DataFrame if data.catalogue.titles is None else Table)


class Kept(NamedTuple):
    """The scorer of a model of collab that reads its very parameters. To make it takes as long as the list: it is kept
    as long as they are the same memory. What it remembers of values is not asked for here."""

    scores: TableScorer
    turn: threading.RLock
    parts: list[nn.Module | None]
    tables: list[tuple[dict[str, nn.Parameter | None], str, nn.Parameter, Tensor]]  # where, its name, its memory
    mean: np.ndarray

    def holds(self, model: nn.Module) -> bool:
        """Whether the model still only reads the same memory."""
        own = vars(model)
        if (model.training or not own.keys().isdisjoint(SET) or own.get("y_range") != self.scores.form.y_range
                or [*model._modules.values()] != self.parts or self.mean.item() != self.scores.form.mu):
            return False
        for owner, name, parameter, memory in self.tables:
            if owner.get(name) is not parameter or not parameter.is_set_to(memory):
                return False
        return True


_KEPT: WeakKeyDictionary[nn.Module, Kept] = WeakKeyDictionary()


def _scorer(learn: CollabLearner) -> TableScorer | None:
    """The `TableScorer` of a model that only reads its tables, which is `Kept`, or None where it has another."""
    model = learn.model
    _KEPT.pop(model, None)
    if not only_reads(model):
        return None
    with torch.no_grad():
        scores = learn.collab_model.scorer()
    if not isinstance(scores, TableScorer):
        return None
    owners = [model._parameters, *(part._parameters for part in model._modules.values() if part is not None)]
    tables = [(owner, name, p, p.detach()) for owner in owners for name, p in owner.items() if p is not None]
    memory = {p.data_ptr() for *_, p in tables if p.dtype is torch.float32}     # what kernels read
    if type(model).__module__.startswith("collab.models.") and all(
            table.data_ptr() in memory for table in scores.form[:4] if table is not None):
        mean = model._parameters.get("mu")
        if mean is not None and mean.dtype is torch.bfloat16:       # numpy has none
            return scores
        _KEPT[model] = Kept(scores, turn(model), [*model._modules.values()], tables,
                            np.array(scores.form.mu) if mean is None else mean.detach().cpu().numpy())
    return scores
