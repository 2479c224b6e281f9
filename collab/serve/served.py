"""Served: a learner or an index as a service sees it: text in, values for JSON out."""

from __future__ import annotations

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from ..data.allowed import Chosen, allowed
from ..data.catalogue import Catalogue
from ..data.rating_rules import FEW_LEVELS, step_of
from ..data.vocab import UNKNOWN, Vocab
from ..data.where import Where
from ..errors import DataError
from ..learner.collab_learner import CollabLearner
from ..models.base import Unsupported
from ..retrieval.compiled_one import load_kernels
from ..retrieval.diverse import check_diversity
from ..retrieval.fold_in_ranking import RankedFolding
from ..retrieval.index import Index
from ..retrieval.list_rules import ListRules
from .asked import BY_MEAN, Ranked, Refused
from .item_map import places
from .title_search import TitleSearch

EXACT = 1 << 53             # a browser reads whole numbers up to this one exactly
N_NEAR = 3                  # items that are named where there is none of a title
MIN_RATINGS = 5             # of an item that is listed as similar to another
Scale = dict[str, float | None]
Lists = dict[str, list[Any]]       # the columns of a table


def served(model: CollabLearner | Index, *, among: Chosen | None = None, without: Chosen | None = None,
           where: Where | None = None, diversity: float = 0.0) -> Served:
    """The service's view of a learner or an index, whose lists keep to these rules. Raises TypeError for anything else,
    and DataError or ValueError for rules that cannot be kept."""
    if isinstance(model, CollabLearner | Index):
        check_diversity(diversity)
        if isinstance(model, Index):
            return OfIndex(model, ListRules.of(model.allowed(among, without, where), diversity))
        if diversity:
            model.looking(lambda: model.collab_model.factors("item"))       # which Unsupported names, where it has none
        data = model.data
        kept = allowed(data.catalogue, lambda: data.item_table, among=among, without=without, where=where)
        return OfLearner(model, ListRules.of(kept, diversity))
    raise TypeError(f"service(model) takes a learner or an Index, got {type(model).__name__}; read a file with "
                    "load_learner(path) or Index.load(path)")


class Names:
    """The rows of ids as they are written in an address or in JSON: 5 for 5, and text for everything that is neither
    text nor a whole number."""

    def __init__(self, vocab: Vocab):
        self.vocab = vocab
        self._rows: dict[str, int] | None = None
        if not (vocab.kind == "string" or (vocab.kind == "number" and isinstance(vocab.ids[1], int))):
            self._rows = {str(id): row for row, id in enumerate(vocab, 1)}

    def row(self, text: str) -> int:
        """The row of the id that is written so, or 0."""
        if self._rows is not None:
            return self._rows.get(text, UNKNOWN)
        if self.vocab.kind == "string":
            return self.vocab.find(text)
        if len(text) > 20 or not text.removeprefix("-").isdecimal() or str(number := int(text)) != text:
            return UNKNOWN
        return self.vocab.find(number)

    def shown(self, row: int) -> int | str:
        """How the id of a row is written."""
        id = self.vocab.ids[row]
        whole = isinstance(id, int) and not isinstance(id, bool) and abs(id) <= EXACT
        return id if whole else str(id)


