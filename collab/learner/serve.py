"""What a learner does for many users, and for new ones: methods of CollabLearner, in a room of their own."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..data.extend import extended
from ..data.new_user import further_ratings, one_person
from ..data.schema import check_ratings, show
from ..environment import bars_wanted
from ..errors import DataError
from ..files import whole_file
from ..models.als import ALS
from ..models.dot_form import DotForm, dot_form
from ..models.ease import EASE
from ..models.embedding import EmbeddingDot, EmbeddingDotBias, sigmoid_range
from ..models.softmax import SoftmaxNet
from ..numerics import products
from ..retrieval.fold_in_ranking import choose_ranked_ridge, solve_ranked
from ..retrieval.fold_in_ratings import Ridge, choose_ridge, solve
from ..retrieval.fold_in_terms import pull_of
from ..retrieval.index import Index
from ..retrieval.topk import check_exclude, check_k
from ..train.callbacks.loss_terms import terms_of

Rated = Mapping[Hashable, float] | pd.Series | pd.DataFrame | list | set
"""What somebody rated: {item: rating}, a Series of ratings indexed by item, or a table with columns item and rating. Of
implicit data also what somebody chose: a list or set of items, or a table with the column item."""

MAX_ROWS = 1 << 16      # recommendations that are made at a time


# Many users -------------------------------------------------------------------------------------------------------

def recommend_all(self: Any, n: int = 10, users: Any = None, *, exclude: str | None = "known",
                  among: Hashable | Iterable[Hashable] | None = None, path: str | Path | None = None,
                  without: Hashable | Iterable[Hashable] | None = None,
                  unknown: str = "average") -> Iterator[pd.DataFrame] | Path:
    """`recommend` for many `users` (one id or several), by default all that were trained on: an iterator over tables of
    some 65,000 rows (user, rank, item, title, score), in the order of the users, never all at a time; `exclude`,
    `among`, `without` and `unknown` are those of `recommend`.

    With `path` the rows are written to that file, .parquet (which needs pyarrow) or .csv, as they come, with
    a bar where somebody watches, and the path is returned. The file takes its name when it is whole: Ctrl-C leaves the
    old one. Raises DataError for another ending, ids that the file cannot hold, or without pyarrow."""
    check_k(n)
    check_exclude(exclude)
    pool = self._pool(among, without, unknown)
    vocab = self.data.users
    asked = (vocab.decode(np.arange(1, len(vocab))) if users is None else
             pd.Index(vocab.listed(users), tupleize_cols=False))
    rows = self._rows(vocab, asked, unknown)
    size = max(1, MAX_ROWS // min(n, max(1, len(pool))))

    def tables() -> Iterator[pd.DataFrame]:
        for begin in range(0, len(rows), size):
            yield self._recommended(rows[begin:begin + size], pool, n, exclude, asked[begin:begin + size])
    if path is None:
        return tables()
    path, total = Path(path), -(-len(rows) // size)
    first = self._recommended(rows[:0], pool, n, None, asked[:0])      # no rows, but the columns and their types
    {".parquet": _write_parquet, ".pq": _write_parquet, ".csv": _write_csv}.get(path.suffix.lower(), _no_ending)(
        path, first, _with_bar(tables(), total))
    return path


def _with_bar(tables: Iterator[pd.DataFrame], total: int) -> Iterator[pd.DataFrame]:
    if not bars_wanted() or not total:
        return tables
    from fastprogress import progress_bar
    return iter(progress_bar(tables, total=total))


def _no_ending(path: Path, *_: Any) -> None:
    raise DataError(f"recommendations are written as .parquet or .csv, but the ending of {path} is {path.suffix!r}")


def _write_csv(path: Path, first: pd.DataFrame, tables: Iterator[pd.DataFrame]) -> None:
    with whole_file(path) as file:
        file.write(first.to_csv(index=False, lineterminator="\n").encode())
        for table in tables:
            file.write(table.to_csv(index=False, header=False, lineterminator="\n").encode())


def _write_parquet(path: Path, first: pd.DataFrame, tables: Iterator[pd.DataFrame]) -> None:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise DataError(f"{path}: writing Parquet needs pyarrow: pip install pyarrow") from None
    with whole_file(path) as file:
        writer: Any = None
        try:
            for table in (table for table in tables if len(table)):     # the first rows decide the types
                columns = pa.Table.from_pandas(table, writer and writer.schema, preserve_index=False)
                if any(pa.types.is_nested(kind) for kind in columns.schema.types):
                    raise pa.ArrowTypeError("tuples would be read back as arrays")
                writer = writer or ParquetWriter(file, columns.schema, compression="zstd")
                writer.write_table(columns)
            writer = writer or ParquetWriter(file, pa.Schema.from_pandas(first, preserve_index=False))
        except (pa.ArrowException, OverflowError) as error:
            raise DataError(f"{path}: these ids cannot be written as Parquet ({error}); write a .csv") from None
        finally:
            if writer is not None:
                writer.close()


# New users --------------------------------------------------------------------------------------------------------

def rated_rows(self: Any, ratings: Rated, unknown: str = "average") -> tuple[Tensor, Tensor]:
    """(item rows, ratings float32) of what somebody new rated. Unknown items are left out, with a warning, or raise
    UnknownId: all of them, or with unknown="error". Raises DataError for nothing, several people, an item that comes
    twice, and ratings that are no numbers or outside the scale."""
    items, values = one_person(ratings, self.data.schema, implicit=self.data.implicit)
    if not len(items):
        raise DataError("there are no ratings to fold in; somebody of whom nothing is known is an unknown user")
    values, rows = check_ratings(values.rename("rating")), self.data.catalogue.known(items, "that are rated", unknown)
    items, values, rows = items[rows > 0], values[rows > 0], rows[rows > 0]
    if (again := pd.Series(rows).duplicated().to_numpy()).any():
        raise DataError(f"item {show(items.iloc[int(np.argmax(again))])} is rated more than once")
    return torch.from_numpy(rows), _on_scale(self, items, values)


def _on_scale(self: Any, items: pd.Series, values: pd.Series) -> Tensor:
    given = values.to_numpy(dtype=np.float32)       # as those are that the scale was taken from
    if self.scale is not None and (outside := (given < self.scale[0]) | (given > self.scale[1])).any():
        first = int(np.argmax(outside))
        raise DataError(f"{int(outside.sum()):,} of {len(values):,} ratings lie outside the scale of "
                        f"{self.scale[0]:g} to {self.scale[1]:g}, such as {values.iloc[first]:g} of item "
                        f"{show(items.iloc[first])}")
    return torch.tensor(given)


def scores_of(self: Any, items: Tensor, ratings: Tensor) -> Tensor:
    """The scores of all items, shape (n_items,), for somebody new: a model's own `fold_in(item_rows, ratings)` or
    `score_history(item_rows, ratings)`, or else those of the vector that `fold_in` solves. Raises DataError without."""
    items, ratings = items.to(self.device), ratings.to(self.device)
    for name in ("fold_in", "score_history"):
        if callable(own := getattr(self.model, name, None)):
            return self.looking(lambda: own(items, ratings)).float()
    _check_objective(self)
    form = _form(self, "takes no new users: its score is no product of a user and an item, and it has no "
                       "fold_in(item_rows, ratings); train again with their ratings")
    solved = solved_users(self, form, torch.zeros_like(items), items, ratings, 1)
    with torch.no_grad():
        return sigmoid_range(products(form.queries(solved.float()), form.item_vectors())[0], form.y_range).float()


def _check_objective(self: Any) -> None:
    """Raises DataError where nobody can be solved for: the model ranks, by an objective that its file did not hold."""
    if self.objective is None and "predicts_ratings" in vars(self.model):      # see `load_learner`
        raise DataError(f"{type(self.model).__name__} was trained to rank with an objective that is not collab's own; "
                        "add it, and people can be folded in: learn.add_cbs(...)")


def solved_users(self: Any, form: DotForm, users: Tensor, items: Tensor, ratings: Tensor, n_users: int) -> Tensor:
    """[p, b] (without biases p) of new people from rows and ratings of shape (n,), float64 (n_users, width): from their
    ratings (`fold_in.solve`) or, of a model that was trained to rank, from what they chose (`solve_ranked`)."""
    users, items, ratings = (t.to(form.items.device) for t in (users, items, ratings))
    pull = pull_of(terms_of(self.cbs), form, self.data.train.n)
    held: Any = ridge(self, form, pull)
    if self.objective is None:
        return solve(form, users, items, ratings, n_users, held, pull=pull)
    return torch.stack([solve_ranked(form, self.objective.expected, items[users == k], held, pull=pull)
                        for k in range(n_users)])


def ridge(self: Any, form: DotForm, pull: Tensor | None = None) -> Ridge | float:
    """What `choose_ridge` or `choose_ranked_ridge` says of the training users, kept until the weights are others."""
    if self.objective is not None:
        self.objective.know(self.data)
    tables = [t.double().square().sum().item() for t in (form.users, form.items, pull) if t is not None]
    now = *tables, self.data.train.n, repr(self.objective)
    if vars(self).get("_ridge", (None, None))[0] != now:
        users, items, ratings = self.data.train.tensors
        self._ridge = now, (choose_ridge(form, users, items, ratings, pull) if self.objective is None else
                            choose_ranked_ridge(form, self.objective.expected, users, items, pull))
    return self._ridge[1]


def _form(self: Any, otherwise: str) -> DotForm:
    form = self.looking(lambda: dot_form(self.model))
    if form is None:
        raise DataError(f"{type(self.model).__name__} {otherwise}")
    return form


def index(self: Any, users: bool = True, method: str = "exact") -> Index:
    """The items as vectors, to search and to serve without the ratings (see `Index`); without `users` not even with
    the vectors of the users. Raises DataError where the model's score is no product of vectors."""
    return Index.of(_form(self, "has no index: its score is no product of a user and an item"), self.data,
                    None if self.objective else self.scale, users, method)


