"""tune: search for better settings than a recipe's, and say on untouched ratings whether they are."""

from __future__ import annotations

import math
import numbers
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.databunch import CollabDataBunch
from ..data.split import Split
from ..environment import bars_wanted
from ..errors import CollabWarning, DataError, warn
from ..given import is_real
from ..learner.collab_learner import CollabLearner
from ..learner.ranges import Space
from ..learner.recipes import Recipe, recipe_named
from .candidates import Settings, defaults, fit, made, used
from .goal import Goal, MetricName, goal
from .pruning import Reports
from .spaces import space_of
from .study_file import DONE, fingerprint, opened, optuna, quietly
from .three_way import ThreeWay, three_way, trained_on
from .tuned import Tuned, done, trials_frame

AT_RANDOM = 8           # trials at random before the sampler learns from them
COMPARED = 5            # whole trials before one is ended early
WARMUP = 5              # tenths of a fit in which none is: before, a high rate looks worse than it ends
KEPT = 75.0             # percentile of whole trials that one must not be worse than


def tune(data: CollabDataBunch, model: str = "dot_bias", n_trials: int = 20, *, space: Mapping[str, Any] | None = None,
         metric: MetricName | None = None, storage: str | Path | None = None, timeout: float | None = None,
         split: Split | None = None, seed: int | None = None, whole: bool = False, **options: Any) -> Tuned:
    """Look for settings of a model that are better than its recipe's, by Optuna's TPE (Bergstra et al. 2011; Akiba et
    al. 2019), and train a learner with them; with the recipe's own, unless the others are better beyond chance.

    Trials of data with a test part are trained on `data.train` and measured on `data.valid`. What tuning gained is
    measured at the end, once, on `data.test`: both the recipe and the best trial are trained on the training and
    validation ratings, and compared on those, paired by user; so is the learner that is returned. Without a test part,
    `data.valid` takes its place, and for the trials the training ratings are cut once more as the data were cut (at
    random, by time, per user). With `split` it is the training ratings that are cut, by it, in both cases.

    - `model`: the name of a recipe (see `collab_learner`).
    - `n_trials`: the recipe's own settings are the first, where they lie in the space. Trials among the
      worst quarter at the same tenth of their fits are ended early.
    - `space`: settings and ranges in place of the recipe's own: {"n_factors": (10, 100), "lr_times": (0.3, 3, "log"),
      "hidden": [[50], [100, 50]]}. Settings are n_factors, epochs, bs, arguments of the model's class and of its
      ranking objective, lr and wd, or lr_times and wd_times, multiples of the recipe's, and ridge, the scale of the
      `Ridge`.
    - `metric`: "rmse", "mae", "mse", or one of `evaluate` with a number of items, such as "recall@20"; or a `Metric`,
      or a function of (predictions, targets). By default "rmse", and "ndcg@10" for a model that ranks.
    - `storage`: the file of the study. With one that exists, trials go on from there up to `n_trials`, and end as
      those of one whole run. DataError for a study of other data, another model, space or metric, and while another run
      works on the file.
    - `timeout`: seconds after which no further trial begins.
    - `seed`: of the sampler and of all learners; by default the data's.
    - `whole`: whether Ctrl-C raises KeyboardInterrupt also where some trials are finished.
    - `options`: settings that are given, such as epochs=5, and not searched; loss_func, y_range.

    Ctrl-C ends the trials; the result is made of those that are finished (KeyboardInterrupt where none is).
    Raises ImportError without Optuna, ValueError for an unknown model, and DataError for a space that does not fit, and
    for data without held-out ratings."""
    package, recipe = optuna(), _recipe(model)
    if not isinstance(data, CollabDataBunch):
        raise TypeError(f"tune needs a CollabDataBunch, got {type(data).__name__}; make one with "
                        "CollabDataBunch.from_df(ratings)")
    if isinstance(n_trials, bool) or not isinstance(n_trials, numbers.Integral) or n_trials < 1:
        raise DataError(f"n_trials must be a whole number, at least 1, got {n_trials!r}")
    if timeout is not None and not (is_real(timeout) and timeout > 0):
        raise DataError(f"timeout must be a number of seconds above 0, got {timeout!r}")
    seed, begun = data.seed if seed is None else seed, time.perf_counter()
    ranked = recipe.ranks or data.implicit
    searched = space_of(recipe, space, options, ranked)
    parts = three_way(data, split)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollabWarning)
        first = made(parts.trials, recipe, options, seed=seed)      # refuses what does not fit, before any trial
    aim = goal(metric, data, first.ranks)
    if aim.ranking is None:
        parts = parts.unaware()
    own = defaults(first, recipe, searched)
    what = fingerprint(parts.trials, parts.untouched, model=model, space=searched, metric=aim.name, options=options,
                       seed=seed, bs=None if recipe.solved or "bs" in searched else parts.trials.train.bs)
    with quietly(), opened(storage, what, "minimize" if aim.lower else "maximize") as study:
        search = Search(package, study, searched, own, seed,
                        lambda trial, settings: _tried(trial, parts, recipe, {**options, **settings}, aim, seed))
        interrupted = search.run(int(n_trials), None if timeout is None else begun + timeout)
        table = trials_frame(study, searched)
    if interrupted and (whole or table["value"].isna().all()):
        raise KeyboardInterrupt
    if table["value"].isna().all():
        raise DataError(f"no trial was finished in {timeout} seconds; give more time")
    if interrupted:
        warn(f"interrupted: {len(table)} of {n_trials} trials were finished, and the best of these is trained")
    return _report(data, parts, recipe, options, aim, table, searched, search.is_default, seed, begun)


