"""Index: items as vectors and ids, searched by query vectors and served without the ratings."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.allowed import Chosen, allowed
from ..data.catalogue import Catalogue, average_rows, check_unknown
from ..data.databunch import CollabDataBunch
from ..data.frame_kinds import check_kind, framed, made_of
from ..data.frames import Column, frame_of
from ..data.histories import Histories
from ..data.rating_rules import Rated, RatingRules, step_of
from ..data.schema import Schema
from ..data.vocab import ONE, UNKNOWN, Ids, Vocab, labels, several
from ..data.where import Where, column_of
from ..errors import DataError
from ..models.dot_form import DotForm, TableScorer
from ..models.embedding import Range, sigmoid_range
from ..numerics import products
from .compiled_one import BestOfOne
from .diverse import check_diversity, diverse_places, n_candidates
from .equations import Equations
from .fold_in_ranking import RankedFolding
from .index_file import form_of, read_index, write_index
from .list_rules import NO_RULES, ListRules
from .topk import check_k, top_k

METHODS = ("exact", "usearch")
TIMES_MORE = 8      # an approximate search asks for this many times as many, and scores them exactly


class Index:
    """The best items for a query vector, by the inner product with the items' vectors.

    `items` (n_items, width) are the vectors by row of the vocab `item_ids`; row 0, the unknown one, is never found.
    `users` (n_users, width) are the queries of known users, row 0 of the average one; None for an index of items
    alone. A model's biases are further dimensions ([q, b_i + mu, 1] times [p, 1, b_u]), so that the order is the
    model's; its range and the rating scale (`y_range`, `scale`) are applied to the reported scores.

    `method` "exact" compares all items; "usearch" walks a graph (HNSW: Malkov and Yashunin 2018) over vectors that one
    more dimension makes equally long (Bachrach et al. 2014), and scores what it finds exactly; items far down a list
    may be missing. It needs the package usearch. An index holds no ratings: it does not know who has seen what.

    `equations`, or an objective (`RankedFolding`), solve the vectors of new users, whose ratings are read by `rules`;
    without them it knows no new users. `table` is what is known of the items, indexed by id; the first `n_factors`
    dimensions of `items` are factors, by which items are alike.

    Raises DataError for another method, ImportError without usearch."""

    def __init__(self, items: Tensor, item_ids: Vocab, titles: list[str] | None = None, users: Tensor | None = None,
                 user_ids: Vocab | None = None, y_range: Range | None = None, scale: Range | None = None,
                 method: str = "exact", equations: Equations | RankedFolding | None = None,
                 rules: RatingRules | None = None, table: pd.DataFrame | None = None, n_factors: int | None = None):
        if method not in METHODS:
            raise DataError(f"method={method!r} is not one of {', '.join(METHODS)}")
        if len(items) != len(item_ids) or (users is not None and (user_ids is None or len(users) != len(user_ids))):
            raise DataError("there must be a vector for every row of the ids, the unknown row included")
        self.items, self.item_ids, self.titles = _copy(items), item_ids, titles
        self.users = None if users is None else _copy(users)
        self.user_ids, self.y_range, self.scale, self.method = user_ids, y_range, scale, method
        self.catalogue = Catalogue(item_ids, titles)
        self.rules = rules or RatingRules(Schema("user", "item", "rating"), scale=scale)
        self.equations = equations and _over(self.items, equations)
        self.table, self.n_factors = table, n_factors or _n_factors(self.items)
        self.older: set[str] = set()        # what the version that wrote its file did not keep
        self._graph = _graph(self.items) if method == "usearch" else None
        self._norm = torch.linalg.vector_norm(self.items)
        lost = math.sqrt(self.items.shape[1]) * 2.0 ** -63      # by squares too small for float32
        self._longest = torch.linalg.vector_norm(self.items, dim=1).max().item() + lost
        scores = None if self.users is None else TableScorer(DotForm(self.users, self.items), self._norm, self._longest)
        self._best_of_one = None if scores is None else BestOfOne(scores, range(1, len(self.items)), y_range, scale)

    @classmethod
    def of(cls, form: DotForm, data: CollabDataBunch, scale: Range | None, users: bool = True,
           method: str = "exact", equations: Equations | RankedFolding | None = None,
           columns: Iterable[Hashable] | None = None) -> Index:
        """The index of a model's tables over its data's ids; without `users`, of the items alone. It keeps these
        `columns` of what is known of the items, by default all. Raises DataError for one that is not there."""
        table = data.item_table[data.items.encode(data.item_table.index) != UNKNOWN]
        if columns is not None:
            table = table[[column_of(table, name, "columns") for name in columns]]
        step = None if scale is None else step_of(scale[0], data.levels)
        return cls(form.item_vectors(), data.items, data.titles([*data.items]), form.user_vectors() if users else None,
                   data.users if users else None, form.y_range, scale, method, equations,
                   RatingRules(data.schema, data.implicit, data.threshold, scale, step), table, form.items.shape[1])

    @property
    def schema(self) -> Schema:
        """The columns of the training ratings."""
        return self.rules.schema

    @property
    def implicit(self) -> bool:
        """Whether these were choices."""
        return self.rules.implicit

    def __len__(self) -> int:
        """The number of items."""
        return len(self.item_ids) - 1

    def __repr__(self) -> str:
        known = "" if self.user_ids is None else f", {len(self.user_ids) - 1:,} users"
        return f"Index({len(self):,} items{known}, {self.items.shape[1]} dimensions, {self.method})"

    def search(self, vectors: Tensor | np.ndarray, k: int = 10,
               exclude: Iterable[Hashable | Iterable[Hashable]] | None = None) -> pd.DataFrame:
        """The `k` best items for each of `vectors` (m, width), or for one (width,): query (its position), rank, item,
        title (where known), score. Equal scores by the order of ids; fewer than k where no more are left.

        `exclude` holds, for each query, a list of items (ids or titles) to leave out; unknown ids exclude nothing.
        Raises ValueError for vectors of another width or that are not finite, or another number of lists."""
        queries = torch.as_tensor(vectors).float().cpu()
        queries = queries[None] if queries.dim() == 1 else queries
        if queries.dim() != 2 or queries.shape[1] != self.items.shape[1]:
            raise ValueError(f"vectors must have the shape (m, {self.items.shape[1]}), got {tuple(queries.shape)}")
        if not queries.isfinite().all():
            raise ValueError("vectors must be finite numbers")
        lists = [[] for _ in queries] if exclude is None else [self.item_ids.listed(ids) for ids in exclude]
        if len(lists) != len(queries):
            raise ValueError(f"exclude must hold a list for each of {len(queries)} queries, got {len(lists)}")
        return frame_of(self._best(queries, k, lists, NO_RULES)[0])

    def recommend(self, user: Ids | None = None, n: int = 10,
                  exclude: Hashable | Iterable[Hashable] | Mapping[Hashable, Iterable[Hashable]] = (),
                  unknown: str = "average", *, ratings: Rated | None = None, why: bool = False,
                  among: Chosen | None = None, without: Chosen | None = None, where: Where | None = None,
                  diversity: float = 0.0, as_frame: str = "pandas", risk: float | str | None = None,
                  interval: float | None = None) -> Any:
        """The `n` best items for a user: rank, item, title, score. For several users (a list, array or Series), one
        table below another with the column user in front. In place of a user, pass the `ratings` of a new one, as to
        `CollabLearner.recommend`: these items are left out, and with `why` a column says which of them raises the score
        most, None where none does.

        `exclude` are items (ids or titles) to leave out for all users or, as {user: items}, for each; unknown ids
        exclude nothing. `among`, `without`, `where` and `diversity` are those of `CollabLearner.recommend`; a search by
        "usearch" compares all items where one of the first three is given. An unknown user stands for the average one,
        with a warning, or raises UnknownId with unknown="error". `as_frame` is "pandas", "polars", "pyarrow" or "dict",
        {column: list}: the kind of table.
        Raises DataError for an index without users, for `ratings` where it holds nothing to fold in new ones by, for
        `why` of a known user, whose ratings it does not hold, and for conditions on items of which it keeps no
        columns; and for a `risk` other than "mean" or an `interval`, which take the model itself: an index holds the
        means of what it has drawn."""
        check_kind(as_frame)
        if risk not in (None, "mean") or interval is not None:
            raise DataError("an index holds vectors, and not how sure the model is of them; ask the learner: "
                            f"learn.recommend(user, {'interval' if interval is not None else 'risk'}=...)")
        rules = NO_RULES
        if among is not None or without is not None or where is not None or diversity:
            kept = self.allowed(among, without, where, unknown)
            rules = ListRules.of(kept, diversity)
        if user is not None and ratings is not None:
            raise TypeError("give either a user, or the ratings= of a new one")
        if ratings is not None:
            return self._recommend_new(ratings, n, exclude, unknown, why, rules, as_frame)
        if user is None:
            raise DataError("give a user, or the ratings= of a new one")
        if why:
            raise DataError("an index holds no ratings, so that it cannot say why a known user gets an item; pass "
                            "their ratings=, or ask the learner: learn.recommend(user, why=True)")
        if self.users is None or self.user_ids is None:
            raise DataError("this index holds no users; make it with learn.index(users=True), or search with a vector")
        check_unknown(unknown)
        if rules is NO_RULES and type(user) in ONE and exclude.__class__ is tuple and not exclude and (
                one := self._one(user, n, as_frame)) is not None:
            return one
        if as_frame == "dict" and not several(user) and not isinstance(exclude, Mapping):
            return self._lists(average_rows(self.user_ids, labels(user), unknown), n, self.item_ids.listed(exclude),
                               rules)
        asked = labels(user)
        if isinstance(exclude, Mapping):
            self.user_ids.encode(list(exclude)[:1])         # refuses '5' where 5 is a user
            if odd := [ids for ids in exclude.values() if isinstance(ids, str) or not isinstance(ids, Iterable)][:1]:
                raise DataError(f"exclude={{user: items}} holds a list of items for each user, got {odd[0]!r}")
            lists = [self.item_ids.listed(exclude.get(one, ())) for one in asked]
        else:
            lists = [self.item_ids.listed(exclude)] * len(asked)
        columns, _ = self._best(self.users[average_rows(self.user_ids, asked, unknown)], n, lists, rules)
        query = np.asarray(columns.pop("query"))
        if not several(user):
            return made_of(columns, as_frame)
        found = frame_of(columns)
        found.insert(0, "user", pd.Index(asked, tupleize_cols=False).take(query))
        return framed(found, as_frame)

    def allowed(self, among: Chosen | None = None, without: Chosen | None = None, where: Where | None = None,
                unknown: str = "average") -> np.ndarray | None:
        """Which rows may be recommended, bool (len(item_ids),); None where all items may."""
        return allowed(self.catalogue, self._known_of_items, among=among, without=without, where=where, unknown=unknown)

    def _known_of_items(self) -> pd.DataFrame:
        """The columns for conditions. Raises DataError for an index that keeps none."""
        if self.table is None:
            raise DataError("this index knows nothing of its items but ids and titles" +
                            (": its file is of an earlier version" if "table" in self.older else "") +
                            "; make it again with learn.index(), which keeps the columns of the table of items")
        return self.table

    def _recommend_new(self, ratings: Rated, n: int, exclude: object, unknown: str, why: bool, rules: ListRules,
                       as_frame: str) -> Any:
        if self.equations is None:
            raise DataError("this index cannot fold in new users: " + (
                "its file is of an earlier version, which kept no ridge; make it again with learn.index()"
                if "fold_in" in self.older else
                "it was made without (new_users=False), or its model scores them in a way of its own, or by an "
                "objective that is not collab's own, which takes more than vectors; ask the learner: "
                "learn.recommend(ratings=...)"))
        if isinstance(exclude, Mapping):
            raise DataError("exclude={user: items} is for known users; for a new one pass a list of items")
        items, values, chosen = self.rules.rows(ratings, self.catalogue, unknown)
        rated, values = items[chosen], values[chosen]
        solved = self.equations.solve(rated, values)[None].float()
        lists = [[*self.item_ids.listed(exclude), *self.item_ids.decode(items.numpy())]]
        columns, rows = self._best(self.equations.form.queries(solved), n, lists, rules)
        del columns["query"]
        if why:
            causes = self.equations.reasons(rated, values, torch.from_numpy(rows))
            columns["why"] = self.catalogue.names(causes.numpy())
        return made_of(columns, as_frame)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with vectors, ids, titles and columns of the items, and what folds in new users,
        without ratings; whole, or not at all. Raises DataError for a column that a file cannot hold."""
        return write_index(self, path)

    @classmethod
    def load(cls, path: str | Path, method: str | None = None) -> Index:
        """Load what `save` wrote: the same answers, to the bit, with the file's `method` unless another is given.
        Raises FileNotFoundError, or DataError for another file or a damaged one."""
        parts = read_index(path)
        older = parts.pop("older")
        index = cls(**{**parts, "method": method or parts["method"]})
        index.older = older
        return index

    def _best(self, queries: Tensor, k: int, exclude: list[list[Hashable]],
              rules: ListRules) -> tuple[dict[str, Column], np.ndarray]:
        """The columns of `search`, without the items that each query excludes; and the rows of the items."""
        found, scores = self._find(queries, k, self._excluded(exclude), rules)
        there = found.numpy() >= 0
        query, place = there.nonzero()
        rows = found.numpy()[there]
        return {"query": query, "rank": place + 1, "item": self.item_ids.decode(rows),
                **self.catalogue.title_column(rows), "score": self._shown(scores.numpy()[there])}, rows

    def _lists(self, row: np.ndarray, n: int, exclude: list[Hashable], rules: ListRules) -> dict[str, list]:
        """The recommendations of one user row (1,), as lists."""
        found, scores = self._find(self.users_at(row), n, self._excluded([exclude]), rules)
        there = found.numpy() >= 0
        return self.catalogue.lists(found.numpy()[there], self._shown(scores.numpy()[there]))

    def _one(self, user: object, n: int, as_frame: str) -> Any:
        """The list of one known user by the shortest way; None where there is none."""
        row = 0 if self.user_ids is None else self.user_ids.find(user)
        if not row or self._best_of_one is None or self._graph is not None or type(n) is not int or n < 1:
            return None
        return self._best_of_one.listed(self.catalogue, row, 0, n, None, as_frame, pd.DataFrame)

    def _shown(self, scores: np.ndarray) -> np.ndarray:
        """Scores before the range as they are reported."""
        best = sigmoid_range(torch.from_numpy(scores).double(), self.y_range)
        return (best if self.scale is None else best.clamp(*self.scale)).float().numpy()

    def users_at(self, rows: np.ndarray) -> Tensor:
        """The queries of these user rows, (m, width). Raises DataError for an index without users."""
        if self.users is None:
            raise DataError("this index holds no users; make it with learn.index(users=True), or search with a vector")
        return self.users[rows]

    def _excluded(self, lists: list[list[Hashable]]) -> Histories | None:
        """The rows that each query excludes; None where none does."""
        if not any(lists):
            return None
        lengths = torch.tensor([len(ids) for ids in lists], dtype=torch.int64)
        position = torch.repeat_interleave(torch.arange(len(lists)), lengths)
        out = torch.from_numpy(self.catalogue.excluded([id for ids in lists for id in ids]))
        return Histories.of(position, out, torch.ones(len(out)), len(lists))

    def _find(self, queries: Tensor, n: int, seen: Histories | None, rules: ListRules) -> tuple[Tensor, Tensor]:
        """Rows and scores before the range, both (m, k), of the `n` best, made `diverse`."""
        check_k(n)
        check_diversity(rules.diversity)
        pool = rules.pool
        k = min(n_candidates(n, rules.diversity), max(1, len(self) if pool is None else len(pool)))
        found, scores = self._top(queries, k, seen, pool)
        if not rules.diversity:
            return found, scores
        ranged = sigmoid_range(scores, self.y_range)        # as a learner's are when its lists are made diverse
        places = diverse_places(found, ranged, self.items[:, :self.n_factors], n, rules.diversity)
        return found.gather(1, places), scores.gather(1, places)

    def _top(self, queries: Tensor, k: int, seen: Histories | None, pool: Tensor | None) -> tuple[Tensor, Tensor]:
        """The `k` best of the pool; by the graph, if any, where these are all items."""
        if self._graph is None or pool is not None:
            scores = TableScorer(DotForm(queries, self.items), self._norm, self._longest)
            return top_k(scores, torch.arange(len(queries)), range(1, len(self.items)) if pool is None else pool, k,
                         seen)
        most = int(seen.starts.diff().max()) if seen is not None and len(queries) else 0
        found = [_nearest(self._graph, query, min(TIMES_MORE * k + most, len(self))) for query in queries]
        parts = []
        for row, near in enumerate(found):
            def scored(rows: Tensor, items: Tensor) -> Tensor:
                return products(queries[rows], self.items, items)
            parts.append(top_k(scored, torch.tensor([row]), near, k, seen))
        empty = torch.zeros(0, k)
        return torch.cat([empty.long(), *(p[0] for p in parts)]), torch.cat([empty, *(p[1] for p in parts)])


