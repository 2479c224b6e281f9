"""Why an item is recommended: the rated item that speaks for it most."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..models.base import Unsupported
from ..retrieval.equations import Equations, strongest
from ..retrieval.fold_in_ranking import RankedFolding, liked
from .objectives import objective_name

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


def equations_of(learn: CollabLearner) -> Equations | None:
    """The equations that a new user's vector solves; None for a model that scores new users in another way, or that
    was trained to rank by an objective."""
    own = learn.looking(learn.collab_model.closed_form)
    if own is not None and own[1].alpha is not None:        # to ratings `FoldIn` adds a prior
        return Equations(*own)
    scored = own is None and learn.collab_model.scores_new
    if learn.ranks or scored or learn.looking(learn.collab_model.dot_form) is None:
        return None
    folding = learn.fold_in()
    return Equations(folding.form, folding.ridge, folding.pull)


def folding_of(learn: CollabLearner) -> Equations | RankedFolding | None:
    """All that folding in a new user takes, for an index: equations, or an objective; None for a model that scores new
    users in a way of its own, and where the objective is not collab's own."""
    own = equations_of(learn)
    if own is not None or learn.objective is None or objective_name(learn.objective) is None:
        return own
    try:
        first = torch.ones(1, dtype=torch.int64, device=learn.device)
        learn.looking(lambda: learn.collab_model.score_new(first, first.float()))
        return None
    except Unsupported:
        folding = learn.fold_in()
    return RankedFolding(folding.form, learn.objective.exact(), folding.ranked_ridge, folding.pull, mean_of(learn))


def mean_of(learn: CollabLearner) -> float | None:
    """The mean of the training ratings; None where items were chosen."""
    return None if learn.data.implicit else learn.data.mean


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
    likeness, mean = learn.collab_model.similarity("item"), mean_of(learn)

    def answer(items: Tensor, ratings: Tensor, chosen: Tensor) -> Tensor:
        rows = torch.unique(items[liked(ratings, mean)]).to(learn.device)
        if not len(rows) or not len(chosen):
            return torch.zeros_like(chosen)
        return strongest(learn.looking(lambda: likeness(rows, chosen.to(learn.device))).T, rows, chosen)
    return answer
