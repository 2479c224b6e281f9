"""Recipes: for each model's name its class, how it is built from data, and the settings that train it well.

`collab_learner`, the command line and its help take all that they know of a named model from here."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..data.databunch import CollabDataBunch
from ..data.features import Features
from ..data.totals import levels_of
from ..errors import DataError
from ..given import counterpart
from ..models.als import ALS
from ..models.base import CollabModel, Side
from ..models.bayesian import BayesianFM, Columns
from ..models.classifier import RatingClassifier
from ..models.ease import EASE
from ..models.embedding import EmbeddingDot, EmbeddingDotBias
from ..models.hybrid import HybridNet, Known
from ..models.infinite_ae import InfiniteAE
from ..models.layers import Range
from ..models.lightgcn import LightGCN
from ..models.net import EmbeddingNet
from ..models.sasrec import SASRec
from ..models.softmax import SoftmaxNet
from ..models.svdpp import SVDpp
from ..models.two_tower import TwoTower
from ..train.optim import OptFunc, adamw
from ..train.row_adagrad import RowAdagrad
from .objectives import objective_with
from .ranges import DECAY, FACTORS, RATE, Between, OneOf, Space, epochs

Options = dict[str, Any]
"""The arguments of a model's class, or of an objective's, by name."""

DATA = ("n_users", "n_items", "interactions")       # arguments taken from the data
ARGUMENTS = ("model", "n_factors", "y_range", "loss_func", "opt_func", "lr", "wd", "metrics", "cbs", "seed",
             "loss_terms")
ROW_RATE = 0.07             # of RowAdagrad, at every size
MANY_RATINGS = 80_000       # from which on weight decay is made weaker
ADAM_RATINGS, ADAM_BATCHES = 200_000, 400    # below which, and from which on in an epoch, AdamW is better
SHARED = ("n_factors", "y_range")                   # arguments of `collab_learner` itself


@dataclass(frozen=True)
class Context:
    """The input of a recipe: the data, and arguments of `collab_learner`. `y_range` is None where scores only rank.
    `mean` is the training mean, moved inside the range where it lies at its end; None for an objective that `ranks`."""

    data: CollabDataBunch
    n_factors: int
    y_range: Range | None
    ranks: bool = False

    @property
    def mean(self) -> float | None:
        if self.ranks:
            return None
        if self.y_range is None:
            return self.data.mean
        margin = 0.01 * (self.y_range[1] - self.y_range[0])
        return min(max(self.data.mean, self.y_range[0] + margin), self.y_range[1] - margin)


@dataclass(frozen=True)
class Recipe:
    """How a model is built and trained. `lr` and `wd` are for batches of 64, and were chosen on validation parts of
    MovieLens-100K's u1 training rows, of 60,000 ratings (see `rates`); with `ridge`, a model of ratings is trained by
    `rate_plan` unless it is given rates. `bs` and `epochs` are the command line's defaults, `n_factors` is that
    of `collab_learner` too. `reads` are the sides whose features the model reads, and `needs_features` whether it
    requires them. `space` is where `tune` looks for better options, beside the settings that all models have (see
    `search`)."""

    name: str
    model: type[CollabModel]
    options: Callable[[Context], Options]
    about: str
    lr: float = 0.0
    wd: float = 0.0
    bs: int = 64
    epochs: int = 5
    n_factors: int = 50
    ranks: bool = False
    ridge: bool = False
    reads: tuple[Side, ...] = ()
    needs_features: bool = False
    objective: Options = field(default_factory=dict)     # the options of the model's ranking objective
    space: Space = field(default_factory=dict)

    @property
    def solved(self) -> bool:
        return self.model.solved

    @property
    def search(self) -> Space:
        """Where `tune` looks for better settings: factors and epochs, the rate and the decay as multiples of the
        recipe's own, so that they hold at every size of data and batches, and `space`."""
        shared: Space = {"n_factors": FACTORS} if self.takes("n_factors") else {}
        if not self.at_once:
            shared["epochs"] = epochs(self.model.n_sweeps or self.epochs)
        if not self.solved:
            shared |= {"lr_times": RATE} | ({"wd_times": DECAY} if self.wd else {})
        return shared | self.space

    @property
    def at_once(self) -> bool:
        """Whether a single sweep solves it."""
        return self.model.n_sweeps == 1

    def takes(self, argument: str) -> bool:
        """Whether the model is built with an argument of that name."""
        return argument in inspect.signature(self.model).parameters

    def build(self, context: Context, options: Options) -> CollabModel:
        """Build the model for these data; `options` of its class override the recipe's. Raises TypeError for one that
        the class does not have."""
        allowed = [name for name in inspect.signature(self.model).parameters if name not in (*DATA, *SHARED)]
        for name in options:
            if name not in allowed:
                of_data = name in inspect.signature(CollabDataBunch.from_df).parameters
                near = counterpart(name, (*allowed, *ARGUMENTS))
                ranked = None if self.solved else objective_with(name, self.model.default_loss)
                hint = (f"; it is one of the data: CollabDataBunch.from_df(ratings, {name}=...)." if of_data else
                        f"; it is one of the objective: loss_func={ranked.__name__}({name}={options[name]!r})."
                        if ranked else f"; did you mean {near!r}?" if near else ".")
                raise TypeError(f"collab_learner has no argument {name!r}, and {self.model.__name__} no such option"
                                f"{hint} The options are "
                                f"{', '.join(allowed) or 'none'}; collab_learner itself takes {', '.join(ARGUMENTS)}")
        data = context.data
        given = {"n_factors": context.n_factors, "n_users": data.n_users, "n_items": data.n_items,
                 "y_range": context.y_range, "mean": context.mean}
        shared = {name: value for name, value in given.items() if self.takes(name)}
        return self.model(**{**shared, **self.options(context), **options})