def _copy(vectors: Tensor) -> Tensor:
    """Copy vectors: the model whose weights they are may be trained further."""
    return vectors.detach().to("cpu", torch.float32, copy=True).contiguous()


def _over(items: Tensor, of: Equations | RankedFolding) -> Equations | RankedFolding:
    """What folds in new users, over an index's own copies of the vectors."""
    pull = None if of.pull is None else of.pull.detach().cpu()
    if isinstance(of, Equations):       # whose mu stands in the vectors
        return Equations(form_of(items, of.form.average, of.form._replace(mu=0.0)), of.ridge, pull)
    loss = of.loss._replace(share=of.loss.share.detach().cpu())
    return RankedFolding(form_of(items, of.form.average, of.form), loss, of.ridge, pull, of.mean)


def _n_factors(items: Tensor) -> int:
    """How many of the dimensions of items' vectors are factors: all but the two of biases, [q, b + mu, 1], if any."""
    width = items.shape[1]
    return width - 2 if width > 2 and bool((items[1:, -1] == 1).all()) else width


def _graph(items: Tensor) -> Any:
    """A graph over the items, made equally long, so that the nearest by cosine are the largest products."""
    try:
        from usearch.index import Index as Graph
    except ImportError:
        raise ImportError("method='usearch' needs usearch: pip install usearch, or take method='exact'") from None
    norms = items[1:].norm(dim=1)
    longer = (norms.max().square() - norms.square()).clamp(min=0).sqrt()
    graph = Graph(ndim=items.shape[1] + 1, metric="cos", dtype="f32", connectivity=32, expansion_add=256,
                  expansion_search=512)
    graph.add(np.arange(1, len(items)), torch.cat([items[1:], longer[:, None]], 1).numpy(), threads=1)
    return graph


def _nearest(graph: Any, query: Tensor, k: int) -> Tensor:
    """The rows of about the k best, ascending."""
    keys = graph.search(np.append(query.numpy(), np.float32(0)), k).keys
    return torch.from_numpy(np.sort(keys.astype(np.int64)))
