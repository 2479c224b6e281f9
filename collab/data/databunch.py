"""CollabDataBunch: training, validation and test ratings over shared vocabs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..errors import DataError
from ..frames import Table
from .aside import Aside
from .batches import TensorBatches, on_device
from .catalogue import Catalogue, titles
from .features import Features
from .files import read_table
from .history import Histories
from .implicit import add_up, interaction_schema, interaction_table, too_weak, with_weights
from .schema import Schema, check_both_sides, check_column_names, rating_table
from .split import Split, apply_split, random_split
from .vocab import UNKNOWN, Vocab, id_index

MAX_LEVELS = 101            # more distinct ratings than this are no scale (0 to 100 is one)
VALID_BS = 8192             # nothing is learned from validation batches, so they may be large


class DataBunch:
    """Training, validation and test batches on one device: TensorBatches, a torch DataLoader, or any iterable with
    a length whose batches are (x, ..., y). Whatever is not on `device` is moved, batch by batch."""

    def __init__(self, train: Any, valid: Any = None, test: Any = None, device: torch.device | str | None = None):
        self.device = default_device() if device is None else torch.device(device)
        self.train, self.valid, self.test = (on_device(b, self.device) for b in (train, valid, test))

    def one_batch(self) -> tuple[Tensor, ...]:
        """The first batch of the training part, in the order of its rows if it is TensorBatches. Looking changes
        nothing: torch's random state, and that of a DataLoader's own generator, are what they were."""
        generator = self.train.generator
        state = None if generator is None else generator.get_state()
        with torch.random.fork_rng(devices=[]):
            batch = next(iter(self.train.in_order()))
        if generator is not None:
            generator.set_state(state)
        return batch


class CollabDataBunch(DataBunch):
    """Ratings as batches of (users, items, ratings): rows int64, rows int64, float32, each of shape (bs,).

    `users` and `items` are the vocabs, made from the training rows, and `n_users`, `n_items` their lengths, the
    unknown row included. `seed` is the one it was split and shuffled with. `item_table` and `user_table` hold the
    metadata, indexed by raw id, `item_features` and `user_features` what of them was encoded for models, `schema` the
    names of the ratings' columns. `unseen` counts the users and items that occur only in validation or test; `aside`
    keeps their ids, and what else is known and not trained on.
    `implicit` says that rows are interactions, ratings their strengths, and `threshold` what they had to be above."""

    def __init__(self, train: TensorBatches, valid: TensorBatches | None, test: TensorBatches | None, users: Vocab,
                 items: Vocab, item_table: pd.DataFrame | None = None, user_table: pd.DataFrame | None = None,
                 seed: int = 0, device: torch.device | str | None = None,
                 schema: Schema | None = None, implicit: bool = False, threshold: float | None = None,
                 aside: Aside | None = None):
        super().__init__(train, valid, test, device)
        self.implicit, self.threshold = implicit, threshold
        self.schema = schema or Schema("user", "item", "rating")
        self.users, self.items, self.seed = users, items, seed
        self.item_table = pd.DataFrame() if item_table is None else item_table
        self.user_table = pd.DataFrame() if user_table is None else user_table
        self.user_features: Features | None = None
        self.item_features: Features | None = None
        self.unseen: dict[str, dict[str, int]] = {}
        self.aside = aside or Aside.of_batches(users, items, {"valid": valid, "test": test})

    @classmethod
    def from_df(cls, ratings: pd.DataFrame, user_name: Hashable | None = None, item_name: Hashable | None = None,
                rating_name: Hashable | None = None, time_name: Hashable | None = None, valid_pct: float = 0.2,
                split: Split | str | None = None, seed: int | None = None, test: pd.DataFrame | None = None,
                items: pd.DataFrame | None = None, users: pd.DataFrame | None = None, bs: int | str = 64,
                val_bs: int | None = None, device: torch.device | str | None = None,
                duplicates: str = "keep", user_features: Iterable[str] | str | None = None,
                item_features: Iterable[str] | str | None = None, scaling: str = "quantile",
                implicit: bool = False, threshold: float | None = None) -> CollabDataBunch:
        """Check, split and encode a table of ratings.

        - `ratings`: a frame with a row a rating. `user_name`, `item_name`, `rating_name` name its columns, by default
          the first three; `time_name`, which only some splits need, defaults to one called time or timestamp.
        - `valid_pct`: the fraction of the ratings that is held out for validation, at random.
        - `split`: in place of that a callable (see `collab.data.split`), or "u1" to "u5" of MovieLens-100K.
        - `seed`: of the split, the order of batches and, by default, of what is trained. None draws one from torch's
          global generator, so that `torch.manual_seed` repeats a run.
        - `test`: a table of its own with the same columns.
        - `items`, `users`: tables of metadata, the ids in the column of the same name as in `ratings`, or in the first;
          titles of items in "title" or "name".
        - `bs`, `val_bs`: ratings a batch in training, and in validation (8,192). bs="full" is one batch of all training
          ratings, in their order.
        - `device`: where the batches are; the GPU where there is one.
        - `duplicates`: what happens to a pair that is rated again: "keep" every rating, "mean", or "error".
        - `user_features`, `item_features`: the columns of `users` and `items` that models of metadata see, or "auto";
          `scaling` is that of their numbers (see `collab.data.features`). All ids of such a table get a row, those
          without training ratings (cold ones) too.
        - `implicit`: rows say what was chosen, not how much it was liked. The ratings are then strengths of at least 0,
          and may be missing (each row then weighs 1): the first further column is taken that is called rating, weight,
          count or the like. They are the confidences of ALS and weigh in histories; objectives such as BPR and the
          softmaxes see what was chosen, not how strongly. A pair that comes again is one with the sum (`duplicates` is
          not used): before the split, or after a split by time in each part, where it may be in both. No scale.
        - `threshold`: with `implicit`, only rows with a rating above it count: 3 is "rating > 3".

        Raises DataError, before anything else happens, for what cannot be trained on."""
        if threshold is not None and not implicit:
            raise DataError("threshold=... says which ratings count as interactions; it needs implicit=True")
        columns = interaction_schema if implicit else Schema.of
        schema = columns(ratings, user_name, item_name, rating_name, time_name)
        table = _checked(ratings, schema, duplicates, implicit, threshold)
        seed = int(torch.randint(2**31, ())) if seed is None else seed
        kept, valid = _parts(table, random_split(valid_pct, seed) if split is None else split, implicit)
        check_both_sides(kept, schema)
        rated = Vocab(kept["user"], "user"), Vocab(kept["item"], "item")
        tables = _metadata(users, schema.user, rated[0]), _metadata(items, schema.item, rated[1])
        wanted = user_features, item_features
        vocabs = _with_cold(rated[0], tables[0], wanted[0]), _with_cold(rated[1], tables[1], wanted[1])
        device = default_device() if device is None else torch.device(device)
        if isinstance(bs, str) and bs != "full":
            raise DataError(f"the batch size bs must be a whole number from 1 on, or 'full', got {bs!r}")
        shuffle, bs = bs != "full", len(kept) if isinstance(bs, str) else bs
        val_bs = max(bs, VALID_BS) if val_bs is None else val_bs

        def batches(part: Any, size: int, shuffle: bool = False) -> Any:
            return part and TensorBatches(*part, bs=size, shuffle=shuffle, seed=seed, device=device,
                                          shape=(len(vocabs[0]), len(vocabs[1])))

        weak = [too_weak(ratings, schema, threshold)]
        with _about("the test ratings"):
            tested = table.iloc[:0] if test is None else _same_columns(test, schema, duplicates, implicit, threshold)
            weak += [] if test is None else [too_weak(test, schema, threshold)]
            aside = Aside.of(*vocabs, {"valid": valid, "test": tested, "weak": pd.concat(weak)})
        data = cls(batches(encode(kept, *vocabs), bs, shuffle), batches(aside.batch("valid"), val_bs),
                   batches(aside.batch("test"), val_bs), *vocabs, tables[1], tables[0], seed, device, schema, implicit,
                   threshold, aside)
        data.user_features, data.item_features = (
            None if w is None or t is None else Features.of(t, v.ids, data.counts(v.name).numpy(), w, scaling)
            for v, t, w in zip(vocabs, tables, wanted))
        data.unseen = {"valid": _unseen(valid, *rated), "test": _unseen(tested, *rated)}
        return data

    @classmethod
    def from_csv(cls, path: str | Path, format: str | None = None, sep: str | None = None,
                 header: bool | None = None, **options: Any) -> CollabDataBunch:
        """`from_df` for a file: CSV, TSV, `::`-separated, Parquet or a RecBole atomic file, by its ending or
        `format` (see `collab.data.files.read_table`); `options` are those of `from_df`."""
        return cls.from_df(read_table(path, format, sep, header), **options)

    # What the ratings are ----------------------------------------------------------------------------------------

    @property
    def n_users(self) -> int:
        """Rows of the user side, the unknown row included."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Rows of the item side, the unknown row included."""
        return len(self.items)

    @property
    def mean(self) -> float:
        """The mean training rating."""
        return self.train.tensors[2].double().mean().item()

    @property
    def scale(self) -> tuple[float, float] | None:
        """(lowest, highest) training rating where ratings are on a scale: at most 101 levels, and not `implicit`.
        Otherwise None."""
        if self.implicit:
            return None
        levels = self._levels
        return (levels[0].item(), levels[-1].item()) if len(levels) <= MAX_LEVELS else None

    @property
    def y_range(self) -> tuple[float, float]:
        """The training ratings' range, and half a step beyond each end, so that a sigmoid can reach the ends;
        a step is the smallest distance between two different ratings."""
        levels = self._levels
        half = levels.diff().min().item() / 2 if len(levels) > 1 else 0.5
        return levels[0].item() - half, levels[-1].item() + half

    @cached_property
    def _levels(self) -> Tensor:
        """The different training ratings, ascending."""
        return torch.unique(self.train.tensors[2])

    @cached_property
    def histories(self) -> Histories:
        """What each user rated in the training part."""
        users, items, ratings = self.train.tensors
        return Histories.of(users, items, ratings, self.n_users)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items by id and by title: what a program means by a title, and what a person may."""
        return Catalogue(self.items, self.titles(self.items))

    @cached_property
    def known(self) -> Histories:
        """What is known of each user, held out or not: `histories`, with the ratings of the validation and test parts
        and those that a threshold left out. Its rows are those of `aside.users`, and its items of `aside.items`, which
        hold the ids that were not trained on too."""
        users, items, ratings = (torch.cat([mine.cpu(), more])
                                 for mine, more in zip(self.train.tensors, self.aside.joined()))
        named = (users != UNKNOWN) & (items != UNKNOWN)
        return Histories.of(users[named], items[named], ratings[named], len(self.aside.users))

    def titles(self, ids: Iterable[Hashable]) -> list[str] | None:
        """The titles of raw item ids ("" where there is none), or None if the items have no titles."""
        return titles(self, ids)

    def find_item(self, text: str) -> Hashable:
        """The id that a person means by `text`: the first of `find_items`."""
        return self.find_items(text)[0]

    def find_items(self, text: str) -> list[Hashable]:
        """The ids that a person may mean by `text` where ids are typed too: the id that reads like it, then the items
        with exactly this title; where there is neither, those of `find_titles`. Raises UnknownId where nothing fits."""
        return self.catalogue.find(text, self.counts())

    def find_titles(self, text: str) -> list[Hashable]:
        """The ids of items with this title or, where there are none, with `text` in their title, the most rated first,
        upper and lower case alike. Raises UnknownId, with what is near, where nothing fits."""
        return self.catalogue.find_titles(text, self.counts())

    def table(self, ratings: pd.DataFrame, duplicates: str = "keep", split: Split | str | None = None) -> pd.DataFrame:
        """Further ratings checked like those that were trained on, and in the same columns: by `schema`'s names. With
        `split`, those of them that `from_df` would hold out for validation.

        Raises DataError where these columns are not there, or for what `rating_table` refuses."""
        return _same_columns(ratings, self.schema, duplicates, self.implicit, self.threshold, split)

    def batches(self, ratings: pd.DataFrame, bs: int = VALID_BS) -> TensorBatches:
        """Further ratings as batches over these vocabs, in their order; see `table` for their columns."""
        return TensorBatches(*encode(self.table(ratings), self.users, self.items), bs=bs, device=self.device,
                             shape=(self.n_users, self.n_items))

    def counts(self, by: str = "item") -> Tensor:
        """How many training ratings each row of the item (or user) side has, int64, shape (n_items,)."""
        if by not in ("item", "user"):
            raise ValueError(f"by={by!r} is neither 'item' nor 'user'")
        side, n = (1, self.n_items) if by == "item" else (0, self.n_users)
        return torch.bincount(self.train.tensors[side].cpu(), minlength=n)

    @cached_property
    def trained(self) -> dict[str, Tensor]:
        """Of "user" and "item" which rows have training ratings, bool, shape (n_items,): not row 0, nor cold ids."""
        return {by: self.counts(by) > 0 for by in ("user", "item")}

    # Showing -----------------------------------------------------------------------------------------------------

    def show_batch(self, n: int = 10) -> pd.DataFrame:
        """`n` training ratings as they came in: raw ids, titles, ratings."""
        users, items, ratings = (t[:n].cpu().numpy() for t in self.train.tensors)
        shown = pd.DataFrame({"user": self.users.decode(users), "item": self.items.decode(items)})
        if titles := self.titles(shown["item"]):
            shown = Table(shown.assign(title=titles))
        return shown.assign(rating=ratings)

    def summary(self) -> pd.DataFrame:
        """A row for train, valid and test: ratings, users, items, the mean rating; then the users and items that do
        not occur in the training part, and how many ratings have such a user or item."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return pd.DataFrame([{"part": name, **_describe(part, self.unseen.get(name, {}), self.trained)}
                             for name, part in parts.items() if part is not None]).set_index("part")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {part.n:,}" for name, part in
                          (("train", self.train), ("valid", self.valid), ("test", self.test)) if part is not None)
        return (f"CollabDataBunch({sizes} ratings; {self.n_users - 1:,} users, {self.n_items - 1:,} items, "
                f"bs={self.train.bs}, {self.device})")