class Served(ABC):
    """What the routes ask of a model. `counts` (n_items,) are the training ratings by row, or None; `scale` is None
    where items are chosen and not rated; `visitors`, `similars`, `reasons` and `intervals` say whether it can do these,
    and `why_not` why it takes no visitors."""

    model: str
    users: Names | None = None
    counts: np.ndarray | None = None
    scale: Scale | None = None
    threshold: float | None = None
    visitors, similars, reasons, intervals, why_not = True, True, True, False, ""

    def __init__(self, catalogue: Catalogue, vectors: np.ndarray | None):
        self.catalogue, self.items = catalogue, Names(catalogue.vocab)
        n = len(catalogue.vocab)
        counts = np.zeros(n, dtype=np.int64) if self.counts is None else self.counts
        self.order = np.argsort(-counts[1:], kind="stable")         # positions, that is rows less 1
        self.places = None if vectors is None else places(vectors, self.order)
        self._titled = self._whole_titles()
        self.search = TitleSearch([self._name(row) for row in range(1, n)], counts)
        self._warm_up()

    # What a model answers ----------------------------------------------------------------------------------------

    @abstractmethod
    def for_user(self, user: Hashable, n: int, without: list[Hashable], ranked: Ranked = BY_MEAN) -> Lists:
        """The list of a known user."""

    @abstractmethod
    def for_new(self, ratings: Mapping[Hashable, float] | list[Hashable], n: int, without: list[Hashable],
                ranked: Ranked = BY_MEAN) -> Lists:
        """The list of a new user who rated, or chose, these items."""

    @abstractmethod
    def like(self, row: int, n: int) -> Lists:
        """The items most like one."""

    def for_visitor(self, ratings: Mapping[Hashable, float | None], n: int, without: list[Hashable],
                    ranked: Ranked = BY_MEAN) -> Lists:
        """The list of a visitor. Without ratings (None), items are chosen; those with ratings that are not above the
        `threshold` of the data are not, and are left out: the library's own list, without its warning. Raises DataError
        where nothing is chosen."""
        given = {item: rating for item, rating in ratings.items() if rating is not None}
        if not given:
            return self.for_new([*ratings], n, without, ranked)
        if self.threshold is None:
            return self.for_new(given, n, without, ranked)
        chosen = {item: rating for item, rating in given.items() if rating > self.threshold}
        if not chosen:
            raise DataError(f"none of the ratings is above {self.threshold:g}, above which an item counts as chosen; "
                            "send a list of the items that were")
        return self.for_new(chosen, n, [*without, *(given.keys() - chosen.keys())], ranked)

    # What the routes ask -----------------------------------------------------------------------------------------

    def recommend_known(self, user: str, n: int, without: list[str],
                        ranked: Ranked = BY_MEAN) -> list[dict[str, Any]]:
        """Recommendations for a known user. Raises Refused for an unknown one, and what the model cannot rank by."""
        self._check(ranked)
        if self.users is None:
            raise Refused(400, "this index holds no users; send the ratings of a visitor")
        if not (row := self.users.row(user)):
            raise Refused(404, f"there is no user {user[:60]!r}")
        return self._listed(self.for_user(self.users.vocab.ids[row], n, self.ids(without), ranked))

    def recommend_new(self, ratings: Mapping[str, float | None], n: int, without: list[str],
                      ranked: Ranked = BY_MEAN) -> list[dict[str, Any]]:
        """Recommendations for a visitor. Raises Refused for unknown items, what the model cannot rank by, and where it
        takes no visitors."""
        self._check(ranked)
        if not self.visitors:
            raise Refused(400, self.why_not)
        ids = self.ids(list(ratings))
        rated = dict(zip(ids, ratings.values()))
        if self.scale is not None:
            low, high = (self.scale[end] for end in ("low", "high"))
            for item, rating in ratings.items():
                if low is not None and high is not None and rating is not None and not low <= rating <= high:
                    raise Refused(400, f"{rating:g} for {item} is outside the scale of {low:g} to {high:g}")
        if len(rated) < len(ids):
            raise Refused(400, "an item is rated twice, by its id and by its title")
        return self._listed(self.for_visitor(rated, n, self.ids(without), ranked))

    def _check(self, ranked: Ranked) -> None:
        """Raise Refused for a risk and an interval where the model does not know how sure it is."""
        if not self.intervals and (ranked.interval is not None or ranked.risk not in (None, "mean")):
            raise Refused(400, f"{self.model} does not know how sure it is of a rating, and takes no "
                               f"{'risk' if ranked.interval is None else 'interval'}; a model of draws (bayes) does")

    def similar(self, item: str, n: int) -> dict[str, Any]:
        """An item, and those most like it. Raises Refused for an unknown one."""
        row = self.row(item)
        return {**self.shown(row), "items": self._listed(self.like(row, n))}

    def found(self, text: str, n: int) -> list[dict[str, Any]]:
        """The items that a visitor may mean by a text: the one with this id first."""
        row = self.items.row(text.strip())
        rows = [row] if row else []
        return [self.shown(row) for row in dict.fromkeys([*rows, *self.search.find(text, n)])][:n]

    def popular(self, n: int) -> list[dict[str, Any]]:
        """The most rated items; the first ones where nothing is known of that."""
        return [self.shown(int(place) + 1) for place in self.order[:n]]

    def shown(self, row: int) -> dict[str, Any]:
        """An item: its id, title where titles are known, number of ratings and place on the map."""
        shown: dict[str, Any] = {"item": self.items.shown(row)}
        if self.catalogue.titles is not None:
            shown["title"] = self.catalogue.titles[row - 1] or str(shown["item"])
        if self.counts is not None:
            shown["n_ratings"] = int(self.counts[row])
        if self.places is not None:
            shown["x"], shown["y"] = (round(float(at), 4) for at in self.places[row - 1])
        return shown

    def row(self, text: str) -> int:
        """The row of the item with this id, or with this title in capitals or not. Raises Refused where there is none,
        with those that are near and where to search, or several."""
        row = self.items.row(text) or self._titled.get(text.strip().casefold(), UNKNOWN)
        if row < 0:
            raise Refused(400, f"several items have the title {text[:60]!r}; say the id of one: {self._with(text)}")
        if row == UNKNOWN:
            near = " or ".join(self._called(row) for row in self.search.find(text, N_NEAR))
            raise Refused(404, f"there is no item {text[:60]!r}{f'; did you mean {near}?' if near else '.'} "
                               f"/search?q={quote(text[:60], errors='replace')} finds items by parts of their titles")
        return row

    def ids(self, texts: list[str]) -> list[Hashable]:
        """The ids of items that are named by id or title."""
        return [self.catalogue.vocab.ids[self.row(text)] for text in texts]

    def about(self) -> dict[str, Any]:
        """What the service knows and can do."""
        return {"status": "ok", "model": self.model, "items": len(self.catalogue.vocab) - 1,
                "users": 0 if self.users is None else len(self.users.vocab) - 1,
                "titles": self.catalogue.titles is not None, "scale": self.scale, "visitors": self.visitors,
                "why_not": self.why_not, "similar": self.similars, "reasons": self.reasons, "intervals": self.intervals,
                "map": self.places is not None, "key": self.key}

    def _listed(self, table: Lists) -> list[dict[str, Any]]:
        rows = self.catalogue.vocab.encode(table["item"]).tolist()
        found = [{"rank": rank, **self.shown(row), "score": round(float(score), 4)}
                 for rank, row, score in zip(table["rank"], rows, table["score"])]
        for end in ("low", "high"):
            for one, limit in zip(found, table.get(end, ())):
                one[end] = round(float(limit), 4)
        if "why" in table:
            for one, why in zip(found, table["why"]):
                one["why"] = None if why is None else str(why)
        return found

    def _name(self, row: int) -> str:
        title = self.catalogue.titles[row - 1] if self.catalogue.titles is not None else ""
        return title or str(self.catalogue.vocab.ids[row])

    def _called(self, row: int) -> str:
        """How an item is named in a message: its title and its id, where it has both."""
        name, id = self._name(row)[:60], str(self.items.shown(row))
        return repr(name) if name == id else f"{name!r} ({id[:60]})"

    def _named(self) -> Iterator[tuple[int, str]]:
        """Rows of items, with their titles in lower case or, where there are none, with the ids that are text."""
        ids = self.catalogue.vocab if self.catalogue.vocab.kind == "string" else ()
        for row, title in enumerate(map(str, ids) if self.catalogue.titles is None else self.catalogue.titles, 1):
            if title:
                yield row, title.casefold()

    def _whole_titles(self) -> dict[str, int]:
        """The names of `_named` to rows; -1 for those of several items."""
        found: dict[str, int] = {}
        for row, name in self._named():
            found[name] = -1 if name in found else row
        return found

    def _with(self, title: str) -> str:
        """The ids of the items with this title, of many the first."""
        rows = [row for row, name in self._named() if name == title.strip().casefold()]
        more = f" and {len(rows) - N_NEAR:,} more" if len(rows) > N_NEAR else ""
        return ", ".join(str(self.items.shown(row)) for row in rows[:N_NEAR]) + more

    def _warm_up(self) -> None:
        """Answer one request of each kind, so that what is computed once is there, and what cannot be done is known."""
        load_kernels()
        first = int(self.order[0]) + 1
        high = None if self.scale is None else self.scale["high"]
        visitor: dict[Hashable, float | None] = {self.catalogue.vocab.ids[first]: high}
        self.reasons = False
        self.visitors, self.why_not = _whether(lambda: self.for_visitor(visitor, 1, []))
        known = None if self.users is None else self.users.vocab.ids[1]
        self.reasons = True                         # which models without similarities do not have
        asks = [lambda: self.for_visitor(visitor, 1, [])] if self.visitors else []
        asks += [lambda: self.for_user(known, 1, [])] if known is not None else []
        self.reasons = bool(asks) and all(_whether(ask)[0] for ask in asks)
        self.similars = _whether(lambda: self.like(first, 1))[0]
        names = [str(self.items.shown(row)) for row in (*range(1, min(len(self.items.vocab), 1000)), -1)]
        told = repr((self.model, len(self.items.vocab), names, self.catalogue.titles and self.catalogue.titles[:1000]))
        self.key = hashlib.sha256(told.encode(errors="replace")).hexdigest()[:16]


