"""What is said where a model's ratings have a higher error than mean and biases alone: by how much, why, what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..loaders import in_blocks
from ..metrics import rmse
from ..models.als import ALS
from ..models.baseline import BiasBaseline
from ..models.embedding import EmbeddingDotBias
from ..models.plain import as_collab

TOLERANCE = 0.001       # share of the biases' error: a smaller excess does not matter in use
MIN_ROWS = 100          # ratings of known users and items: with fewer, nothing is said
CHANCE = 2.0            # standard errors: an excess that is smaller may be chance
CLOSER = 0.02           # share of the biases' error on training ratings: fitting these closer by less is as good as not
SAMPLE = 1 << 16        # training ratings, evenly spaced, that are predicted to tell why
OTHERS = {"dot_bias": EmbeddingDotBias, "als_explicit": ALS}
"""The models of ratings that stay behind biases least often (docs/results.md)."""


class Predictor(Protocol):
    """A learner whose rating errors can be measured."""

    @property
    def data(self) -> CollabDataBunch: ...

    @property
    def model(self) -> nn.Module: ...

    @property
    def ranks(self) -> bool: ...

    @property
    def shown_range(self) -> tuple[float, float] | None: ...

    def untouched(self) -> AbstractContextManager[object]: ...

    def clip(self, scores: Tensor) -> Tensor: ...

    def get_preds(self, batches: Any = None) -> tuple[Tensor, Tensor]: ...


class Beside(NamedTuple):
    """The RMSE of a model beside that of mean and biases, on `n` ratings. With d_u the model's squared errors less
    those of biases, summed over the ratings of user u among the `n_known` whose user and item were trained on: `excess`
    is the sum of d_u, `squares` that of d_u^2, whose root is the standard error of `excess`. Over users, since the
    errors of one user's ratings go together (Liang & Zeger 1986)."""

    rmse: float
    of_biases: float
    n: int
    n_known: int
    excess: float
    squares: float

    @classmethod
    def of(cls, data: CollabDataBunch, users: Tensor, items: Tensor, *, preds: Tensor, biases: Tensor,
           targets: Tensor) -> Beside:
        """From rows, predictions by both, and ratings, each (n,) on the CPU. An unknown user or item is one of whom no
        model knows anything; where all ratings are equal, none counts."""
        known = data.trained["user"][users] & data.trained["item"][items] & (targets.min() < targets.max())
        difference = ((preds.double() - targets).square() - (biases.double() - targets).square())[known]
        by_user = torch.zeros(data.n_users, dtype=torch.float64).index_add_(0, users[known], difference)
        return cls(float(rmse(preds, targets)), float(rmse(biases, targets)), len(targets), len(difference),
                   float(by_user.sum()), float(by_user.square().sum()))

    @classmethod
    def pooled(cls, folds: Sequence[Beside]) -> Beside:
        """Of several parts: means of the RMSEs, sums of the rest. A user of several parts counts as one in each, since
        different learners predict them."""
        return cls(*(sum(column) / (len(folds) if k < 2 else 1) for k, column in enumerate(zip(*folds))))

    @property
    def worse(self) -> bool:
        """Whether the model's error is the higher one: by more than 0.1%, on at least 100 ratings of known users and
        items, on which it is higher by more than two standard errors: sum d_u > 2 sqrt(sum d_u^2)."""
        return (self.n_known >= MIN_ROWS and self.rmse > (1 + TOLERANCE) * self.of_biases
                and self.excess > CHANCE * math.sqrt(self.squares))


def remark(learn: Predictor, baseline: BiasBaseline, beside: Beside, where: str) -> str | None:
    """What to say of a model that is worse than `baseline`, the mean and biases of its training ratings; None where
    it is not. `where` names the ratings: "on these 2,000 ratings".

    The remedy depends on the errors on training ratings, which are measured here, on at most 65,536 of them: a model
    that does not fit them closer than biases do has been trained too little, any other one too much."""
    model = as_collab(learn.model)
    if not beside.worse or isinstance(model, BiasBaseline):
        return None
    fit, of_biases = _on_training(learn, baseline)
    if fit > (1 - CLOSER) * of_biases:
        why = "it has learned too little"
        remedy = ("Solve it with more sweeps or less regularisation" if model.solved else
                  "Train for more epochs, with the default learning rate and weight decay")
    else:
        rounds = "sweeps" if model.solved else "epochs"
        others = [name for name, kind in OTHERS.items() if type(model) is not kind]
        why = f"it fits these too closely, and more {rounds} or factors are unlikely to help"
        remedy = ("Try " + ("a stronger regularisation" if model.solved else
                            "the default learning rate and weight decay, a stronger decay")
                  + f", fewer factors or another model ({', '.join(others)})")
    return (f"{model.kind} has an RMSE of {beside.rmse:.4g} {where}, and mean and biases alone have "
            f"{beside.of_biases:.4g}. On training ratings the two have {fit:.4g} and {of_biases:.4g}: {why}. {remedy}. "
            "If nothing helps, the ratings are too few or too noisy for more than biases, and these are the better "
            "model (BiasBaseline)")


def _on_training(learn: Predictor, baseline: BiasBaseline) -> tuple[float, float]:
    """RMSE of the learner and of the biases on training ratings."""
    train = learn.data.train
    step, first, parts = math.ceil(train.n / SAMPLE), 0, []
    for block in in_blocks(train):
        parts.append([t[first::step] for t in block])
        first = (first - len(block[0])) % step          # of the next block
    users, items, ratings = map(torch.cat, zip(*parts))
    some = TensorBatches(users, items, ratings, bs=8192, device=train.device, shape=train.shape)
    preds, targets = learn.get_preds(some)
    return float(rmse(preds, targets)), float(rmse(learn.clip(baseline(users.cpu(), items.cpu())), targets))