def add_ratings(self: Any, ratings: pd.DataFrame, duplicates: str = "keep", *, unknown: str = "average") -> Any:
    """A new learner that also knows the people in `ratings`: a table with the columns of the training ratings, or
    user, item and rating. Nothing is trained: new users, and known ones who rated more, are solved from all their
    ratings with the items as they are. This learner stays as it is; to the bit, so do
    the items and the other users in the new one.

    The new one has the same loss, optimizer, rates, metrics, notes and history, and a validation part of the same
    ratings; callbacks that were added are not taken along. A further fit begins with a fresh optimizer. `duplicates` is
    that of `from_df`; a pair that was trained on and comes again counts with both ratings.

    Items are named by id or title. Rows without a rating, and those of unknown items, are left out, with a warning that
    counts them; with unknown="error", or where no item is known, these raise UnknownId.

    Raises DataError for what `from_df` refuses, ratings outside the scale, a ranker whose objective its file did not
    hold, until it is added, and models without a vector a user that is theirs alone (of `SVDpp`, items too depend on
    who rated them; a `TwoTower` reads metadata): those recommend with `ratings=`."""
    if type(self.model) not in (EmbeddingDot, EmbeddingDotBias, ALS, EASE, SoftmaxNet):
        raise DataError(f"{type(self.model).__name__} cannot take in users: it has no table of vectors that are theirs "
                        "alone; use recommend(ratings=...) for one of them, or train again")
    if type(self.model) in (EmbeddingDot, EmbeddingDotBias):
        _check_objective(self)
    ratings = further_ratings(self.data, ratings, unknown)
    table = self.data.table(ratings, duplicates)
    _on_scale(self, table["item"], table["rating"])
    data, old = extended(self.data, table, self.data.weak(ratings))
    fresh = torch.from_numpy(np.unique(data.users.encode(table["user"])))
    model, kept = _with_users(self, data, old, fresh)
    learn = self._over(data, model)
    learn.model.load_state_dict(kept, strict=False)         # the items' row 0 too is what it was
    learn.notes, learn.lost = copy.deepcopy(self.notes), [*self.lost]
    learn.recorder.load_state_dict(self.recorder.state_dict())
    learn.model.eval()      # nothing is to be switched where several threads look
    return learn


