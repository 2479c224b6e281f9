"""collab_learner and load_learner: a learner from data and a model's name, or from a file."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.databunch import CollabDataBunch
from ..data.features import Features
from ..errors import DataError, warn
from ..evaluate.ranking_metrics import RankingMetrics
from ..files import reading
from ..losses import RatingCrossEntropy, mse
from ..metrics import MAE, RMSE
from ..models.als import ALS
from ..models.classifier import RatingClassifier
from ..models.ease import EASE
from ..models.embedding import EmbeddingDot, EmbeddingDotBias, EmbeddingNet, Range
from ..models.ensemble import Ensemble
from ..models.hybrid import HybridNet, Known
from ..models.infinite_ae import InfiniteAE
from ..models.rank_ensemble import RankEnsemble
from ..models.softmax import SoftmaxNet
from ..models.solved import SolvedModel
from ..models.svdpp import SVDpp
from ..models.two_tower import TwoTower
from ..train.callback import Callback
from ..train.callbacks.loss_terms import LossTerms, Term
from ..train.callbacks.steps import Threads
from ..train.optim import OptFunc, adamw, sets
from .closed_form import ClosedFormLearner
from .collab_learner import CollabLearner, no_data
from .ensembles import no_loss
from .export import load_parts, load_weights
from .objectives import OBJECTIVES, Objective, objective
from .settings import LOSSES, TERMS

NAMES = ("dot", "dot_bias", "net", "classifier", "svdpp", "hybrid", "als", "als_explicit", "ease", "infinite_ae", "bpr",
         "softmax", "two_tower")
RANKERS = ("bpr", "softmax", "two_tower")
MANY_BATCHES = 1000     # an epoch, for a model whose batches each cost as much as all ratings
SMALL_BATCH = 4096      # up to this size batches gain nothing from a second thread
RECIPES = {"dot": (1e-2, 0.02), "dot_bias": (5e-3, 0.3), "net": (5e-3, 0.1), "classifier": (4e-3, 0.45),
           "svdpp": (3.75e-3, 0.5), "hybrid": (3.75e-3, 0.5), "own": (5e-3, 0.0),
           "bpr": (2e-3, 0.25), "softmax": (1.9e-4, 0.006), "two_tower": (5e-3, 0.1)}
"""Model -> (lr, wd) for batches of 64, chosen on validation parts of MovieLens-100K's u1 training rows."""