RECIPES: dict[str, Recipe] = {}
OWN = Recipe("own", CollabModel, lambda c: {}, "a model of your own", lr=5e-3)


def recipe(name: str, model: type[CollabModel], about: str, **settings: Any,
           ) -> Callable[[Callable[[Context], Options]], Callable[[Context], Options]]:
    """Register the recipe of `model` under a name. The decorated function returns the options to build it with."""
    def register(options: Callable[[Context], Options]) -> Callable[[Context], Options]:
        RECIPES[name] = Recipe(name, model, options, about, **settings)
        return options
    return register


def recipe_named(name: str) -> Recipe:
    """The recipe of that name. Raises ValueError for an unknown one."""
    if name not in RECIPES:
        near = difflib.get_close_matches(str(name).lower(), RECIPES, n=1)
        hint = f"; did you mean {near[0]!r}? Instead" if near else "; instead"
        raise ValueError(f"model {name!r} is not one of {', '.join(RECIPES)}{hint} of a name, you can pass a module")
    return RECIPES[name]


def recipe_of(model: CollabModel, ranks: bool) -> Recipe:
    """The first recipe of the model's class, or of its nearest base with one; rather one that ranks if `ranks`."""
    for cls in type(model).__mro__:
        own = [recipe for recipe in RECIPES.values() if recipe.model is cls]
        if own:
            return next((recipe for recipe in own if recipe.ranks == ranks), own[0])
    return OWN


def name_of_model(model: CollabModel, ranks: bool) -> str:
    """The name of a model's recipe (see `recipe_of`); of a class without one, its own name."""
    found = recipe_of(model, ranks)
    return found.name if found.model is type(model) else model.kind


# The models -------------------------------------------------------------------------------------------------------

@recipe("dot_bias", EmbeddingDotBias, "biases and factors", lr=5e-3, wd=0.3, ridge=True,
        space={"ridge": Between(0.1, 0.6, log=True), "wd_times": OneOf((None, 0.5, 1.0, 2.0)), "epochs": epochs(5),
               "lr_times": Between(0.25, 1.5, log=True)})
def dot_bias(c: Context) -> Options:
    return {}


