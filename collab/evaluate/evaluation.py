"""evaluate: ranking metrics of every user's top k; Popularity: the same list for every user."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from ..data.allowed import Chosen
from ..data.databunch import CollabDataBunch
from ..data.vocab import Ids
from ..models.baseline import MostPopular
from ..models.plain import as_collab
from ..processes import by_turns, team_size
from ..retrieval.diverse import check_diversity, diverse, n_candidates
from ..retrieval.topk import MAX_SCORES, cross_scores, top_k
from ..train.callbacks.seeded import untouched_randomness
from . import ranking
from .certainty import certainty
from .excluded import Exclude
from .held_out import HeldOut, pair_keys
from .result import RankingResult

ACCURACY = tuple(ranking.METRICS)
NAMES = (*ACCURACY, "auc", "coverage", "novelty", "popularity", "diversity")


class Ranker(Protocol):
    """What can be evaluated: anything with data, and a model of (users, items) over their rows."""

    @property
    def data(self) -> CollabDataBunch: ...

    @property
    def model(self) -> nn.Module: ...

    def untouched(self) -> AbstractContextManager[object]: ...


class Popularity:
    """The same list for every user: items by their number of training ratings, equal ones in the order of their ids.
    What a recommender must beat: `evaluate(Popularity(learn.data))`."""

    def __init__(self, data: CollabDataBunch):
        self.data, self.model = data, MostPopular(data.counts()).to(data.device)

    def untouched(self) -> AbstractContextManager[object]:
        """Put the random state back, which is all that looking could change."""
        return untouched_randomness()


def evaluate(learn: Ranker, batches: Any = None, k: int | Sequence[int] = 10, metrics: Sequence[str] = ACCURACY,
             threshold: float | None = None, *, exclude: Exclude = "train", users: Ids | None = None,
             unknown_items: str = "drop", baseline: bool = True,
             among: Chosen | None = None, diversity: float = 0.0) -> RankingResult:
    """Rank all items for each user with held-out ratings, and measure the top `k`. With several, such as [1, 5, 10],
    the metrics are called "ndcg@1", "ndcg@5" and so on, and `at(5)` of the result is that for one.

    - `learn`: a CollabLearner, a `Popularity`, or anything with `data`, `model` and `untouched()`. It is not changed.
    - `batches`: the held-out ratings, by default `data.valid`: batches of (users, items, ratings), or a table. A table
      for implicit data without a threshold needs no strengths.
    - `metrics`: "ndcg" is the sum of 1 / log2(rank + 1) over the hits, divided by that of min(k, n_relevant) hits on
      top; "precision" hits / k; "recall" hits / n_relevant; "map" the sum of the precision at each hit, divided by
      min(k, n_relevant); "mrr" 1 / the rank of the first hit; "hit" whether there is one. Others are "auc" (over all
      candidates, whatever k), "popularity" (the mean share of training users who rated what is recommended),
      "novelty" (the mean -log2 of that share), "diversity" (how unlike the items of a list are: the mean of 1 - the
      cosine of the model's factors over all pairs) and "coverage" (the share of all items that is in anybody's list; in
      `summary` alone). `collab.evaluate.ranking` has sources.
    - `threshold`: held-out items are relevant if rated above it, 3 being "rating > 3"; by default all of them are.
    - `exclude`: "train": items that a user rated in training are neither ranked nor relevant; None: they are both.
      Held-out items are to be found, so that they are never left out, unlike in `recommend`. Those of another held-out
      part would count as misses where a model finds them: ("train", "test") leaves them out too, while `data.valid` is
      measured.
    - `users`: only these: a raw id, or several.
    - `unknown_items`: held-out items that were not trained on cannot be recommended. "drop" leaves them out; "miss"
      keeps them as relevant ones that are never found, each once, so that models with other vocabs are measured alike.
    - `among`: that of `recommend`, such as {"genres": "War"}: only these items are ranked, and only these are relevant,
      in "auc" and "coverage" too; None is all items. With items that have no training ratings it tells how well cold
      ones are ranked among themselves.
    - `diversity`: that of `recommend`. The metric "diversity" is then measured too, and the `baseline` is the same
      model's lists without it: what is lost in accuracy beside what is gained.
    - `baseline`: measure `Popularity` too, as the result's `baseline`, unless it is evaluated itself.

    Users without a relevant item have no metrics; these, ratings of unknown users, and pairs that occur again are
    left out and counted in `left_out`. Equal scores are ranked in the order of ids.
    Raises ValueError for invalid arguments and where no user is left, UnknownId for an unknown user or one `among` the
    items, DataError for a table that does not fit.

    >>> from collab import *
    >>> data = CollabDataBunch.from_df(synthetic(60, 40, 900, seed=0).ratings, seed=0, device="cpu")
    >>> evaluate(Popularity(data), k=5, metrics=("ndcg", "hit", "coverage"))
    Top 5 of 57 users
              MostPopular
    ndcg           0.4557
    hit            0.8070
    coverage       0.4750
    Left out: nothing
    """
    data = getattr(learn, "data", None)
    if not isinstance(data, CollabDataBunch):
        raise TypeError(f"evaluate needs a learner over a CollabDataBunch, or Popularity(data), got {learn!r}")
    ks, metrics = check_request(k, metrics)
    with learn.untouched():
        held_out = HeldOut.of(data, batches, threshold, exclude, users, unknown_items, among)

    check_diversity(diversity)
    if diversity and "diversity" not in metrics:
        metrics = (*metrics, "diversity")
    vectors = None
    if "diversity" in metrics:      # one model's factors for all, lest lists be measured by several
        with learn.untouched(), torch.no_grad():
            vectors = as_collab(learn.model).factors("item").detach().cpu()

    def result(ranker: Ranker, beside: RankingResult | None, diversity: float) -> RankingResult:
        values = measure(ranker, held_out, ks, metrics, vectors, diversity)
        name = type(ranker.model).__name__ + (f", diversity {diversity:g}" if diversity else "")
        per_user = pd.DataFrame({"user": data.users.decode(held_out.users.numpy()),
                                 "n_relevant": held_out.n_relevant.numpy(),
                                 **{name: v.numpy() for name, v in values.items() if v.ndim}})
        summary = pd.Series({name: v.nanmean().item() for name, v in values.items()})
        made = RankingResult(name, ks, per_user, summary, held_out.left_out, beside,
                             held_out.question)
        return made.at(ks[0]) if isinstance(k, numbers.Integral) else made
    if not baseline or isinstance(learn, Popularity):
        return result(learn, None, diversity)
    return result(learn, result(learn if diversity else Popularity(data), None, 0.0), diversity)


def check_request(k: int | Sequence[int], metrics: Sequence[str]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """One `k` or several, and metrics, as tuples. Raises ValueError for invalid ones, or none."""
    metrics = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    ks = tuple(k) if isinstance(k, Iterable) and not isinstance(k, str) else (k,)
    for one in ks:
        if isinstance(one, bool) or not isinstance(one, numbers.Integral) or one < 1:
            raise ValueError(f"k must be a whole number, at least 1, got {one!r}")
    if not ks or len({*ks}) < len(ks):
        raise ValueError(f"k must be distinct whole numbers, and at least one of them, got {list(ks)}")
    if not metrics or (unknown := [name for name in metrics if name not in NAMES]):
        of_ratings = ("; this one is of ratings, not of lists: CollabInterpretation(learn).errors(metrics=...)"
                      if metrics and certainty(unknown[0]) else "")
        raise ValueError(f"metrics are of {', '.join(NAMES)}; got {unknown[0] if metrics else metrics!r}{of_ratings}")
    return tuple(map(int, ks)), metrics


def columns(ks: Sequence[int], metrics: Sequence[str]) -> dict[str, tuple[str, int]]:
    """{column: (metric, k)}, with columns such as "ndcg@10"; "auc" has no k."""
    return {name if name == "auc" else f"{name}@{k}": (name, k) for name in metrics for k in ks}


def measure(ranker: Ranker, held_out: HeldOut, ks: Sequence[int], metrics: Sequence[str],
            vectors: Tensor | None = None, diversity: float = 0.0) -> dict[str, Tensor]:
    """{column: values per user, shape (m,), or for "coverage" one for all, shape ()}, float64, on the CPU. `vectors`
    are those of the items by which lists are made and measured as diverse, by default the model's factors."""
    data = held_out.data
    candidates = held_out.candidates.to(data.device)
    with ranker.untouched(), torch.no_grad():
        ranker.model.eval()
        if vectors is None and "diversity" in metrics:
            vectors = as_collab(ranker.model).factors("item").detach().cpu()
        factors = torch.zeros(0, 0) if vectors is None else vectors
        scorer, n = as_collab(ranker.model).scorer(), min(n_candidates(max(ks), diversity), len(candidates))
        found, scores = _joined(partial(top_k, scorer, some.to(data.device), candidates, n, held_out.seen)
                                for some in held_out.users.tensor_split(team_size()))
        if diversity:
            found, _ = diverse(found, scores, factors, max(ks), diversity)
        hits = held_out.hits(found)
        rest: dict[str, Callable[[Tensor], Tensor]] = {
            "auc": lambda _: _joined(partial(_auc, ranker.model, held_out, candidates, some)
                                     for some in held_out.users.tensor_split(team_size()))[0],
            "coverage": lambda found: ranking.coverage(found, len(candidates)),
            "diversity": lambda found: ranking.intra_list_distance(found, factors),
            "novelty": lambda found: ranking.novelty(found, _shares(data)),
            "popularity": lambda found: ranking.popularity(found, _shares(data))}
        return {named: rest[name](found[:, :k]) if name in rest else
                ranking.METRICS[name](hits[:, :k], held_out.n_relevant, k)
                for named, (name, k) in columns(ks, metrics).items()}


