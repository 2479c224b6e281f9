"""What the battery tries: every model by name, some made of others or by hand, and the table of what each lacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from collab import (
    CollabDataBunch,
    CollabLearner,
    EmbeddingDotBias,
    HybridNet,
    Unsupported,
    average_learners,
    collab_learner,
)
from collab.learner.recipes import RECIPES, Context, Recipe

from .ratings import bunch

LAYERS = ("logits", "cross", "fold_in", "learned", "history", "objective", "scores")    # words of models, layers here
RANKERS = {"als", "ease", "infinite_ae", "bpr", "softmax", "sasrec", "two_tower", "rank_ensemble"}
MADE_OF = {"ensemble": ("net", "dot_bias"), "classifiers": ("classifier", "classifier"), "folded": ("dot_bias",) * 2,
           "rank_ensemble": ("als", "ease")}
N_FACTORS = 4

# Abilities ---------------------------------------------------------------------------------------------------------
# Which model lacks which. Every other pair must give the right answer, so that no ability is lost in silence; a recipe
# that is not in the table lacks what its model says (`_lacking`).

FACTORS = {"item_factors", "user_factors", "similar_items", "similar_users"}
BIASES = {"item_biases", "user_biases"}
PRODUCT = {"index", "parts"}                        # of models whose score is a product of vectors
PEOPLE = {"new_people", "add_ratings"}
STEPS = {"fit_one_cycle", "fit_sgdr", "fit_flat_cos", "lr_find", "freeze_to", "unfreeze"}
ABILITIES = {*FACTORS, *BIASES, *PRODUCT, *PEOPLE, *STEPS, "fit", "probabilities", "errors"}

NOTHING_BUT_SCORES = {*FACTORS, *BIASES, *PRODUCT, *PEOPLE, "probabilities"}
LACKS: dict[str, set[str]] = {
    "dot": {*BIASES, "probabilities"},
    "dot_bias": {"probabilities"},
    "net": {*BIASES, *PRODUCT, *PEOPLE, "probabilities"},
    "classifier": {*PRODUCT, *PEOPLE},
    "svdpp": {"add_ratings", "probabilities"},
    "hybrid": {"add_ratings", "probabilities"},
    "als": {*BIASES, *STEPS, "probabilities", "errors"},
    "als_explicit": {*STEPS, "probabilities"},
    "bayes": {*STEPS, "add_ratings"},
    "ease": {*FACTORS - {"similar_items"}, *BIASES, *PRODUCT, *STEPS, "probabilities", "errors"},
    "infinite_ae": {*FACTORS - {"similar_users"}, *BIASES, *PRODUCT, *STEPS, "add_ratings", "probabilities", "errors"},
    "bpr": {"probabilities", "errors"},
    "softmax": {"user_biases", "probabilities", "errors"},
    "sasrec": {"user_biases", "probabilities", "errors"},
    "two_tower": {*BIASES, "add_ratings", "probabilities", "errors"},
    "ensemble": NOTHING_BUT_SCORES,
    "classifiers": NOTHING_BUT_SCORES - {"probabilities"},
    "rank_ensemble": {*NOTHING_BUT_SCORES - {"new_people"}, *STEPS - {"freeze_to", "unfreeze"}, "fit", "errors"},
    "folded": {"probabilities"},
    "hybrid_hidden": {*PRODUCT, *PEOPLE, "probabilities"},
    "bayes_ordinal": {*PRODUCT, *STEPS, "add_ratings"},
    "distance": {*BIASES, *PRODUCT, *PEOPLE, "probabilities"},
    "subclass": {*PRODUCT, *PEOPLE, "probabilities"},
    "plain": NOTHING_BUT_SCORES,
    "layers": NOTHING_BUT_SCORES,
}
SAYS = {**dict.fromkeys(FACTORS, "factors"), **dict.fromkeys(BIASES, "bias"), **dict.fromkeys(STEPS, "solved|loss"),
        "index": "index", "new_people": "new|fold", "add_ratings": "users|people", "probabilities": "probabilit",
        "errors": "error|order", "fit": "loss|train"}       # what a message has, beside the name of the class
METADATA = {"hybrid", "hybrid_hidden", "two_tower", "bayes", "bayes_ordinal"}      # which metadata of cold ids move
FOREIGN = {"distance", "plain", "layers"}      # no file can build them


# Models of one's own -----------------------------------------------------------------------------------------------

class Distance(nn.Module):
    """The README's: score = mu - |p_u - q_i|^2."""

    def __init__(self, n_factors: int, data: CollabDataBunch):
        super().__init__()
        self.u_weight = nn.Embedding(data.n_users, n_factors)
        self.i_weight = nn.Embedding(data.n_items, n_factors)
        self.mu = nn.Parameter(torch.tensor(data.mean))
        for table in (self.u_weight, self.i_weight):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.mu - (self.u_weight(users) - self.i_weight(items)).square().sum(1)


