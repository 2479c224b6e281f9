"""CollabDataBunch: training, validation and test ratings over shared vocabs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import DataError, warn
from .aside import Aside, Rows
from .batches import VALID_BS, DataBunch, TensorBatches, default_device
from .catalogue import Catalogue, titles
from .family import warn_of_counts
from .features import Features
from .frames import TableLike, as_frame
from .gathered import histories_of, known_of
from .histories import Histories
from .implicit import schema_of
from .interactions import Interactions
from .measured import part, rows_of
from .metadata import about, guess_title, metadata, title_column, titles_among, warn_of_lacking, with_cold
from .outliers import warn_of_outliers
from .parquet import from_parquet
from .parts import Cut, Rules, with_codes
from .schema import Schema, check_both_sides
from .split import VALID_PCT, Split, by_time, random_split
from .sql import read_sql
from .summary import count_unseen, first_ratings, summary, warn_of_unseen
from .tables import read_table
from .totals import counts_of, levels_of, mean_of
from .vocab import Vocab

if TYPE_CHECKING:
    from .data_report import DataReport

MAX_LEVELS = 101            # more distinct ratings than this are no scale (0 to 100 is one)


class CollabDataBunch(DataBunch):
    """Ratings as batches of (users, items, ratings): rows int64, rows int64, float32, each of shape (bs,).

    - `users`, `items`: the vocabs, made from the training rows; `n_users` and `n_items` are their lengths, the unknown
      row included.
    - `item_table`, `user_table`: the metadata, indexed by raw id; `item_features`, `user_features`: what of them was
      encoded for models. `title_name`: the column of `item_table` with the titles, by default one with a usual name, or
      None.
    - `seed`: that of the split and of the order of batches.
    - `schema`: the names of the ratings' columns. With `implicit`, rows are interactions and ratings their strengths,
      and `threshold` is what they had to be above.
    - `aside`: ratings that are known and not trained on (held out, or below the threshold), under their own ids.
    - `cut`: how the validation part was held out, where that is known (see `Cut`).
    - `timed`: whether the training ratings are known to be in order of time (or, for `leave_last` of a table without
      times, in the order that stands for it).

    A databunch does not change: what follows from these is computed once, when it is asked for."""

    train: TensorBatches

    def __init__(self, train: TensorBatches, valid: TensorBatches | None, test: TensorBatches | None, users: Vocab,
                 items: Vocab, *, item_table: pd.DataFrame | None = None, user_table: pd.DataFrame | None = None,
                 item_features: Features | None = None, user_features: Features | None = None,
                 title_name: Hashable | None = None, seed: int = 0, device: torch.device | str | None = None,
                 schema: Schema | None = None, implicit: bool = False, threshold: float | None = None,
                 aside: Aside | None = None, cut: Cut | None = None, timed: bool = False):
        super().__init__(train, valid, test, device)
        self.implicit, self.threshold = implicit, threshold
        self.schema = schema or Schema("user", "item", "rating")
        self.users, self.items, self.seed, self.cut, self.timed = users, items, seed, cut, timed
        self.item_table = pd.DataFrame() if item_table is None else item_table
        self.user_table = pd.DataFrame() if user_table is None else user_table
        self.title_name = guess_title(self.item_table) if title_name is None else title_name
        self.user_features, self.item_features = user_features, item_features
        self.aside = aside or Aside.of_batches(users, items, {"valid": valid, "test": test})

    @classmethod
    def from_df(cls, ratings: TableLike, user_name: Hashable | None = None, item_name: Hashable | None = None,
                rating_name: Hashable | None = None, time_name: Hashable | None = None, *,
                valid_pct: float = VALID_PCT, split: Split | str | None = None, seed: int | None = None,
                test: TableLike | Split | float | None = None, items: TableLike | None = None,
                users: TableLike | None = None,
                bs: int | str = 64, val_bs: int | None = None, device: torch.device | str | None = None,
                duplicates: str | None = None, user_features: Iterable[str] | str | None = None,
                item_features: Iterable[str] | str | None = None, scaling: str = "quantile",
                implicit: bool = False, threshold: float | None = None,
                title_name: Hashable | None = None, bad_rows: str = "error") -> CollabDataBunch:
        """Check, split and encode a table of ratings. Tables are of pandas, polars or pyarrow, or anything else that
        speaks Arrow (see `collab.data.frames`).

        - `ratings`: a table with one row per rating; booleans are ratings of 0 and 1. `user_name`, `item_name`,
          `rating_name` name its columns, by default the first three; `time_name`, which only some splits need, defaults
          to a column called time or timestamp: numbers, dates, or text by ISO 8601.
        - `valid_pct`: the fraction of the ratings that is held out for validation, at random.
        - `split`: instead of `valid_pct`, a callable (see `collab.data.split`), or "u1" to "u5" of MovieLens-100K. One
          by time puts the training ratings in order of time, for models that read histories in order.
        - `seed`: of the split, the order of batches and, by default, of what is trained. None draws one from torch's
          global generator, so that `torch.manual_seed` repeats a run.
        - `test`: a separate table of test ratings with the same columns; or a split, or a fraction at random, that
          holds them out of `ratings` first: what `split` or `valid_pct` says is then of the rest.
        - `items`, `users`: tables of metadata, the ids in the column of the same name as in `ratings`, or in the first;
          titles of items in `title_name`, by default a column with a usual name (title, name, Book-Title). Without
          `items`, `title_name` is a column of `ratings`.
        - `bs`, `val_bs`: ratings per batch in training, and in validation (8,192). bs="full" is one batch of all
          training ratings, in their order.
        - `device`: of the batches; by default the GPU where there is one.
        - `duplicates`: what to do with a pair that is rated again: "keep" every rating (so does None, with a warning),
          the "last" or "first" one by time (by the order of the table without one), "mean", or "error". All before the
          split; but the mean after one by time or position, in each part, since the pair may be in both.
        - `user_features`, `item_features`: the columns of `users` and `items` that models of metadata see, or "auto";
          `scaling` is that of their numbers (see `collab.data.features`). Every id of such a table gets a row, also
          one without training ratings (a cold one).
        - `implicit`: rows say what was chosen, not how much it was liked. The ratings are then strengths of at least 0,
          and may be missing (each row then weighs 1): the first further column called rating, weight, count or the like
          is taken. They are the confidences of ALS and weigh in histories; BPR and the softmaxes see only what was
          chosen. A repeated pair is one with the sum of its strengths, before or after the split as a mean is.
        - `threshold`: with `implicit`, only rows with a rating above it count: 3 is "rating > 3".
        - `bad_rows`: what to do with rows whose user, item or rating (where the split needs it, time) is missing or
          cannot be used: "error", or "drop", which leaves them out before the split, with a warning that counts them
          (see `report` for all of them).

        Warns of what is left out, merged or guessed, and of ratings far from all others. Raises DataError, before
        any work starts, for what cannot be trained on."""
        if threshold is not None and not implicit:
            raise DataError("threshold=... says which ratings count as interactions; it needs implicit=True")
        if split is not None and valid_pct not in (0, VALID_PCT):
            warn(f"valid_pct={valid_pct} is not used, since the split says what is held out; leave one of the two out")
        if seed is not None and not isinstance(seed, Integral):
            raise DataError(f"seed must be a whole number or None, got {seed!r}")
        if scaling != "quantile" and user_features is None and item_features is None:
            raise DataError(f"scaling={scaling!r} is of the numbers among user_features and item_features, and there "
                            "are neither")
        ratings, names = as_frame(ratings), (user_name, item_name, rating_name, time_name)
        schema = schema_of(ratings, names, implicit=implicit, threshold=threshold)
        rules = Rules(schema, duplicates, implicit, threshold, bad_rows)
        table = rules.checked(ratings, timed=by_time(split) or by_time(test))
        if items is None and title_name is not None:
            items = titles_among(table, ratings, schema, title_name)
        seed = int(torch.randint(2**31, ())) if seed is None else int(seed)
        how = random_split(valid_pct, seed) if split is None else split
        further = test is not None and not (callable(test) or isinstance(test, Real))
        if test is not None and not further:
            test, how = rules.apart(table, test, how, seed)
        kept, valid = rules.parts(table, how)
        cut = Cut.of(how, table, kept, valid)
        kept, valid = kept.reset_index(drop=True), valid.reset_index(drop=True)
        if split is None and not len(valid) and valid_pct not in (0, VALID_PCT):
            warn(f"valid_pct={valid_pct} holds out none of {len(kept):,} ratings, so there is no validation part; hold "
                 "out more, or none with valid_pct=0")
        check_both_sides(kept, schema)
        if not warn_of_outliers(table["rating"], schema.rating, implicit=implicit) and not implicit:   # held out or not
            warn_of_counts(table["rating"], schema.rating)
        weak = [rules.too_weak(table)]
        del table           # with 25 million ratings, what is not used any more counts
        rated = Vocab(kept["user"], "user"), Vocab(kept["item"], "item")
        tables = metadata(users, schema.user, rated[0]), metadata(items, schema.item, rated[1])
        wanted = [names if names is None or isinstance(names, str) else [*names]
                  for names in (user_features, item_features)]
        title_name = title_column(tables[1], title_name, wanted[1])
        warn_of_lacking(tables[0], rated[0], features=user_features is not None)
        warn_of_lacking(tables[1], rated[1], features=item_features is not None, titles=title_name is not None)
        vocabs = with_cold(rated[0], tables[0], wanted[0]), with_cold(rated[1], tables[1], wanted[1])
        device = default_device() if device is None else torch.device(device)
        if isinstance(bs, str) and bs != "full":
            raise DataError(f"the batch size bs must be a whole number from 1 on, or 'full', got {bs!r}")
        shuffle, bs = bs != "full", len(kept) if isinstance(bs, str) else bs
        val_bs = max(bs, VALID_BS) if val_bs is None else val_bs
        if not isinstance(val_bs, Real):
            raise DataError(f"the batch size val_bs must be a whole number from 1 on, got {val_bs!r}")

        with about(of := "the test ratings"):
            tested = kept.iloc[:0].copy()       # a view would hold the whole
            if test is not None:
                whole, found = rules.further(test, of=of)
                tested = found.parts(whole, say=False)[0]
                weak.append(found.too_weak(whole))
            aside = Aside.of(*vocabs, {"valid": valid, "test": tested, "weak": with_codes(pd.concat(weak))})
        rows = encode(kept, *vocabs)
        del kept, valid
        features = [None if columns is None or known is None else
                    Features.of(known, vocab.ids, np.bincount(ids, minlength=len(vocab)), columns, scaling)
                    for vocab, known, ids, columns in zip(vocabs, tables, rows, wanted)]

        def batches(part: Rows | None, size: int, shuffle: bool = False) -> TensorBatches | None:
            return part and TensorBatches(*part, bs=size, shuffle=shuffle, seed=seed, device=device,
                                          shape=(len(vocabs[0]), len(vocabs[1])))

        train = batches(rows, bs, shuffle)
        assert train is not None
        data = cls(train, batches(aside.batch("valid"), val_bs), batches(aside.batch("test"), val_bs), *vocabs,
                   item_table=tables[1], user_table=tables[0], item_features=features[1], user_features=features[0],
                   title_name=title_name, seed=seed, device=device, schema=schema, implicit=implicit,
                   threshold=threshold, aside=aside, cut=cut, timed=by_time(how))
        if further:
            warn_of_unseen(data)
        return data

    @classmethod
    def from_csv(cls, path: str | Path, format: str | None = None, *, sep: str | None = None,
                 header: bool | None = None, encoding: str = "utf-8-sig", decimal: str = ".",
                 date_format: str | None = None, bad_lines: str = "error", **options: Any) -> CollabDataBunch:
        """`from_df` for a file: CSV, TSV, `::`-separated, Parquet or a RecBole atomic file, by its ending or
        `format` (see `collab.data.tables.read_table`); `options` are those of `from_df`."""
        ids = [options[name] for name in ("user_name", "item_name") if options.get(name) is not None]
        table = read_table(path, format, sep=sep, header=header, encoding=encoding, decimal=decimal,
                           date_format=date_format, bad_lines=bad_lines, ids=ids)
        return cls.from_df(table, **options)

    @classmethod
    def from_sql(cls, query: str, con: Any, params: Any = None, **options: Any) -> CollabDataBunch:
        """`from_df` for what a query gives, through any connection of DB-API 2.0: sqlite3, DuckDB, psycopg (see
        `collab.data.sql.read_sql`, which takes `params` too); `options` are those of `from_df`."""
        return cls.from_df(read_sql(query, con, params), **options)

    from_parquet = classmethod(from_parquet)

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
        return mean_of(self.train)

    @property
    def scale(self) -> tuple[float, float] | None:
        """(lowest, highest) training rating where ratings are on a scale, of at most 101 levels and not `implicit`;
        otherwise None."""
        if self.implicit:
            return None
        levels = self.levels
        return (levels[0].item(), levels[-1].item()) if len(levels) <= MAX_LEVELS else None

    @property
    def y_range(self) -> tuple[float, float]:
        """The range of the training ratings with half a step beyond each end, so that a sigmoid can reach the ends; a
        step is the smallest distance between two different ratings."""
        levels = self.levels
        half = levels.diff().min().item() / 2 if len(levels) > 1 else 0.5
        return levels[0].item() - half, levels[-1].item() + half

    @cached_property
    def levels(self) -> Tensor:
        """The different training ratings, ascending."""
        return levels_of(self.train)[0]

    @property
    def interactions(self) -> Interactions:
        """The training part as rows and sizes."""
        users, items, ratings = self.train.tensors
        return Interactions(users, items, ratings, self.n_users, self.n_items)

    @cached_property
    def histories(self) -> Histories:
        """What each user rated in the training part."""
        return histories_of(self)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items by id and by title, for programs and for people."""
        return Catalogue(self.items, self.titles(self.items))

    @cached_property
    def known(self) -> Histories:
        """Everything known of each user, held out or not: `histories`, with the ratings of the validation and test
        parts and those that a threshold left out. Its rows are those of `aside.users` and its items those of
        `aside.items`, which also have the ids that were not trained on."""
        return known_of(self)

    @cached_property
    def table_titles(self) -> list[str] | None:
        """The title in each row of `item_table`, "" where there is none; None if the items have no titles."""
        if self.title_name is None:
            return None
        column = self.item_table[self.title_name].astype(object)
        return column.where(column.notna(), "").astype(str).tolist()

    def titles(self, ids: Iterable[Hashable]) -> list[str] | None:
        """The titles of raw item ids ("" where there is none), or None if the items have no titles."""
        return titles(self, ids)

    def find_item(self, text: str) -> Hashable:
        """The id that a person most likely means by `text`: the first of `find_items`."""
        return self.find_items(text)[0]

    def find_items(self, text: str) -> list[Hashable]:
        """The ids that a person may mean by `text`, an id or a title: the id that reads like it, then the items with
        exactly this title; where there is neither, those of `find_titles`. Raises UnknownId where nothing fits."""
        return self.catalogue.find(text, self.counts())

    def find_titles(self, text: str) -> list[Hashable]:
        """The ids of items with this title or, where there are none, with `text` in their title, the most rated first;
        case does not matter. Raises UnknownId, with what is near, where nothing fits."""
        return self.catalogue.find_titles(text, self.counts())

    @property
    def rules(self) -> Rules:
        """How further tables are read: like the training ratings."""
        return Rules(self.schema, "keep", self.implicit, self.threshold)

    def table(self, ratings: TableLike, duplicates: str | None = None, *, split: Split | str | None = None,
              bad_rows: str = "error", timed: bool = False) -> pd.DataFrame:
        """Check further ratings like those that were trained on, and name their columns alike: user, item, rating. With
        `split`, only the rows that `from_df` would hold out for validation; if `timed`, in order of time where the
        table has times.

        Raises DataError where there are no such columns, or for what `rating_table` refuses."""
        return replace(self.rules, duplicates=duplicates, bad_rows=bad_rows).further_part(ratings, split, timed=timed)

    def weak(self, ratings: TableLike) -> pd.DataFrame:
        """The further ratings that the threshold leaves out: known of people, and not trained on."""
        return self.rules.too_weak(self.rules.further(ratings)[0])

    def batches(self, ratings: TableLike, bs: int = VALID_BS) -> TensorBatches:
        """Further ratings as batches over these vocabs, in their order; see `table` for their columns."""
        return TensorBatches(*encode(self.table(ratings, "keep"), self.users, self.items), bs=bs, device=self.device,
                             shape=(self.n_users, self.n_items))

    def part(self, given: Any = None) -> Any:
        """Ratings to measure on: the batches `given`, on this device unless they are of their own kind and it is the
        CPU; those of a table of ratings; or, by default, the validation part. Raises DataError where there is none,
        TypeError for a whole databunch."""
        return part(self, given)

    def rows_of(self, given: Any = None) -> TensorBatches:
        """The rows of a `part`, in order; batches of another kind, such as a list, are joined."""
        return rows_of(self, given)

    def counts(self, by: str = "item") -> Tensor:
        """The number of training ratings of each item row (or user row), int64, (n_items,)."""
        if by not in ("item", "user"):
            raise ValueError(f"by={by!r} is neither 'item' nor 'user'")
        return counts_of(self.train, 1, self.n_items) if by == "item" else counts_of(self.train, 0, self.n_users)

    @cached_property
    def trained(self) -> dict[str, Tensor]:
        """Which rows of "user" and "item" have training ratings, bool, (n_users,) and (n_items,): not row 0, nor cold
        ids."""
        return {by: self.counts(by) > 0 for by in ("user", "item")}

    @cached_property
    def none_cold(self) -> dict[str, bool]:
        """Whether every "user" and every "item" but row 0 has training ratings."""
        return {by: bool(rows[1:].all()) and not rows[0] for by, rows in self.trained.items()}

    @cached_property
    def unseen(self) -> dict[str, dict[str, int]]:
        """By part, "valid" and "test", how many distinct users and items it has that were not trained on."""
        return count_unseen(self)

    # Showing -----------------------------------------------------------------------------------------------------

    def show_batch(self, n: int = 10) -> pd.DataFrame:
        """The first `n` training ratings, (n, 3 or 4): raw ids, titles where there are any, ratings."""
        return first_ratings(self, n)

    def summary(self) -> pd.DataFrame:
        """One row each for train, valid and test: numbers of ratings, users and items and the mean rating; then how
        many users and items do not occur in the training part, and how many ratings have such a user or item."""
        return summary(self)

    def report(self) -> DataReport:
        """What the ratings of all parts are: sizes, density, the long tail, outliers, and which models suit them. A
        table that cannot become a databunch is reported on by `DataReport.from_df` and `from_csv`."""
        from .data_report import DataReport
        return DataReport.from_databunch(self)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {part.n:,}" for name, part in
                          (("train", self.train), ("valid", self.valid), ("test", self.test)) if part is not None)
        return (f"CollabDataBunch({sizes} ratings; {self.n_users - 1:,} users, {self.n_items - 1:,} items, "
                f"bs={self.train.bs}, {self.device})")


def encode(table: pd.DataFrame, users: Vocab, items: Vocab) -> Rows:
    """(user rows, item rows, ratings) of a checked table."""
    return (torch.from_numpy(users.encode(table["user"])), torch.from_numpy(items.encode(table["item"])),
            torch.tensor(table["rating"].to_numpy(), dtype=torch.float32))
