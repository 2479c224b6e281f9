"""Why an item is recommended: the rated item that speaks for it most."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..retrieval.equations import Equations, strongest

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


def equations_of(learn: CollabLearner) -> Equations | None:
    """The equations that a new user's vector solves; None for a model that scores new users in another way, or that
    was trained to rank by an objective."""
    own = learn.looking(learn.collab_model.closed_form)
    if own is not None and own[1].alpha is not None:        # to ratings `FoldIn` adds a prior
        return Equations(*own)
    if learn.ranks or learn.looking(learn.collab_model.dot_form) is None:
        return None
    folding = learn.fold_in()
    return Equations(folding.form, folding.ridge, folding.pull)


def reasons(learn: CollabLearner, found: Tensor, rated: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """For each of the rows `found` (m, k) of m users, the item that its user rated and that raises its score most,
    int64 (m, k), or 0 where none does; `rated` holds each user's items and ratings, (n,) and (n,).

    Where new users are folded in by equations, it is the one with the largest part in the user's folded-in score,
    exactly (`Equations.contributions`). In other models it is the one most similar to the recommended item
    (`similarity`) among those that the user liked: all that were chosen, in implicit data, and otherwise those rated
    above the user's mean or, where all ratings are the same, above that of the training ratings. Raises Unsupported for
    a model without similarities."""
    why, of = torch.zeros_like(found), equations_of(learn)
    answer = _by_parts(of) if of is not None else learn.looking(lambda: _by_likeness(learn))
    for k, (items, ratings) in enumerate(rated):
        there = found[k] > 0
        why[k, there] = answer(items, ratings, found[k, there])
    return why


def _by_parts(equations: Equations) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """(rated items (n,), ratings (n,), chosen (k,)) -> reasons (k,), by the equations of a folded-in vector."""
    def answer(items: Tensor, ratings: Tensor, chosen: Tensor) -> Tensor:
        kept = ratings > 0 if equations.ridge.alpha is not None else slice(None)
        return equations.reasons(items[kept], ratings[kept], chosen)
    return answer


def _by_likeness(learn: CollabLearner) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The same by the model's similarity."""
    likeness = learn.collab_model.similarity("item")

    def answer(items: Tensor, ratings: Tensor, chosen: Tensor) -> Tensor:
        liked = torch.unique(items[_liked(learn, ratings)]).to(learn.device)
        if not len(liked) or not len(chosen):
            return torch.zeros_like(chosen)
        return strongest(learn.looking(lambda: likeness(liked, chosen.to(learn.device))).T, liked, chosen)
    return answer


def _liked(learn: CollabLearner, ratings: Tensor) -> Tensor:
    """Which of a user's ratings speak for an item, bool (n,)."""
    if learn.data.implicit or not len(ratings):
        return torch.ones_like(ratings, dtype=torch.bool)
    same = ratings.min() == ratings.max()
    return ratings > (learn.data.interactions.ratings.mean() if same else ratings.mean())