class Plain(nn.Module):
    """Two tables of one size, by names that say nothing, and layers over both with these names."""

    def __init__(self, n_factors: int, data: CollabDataBunch, names: tuple[str, ...] = ("layer",)):
        super().__init__()
        self.i, self.u = nn.Embedding(data.n_items, n_factors), nn.Embedding(data.n_users, n_factors)
        self.names = names
        for name in names:
            setattr(self, name, nn.Linear(2 * n_factors, 1))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        both = torch.cat([self.u(users) * self.i(items), self.u(users) + self.i(items)], 1)
        return 3 + torch.cat([getattr(self, name)(both) for name in self.names], 1).mean(1)


class Saturating(EmbeddingDotBias):
    """A forward of its own: what it inherits says nothing of that."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.predicts_ratings = True

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        apart = (self.u_weight(users) - self.i_weight(items)).abs().sum(1)
        return 1 + 4 * torch.sigmoid(self.mu + self.u_bias(users)[:, 0] + self.i_bias(items)[:, 0] - apart)


# Cases -------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Case:
    """A model by its name here: how a learner of it is made and trained, and what it lacks."""

    name: str
    lacks: frozenset[str] = field(repr=False)
    ranks: bool = field(repr=False)

    @property
    def data(self) -> CollabDataBunch:
        """Rankers learn from choices."""
        return _data(self.ranks)

    @property
    def solved(self) -> bool:
        return self.lacks >= STEPS and "fit" not in self.lacks

    def model(self, seed: int = 0) -> nn.Module | None:
        """An untrained module that is built by hand; None for a model that has a recipe."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._model()

    def _model(self) -> nn.Module | None:
        data, sizes = self.data, (N_FACTORS, self.data.n_users, self.data.n_items)
        if self.name == "distance":
            return Distance(N_FACTORS, data)
        if self.name in FOREIGN:
            return Plain(N_FACTORS, data, LAYERS if self.name == "layers" else ("layer",))
        if self.name == "subclass":
            return Saturating(*sizes, mean=0.0)
        if self.name == "hybrid_hidden":
            known = [(f.codes, f.weights, len(f.labels)) for f in (data.user_features, data.item_features)]
            return HybridNet(*sizes, data.train.tensors[:2], *known, hidden=(6,), y_range=data.y_range, mean=data.mean)
        if self.name == "bayes_ordinal":
            recipe, context = RECIPES["bayes"], Context(data, N_FACTORS, None)
            return recipe.build(context, {"likelihood": "ordinal"})
        return None

    def untrained(self, seed: int = 0, **options: Any) -> CollabLearner:
        """A new learner of a model that is not made of others."""
        return collab_learner(self.data, self.model(seed) or self.name, n_factors=N_FACTORS, seed=seed, **options)

    def make(self, seed: int = 0) -> CollabLearner:
        """A new learner that has been trained for two epochs, or is made of such."""
        if (names := MADE_OF.get(self.name)) is not None:
            return average_learners([CASES[name].make(seed + k) for k, name in enumerate(names)])
        learn = self.untrained(seed)
        with learn.no_logging():
            # so fast that factors are more than noise, and the scores of "dot" come up to the scale
            learn.fit(2, **({} if self.solved else {"lr": 0.3 if self.name == "dot" else 0.05}))
        return learn


@cache
def _data(implicit: bool) -> CollabDataBunch:
    return bunch(implicit)


def _case(name: str) -> Case:
    ranks = name in RANKERS or (name in RECIPES and RECIPES[name].ranks)
    lacks = LACKS[name] if name in LACKS else _lacking(RECIPES[name])
    return Case(name, frozenset(lacks), ranks)


def _lacking(recipe: Recipe) -> set[str]:
    """What the model of a recipe that is not in the table says that it lacks: the same must hold on every route."""
    data = _data(recipe.ranks)
    model = recipe.build(Context(data, N_FACTORS, None), {})
    model.set_interactions(data.interactions)

    def lacking(ask: Callable[[], Any]) -> bool:
        try:
            ask()
        except Unsupported:
            return True
        return False
    row, form = torch.ones(1, dtype=torch.int64), model.dot_form()
    lacks = {f"{side}_{kind}" for side in ("user", "item") for kind, own in (("factors", model.factors),
                                                                              ("biases", model.biases))
             if lacking(lambda own=own, side=side: own(side))}
    lacks |= {f"similar_{side}s" for side in ("user", "item") if lacking(lambda side=side: model.similarity(side))}
    lacks |= {"probabilities"} if lacking(lambda: model.probabilities(row, row)) else set()
    lacks |= {"new_people"} if form is None and lacking(lambda: model.score_new(row, row.float())) else set()
    lacks |= ({"errors"} if recipe.ranks else set()) | (set() if model.takes_users else {"add_ratings"})
    return lacks | (PRODUCT if form is None else set()) | (STEPS if model.solved else set())


CASES = {name: _case(name) for name in (*RECIPES, *(name for name in LACKS if name not in RECIPES))}
