"""New users: their ratings in, scores or rows of their own out, with the items frozen."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.extend import extended
from ..data.interactions import Interactions
from ..data.new_user import further_ratings
from ..data.rating_rules import Rated, RatingRules, on_scale
from ..models.base import NO_USERS, Unsupported
from ..models.dot_form import DotForm, Ridge
from ..moved import keeps_old_names
from ..retrieval.fold_in_ranking import choose_ranked_ridge, solve_ranked
from ..retrieval.fold_in_ratings import choose_ridge, solve
from ..retrieval.prior import prior_of
from .objectives import Objective

if TYPE_CHECKING:
    from .collab_learner import CollabLearner

class FoldIn:
    """The vectors of new users, solved against the frozen items of a model.

    `form` holds the model's tables, `train` its training rows. A vector solves a ridge regression on the ratings
    (`retrieval.fold_in_ratings`) or, with a ranking `objective`, minimises that over the chosen items
    (`retrieval.fold_in_ranking`). `pull` is the part of the loss terms (`retrieval.fold_in_terms`). The ridge is chosen
    when it is first needed, and kept; `solved` is that of a model that is solved in closed form, and to whom it pulls
    (`CollabModel.closed_form`), which is then `form`."""

    def __init__(self, form: DotForm, train: Interactions, objective: Objective | None = None,
                 pull: Tensor | None = None, solved: tuple[DotForm, Ridge] | None = None):
        self.trained, self.train, self.objective, self.pull = form, train, objective, pull
        self.form = form if solved is None else solved[0]
        self._ridge = None if solved is None else solved[1]

    @cached_property
    def ridge(self) -> Ridge:
        """The ridge with which trained users, folded in again, come nearest to their trained vectors; with few ratings
        not less than that of the `prior_of` users."""
        ridge = self._ridge or choose_ridge(self.form, *self.train[:3], self.pull)
        return ridge._replace(prior=prior_of(self.trained, *self.train[:3], ridge, self.form.average))

    @cached_property
    def ranked_ridge(self) -> float:
        """The same for folding in by the objective."""
        assert self.objective is not None
        return choose_ranked_ridge(self.form, self.objective.exact_loss, *self.train[:2], self.pull)

    def solve(self, users: Tensor, items: Tensor, ratings: Tensor, n_users: int) -> Tensor:
        """[p, b] (without biases p) of new users from rows and ratings of shape (n,), float64 (n_users, width)."""
        users, items, ratings = (t.to(self.form.items.device) for t in (users, items, ratings))
        if self.objective is None:
            return solve(self.form, users, items, ratings, n_users, self.ridge, pull=self.pull)
        return torch.stack([solve_ranked(self.form, self.objective.exact_loss, items[users == k], self.ranked_ridge,
                                         pull=self.pull) for k in range(n_users)])

    def scores(self, items: Tensor, ratings: Tensor) -> Tensor:
        """The scores of all items, (n_items,), for a new user who gave the rows `items` (n,) these ratings (n,)."""
        solved = self.solve(torch.zeros_like(items), items, ratings, 1)
        with torch.no_grad():
            return self.form.scores(self.form.queries(solved.to(self.form.items)))[0].float()


def rated_rows(learn: CollabLearner, ratings: Rated, unknown: str = "average") -> tuple[Tensor, Tensor, Tensor]:
    """(item rows, ratings float32, whether each counts) of what a new user rated: see `RatingRules.rows`."""
    rules = RatingRules(learn.data.schema, learn.data.implicit, learn.data.threshold, learn.scale)
    return rules.rows(ratings, learn.data.catalogue, unknown)


def closed_form_of_ratings(learn: CollabLearner) -> tuple[DotForm, Ridge] | None:
    """The equations of the model's users (`CollabModel.closed_form`) where these are of ratings, not of choices."""
    found = learn.looking(learn.collab_model.closed_form)
    return None if found is None or found[1].alpha is not None else found


def scores_of(learn: CollabLearner, items: Tensor, ratings: Tensor) -> Tensor:
    """The scores of all items, (n_items,), for a new user: those of the model's own `score_new`, or else of the vector
    that `FoldIn` solves, which knows more of users than a model of ratings that is solved in closed form. Raises
    Unsupported for a model with neither."""
    items, ratings = items.to(learn.device), ratings.to(learn.device)
    if closed_form_of_ratings(learn) is not None:
        return learn.fold_in().scores(items, ratings)
    try:
        return learn.looking(lambda: learn.collab_model.score_new(items, ratings)).float()
    except Unsupported:
        if learn.looking(learn.collab_model.dot_form) is None:
            raise
    return learn.fold_in().scores(items, ratings)


def add_ratings(self: CollabLearner, ratings: pd.DataFrame, duplicates: str | None = None, *,
                unknown: str = "average") -> CollabLearner:
    """A new learner that also knows the users in `ratings`: a table with the columns of the training ratings, or
    user, item and rating. Nothing is trained: new users, and known ones who rated more, are folded in from all
    their ratings, with the items frozen. This learner does not change; in the new one the items and the other users
    are the same to the bit.

    The new one has the same loss, optimizer, rates, metrics, notes and history, and a validation part of the same
    ratings; added callbacks are not copied. A further fit starts with a fresh optimizer. `duplicates` is that of
    `from_df`; a trained pair that comes again counts with both ratings. For a model that reads histories in order, they
    follow a user's earlier ones, by time among themselves where the table has times.

    Items are named by id or title. Rows without a rating, and those of unknown items, are left out, with a warning that
    counts them; with unknown="error", or where no item is known, these raise UnknownId.

    Raises DataError for what `from_df` refuses, ratings outside the scale, and a ranker whose objective its file lacks,
    until it is added; Unsupported for a model without a table of vectors for users alone (in `SVDpp` items depend on
    who rated them; a `TwoTower` reads metadata): use `recommend(ratings=...)` there."""
    if not self.collab_model.takes_users:
        raise self.collab_model.lacks(NO_USERS)
    if not self.collab_model.solved and not self.collab_model.keeps_interactions:
        self.check_objective()
    ratings = further_ratings(self.data, ratings, unknown)
    table = self.data.table(ratings, duplicates, timed=self.collab_model.window > 0)
    on_scale(self.scale, table["item"], table["rating"])
    data, kept = extended(self.data, table, self.data.weak(ratings))
    fresh = torch.from_numpy(np.unique(data.users.encode(table["user"])))

    def solved() -> Tensor:
        position, items = data.histories.pairs(fresh)
        own = torch.cat([data.histories[row][1] for row in fresh.tolist()])
        return self.fold_in().solve(position, items, own, len(fresh))
    model = self.collab_model.with_users(data.interactions, kept, fresh, solved)
    of_users = {id(table) for table in model.id_tables().get("user", [])}
    items = {name: t for name, t in self.model.state_dict().items()
             if id(model.get_parameter(name) if name in dict(model.named_parameters()) else None) not in of_users}
    learn = self.over(data, model)
    learn.model.load_state_dict(items, strict=False)        # the items' row 0 stays as it was too
    learn.notes, learn.lost = copy.deepcopy(self.notes), [*self.lost]
    learn.recorder.load_state_dict(self.recorder.state_dict())
    learn.model.eval()      # so that threads sharing it need not switch it
    return learn


keeps_old_names(__name__)