class Search:
    """Trials of a study, one after another. Each has a sampler of its own seed, so that a search which goes on from a
    file draws what a whole one would have."""

    def __init__(self, package: Any, study: Any, space: Space, own: Settings, seed: int,
                 tried: Callable[[Any, Settings], tuple[float, bool]]):
        self.package, self.study, self.space, self.seed, self.tried = package, study, space, seed, tried
        self.own = own if all(name in own and own[name] in span for name, span in space.items()) else None
        study.pruner = package.pruners.PercentilePruner(KEPT, n_startup_trials=COMPARED, n_warmup_steps=WARMUP)

    def is_default(self, number: int) -> bool:
        """Whether the finished trial of this number, from 0, has the recipe's own settings."""
        return number == 0 and self.own is not None

    def run(self, n_trials: int, deadline: float | None) -> bool:
        """Go on to `n_trials`; whether Ctrl-C ended it."""
        bar = _bar(n_trials)
        for number in range(len(done(self.study)), n_trials):
            if _over(deadline):
                warn(f"the time is over after {number} of {n_trials} trials")
                break
            bar(number, self.study)
            try:
                self._one(number)
            except KeyboardInterrupt:
                return True
        bar(n_trials, self.study)
        return False

    def _one(self, number: int) -> None:
        states = self.package.trial.TrialState
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # Optuna's: grouped sampling is experimental
            self.study.sampler = self.package.samplers.TPESampler(
                seed=self.seed * 1_000_003 + number & 0x7FFFFFFF, n_startup_trials=AT_RANDOM, multivariate=True)
        if number == 0 and self.own is not None:
            self.study.enqueue_trial({name: span.stored(self.own[name]) for name, span in self.space.items()})
        trial = self.study.ask()
        try:
            settings = {name: span.suggest(trial, name) for name, span in self.space.items()}
            start = time.perf_counter()
            value, pruned = self.tried(trial, settings)
        except BaseException:
            self.study.tell(trial, state=states.FAIL)
            raise
        trial.set_user_attr("seconds", time.perf_counter() - start)
        trial.set_user_attr("value", value)
        trial.set_user_attr(DONE, number)
        self.study.tell(trial, None if pruned else value, state=states.PRUNED if pruned else None)


def _over(deadline: float | None) -> bool:
    return deadline is not None and time.perf_counter() > deadline


def _recipe(model: object) -> Recipe:
    if not isinstance(model, str):
        raise TypeError("tune needs the name of a model, such as 'dot_bias', whose settings it may change; got "
                        f"{type(model).__name__}")
    return recipe_named(model)


def _tried(trial: Any, parts: ThreeWay, recipe: Recipe, settings: Settings, aim: Goal, seed: int) -> tuple[float, bool]:
    """(the metric of a learner with these settings at the end of its fit, whether it was ended early)."""
    reports = Reports(trial, aim.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollabWarning)      # a bad trial is not news
        learn = made(parts.trials, recipe, settings, cbs=[*aim.recorders(), reports], seed=seed, **aim.measuring())
        _fitted(learn, recipe, settings)
    return reports.value if math.isfinite(reports.value) else aim.worst, reports.pruned


def _fitted(learn: CollabLearner, recipe: Recipe, settings: Settings) -> CollabLearner:
    with learn.no_logging():
        fit(learn, recipe, settings)
    if learn.interrupted:
        raise KeyboardInterrupt
    return learn


def _report(data: CollabDataBunch, parts: ThreeWay, recipe: Recipe, options: Settings, aim: Goal, table: Any,
            space: Space, is_default: Callable[[int], bool], seed: int, begun: float) -> Tuned:
    """Train the recipe and the best trial on all ratings that trials had, and compare them on the untouched part."""
    whole = table[table["state"] == "finished"]
    row = whole.loc[whole["value"].idxmin() if aim.lower else whole["value"].idxmax()]
    same = is_default(int(row["trial"])) or not math.isfinite(row["value"])
    best = used({name: value.item() if isinstance(value := row[name], np.generic) else value for name in space})
    plain = _fitted(made(parts.whole, recipe, options, seed=seed), recipe, options)
    changed = {**options, **best}
    tuned = plain if same else _fitted(made(parts.whole, recipe, changed, seed=seed), recipe, changed)
    found = aim.margin(tuned, plain, parts)
    difference = found.T["difference"]
    beaten = not same and bool(difference["high"] < 0 if aim.lower else difference["low"] > 0)
    assert parts.trials.valid is not None
    return Tuned(learn=tuned if beaten else plain, best=changed if beaten else dict(options), beaten=beaten,
                 candidate=best, trials=table, table=found.loc[["default recipe", "tuned"], ["value", "low", "high"]],
                 difference=difference, metric=aim.name, lower=aim.lower, model=recipe.name,
                 same=same, has_default=is_default(0), untouched=parts.words, trained_on=trained_on(parts, data),
                 n_train=parts.trials.train.n, n_valid=parts.trials.valid.n,
                 seconds=time.perf_counter() - begun)


def _bar(n: int) -> Callable[[int, Any], None]:
    """A function of (finished trials, study) that shows a bar, where one is wanted."""
    if not bars_wanted():
        return lambda done, study: None
    from fastprogress import progress_bar
    bar = progress_bar(range(n))

    def update(done: int, study: Any) -> None:
        values = [trial.value for trial in study.get_trials(deepcopy=False) if trial.value is not None]
        if values:
            best = min(values) if study.direction.name == "MINIMIZE" else max(values)
            bar.comment = f"best {best:.4f}"
        bar.update(done)
    return update
