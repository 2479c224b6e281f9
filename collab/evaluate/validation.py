"""cross_validate: one model, trained anew on every fold."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from ..data.databunch import CollabDataBunch
from ..data.split import Split, kfold
from ..learner import CollabLearner
from .evaluation import check_request, column, evaluate


def _one_cycle(learn: CollabLearner) -> None:
    learn.fit_one_cycle(5)


def cross_validate(make_learner: Callable[[CollabDataBunch], CollabLearner], ratings: pd.DataFrame,
                   folds: int | Iterable[Split | str] = 5, fit: Callable[[CollabLearner], Any] = _one_cycle,
                   ranking: Sequence[str] = (), k: int = 10, seed: int = 0, **options: Any) -> pd.DataFrame:
    """Train and measure a model on every fold: a row a fold, with what `learn.validate` gives (valid_loss, rmse, mae),
    the metrics of `evaluate` that `ranking` names ("ndcg@10" ...), each beside that of `Popularity` ("ndcg@10 of
    popularity"), and the seconds that `fit` took.

    - `make_learner`: builds a learner for the data of a fold: `collab_learner`, or a function of your own around it.
    - `folds`: how many parts of `kfold(folds, seed)`, or the splits themselves: ("u1", "u2"), [time_split(0.2)].
    - `fit`: trains it; by default `learn.fit_one_cycle(5)`.
    - `seed`, `options`: those of `CollabDataBunch.from_df`, such as bs=1024.

    `.mean()` and `.std()` of the table are what one reports. Ctrl-C ends it with the folds that are whole, and a
    warning; KeyboardInterrupt is raised where none is.

    >>> from collab import *
    >>> def quietly(learn):
    ...     with learn.no_logging():
    ...         learn.fit_one_cycle(2)
    >>> ratings = synthetic(60, 40, 900, seed=0).ratings
    >>> table = cross_validate(collab_learner, ratings, folds=3, fit=quietly, ranking=("ndcg",), k=5)
    >>> list(table), table.index.tolist()
    (['valid_loss', 'rmse', 'mae', 'ndcg@5', 'ndcg@5 of popularity', 'seconds'], [0, 1, 2])
    """
    if ranking:
        k, ranking = check_request(k, ranking)      # before hours of training rather than after
    splits = [folds] if isinstance(folds, str) else list(folds) if isinstance(folds, Iterable) else kfold(folds, seed)
    rows: list[dict[str, float]] = []
    for number, split in enumerate(splits):
        learn = make_learner(CollabDataBunch.from_df(ratings, split=split, seed=seed, **options))
        start = time.perf_counter()
        fit(learn)
        seconds = time.perf_counter() - start
        if learn.interrupted:
            if not rows:
                raise KeyboardInterrupt
            warnings.warn(f"interrupted in fold {number} of {len(splits)}: the table has the {number} before it",
                          stacklevel=2)
            break
        row = learn.validate()
        if ranking:
            result = evaluate(learn, k=k, metrics=ranking)
            for name in ranking:
                row[column(name, k)] = result.summary[name]
                if result.baseline is not None:
                    row[f"{column(name, k)} of popularity"] = result.baseline.summary[name]
        rows.append(row | {"seconds": seconds})
    names = [split if isinstance(split, str) else number for number, split in enumerate(splits[:len(rows)])]
    return pd.DataFrame(rows, index=pd.Index(names, name="fold"))
