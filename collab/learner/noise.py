"""noise: which users rate erratically, and which items divide their raters."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.frame_kinds import check_kind, made_of
from ..data.frames import Table
from ..errors import warn
from ..given import is_real
from ..models.base import SIDES, Side

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


def noise(self: CollabLearner, by: Side = "user", n: int | None = 15, *, min_ratings: int = 5,
          as_frame: str = "pandas") -> Any:
    """The `n` users (or, by="item", items) whose ratings lie farthest from their predictions, the most erratic first,
    None for all: id, title (of items, where known), n_ratings, noise.

    The noise is the standard deviation of a row's ratings around the prediction, in units of the ratings, as the model
    has learned it: a user of 1.2 rates less predictably than one of 0.6, with an average item. With few ratings it is
    drawn to that of all; rows with fewer than `min_ratings` training ratings are left out.

    Raises Unsupported for a model that does not learn it, all but "bayes" (`BayesianFM`) with `degrees` above 0,
    ValueError for another `by`, or `n` below 1."""
    check_kind(as_frame)
    if by not in SIDES:
        raise ValueError(f"by={by!r} is neither 'user' nor 'item'")
    if n is not None and (isinstance(n, bool) or not isinstance(n, Integral) or n < 1):
        raise ValueError(f"n must be a whole number, at least 1, or None for all, got {n!r}")
    if not is_real(min_ratings):
        raise ValueError(f"min_ratings must be a number, got {min_ratings!r}")
    vocab = self.data.items if by == "item" else self.data.users
    found = self.looking(lambda: self.collab_model.rating_noise(by)).cpu().numpy()
    counts = self.data.counts(by).numpy()
    rows = np.flatnonzero(counts[1:] >= min_ratings) + 1
    if not len(rows):
        warn(f"no {by} has {min_ratings} training ratings; min_ratings=0 lists all of them")
    rows = rows[np.argsort(-found[rows], kind="stable")][:n]
    titles = self.data.catalogue.title_column(rows) if by == "item" else {}
    columns = {"id": vocab.decode(rows), **titles, "n_ratings": counts[rows], "noise": found[rows]}
    return made_of(columns, as_frame, Table if titles else pd.DataFrame)
