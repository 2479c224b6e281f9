"""Explanation: one score taken apart."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import pandas as pd
import torch

from ..errors import DataError, amount
from ..learner.collab_learner import CollabLearner


@dataclass(frozen=True)
class Explanation:
    """Why `user` gets `score` for `item`.

    `parts` are the summands of `logit`, which is the score itself or, if `squashed`, what it was before the sigmoid:
    mean, user bias, item bias, the factors that move it most, and the sum of the other factors; a frame with the
    columns part and value, or None for a model whose score is no sum. `clipped` says that the model's score lay beyond
    the scale of the ratings. `nearest` are the items that the user rated, nearest first: item, title, rating (the
    mean, where there are several) and score, the cosine of factors or, in a model that has another measure (EASE: what
    the one adds to the score of the other), that; None for a model without any."""

    user: Hashable
    item: Hashable
    title: str
    score: float
    logit: float | None
    parts: pd.DataFrame | None
    nearest: pd.DataFrame | None
    squashed: bool = False
    clipped: bool = False

    def __str__(self) -> str:
        name = f"{self.title} ({self.item})" if self.title else str(self.item)
        total = "Before the sigmoid" if self.squashed else "The score is"
        parts = "The score of this model is no sum of parts." if self.parts is None else \
            f"{total} {self.logit:.3f}, the sum of\n{self.parts.round(3).to_string(index=False)}"
        nearest = "This model does not say which items are near each other." if self.nearest is None else \
            "The user rated nothing else." if self.nearest.empty else \
            f"Nearest among what the user rated\n{with_whole_ratings(self.nearest).round(3).to_string(index=False)}"
        return (f"User {self.user} and {name}: predicted {self.score:.2f}{', clipped to the scale' * self.clipped}\n\n"
                f"{parts}\n\n{nearest}")


def with_whole_ratings(table: pd.DataFrame) -> pd.DataFrame:
    """A table to print whose column rating is text without decimals where all ratings are whole numbers, stars or
    counts."""
    ratings = table.get("rating")
    if ratings is None or ratings.dtype.kind != "f" or not (ratings % 1 == 0).all():
        return table
    return table.assign(rating=[amount(rating) for rating in ratings])


def explain(learn: CollabLearner, user: Hashable, item: Hashable, n_factors: int = 5,
            n_nearest: int = 5) -> Explanation:
    """The explanation of one known user's score for one known item, by id or title. Raises UnknownId for others."""
    u, i = learn.data.users[user], learn.data.catalogue[item]
    item = learn.data.items.ids[i]
    rows = [torch.tensor([row], device=learn.device) for row in (u, i)]
    raw = learn.looking(lambda: learn.collab_model.scores(*rows))
    score = learn.clip(raw)
    form = learn.looking(learn.collab_model.dot_form)
    parts = logit = None
    if form is not None:
        products = (form.users[u] * form.items[i]).double().cpu()
        summands = {}
        if form.u_bias is not None and form.i_bias is not None:
            summands = {"mean": form.mu, "user bias": form.u_bias[u].item(), "item bias": form.i_bias[i].item()}
        strongest = [] if learn.collab_model.of_draws else products.abs().argsort(descending=True)[:n_factors].tolist()
        summands |= {f"factor {k}": products[k].item() for k in strongest}
        rest = products.sum().item() - products[strongest].sum().item()
        summands["other factors" if strongest else "factors"] = rest
        parts, logit = pd.DataFrame({"part": summands.keys(), "value": summands.values()}), sum(summands.values())
    return Explanation(user, item, (learn.data.titles([item]) or [""])[0], score.item(), logit, parts,
                       _nearest(learn, u, i, n_nearest), form is not None and form.y_range is not None,
                       bool((score - raw).abs() > 1e-6))


def _nearest(learn: CollabLearner, u: int, i: int, n: int) -> pd.DataFrame | None:
    """The `n` items of a user's history, without item row `i`, that are nearest to it."""
    try:
        likeness = learn.looking(lambda: learn.collab_model.similarity("item"))
    except DataError:
        return None
    rated, ratings = learn.data.histories[u]
    rows, place = torch.unique(rated, return_inverse=True)      # some may be rated again
    means = torch.zeros(len(rows)).index_add(0, place, ratings) / torch.bincount(place, minlength=len(rows))
    rows, means = rows[rows != i], means[rows != i]
    score = learn.looking(lambda: likeness(rows.to(learn.device), torch.tensor([i], device=learn.device)))[:, 0].cpu()
    order = torch.argsort(score, descending=True, stable=True)[:n]
    nearest = pd.DataFrame({"item": learn.data.items.decode(rows[order].numpy())})
    if (titles := learn.data.titles(nearest["item"])) is not None:
        nearest["title"] = titles
    return nearest.assign(rating=means[order].numpy(), score=score[order].numpy())
