"""Rating errors of a learner beside those of baselines."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from ..data.batches import TensorBatches
from ..errors import warn
from ..loaders import in_blocks
from ..metrics import MAE, RMSE
from ..models.base import as_collab
from ..models.baseline import BiasBaseline
from .shortfall import Beside, Predictor, remark


class Measured(NamedTuple):
    """A table of errors, the mean and biases of the training ratings, and the model's errors beside theirs."""

    table: pd.DataFrame
    biases: BiasBaseline
    beside: Beside


def errors(learn: Predictor, part: TensorBatches | pd.DataFrame | None = None) -> pd.DataFrame:
    """RMSE and MAE of the learner on `part` (batches, or a table of ratings; by default the validation part), beside
    two baselines fitted to the training ratings: their mean, and the mean with damped biases. All are clipped to the
    rating scale; `attrs["n"]` is the number of ratings. Warns where the mean and biases have the lower RMSE, and says
    what to do (see `shortfall`). Raises ValueError where nothing was held out, as in a loaded learner, and DataError
    for a model that ranks."""
    table, said = errors_and_remark(learn, part)
    if said is not None:
        warn(said)
    return table


def errors_and_remark(learn: Predictor, part: TensorBatches | pd.DataFrame | None = None,
                      ) -> tuple[pd.DataFrame, str | None]:
    """`errors`, and in place of its warning the text of it, for a page or a terminal."""
    table, biases, beside = measured(learn, part)
    return table, remark(learn, biases, beside, f"on these {beside.n:,} ratings")


def measured(learn: Predictor, part: TensorBatches | pd.DataFrame | None = None) -> Measured:
    """The table of `errors`, and what its warning depends on."""
    check_rates(learn)
    batches = learn.data.rows_of(part)
    preds, targets = learn.get_preds(batches)
    users, items = (torch.cat(column) for column in zip(*((u.cpu(), i.cpu()) for u, i, _ in batches)))
    data = learn.data
    mean, biases = (BiasBaseline(data.n_users, data.n_items).fit_blocks(lambda: in_blocks(data.train), *damping)
                    for damping in ((math.inf, math.inf), ()))
    by_mean, by_biases = (learn.clip(baseline(users, items)) for baseline in (mean, biases))
    table = pd.DataFrame([_row("mean rating", by_mean, targets), _row("mean and biases", by_biases, targets),
                          _row(type(learn.model).__name__, preds, targets)])
    table.attrs["n"] = len(targets)
    return Measured(table, biases, Beside.of(learn.data, users, items, preds=preds, biases=by_biases, targets=targets))


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
