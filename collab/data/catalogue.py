"""Catalogue: items by id and title, with one strict rule for programs and a search for people."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from torch import Tensor

from ..errors import DataError, warn
from .alike import folded
from .frames import Column
from .list_frames import ListFrames
from .schema import show
from .texts import Texts
from .vocab import UNKNOWN, UnknownId, Vocab, id_index

if TYPE_CHECKING:
    from .databunch import CollabDataBunch

ARTICLE_LAST, YEAR = r"^(.*), (the|an?|les?|la|l'|el|il|der|die|das)(?= \(|$)", r" \(\d{4}\)$"

QUICK = 5_000       # items to compare an unknown one with although a request waits: half a second at most


def titles(data: CollabDataBunch, ids: Iterable[Hashable]) -> list[str] | None:
    """The titles of raw item ids ("" where there is none), or None if the items have no titles."""
    if (found := data.table_titles) is None:
        return None
    places = data.item_table.index.get_indexer(id_index(ids))       # -1 where the table lacks the id
    return ["" if place < 0 else found[place] for place in places.tolist()]


class SeveralTitled(DataError):
    """A title is that of several items."""


class Catalogue:
    """The items of a vocab by id and by title. An item is named by its id, or by its whole title (case does not matter)
    where only one item has that title. Text that is both an id and a title is the id.

    `titles` are those of rows 1..n, "" where an item has none; None where no item has one, and only ids are known."""

    def __init__(self, vocab: Vocab, titles: list[str] | None):
        self.vocab, self.titles, self.name = vocab, titles, vocab.name

    def __getstate__(self) -> dict[str, object]:
        """What copies and pickles hold: not what is made of the titles again when it is asked for."""
        return {"vocab": self.vocab, "titles": self.titles, "name": self.name}

    def title_column(self, rows: np.ndarray) -> dict[str, Column]:
        """The column title of n known rows; none where no item has a title."""
        if self.titles is None:
            return {}
        return {"title": self._titles.take(rows)}

    def names(self, rows: np.ndarray) -> pd.api.extensions.ExtensionArray:
        """The titles of n rows, or the ids of items that have none, as objects (n,); None for row 0."""
        named = np.empty(len(rows), dtype=object)
        for k, row in enumerate(rows.tolist()):
            title = self.titles[row - 1] if self.titles is not None and row != UNKNOWN else ""
            named[k] = title or (None if row == UNKNOWN else self.vocab.ids[row])
        return pd.arrays.NumpyExtensionArray(named)     # pandas would make text of it, and NaN of None

    def columns(self, rows: np.ndarray, scores: np.ndarray) -> dict[str, Column]:
        """One list of recommendations as columns: rank, the name of the vocab, title where known, score."""
        return {"rank": np.arange(1, len(rows) + 1), self.name: self.vocab.named(rows), **self.title_column(rows),
                "score": scores}

    @cached_property
    def list_frames(self) -> ListFrames | None:
        """`columns` as DataFrames of what a kernel writes; None where there are none."""
        return ListFrames.of(self.vocab, None if self.titles is None else self._titles)

    def lists(self, rows: np.ndarray, scores: np.ndarray) -> dict[str, list]:
        """One list of recommendations as Python's own values: rank, the name of the vocab, title where known, score."""
        places = rows.tolist()
        columns = {"rank": [*range(1, len(places) + 1)], self.name: self.vocab.raw(rows)}
        if self.titles is not None:
            titles = self._titles.all
            columns["title"] = [titles[row] for row in places]
        columns["score"] = scores.tolist()
        return columns

    @cached_property
    def _titles(self) -> Texts:
        return Texts(["", *(self.titles or ())])

    # One rule for programs ---------------------------------------------------------------------------------------

    def __getitem__(self, item: Hashable) -> int:
        """The row of a known item. Raises UnknownId, with near ids or titles, and DataError for a title that several
        items have."""
        row = int(self.encode([item])[0])
        if row == UNKNOWN:
            raise self.unknown(item)
        return row

    def __contains__(self, item: object) -> bool:
        """Whether this is the id, or the title, of an item."""
        return item in self.vocab or (isinstance(item, str) and item.casefold() in self._by_title)

    def encode(self, items: Iterable[Hashable]) -> np.ndarray:
        """Rows of n items, int64 (n,), 0 for unknown ids. Raises UnknownId for text that is not a title where ids are
        not text, and DataError for a title of several items and for ids of another kind."""
        if isinstance(items, list) and len(items) == 1 and (row := self.vocab.find(items[0])):
            return np.array([row], dtype=np.int64)
        given = id_index(items)
        rows = self._rows(given)
        if self.vocab.kind != "string" and (wrong := _texts(given) & (rows == UNKNOWN)).any():
            raise self.unknown(given[int(np.argmax(wrong))])
        return rows

    def known(self, items: Hashable | Iterable[Hashable], where: str, unknown: str = "average") -> np.ndarray:
        """Rows of n items, int64 (n,), 0 for unknown ones, which the caller leaves out: one warning counts them and
        says `where` they were given. Raises UnknownId where none is known, or with unknown="error"."""
        check_unknown(unknown)
        given = id_index(items if isinstance(items, pd.Series) else self.vocab.listed(items))
        rows = self._rows(given)
        if n := int((lost := rows == UNKNOWN).sum()):
            first = given[int(np.argmax(lost))]
            if unknown == "error" or n == len(rows) == 1:
                raise self.unknown(first)
            if n == len(rows):
                raise UnknownId(f"none of the {n:,} items {where} is known: {self.unknown(first)}")
            title = isinstance(first, str) and self.vocab.kind != "string"      # near ids would take too long to find
            warn(f"{n:,} of {len(rows):,} items {where} were not trained on (such as {show(first)}) and are left out; "
                 f"correct them, or train with ratings of them{f' ({self.unknown(first)})' if title else ''}")
        return rows

    def excluded(self, items: Hashable | Iterable[Hashable]) -> np.ndarray:
        """Rows of n items that must not be recommended, int64 (n,); an unknown id gets 0 and excludes nothing, since it
        is never recommended. Text that is neither an id nor a title may be a misspelt title: a warning counts these."""
        given = id_index(self.vocab.listed(items))
        rows = self._rows(given)
        if n := int((lost := (rows == UNKNOWN) & _texts(given)).sum() if self.titles is not None else 0):
            first = given[int(np.argmax(lost))]
            warn(f"{n:,} of {len(rows):,} items that are not to be recommended (such as {show(first)}) are neither the "
                 "id nor the title of an item that was trained on, and leave out nothing"
                 f"{self.vocab.but_for_zeros(first) or self._near(first)}")
        return rows

    def _near(self, item: Hashable) -> str:
        """The ids and titles near to an item, as the end of a message; nothing where it would take long to find them.
        """
        near = self.vocab.near(item, self._like(item)) if len(self.vocab) <= QUICK else []
        return f"; near it are {', '.join(near)}" if near else ""

    def unknown(self, item: Hashable) -> UnknownId:
        """The error that names an item and the nearest titles or ids."""
        return self.vocab.unknown(item, self._like(item))

    def _like(self, item: Hashable) -> dict[str, object] | None:
        """What may be near to an item: titles with it in them, else ids and titles, in lower case, each with what is to
        be shown; None for the ids alone."""
        if self.titles is None or not isinstance(item, str):
            return None
        lower, plain = self._lower
        near = dict(zip([*plain.str.replace(YEAR, "", regex=True), *lower], self.titles * 2))
        ids = {id.casefold(): id for id in self.vocab if isinstance(id, str)}
        wanted = folded(item)
        with_it = {text: title for text, title in near.items() if wanted and wanted in folded(text)}
        return {**with_it} or {**ids, **near}

    def _rows(self, given: pd.Index) -> np.ndarray:
        """Rows, 0 for what is neither an id nor a title."""
        texts = _texts(given)
        if self.titles is None or not texts.any() or given.hasnans:
            return self.vocab.encode(given)         # which refuses missing ids
        rows = np.zeros(len(given), dtype=np.int64)
        ids = slice(None) if self.vocab.kind == "string" else ~texts
        rows[ids] = self.vocab.encode(given[ids])
        for k in np.flatnonzero(texts & (rows == UNKNOWN)).tolist():
            rows[k] = self._titled(given[k])
        return rows

    def _titled(self, text: str) -> int:
        rows = self._by_title.get(text.casefold(), [])
        if len(rows) > 1 and self.titles is not None:       # their case may tell them apart
            rows = [row for row in rows if self.titles[row - 1] == text] or rows
        if len(rows) > 1:
            raise SeveralTitled(f"{len(rows):,} {self.name}s have the title {show(text)}: "
                                f"{', '.join(show(self.vocab.ids[row]) for row in rows)}; say by its id which is meant")
        if not rows and self.vocab.kind != "string" and self._typed(text) is not None:
            self.vocab.encode([text])       # which refuses '5' where 5 is an id
        return rows[0] if rows else UNKNOWN

    @cached_property
    def _by_title(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for row, title in enumerate(self.titles or (), start=1):
            if title:
                found.setdefault(title.casefold(), []).append(row)
        return found

    # A search for people -----------------------------------------------------------------------------------------

    def typed(self, text: str) -> Hashable:
        """The id that reads like `text`, or the text itself, which may be a title. Where no item has a title, an
        unknown id is of the kind of the ids too: 77 where these are numbers."""
        if self.titles is None and self.vocab.kind != "string":
            with suppress(DataError):
                id = self.vocab.parse(text)
                return id if id == id else text         # "nan" is not a number
        id = self._typed(text)
        return text if id is None else id

    def has(self, text: str) -> bool:
        """Whether `text` reads like the id of an item, or is the title of one."""
        return self._typed(text) is not None or text.casefold() in self._by_title

    def find(self, text: str, counts: Tensor) -> list[Hashable]:
        """The ids that a person may mean by `text`: see `CollabDataBunch.find_items`. `counts` (n + 1,) are the numbers
        of ratings by row, the unknown one included."""
        id = self._typed(text)
        if id is None:
            return self.find_titles(text, counts)
        same = [self.vocab.ids[row] for row in self._by_title.get(text.casefold(), [])]
        return [id, *(other for other in same if other != id)]

    def find_titles(self, text: str, counts: Tensor) -> list[Hashable]:
        """The ids of items with this title, or `text` in it: see `CollabDataBunch.find_titles`."""
        if self.titles is None or not text:
            raise self.vocab.unknown(text)
        lower, plain = self._lower
        rated, wanted = counts[1:].numpy(), text.casefold()
        for fits in ((lower == wanted) | (plain == wanted),
                     lower.str.contains(wanted, regex=False) | plain.str.contains(wanted, regex=False)):
            if fits.any():
                found = np.flatnonzero(fits)
                return list(self.vocab.ids[1:][found[np.argsort(-rated[found], kind="stable")]])
        raise self.unknown(text)

    @cached_property
    def _lower(self) -> tuple[pd.Series, pd.Series]:
        """The titles in lower case, as written and with the article in front: "the matrix (1999)" for "matrix, the
        (1999)"."""
        lower = pd.Series(self.titles, dtype=object).str.casefold()
        return lower, lower.str.replace(ARTICLE_LAST, r"\2 \1", regex=True)

    def _typed(self, text: str) -> Hashable | None:
        try:
            id = self.vocab.parse(text)
        except DataError:
            return None
        return id if id in self.vocab else None


def average_rows(names: Vocab | Catalogue, ids: list[Hashable], unknown: str,
                 has_average: Callable[[], bool] | None = None) -> np.ndarray:
    """Rows of n ids, int64 (n,); ids that were not trained on get row 0, that of the average, with one warning that
    counts them. Raises UnknownId for these with unknown="error", or where the model has no average row."""
    check_unknown(unknown)
    rows = names.encode(ids)
    if not rows.all():
        lost = rows == UNKNOWN
        n, first = int(lost.sum()), id_index(ids)[int(np.argmax(lost))]
        if unknown == "error" or (has_average is not None and not has_average()):
            raise names.unknown(first)
        warn(f"{n:,} of {len(rows):,} {names.name} ids were not trained on (such as {show(first)}); they stand for the "
             f"average {names.name}")
    return rows


def check_unknown(unknown: str) -> None:
    """Raises ValueError unless `unknown` is "average" or "error"."""
    if unknown not in ("average", "error"):
        raise ValueError(f"unknown={unknown!r} is neither 'average' nor 'error'")


def _texts(ids: pd.Index) -> np.ndarray:
    """Which ids are text, bool (n,)."""
    kind = pd.api.types.infer_dtype(ids, skipna=False)
    if kind == "string" or not kind.startswith("mixed"):
        return np.full(len(ids), kind == "string")
    return np.fromiter((isinstance(id, str) for id in ids), dtype=bool, count=len(ids))
