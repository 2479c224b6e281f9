"""Exact top-k in bounded memory: rows and tensors in, rows and scores out. It knows no learner and no raw id."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from torch import Tensor, nn

from ..models.base import Scorer, as_collab
from ..ragged import Ragged

MAX_SCORES = 1 << 22        # scores held at a time; with their keys and copies some 200 MiB
MIN_GROUP = 8               # smaller groups of columns do not pay

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
def top_k(scores: CrossScores, queries: Tensor, candidates: Tensor, k: int, seen: Ragged | None = None,
          seen_by: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The `k` best candidates of each query: (rows int64, scores float32), both (len(queries), k), on the CPU.

    `queries` (m,) and `candidates` (n,) are rows on the device of the scores; equal scores are ordered by row.
    Candidates that a user has `seen`, and those with a score of -inf, are left out; where fewer than k are left,
    rows end in -1 and scores in -inf. `seen_by` (m,) are the rows of `seen` for the queries, where these are others.
    At most MAX_SCORES scores are held at a time, whatever m and n are. Exact: every candidate is scored.
    Raises ValueError for what `check_k` refuses and where a score is NaN."""
    check_k(k)
    if not len(queries) or not len(candidates):
        return torch.full((len(queries), k), -1), torch.full((len(queries), k), -torch.inf)
    n_wide = min(len(candidates), MAX_SCORES)
    n_deep = MAX_SCORES // n_wide
    rows, best = [], []
    for some, whose in zip(queries.split(n_deep), (queries if seen_by is None else seen_by).split(n_deep)):
        keys = torch.empty(len(some), 0, dtype=torch.int64, device=queries.device)
        for block in candidates.split(n_wide):
            unseen = _without_seen(scores(some, block), whose, block, seen)
            keys = _best(torch.cat([keys, _best_keys(unseen, block, k)], 1), k)
        keys = torch.cat([keys, keys.new_full((len(some), k - keys.shape[1]), _NOTHING)], 1).cpu()
        found, score = _unpack(keys)
        rows.append(found)
        best.append(score)
    return torch.cat(rows), torch.cat(best)


def _without_seen(scores: Tensor, users: Tensor, block: Tensor, seen: Ragged | None) -> Tensor:
    scores = scores.float()
    if seen is not None:
        scores = scores.clone()         # the model may keep this tensor
        position, items = seen.pairs(users.cpu())
        place = torch.full((int(torch.cat([block.cpu(), items]).max()) + 1,), -1)       # row -> column of scores
        place[block.cpu()] = torch.arange(len(block))
        here = place[items]
        scores[position[here >= 0].to(scores.device), here[here >= 0].to(scores.device)] = -torch.inf
    return scores


# A score and its row become one integer that sorts as they do: by score, then by ascending row. Floats compare
# like their bits read as integers, once the bits of negative ones are flipped.

_ROW_BITS = 0xFFFFFFFF


def _ordered(scores: Tensor) -> Tensor:
    bits = (scores + 0.0).view(torch.int32).long()          # + 0.0: -0.0 and 0.0 are equal
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _keys(scores: Tensor, rows: Tensor) -> Tensor:
    return (_ordered(scores) << 32) | (_ROW_BITS - rows)


_NOTHING = int(_keys(torch.tensor([-torch.inf]), torch.tensor([_ROW_BITS]))[0])


def _best(keys: Tensor, k: int) -> Tensor:
    return keys.topk(min(k, keys.shape[1]), dim=1).values


def _best_keys(scores: Tensor, rows: Tensor, k: int) -> Tensor:
    """The keys of the k best. Making keys takes ten times as long as finding the best, so that all scores become keys
    only where the k-th and the next are equal and rows decide."""
    if k >= scores.shape[1]:
        _check_numbers(scores)
        return _keys(scores, rows)
    best, place = _largest(scores, k + 1)
    _check_numbers(best)                    # NaN counts as the largest of all
    keys, tied = _keys(best[:, :k], rows[place[:, :k]]), best[:, k - 1] == best[:, k]
    if tied.any():
        keys[tied] = _best(_keys(scores[tied], rows), k)
    return keys


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(k)`, many times as fast for many columns: these are dealt into groups, of which only the k with
    the largest maxima can hold any of the k largest. Which of equal scores are found is left open."""
    n, size = scores.shape[1], math.isqrt(scores.shape[1] // k)
    if size < MIN_GROUP:
        best, place = scores.topk(k, dim=1)
        return best, place
    n_groups = n // size
    whole = n_groups * size                 # the columns of a group lie n_groups apart
    groups = scores[:, :whole].unflatten(1, (size, n_groups)).amax(1).topk(k, dim=1).indices
    columns = (torch.arange(0, whole, n_groups, device=scores.device)[:, None] + groups[:, None]).flatten(1)
    rest = torch.arange(whole, n, device=scores.device).expand(len(scores), -1)
    columns = torch.cat([columns, rest], 1)
    best, place = scores.gather(1, columns).topk(k, dim=1)
    return best, columns.gather(1, place)


def _check_numbers(scores: Tensor) -> None:
    if scores.isnan().any():
        raise ValueError("the model's scores are not numbers (NaN): its weights are broken, and nothing can be ranked")


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    bits, rows = keys >> 32, _ROW_BITS - (keys & _ROW_BITS)
    scores = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).int().view(torch.float32)
    return torch.where(scores == -torch.inf, -1, rows), scores
