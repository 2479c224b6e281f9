"""ClosedFormLearner: the learner's face for models that are solved, not trained step by step."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..data.databunch import CollabDataBunch
from ..losses import mse
from ..models.solved import SolvedModel
from ..retrieval.topk import CrossScores
from ..train.callback import Callback, scope
from ..train.optim import Hyper
from .collab_learner import CollabLearner


def preference_error(pred: Tensor, target: Tensor) -> Tensor:
    """The mean of (1 - score)^2 over held-out pairs: a model of preferences would give what was chosen a 1."""
    return (1 - pred).square().mean()


class ClosedFormLearner(CollabLearner):
    """A CollabLearner for a `SolvedModel`, such as `ALS` or `EASE`: an epoch is one sweep over all training rows.

    Everything else is as usual: callbacks, the table of epochs, `recommend`, `save` and `load`, `export`. `train_loss`
    is the model's objective divided by the number of training ratings. Scores of a model that predicts no ratings are
    not clipped to their scale, and its `valid_loss` is `preference_error`. Ctrl-C leaves the weights of the last whole
    sweep. What schedules or freezes has nothing to act on, and raises TypeError."""

    model: SolvedModel

    def __init__(self, data: CollabDataBunch, model: SolvedModel, loss_func: Any = None, metrics: Any = None,
                 cbs: Iterable[Callback] | Callback | None = None, seed: int | None = None):
        loss = loss_func or (mse if model.predicts_ratings else preference_error)
        super().__init__(data, model, loss, lr=0.0, wd=0.0, metrics=metrics, cbs=cbs, seed=seed)
        self.prepared: Any = None       # the training rows as the model wants them, while a fit runs
        users, items, ratings = data.train.tensors
        model.remember(users, items, ratings, data.n_users)

    def fit(self, n_epochs: int | None = None, lr: Hyper | None = None, wd: Hyper | None = None,
            cbs: Iterable[Callback] | Callback | None = None, resume: str | Path | None = None) -> None:
        """Solve in `n_epochs` sweeps, by default as many as the model says (`n_sweeps`); a further fit goes on from
        there. A model that one sweep solves exactly, such as EASE, gets no more than one.

        `cbs` and `resume` are those of `Learner.fit`. Raises TypeError for an `lr` or `wd`: there are none."""
        if lr is not None or wd is not None:
            raise TypeError(f"{type(self.model).__name__} is solved, not trained step by step: it has no lr and no wd; "
                            "its regularisation is given when the model is built")
        if n_epochs is None:
            n_epochs = self.model.n_sweeps
        elif self.model.n_sweeps == 1 and n_epochs > 1:
            n_epochs = 1
        super().fit(n_epochs, cbs=cbs, resume=resume)

    def _fit(self) -> None:
        self.prepared = None        # of a fit that was cut off
        try:
            super()._fit()
        finally:
            self.prepared = None

    @cached_property
    def opt(self) -> torch.optim.Optimizer:
        """A stand-in that takes no steps: it has the model's parameters and a learning rate of 0."""
        groups = [{"params": list(self.model.parameters()), "name": "all", "decay": 1.0}]
        return Solved(groups, {"lr": 0.0, "weight_decay": 0.0})

    def _go_over(self, batches: Any, training: bool) -> None:
        super()._go_over([batches.tensors] if training else batches, training)      # all rows are one batch

    def _batch(self) -> None:
        self._sweep() if self.training else super()._batch()

    @scope("batch")
    def _sweep(self) -> None:
        if self.prepared is None:
            users, items = self.xb
            self.prepared = self.model.prepare(users, items, self.yb)
        self.model.sweep(self.prepared)
        self.loss = torch.tensor(self.model.loss(self.prepared) / len(self.yb), dtype=torch.float64)
        self.run.emit("after_loss")

    def _over(self, data: CollabDataBunch, model: Any) -> ClosedFormLearner:
        return type(self)(data, model, self.loss_func, copy.deepcopy(self.scores.metrics), seed=self.seed)

    def _likeness(self, is_item: bool) -> CrossScores:
        own: CrossScores | None = getattr(self.model, "similarity" if is_item else "user_similarity", None)
        return super()._likeness(is_item) if own is None else own

    def similar_items(self, item: Hashable, n: int = 10, min_ratings: int = 5) -> Any:
        """The `n` items most like one: rank, item, title, score. The score is the cosine of the factors; of a model
        with a `similarity` of its own, such as EASE, it is that: what the one adds to the score of the other.

        Items with fewer than `min_ratings` training ratings are left out."""
        return super().similar_items(item, n, min_ratings)

    # What has nothing to act on --------------------------------------------------------------------------------

    def _refuse(self, name: str) -> NoReturn:
        raise TypeError(f"{name} needs a model trained step by step, but {type(self.model).__name__} is solved: "
                        "call learn.fit()")

    def fit_one_cycle(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("fit_one_cycle")

    def fit_sgdr(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("fit_sgdr")

    def fit_flat_cos(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("fit_flat_cos")

    def lr_find(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("lr_find")

    def freeze_to(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("freeze_to")

    def unfreeze(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("unfreeze")


class Solved(torch.optim.Optimizer):
    """Holds the parameters where an optimizer is expected; it is never asked for a step."""
