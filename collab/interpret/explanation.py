"""Explanation: one score taken apart."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import pandas as pd
import torch

from ..learner import CollabLearner
from ..models.als import ALS
from ..models.embedding import EmbeddingDot, EmbeddingDotBias
from ..models.svdpp import SVDpp


@dataclass(frozen=True)
class Explanation:
    """Why `user` gets `score` for `item`.

    `parts` are the summands of the score before the sigmoid, `logit`: mean, user bias, item bias, the factors that
    move it most, and the sum of the other factors; a frame with the columns part and value, or None for a model whose
    score is no sum. `nearest` are the items that the user rated, nearest by cosine first: id, title, rating, score."""

    user: Hashable
    item: Hashable
    title: str
    score: float
    logit: float | None
    parts: pd.DataFrame | None
    nearest: pd.DataFrame

    def __str__(self) -> str:
        name = f"{self.title} ({self.item})" if self.title else str(self.item)
        parts = "The score of this model is no sum of parts." if self.parts is None else \
            f"Before the sigmoid {self.logit:.3f}, the sum of\n{self.parts.round(3).to_string(index=False)}"
        return (f"User {self.user} and {name}: predicted {self.score:.2f}\n\n{parts}\n\n"
                f"Nearest among what the user rated\n{self.nearest.round(3).to_string(index=False)}")


def explain(learn: CollabLearner, user: Hashable, item: Hashable, n_factors: int = 5,
            n_nearest: int = 5) -> Explanation:
    """The explanation of one known user's score for one known item. Raises UnknownId for others."""
    u, i = learn.data.users[user], learn.data.items[item]
    model = learn.model
    score = learn.predict(user, item, unknown="error")
    parts = logit = None
    factorised = isinstance(model, (EmbeddingDot, EmbeddingDotBias, SVDpp, ALS))
    if factorised and getattr(model, "layers", None) is None:
        products = (learn.weight(user, is_item=False) * learn.weight(item)).double()
        summands = {}
        if not isinstance(model, EmbeddingDot) and getattr(model, "predicts_ratings", True):
            mean = model.get_parameter("mu").detach().item()
            summands = {"mean": mean, "user bias": learn.bias(user, is_item=False).item(),
                        "item bias": learn.bias(item).item()}
        strongest = products.abs().argsort(descending=True)[:n_factors].tolist()
        summands |= {f"factor {k}": products[k].item() for k in strongest}
        summands["other factors"] = products.sum().item() - products[strongest].sum().item()
        parts, logit = pd.DataFrame({"part": summands.keys(), "value": summands.values()}), sum(summands.values())
    rows, ratings = learn.data.histories[u]
    ratings, rows = ratings[rows != i], rows[rows != i]
    weight = learn.weight(is_item=True)
    cosine = torch.nn.functional.cosine_similarity(weight[rows - 1], weight[i - 1][None], dim=1)
    order = torch.argsort(cosine, descending=True, stable=True)[:n_nearest]
    nearest = pd.DataFrame({"id": learn.data.items.decode(rows[order].numpy())})
    if (titles := learn.data.titles(nearest["id"])) is not None:
        nearest["title"] = titles
    nearest = nearest.assign(rating=ratings[order].numpy(), score=cosine[order].numpy())
    return Explanation(user, item, (learn.data.titles([item]) or [""])[0], float(score), logit, parts, nearest)
