"""Risk: what recommendations are ranked by, other than the mean: a quantile of the rating, or a draw."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..given import is_real
from ..models.base import NO_INTERVALS, Scorer
from ..ragged import Ragged
from ..retrieval.cautious import Distributions, by_quantile
from ..retrieval.diverse import check_diversity, diverse, n_candidates
from ..retrieval.topk import check_k

if TYPE_CHECKING:
    from .collab_learner import CollabLearner

MEAN, DRAW = "mean", "draw"


class Risk(NamedTuple):
    """What lists are ranked by: a quantile of the rating, or, with None, one draw of the chain for each user, which
    `seed` decides; and the probability of the `interval` that is shown, None for none. `ranks` is whether they are
    ranked by either; otherwise it is by the mean."""

    ranks: bool
    quantile: float | None
    interval: float | None
    seed: int

    @classmethod
    def of(cls, risk: float | str | None, interval: float | None, seed: int | None) -> Risk:
        """What was asked for. Raises ValueError for another `risk` or `interval`, or a `seed` that is not whole or that
        decides nothing. A draw without a seed is another one each time; no random state changes."""
        check_interval(interval)
        if risk is not None and risk not in (MEAN, DRAW) and not (is_real(risk) and 0 < risk < 1):
            raise ValueError("risk must be 'mean', 'draw' or a number between 0 and 1, a quantile, such as 0.1; got "
                             f"{risk!r}")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, Integral)):
            raise ValueError(f"seed must be a whole number, got {seed!r}")
        if seed is not None and risk != DRAW:
            raise ValueError(f"seed={seed!r} decides a draw, and risk={risk!r} makes none; say risk='draw', or leave "
                             "it out")
        return cls(risk not in (None, MEAN), None if isinstance(risk, str) or risk is None else float(risk), interval,
                   secrets.randbits(62) if seed is None else int(seed))

    def check(self, learn: CollabLearner) -> None:
        """Raise Unsupported where the learner's model does not know how sure it is, and has to."""
        model = learn.collab_model
        if not self.plain and not model.gives_intervals:
            raise model.lacks(NO_INTERVALS)

    @property
    def plain(self) -> bool:
        """Whether lists are ranked by the mean, and nothing more is shown."""
        return not self.ranks and self.interval is None

    def best(self, learn: CollabLearner, asks: list[Distributions], whose: Tensor, pool: Tensor | range, *, n: int,
             seen: Ragged | None = None, diversity: float = 0.0) -> tuple[Tensor, Tensor]:
        """The best `n` of the pool by a quantile, for each user, whose distributions `asks` has: rows and scores,
        (m, k), as `top_k` gives them. `whose` (m,) are the rows of what each has `seen`."""
        assert self.quantile is not None
        check_k(n)
        check_diversity(diversity)
        vectors = learn.looking(lambda: learn.collab_model.factors("item")).detach() if diversity else None
        every = torch.arange(pool.start, pool.stop) if isinstance(pool, range) else pool.cpu()
        k = min(n_candidates(n, diversity), max(len(every), 1))
        found, scores = torch.full((len(asks), k), -1), torch.full((len(asks), k), -torch.inf)
        for place, (ask, row) in enumerate(zip(asks, whose.tolist())):
            left = every if seen is None else every[~torch.isin(every, seen[row][0])]
            own, quantiles = learn.looking(partial(by_quantile, ask, left.to(learn.device), k, self.quantile))
            found[place, :len(own)], scores[place, :len(own)] = own, quantiles.float()
        return (found, scores) if vectors is None else diverse(found, scores, vectors, n, diversity)

    def scorer(self, learn: CollabLearner, first: int = 0) -> Callable[[], Scorer]:
        """What makes the scorer of a draw for each user; `first` tells blocks of users apart."""
        return lambda: learn.collab_model.drawn_scorer(self.generator(first))

    def generator(self, first: int = 0) -> torch.Generator:
        """What a draw is made by."""
        return torch.Generator().manual_seed((self.seed + first) % (1 << 63))

    def limits(self, learn: CollabLearner, asks: list[Distributions], found: Tensor) -> dict[str, Tensor]:
        """The columns low and high of the rows `found` (m, k), each user's by what `asks` for distributions; none
        without an interval."""
        if self.interval is None:
            return {}
        low, high = torch.full(found.shape, torch.nan), torch.full(found.shape, torch.nan)
        for place, ask in enumerate(asks):
            there = found[place] >= 0
            items = found[place, there].to(learn.device)
            if len(items):
                ends = learn.looking(partial(_ends, ask, items, (1 - self.interval) / 2))
                low[place, there], high[place, there] = (learn.clip(end).float().cpu() for end in ends)
        return {"low": low, "high": high}


def _ends(ask: Distributions, items: Tensor, below: float) -> tuple[Tensor, Tensor]:
    ratings = ask(items)
    return ratings.quantile(below), ratings.quantile(1 - below)


BY_MEAN = Risk(False, None, None, 0)


def of_user(learn: CollabLearner, row: Tensor) -> Distributions:
    """The distributions of the ratings by one user row, (1,)."""
    return partial(learn.collab_model.predictive, row)


def of_new(learn: CollabLearner, items: Tensor, ratings: Tensor) -> Distributions:
    """Those of the ratings by a new user, who rated the rows `items` (m,) with `ratings` (m,)."""
    return partial(learn.collab_model.predictive_new, items, ratings)


def check_interval(interval: Any) -> None:
    """Raise ValueError for anything but None and a probability between 0 and 1."""
    if interval is not None and not (is_real(interval) and 0 < interval < 1):
        raise ValueError(f"interval must be a probability between 0 and 1, such as 0.9, got {interval!r}")
