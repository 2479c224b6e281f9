"""Ensembles of learners: snapshots along one fit, or several fits, combined into one learner."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from ..errors import DataError, renamed, warn
from ..losses import RatingCrossEntropy, mse, no_loss
from ..models.embedding import EmbeddingDot, EmbeddingDotBias
from ..models.ensemble import Ensemble, merge_dot_models
from ..models.plain import as_collab
from ..models.rank_ensemble import RankEnsemble, moments
from ..retrieval.topk import MAX_SCORES, cross_scores
from ..train.callbacks.loss_terms import loss_terms_of
from ..train.callbacks.snapshots import Snapshots
from ..train.optim import adamw
from .collab_learner import CollabLearner
from .recipes import is_dot_product
from .ridge import Ridge
from .settings import added_cbs, name_of, training_cbs, without_plan


class SnapshotEnsemble(Snapshots):
    """The mean of snapshots at the end of every cycle of `fit_sgdr`, or of every `every` epochs of another fit.

    It takes the last `n` snapshots, or all with None (see `Snapshots`); `merge` is that of `combine`.
    `learn.fit_sgdr(4, cycle_len=3, cycle_mult=1, cbs=SnapshotEnsemble())` takes four, three epochs apart."""

    def __init__(self, n: int | None = None, every: int | None = None, *, merge: bool | None = None,
                 fold: bool | None = None):
        super().__init__(partial(combine, merge=_merge(merge, fold)), n, every=every)


def combine(models: Sequence[nn.Module], *, merge: bool | None = None) -> nn.Module:
    """The mean of the models: dot models are merged into one (`merge_dot_models`: the mean before the sigmoid), others
    become an `Ensemble` (the mean after it), unless `merge` says which.

    Raises ValueError for models that cannot be combined that way."""
    merges = _all_dot(models) if merge is None else merge
    return merge_dot_models(models) if merges else Ensemble(models)


def _merge(merge: bool | None, fold: bool | None) -> bool | None:
    """`merge`, called `fold` in the previous version."""
    if fold is not None:
        renamed("fold=", "merge=")
    return merge if fold is None else fold


def average_learners(learners: Sequence[CollabLearner], *, merge: bool | None = None,
                     fold: bool | None = None) -> CollabLearner:
    """One learner that predicts with the mean of copies of the learners' models, which differ in their seed, say.

    If one of them ranks (trained with an objective, or an "als", say), so does the mean: a `RankEnsemble` of
    standardised scores or, for dot models with one common objective, the mean of their scores. An objective that a
    file lacks does not count as common.

    Data and settings are the first learner's, without its history; the loss is the mean squared error where models are
    of several classes. The others must share the data, since the whole cannot be measured on a rating that one of them
    trained on: other training rows are warned of, and so are losses, loss terms and callbacks that are not taken along.
    `merge` is that of `combine`.

    Raises ValueError for no learners or models that cannot be combined, DataError for other users or items, and for
    other training rows where a model scores from them (`EASE`, `InfiniteAE`, `SASRec`, `SoftmaxNet`, `SVDpp`)."""
    if isinstance(learners, CollabLearner) or not learners:
        raise ValueError("there are no learners to average: give a list of them")
    first, models = learners[0], [copy.deepcopy(learn.model) for learn in learners]
    for other in learners[1:]:
        if other.data.users != first.data.users or other.data.items != first.data.items:
            raise DataError("the learners know different users or items; train them over one CollabDataBunch")
        if any(a.shape != b.shape or not torch.equal(a.to(b.device), b)
               for a, b in zip(other.data.train.tensors, first.data.train.tensors)):
            if any(as_collab(m).keeps_interactions for m in models):
                raise DataError("the learners were trained on different rows, and some of their models score from "
                                "these; train them over one CollabDataBunch")
            warn("the learners were trained on different rows: what one of them has seen says nothing about their "
                 "mean; train them over one CollabDataBunch")
    learn = _mean(learners, models, _merge(merge, fold))
    learn.lost = list(dict.fromkeys(what for other in learners for what in other.lost))
    learn.model.eval()      # so that threads sharing it need not switch it
    return learn


def _mean(learners: Sequence[CollabLearner], models: list[nn.Module], merge: bool | None) -> CollabLearner:
    first, ranks = learners[0], any(learn.ranks for learn in learners)
    objectives = {None if learn.objective is None else repr(learn.objective) for learn in learners}
    lost = any(learn.ranks and learn.objective is None for learn in learners)
    merges = _all_dot(models) and len(objectives) == 1 and not lost if merge is None else merge
    if not merges and ranks:
        return CollabLearner(first.data, _standardised(models, first), no_loss, metrics=[], seed=first.seed)
    loss = first.loss_func if len({type(model) for model in models}) == 1 else mse
    if left := _not_taken(learners, loss):
        warn(f"the mean of the learners is trained further without {', '.join(left)}; set its loss_func, and add the "
             "others: learn.add_cbs(...)")
    made, cbs = combine(models, merge=merges), training_cbs(first)
    opt_func, lr, wd = first.opt_func, first.lr, first.wd
    if not is_dot_product(as_collab(made)) and any(isinstance(cb, Ridge) for cb in cbs):
        opt_func = adamw                    # the plan of a dot product is not for a mean of them
        lr, wd, cbs = without_plan(as_collab(models[0]), ranks, first.data, cbs)
    learn = CollabLearner(first.data, made, loss, opt_func=opt_func, lr=lr, wd=wd, seed=first.seed, cbs=cbs,
                          metrics=copy.deepcopy(first.scores.metrics))
    if ranks and first.objective is None:
        learn.lose_objective()
    return learn


def _not_taken(learners: Sequence[CollabLearner], loss: Callable) -> list[str]:
    """The losses, loss terms and callbacks of the learners that their mean lacks, in words."""
    names = [f"the loss {name_of(learn.loss_func)}" for learn in learners if learn.loss_func is not loss
             and learn.objective is None and not isinstance(learn.loss_func, RatingCrossEntropy)]
    names += [f"the loss term {term!r}" for learn in learners for term in loss_terms_of(learn.cbs).values()
              if repr(term) not in map(repr, loss_terms_of(learners[0].cbs).values())]
    names += [f"the callback {name}" for learn in learners for name in added_cbs(learn)]
    return list(dict.fromkeys(names))


def _all_dot(models: Sequence[nn.Module]) -> bool:
    return all(type(m) in (EmbeddingDot, EmbeddingDotBias) for m in models)


@torch.no_grad()
def _standardised(models: Sequence[nn.Module], first: CollabLearner) -> RankEnsemble:
    """The ensemble with the moments of each user's scores of all known items, MAX_SCORES at a time."""
    ensemble = RankEnsemble(models, first.data.n_users).to(first.device).eval()
    items = torch.arange(1, first.data.n_items, device=first.device)
    users = torch.arange(first.data.n_users, device=first.device)
    for row, model in enumerate(ensemble.members):
        cross = cross_scores(model)
        for some in users.split(max(1, MAX_SCORES // max(1, len(items)))):
            ensemble.centre[row, some], ensemble.spread[row, some] = moments(cross(some, items).float())
    return ensemble
