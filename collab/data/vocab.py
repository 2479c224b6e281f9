"""Vocab: raw id <-> row. Row 0 is "unknown"."""

from __future__ import annotations

import datetime
import difflib
import uuid
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from .schema import DataError, id_kind

UNKNOWN = 0


class UnknownId(DataError, KeyError):
    """An id that the vocab does not hold."""

    __str__ = Exception.__str__     # KeyError would print the message in quotes


class Vocab:
    """Frozen map between raw ids and rows 1..n; row 0 stands for every id that is not in it.

    Ids are sorted where they can be, otherwise in the order of their first occurrence, so that the same
    set of ids gives the same rows however the ratings were shuffled. Ids of different kinds are never
    equal: asking a vocab of integers for "5" raises DataError.

    >>> vocab = Vocab(["b", "a", "b"], name="item")
    >>> len(vocab), vocab["a"], vocab.ids[2]
    (3, 1, 'b')
    """

    def __init__(self, ids: Iterable[Hashable], name: str = "id"):
        unique = pd.unique(_series(ids))
        index = pd.Index(unique, tupleize_cols=False)
        try:
            index = index.sort_values()
        except TypeError:
            pass                    # ids of this kind have no order: keep that of their first occurrence
        self.name = name
        self.kind = id_kind(index, f"the {name} ids")
        self._index = index

    def __len__(self) -> int:
        """The number of rows: the ids and the unknown row."""
        return len(self._index) + 1

    def __iter__(self) -> Iterator[Hashable]:
        """The known ids, in the order of their rows."""
        return iter(self._index.tolist())

    def __contains__(self, id: Hashable) -> bool:
        return _kind(id) == self.kind and id in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and self.name == other.name and self._index.equals(other._index)

    __hash__ = None  # type: ignore[assignment]     # compared by value, like a list

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self._index[:3].tolist()))
        return f"Vocab({len(self._index):,} {self.name} ids: {shown}{', ...' if len(self) > 4 else ''})"

    @cached_property
    def ids(self) -> np.ndarray:
        """Row -> raw id, an object array of length len(self); ids[0], the unknown one, is None."""
        ids = np.empty(len(self), dtype=object)
        ids[0] = None
        for row, id in enumerate(self._index.tolist(), start=1):     # one by one: tuples must stay tuples
            ids[row] = id
        return ids

    def __getitem__(self, id: Hashable) -> int:
        """The row of a known id. Raises UnknownId, with the nearest known ids, or DataError for another kind."""
        row = int(self.encode([id])[0])
        if row == UNKNOWN:
            raise self.unknown(id)
        return row

    def unknown(self, id: Hashable) -> UnknownId:
        """The error that names `id` and what is near it."""
        near = difflib.get_close_matches(str(id), map(str, self), n=3) if len(self) < 100_000 else []
        hint = f"; near it are {', '.join(near)}" if near else ""
        return UnknownId(f"{self.name} {id!r} is not among the {len(self) - 1:,} {self.name}s "
                         f"that were trained on{hint}")

    def encode(self, ids: Iterable[Hashable]) -> np.ndarray:
        """Rows (int64) of many ids; those that are not known get row 0.

        Raises DataError where the ids are of another kind than the vocab's, such as "5" for 5."""
        series = _series(ids)
        if not len(series):
            return np.empty(0, dtype=np.int64)
        kind = id_kind(series, f"the {self.name} ids")
        if kind != self.kind:
            raise DataError(f"{self.name} ids are of kind {self.kind} here (such as {self._index[0]!r}), but "
                            f"{series.iloc[0]!r} is of kind {kind}; convert it, since 5 and '5' are different ids")
        return self._index.get_indexer(pd.Index(series, tupleize_cols=False)).astype(np.int64) + 1

    def decode(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Raw ids of many rows, in the type they came in; where a row is 0, an object array with None there."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows must lie between 0 and {len(self) - 1}, got {rows.min()} to {rows.max()}")
        if (rows == UNKNOWN).any() or self._index.dtype == object:
            return self.ids[rows]
        return self._index.take(rows - 1).to_numpy()

    def parse(self, text: str) -> Hashable:
        """The id that a person typed: an integer where ids are integers, the text itself where they are text."""
        try:
            value = type(self._index[0])(text) if self.kind == "number" else pd.Timestamp(text) \
                if self.kind == "datetime" else text
        except ValueError:
            raise DataError(f"{self.name} ids are of kind {self.kind} (such as {self._index[0]!r}), "
                            f"which {text!r} is not") from None
        return value.item() if isinstance(value, np.generic) else value

    def to_state(self) -> dict[str, Any]:
        """What `from_state` rebuilds the vocab from: plain JSON values."""
        return {"name": self.name, "dtype": str(self._index.dtype), "ids": [to_json(id) for id in self]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Vocab:
        """The inverse of `to_state`."""
        ids = [from_json(id) for id in state["ids"]]
        vocab = cls.__new__(cls)
        vocab.name = state["name"]
        vocab._index = pd.Index(_series(ids), tupleize_cols=False)
        if str(vocab._index.dtype) != state["dtype"] and state["dtype"] != "object":
            vocab._index = vocab._index.astype(state["dtype"])
        vocab.kind = id_kind(vocab._index, f"the {vocab.name} ids")
        return vocab


def _series(ids: Iterable[Hashable]) -> pd.Series:
    if isinstance(ids, pd.Series):
        return ids
    if isinstance(ids, (np.ndarray, pd.Index, pd.api.extensions.ExtensionArray)):
        return pd.Series(ids)
    ids = list(ids)
    plain = all(isinstance(id, (str, int, float, np.generic, datetime.datetime)) for id in ids)
    if plain and len({_kind(id) for id in ids}) == 1:
        return pd.Series(ids)
    boxed = np.empty(len(ids), dtype=object)
    for i, id in enumerate(ids):
        boxed[i] = id
    return pd.Series(boxed, dtype=object)


def _kind(id: Hashable) -> str:
    boxed = np.empty(1, dtype=object)
    boxed[0] = id
    return id_kind(pd.Index(boxed, tupleize_cols=False), "the id")


# JSON knows numbers, strings and booleans; other ids travel as [type, text].
_CODECS: dict[str, tuple[type, Any, Any]] = {
    "timestamp": (pd.Timestamp, pd.Timestamp.isoformat, pd.Timestamp),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "tuple": (tuple, lambda t: [to_json(v) for v in t], lambda t: tuple(from_json(v) for v in t)),
}


def to_json(id: Any) -> Any:
    if isinstance(id, np.generic):
        id = id.item()
    if id is None or isinstance(id, (str, int, float, bool)):
        return id
    for tag, (type_, encode, _) in _CODECS.items():
        if isinstance(id, type_):
            return [tag, encode(id)]
    raise DataError(f"ids of type {type(id).__name__} (such as {id!r}) cannot be written to a file; "
                    "use strings, numbers, dates, UUIDs, or tuples of these")


def from_json(value: Any) -> Any:
    return _CODECS[value[0]][2](value[1]) if isinstance(value, list) else value