def _with_users(self: Any, data: Any, old: Tensor, fresh: Tensor) -> tuple[nn.Module, dict[str, Tensor]]:
    """(the model with the users of `data`, what of its state is not the users')."""
    state = self.model.state_dict()
    tables = [name for name in ("u_weight.weight", "u_bias.weight") if name in state]
    kept = {name: t for name, t in state.items() if name not in tables}
    if not tables:          # users are their histories: a closed form's learner tells them
        model = copy.deepcopy(self.model)
        if isinstance(model, SoftmaxNet):
            users, chosen, _ = data.train.tensors
            model.remember(users, chosen, data.n_users)
        return model, kept
    position, items = data.histories.pairs(fresh)
    ratings = torch.cat([data.histories[row][1] for row in fresh.tolist()])
    if isinstance(self.model, ALS):
        solved = self.model.solve_users(position + 1, items, ratings, len(fresh) + 1)[1:]
    else:
        form = _form(self, "")
        solved = solved_users(self, form, position, items, ratings, len(fresh))
    with torch.random.fork_rng(devices=[]):
        model = type(self.model)(**{**self.model.config, "n_users": data.n_users})
    for name in tables:
        state[name] = state[name][old.to(state[name].device)]
    state[tables[0]][fresh] = solved[:, :self.model.u_weight.embedding_dim].to(state[tables[0]])
    if len(tables) > 1:
        state[tables[1]][fresh] = solved[:, -1:].to(state[tables[1]])
    model.load_state_dict(state)
    return model, kept
