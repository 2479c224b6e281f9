"""collab_learner and load_learner: a learner from data and a model's name, or from a file."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.databunch import CollabDataBunch
from ..errors import DataError, renamed, warn
from ..evaluate.ranking_metrics import RankingMetrics
from ..files import reading
from ..loaders import blocks_of
from ..losses import mse
from ..metrics import MAE, RMSE
from ..models.base import CollabModel
from ..models.layers import Range
from ..models.plain import as_collab
from ..train.callback import Callback, Cbs, as_list
from ..train.callbacks.loss_terms import LossTerms, Term
from ..train.callbacks.steps import Threads
from ..train.learner import MetricLike
from ..train.optim import Hyper, OptFunc, adamw, check_hyper, sets
from ..train.row_adagrad import RowAdagrad
from .collab_learner import CollabLearner, no_data
from .evidence import look_at
from .export import load_parts, load_weights
from .objectives import OBJECTIVES, Objective, objective
from .recipes import ROW_RATE, Context, Options, Recipe, is_dot_product, rate_plan, rates, recipe_named, recipe_of
from .ridge import Ridge
from .settings import LOSSES, OPTIMIZERS, TERMS, Loss
from .tile_order import MANY_ROWS, TileOrder
from .window_order import WindowOrder, check_order

MANY_BATCHES = 1000     # per epoch, where each batch costs as much as all ratings
NOT_KEPT = "not known, since the file is of a version that did not keep it"
SMALL_BATCH = 4096      # up to this size batches gain nothing from a second thread


def collab_learner(data: CollabDataBunch, model: str | nn.Module = "dot_bias", n_factors: int | None = None, *,
                   y_range: Range | str | None = "auto", loss_func: Loss | Objective | str | None = None,
                   opt_func: OptFunc | None = None, lr: float | None = None, wd: float | None = None,
                   metrics: Iterable[MetricLike] | MetricLike | None = None, cbs: Cbs = None,
                   seed: int | None = None, loss_terms: Iterable[Term] | None = None,
                   **options: Any) -> CollabLearner:
    """A learner for ratings, or for ranking.

    - `model`: a name, or a module from (users, items) to scores, for which `n_factors` and `y_range` mean nothing.
      `n_factors` are by default 50, of "bayes" 10, of "sasrec" 64.
      For ratings: "dot_bias" (`EmbeddingDotBias`), "dot" (`EmbeddingDot`), "net" (`EmbeddingNet`), "classifier"
      (`RatingClassifier` over the training ratings, at most 101 levels), "svdpp" (`SVDpp`) and "hybrid" (`HybridNet`,
      for data with `user_features` or `item_features`); the last two multiply the matrix of all ratings in each batch,
      and want batches of 1,024 or more.
      Trained to rank: "bpr" (`EmbeddingDotBias`), "lightgcn" (`LightGCN`), "softmax" (`SoftmaxNet`) and "two_tower"
      (`TwoTower`), of which the last two read the data's features; and "sasrec" (`SASRec`), which reads histories in
      order of time (`split=leave_last(1)`). "softmax" is best with batches of some 16,384 and 30 epochs, "sasrec" with
      512 and 20, the others with 1,024.
      Solved in sweeps (see `Sweeps`), not trained: "als" (implicit `ALS`), "als_explicit", "bayes" (`BayesianFM`, which
      reads the data's features and also gives intervals; `likelihood="ordinal"` for levels), "ease" (`EASE`),
      "infinite_ae" (`InfiniteAE`) and a `SolvedModel` of your own; these take `loss_func` (a function of held-out
      scores and ratings), `metrics`, `cbs`, `seed` and `options`.
    - `y_range`: the range of a sigmoid over the scores: "auto" is `data.y_range`; None, and always "dot", is none.
    - `loss_func`: "mse", "mae", "huber", or a function of (predictions, targets) that is a mean over rows. Or a ranking
      objective, by name or as a callback with options of its own: "bpr" (`BPR`), "logistic" (`Logistic`), "softmax"
      (`InBatchSoftmax`), "sampled_softmax" (`SampledSoftmax`), "full_softmax" (`FullSoftmax`). Scores are then raw,
      without a y_range. By default the model's own: "bpr" for implicit data, `RatingCrossEntropy` for a classifier,
      otherwise "mse".
    - `opt_func`: an optimizer class of torch, a partial of one, or a function of parameter groups; by default AdamW
      and, for "dot_bias" at its default rates, the one of `rate_plan`.
    - `options`: arguments of the model's class, such as `hidden=[100, 50]` for "net" or `reg=50.0` for "als".
    - `loss_terms`: terms added to the loss in training, such as [L2(0.1), Gravity(1.0)] (see `LossTerms`).
    - `lr`, `wd`: "dot_bias" on ratings has by default a `Ridge` that is as strong as the ratings call for, and is
      trained by AdamW where ratings are few and batches many, otherwise by `RowAdagrad` (see `rate_plan`); a rate or a
      decay of your own, here, stands for AdamW with decoupled decay. Other models have by default the rates of their
      recipe for batches of 64 (5e-3 and no decay for another module), times sqrt(bs / 64) (the square-root rule:
      Malladi et al. 2022), up to a step's decay, lr * wd, of the whole weight; above 80,000 ratings less decay. With an
      `opt_func` of your own, `wd` is 0 by default, and its own settings are kept: both of
      `partial(SGD, lr=.5, weight_decay=1e-4)`, all of a function such as `lambda groups: Adam(groups, lr=1e-2)`.
    - `metrics`: by default RMSE and MAE, where scores are ratings, and `RankingMetrics()` where they rank; functions of
      (predictions, targets) and those of scikit-learn are called once an epoch, with all of them.
    - `cbs`: callbacks that stay with the learner.
    - `seed`: decides initial weights, the order of batches and dropout; by default the data's.

    On a CPU, batches of up to 4,096 train with one thread (`Threads`), but large data in tiles with two.
    Raises DataError for an explicit `y_range` that does not hold every training and validation rating, ValueError for
    an unknown name of a model or loss, or a loss or optimizer that does not fit the model, TypeError for an option that
    the model's class does not have, Unsupported for an optimizer, `lr`, `wd` or loss terms for a solved model."""
    if not isinstance(data, CollabDataBunch):
        raise no_data(data)
    check_hyper(lr=lr, wd=wd)
    if "terms" in options:
        renamed("terms=", "loss_terms=")
        if loss_terms is not None:
            raise TypeError("give loss_terms=, and not its old name terms= too")
        loss_terms = options.pop("terms")
    if seed is not None and not isinstance(seed, numbers.Integral):
        raise TypeError(f"seed must be a whole number or None, got {seed!r}")
    seed = data.seed if seed is None else int(seed)
    loss, ranking = _loss(loss_func)
    raw, ranks = ranking is not None or data.implicit, ranking is not None or (data.implicit and loss is None)
    module, recipe = _model(data, model, n_factors, y_range, raw, ranks, seed, options)
    part = as_collab(module)
    check_order(data, part)
    if part.solved:
        _check_solved(part, ranking, {"opt_func": opt_func, "lr": lr, "wd": wd, "loss_terms": loss_terms or None})
        if metrics is None:
            metrics = [] if part.ranks or data.implicit else [RMSE(), MAE()]
        return CollabLearner(data, module, loss, metrics=metrics, cbs=cbs, seed=seed)
    if loss is None and ranking is None:
        ranking = _own_objective(part, recipe, data.implicit)
    if isinstance(loss_func, str) and part.classes:
        raise ValueError(f"{part.kind} gives probabilities of ratings, and loss_func {loss_func!r} "
                         "compares scores; leave loss_func out, or train another model")
    watched = metrics if metrics is not None else [] if ranking or data.implicit else [RMSE(), MAE()]
    ridge: list[Callback] = []
    recipe_said = ""
    rate: Hyper | None = lr
    plain = loss in (None, mse) and ranking is None and not loss_terms and is_dot_product(part)
    own_ridge = any(isinstance(cb, Ridge) for cb in as_list(cbs))
    if recipe.ridge and plain and lr is wd is None and opt_func in (None, RowAdagrad):
        opt_func, rate, scale, recipe_said = rate_plan(data.train.n, data.train.bs, opt_func)
        wd, ridge = 0.0, [] if own_ridge else [Ridge(scale)]
        if (tables := part.dot_tables()) is not None:
            recipe_said += look_at(data, tables, start=isinstance(model, str))      # others keep their own start
    opt_func, (own_lr, own_wd) = opt_func or adamw, rates(recipe, data.train.n, data.train.bs)
    if rate is None and not sets(opt_func, "lr"):
        rate = ROW_RATE if opt_func is RowAdagrad else own_lr
    if wd is None and not sets(opt_func, "weight_decay"):
        wd = own_wd if opt_func is adamw and not own_ridge else 0.0
    learn = CollabLearner(data, module, loss, opt_func=opt_func, lr=rate, wd=wd,
                          metrics=watched, cbs=cbs, seed=seed)
    learn.add_cbs(ridge)
    learn.recipe = recipe_said
    if ranking is not None:
        learn.add_cbs([ranking, *([RankingMetrics()] if metrics is None and _can_rank(data) else [])])
    if terms := list(loss_terms or []):
        learn.add_cbs(LossTerms(*terms))
    learn.add_cbs(_order_or_thread(data, part, opt_func, learn.cbs))
    if part.multiplies_all and len(data.train) > MANY_BATCHES:
        warn(f"{part.kind} multiplies the matrix of all {data.train.n:,} training ratings in each "
             f"of an epoch's {len(data.train):,} batches; larger ones, such as bs="
             f"{2 ** math.ceil(math.log2(data.train.n / 100))}, are many times faster")
    _ = learn.opt       # made now, so that an optimizer that does not fit the model is refused before training
    return learn


def load_learner(path: str | Path, model: nn.Module | None = None,
                 device: torch.device | str | None = None) -> CollabLearner:
    """Load the learner that `export` wrote: it gives the same answers, to the bit. `learn.notes` holds the notes.

    It has no validation part, and the default metrics. A further fit starts with a fresh optimizer (that of the
    recipe), the learner's lr and wd, its ridge, its ranking objective and its loss terms `L2` and `Gravity`. The file
    holds no code: one warning names what it lacks, such as a loss, objective, loss term, metric, callback or `opt_func`
    of your own.
    Pass a model of your own class as `model`, built with the same arguments; the weights are loaded into it.

    Raises FileNotFoundError, DataError for another kind of file or a damaged one, or ValueError for weights that do not
    fit."""
    parts = load_parts(path, model, device)
    part = as_collab(parts.model)
    with reading(path):
        recipe = dict(parts.recipe)
        loss, ranking, lost = LOSSES.get(recipe["loss_func"]), recipe.pop("objective", None), recipe.pop("lost")
        terms = [TERMS[name](coeff) for name, coeff in recipe.pop("terms")]
        known = [objective(**ranking)] if ranking and ranking["name"] else []
        opt, ridge = OPTIMIZERS.get(recipe.pop("opt", None) or "", adamw), recipe.pop("ridge", None)
        why = recipe.pop("why", "" if part.solved else NOT_KEPT)
    if part.solved:
        recipe = {"seed": recipe["seed"]}
    rates_items = not (ranking or parts.data.implicit or part.ranks)
    if not part.solved:
        recipe["opt_func"] = opt
    learn = CollabLearner(parts.data, parts.model, **{**recipe, "loss_func": loss},
                          metrics=[RMSE(), MAE()] if rates_items else [],
                          cbs=[*known, *([LossTerms(*terms)] if terms else []), *([Ridge(ridge)] if ridge else []),
                               *([] if part.solved else _order_or_thread(parts.data, part, opt, []))])
    if ranking and not known:
        learn.lose_objective()
    load_weights(path, learn.model, parts.weights)      # last, so that row 0 too is what was written
    learn.notes, learn.lost, learn.recipe = parts.notes, lost, why
    learn.recorder.load_state_dict(parts.history)
    learn.model.eval()      # so that threads sharing it need not switch it
    if lost:
        warn(f"{path} does not hold {', '.join(lost)} of the learner that was exported; before a further fit set "
             "learn.loss_func and learn.opt_func, and add callbacks, loss terms and objectives: learn.add_cbs(...)")
    return learn


def _order_or_thread(data: CollabDataBunch, part: CollabModel, opt_func: OptFunc | None,
                     cbs: Iterable[Callback]) -> list[Callback]:
    """A callback that arranges data that are large, for an optimizer that does not mind the order, in two tracks; or
    one that trains small batches on a CPU with a single thread. For a model that reads windows, one that keeps these
    together."""
    large = data.train.n >= MANY_ROWS and data.device.type == "cpu" and opt_func is RowAdagrad
    if not part.window and (large or any(isinstance(cb, TileOrder) for cb in cbs)):
        return [] if any(isinstance(cb, TileOrder) for cb in cbs) else [TileOrder()]
    windows: list[Callback] = [WindowOrder()] if part.window else []
    small = data.device.type == "cpu" and data.train.bs <= SMALL_BATCH
    return windows + ([Threads(1)] if small and not any(isinstance(cb, Threads) for cb in cbs) else [])


def _loss(given: Loss | Objective | str | None) -> tuple[Loss | None, Objective | None]:
    """A loss of (predictions, targets), or a ranking objective; None where none is given."""
    if isinstance(given, str):
        if given in OBJECTIVES:
            return None, objective(given)
        if given not in LOSSES:
            raise ValueError(f"loss_func {given!r} is not one of {', '.join((*LOSSES, *OBJECTIVES))}; instead "
                             "of a name, you can pass a function")
        return LOSSES[given], None
    return (None, given) if isinstance(given, Objective) else (given, None)


def _can_rank(data: CollabDataBunch) -> bool:
    """Whether the validation part has anything to find for a known user."""
    blocks = blocks_of(data.valid)
    return blocks is not None and any(bool(((users > 0) & (items > 0)).any()) for users, items, _ in blocks())


def _model(data: CollabDataBunch, given: str | nn.Module, n_factors: int | None, y_range: Range | str | None, raw: bool,
           ranks: bool, seed: int, options: Options) -> tuple[nn.Module, Recipe]:
    """The given model, or one built by its name, whose scores are `raw` or train to rank, and the recipe that trains
    it."""
    if not isinstance(given, str):
        if options:
            raise TypeError(f"{', '.join(options)}: options are for a model that is built by its name; "
                            f"{type(given).__name__} is built already")
        part = as_collab(given)
        return given, recipe_of(part, raw or part.ranks or part.default_loss in OBJECTIVES)
    recipe = recipe_named(given)
    n_factors = recipe.n_factors if n_factors is None else n_factors
    if not isinstance(n_factors, numbers.Integral) or n_factors < 1:
        raise ValueError(f"n_factors must be a whole number, at least 1, got {n_factors!r}")
    limits = None if (raw or recipe.ranks) and isinstance(y_range, str) else _check_range(data, y_range)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)       # the CPU's alone; torch.manual_seed would seed the GPUs' too
        return recipe.build(Context(data, int(n_factors), limits, ranks or recipe.ranks), options), recipe


