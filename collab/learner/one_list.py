"""One known user's list, of a model that only reads its tables: what `recommend` gives, by the shortest way."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..data.frames import Table
from ..data.vocab import ONE, UNKNOWN
from ..models.dot_form import TableScorer
from ..models.embedding import SET, only_reads
from ..models.layers import Range
from ..retrieval.compiled_one import BestOfOne
from ..train.untouched import turn

if TYPE_CHECKING:
    from ..data.databunch import CollabDataBunch
    from ..train.callback import Callback
    from .collab_learner import CollabLearner


def one_list(learn: CollabLearner, user: Any, n: int, exclude: str | None, as_frame: str) -> Any:
    """The table of `recommend(user, n, exclude=exclude, as_frame=as_frame)`; None where it takes the general way: for
    several users, an unknown one, another model, where the kernels find no list, and to refuse what is asked for."""
    model, data = learn.model, learn.data
    if type(user) not in ONE or type(n) is not int or n < 1 or (row := data.users.find(user)) == UNKNOWN:
        return None
    whose, seen = row, None
    if exclude == "known":
        seen = data.known
        if data.aside.users.vocab is not data.users:
            whose = int(data.aside.users.encode([user])[0])
    elif exclude == "train":
        seen = data.histories
    elif exclude is not None:
        return None
    kind = pd.DataFrame if data.catalogue.titles is None else Table
    kept = learn.kept
    with turn(model) if kept is None or kept.model is not model else kept.turn:
        best = kept.best if kept is not None and kept.holds(learn) else _best(learn)
        return None if best is None else best.listed(data.catalogue, row, whose, n, seen, as_frame, kind)


@dataclass(slots=True, eq=False)
class Kept:
    """What finds the best items by a model of collab that reads its very parameters. To make it takes as long as the
    list: a learner keeps it as long as they are the same memory, and copies of the learner make their own. What its
    scorer remembers of values is not asked for here."""

    best: BestOfOne
    turn: threading.RLock
    data: CollabDataBunch
    scale: Range | None
    cbs: list[Callback]
    model: nn.Module
    parts: dict[str, nn.Module | None]
    y_range: Range | None
    mu: float
    mean: np.ndarray            # where mu is
    tables: list[tuple[dict[str, nn.Parameter | None], str, nn.Parameter, int]]     # where, its name, its memory
    wide: list[nn.Parameter]    # of them those whose numbers may be put in another order there

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(None), ()

    def holds(self, learn: CollabLearner) -> bool:
        """Whether the learner's model still only reads the same memory, for the same ids, and scores are clipped
        alike."""
        model = learn.model
        own = model.__dict__
        if (model is not self.model or learn.data is not self.data or model.training or not own.keys().isdisjoint(SET)
                or own["_modules"] != self.parts or own.get("y_range") is not self.y_range
                or self.mean.item() != self.mu or learn.scale is not self.scale or learn.cbs != self.cbs):
            return False
        for owner, name, parameter, address in self.tables:
            if owner.get(name) is not parameter or parameter.data_ptr() != address:
                return False
        return all(map(Tensor.is_contiguous, self.wide))


def _best(learn: CollabLearner) -> BestOfOne | None:
    """What finds the best of all items, which is `Kept`, or None where the model does more than read its tables."""
    model, data = learn.model, learn.data
    learn.kept = None
    if not only_reads(model):
        return None
    with torch.no_grad():
        scores = learn.collab_model.scorer()
    if not isinstance(scores, TableScorer):
        return None
    best = BestOfOne(scores, range(1, data.n_items), clip=learn.shown_range)
    owners = [model._parameters, *(part._parameters for part in model._modules.values() if part is not None)]
    tables = [(owner, name, p, p.data_ptr()) for owner in owners for name, p in owner.items() if p is not None]
    memory = {address for *_, p, address in tables if p.dtype is torch.float32}     # what kernels read
    y_range, mean = getattr(model, "y_range", None), model._parameters.get("mu")
    if (type(model).__module__.startswith("collab.models.") and all(p.is_contiguous() for *_, p, _ in tables)
            and all(table.data_ptr() in memory for table in scores.form[:4] if table is not None)
            and all(limits is None or type(limits) is tuple for limits in (y_range, learn.scale))
            and not (mean is not None and mean.dtype is torch.bfloat16)):       # numpy has none
        where = np.array(scores.form.mu) if mean is None else mean.detach().cpu().numpy()
        learn.kept = Kept(best, turn(model), data, learn.scale, [*learn.cbs], model, dict(model._modules), y_range,
                          scores.form.mu, where, tables, [p for *_, p, _ in tables if p.dim() > 1 and p.shape[1] > 1])
    return best
