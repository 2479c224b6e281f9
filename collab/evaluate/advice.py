"""What to try next where a model is not better than its baseline by more than chance: by rules that were measured on
real and synthetic data (docs/results.md, "Which model for which data")."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..data.family import family_of
from ..data.outliers import outliers
from ..models.als import ALS
from ..models.baseline import BiasBaseline
from ..models.ease import EASE
from ..models.embedding import EmbeddingDotBias
from ..models.plain import as_collab
from .accuracy import ERRORS, asked, measured
from .result import RankingResult, compare
from .shortfall import CHANCE, MIN_ROWS, Beside, Predictor, remark

LEVEL = 0.05            # p-values from here on may be chance
COMPARE = "compare_models(data) shows what each model reaches, and which differences are chance"


def errors_and_advice(learn: Predictor, part: TensorBatches | pd.DataFrame | None = None,
                      metrics: Sequence[str] = ERRORS) -> tuple[pd.DataFrame, str | None]:
    """`accuracy.errors`, and in place of its warning what to say of a model that is not better than biases. Where what
    the ratings look like explains it, that is what to mend, and nothing else is advised."""
    names, sure = asked(learn, metrics)
    table, biases, beside = measured(learn, part, sure)
    mean = float(table["rmse"].iloc[0])
    said = remark(learn, biases, beside, f"on these {beside.n:,} ratings")
    if said is None:
        said = of_errors(learn.model, beside, mean)
    elif mean < beside.of_biases:
        said += f"; the mean rating alone, with {mean:.4g}, is better still"
    why = None if said is None else of_ratings(learn.data, learn.data.rows_of(part).tensors[2])
    return table[["model", *names]], said if why is None else f"{why}. {_not_better(learn.model, beside)}"


def of_ratings(data: CollabDataBunch, held_out: Tensor) -> str | None:
    """A sign that ratings, those of training and those `held_out` (n,), are not ratings on a scale, as `DataReport`
    finds it: a few far from all others, counts, amounts, or nothing to tell them apart by; of strengths, a few that
    outweigh all others. None without one."""
    values = pd.Series(torch.cat([data.train.tensors[2].cpu(), held_out.cpu()]).double().numpy(),
                       name=data.schema.rating)
    if (far := outliers(values, data.schema.rating, implicit=data.implicit)) is not None:
        return f"{far.where}: {far.what}; correct or drop them, unless they are meant"
    if data.implicit:
        return None
    family = family_of(values)
    return (f"This looks like {family.name} ({family.sign}): say implicit=True and {family.advice}"
            if family.options.get("implicit") else None)


def of_errors(model: nn.Module, beside: Beside, mean: float = math.inf) -> str | None:
    """What to say of a model of ratings whose errors are not lower than those of mean and biases by more than two
    standard errors over users, on at least 100 ratings of known users and items; None where they are. Where they
    are higher, `shortfall.remark` says more. `mean` is the RMSE of the mean rating alone: the lower of the two
    baselines is what to take."""
    better = beside.excess < -CHANCE * math.sqrt(beside.squares)
    kind = as_collab(model)
    if better or beside.n_known < MIN_ROWS or isinstance(kind, BiasBaseline):
        return None
    said = f"{_not_better(model, beside)}."
    if isinstance(kind, EmbeddingDotBias):
        take = ("the biases (BiasBaseline)" if mean >= beside.of_biases else
                "the mean rating (BiasBaseline with infinite damping)")
        lower = "" if mean >= beside.of_biases else f" The mean rating alone has {mean:.4f}."
        return (f"{said}{lower} Where dot_bias was not, no other model was either, on all data that were measured: "
                f"ratings are too few or too noisy for more. Take {take}, or gather more ratings. {COMPARE}")
    return (f"{said} Try dot_bias with its default settings, which was at least as good on small, sparse and noisy "
            f"data. {COMPARE}")


def _not_better(model: nn.Module, beside: Beside) -> str:
    how = "worse than mean and biases" if beside.worse else "not better than mean and biases by more than chance"
    return f"{as_collab(model).kind} is {how}: their RMSE is {beside.rmse:.4f} and {beside.of_biases:.4f}"


def of_ranking(model: nn.Module, result: RankingResult, why: str | None = None) -> str | None:
    """What to say of a model whose ranking, by the first metric of `result`, is not better than that of the most
    popular items by more than chance (see `compare`); None where it is, or nothing was measured beside it. `why` is
    what `of_ratings` says of the data; where it says something, nothing else is advised."""
    if result.baseline is None:
        return None
    name = result.metrics[0]
    row = compare(result, result.baseline).loc[name]
    chance = row["p_value"] >= LEVEL
    if row["difference"] > 0 and not chance:
        return None
    kind = as_collab(model)
    shown = f"{name}@{result.k}" if isinstance(result.k, int) else name
    how = ("does not rank better than the most popular items by more than chance" if chance else
           "ranks worse than the most popular items")
    said = (f"{kind.kind} {how}: "
            f"its {shown} is {row['a']:.4f}, theirs {row['b']:.4f}.")
    if why is not None:
        return f"{why}. {said.removesuffix('.')}"
    if isinstance(kind, (ALS, EASE)) and kind.ranks:
        other = "ease" if isinstance(kind, ALS) else "als"
        return (f"{said} Try {other}. Where neither als nor ease was better, no other model was, on all data that were "
                f"measured: show the most popular items until there are more choices to tell tastes by. {COMPARE}")
    return (f"{said} Try als or ease, which are solved and not trained: on small and sparse data both were better than "
            f"popularity where other models were not. {COMPARE}")