def _check_solved(part: CollabModel, ranking: Objective | None, given: dict[str, object]) -> None:
    """Raise Unsupported for arguments that a solved model does not take."""
    if said := [name for name, value in given.items() if value is not None]:
        its = "regularisation is reg," if "reg" in part.config else "options are"
        raise part.lacks(f"is solved, not trained step by step, and takes no {' and no '.join(said)}; its {its} given "
                         "when the model is built")
    if ranking is not None:
        raise part.lacks(f"is solved, and has its own objective; it takes no {ranking}")


def _own_objective(part: CollabModel, recipe: Recipe, implicit: bool) -> Objective | None:
    """The objective of a model that ranks where no loss is given: its own, or BPR; None for ratings."""
    if part.default_loss in OBJECTIVES:
        return objective(part.default_loss, **recipe.objective)
    if part.classes or not (implicit or recipe.ranks):
        return None
    return objective("bpr", **recipe.objective)


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
        outside = [ratings[(ratings < low) | (ratings > high)] for _, _, ratings in (blocks_of(part) or tuple)()]
        if n := sum(map(len, outside)):
            first = next(some for some in outside if len(some))[0].item()
            raise DataError(f"{n:,} of {part.n:,} {name} ratings lie outside y_range ({low:g}, {high:g}), such as "
                            f"{first:g}; a sigmoid onto it cannot reach them. y_range='auto' is {data.y_range}")
    return low, high
