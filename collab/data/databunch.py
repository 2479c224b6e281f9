"""CollabDataBunch: training, validation and test ratings over shared vocabs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import DataError, warn
from .aside import Aside
from .batches import TensorBatches, on_device
from .catalogue import Catalogue, titles
from .features import Features
from .frames import Table, as_frame
from .histories import Histories
from .implicit import add_up, interaction_schema, interactions_of, too_weak, with_weights
from .interactions import Interactions
from .metadata import about, guess_title, metadata, title_column, warn_of_lacking, with_cold
from .outliers import warn_of_outliers
from .schema import Schema, check_both_sides, check_duplicates, merge_duplicates, rating_table
from .split import Split, apply_split, named_split, random_split
from .tables import read_table
from .vocab import UNKNOWN, Vocab

MAX_LEVELS = 101            # more distinct ratings than this are no scale (0 to 100 is one)
VALID_PCT = 0.2
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
    `implicit` says that rows are interactions, ratings their strengths, and `threshold` what they had to be above.
    `title_name` is the column of `item_table` with the titles, by default one that is called like one, or None."""

    def __init__(self, train: TensorBatches, valid: TensorBatches | None, test: TensorBatches | None, users: Vocab,
                 items: Vocab, item_table: pd.DataFrame | None = None, user_table: pd.DataFrame | None = None,
                 seed: int = 0, device: torch.device | str | None = None,
                 schema: Schema | None = None, implicit: bool = False, threshold: float | None = None, *,
                 title_name: Hashable | None = None, aside: Aside | None = None):
        super().__init__(train, valid, test, device)
        self.implicit, self.threshold = implicit, threshold
        self.schema = schema or Schema("user", "item", "rating")
        self.users, self.items, self.seed = users, items, seed
        self.item_table = pd.DataFrame() if item_table is None else item_table
        self.user_table = pd.DataFrame() if user_table is None else user_table
        self.title_name = guess_title(self.item_table) if title_name is None else title_name
        self.user_features: Features | None = None
        self.item_features: Features | None = None
        self.unseen: dict[str, dict[str, int]] = {}
        self.aside = aside or Aside.of_batches(users, items, {"valid": valid, "test": test})

    @classmethod
    def from_df(cls, ratings: Any, user_name: Hashable | None = None, item_name: Hashable | None = None,
                rating_name: Hashable | None = None, time_name: Hashable | None = None, valid_pct: float = VALID_PCT,
                split: Split | str | None = None, seed: int | None = None, test: Any = None,
                items: Any = None, users: Any = None, bs: int | str = 64,
                val_bs: int | None = None, device: torch.device | str | None = None,
                duplicates: str = "keep", user_features: Iterable[str] | str | None = None,
                item_features: Iterable[str] | str | None = None, scaling: str = "quantile",
                implicit: bool = False, threshold: float | None = None, *,
                title_name: Hashable | None = None) -> CollabDataBunch:
        """Check, split and encode a table of ratings. Tables are of pandas, polars or pyarrow, or anything else that
        speaks Arrow (see `collab.data.frames`).

        - `ratings`: a table with a row a rating; booleans are ratings of 0 and 1. `user_name`, `item_name`,
          `rating_name` name its columns, by default the first three; `time_name`, which only some splits need, defaults
          to one called time or timestamp: numbers, dates, or text by ISO 8601.
        - `valid_pct`: the fraction of the ratings that is held out for validation, at random.
        - `split`: in place of that a callable (see `collab.data.split`), or "u1" to "u5" of MovieLens-100K.
        - `seed`: of the split, the order of batches and, by default, of what is trained. None draws one from torch's
          global generator, so that `torch.manual_seed` repeats a run.
        - `test`: a table of its own with the same columns.
        - `items`, `users`: tables of metadata, the ids in the column of the same name as in `ratings`, or in the first;
          titles of items in `title_name`, by default a column that is called like one (title, name, Book-Title).
        - `bs`, `val_bs`: ratings a batch in training, and in validation (8,192). bs="full" is one batch of all training
          ratings, in their order.
        - `device`: where the batches are; the GPU where there is one.
        - `duplicates`: what happens to a pair that is rated again: "keep" every rating, "mean", or "error". The mean is
          taken before the split, or after a split by time or position in each part, where the pair may be in both.
        - `user_features`, `item_features`: the columns of `users` and `items` that models of metadata see, or "auto";
          `scaling` is that of their numbers (see `collab.data.features`). All ids of such a table get a row, those
          without training ratings (cold ones) too.
        - `implicit`: rows say what was chosen, not how much it was liked. The ratings are then strengths of at least 0,
          and may be missing (each row then weighs 1): the first further column is taken that is called rating, weight,
          count or the like. They are the confidences of ALS and weigh in histories; objectives such as BPR and the
          softmaxes see what was chosen, not how strongly. A pair that comes again is one with the sum, in place of
          `duplicates`, and as for these before the split or after it. No scale.
        - `threshold`: with `implicit`, only rows with a rating above it count: 3 is "rating > 3".

        Warns of what is left out, merged or guessed, and of ratings far from all others. Raises DataError, before
        anything else happens, for what cannot be trained on."""
        if threshold is not None and not implicit:
            raise DataError("threshold=... says which ratings count as interactions; it needs implicit=True")
        if split is not None and valid_pct not in (0, VALID_PCT):
            warn(f"valid_pct={valid_pct} is not used, since the split says what is held out; leave one of the two out")
        if scaling != "quantile" and user_features is None and item_features is None:
            raise DataError(f"scaling={scaling!r} is of the numbers among user_features and item_features, and there "
                            "are neither")
        ratings, columns = as_frame(ratings), interaction_schema if implicit else Schema.of
        schema = columns(ratings, user_name, item_name, rating_name, time_name)
        table = _checked(ratings, schema, duplicates, implicit, threshold)
        seed = int(torch.randint(2**31, ())) if seed is None else seed
        how = random_split(valid_pct, seed) if split is None else split
        kept, valid = _parts(table, schema, how, duplicates, implicit, threshold)
        if split is None and not len(valid) and valid_pct not in (0, VALID_PCT):
            warn(f"valid_pct={valid_pct} holds out none of {len(kept):,} ratings, so there is no validation part; hold "
                 "out more, or none with valid_pct=0")
        check_both_sides(kept, schema)
        if not implicit:
            warn_of_outliers(table["rating"], schema.rating)      # held out or not
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

        def batches(part: Any, size: int, shuffle: bool = False) -> Any:
            return part and TensorBatches(*part, bs=size, shuffle=shuffle, seed=seed, device=device,
                                          shape=(len(vocabs[0]), len(vocabs[1])))

        weak = [too_weak(table, threshold)]
        with about("the test ratings"):
            tested = table.iloc[:0]
            if test is not None:
                whole, found = _further(test, schema, duplicates, implicit, threshold)
                tested = _parts(whole, found, None, duplicates, implicit, threshold)[0]
                weak.append(too_weak(whole, threshold))
            aside = Aside.of(*vocabs, {"valid": valid, "test": tested, "weak": pd.concat(weak)})
        data = cls(batches(encode(kept, *vocabs), bs, shuffle), batches(aside.batch("valid"), val_bs),
                   batches(aside.batch("test"), val_bs), *vocabs, tables[1], tables[0], seed, device, schema, implicit,
                   threshold, title_name=title_name, aside=aside)
        data.user_features, data.item_features = (
            None if w is None or t is None else Features.of(t, v.ids, data.counts(v.name).numpy(), w, scaling)
            for v, t, w in zip(vocabs, tables, wanted))
        data.unseen = {"valid": _unseen(valid, *rated), "test": _unseen(tested, *rated)}
        if test is not None:
            _warn_of_unseen(data)
        return data

    @classmethod
    def from_csv(cls, path: str | Path, format: str | None = None, sep: str | None = None,
                 header: bool | None = None, encoding: str = "utf-8-sig", **options: Any) -> CollabDataBunch:
        """`from_df` for a file: CSV, TSV, `::`-separated, Parquet or a RecBole atomic file, by its ending or
        `format` (see `collab.data.tables.read_table`); `options` are those of `from_df`."""
        ids = [options[name] for name in ("user_name", "item_name") if options.get(name) is not None]
        return cls.from_df(read_table(path, format, sep, header, encoding, ids=ids), **options)

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

    @property
    def interactions(self) -> Interactions:
        """The training part as rows and sizes."""
        users, items, ratings = self.train.tensors
        return Interactions(users, items, ratings, self.n_users, self.n_items)

    @cached_property
    def histories(self) -> Histories:
        """What each user rated in the training part."""
        x = self.interactions
        return Histories.of(x.users.cpu(), x.items.cpu(), x.ratings.cpu(), x.n_users)

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

    def table(self, ratings: Any, duplicates: str = "keep", split: Split | str | None = None) -> pd.DataFrame:
        """Further ratings checked like those that were trained on, and in the same columns: by `schema`'s names. With
        `split`, those of them that `from_df` would hold out for validation.

        Raises DataError where these columns are not there, or for what `rating_table` refuses."""
        return _same_columns(ratings, self.schema, duplicates, self.implicit, self.threshold, split)

    def weak(self, ratings: Any) -> pd.DataFrame:
        """Those of further ratings that the threshold leaves out: what is known of people, and not trained on."""
        return too_weak(_further(ratings, self.schema, "keep", self.implicit, self.threshold)[0], self.threshold)

    def batches(self, ratings: Any, bs: int = VALID_BS) -> TensorBatches:
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


