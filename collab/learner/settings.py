"""A learner's settings as a file keeps them, and the names of those it cannot keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from ..data.databunch import CollabDataBunch
from ..files import Config
from ..losses import RatingCrossEntropy, huber, mae, mse, no_loss, preference_error
from ..metrics import MAE, RMSE
from ..models.base import CollabModel
from ..models.penalties import L2, FactorTerm, Gravity
from ..train.callback import Callback
from ..train.callbacks.loss_terms import LossTerms, loss_terms_of
from ..train.callbacks.steps import Threads
from ..train.optim import OptFunc, adamw, per_group
from ..train.row_adagrad import RowAdagrad
from .objectives import OBJECTIVES, Objective, objective_name
from .recipes import rates, recipe_of
from .ridge import Ridge
from .tile_order import TileOrder
from .window_order import WindowOrder

if TYPE_CHECKING:
    from .collab_learner import CollabLearner

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {"mse": mse, "mae": mae, "huber": huber}
DEFAULTS: dict[str, Loss] = {"preference": preference_error, "none": no_loss}   # of models that are not trained
OPTIMIZERS: dict[str, OptFunc] = {"adamw": adamw, "row_adagrad": RowAdagrad}      # that a recipe chooses
TERMS: dict[str, type[FactorTerm]] = {term.name: term for term in (L2, Gravity)}
STANDARD = frozenset(("Seeded", "EpochStart", "Scores", "Recorder", "Progress", "AverageUnknown", "MeanYardstick",
                      "Distributed", "Reduction", "ShardedTables", "Sweeps", "Threads", "RankingMetrics",
                      "Ridge", "TileOrder", "WindowOrder"))
"""The classes of callbacks that a learner adds by itself, or that do nothing without a validation part."""


def default_loss(model: CollabModel) -> Loss:
    """The loss of a model where neither a loss nor an objective is given."""
    if model.default_loss == "cross_entropy":
        return RatingCrossEntropy(model.rating_levels().tolist())
    if model.default_loss in OBJECTIVES:
        return mse
    if model.default_loss not in (known := {**LOSSES, **DEFAULTS}):
        raise ValueError(f"{model.kind}.default_loss={model.default_loss!r} is not one of "
                         f"{', '.join((*known, 'cross_entropy', *OBJECTIVES))}")
    return known[model.default_loss]


def settings_of(learn: CollabLearner) -> Config:
    """The settings that `load_learner` makes a learner with: rates, seed, loss, objective and loss terms as JSON
    values, in "why" the recipe in words, and in "lost" the names of what a file cannot keep."""
    terms = loss_terms_of(learn.cbs).values()
    settings: Config = {
        "lr": per_group(learn.opt, learn.lr) if isinstance(learn.lr, slice) else learn.lr, "wd": learn.wd,
        "opt": next((name for name, opt_func in OPTIMIZERS.items() if learn.opt_func is opt_func), None),
        "ridge": next((cb.scale for cb in learn.cbs if isinstance(cb, Ridge)), None),
        "why": learn.recipe, "seed": learn.seed,
        "loss_func": name_of(learn.loss_func) if _is_known(learn.loss_func) else None,
        "terms": [[t.name, t.coeff] for t in terms if isinstance(t, FactorTerm) and _is_data(t)],
        "lost": _lost(learn)}
    if learn.objective is not None:
        settings["objective"] = {"name": objective_name(learn.objective), **learn.objective.config}
    elif learn.unknown_objective:
        settings["objective"] = {"name": None}
    return settings


def training_cbs(learn: CollabLearner) -> list[Callback]:
    """Callbacks that train another learner like this one: with its objective, loss terms, threads, ridge and order."""
    objective, terms = learn.objective, loss_terms_of(learn.cbs).values()
    return [*([] if objective is None else [type(objective)(**objective.config)]),
            *([LossTerms(*terms)] if terms else []), *(Threads(cb.n) for cb in learn.cbs if isinstance(cb, Threads)),
            *(Ridge(cb.scale) for cb in learn.cbs if isinstance(cb, Ridge)),
            *(TileOrder() for cb in learn.cbs if isinstance(cb, TileOrder)),
            *(WindowOrder() for cb in learn.cbs if isinstance(cb, WindowOrder))]


def without_plan(model: CollabModel, ranks: bool, data: CollabDataBunch,
                 cbs: Iterable[Callback]) -> tuple[float, float, list[Callback]]:
    """How a model is trained that takes the place of a dot product with a `RatePlan`: (lr, wd) of AdamW by its own
    recipe, and the callbacks without those of the plan."""
    lr, wd = rates(recipe_of(model, ranks), data.train.n, data.train.bs)
    return lr, wd, [cb for cb in cbs if not isinstance(cb, Ridge | TileOrder)]


def added_cbs(learn: CollabLearner) -> list[str]:
    """The class names of callbacks that were added, objectives and loss terms aside."""
    return [type(cb).__name__ for cb in learn.cbs
            if not isinstance(cb, (LossTerms, Objective)) and type(cb).__name__ not in STANDARD]


def _lost(learn: CollabLearner) -> list[str]:
    """What a file cannot keep, and what the file that the learner came from did not keep, in words."""
    own = [] if _is_known(learn.loss_func) or learn.objective is not None else [f"the loss {name_of(learn.loss_func)}"]
    own += [] if learn.opt_func in OPTIMIZERS.values() else [f"opt_func {name_of(learn.opt_func)}"]
    own += [f"the loss term {name!r}" for name, term in loss_terms_of(learn.cbs).items() if not _is_data(term)]
    own += [f"the metric {m.name}" for m in learn.scores.metrics if type(m) not in (RMSE, MAE)]
    own += [f"the callback {name}" for name in added_cbs(learn)]
    if learn.objective is not None and objective_name(learn.objective) is None:
        own.append(f"the objective {type(learn.objective).__name__}")
    return list(dict.fromkeys([*own, *learn.lost]))


def _is_known(loss: Callable) -> bool:
    """Whether a loss is collab's own, which a file keeps by its name, or the default of the model."""
    name = name_of(loss)
    return isinstance(loss, RatingCrossEntropy) or LOSSES.get(name) is loss or loss in DEFAULTS.values()


def _is_data(term: object) -> bool:
    return type(term) in TERMS.values()


def name_of(of: Callable) -> str:
    of = of.func if isinstance(of, partial) else of
    return str(getattr(of, "__name__", type(of).__name__))