def collab_learner(data: CollabDataBunch, model: str | nn.Module = "dot_bias", n_factors: int = 50,
                   y_range: Range | str | None = "auto", loss_func: Callable | str | None = None,
                   opt_func: OptFunc | None = None, lr: float | None = None, wd: float | None = None,
                   metrics: Any = None, cbs: Iterable[Callback] | Callback | None = None,
                   seed: int | None = None, terms: Iterable[Term] | None = None) -> CollabLearner:
    """A learner for ratings, or for ranking.

    - `model`: "dot_bias" (`EmbeddingDotBias`), "dot" (`EmbeddingDot`), "net" (`EmbeddingNet`), "classifier"
      (`RatingClassifier` over the training part's ratings, at most 101 levels), "svdpp" (`SVDpp`) or "hybrid"
      (`HybridNet`, for data with `user_features` or `item_features`), each with `n_factors`, the last two for batches
      of 1,024 and more, since each batch multiplies the matrix of all ratings; or any module from (users, items) to
      scores, for which `n_factors` and `y_range` mean nothing. "als" (implicit `ALS`), "als_explicit", "ease" (`EASE`)
      and "infinite_ae" (`InfiniteAE`) are solved, not trained, and give a `ClosedFormLearner`; so does a `SolvedModel`
      of your own options, such as `ALS(64, data.n_users, data.n_items, reg=50.)`. Of what follows, `loss_func` (a
      function of held-out scores and ratings), `metrics`, `cbs` and `seed` mean something to them.
      "bpr" (`EmbeddingDotBias`), "softmax" (`SoftmaxNet`) and "two_tower" (`TwoTower`), which read the features that
      the data have, are trained to rank: "softmax" best in batches of some 16,384 and 30 epochs, the others of 1,024.
    - `y_range`: what a sigmoid squashes scores onto: "auto" is `data.y_range`; None leaves them as they are, and "dot"
      always does.
    - `loss_func`: "mse", "mae", "huber", or a function of (predictions, targets) that is a mean over rows. Or a ranking
      objective, by name or as a callback with options of its own: "bpr" (`BPR`), "softmax" (`InBatchSoftmax`),
      "sampled_softmax" (`SampledSoftmax`), "full_softmax" (`FullSoftmax`). Scores are then raw, without a y_range. By
      default the model's own; of implicit data "bpr", of a classifier `RatingCrossEntropy`, otherwise "mse".
    - `opt_func`: an optimizer class of torch, a partial of one, or a function of parameter groups; by default AdamW.
    - `terms`: what is added to the loss in training, such as [L2(0.1), Gravity(1.0)] (see `LossTerms`).
    - `lr`, `wd`: by default the model's recipe for batches of 64 (5e-3 and no decay for a module of your own), times
      sqrt(bs / 64) for others (the square-root rule: Malladi et al. 2022), up to batches of some 40,000, from where on
      a step's decay, lr * wd, would be more than the whole weight. With an `opt_func` of your own, `wd` is 0 by
      default, and what it was given is kept: of `partial(SGD, lr=.5, weight_decay=1e-4)` both, of a function, such as
      `lambda groups: Adam(groups, lr=1e-2)`, everything.
    - `metrics`: by default RMSE and MAE, where scores are ratings, and `RankingMetrics()` where they rank; functions of
      (predictions, targets) and those of scikit-learn are called once an epoch, with all of them.
    - `cbs`: callbacks that stay with the learner.
    - `seed`: decides initial weights, the order of batches and dropout; by default the data's.

    On a CPU, batches of up to 4,096 train with one thread (`Threads`).
    Raises DataError for an explicit `y_range` that does not hold every training and validation rating, ValueError
    for the name of no model or loss, or a loss or an optimizer that does not fit the model, TypeError for an optimizer,
    `lr`, `wd` or terms where nothing is trained."""
    if not isinstance(data, CollabDataBunch):
        raise no_data(data)
    seed = data.seed if seed is None else seed
    loss, ranking = _loss(loss_func)
    ranks = ranking is not None or model in RANKERS or data.implicit
    limits = None if ranks and isinstance(y_range, str) else _check_range(data, y_range)
    if isinstance(model, str):
        module, name = _build(data, model, n_factors, limits, seed), model
    else:
        module, name = model, "own"
    if isinstance(module, SolvedModel):
        if given := [k for k, v in (("opt_func", opt_func), ("lr", lr), ("wd", wd), ("terms", terms or None))
                    if v is not None]:
            raise TypeError(f"{type(module).__name__} is solved, not trained step by step, and takes no "
                            f"{' and no '.join(given)}; its regularisation is reg, given when the model is built")
        if ranking is not None:
            raise TypeError(f"{type(module).__name__} is solved, and has its own objective; it takes no {ranking}")
        return _solver(data, module, loss, metrics, cbs, seed)
    usual = getattr(module, "objective", "bpr" if ranks and not getattr(module, "classes", False) else None)
    if loss is None and ranking is None and usual:
        ranking = objective(usual, **({"n_negatives": 4} if model == "bpr" else {}))
    if isinstance(loss_func, str) and getattr(module, "classes", None) is True:
        raise ValueError(f"{type(module).__name__} gives probabilities of ratings, and loss_func {loss_func!r} "
                         "compares scores; leave loss_func out, or train another model")
    watched = metrics if metrics is not None else [] if ranking or data.implicit else [RMSE(), MAE()]
    rate, decay = RECIPES[name]
    times = math.sqrt(min(data.train.bs / 64, 1 / (rate * decay) if decay else math.inf))
    opt_func = opt_func or adamw
    if lr is None and not sets(opt_func, "lr"):
        lr = rate * times
    if wd is None and not sets(opt_func, "weight_decay"):
        wd = decay * times if opt_func is adamw else 0.0
    learn = CollabLearner(data, module, loss or own_loss(module), opt_func, lr=lr, wd=wd,
                          metrics=watched, cbs=cbs, seed=seed)
    if ranking is not None:
        learn.add_cbs([ranking, *([RankingMetrics()] if metrics is None and _can_rank(data) else [])])
    if terms := list(terms or []):
        learn.add_cbs(LossTerms(*terms))
    learn.add_cbs(_one_thread(data))
    if getattr(module, "history", False) and len(data.train) > MANY_BATCHES:
        warn(f"{type(module).__name__} multiplies the matrix of all {data.train.n:,} training ratings in each "
             f"of an epoch's {len(data.train):,} batches; larger ones, such as bs="
             f"{2 ** math.ceil(math.log2(data.train.n / 100))}, are many times faster")
    _ = learn.opt       # made now, so that an optimizer that does not fit the model is refused before training
    return learn


