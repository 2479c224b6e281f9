"""Learners with settings: those of a recipe, and those that a trial proposes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable
from typing import Any

from ..data.databunch import CollabDataBunch
from ..learner.collab_learner import CollabLearner
from ..learner.factory import collab_learner
from ..learner.objectives import OBJECTIVES, objective
from ..learner.recipes import Recipe, rates
from ..learner.ridge import Ridge
from ..train.callback import Callback
from ..train.optim import Hyper

Settings = dict[str, Any]

OF_LEARNER = ("n_factors", "y_range", "loss_func", "lr", "wd")      # arguments of collab_learner
OF_FIT = ("epochs", "lr_times", "wd_times", "bs", "ridge")          # and what else belongs to a training
OF_DATA = ("n_users", "n_items", "interactions", "mean", "users", "items", "levels", "counts")      # not to be set


def objective_options(recipe: Recipe) -> tuple[str, ...]:
    """The options of the objective that a model trained to rank has by default, or of BPR."""
    return () if recipe.solved else tuple(inspect.signature(OBJECTIVES[_objective(recipe)]).parameters)


def model_options(recipe: Recipe) -> tuple[str, ...]:
    """The options of a recipe's model class."""
    return tuple(name for name in inspect.signature(recipe.model).parameters if name not in (*OF_LEARNER, *OF_DATA))


def made(data: CollabDataBunch, recipe: Recipe, settings: Settings, *, cbs: Iterable[Callback] = (),
         **arguments: Any) -> CollabLearner:
    """A learner by a recipe with settings in place of its own, not trained yet; see `fit`."""
    settings, cbs = dict(settings), list(cbs)
    settings.pop("epochs", None)
    if "bs" in settings:
        data = _with_bs(data, settings.pop("bs"))
    ridge, times = settings.pop("ridge", None), {name: settings.pop(f"{name}_times", None) for name in ("lr", "wd")}
    if recipe.ridge and not data.implicit and times["wd"] is not None:      # AdamW with a decay in place of the ridge
        settings["wd"] = rates(recipe, data.train.n, data.train.bs)[1] * times.pop("wd")
    if ridge is not None and settings.get("wd") is None:
        cbs.append(Ridge(ridge))
    own = model_options(recipe)
    of_objective = [name for name in objective_options(recipe) if name in settings and name not in own]
    if ranked := {name: settings.pop(name) for name in of_objective}:
        settings["loss_func"] = objective(settings.get("loss_func") or _objective(recipe), **recipe.objective | ranked)
    learn = collab_learner(data, recipe.name, cbs=cbs, **settings, **arguments)
    if not recipe.solved:
        learn.lr, learn.wd = (_times(rate, times.get(name)) for name, rate in (("lr", learn.lr), ("wd", learn.wd)))
    return learn


def used(settings: Settings) -> Settings:
    """The settings that change anything: a decay stands in place of the ridge, and None for the recipe's own."""
    decayed = any(settings.get(name) is not None for name in ("wd", "wd_times"))
    return {name: value for name, value in settings.items() if value is not None and not (name == "ridge" and decayed)}


def fit(learn: CollabLearner, recipe: Recipe, settings: Settings) -> None:
    """Train for the epochs among the settings, by default the recipe's: one cycle, or sweeps of a solved model."""
    n = settings.get("epochs", recipe.model.n_sweeps or recipe.epochs)
    (learn.fit if recipe.solved else learn.fit_one_cycle)(n)


def defaults(learn: CollabLearner, recipe: Recipe, names: Iterable[str]) -> Settings:
    """The recipe's own values of these settings, as a learner by it has them; those that are not known are left out."""
    ridge = next((cb.scale for cb in learn.cbs if isinstance(cb, Ridge)), None)
    known = {**(learn.collab_model.config or {}), **({} if learn.objective is None else learn.objective.config),
             "epochs": recipe.model.n_sweeps or recipe.epochs, "bs": learn.data.train.bs, "ridge": ridge,
             "lr_times": 1.0, "wd_times": 1.0, "lr": learn.lr, "wd": learn.wd}
    for name, argument in inspect.signature(recipe.model).parameters.items():
        if isinstance(known.get(name), list) and isinstance(argument.default, int | float):
            known[name] = argument.default          # the configuration has it once for every layer
    if ridge is not None:
        known |= {"lr": None, "wd": None, "wd_times": None}
    return {name: tuple(known[name]) if isinstance(known[name], list) else known[name] for name in names
            if name in known}


def _objective(recipe: Recipe) -> str:
    return recipe.model.default_loss if recipe.model.default_loss in OBJECTIVES else "bpr"


def _times(rate: Hyper | None, factor: float | None) -> Any:
    if isinstance(rate, dict):
        return {name: _times(one, factor) for name, one in rate.items()}
    return rate * factor if isinstance(rate, int | float) and factor is not None else rate


def _with_bs(data: CollabDataBunch, bs: int) -> CollabDataBunch:
    if bs == data.train.bs:
        return data
    other = copy.copy(data)
    other.train = data.train.with_(bs)
    return other
