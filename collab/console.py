"""What the command line prints: tables, and errors beside baselines."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from .data.batches import TensorBatches
from .learner import CollabLearner
from .metrics import MAE, RMSE
from .models.baseline import BiasBaseline


def table(frame: pd.DataFrame, decimals: int = 3) -> str:
    """A frame as aligned text: words to the left, numbers to the right with so many decimals where they have any."""
    columns = []
    for name, column in frame.items():
        cells = [f"{value:.{decimals}f}" if isinstance(value, float) else str(value) for value in column.tolist()]
        width = max(map(len, [str(name), *cells]))
        numeric = pd.api.types.is_numeric_dtype(column)
        columns.append([cell.rjust(width) if numeric else cell.ljust(width) for cell in [str(name), *cells]])
    return "\n".join(("  " + "  ".join(row)).rstrip() for row in zip(*columns))


def errors(learn: CollabLearner, part: TensorBatches) -> pd.DataFrame:
    """RMSE and MAE of the learner on `part`, beside two baselines fitted to the training ratings: their mean, and
    the mean with damped biases. All are clipped to the rating scale."""
    scores = learn.validate(part)
    rows: list[dict[str, Any]] = []
    users, items, ratings = (t.cpu() for t in learn.data.train.tensors)
    for name, damping in (("mean rating", (math.inf, math.inf)), ("mean and biases", ())):
        baseline = BiasBaseline(learn.data.n_users, learn.data.n_items).fit(users, items, ratings, *damping)
        metrics = [RMSE(), MAE()]
        for batch in part.in_order():
            u, i, y = (t.cpu() for t in batch)
            for metric in metrics:
                metric.update(learn.decode(baseline(u, i)), y)
        rows.append({"model": name, "rmse": metrics[0].value(), "mae": metrics[1].value()})
    rows.append({"model": type(learn.model).__name__, "rmse": scores["rmse"], "mae": scores["mae"]})
    return pd.DataFrame(rows)