def encode(table: pd.DataFrame, users: Vocab, items: Vocab) -> tuple[Tensor, Tensor, Tensor]:
    """(user rows, item rows, ratings) of a checked table."""
    return (torch.from_numpy(users.encode(table["user"])), torch.from_numpy(items.encode(table["item"])),
            torch.tensor(table["rating"].to_numpy(), dtype=torch.float32))


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Errors in here begin with the name of the table that they are about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{what}: {error}") from None


def _metadata(table: pd.DataFrame | None, id_name: Hashable, vocab: Vocab) -> pd.DataFrame | None:
    """The metadata indexed by raw id, one row an id. Raises DataError where they cannot be joined to the ratings."""
    if table is None:
        return None
    with _about(f"the table of {vocab.name}s"):
        if not isinstance(table, pd.DataFrame) or not len(table.columns):
            raise DataError(f"expected a DataFrame with a column of ids, got {type(table).__name__}")
        check_column_names(table)
        column = next(c for c in (id_name, vocab.name, table.columns[0]) if c in table)
        with _about(f"column {column!r}"):
            ids = id_index(table[column])
            if ids.has_duplicates:
                again = ids[ids.duplicated()]
                raise DataError(f"{len(again):,} ids are repeated (such as {again[:1].tolist()[0]!r}); "
                                f"keep one row an id, with df.drop_duplicates({column!r})")
            if not (vocab.encode(ids) != UNKNOWN).any():
                raise DataError(f"it holds none of the rated {vocab.name}s: ids there look like {ids[:1].tolist()}, "
                                f"in the ratings like {[*vocab][:1]}")
    return table.drop(columns=column).set_axis(ids.rename(column), axis=0)


