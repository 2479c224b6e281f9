"""compare_models: every model trained by its own recipe on the same ratings, and measured on the same held-out ones."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..data.frames import TableLike
from ..data.split import Split
from ..errors import CollabWarning, DataError, warn
from ..evaluate.certainty import certainty, checked, log_loss_of_shares, per_rating
from ..evaluate.evaluation import Popularity, check_request, evaluate
from ..evaluate.validation import KNOWN, of_fold, to_split
from ..learner.recipes import RECIPES
from ..models.base import Unsupported
from .contenders import Contender, Models, baselines_for, contenders_of, training_part
from .known_metrics import ERRORS, LOG_LOSS, OF_RATINGS, RANKING, not_one_of
from .standings import FEW_BATCHES, SMALL, Comparison, Measured, Run
from .usage import measured_usage, quick_collection
from .warm_up import warm_up
from .watching import Watch

Codes = dict[Hashable, int]
PARTS = {"valid": "validation", "test": "test"}


def compare_models(data: TableLike | CollabDataBunch, models: Models | None = None, *,
                   metrics: Sequence[str] | str | None = None, folds: int | str | Iterable[Split | str] | None = None,
                   k: int = 10, part: str = "valid", relevant_above: float | None = None, epochs: int | None = None,
                   bs: int | str | None = None, seed: int | None = None, level: float = 0.95, keep: bool = False,
                   **options: Any) -> Comparison:
    """Train each model by its own recipe (rates, batch size, epochs) on the same training ratings, measure all of them
    on the same held-out ones, beside baselines, and say which differences are chance (see `Comparison`).

    - `data`: a CollabDataBunch, or a table of ratings, which is split as `from_df` does with `seed` and `options`.
    - `models`: names of recipes; pairs such as ("svdpp", {"n_factors": 40, "epochs": 20}), whose options are `epochs`,
      `bs` and those of `collab_learner`; functions from data to a learner, trained or to be trained by the recipe of
      its model; or a dict of any of these, by the names to show. By default all that the first metric can measure, of
      recipes that rate or that rank.
    - `metrics`: "rmse" and "mae" by default; for implicit data "ndcg", "precision" and "recall", of the first `k`. The
      first one decides. Models of ratings can be measured by both kinds, those that only rank by the latter alone, and
      those that know how sure they are by "log_loss" and "coverage(0.9)" (see `evaluate.errors`), too. Of the latter
      neither more nor less is better, so that another has to decide. The table has a gap where a model has no metric.
    - `folds`: how many parts of `kfold(folds, seed)`, or splits, as in `cross_validate`; by default the one part that
      is held out already. To choose among models that rank, take `draws()`: small parts, several times. A test part,
      of the data or by test=0.1, is kept out: nothing is trained or measured on it, and it is not ranked.
    - `part`: "valid", or "test" for the test part of a CollabDataBunch. What is measured is never seen in training, by
      no early stopping either: the data that a learner is built over have no held-out part. To choose among many models
      is to choose settings, though: the figure of the winner is a little too good, and a test part tells by how much.
    - `relevant_above`: in rankings, held-out items count as relevant if they are rated above it; by default all do.
    - `epochs`: for all models that are trained in epochs or sweeps, in place of those of their recipes.
    - `bs`: ratings per batch, or "full", of a table for all models that are trained in batches, likewise.
    - `seed`: of splits and learners; by default that of the data, or 0. The same seed gives the same figures.
    - `level`: that of intervals; differences with a corrected p-value below 1 - level count.
    - `keep`: keep the learners, in `.learners`; otherwise each is let go before the next one is trained.

    Before anything is trained, DataError or ValueError is raised for what cannot be compared: an unknown model, metric
    or option, a model that was named and does not fit the data (no metadata, too many levels of ratings) or has none of
    the metrics. A model that fails later is left out, with a warning. Ctrl-C keeps what is done, with a warning: all
    folds that are whole or, in the first one, the models that are finished; it raises KeyboardInterrupt where there are
    none.

    >>> from collab import *
    >>> found = compare_models(synthetic(60, 40, 900, seed=0).ratings, ["dot_bias", "als_explicit"], device="cpu")
    >>> list(found.table.columns[:7])
    ['model', 'rmse', 'low', 'high', 'difference', 'p_value', 'vs best']
    >>> sorted(found.table["model"])
    ['als_explicit', 'dot_bias', 'mean and biases', 'mean rating']
    """
    if part not in PARTS:
        raise ValueError(f"part={part!r} is neither 'valid' nor 'test'")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    names, parts, n_folds = _folds(data, folds, part, seed, options if bs is None else {**options, "bs": bs})
    first = next(parts)
    wanted = _metrics(metrics, first.implicit, k)
    explicit = models is not None
    if models is None:
        models = [name for name, recipe in RECIPES.items() if recipe.ranks == (wanted[0] in RANKING)]
    racing, left_out = _fitting(contenders_of(models, epochs, bs), first, wanted, explicit)
    baselines = baselines_for(wanted)
    users: Codes = {}
    runs: list[Run] = []
    learners: dict[str, list[Any]] = {}
    errors: list[Exception] = []
    n_whole, cut = 0, ""
    with quick_collection(), Watch(n_folds * len(racing), n_folds=n_folds) as watch:
        try:
            warm_up([*baselines, *racing], first)
            for name, fold in zip(names, _chained(first, parts)):
                batches = fold.test if part == "test" else fold.valid
                assert batches is not None
                measure = _Measure(fold, batches, wanted, k, relevant_above, users)
                for contender in [*baselines, *racing]:
                    if contender.label in left_out:
                        continue
                    watch.model(contender.label, name)
                    try:
                        run, learn = measure.run(contender, name, watch)
                    except Exception as error:      # of one model: the others are worth their hours
                        if contender.baseline:
                            raise
                        errors.append(error)
                        left_out[contender.label] = f"{type(error).__name__}: {error}"
                        continue
                    runs.append(run)
                    if keep:
                        learners.setdefault(contender.label, []).append(learn)
                    del learn
                    watch.done(not contender.baseline)
                n_whole += 1
        except KeyboardInterrupt:
            cut = _cut(runs, n_whole, n_folds, [contender.label for contender in racing])
    if cut:
        if n_whole:
            runs = [run for run in runs if run.fold in names[:n_whole]]
        warn(cut)
    runs = [run for run in runs if run.label not in left_out]
    if len(errors) == len(racing):
        raise errors[0]
    if errors:
        failed = [f"{label} ({why})" for label, why in left_out.items()]
        warn(f"not compared, since they failed: {'; '.join(failed[-len(errors):])}")
    asked = first.test if part == "test" else first.valid
    where = f"{0 if asked is None else asked.n:,} ratings of the {PARTS[part]} part"
    return Comparison.of(runs, wanted, k=k, n_users=len(users), level=level, seed=first.seed, left_out=left_out,
                         part=where if folds is None else f"{max(n_whole, 1)} folds", learners=learners,
                         interrupted=bool(cut), large_batches=[one.label for one in racing if _is_large(one, first)])


class _Measure:
    """Trains and measures contenders on one fold; sums by user, whose raw ids have codes that all folds share."""

    def __init__(self, data: CollabDataBunch, batches: TensorBatches, metrics: Sequence[str], k: int,
                 relevant_above: float | None, users: Codes):
        self.data, self.batches, self.k, self.above, self.codes = data, batches, k, relevant_above, users
        self.names, self.errors = metrics, [name for name in metrics if name in ERRORS]
        self.ranking = [name for name in metrics if name in RANKING]
        self.sure = [one for one in map(certainty, metrics) if one is not None]
        if self.errors or self.sure:
            kept = data.aside.of_part("test" if batches is data.test else "valid", batches)
            rows = batches.tensors[0].cpu() if kept is None else kept[0]
            distinct, where = torch.unique(rows, return_inverse=True)
            self.raters = self._coded(data.aside.users.decode(distinct).tolist())[where.numpy()]

    def run(self, contender: Contender, fold: Hashable, watch: Watch) -> tuple[Run, Any]:
        """The contender's figures on this fold, and its learner. Raises KeyboardInterrupt where Ctrl-C ended its
        training, ValueError where it has learned nothing that is a number."""
        device = self.data.device
        with measured_usage(device) as usage:
            learn = contender.trained(self.data, watch.callbacks())
        if getattr(learn, "interrupted", False):
            raise KeyboardInterrupt
        learn.data.valid, learn.data.test = self.data.valid, self.data.test
        vars(learn.data).pop("unseen", None)        # of the parts that it had not
        measured: dict[str, Measured] = {}
        if (self.errors or self.sure) and not (isinstance(learn, Popularity) or learn.ranks):
            measured |= self._errors(learn) | self._certainty(learn, contender)
        if self.ranking and (contender.measures is None or RANKING[0] in contender.measures):
            measured |= self._ranking(learn)
        for name, found in measured.items():
            if not np.isfinite(found.totals).all():
                raise ValueError(f"its {name} is not a number; train it with a lower rate")
        if not measured:
            raise ValueError(f"it has none of {', '.join(self.names)}")
        return Run(contender.label, fold, measured, usage, contender.baseline), learn

    def _certainty(self, learn: Any, contender: Contender) -> dict[str, Measured]:
        if contender.baseline:
            has = [one for one in self.sure if one.name in (contender.measures or ())]
            values = {one.name: log_loss_of_shares(self.data, self.batches.tensors[2]) for one in has}
        else:
            has = [one for one in self.sure if one.name in _certainties(learn, [one.name])]
            values = per_rating(learn, self.batches, has)
        n = len(self.codes)
        return {name: Measured(np.bincount(self.raters, of.numpy(), n), np.bincount(self.raters, minlength=n))
                for name, of in values.items()}

    def _errors(self, learn: Any) -> dict[str, Measured]:
        if not self.errors:
            return {}
        preds, targets = learn.get_preds(self.batches)
        wrong = (preds.double() - targets.double()).numpy()
        n = len(self.codes)
        shares = np.bincount(self.raters, minlength=n)
        powers = {"rmse": wrong ** 2, "mae": np.abs(wrong)}
        return {name: Measured(np.bincount(self.raters, powers[name], n), shares) for name in self.errors}

    def _ranking(self, learn: Any) -> dict[str, Measured]:
        table = evaluate(learn, self.batches, k=self.k, metrics=self.ranking, threshold=self.above,
                         exclude="train" if self.batches is self.data.test else KNOWN, baseline=False).per_user
        codes = self._coded(table["user"].tolist())
        n, found = len(self.codes), {}
        for name in self.ranking:
            values = table[name].to_numpy(float)
            known = ~np.isnan(values)
            found[name] = Measured(np.bincount(codes[known], values[known], n), np.bincount(codes[known], minlength=n))
        return found

    def _coded(self, ids: list[Hashable]) -> np.ndarray:
        return np.array([self.codes.setdefault(id, len(self.codes)) for id in ids], dtype=np.int64)


def _metrics(given: Sequence[str] | str | None, implicit: bool, k: int) -> list[str]:
    if given is None:
        given = ("ndcg", "precision", "recall") if implicit else ERRORS
    names = [given] if isinstance(given, str) else list(given)
    if not names:
        raise DataError(f"metrics={given!r} names none; take some of {', '.join((*OF_RATINGS, *RANKING))}")
    names = [name.lower() if isinstance(name, str) else name for name in names]
    sure = {name: found.name for name in names if (found := certainty(name)) is not None}
    names = list(dict.fromkeys(sure.get(name, name) for name in names))
    if unknown := [name for name in names if name not in (*ERRORS, *sure.values(), *RANKING)]:
        raise not_one_of((*OF_RATINGS, *RANKING), "metrics", unknown[0])
    if names[0] in sure.values() and names[0] != LOG_LOSS:
        raise DataError(f"{names[0]} cannot decide, since neither more nor less of it is better; name another before "
                        f"it, such as metrics=[{LOG_LOSS!r}, {names[0]!r}]")
    if not isinstance(k, int):
        raise ValueError(f"models are compared by their first k items, one whole number, got k={k!r}")
    check_request(k, ("ndcg",))
    if implicit and (errors := [name for name in names if name not in RANKING]):
        raise DataError(f"implicit data are choices, without ratings to predict, so there is no {errors[0]}; compare "
                        f"by {', '.join(RANKING)}")
    return names


def _folds(data: TableLike | CollabDataBunch, folds: int | str | Iterable[Split | str] | None, part: str,
           seed: int | None, options: dict[str, Any]) -> tuple[list[Hashable], Iterator[CollabDataBunch], int]:
    """Names of the folds, their data one after the other, and how many there are. Raises DataError where nothing is
    held out."""
    if folds is None:
        if isinstance(data, CollabDataBunch):
            if options or seed not in (None, data.seed):
                said = ", ".join(options) or "seed"
                raise DataError(f"{said}: these are decided already in a CollabDataBunch; pass the table of ratings, "
                                "or folds=..., which splits anew")
            one = data
        else:
            one = CollabDataBunch.from_df(data, seed=seed or 0, **options)
        if (one.test if part == "test" else one.valid) is None:
            raise DataError(f"there is no {PARTS[part]} part to measure on; "
                            + ("make the data with test=..." if part == "test" else
                               "make the data with valid_pct or split, or say folds=5"))
        return ["held out"], iter([one]), 1
    if part == "test":
        raise DataError("folds are made of the training and validation ratings; leave part='test' out, or folds")
    seed = (data.seed if isinstance(data, CollabDataBunch) else 0) if seed is None else seed
    if beside := [name for name in ("split", "valid_pct") if name in options]:
        raise DataError(f"folds say what is held out, and leave nothing to {beside[0]}=...; leave one of the two out")
    table, splits, kept = to_split(data, folds, seed, options)
    names: list[Hashable] = [split if isinstance(split, str) else number for number, split in enumerate(splits, 1)]
    return names, (_made(table, split, seed, of_fold(k, kept)) for k, split in enumerate(splits)), len(splits)


def _made(table: TableLike, split: Split | str, seed: int, options: dict[str, Any]) -> CollabDataBunch:
    made = CollabDataBunch.from_df(table, split=split, seed=seed, **options)
    if made.valid is None:
        raise DataError("a fold holds out nothing; take other splits")
    return made


def _fitting(contenders: list[Contender], data: CollabDataBunch, metrics: Sequence[str], explicit: bool,
             ) -> tuple[list[Contender], dict[str, str]]:
    """The contenders that fit the data, and why the others do not: their learners are built once, which trains
    nothing. Functions of the caller's may train, and are called when their turn comes. Raises for one that was named
    and does not fit."""
    fitting, left_out = [], {}
    for contender in contenders:
        try:
            measures = None if contender.own else _can(contender, data, metrics)
            if measures is not None and not {*measures} & {*metrics}:
                raise DataError(f"it only orders items, and has no {' and no '.join(metrics)}; compare by "
                                f"metrics={RANKING[0]!r} or another of {', '.join(RANKING)}")
        except (DataError, TypeError) as error:
            if explicit:
                raise type(error)(f"{contender.label}: {error}") from error
            left_out[contender.label] = str(error)
            continue
        fitting.append(replace(contender, measures=measures))
    if not fitting:
        raise DataError("no model fits these data: " + "; ".join(f"{label}: {why}" for label, why in left_out.items()))
    return fitting, left_out


def _can(contender: Contender, data: CollabDataBunch, metrics: Sequence[str]) -> tuple[str, ...]:
    """What a contender can be measured by: of the metrics of certainty, those of `metrics` that it has. Raises
    Unsupported where it has none of `metrics`, and these are all of certainty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollabWarning)      # they come again when it is trained
        learn = contender.make(training_part(data, contender.bs))
    if learn.collab_model.window and not data.timed:
        raise DataError("it reads histories in order of time, by which these ratings are not split; hold out the last "
                        "ones, with split=leave_last(1) or time_split(0.2), and without folds")
    if learn.ranks:
        return RANKING
    if not (sure := _certainties(learn, metrics)) and all(certainty(name) for name in metrics):
        checked(metrics, learn.collab_model)        # which says what it lacks
    return (*ERRORS, *RANKING, *sure)