def _checked(table: pd.DataFrame, schema: Schema, duplicates: str, implicit: bool,
             threshold: float | None) -> pd.DataFrame:
    check_duplicates(duplicates)
    if implicit and duplicates != "keep":
        raise DataError(f"duplicates={duplicates!r} is for ratings; with implicit=True a pair that comes again is one "
                        "interaction with the sum of the strengths")
    return rating_table(with_weights(table, schema.rating, threshold) if implicit else table, schema)


def _parts(table: pd.DataFrame, schema: Schema, split: Split | str | None, duplicates: str, implicit: bool,
           threshold: float | None) -> list[pd.DataFrame]:
    """[train, valid] of a checked table, or without a split the whole: interactions alone where it is `implicit`, and
    pairs that come again merged: before the split, but after one by time or by position."""
    chosen = interactions_of(table, schema, threshold) if implicit else table
    split = None if split is None else named_split(split)
    by_position = getattr(split, "by_position", False)
    late = (implicit or duplicates == "mean") and (by_position or getattr(split, "by_time", False))

    def merged(parts: list[pd.DataFrame]) -> list[pd.DataFrame]:
        return [add_up(part) for part in parts] if implicit else merge_duplicates(parts, duplicates)

    if not late:
        chosen, = merged([chosen])
    if split is None:
        return [chosen]
    if by_position:         # positions are those of the table as it was given
        sides = [np.isin(np.arange(len(table)), side) for side in apply_split(split, table)]
        parts = [chosen[side[chosen.index]] for side in sides]
    else:
        chosen = chosen.reset_index(drop=True)
        parts = [chosen.iloc[side] for side in apply_split(split, chosen)]
    return merged(parts) if late else parts


