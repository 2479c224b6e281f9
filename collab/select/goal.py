"""Goal: the number that tuning improves, as trials record it and as the report measures it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..data.databunch import CollabDataBunch
from ..errors import DataError
from ..evaluate.evaluation import evaluate
from ..evaluate.ranking_metrics import RankingMetrics
from ..evaluate.result import compare
from ..evaluate.validation import KNOWN
from ..learner.collab_learner import CollabLearner
from ..metrics import MAE, MSE, RMSE, Metric, as_metrics
from ..train.callback import Callback
from .known_metrics import RANKING, not_one_of
from .paired import margin, side_by_side
from .three_way import ThreeWay

RATING: dict[str, type[Metric]] = {"rmse": RMSE, "mae": MAE, "mse": MSE}
MetricName = str | Metric | Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Goal:
    """A metric by its name in the history, "rmse" or "ndcg@10". `lower` says whether less is better. One of ranking has
    its own name and `k`, one of ratings the `metric`."""

    name: str
    lower: bool
    ranking: str | None = None
    k: int = 10
    metric: Metric | None = None

    def measuring(self) -> dict[str, Any]:
        """Arguments of `collab_learner` that make it record this metric after every epoch, and nothing else."""
        return {"metrics": [] if self.metric is None else [copy.deepcopy(self.metric)]}

    def recorders(self) -> list[Callback]:
        """Callbacks of a trial that record the metric after every epoch."""
        return [RankingMetrics(self.k, (self.ranking,), exclude=KNOWN)] if self.ranking else []

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is better than `b`."""
        return a < b if self.lower else a > b

    @property
    def worst(self) -> float:
        """The value of a trial that diverged."""
        return np.inf if self.lower else -np.inf

    def margin(self, tuned: CollabLearner, default: CollabLearner, parts: ThreeWay) -> pd.DataFrame:
        """Both learners on the untouched part: a frame as `margin` makes it."""
        if self.ranking is None:
            assert self.metric is not None
            (a, targets), (b, _) = (learn.get_preds(parts.untouched) for learn in (tuned, default))
            return margin(copy.deepcopy(self.metric), a, b, targets, parts.users)
        a_result, b_result = (evaluate(learn, parts.untouched, self.k, (self.ranking,), baseline=False)
                              for learn in (tuned, default))
        rows = [result.interval().iloc[0].tolist() for result in (b_result, a_result)]
        return side_by_side(rows[0], rows[1], compare(a_result, b_result).iloc[0].to_dict())


def goal(metric: MetricName | None, data: CollabDataBunch, ranks: bool) -> Goal:
    """The goal of a `metric`: by name "rmse", "mae", "mse", or one of `evaluate` with a number of items, such as
    "ndcg@10"; or a `Metric`, or a function of (predictions, targets). None is "ndcg@10" for a model that `ranks`,
    otherwise "rmse". Raises DataError for another name, and errors of a model that ranks."""
    metric = ("ndcg@10" if ranks else "rmse") if metric is None else metric
    if isinstance(metric, str):
        metric = metric.lower()
        found = re.fullmatch(r"([a-z]+)(?:@(\d+))?", metric)
        name = found[1] if found else metric
        if name in RANKING and found and (k := int(found[2] or 10)) > 0:
            return Goal(name if name == "auc" else f"{name}@{k}", False, name, k)
        if metric not in RATING:
            raise not_one_of((*RATING, *RANKING), "metric", metric,
                             ", the latter with a number of items, such as ndcg@10")
        metric = RATING[metric]()
    made = as_metrics(metric)[0]
    if ranks:
        raise DataError(f"metric {made.name!r} compares predicted ratings, and this model only ranks; take one of "
                        f"{', '.join(RANKING)}, such as 'ndcg@10'")
    if made.mode not in ("min", "max"):
        raise DataError(f"metric {made.name!r} does not say whether less or more of it is better; give it a mode: "
                        f"WholeSet({made.name}, mode='min')")
    return Goal(made.name, made.mode == "min", metric=made)
