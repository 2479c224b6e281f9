"""Ensembles of learners: snapshots along one fit, or several fits, combined into one learner."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DataError, warn
from ..losses import RatingCrossEntropy, mse
from ..models.embedding import EmbeddingDot, EmbeddingDotBias
from ..models.ensemble import Ensemble
from ..models.ensemble import fold as fold_models
from ..models.rank_ensemble import RankEnsemble, moments
from ..models.remembered import RememberingModel
from ..retrieval.topk import MAX_SCORES, cross_scores
from ..train.callbacks.loss_terms import loss_terms_of
from ..train.callbacks.snapshots import Snapshots
from .collab_learner import CollabLearner
from .settings import added_cbs, name_of, training_cbs


class SnapshotEnsemble(Snapshots):
    """The mean of the snapshots at the end of every cycle of `fit_sgdr`, or of every so many epochs of another fit: see
    `Snapshots`. The last `n` are taken, None being all of them; `fold` as in `combine`.
    `learn.fit_sgdr(4, cycle_len=3, cycle_mult=1, cbs=SnapshotEnsemble())` has four of three epochs each."""

    def __init__(self, n: int | None = None, every: int | None = None, fold: bool | None = None):
        super().__init__(partial(combine, fold=fold), n, every=every)


def combine(models: Sequence[nn.Module], fold: bool | None = None) -> nn.Module:
    """The mean of the models: dot models are folded into one (`models.ensemble.fold`: the mean before the sigmoid),
    others become an `Ensemble` (the mean after it), unless `fold` says which.

    Raises ValueError for models that cannot be combined so."""
    folds = _all_dot(models) if fold is None else fold
    return fold_models(models) if folds else Ensemble(models)


def average_learners(learners: Sequence[CollabLearner], fold: bool | None = None) -> CollabLearner:
    """One learner that predicts with the mean of copies of the learners' models, which differ in their seed, say.

    Where one of them ranks (it was trained with an objective, or is an "als", say), so does the mean: a `RankEnsemble`
    of standardised scores, or, of dot models that all have one objective, the mean of their scores. An objective
    that a file did not hold is not known to be that of the others.
    Over the data of the first, which the others must share: a rating that one of them trained on says nothing about the
    whole, and other training rows are warned of. Its settings are those of the first too, without its history; its
    loss is the mean squared error where the models are of several classes. Another loss, other terms and callbacks are
    not taken along, which is warned of. `fold` as in `combine`.
    Raises ValueError for no learners or models that cannot be combined, DataError for other users or items, and for
    other training rows where a model scores from them (`EASE`, `InfiniteAE`, `SoftmaxNet`, `SVDpp`)."""
    if isinstance(learners, CollabLearner) or not learners:
        raise ValueError("there are no learners to average: give a list of them")
    first, models = learners[0], [copy.deepcopy(learn.model) for learn in learners]
    for other in learners[1:]:
        if other.data.users != first.data.users or other.data.items != first.data.items:
            raise DataError("the learners know different users or items; train them over one CollabDataBunch")
        if any(a.shape != b.shape or not torch.equal(a.to(b.device), b)
               for a, b in zip(other.data.train.tensors, first.data.train.tensors)):
            if any(isinstance(m, RememberingModel) or getattr(m, "needs_interactions", False) for m in models):
                raise DataError("the learners were trained on different rows, and some of their models score from "
                                "these; train them over one CollabDataBunch")
            warn("the learners were trained on different rows: what one of them has seen says nothing about their "
                 "mean; train them over one CollabDataBunch")
    learn = _mean(learners, models, fold)
    learn.lost = list(dict.fromkeys(what for other in learners for what in other.lost))
    learn.model.eval()      # nothing is to be switched where several threads look
    return learn


def _mean(learners: Sequence[CollabLearner], models: list[nn.Module], fold: bool | None) -> CollabLearner:
    first, ranks = learners[0], any(learn.ranks for learn in learners)
    objectives = {None if learn.objective is None else repr(learn.objective) for learn in learners}
    lost = any(learn.ranks and learn.objective is None for learn in learners)
    folds = _all_dot(models) and len(objectives) == 1 and not lost if fold is None else fold
    if not folds and ranks:
        return CollabLearner(first.data, _standardised(models, first), no_loss, metrics=[], seed=first.seed)
    loss = first.loss_func if len({type(model) for model in models}) == 1 else mse
    if left := _not_taken(learners, loss):
        warn(f"the mean of the learners is trained further without {', '.join(left)}; set its loss_func, and add the "
             "others: learn.add_cbs(...)")
    mean: Any = combine(models, folds)
    if ranks and first.objective is None:
        mean.predicts_ratings = False       # as `load_learner` marks one whose objective is not known
    return CollabLearner(first.data, mean, loss, first.opt_func, lr=first.lr, wd=first.wd,
                         metrics=copy.deepcopy(first.scores.metrics), seed=first.seed, cbs=training_cbs(first))


def _not_taken(learners: Sequence[CollabLearner], loss: Callable) -> list[str]:
    """In words, the losses, terms and callbacks of the learners that are not those of their mean."""
    names = [f"the loss {name_of(learn.loss_func)}" for learn in learners if learn.loss_func is not loss
             and learn.objective is None and not isinstance(learn.loss_func, RatingCrossEntropy)]
    names += [f"the term {term!r}" for learn in learners for term in loss_terms_of(learn.cbs).values()
              if repr(term) not in map(repr, loss_terms_of(learners[0].cbs).values())]
    names += [f"the callback {name}" for learn in learners for name in added_cbs(learn)]
    return list(dict.fromkeys(names))


def no_loss(pred: Tensor, target: Tensor) -> Tensor:
    """The loss of a `RankEnsemble`, which has none: NaN, and TypeError where it is to be trained by it."""
    if not pred.requires_grad:
        return pred.new_full((), torch.nan)
    raise TypeError("a mean of rankings has no loss: train its members, and see with evaluate(learn) how well the "
                    "whole ranks")


def _all_dot(models: Sequence[nn.Module]) -> bool:
    return all(type(m) in (EmbeddingDot, EmbeddingDotBias) for m in models)


@torch.no_grad()
def _standardised(models: Sequence[nn.Module], first: CollabLearner) -> RankEnsemble:
    """The ensemble, with each user's scores of all known items measured, MAX_SCORES of them at a time."""
    ensemble = RankEnsemble(models, first.data.n_users).to(first.device).eval()
    items = torch.arange(1, first.data.n_items, device=first.device)
    users = torch.arange(first.data.n_users, device=first.device)
    for row, model in enumerate(ensemble.members):
        cross = cross_scores(model)
        for some in users.split(max(1, MAX_SCORES // max(1, len(items)))):
            ensemble.centre[row, some], ensemble.spread[row, some] = moments(cross(some, items).float())
    return ensemble
