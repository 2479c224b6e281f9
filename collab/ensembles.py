"""Ensembles of learners: snapshots along one fit, or several fits, combined into one learner."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

from torch import nn

from .data.schema import DataError
from .learner import CollabLearner
from .losses import mse
from .models.embedding import EmbeddingDot, EmbeddingDotBias
from .models.ensemble import Ensemble
from .models.ensemble import fold as fold_models
from .train.snapshots import Snapshots


class SnapshotEnsemble(Snapshots):
    """The mean of the snapshots at the end of every cycle of `fit_sgdr`, or of every so many epochs of another fit: see
    `Snapshots`. The last `n` are taken, None being all of them; `fold` as in `combine`.
    `learn.fit_sgdr(4, cycle_len=3, cycle_mult=1, cbs=SnapshotEnsemble())` has four of three epochs each."""

    def __init__(self, n: int | None = None, every: int | None = None, fold: bool | None = None):
        super().__init__(partial(combine, fold=fold), n, every)


def combine(models: Sequence[nn.Module], fold: bool | None = None) -> nn.Module:
    """The mean of the models: dot models are folded into one (`models.ensemble.fold`: the mean before the sigmoid),
    others become an `Ensemble` (the mean after it), unless `fold` says which.

    Raises ValueError for models that cannot be combined so."""
    folds = all(type(m) in (EmbeddingDot, EmbeddingDotBias) for m in models) if fold is None else fold
    return fold_models(models) if folds else Ensemble(models)


def average_learners(learners: Sequence[CollabLearner], fold: bool | None = None) -> CollabLearner:
    """One learner that predicts with the mean of copies of the learners' models, which differ in their seed, say.

    Over the data of the first, which the others must share: a rating that one of them trained on is no test of the
    whole. Its settings are those of the first too, without its callbacks and history; its loss is the mean squared
    error where the models are of several classes. `fold` as in `combine`.
    Raises ValueError for no learners or models that cannot be combined, such as "als" and "ease", whose scores are no
    ratings, DataError for other users or items."""
    if not learners:
        raise ValueError("there are no learners to average")
    first = learners[0]
    for model in (learn.model for learn in learners):
        if not getattr(model, "predicts_ratings", True):
            raise ValueError(f"the scores of {type(model).__name__} are no ratings, and this learner would clip them")
    for other in learners[1:]:
        if other.data.users != first.data.users or other.data.items != first.data.items:
            raise DataError("the learners know different users or items; train them over one CollabDataBunch")
    model = combine([copy.deepcopy(learn.model) for learn in learners], fold)
    one_class = len({type(learn.model) for learn in learners}) == 1
    return CollabLearner(first.data, model, first.loss_func if one_class else mse, first.opt_func, first.lr, first.wd,
                         copy.deepcopy(first.scores.metrics), seed=first.seed)