@recipe("dot", EmbeddingDot, "factors alone", lr=1e-2, wd=0.02)
def dot(c: Context) -> Options:
    return {}


@recipe("net", EmbeddingNet, "a network over both embeddings", lr=5e-3, wd=0.1,
        space={"hidden": OneOf(((10,), (50,), (100, 50))), "drop": Between(0.0, 0.6)})
def net(c: Context) -> Options:
    return {}


@recipe("classifier", RatingClassifier, "ratings as classes", lr=4e-3, wd=0.45, space={"drop": Between(0.0, 0.5)})
def classifier(c: Context) -> Options:
    if c.data.scale is None:
        raise DataError("the ratings lie on more than 101 levels, too many for classes; train another model")
    levels, counts = levels_of(c.data.train)
    return {"levels": levels.tolist(), "counts": counts.tolist()}


@recipe("svdpp", SVDpp, "SVD++ on both sides", lr=3.75e-3, wd=0.5, bs=1024, epochs=10,
        space={"drop": Between(0.0, 0.6)})
def svdpp(c: Context) -> Options:
    return {}


@recipe("hybrid", HybridNet, "SVD++ with metadata", lr=3.75e-3, wd=0.5, bs=1024, epochs=10, reads=("user", "item"),
        needs_features=True, space={"drop": Between(0.0, 0.6)})
def hybrid(c: Context) -> Options:
    users, items = c.data.user_features, c.data.item_features
    if users is None and items is None:
        raise DataError("a hybrid model needs features: make the data with items=... and item_features='auto', or the "
                        "same for users")
    return {"users": known(users), "items": known(items)}


@recipe("bpr", EmbeddingDotBias, "pairs of a chosen and another item", lr=2e-3, wd=0.25, bs=1024, epochs=15, ranks=True,
        objective={"n_negatives": 4}, space={"n_negatives": Between(1, 16, log=True, whole=True)})
def bpr(c: Context) -> Options:
    return {"init_std": 0.1, "mean": None}


@recipe("softmax", SoftmaxNet, "a history in, a softmax over all items out", lr=1.9e-4, wd=0.006, bs=16_384, epochs=30,
        ranks=True, reads=("item",), space={"drop": Between(0.0, 0.8), "bag_power": Between(0.0, 1.0)})
def softmax(c: Context) -> Options:
    kinds = [] if c.data.item_features is None else c.data.item_features.by_column()
    return {"interactions": c.data.interactions, "items": kinds, "dims": [4] * len(kinds),
            "hidden": (c.n_factors,) if kinds else (), "leave_out": False, "drop": 0.5, "bag_power": 0.5, "tied": False,
            "activation": "tanh"}


@recipe("sasrec", SASRec, "what comes next, by attention over a history in order", lr=1.1e-3, bs=512, epochs=20,
        n_factors=64, ranks=True, space={"n_factors": OneOf((32, 64, 128)), "drop": Between(0.1, 0.6),
                                         "window": OneOf((20, 50, 100))})
def sasrec(c: Context) -> Options:
    return {"interactions": c.data.interactions}


@recipe("two_tower", TwoTower, "an encoder for users, one for items", lr=5e-3, wd=0.1, bs=1024, ranks=True,
        reads=("user", "item"))
def two_tower(c: Context) -> Options:
    return {"users": known(c.data.user_features), "items": known(c.data.item_features)}


@recipe("lightgcn", LightGCN, "factors smoothed over the graph of choices", lr=1.8e-3, bs=2048, epochs=20, ranks=True,
        objective={"n_negatives": 4}, space={"n_layers": Between(1, 3, whole=True),
                                             "n_negatives": Between(1, 16, log=True, whole=True)})
def lightgcn(c: Context) -> Options:
    return {}


@recipe("als", ALS, "alternating least squares on what was chosen", ranks=True,
        space={"reg": Between(2.0, 200.0, log=True), "reg_power": Between(0.0, 1.0)})
def als(c: Context) -> Options:
    return {"implicit": True}