def load_learner(path: str | Path, model: nn.Module | None = None,
                 device: torch.device | str | None = None) -> CollabLearner:
    """The learner that `export` wrote: the same answers, to the bit. `learn.notes` holds the notes.

    It has no validation part, and the usual metrics; a further fit begins with a fresh AdamW, at the lr and wd the
    learner had, and with its ranking objective and the terms `L2` and `Gravity` of its loss. What is not data is not in
    the file: a loss, objective, term, metric or callback of your own, and an `opt_func` with what it was given. One
    warning names what there was.
    A model of your own class is passed as `model`, built as it was; its weights are loaded into it.
    Raises FileNotFoundError, DataError for another kind of file or a damaged one, or ValueError for weights that do not
    fit."""
    parts = load_parts(path, model, device)
    with reading(path):
        recipe = dict(parts.recipe)
        loss, ranking, lost = LOSSES.get(recipe["loss_func"]), recipe.pop("objective", None), recipe.pop("lost")
        terms = [TERMS[name](coeff) for name, coeff in recipe.pop("terms")]
        known = [objective(**ranking)] if ranking and ranking["name"] else []
    learn: CollabLearner
    if isinstance(parts.model, SolvedModel):
        learn = _solver(parts.data, parts.model, loss, seed=recipe["seed"])
    else:
        rates = not ranking and not parts.data.implicit and not isinstance(parts.model, RankEnsemble)
        if ranking and not known:
            ranker: Any = parts.model
            ranker.predicts_ratings = False
        learn = CollabLearner(parts.data, parts.model, **{**recipe, "loss_func": loss or own_loss(parts.model)},
                              metrics=[RMSE(), MAE()] if rates else [],
                              cbs=[*known, *([LossTerms(*terms)] if terms else []), *_one_thread(parts.data)])
    load_weights(path, learn.model, parts.weights)      # last, so that row 0 too is what was written
    learn.notes, learn.lost = parts.notes, lost
    learn.recorder.load_state_dict(parts.history)
    learn.model.eval()      # nothing is to be switched where several threads look
    if lost:
        warn(f"{path} does not hold {', '.join(lost)} of the learner that was exported; before a further fit set "
             "learn.loss_func and learn.opt_func, and add callbacks, terms and objectives: learn.add_cbs(...)")
    return learn


def _one_thread(data: CollabDataBunch) -> list[Callback]:
    """What trains small batches on a CPU with a single thread."""
    return [Threads(1)] if data.device.type == "cpu" and data.train.bs <= SMALL_BATCH else []


def _solver(data: CollabDataBunch, model: SolvedModel, loss: Callable | None, metrics: Any = None, cbs: Any = None,
            seed: int | None = None) -> ClosedFormLearner:
    if metrics is None:
        metrics = [RMSE(), MAE()] if model.predicts_ratings and not data.implicit else []
    return ClosedFormLearner(data, model, loss, metrics=metrics, cbs=cbs, seed=seed)


def own_loss(model: nn.Module) -> Callable:
    """The loss that a model is trained with by default."""
    if isinstance(model, RankEnsemble):
        return no_loss
    if isinstance(model, RatingClassifier | Ensemble) and model.classes:
        return RatingCrossEntropy(model.levels.tolist())
    return mse