def _whether(ask: Callable[[], object]) -> tuple[bool, str]:
    """Whether a model answers, and if not, why."""
    try:
        ask()
    except DataError as error:
        return False, str(error)
    return True, ""


class OfLearner(Served):
    """A learner that is served."""

    def __init__(self, learn: CollabLearner, rules: ListRules):
        self.rules, self.learn, self.model, self.users = rules, learn, learn.collab_model.kind, Names(learn.data.users)
        self.counts = learn.data.counts().numpy()
        self.threshold = learn.data.threshold
        if not learn.ranks and not learn.data.implicit:
            levels = learn.data.levels.cpu()
            low, high = learn.scale or (levels[0].item(), levels[-1].item())
            self.scale = scale_of(low, high, step=step_of(low, levels))
            self.intervals = learn.collab_model.gives_intervals
        self._least = MIN_RATINGS if (self.counts[1:] >= MIN_RATINGS).sum() > 1 else 0
        try:
            vectors = learn.weight(is_item=True).double().numpy()
        except Unsupported:
            vectors = None
        super().__init__(learn.data.catalogue, vectors)

    def for_user(self, user: Hashable, n: int, without: list[Hashable], ranked: Ranked = BY_MEAN) -> Lists:
        return self.learn.recommend(user, n=n, without=without or None, why=self.reasons, as_frame="dict",
                                    **self.rules._asdict(), **_drawn(ranked))

    def for_new(self, ratings: Mapping[Hashable, float] | list[Hashable], n: int, without: list[Hashable],
                ranked: Ranked = BY_MEAN) -> Lists:
        if isinstance(ratings, list) and not self.learn.data.implicit:
            scale = self.learn.data.scale               # of a model that ranks, whose objective reads no ratings
            ratings = dict.fromkeys(ratings, 1.0 if scale is None else scale[1])
        return self.learn.recommend(ratings=ratings, n=n, without=without or None, why=self.reasons, as_frame="dict",
                                    **self.rules._asdict(), **_drawn(ranked))

    def like(self, row: int, n: int) -> Lists:
        return self.learn.similar_items(self.catalogue.vocab.ids[row], n=n, min_ratings=self._least,
                                        among=self.rules.among, as_frame="dict")


