"""cross_validate: one model, trained anew on every fold."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd
import torch

from ..data.databunch import CollabDataBunch
from ..data.frames import TableLike
from ..data.split import Split, kfold, rows_split
from ..data.vocab import UNKNOWN
from ..errors import DataError, warn
from ..models.plain import as_collab
from .accuracy import measured
from .certainty import checked, per_rating
from .evaluation import Ranker, check_request, evaluate
from .held_out import say_unknown
from .shortfall import Beside, Predictor, remark


class Trainable(Ranker, Predictor, Protocol):
    """A learner that can be trained and measured."""

    interrupted: bool

    def fit(self) -> None: ...

    def fit_one_cycle(self, n_epochs: int, /) -> None: ...

    def validate(self) -> dict[str, float]: ...


L = TypeVar("L", bound=Trainable)
KNOWN = ("train", "test")       # what is not ranked for a user while folds are measured


def cross_validate(make_learner: Callable[[CollabDataBunch], L], data: TableLike | CollabDataBunch,
                   folds: int | Iterable[Split | str] = 5, fit: Callable[[L], object] | None = None,
                   ranking: Sequence[str] = (), k: int | Sequence[int] = 10, seed: int = 0,
                   certainty: Sequence[str] = (), **options: Any) -> pd.DataFrame:
    """Train and measure a model on every fold: one row per fold, with what `learn.validate` gives (valid_loss, rmse,
    mae), of a model of ratings the RMSE of the mean and biases (`BiasBaseline`: "rmse of biases"), the metrics of
    `evaluate` that `ranking` names ("ndcg@10" ..., for one `k` or several), each beside that of `Popularity` ("ndcg@10
    of popularity"), and the seconds that `fit` took.

    - `make_learner`: builds a learner for the data of a fold: `collab_learner`, or a function of your own around it.
    - `data`: a table of ratings. Or a CollabDataBunch, whose training and validation ratings are split anew, with its
      metadata and options; it keeps neither times nor the order of the table, so that splits by these need the table.
    - `folds`: how many parts of `kfold(folds, seed)`, or the splits themselves: ("u1", "u2"), [time_split(0.2)]; for
      models that rank, `draws()`.
    - `fit`: trains it; by default `learn.fit_one_cycle(5)`, `learn.fit()` for a solved model, and nothing for an
      `Ensemble` of learners that `make_learner` has trained. One of rankings has the metrics of `ranking` alone.
    - `certainty`: "log_loss" and "coverage(0.9)", those of `errors`, as further columns; Unsupported is raised, before
      anything is trained, for a model without probabilities or intervals.
    - `seed`, `options`: those of `CollabDataBunch.from_df`, such as bs=1024; they override those of `data`.

    A test part, of `data` or by test=0.1 of a table, is kept out: no fold trains or is measured on it, and what a user
    has in it is not ranked, since a model that finds it would be blamed for that.

    Report `.mean()` and `.std()` of the table. Warns where mean and biases have the lower RMSE over all folds, and says
    what to do. Ctrl-C ends it with the finished folds and a warning, or raises KeyboardInterrupt where there are none.

    >>> from collab import *
    >>> def quietly(learn):
    ...     with learn.no_logging():
    ...         learn.fit(10)
    >>> ratings = synthetic(60, 40, 900, seed=0).ratings
    >>> table = cross_validate(collab_learner, ratings, folds=3, fit=quietly, ranking=("ndcg",), k=5)
    >>> list(table), table.index.tolist()
    (['valid_loss', 'rmse', 'mae', 'rmse of biases', 'ndcg@5', 'ndcg@5 of popularity', 'seconds'], [0, 1, 2])
    """
    if not callable(make_learner):
        raise TypeError("make_learner must be a function from data to a learner, such as lambda data: "
                        f"collab_learner(data, 'als'), got {make_learner!r}")
    if ranking:
        k, ranking = check_request(k, ranking)      # before hours of training rather than after
    table, splits, options = to_split(data, folds, seed, options)
    rows: list[dict[str, float]] = []
    besides: list[Beside] = []
    worse = None
    left_out: Counter[str] = Counter()
    n_found = 0
    for number, split in enumerate(splits):
        learn = make_learner(CollabDataBunch.from_df(table, split=split, seed=seed, **of_fold(number, options)))
        sure = checked([certainty] if isinstance(certainty, str) else certainty, as_collab(learn.model))
        start = time.perf_counter()
        (fit or _fit)(learn)
        seconds = time.perf_counter() - start
        if learn.interrupted:
            if not rows:
                raise KeyboardInterrupt
            warn(f"interrupted in fold {number} of {len(splits)}: the table has the {number} before it")
            break
        ranks_alone = as_collab(learn.model).default_loss == "none"
        if ranks_alone and not ranking:
            raise TypeError("a mean of rankings has no error; say what to measure, such as ranking=('ndcg',)")
        row = {} if ranks_alone else learn.validate()
        if "rmse" in row and not learn.ranks:
            _, biases, beside = measured(learn)
            row["rmse of biases"] = beside.of_biases
            besides.append(beside)
            pooled = Beside.pooled(besides)
            worse = remark(learn, biases, pooled, f"on average over {len(besides)} folds")
        if sure:
            found = per_rating(learn, learn.data.rows_of(), sure)
            row |= {name: values.mean().item() for name, values in found.items()}
        if ranking:
            result = evaluate(learn, k=k, metrics=ranking, exclude=KNOWN)
            left_out.update(result.left_out)
            n_found += int(result.per_user["n_relevant"].sum())
            for name in map(str, result.summary.index):
                row[name] = result.summary[name]
                if result.baseline is not None:
                    row[f"{name} of popularity"] = result.baseline.summary[name]
        rows.append(row | {"seconds": seconds})
    if n_found:
        say_unknown(left_out, n_found)
    if worse is not None:
        warn(worse)
    names = [split if isinstance(split, str) else number for number, split in enumerate(splits[:len(rows)])]
    return pd.DataFrame(rows, index=pd.Index(names, name="fold"))


def _fit(learn: Trainable) -> None:
    model = as_collab(learn.model)
    if model.solved:
        learn.fit()
    elif not model.made_of_trained:
        learn.fit_one_cycle(5)


def to_split(data: TableLike | CollabDataBunch, folds: int | str | Iterable[Split | str], seed: int,
             options: dict[str, Any]) -> tuple[TableLike, list[Split | str], dict[str, Any]]:
    """A table, the splits to train and measure on, and options of `from_df`. Of a CollabDataBunch the training and
    validation ratings are split anew, with its metadata, and the test part stays that; raises DataError where they keep
    nothing to split by."""
    splits: list[Split | str] = [folds] if isinstance(folds, str) else [
        *(folds if isinstance(folds, Iterable) else kfold(folds, seed))]
    if not isinstance(data, CollabDataBunch):
        return data, splits, options
    if any(getattr(split, kind, False) for split in splits for kind in ("by_time", "by_position")):
        raise DataError("the data keep neither times nor the order of the table to split by; pass the table of "
                        "ratings instead")
    table, kept = unsplit(data)
    if data.test is not None and "test" not in options:
        table, kept["test"] = with_test(table, named_rows(data, "test"))
    return table, splits, kept | options


def with_test(table: pd.DataFrame, tested: pd.DataFrame) -> tuple[pd.DataFrame, Split | None]:
    """The rows of both tables, and the split that holds out the latter as a test part; None where it is empty."""
    if tested.empty:
        return table, None
    return pd.concat([table, tested], ignore_index=True), rows_split(np.arange(len(table), len(table) + len(tested)))


def of_fold(number: int, options: dict[str, Any]) -> dict[str, Any]:
    """The options of `from_df` for a fold: the first one alone, 0, warns of pairs that are rated again."""
    said = number > 0 and options.get("duplicates") is None
    return options | {"duplicates": "keep"} if said else options


def named_rows(data: CollabDataBunch, part: str) -> pd.DataFrame:
    """The ratings of a held-out part under their raw ids, without those whose ids the data did not keep."""
    batches = getattr(data, part)
    users, items, ratings = (column.cpu() for column in data.aside.of_part(part, batches) or batches.tensors)
    known = (users != UNKNOWN) & (items != UNKNOWN)
    return pd.DataFrame({data.schema.user: data.aside.users.decode(users[known]),
                         data.schema.item: data.aside.items.decode(items[known]),
                         data.schema.rating: ratings[known].numpy()})


def unsplit(data: CollabDataBunch, *, valid: bool = True) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The training ratings, and with `valid` those of validation, under their raw ids, in the order of the data; and
    the options of `from_df` that gave the data."""
    aside, parts = data.aside, [data.train.tensors]
    if valid and data.valid is not None:
        parts.append(aside.of_part("valid", data.valid) or data.valid.tensors)
    users, items, ratings = (torch.cat([t.cpu() for t in column]) for column in zip(*parts))
    known = (users != UNKNOWN) & (items != UNKNOWN)
    if n := int((~known).sum()):
        warn(f"{n:,} of {len(known):,} ratings are left out: the data did not keep their ids, which have no "
             "training ratings; pass the table instead of the data to have them in the folds")
    names = data.schema.user, data.schema.item, data.schema.rating
    table = pd.DataFrame(dict(zip(names, (aside.users.decode(users[known]), aside.items.decode(items[known]),
                                          ratings[known].numpy()))))
    options = {"user_name": names[0], "item_name": names[1], "rating_name": names[2], "device": data.device,
               "bs": data.train.bs if data.train.shuffle else "full", "val_bs": data.valid and data.valid.bs,
               "implicit": data.implicit, "threshold": data.threshold, "duplicates": "keep",
               "title_name": data.title_name if len(data.item_table) else None}
    for side, known_of, features in (("user", data.user_table, data.user_features),
                                     ("item", data.item_table, data.item_features)):
        options[f"{side}s"] = known_of.reset_index() if len(known_of) else None
        options[f"{side}_features"] = features and list(dict.fromkeys(column for column, _ in features.labels))
        if features is not None:
            options["scaling"] = features.scaling
    return table, options
