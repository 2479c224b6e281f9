"""Rating errors of a learner beside those of baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from ..data.batches import TensorBatches
from ..errors import DataError, warn
from ..loaders import in_blocks
from ..metrics import MAE, RMSE
from ..models.baseline import BiasBaseline
from ..models.plain import as_collab
from .certainty import CERTAINTY, LOG_LOSS, Certainty, certainty, log_loss_of_shares, per_rating
from .shortfall import Beside, Predictor, remark

ERRORS = ("rmse", "mae")


class Measured(NamedTuple):
    """A table of errors, the mean and biases of the training ratings, and the model's errors beside theirs."""

    table: pd.DataFrame
    biases: BiasBaseline
    beside: Beside


def errors(learn: Predictor, part: TensorBatches | pd.DataFrame | None = None, *,
           metrics: Sequence[str] = ERRORS) -> pd.DataFrame:
    """RMSE and MAE of the learner on `part` (batches, or a table of ratings; by default the validation part), beside
    two baselines fitted to the training ratings: their mean, and the mean with damped biases. All are clipped to the
    rating scale; `attrs["n"]` is the number of ratings. Warns where the mean and biases have the lower RMSE, and says
    what to do (see `shortfall`).

    `metrics` are the columns, of "rmse", "mae", "log_loss" and "coverage(0.9)", the latter for any probability:

    - "log_loss": the mean of -log P(the level that was given), a natural logarithm, of a model with probabilities: a
      classifier or "bayes". That of the mean rating is the one of how often each level occurs in training. A rating
      that is not a level counts as the nearest one, and a probability below 2^-52 as that.
    - "coverage(0.9)": the share of ratings inside the interval of `predict(..., interval=0.9)`, of "bayes": 0.9 where
      the model is as sure as it may be, less where it is too sure.

    Raises ValueError where nothing was held out, as in a loaded learner, DataError for a model that ranks and for
    another metric, Unsupported where the model has no probabilities or no intervals."""
    table, said = errors_and_remark(learn, part, metrics)
    if said is not None:
        warn(said)
    return table


def errors_and_remark(learn: Predictor, part: TensorBatches | pd.DataFrame | None = None,
                      metrics: Sequence[str] = ERRORS) -> tuple[pd.DataFrame, str | None]:
    """`errors`, and in place of its warning the text of it, for a page or a terminal."""
    names, sure = asked(learn, metrics)
    table, biases, beside = measured(learn, part, sure)
    return table[["model", *names]], remark(learn, biases, beside, f"on these {beside.n:,} ratings")


def measured(learn: Predictor, part: TensorBatches | pd.DataFrame | None = None,
             sure: Sequence[Certainty] = ()) -> Measured:
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
    for name, values in per_rating(learn, batches, sure).items():
        of_mean = log_loss_of_shares(data, targets).mean().item() if name == LOG_LOSS else math.nan
        table[name] = [of_mean, math.nan, values.mean().item()]
    table.attrs["n"] = len(targets)
    return Measured(table, biases, Beside.of(learn.data, users, items, preds=preds, biases=by_biases, targets=targets))


def asked(learn: Predictor, metrics: Sequence[str]) -> tuple[list[str], list[Certainty]]:
    """The names of metrics as columns, and those that a model's probabilities or intervals are asked for."""
    names, sure = [], []
    for name in dict.fromkeys([metrics] if isinstance(metrics, str) else metrics):
        if (one := certainty(name)) is not None:
            check_rates(learn)
            one.check(as_collab(learn.model))
            sure.append(one)
        elif name not in ERRORS:
            raise DataError(f"metrics={name!r} is not one of {', '.join((*ERRORS, *CERTAINTY))}")
        names.append(name if one is None else one.name)
    if not names:
        raise DataError(f"metrics names none; take some of {', '.join((*ERRORS, *CERTAINTY))}")
    return names, sure


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