def _shares(data: CollabDataBunch) -> Tensor:
    """The share of training users who rated each item, by row; at least one user's share."""
    raters = torch.zeros(data.n_items, dtype=torch.int64)
    for _, users, items in data.histories.runs(MAX_SCORES):
        raters += torch.bincount(torch.unique(pair_keys(data, users, items)) % data.n_items, minlength=data.n_items)
    return raters.clamp(min=1).double() / data.trained["user"].sum()


def _joined(works: Iterable[Callable[[], tuple[Tensor, ...]]]) -> tuple[Tensor, ...]:
    """What all works give, one after the other; processes that share them do one each."""
    return tuple(torch.cat(parts) for parts in zip(*by_turns([*works])))


def _auc(model: nn.Module, held_out: HeldOut, candidates: Tensor, users: Tensor) -> tuple[Tensor]:
    scores, n_items = cross_scores(model), held_out.data.n_items
    parts = [torch.empty(0, dtype=torch.float64)]
    for users in users.split(max(1, MAX_SCORES // n_items)):
        relevant, allowed = torch.zeros(len(users), n_items, dtype=torch.bool), torch.ones(len(users), n_items).bool()
        relevant[held_out.relevant.pairs(users)] = True
        if held_out.seen is not None:
            allowed[held_out.seen.pairs(users)] = False
        block = scores(users.to(candidates.device), candidates).float().cpu()
        parts.append(ranking.auc(block, relevant[:, held_out.candidates], allowed[:, held_out.candidates]))
    return torch.cat(parts),