def _with_cold(vocab: Vocab, table: pd.DataFrame | None, features: Iterable[str] | str | None) -> Vocab:
    """The vocab, and where features are asked for a row for every id of the table. Raises DataError without one."""
    if features is None:
        return vocab
    if table is None:
        raise DataError(f"{vocab.name}_features need a table of {vocab.name}s: pass {vocab.name}s=...")
    return vocab.with_more(table.index)


def _checked(table: pd.DataFrame, schema: Schema, duplicates: str, implicit: bool,
             threshold: float | None) -> pd.DataFrame:
    return interaction_table(table, schema, threshold) if implicit else rating_table(table, schema, duplicates)


def _parts(table: pd.DataFrame, split: Split | str, implicit: bool) -> list[pd.DataFrame]:
    """[train, valid] of a checked table. Interactions are added up before, but after a split by time."""
    if implicit and not getattr(split, "by_time", False):
        table = add_up(table)
    parts = [table.iloc[rows] for rows in apply_split(split, table)]
    return [add_up(part) for part in parts] if implicit else parts


def _same_columns(test: pd.DataFrame, schema: Schema, duplicates: str, implicit: bool = False,
                  threshold: float | None = None, split: Split | str | None = None) -> pd.DataFrame:
    """Check a table whose columns have the names of `schema`, or else user, item and rating."""
    test = with_weights(test, schema.rating, threshold) if implicit else test
    table = _checked(test, schema.of_further(test), duplicates, implicit, threshold)
    if split is not None:
        return _parts(table, split, implicit)[1]
    return add_up(table) if implicit else table


def _unseen(part: pd.DataFrame, users: Vocab, items: Vocab) -> dict[str, int]:
    """How many distinct users and items of `part` are not in the vocabs (of the training part)."""
    return {f"unseen_{vocab.name}s": int((vocab.encode(part[vocab.name].unique()) == UNKNOWN).sum())
            for vocab in (users, items)}


def _describe(part: TensorBatches, unseen: dict[str, int], trained: dict[str, Tensor]) -> dict[str, Any]:
    users, items, ratings = (t.cpu() for t in part.tensors)
    known_user, known_item = trained["user"][users], trained["item"][items]
    unseen_users, unseen_items = unseen.get("unseen_users", 0), unseen.get("unseen_items", 0)
    return {"ratings": part.n, "users": len(torch.unique(users[known_user])) + unseen_users,
            "items": len(torch.unique(items[known_item])) + unseen_items, "mean": ratings.double().mean().item(),
            "unseen_users": unseen_users, "unseen_items": unseen_items,
            "ratings_with_unseen": int((~known_user | ~known_item).sum())}
