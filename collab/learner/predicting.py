"""predict and probabilities: what a learner says of pairs of users and items."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.vocab import Ids, labels, several
from ..errors import DataError
from ..models.base import MAX_PAIRS
from ..models.mixture import Predictive
from .new_users import Rated, rated_rows, scores_of
from .recommendations import pairs_of, rows_of
from .recommending import check_one
from .risk import check_interval

if TYPE_CHECKING:
    from .collab_learner import CollabLearner

Value = float | np.ndarray
MAX_INTERVALS = 1 << 10     # pairs at a time, each with numbers for every draw


class Interval(NamedTuple):
    """A predicted rating, and the limits between which the rating lies with the probability asked for: floats for one
    pair, arrays for several."""

    mean: Value
    low: Value
    high: Value


@overload
def predict(self: CollabLearner, user: Ids | None = None, item: Ids | None = None, unknown: str = "average",
            ratings: Rated | None = None, interval: None = None) -> Value: ...


@overload
def predict(self: CollabLearner, user: Ids | None = None, item: Ids | None = None, unknown: str = "average",
            ratings: Rated | None = None, *, interval: float) -> Interval: ...


def predict(self: CollabLearner, user: Ids | None = None, item: Ids | None = None, unknown: str = "average",
            ratings: Rated | None = None, interval: float | None = None) -> Value | Interval:
    """The predicted rating: a float for one user and one item, an array for lists, arrays or Series (either may be
    single). Items are named by id or, here as everywhere, by title (see `Catalogue`). In place of a user, pass the
    `ratings` of a new one (see `recommend`).

    With an `interval`, a probability such as 0.9, an `Interval` (mean, low, high): the central interval of the
    distribution that the model predicts, which the rating lies in with that probability, with its limits clipped to the
    scale. More ratings may lie below it than above, or fewer, where they are skewed. Only for a model that knows how
    sure it is, "bayes" (`BayesianFM`); others raise Unsupported.

    An id that was not trained on is scored as the average one, with a warning; with unknown="error" it raises
    UnknownId, as does text that is not a title where ids are not text."""
    check_one(user, ratings)
    if item is None:
        raise DataError("give an item, or several")
    check_interval(interval)
    model, single = self.collab_model, not several(item) and not several(user)
    if ratings is not None:
        items = rows_of(self, self.data.items, item, unknown)
        rows, values, chosen = (t.to(self.device) for t in rated_rows(self, ratings, unknown))
        rows, values = rows[chosen], values[chosen]
        if interval is None:
            return _shown(self.clip(scores_of(self, rows, values))[items], single)
        asked = items.to(self.device).split(MAX_INTERVALS)
        return _interval(self, [partial(model.predictive_new, rows, values, some) for some in asked], interval, single)
    users, items = pairs_of(self, user, item, unknown)
    if interval is None:
        return _shown(self.clip(self.looking(lambda: model.scores(users, items))), single)
    pairs = zip(users.split(MAX_INTERVALS), items.split(MAX_INTERVALS))
    return _interval(self, [partial(model.predictive, *pair) for pair in pairs], interval, single)


def _shown(scores: Tensor, single: bool) -> Value:
    found = scores.cpu().numpy()
    return float(found[0]) if single else found


def _interval(learn: CollabLearner, parts: list[Callable[[], Predictive]], share: float, single: bool) -> Interval:
    """The mean and the limits of distributions that the model gives, on the scale of the ratings."""
    below, found = (1 - share) / 2, []
    for part in parts:
        one = learn.looking(part)
        found.append((one.mean, one.quantile(below), one.quantile(1 - below)))
    return Interval(*(_shown(learn.clip(torch.cat(part)).float(), single) for part in zip(*found)))


def probabilities(self: CollabLearner, user: Ids, item: Ids, unknown: str = "average") -> pd.DataFrame:
    """The probability of each rating, for the pairs that `predict` takes: user, item, one column per level, named
    by its rating, and most_likely, the most probable level. Raises Unsupported for a model that
    gives none: all but a classifier and "bayes", which needs ratings on at most 101 levels."""
    model = self.collab_model
    users, items = pairs_of(self, user, item, unknown)
    pairs = zip(users.split(MAX_PAIRS), items.split(MAX_PAIRS))
    shares = self.looking(lambda: torch.cat([model.probabilities(*pair) for pair in pairs])).cpu()
    levels = model.rating_levels().cpu()
    table = pd.DataFrame(shares.numpy(), columns=levels.tolist()).assign(
        most_likely=levels[shares.argmax(1)].numpy())
    for vocab, ids, rows in ((self.data.items, item, items), (self.data.users, user, users)):
        asked = labels(ids)
        found = vocab.ids[rows.cpu().numpy()]                   # ids, where titles were asked for
        named = [asked[k % len(asked)] if id is None else id for k, id in enumerate(found)]
        table.insert(0, vocab.name, pd.Index(named, tupleize_cols=False))
    return table
