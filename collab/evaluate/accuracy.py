"""Rating errors of a learner beside those of baselines."""

from __future__ import annotations

import math
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..data.frames import is_table
from ..metrics import MAE, RMSE
from ..models.base import as_collab
from ..models.baseline import BiasBaseline


class Predictor(Protocol):
    """A learner whose rating errors can be measured."""

    @property
    def data(self) -> CollabDataBunch: ...

    @property
    def model(self) -> nn.Module: ...

    @property
    def ranks(self) -> bool: ...

    def clip(self, scores: Tensor) -> Tensor: ...

    def get_preds(self, batches: Any = None) -> tuple[Tensor, Tensor]: ...


def errors(learn: Predictor, part: TensorBatches | pd.DataFrame | None = None) -> pd.DataFrame:
    """RMSE and MAE of the learner on `part` (batches, or a table of ratings; by default the validation part), beside
    two baselines fitted to the training ratings: their mean, and the mean with damped biases. All are clipped to the
    rating scale. Raises ValueError where nothing was held out, as in a loaded learner, and DataError for a model that
    ranks."""
    check_rates(learn)
    batches: Any = learn.data.batches(part) if is_table(part) else learn.data.valid if part is None else part
    preds, targets = learn.get_preds(batches)
    users, items, ratings = (t.cpu() for t in learn.data.train.tensors)
    rows = []
    for name, damping in (("mean rating", (math.inf, math.inf)), ("mean and biases", ())):
        baseline = BiasBaseline(learn.data.n_users, learn.data.n_items).fit(users, items, ratings, *damping)
        parts = [learn.clip(baseline(u.cpu(), i.cpu())) for u, i, _ in batches.in_order()]
        rows.append(_row(name, torch.cat(parts), targets))
    return pd.DataFrame([*rows, _row(type(learn.model).__name__, preds, targets)])


def check_rates(learn: Predictor) -> None:
    """Raise Unsupported for a model that ranks: its scores cannot be compared with ratings."""
    if learn.ranks:
        raise as_collab(learn.model).lacks("only orders items, so there is no error of ratings; evaluate(learn) "
                                           "measures how well it ranks")


def _row(name: str, preds: Tensor, targets: Tensor) -> dict[str, str | float]:
    metrics = [RMSE(), MAE()]
    for metric in metrics:
        metric.update(preds, targets)
    return {"model": name, **{metric.name: metric.value() for metric in metrics}}