def _same_columns(test: Any, schema: Schema, duplicates: str, implicit: bool = False, threshold: float | None = None,
                  split: Split | str | None = None) -> pd.DataFrame:
    """What of a further table would be trained on or, with `split`, be held out."""
    table, found = _further(test, schema, duplicates, implicit, threshold)
    return _parts(table, found, split, duplicates, implicit, threshold)[-1].reset_index(drop=True)


def _further(test: Any, schema: Schema, duplicates: str, implicit: bool, threshold: float | None,
             ) -> tuple[pd.DataFrame, Schema]:
    """A further table, checked, and its columns: those of `schema`, or else user, item and rating."""
    test = as_frame(test)
    test = with_weights(test, schema.rating, threshold) if implicit else test
    found = schema.of_further(test)
    return _checked(test, found, duplicates, implicit, threshold), found


def _unseen(part: pd.DataFrame, users: Vocab, items: Vocab) -> dict[str, int]:
    """How many distinct users and items of `part` are not in the vocabs (of the training part)."""
    return {f"unseen_{vocab.name}s": int((vocab.encode(part[vocab.name].unique()) == UNKNOWN).sum())
            for vocab in (users, items)}


def _warn_of_unseen(data: CollabDataBunch) -> None:
    users, items, _ = data.test.tensors
    if n := int(((users == UNKNOWN) | (items == UNKNOWN)).sum()):
        warn(f"{n:,} of {data.test.n:,} test ratings are of a user or an item that was not trained on (see summary()): "
             "the average one stands for these, and evaluate(...) leaves them out; drop them, or train on all ids")


def _describe(part: TensorBatches, unseen: dict[str, int], trained: dict[str, Tensor]) -> dict[str, Any]:
    users, items, ratings = (t.cpu() for t in part.tensors)
    known_user, known_item = trained["user"][users], trained["item"][items]
    unseen_users, unseen_items = unseen.get("unseen_users", 0), unseen.get("unseen_items", 0)
    return {"ratings": part.n, "users": len(torch.unique(users[known_user])) + unseen_users,
            "items": len(torch.unique(items[known_item])) + unseen_items, "mean": ratings.double().mean().item(),
            "unseen_users": unseen_users, "unseen_items": unseen_items,
            "ratings_with_unseen": int((~known_user | ~known_item).sum())}