def _loss(given: Callable | Objective | str | None) -> tuple[Callable | None, Objective | None]:
    """A loss of (predictions, targets), or a ranking objective; None where none is given."""
    if isinstance(given, str):
        if given in OBJECTIVES:
            return None, objective(given)
        if given not in LOSSES:
            raise ValueError(f"loss_func {given!r} is not one of {', '.join((*LOSSES, *OBJECTIVES))}; a function is "
                             "passed as it is")
        return LOSSES[given], None
    return (None, given) if isinstance(given, Objective) else (given, None)


def _can_rank(data: CollabDataBunch) -> bool:
    """Whether the validation part has anything to find for a known user."""
    return data.valid is not None and bool(((data.valid.tensors[0] > 0) & (data.valid.tensors[1] > 0)).any())


def _build(data: CollabDataBunch, name: str, n_factors: int, limits: Range | None, seed: int) -> nn.Module:
    if not isinstance(n_factors, numbers.Integral) or n_factors < 1:
        raise ValueError(f"n_factors must be a whole number, at least 1, got {n_factors!r}")
    if name not in NAMES:
        raise ValueError(f"model {name!r} is not one of {', '.join(NAMES)}; a module of your own is passed as it is")
    sizes = n_factors, data.n_users, data.n_items
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)       # the CPU's alone; torch.manual_seed would seed the GPUs' too
        if name == "ease":
            return EASE(data.n_items)
        if name == "infinite_ae":
            return InfiniteAE(data.n_users, data.n_items)
        if name in ("als", "als_explicit"):
            return ALS(*sizes, implicit=name == "als")
        if name == "dot":
            return EmbeddingDot(*sizes)
        if name == "net":
            return EmbeddingNet(*sizes, y_range=limits)
        if name == "bpr":
            return EmbeddingDotBias(*sizes, init_std=0.1)
        if name == "dot_bias":
            return EmbeddingDotBias(*sizes, y_range=limits, mean=_inside(data.mean, limits))
        if name == "classifier":
            if data.scale is None:
                raise DataError("the ratings lie on more than 101 levels, too many for classes; train another model")
            levels, counts = torch.unique(data.train.tensors[2], return_counts=True)
            return RatingClassifier(*sizes, levels.tolist(), counts.tolist())
        both = data.train.tensors[0], data.train.tensors[1]
        if name == "svdpp":
            return SVDpp(*sizes, both, y_range=limits, mean=_inside(data.mean, limits))
        users, items = data.user_features, data.item_features
        if name == "softmax":
            kinds = [] if items is None else items.by_column()
            return SoftmaxNet(*sizes, both, kinds, [4] * len(kinds), (n_factors,) if kinds else (), leave_out=False,
                              drop=0.5, bag_power=0.5, tied=False, activation="tanh")
        known = [_known(users), _known(items)]
        if name == "two_tower":
            return TwoTower(*sizes, *known)
        if users is None and items is None:
            raise DataError("a hybrid model needs features: make the data with items=... and item_features='auto', or "
                            "the same for users")
        return HybridNet(*sizes, both, *known, y_range=limits, mean=_inside(data.mean, limits))


def _known(features: Features | None) -> Known | None:
    return None if features is None else (features.codes, features.weights, len(features.labels))


def _inside(mean: float, limits: Range | None) -> float:
    if limits is None:
        return mean
    margin = 0.01 * (limits[1] - limits[0])
    return min(max(mean, limits[0] + margin), limits[1] - margin)


def _check_range(data: CollabDataBunch, y_range: Range | str | None) -> Range | None:
    if y_range is None or (isinstance(y_range, str) and y_range == "auto"):
        return data.y_range if y_range else None
    try:
        low, high = (math.nan, math.nan) if isinstance(y_range, str) else map(float, y_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise DataError(f"y_range must be (low, high) with low < high, 'auto' or None, got {y_range!r}")
    for name, part in (("training", data.train), ("validation", data.valid)):
        if part is not None and (outside := (part.tensors[2] < low) | (part.tensors[2] > high)).any():
            raise DataError(f"{int(outside.sum()):,} of {part.n:,} {name} ratings lie outside y_range ({low:g}, "
                            f"{high:g}), such as {part.tensors[2][outside][0].item():g}; a sigmoid onto it cannot "
                            f"reach them. y_range='auto' is {data.y_range}")
    return low, high