@recipe("als_explicit", ALS, "alternating least squares on ratings",
        space={"reg": Between(0.02, 1.0, log=True), "reg_power": Between(0.0, 1.0)})
def als_explicit(c: Context) -> Options:
    return {"implicit": False}


@recipe("bayes", BayesianFM, "draws of a factorisation machine, with intervals", n_factors=10, reads=("user", "item"),
        space={"n_factors": Between(4, 40, log=True, whole=True), "degrees": Between(3.0, 50.0, log=True)})
def bayes(c: Context) -> Options:
    levels = None if c.data.scale is None else levels_of(c.data.train)[0].tolist()
    return {"users": by_column(c.data.user_features), "items": by_column(c.data.item_features), "levels": levels}


@recipe("ease", EASE, "item to item, solved at once", ranks=True,
        space={"reg": Between(10.0, 5000.0, log=True), "user_power": Between(0.0, 1.0)})
def ease(c: Context) -> Options:
    return {}


@recipe("infinite_ae", InfiniteAE, "user to user, solved at once", ranks=True,
        space={"reg": Between(0.1, 100.0, log=True), "item_power": Between(0.0, 1.0),
               "depth": Between(1, 5, whole=True)})
def infinite_ae(c: Context) -> Options:
    return {}


def known(features: Features | None) -> Known | None:
    """Features as models take them: (codes, weights, how many there are)."""
    return None if features is None else (features.codes, features.weights, len(features.labels))


def by_column(features: Features | None) -> Columns | None:
    """Features as a model takes them that tells their columns apart: (codes, weights, the column of each)."""
    return None if features is None else (features.codes, features.weights, features.column)


def rates(recipe: Recipe, n: int, bs: int) -> tuple[float, float]:
    """(lr, wd) of a recipe for AdamW on `n` ratings in batches of `bs`. Both are times sqrt(bs / 64) (the square-root
    rule: Malladi et al. 2022), until a step's decay, lr * wd, would be more than the whole weight. The decay is also
    times min(1, 80,000 / n): it acts on every row at every step, and with more steps would wear off rows that are
    rarely rated."""
    wd = recipe.wd * min(1.0, MANY_RATINGS / n)
    times = math.sqrt(min(bs / 64, 1 / (recipe.lr * wd) if wd else math.inf))
    return recipe.lr * times, wd * times


def is_dot_product(model: CollabModel) -> bool:
    """Whether the model is a dot product and nothing more, with the parameter groups that a `RatePlan` names."""
    tables = model.dot_tables()
    return (tables is not None and {*map(id, tables.parameters)} == {*map(id, model.parameters())}
            and [group["name"] for group in model.param_groups()] == ["factors", "biases"])


class RatePlan(NamedTuple):
    """How a dot model of ratings is trained by default: an optimizer, its rates, the scale of its `Ridge`, and why."""

    opt_func: OptFunc
    lr: float | dict[str, float]
    ridge: float
    why: str


def rate_plan(n: int, bs: int, opt_func: OptFunc | None = None) -> RatePlan:
    """The plan for `n` ratings in batches of `bs`, or the one for `opt_func` where that is RowAdagrad. Row-wise Adagrad
    has the same error at every size of data and batches, at one rate. AdamW is a little better after a few epochs where
    data are small and batches many."""
    few, many = n < ADAM_RATINGS, n / bs >= ADAM_BATCHES
    if few and many and opt_func is None:
        why = f"AdamW with a ridge, for fewer than {ADAM_RATINGS:,} ratings in {ADAM_BATCHES} or more batches"
        return RatePlan(adamw, 3.5e-3 * math.sqrt(bs / 64), 0.22, why)
    why = (f"for {ADAM_RATINGS:,} ratings and more" if not few else
           f"for fewer than {ADAM_BATCHES} batches an epoch" if not many else "as asked for")
    lr = {"factors": ROW_RATE, "biases": 2 * ROW_RATE}
    return RatePlan(RowAdagrad, lr, 0.25, f"RowAdagrad at {lr['factors']:g} and {lr['biases']:g} with a ridge, {why}")