def _certainties(learn: Any, names: Sequence[str]) -> list[str]:
    """Those of the metrics that are of probabilities or intervals, and that the learner's model has."""
    found = []
    for name in names:
        if certainty(name) is not None:
            with suppress(Unsupported):
                found += [one.name for one in checked([name], learn.collab_model)]
    return found


def _is_large(contender: Contender, data: CollabDataBunch) -> bool:
    """Whether a model of ratings is trained in few batches an epoch, by its recipe or as it was said."""
    return (isinstance(contender.bs, int) and contender.bs > SMALL and ERRORS[0] in (contender.measures or ())
            and data.train.n <= contender.bs * (FEW_BATCHES - 1))


def _cut(runs: list[Run], n_whole: int, n_folds: int, labels: list[str]) -> str:
    """What a comparison that was interrupted has, in words. Raises KeyboardInterrupt where it has no model."""
    done = [run.label for run in runs if run.label in labels]
    if not done:
        raise KeyboardInterrupt
    if n_whole:
        return f"interrupted in fold {n_whole + 1} of {n_folds}: the comparison has the {n_whole} before it"
    missing = ", ".join(label for label in labels if label not in done)
    return (f"interrupted after {len(done)} of {len(labels)} models: the comparison lacks {missing}"
            + (f", and has the first of {n_folds} folds" if n_folds > 1 else ""))


def _chained(first: CollabDataBunch, rest: Iterator[CollabDataBunch]) -> Iterator[CollabDataBunch]:
    yield first
    yield from rest
