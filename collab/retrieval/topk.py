"""Exact top-k in bounded memory: rows and tensors in, rows and scores out. It knows no learner and no raw id."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import torch
from torch import Tensor, nn

from ..models.base import Scorer
from ..models.dot_form import TableScorer
from ..models.plain import as_collab
from ..numerics import run_of
from ..ragged import Ragged
from .compiled_one import BestOfOne
from .largest import best_of, in_order
from .screening import pays, screened, screened_one

MAX_SCORES = 1 << 22        # scores held at a time; with their keys and copies some 200 MiB

CrossScores = Scorer
Found = tuple[np.ndarray, np.ndarray]
"""Rows and their scores, both (m, k)."""


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
    if (run := run_of(candidates)) is not None:
        candidates = range(run.start, run.stop)
    whose = queries if seen_by is None else seen_by
    if (len(queries) == 1 and isinstance(candidates, range) and isinstance(scores, TableScorer)
            and (best_of_one := BestOfOne(scores, candidates)).compiles(k)):
        one = best_of_one(int(queries[0]), int(whose[0]), k, seen)
        if one is None:
            rows, best = _of_all(scores, queries, whose, candidates, k, seen)
        else:
            rows, best = one[0][None], one[1][None]
        return torch.from_numpy(rows), torch.from_numpy(best)
    table = scores if isinstance(scores, TableScorer) and pays(scores, len(candidates), k) else None
    if table is not None and len(queries) == 1 and isinstance(candidates, range):
        one = screened_one(table, queries, int(whose[0]) if seen is not None else 0, candidates, k, seen)
        rows, best = _of_all(scores, queries, whose, candidates, k, seen) if one is None else one
        return torch.from_numpy(rows), torch.from_numpy(best)
    n_deep = max(1, MAX_SCORES // len(candidates if table is None else table.form.items))
    parts = []
    for begin in range(0, len(queries), n_deep):
        some, own = queries[begin:begin + n_deep], whose[begin:begin + n_deep]
        if table is None:
            parts.append(_of_all(scores, some, own, candidates, k, seen))
            continue
        rows, best, sure = screened(table, some, own, candidates, k, seen)
        if not sure.all():
            again = torch.from_numpy(~sure)
            rows[~sure], best[~sure] = _of_all(scores, some[again], own[again], candidates, k, seen)
        parts.append((rows, best))
    rows, best = _joined(parts, 0)
    return torch.from_numpy(rows), torch.from_numpy(best)


def _of_all(scores: CrossScores, queries: Tensor, whose: Tensor, candidates: Tensor | range, k: int,
            seen: Ragged | None) -> Found:
    """The result of `top_k` for a few queries, every candidate being scored."""
    parts = []
    for begin in range(0, len(candidates), MAX_SCORES):
        block = candidates[begin:begin + MAX_SCORES]
        if isinstance(scores, TableScorer):
            scored = scores(queries, block)
        else:
            rows = torch.arange(block.start, block.stop) if isinstance(block, range) else block
            scored = scores(queries, rows.to(queries.device))
        parts.append(best_of(_without_seen(scored, whose, block, seen), block, k))
    found, best = parts[0] if len(parts) == 1 else in_order(*_joined(parts, 1), k)
    found[best == -np.inf] = -1
    if (lacking := k - found.shape[1]) > 0:
        end = (0, 0), (0, lacking)
        return np.pad(found, end, constant_values=-1), np.pad(best, end, constant_values=-np.inf)
    return found, best


def _joined(parts: list[Found], axis: int) -> Found:
    """Parts of rows and scores as one of each."""
    if len(parts) == 1:
        return parts[0]
    rows, best = (np.concatenate(column, axis) for column in zip(*parts))
    return rows, best


def _without_seen(scores: Tensor, users: Tensor, block: Tensor | range, seen: Ragged | None) -> Tensor:
    """The scores (m, n) as float32, -inf for what a user has seen."""
    if seen is None:
        return scores.float()
    scores = scores.to(torch.float32, copy=True, memory_format=torch.contiguous_format)     # the model may keep them
    if isinstance(block, range):
        cells = seen.cells(users.cpu(), block)
    else:
        position, items = seen.pairs(users.cpu())
        place = torch.full((int(torch.cat([block.cpu(), items]).max()) + 1,), -1)       # row -> column of scores
        place[block.cpu()] = torch.arange(len(block))
        here = place[items] >= 0
        cells = position[here] * len(block) + place[items[here]]
    scores.view(-1).index_fill_(0, cells.to(scores.device), -torch.inf)
    return scores
