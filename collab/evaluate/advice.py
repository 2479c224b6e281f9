"""What to try next where a model is not better than its baseline by more than chance: by rules that were measured on
real and synthetic data (docs/results.md, "Which model for which data")."""

from __future__ import annotations

import math

import pandas as pd
from torch import nn

from ..data.batches import TensorBatches
from ..models.als import ALS
from ..models.base import as_collab
from ..models.baseline import BiasBaseline
from ..models.ease import EASE
from ..models.embedding import EmbeddingDotBias
from .accuracy import measured
from .result import RankingResult, compare
from .shortfall import CHANCE, MIN_ROWS, Beside, Predictor, remark

LEVEL = 0.05            # p-values from here on may be chance
COMPARE = "compare_models(data) shows what each model reaches, and which differences are chance"


def errors_and_advice(learn: Predictor, part: TensorBatches | pd.DataFrame | None = None,
                      ) -> tuple[pd.DataFrame, str | None]:
    """`accuracy.errors`, and in place of its warning what to say of a model that is not better than biases."""
    table, biases, beside = measured(learn, part)
    said = remark(learn, biases, beside, f"on these {beside.n:,} ratings")
    return table, said or of_errors(learn.model, beside)


def of_errors(model: nn.Module, beside: Beside) -> str | None:
    """What to say of a model of ratings whose errors are not lower than those of mean and biases by more than two
    standard errors over users, on at least 100 ratings of known users and items; None where they are. Where they
    are higher, `shortfall.remark` says more."""
    better = beside.excess < -CHANCE * math.sqrt(beside.squares)
    kind = as_collab(model)
    if better or beside.n_known < MIN_ROWS or isinstance(kind, BiasBaseline):
        return None
    said = (f"{kind.kind} is not better than mean and biases by more than chance: their RMSE is {beside.rmse:.4g} and "
            f"{beside.of_biases:.4g}.")
    if isinstance(kind, EmbeddingDotBias):
        return (f"{said} Where dot_bias was not, no other model was either, on all data that were measured: ratings "
                f"are too few or too noisy for more. Take the biases (BiasBaseline), or gather more ratings. {COMPARE}")
    return (f"{said} Try dot_bias with its default settings, which was at least as good on small, sparse and noisy "
            f"data. {COMPARE}")


def of_ranking(model: nn.Module, result: RankingResult) -> str | None:
    """What to say of a model whose ranking, by the first metric of `result`, is not better than that of the most
    popular items by more than chance (see `compare`); None where it is, or nothing was measured beside it."""
    if result.baseline is None:
        return None
    name = result.metrics[0]
    row = compare(result, result.baseline).loc[name]
    chance = row["p_value"] >= LEVEL
    if row["difference"] > 0 and not chance:
        return None
    kind = as_collab(model)
    shown = f"{name}@{result.k}" if isinstance(result.k, int) else name
    said = (f"{kind.kind} does not rank better than the most popular items{' by more than chance' if chance else ''}: "
            f"its {shown} is {row['a']:.4f}, theirs {row['b']:.4f}.")
    if isinstance(kind, (ALS, EASE)) and kind.ranks:
        other = "ease" if isinstance(kind, ALS) else "als"
        return (f"{said} Try {other}. Where neither als nor ease was better, no other model was, on all data that were "
                f"measured: show the most popular items until there are more choices to tell tastes by. {COMPARE}")
    return (f"{said} Try als or ease, which are solved and not trained: on small and sparse data both were better than "
            f"popularity where other models were not. {COMPARE}")
