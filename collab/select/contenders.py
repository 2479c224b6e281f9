"""Contenders: the models that a comparison trains, each by its own recipe, and the baselines beside them."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..data.databunch import CollabDataBunch
from ..errors import DataError
from ..evaluate.evaluation import Popularity
from ..learner.collab_learner import CollabLearner
from ..learner.factory import collab_learner
from ..learner.recipes import RECIPES, recipe_named, recipe_of
from ..loaders import in_blocks
from ..models.baseline import BiasBaseline
from ..train.callback import Callback
from .known_metrics import ERRORS, LOWER, RANKING

LEARNED = ("epochs", "bs")          # options of training; the others are those of `collab_learner`
Maker = Callable[[CollabDataBunch], CollabLearner]
Model = str | Maker | tuple[str | Maker, Mapping[str, Any]]
Models = Iterable[Model] | Mapping[str, Model]


@dataclass(frozen=True)
class Contender:
    """A model by the name `label`. `make` builds its learner; `bs` is its batch size, None that of the data; `epochs`
    are those of training, None the recipe's. `measures` is what it can be measured by, None where only its learner
    tells."""

    label: str
    make: Callable[[CollabDataBunch], Any]
    bs: int | str | None = None
    epochs: int | None = None
    measures: tuple[str, ...] | None = None
    baseline: bool = False
    own: bool = False               # a function of the caller's, which may take long

    def trained(self, data: CollabDataBunch, cbs: list[Callback], epochs: int | None = None) -> Any:
        """A learner that was trained on the training part of `data`, and has not seen what is held out. It is left
        untrained where the function that makes it has trained it, and where there is nothing to train."""
        epochs = epochs or self.epochs
        part = training_part(data, self.bs)
        learn = self.make(part)
        if self.baseline:
            return learn
        if not isinstance(learn, CollabLearner):
            raise TypeError(f"{self.label}: the function must return a learner, such as collab_learner(data, ...), and "
                            f"returned {type(learn).__name__}")
        if learn.data is not part and not _holds_the_same(learn.data, part):
            raise DataError(f"{self.label}: the learner is over other data, which may hold the ratings it is measured "
                            "on; build it over the data that the function is called with, such as lambda given: "
                            "collab_learner(given, ...), which hold the training part alone")
        model = learn.collab_model
        if not learn.recorder.rows and not model.made_of_trained:
            with learn.no_logging():
                if model.solved:
                    learn.fit(epochs if model.n_sweeps != 1 else None, cbs=cbs)
                else:
                    learn.fit_one_cycle(epochs or recipe_of(model, learn.ranks).epochs, cbs=cbs)
        return learn


def training_part(data: CollabDataBunch, bs: int | str | None) -> CollabDataBunch:
    """The data without their held-out parts, in batches of `bs`, drawn from the start of their seed: what is measured
    later cannot choose any setting, and costs no time in training. Raises DataError for other text than "full"."""
    part = copy.copy(data)              # what is cached in it stays true
    if isinstance(bs, str) and bs != "full":
        raise DataError(f"the batch size bs must be a whole number from 1 on, or 'full', got {bs!r}")
    if isinstance(bs, str) or (bs is None and not data.train.shuffle):
        part.train = data.train.with_(data.train.n, shuffle=False)
    else:
        part.train = data.train.with_(bs, shuffle=True)
    part.valid = part.test = None
    return part


def _holds_the_same(data: CollabDataBunch, part: CollabDataBunch) -> bool:
    """Whether `data` have the training ratings of `part`, over the same ids, and nothing held out."""
    own, given = data.train.tensors, part.train.tensors
    return (data.users is part.users and data.items is part.items and data.valid is None and data.test is None
            and len(own) == len(given) and all(torch.equal(a, b.to(a.device)) for a, b in zip(own, given)))


def contenders_of(models: Models | Model, epochs: int | None = None, bs: int | str | None = None) -> list[Contender]:
    """The models that were named, with these `epochs` and batches of `bs` where nothing else is said. Raises
    DataError for none, an unknown name, or one twice."""
    if isinstance(models, str) or callable(models):
        models = [models]
    named: list[tuple[str | None, Any]]
    named = ([(str(label), model) for label, model in models.items()] if isinstance(models, Mapping) else
             [(None, model) for model in models])
    made = [_contender(label, model, epochs, bs) for label, model in named]
    if not made:
        raise DataError(f"there is nothing to compare; name models, of {', '.join(RECIPES)}")
    labels = [contender.label for contender in made]
    if again := next((label for label in labels if labels.count(label) > 1), None):
        raise DataError(f"{again} is there twice; give one of them other options, such as ({again!r}, {{'seed': 1}}), "
                        "or each a name: {'first': ..., 'second': ...}")
    if taken := next((label for label in labels if label in BASELINES), None):
        raise DataError(f"{taken} is the name of a baseline, which is measured anyway; call the model something else")
    return made


def _contender(label: str | None, model: Any, epochs: int | None, bs: int | str | None) -> Contender:
    options: dict[str, Any] = {}
    said = ""
    if isinstance(model, (tuple, list)):
        if len(model) != 2 or not isinstance(model[1], Mapping):
            raise DataError(f"a model with options is a pair such as ('svdpp', {{'n_factors': 40}}), got {model!r}")
        model, options = model[0], dict(model[1])
        said = "".join(f", {name}={value}" for name, value in options.items())
    learned = {name: options.pop(name) for name in LEARNED if name in options}
    if isinstance(model, str):
        return _of_recipe(label or model + said, model, learned, options, epochs, bs)
    if not callable(model):
        raise DataError(f"a model is the name of a recipe ({', '.join(RECIPES)}), a pair of a name and options, or a "
                        f"function from data to a learner, got {model!r}")
    if options:
        raise DataError(f"{', '.join(options)}: beside a function only {' and '.join(LEARNED)} are options; pass the "
                        "others to the learner that it makes")
    name = str(label or getattr(model, "__name__", type(model).__name__))
    if label is None and name == "<lambda>":
        raise DataError("a function without a name needs one: {'mine': lambda data: collab_learner(data, ...)}")
    return Contender(name, model, learned.get("bs", bs), learned.get("epochs", epochs), own=True)


def _of_recipe(label: str, name: str, learned: dict[str, Any], options: dict[str, Any],
               epochs: int | None, bs: int | str | None) -> Contender:
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        raise DataError(f"model {name!r} is not one of {', '.join(RECIPES)}"
                        f"{f'; did you mean {near[0]!r}?' if near else ''}")
    recipe = recipe_named(name)
    if idle := [one for one in LEARNED if one in learned and (recipe.solved if one == "bs" else recipe.at_once)]:
        raise DataError(f"{name} is solved{' at once' if recipe.at_once else ''}, not trained in batches, and takes no "
                        f"{' and no '.join(idle)}")
    epochs = None if recipe.at_once else learned.get("epochs", epochs)
    if epochs is not None and (not isinstance(epochs, int) or epochs < 1):
        raise DataError(f"{name}: epochs must be a whole number from 1 on, got {epochs!r}")
    own = recipe.epochs if not recipe.solved else None
    return Contender(label, lambda data: collab_learner(data, name, **options),
                     None if recipe.solved else learned.get("bs", bs or recipe.bs), epochs or own)


# Baselines --------------------------------------------------------------------------------------------------------

def _biases(**damping: Any) -> Maker:
    def make(data: CollabDataBunch) -> CollabLearner:
        fitted = BiasBaseline(data.n_users, data.n_items).to(data.device)
        return CollabLearner(data, fitted.fit_blocks(lambda: in_blocks(data.train), **damping))
    return make


BASELINES = {one.label: one for one in (
    Contender("mean rating", _biases(damping_u=math.inf, damping_i=math.inf), measures=LOWER, baseline=True),
    Contender("mean and biases", _biases(), measures=ERRORS, baseline=True),
    Contender("MostPopular", Popularity, measures=RANKING, baseline=True))}
"""By the names that they have in `errors` and `evaluate`."""


def baselines_for(metrics: Iterable[str]) -> list[Contender]:
    """The baselines that these metrics can measure."""
    wanted = {*metrics}
    return [contender for contender in BASELINES.values() if wanted & {*(contender.measures or ())}]
