"""recommend: the best items for a user, several or a new one, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..data.allowed import Chosen
from ..data.catalogue import check_unknown
from ..data.frame_kinds import check_kind
from ..data.vocab import Ids, labels, several
from ..data.where import Where
from ..errors import DataError
from ..retrieval.topk import check_exclude
from .new_users import Rated, rated_rows, scores_of
from .one_list import one_list
from .reasons import reasons
from .recommendations import best_rows, pool_of, ranked, ranked_rows, rows_of
from .risk import Risk, of_new

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


def recommend(self: CollabLearner, user: Ids | None = None, n: int = 10, *, exclude: str | None = "known",
              among: Chosen | None = None, unknown: str = "average", without: Chosen | None = None,
              ratings: Rated | None = None, where: Where | None = None, diversity: float = 0.0, why: bool = False,
              risk: float | str | None = None, interval: float | None = None, seed: int | None = None,
              as_frame: str = "pandas") -> Any:
    """The `n` items with the highest predicted rating for a user: rank, item, title (where known), score.

    For several users (a list, array or Series), one table below another with the column user in front. In place of
    a user, pass the `ratings` of a new one: {item: rating}, a Series or table of them or, for implicit data, a list
    of items. New users are folded in without training (see `FoldIn`); DataError for a model that cannot.

    - `exclude`: "known" leaves out what the user is known to have rated, held out or not, "train" the training
      ratings alone, None nothing. The items in `ratings` are left out too, except with None.
    - `among`: items to choose from, by default all. `without`: items not to recommend. Both take ids or titles, one or
      several, and conditions on metadata, alone or among them: without=[50, {"genres": "Horror"}] (see `Chosen`).
    - `where`: only items whose metadata meet all conditions: {"genres": "War", "year": ">=1990"}, or the same as text,
      ["genres=War", "year>=1990"] (see `Where`).
    - `diversity`: from 0, the best items, to 1: how much each further item should be unlike those before it, by the
      cosine of factors (see `diverse`); it chooses among the 10 n best items, at least 100, so that scores may not
      descend. `evaluate(learn, diversity=...)` says what it costs. Unsupported for a model without factors of items.
    - `unknown`: unknown items in `among` and `ratings` are left out, with a warning that counts them; with "error",
      or where there are no others, they raise UnknownId.
    - `why`: add a column why, the title (or the id, where there is none) of the item among the user's training ratings,
      or among `ratings`, that raises the score most; None where none does (see `reasons`).
    - `risk`: what items are ranked by, and what the score is. "mean" (or None): the mean of the rating. A number such
      as 0.1, a lower quantile: the rating that is exceeded with probability 0.9, a safe choice; above 0.5, a bold one.
      "draw": what one draw of the chain, another one for each user and call, holds to be true (Thompson sampling): an
      item comes first as often as it may be the best, so that lists explore what little is known of. Other than the
      mean it takes a model that knows how sure it is, "bayes".
    - `interval`: a probability such as 0.9: add columns low and high, between which the rating lies with it (see
      `predict`). Also only for "bayes".
    - `seed`: of "draw", a whole number; by default each draw is another one.
    - `as_frame`: "pandas", "polars", "pyarrow" or "dict", {column: list}: what kind of table is returned.

    Items without a rating (None, NaN, blank) count as not rated; of ratings for data with a threshold, those above
    it count as choices. Items are ranked before scores are clipped to the scale, equal scores in the order of ids.
    There are fewer than `n` where no more are left."""
    if (ratings is None and among is None and without is None and where is None and not why and not diversity
            and risk is None and interval is None and seed is None and unknown in ("average", "error")
            and (table := one_list(self, user, n, exclude, as_frame)) is not None):
        return table
    check_kind(as_frame)
    check_one(user, ratings)
    check_exclude(exclude)
    check_unknown(unknown)
    by = Risk.of(risk, interval, seed)
    pool = pool_of(self, among, without, unknown, where)
    if ratings is None:
        rows = rows_of(self, self.data.users, user, unknown)
        return ranked_rows(self, rows, pool, n=n, exclude=exclude, ids=labels(user), column=several(user), why=why,
                           diversity=diversity, as_frame=as_frame, risk=by)
    seen, values, chosen = rated_rows(self, ratings, unknown)
    own, rated = (t[chosen].to(self.device) for t in (seen, values))
    kept = pool
    if exclude is not None:
        rest = torch.arange(pool.start, pool.stop) if isinstance(pool, range) else pool
        kept = rest[~torch.isin(rest, seen)]
    rows = torch.zeros(1, dtype=torch.int64, device=self.device)
    ask = [] if by.plain else [of_new(self, own, rated)]
    if by.quantile is not None:
        found, best = by.best(self, ask, rows, kept, n=n, diversity=diversity)
    else:
        scores = scores_of(self, seen[chosen], values[chosen]) if not by.ranks else self.looking(
            lambda: self.collab_model.score_drawn(own, rated, by.generator()))
        found, best = best_rows(self, lambda: lambda _, items: scores[None, items], rows, kept, n=n,
                                diversity=diversity)
    causes = reasons(self, found, [(seen[chosen], values[chosen])]) if why else None
    return ranked(self, self.data.items, found, self.clip(best), causes, as_frame, by.limits(self, ask, found))


def check_one(user: object, ratings: object) -> None:
    """Raise TypeError where there are both a user and ratings, DataError where there is neither."""
    if user is not None and ratings is not None:
        raise TypeError("give either a user, or the ratings= of a new one")
    if user is None and ratings is None:
        raise DataError("give a user, or the ratings= of a new one")
