"""Exact top-k in bounded memory: rows and tensors in, rows and scores out. It knows no learner and no raw id."""

from __future__ import annotations

from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.base import Scorer, as_collab
from ..models.dot_form import TableScorer
from ..numerics import run_of
from ..ragged import Ragged
from .largest import best_of, in_order
from .screening import pays, screened

MAX_SCORES = 1 << 22        # scores held at a time; with their keys and copies some 200 MiB

CrossScores = Scorer


def cross_scores(model: nn.Module) -> CrossScores:
    """(users (m,), items (n,)) -> scores (m, n) float32, for as long as the weights stay as they are."""
    score = as_collab(model).scorer()
    return lambda users, items: score(users, items).float()


def check_k(k: int) -> None:
    """Raise ValueError for anything but a whole number from 1 on."""
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"the number of recommendations must be a whole number, at least 1, got {k!r}")


def check_exclude(exclude: str | None) -> None:
    """Raise ValueError for anything but "known", "train" and None."""
    if exclude is not None and exclude not in ("known", "train"):
        raise ValueError(f"exclude={exclude!r} must be 'known' (what a user is known to have rated, held out or "
                         "not), 'train' (training ratings) or None (nothing); leave out given items with without=...")


@torch.no_grad()
def top_k(scores: CrossScores, queries: Tensor, candidates: Tensor | range, k: int, seen: Ragged | None = None,
          seen_by: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The `k` best candidates of each query: (rows int64, scores float32), both (len(queries), k), on the CPU.

    `queries` (m,) and `candidates` (n,) are rows on the device of the scores; consecutive candidates may be a range.
    Equal scores are ordered by row. Candidates that a user has `seen`, and those with a score of -inf, are left out;
    where fewer than k are left, rows end in -1 and scores in -inf. `seen_by` (m,) are the rows of `seen` for the
    queries, where these are others. At most MAX_SCORES scores are held at a time, whatever m and n are.
    Exact: every candidate is scored or, where a `TableScorer` scores many, every one that can be among the best (see
    `screening`).
    Raises ValueError for what `check_k` refuses and where a score is NaN."""
    check_k(k)
    if not len(queries) or not len(candidates):
        return torch.full((len(queries), k), -1), torch.full((len(queries), k), -torch.inf)
    whose = queries if seen_by is None else seen_by
    table = scores if isinstance(scores, TableScorer) and pays(scores, len(candidates), k) else None
    n_deep = max(1, MAX_SCORES // len(candidates if table is None else table.form.items))
    parts = []
    for some, own in zip(queries.split(n_deep), whose.split(n_deep)):
        if table is None:
            parts.append(_of_all(scores, some, own, candidates, k, seen))
            continue
        rows, best, sure = screened(table, some, own, candidates, k, seen)
        if not sure.all():
            rows[~sure], best[~sure] = _of_all(scores, some[~sure], own[~sure], candidates, k, seen)
        parts.append((rows, best))
    return parts[0] if len(parts) == 1 else (torch.cat([rows for rows, _ in parts]), torch.cat([b for _, b in parts]))


def _of_all(scores: CrossScores, queries: Tensor, whose: Tensor, candidates: Tensor | range, k: int,
            seen: Ragged | None) -> tuple[Tensor, Tensor]:
    """The result of `top_k` for a few queries, every candidate being scored."""
    every = torch.arange(candidates.start, candidates.stop) if isinstance(candidates, range) else candidates
    parts = [best_of(_without_seen(scores(queries, block), whose, block, seen), block, k)
             for block in every.to(queries.device).split(MAX_SCORES)]
    rows, best = parts[0] if len(parts) == 1 else in_order(torch.cat([rows for rows, _ in parts], 1),
                                                           torch.cat([best for _, best in parts], 1), k)
    rows[best == -torch.inf] = -1
    if (lacking := k - rows.shape[1]) > 0:
        return F.pad(rows, (0, lacking), value=-1), F.pad(best, (0, lacking), value=-torch.inf)
    return rows, best


def _without_seen(scores: Tensor, users: Tensor, block: Tensor, seen: Ragged | None) -> Tensor:
    """The scores (m, n) as float32, -inf for what a user has seen."""
    if seen is None:
        return scores.float()
    scores = scores.clone() if scores.dtype == torch.float32 else scores.float()    # the model may keep this tensor
    position, items = seen.pairs(users.cpu())
    if (run := run_of(block)) is not None:
        here, column = (items >= run.start) & (items < run.stop), items - run.start
    else:
        place = torch.full((int(torch.cat([block.cpu(), items]).max()) + 1,), -1)       # row -> column of scores
        place[block.cpu()] = torch.arange(len(block))
        column = place[items]
        here = column >= 0
    scores[position[here].to(scores.device), column[here].to(scores.device)] = -torch.inf
    return scores