class OfIndex(Served):
    """An index that is served: it knows neither what its users have seen nor how often items were rated."""

    def __init__(self, index: Index, rules: ListRules):
        self.rules, self.index, self.model = rules, index, "Index"
        self.users = None if index.user_ids is None else Names(index.user_ids)
        ranks = isinstance(index.equations, RankedFolding)      # by an objective, which reads no ratings
        ends = None if ranks else index.scale or (None if index.rules.implicit else index.y_range)
        self.scale, self.threshold = ends and scale_of(*ends, step=index.rules.step), index.rules.threshold
        vectors = index.items[1:, :index.n_factors].double()        # without biases: likeness is that of factors
        self._directions = torch.nn.functional.normalize(vectors, dim=1)
        super().__init__(index.catalogue, vectors.numpy())
        self.reasons = self.reasons and self.visitors       # it does not hold the ratings of its users

    def for_user(self, user: Hashable, n: int, without: list[Hashable], ranked: Ranked = BY_MEAN) -> Lists:
        return self.index.recommend(user, n=n, exclude=without, unknown="error", as_frame="dict",
                                    **self.rules._asdict())

    def for_new(self, ratings: Mapping[Hashable, float] | list[Hashable], n: int, without: list[Hashable],
                ranked: Ranked = BY_MEAN) -> Lists:
        equations = self.index.equations
        if isinstance(equations, RankedFolding):
            if isinstance(ratings, list) and equations.mean is not None:
                ratings = dict.fromkeys(ratings, equations.mean + 1)    # above the mean: what is chosen is liked
        elif self.scale is None and not self.index.rules.implicit and equations is not None:
            raise DataError("this index does not say on which scale its items were rated; serve the model's own file")
        return self.index.recommend(ratings=ratings, n=n, exclude=without, why=self.reasons, as_frame="dict",
                                    **self.rules._asdict())

    def like(self, row: int, n: int) -> Lists:
        cosine = self._directions @ self._directions[row - 1]
        cosine[row - 1] = -torch.inf
        if self.rules.among is not None:
            cosine[~torch.from_numpy(self.rules.among.rows[1:])] = -torch.inf
        best = torch.argsort(cosine, descending=True, stable=True)[:min(n, int(cosine.isfinite().sum()))]
        return {"rank": [*range(1, len(best) + 1)], "item": self.catalogue.vocab.decode(best.numpy() + 1).tolist(),
                "score": cosine[best].tolist()}


def _drawn(ranked: Ranked) -> dict[str, Any]:
    """What lists are ranked by, with a seed of its own for each draw: threads would share torch's random state."""
    return {**ranked._asdict(), "seed": secrets.randbits(62) if ranked.risk == "draw" else None}


def scale_of(low: float, high: float, *, step: float | None = None) -> Scale:
    """The scale on which a visitor rates: lowest, highest and step, None for any number. Without a step (see
    `RatingRules`) it is 1 or 0.5, where the ends are multiples of it."""
    if step is None:
        step = next((s for s in (1.0, 0.5) if low % s == 0 and high % s == 0 and (high - low) / s <= FEW_LEVELS), None)
    return {"low": low, "high": high, "step": step or None}
