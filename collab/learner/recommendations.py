"""Ids to rows, and rows to tables, for predictions and recommendations: functions of a learner."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.allowed import Chosen, allowed
from ..data.catalogue import Catalogue, average_rows
from ..data.frame_kinds import framed, made_of
from ..data.frames import Table
from ..data.vocab import Ids, Vocab, labels
from ..data.where import Where
from ..errors import warn
from ..models.base import Scorer, Side
from ..ragged import Ragged
from ..retrieval.diverse import check_diversity, diverse, n_candidates
from ..retrieval.topk import check_k, top_k
from .reasons import reasons
from .risk import BY_MEAN, Risk, of_user

if TYPE_CHECKING:
    from .collab_learner import CollabLearner


def rows_of(learn: CollabLearner, vocab: Vocab, ids: Ids, unknown: str) -> Tensor:
    """The rows of one id or several: unknown ones are row 0, or raise UnknownId with `unknown` "error" or where the
    model has no average."""
    def has_average() -> bool:
        model = learn.collab_model
        return model.unknown_row or any(learn.looking(model.id_tables).values())    # in turn: it may call the model
    rows = average_rows(names_of(learn, vocab), labels(ids), unknown, has_average)
    return torch.from_numpy(rows).to(learn.device)


def pairs_of(learn: CollabLearner, user: Ids, item: Ids, unknown: str) -> tuple[Tensor, ...]:
    """The rows of users and of items, equally many. Raises ValueError where they cannot be paired."""
    users, items = rows_of(learn, learn.data.users, user, unknown), rows_of(learn, learn.data.items, item, unknown)
    if len(users) != len(items) and 1 not in (len(users), len(items)):
        raise ValueError(f"{len(users)} users and {len(items)} items cannot be paired; give equally many, or one")
    return torch.broadcast_tensors(users, items)


def names_of(learn: CollabLearner, vocab: Vocab) -> Vocab | Catalogue:
    """The lookup of rows by ids, and of items by titles too."""
    return learn.data.catalogue if vocab is learn.data.items else vocab


def pool_of(learn: CollabLearner, among: Chosen | None, without: Chosen | None, unknown: str = "average",
            where: Where | None = None) -> Tensor | range:
    """The rows of the items to choose from, ascending; a range where these are all."""
    kept = allowed(learn.data.catalogue, lambda: learn.data.item_table, among=among, without=without, where=where,
                   unknown=unknown)
    return range(1, learn.data.n_items) if kept is None else torch.from_numpy(kept).nonzero()[:, 0]


def best_rows(learn: CollabLearner, scores: Callable[[], Scorer], rows: Tensor, pool: Tensor | range, *, n: int,
              seen: Ragged | None = None, seen_by: Tensor | None = None,
              diversity: float = 0.0, own: bool = False) -> tuple[Tensor, Tensor]:
    """`top_k` of the pool, made `diverse`; fewer than `n` columns where the pool is smaller. `own` scores are those of
    the model's scorer."""
    check_k(n)
    check_diversity(diversity)
    vectors = learn.looking(lambda: learn.collab_model.factors("item")).detach() if diversity else None
    k = min(n_candidates(n, diversity), max(len(pool), 1))
    look = learn.reading if own else learn.looking
    found, best = look(lambda: top_k(scores(), rows, pool, k, seen, seen_by))
    return (found, best) if vectors is None else diverse(found, best, vectors, n, diversity)


def ranked_rows(learn: CollabLearner, rows: Tensor, pool: Tensor | range, *, n: int, exclude: str | None,
                ids: Iterable[Hashable], column: bool = True, why: bool = False,
                diversity: float = 0.0, as_frame: str = "pandas", risk: Risk = BY_MEAN, first: int = 0) -> Any:
    """A table of the best of the pool for each user row; with their `ids` as a `column` in front, and with `why` the
    `reasons` in the last. `first` tells blocks of users apart, whose draws are to differ."""
    known = exclude == "known"
    seen = learn.data.known if known else learn.data.histories if exclude == "train" else None
    seen_by = learn.data.aside.users.encode(ids) if known else None
    asks = [] if risk.plain else [of_user(learn, row[None]) for row in rows]
    if risk.quantile is not None:
        found, scores = risk.best(learn, asks, rows if seen_by is None else seen_by, pool, n=n, seen=seen,
                                  diversity=diversity)
    else:
        scorer = risk.scorer(learn, first) if risk.ranks else learn.collab_model.scorer
        found, scores = best_rows(learn, scorer, rows, pool, n=n, seen=seen, seen_by=seen_by, diversity=diversity,
                                  own=not risk.ranks)
    limits = risk.limits(learn, asks, found)
    causes = reasons(learn, found, (learn.data.histories[row] for row in rows.tolist())) if why else None
    if not column:
        return ranked(learn, learn.data.items, found, learn.clip(scores), causes, as_frame, limits)
    table = ranked(learn, learn.data.items, found, learn.clip(scores), causes, limits=limits)
    table.insert(0, "user", pd.Index(list(ids), tupleize_cols=False).repeat((found >= 0).sum(1).numpy()))
    return framed(table, as_frame)


def similar(learn: CollabLearner, side: Side, id: Hashable, n: int, min_ratings: int,
            pool: Tensor | range | None = None) -> pd.DataFrame:
    """The `n` rows of a side most like one of them, as a table; with a `pool`, the rows in it."""
    vocab = learn.data.items if side == "item" else learn.data.users
    row = names_of(learn, vocab)[id]
    likeness = learn.looking(lambda: learn.collab_model.similarity(side))
    enough = learn.data.counts(vocab.name)[1:] >= min_ratings
    others = torch.arange(1, len(vocab))[enough]
    if isinstance(pool, Tensor):
        others = others[torch.isin(others, pool)]
    if not enough.any():
        warn(f"no {vocab.name} has {min_ratings} training ratings; min_ratings=0 compares all of them")
    found, scores = best_rows(learn, lambda: likeness, torch.tensor([row], device=learn.device), others[others != row],
                              n=n)
    return ranked(learn, vocab, found, scores)


def ranked(learn: CollabLearner, vocab: Vocab, found: Tensor, scores: Tensor,
           causes: Tensor | None = None, as_frame: str = "pandas", limits: Mapping[str, Tensor] | None = None) -> Any:
    """The result of `top_k` as a table: rank, id, title (of items, where known), score, the `limits`, and why, where
    there are `causes`, the rows of these; shaped as `found`."""
    there = found.numpy() >= 0
    rows, best = found.numpy()[there], scores.numpy()[there]
    if as_frame == "dict" and causes is None and not limits and vocab is learn.data.items and len(found) == 1:
        return learn.data.catalogue.lists(rows, best)
    titles = learn.data.catalogue.title_column(rows) if vocab is learn.data.items else {}
    rank = np.arange(1, len(rows) + 1) if len(found) == 1 else there.nonzero()[1] + 1
    columns = {"rank": rank, vocab.name: vocab.decode(rows), **titles, "score": best,
               **{name: values.numpy()[there] for name, values in (limits or {}).items()}}
    if causes is not None:
        columns["why"] = learn.data.catalogue.names(causes.numpy()[there])
    return made_of(columns, as_frame, Table if titles else pd.DataFrame)


def titled(learn: CollabLearner, table: pd.DataFrame) -> pd.DataFrame:
    """Add titles, where known, to a table with a column item."""
    titles = learn.data.titles(table["item"])
    return table if titles is None else Table(table.assign(title=titles))
