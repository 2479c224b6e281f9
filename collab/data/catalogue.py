"""Catalogue: which item is meant. Items by their ids and titles: one rule for programs, and a search for people."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from ..errors import DataError, warn
from .schema import show
from .vocab import UNKNOWN, UnknownId, Vocab, id_index

if TYPE_CHECKING:
    from .databunch import CollabDataBunch

ARTICLE_LAST, YEAR = r"^(.*), (the|an?|les?|la|l'|el|il|der|die|das)(?= \(|$)", r" \(\d{4}\)$"


def titles(data: CollabDataBunch, ids: Iterable[Hashable]) -> list[str] | None:
    """The titles of raw item ids ("" where there is none), or None if the items have no titles."""
    name = data.title_name
    if name is None:
        return None
    column = data.item_table[name].astype(object)
    found = column.where(column.notna(), "").astype(str).tolist()
    places = data.item_table.index.get_indexer(id_index(ids))       # -1 where the table lacks the id
    return ["" if place < 0 else found[place] for place in places.tolist()]


class Catalogue:
    """The items of a vocab by id and by title. An item is meant by its id, or else by its title: all of it, upper and
    lower case alike, where only one item has it. Text that is both means the id.

    `titles` are those of rows 1..n, "" where an item has none; None where no item has one. Then ids alone are known."""

    def __init__(self, vocab: Vocab, titles: list[str] | None):
        self.vocab, self.titles, self.name = vocab, titles, vocab.name

    # One rule for programs ---------------------------------------------------------------------------------------

    def __getitem__(self, item: Hashable) -> int:
        """The row of a known item. Raises UnknownId, with near ids or titles, DataError for a title of several."""
        row = int(self.encode([item])[0])
        if row == UNKNOWN:
            raise self.unknown(item)
        return row

    def encode(self, items: Iterable[Hashable]) -> np.ndarray:
        """Rows (int64) of items, 0 for ids that are not known. Raises UnknownId for text that is no title where ids
        are no text, and DataError for a title of several items and for ids of another kind."""
        asked = id_index(items)
        rows = self._rows(asked)
        if self.vocab.kind != "string" and (wrong := _texts(asked) & (rows == UNKNOWN)).any():
            raise self.unknown(asked[int(np.argmax(wrong))])
        return rows

    def known(self, items: Hashable | Iterable[Hashable], where: str, unknown: str = "average") -> np.ndarray:
        """Rows (int64) of the items named `where`, 0 for unknown ones: these are left out, with one warning that counts
        them. Raises UnknownId where there is no other, or with unknown="error"."""
        check_unknown(unknown)
        asked = id_index(items if isinstance(items, pd.Series) else self.vocab.listed(items))
        rows = self._rows(asked)
        if n := int((lost := rows == UNKNOWN).sum()):
            first = asked[int(np.argmax(lost))]
            if unknown == "error" or n == len(rows) == 1:
                raise self.unknown(first)
            if n == len(rows):
                raise UnknownId(f"none of the {n:,} items {where} is known: {self.unknown(first)}")
            title = isinstance(first, str) and self.vocab.kind != "string"      # of ids, what is near costs too much
            warn(f"{n:,} of {len(rows):,} items {where} were not trained on (such as {show(first)}) and are left out; "
                 f"correct them, or train with ratings of them{f' ({self.unknown(first)})' if title else ''}")
        return rows

    def excluded(self, items: Hashable | Iterable[Hashable]) -> np.ndarray:
        """Rows (int64) of items that are not to be recommended; an unknown id gets 0 and leaves out nothing, since it
        is not recommended anyway. Text that is neither id nor title may be a title that is misspelt: a warning says
        how many there are."""
        asked = id_index(self.vocab.listed(items))
        rows = self._rows(asked)
        if n := int((lost := (rows == UNKNOWN) & _texts(asked)).sum() if self.titles is not None else 0):
            warn(f"{n:,} of {len(rows):,} items that are not to be recommended (such as "
                 f"{show(asked[int(np.argmax(lost))])}) are neither the id nor the title of an item that was trained "
                 "on, and leave out nothing")
        return rows

    def unknown(self, item: Hashable) -> UnknownId:
        """The error that names an item and the titles, or the ids, that are near it."""
        if self.titles is None or not isinstance(item, str):
            return self.vocab.unknown(item)
        lower, plain = self._lower
        near = dict(zip([*plain.str.replace(YEAR, "", regex=True), *lower], self.titles * 2))
        ids = {id.casefold(): id for id in self.vocab if isinstance(id, str)}
        with_it = {text: title for text, title in near.items() if item and item.casefold() in text}
        return self.vocab.unknown(item, with_it or {**ids, **near})

    def _rows(self, asked: pd.Index) -> np.ndarray:
        """Rows, 0 for whatever is neither an id nor a title."""
        texts = _texts(asked)
        if self.titles is None or not texts.any() or asked.hasnans:
            return self.vocab.encode(asked)         # which refuses missing ids
        rows = np.zeros(len(asked), dtype=np.int64)
        ids = slice(None) if self.vocab.kind == "string" else ~texts
        rows[ids] = self.vocab.encode(asked[ids])
        for k in np.flatnonzero(texts & (rows == UNKNOWN)).tolist():
            rows[k] = self._titled(asked[k])
        return rows

    def _titled(self, text: str) -> int:
        rows = self._by_title.get(text.casefold(), [])
        if len(rows) > 1 and self.titles is not None:       # upper and lower case may tell them apart
            rows = [row for row in rows if self.titles[row - 1] == text] or rows
        if len(rows) > 1:
            raise DataError(f"{len(rows):,} {self.name}s have the title {show(text)}: "
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
        """The id that reads like `text`, or where none does the text, which may be a title."""
        id = self._typed(text)
        return text if id is None else id

    def find(self, text: str, counts: Tensor) -> list[Hashable]:
        """The ids that a person may mean by `text`: see `CollabDataBunch.find_items`; `counts` are those of rows."""
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
        rated, asked = counts[1:].numpy(), text.casefold()
        for fits in ((lower == asked) | (plain == asked),
                     lower.str.contains(asked, regex=False) | plain.str.contains(asked, regex=False)):
            if fits.any():
                found = np.flatnonzero(fits)
                return list(self.vocab.ids[1:][found[np.argsort(-rated[found], kind="stable")]])
        raise self.unknown(text)

    @cached_property
    def _lower(self) -> tuple[pd.Series, pd.Series]:
        """The titles in lower case, as they are, and as they are said: "the matrix (1999)" of "matrix, the (1999)"."""
        lower = pd.Series(self.titles, dtype=object).str.casefold()
        return lower, lower.str.replace(ARTICLE_LAST, r"\2 \1", regex=True)

    def _typed(self, text: str) -> Any:
        try:
            id = self.vocab.parse(text)
        except DataError:
            return None
        return id if id in self.vocab else None


def average_rows(names: Vocab | Catalogue, ids: Iterable[Hashable], unknown: str,
                 has_average: bool = True) -> np.ndarray:
    """Rows (int64) of ids, 0, the average one's, for those that were not trained on, with one warning that counts them.
    Raises UnknownId for these with unknown="error", or where a model has no average one."""
    check_unknown(unknown)
    asked = id_index(ids)
    rows = names.encode(asked)
    if n := int((lost := rows == UNKNOWN).sum()):
        first = asked[int(np.argmax(lost))]
        if unknown == "error" or not has_average:
            raise names.unknown(first)
        warn(f"{n:,} of {len(rows):,} {names.name} ids were not trained on (such as {show(first)}); they stand for the "
             f"average {names.name}")
    return rows


def check_unknown(unknown: str) -> None:
    """Raises ValueError for what says nothing of unknown ids."""
    if unknown not in ("average", "error"):
        raise ValueError(f"unknown={unknown!r} is neither 'average' nor 'error'")


def _texts(ids: pd.Index) -> np.ndarray:
    """Which of them are text."""
    kind = pd.api.types.infer_dtype(ids, skipna=False)
    if kind == "string" or not kind.startswith("mixed"):
        return np.full(len(ids), kind == "string")
    return np.fromiter((isinstance(id, str) for id in ids), dtype=bool, count=len(ids))
