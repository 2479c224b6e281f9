"""Vocab: raw id <-> row. Row 0 is "unknown"."""

from __future__ import annotations

import datetime
import difflib
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from .alike import bare, folded
from .codes import distinct, each_once, in_order, is_coded
from .frames import as_column, without_categories
from .schema import DATETIMES, check_text, id_kind, show

UNKNOWN = 0
MANY = 10_000               # more ids than this are looked up one by one no longer
MAX_COMPARED = 100_000      # ids to compare an unknown one with, to suggest near ones: a second at most

ONE = (int, str)            # of which most ids are, told at once
SEVERAL = (list, range, np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray)
Ids = Hashable | list | range | np.ndarray | pd.Series | pd.Index | pd.api.extensions.ExtensionArray
"""One raw id, or several; columns of polars and pyarrow are several too, and a tuple is one id."""


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

    name: str
    kind: str
    _index: pd.Index
    _own: tuple[type, ...]

    def __init__(self, ids: Iterable[Hashable], name: str = "id"):
        index = id_index(in_order(ids) if is_coded(ids) else ids)
        if not len(index):
            raise DataError(f"a vocab needs at least one {name} id, got none")
        kind = id_kind(index, f"the {name} ids")    # before `unique`, which would take True and 1 for one id
        index = index.unique()
        if kind == "string":
            check_text(pd.Series(index), f"the {name} ids")
        with suppress(TypeError):   # ids of this kind have no order: keep that of their first occurrence
            index = index.sort_values()
        self._set(index, name)

    def _set(self, index: pd.Index, name: str) -> None:
        kind = id_kind(index, f"the {name} ids")
        own = (int, np.int64) if index.dtype.kind in "iu" else (str,) if kind == "string" else ()
        vars(self).update(name=name, kind=kind, _index=index, _own=own)

    def __getstate__(self) -> dict[str, object]:
        """What copies and pickles hold: not what is made of the ids again when it is asked for."""
        return {name: vars(self)[name] for name in ("name", "kind", "_index", "_own")}

    def __setattr__(self, attribute: str, value: object) -> None:
        raise AttributeError(f"cannot set {attribute!r}: a Vocab is frozen, since rows of a model depend on it; "
                             "make a new one with Vocab(ids, name)")

    def __len__(self) -> int:
        """The number of rows: the ids and the unknown row."""
        return len(self._index) + 1

    def __iter__(self) -> Iterator[Hashable]:
        """The known ids, in the order of their rows."""
        return iter(self._index.tolist())

    def __contains__(self, id: object) -> bool:
        try:
            return bool(self.encode([id])[0] != UNKNOWN)
        except DataError:
            return False            # of another kind, or not an id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and self.name == other.name and self._index.equals(other._index)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self._index[:3].tolist()))
        return f"Vocab({len(self._index):,} {self.name} ids: {shown}{', ...' if len(self) > 4 else ''})"

    @cached_property
    def ids(self) -> np.ndarray:
        """Row -> raw id, a read-only object array of length len(self); ids[0], the unknown one, is None."""
        ids = np.fromiter([None, *self], dtype=object)
        ids.setflags(write=False)
        return ids

    def with_more(self, ids: Iterable[Hashable]) -> Vocab:
        """A vocab of these ids and more. Ids keep their type: 5 stays 5 where 7.0 is added."""
        more = id_index(ids)
        every = np.fromiter([*self, *more[self.encode(more) == UNKNOWN].tolist()], dtype=object)
        with suppress(TypeError, ValueError, OverflowError):        # a new id that does not fit the type, like 7.5
            return Vocab(pd.Index(every, dtype=self._index.dtype, tupleize_cols=False), self.name)
        return Vocab(every.tolist(), self.name)

    def listed(self, ids: Hashable | Iterable[Hashable]) -> list[Hashable]:
        """Ids as a list, a single one as a list of one: text, anything not iterable, or a tuple that is a known id."""
        if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable) or (
                isinstance(ids, tuple) and type(ids).__name__ == self.kind and ids in self):
            return [ids]
        return labels(ids) if several(ids) else list(ids)

    def __getitem__(self, id: Hashable) -> int:
        """The row of a known id. Raises UnknownId, with the nearest known ids, or DataError for another kind."""
        row = int(self.encode([id])[0])
        if row == UNKNOWN:
            raise self.unknown(id)
        return row

    def unknown(self, id: Hashable, among: Mapping[str, object] | None = None) -> UnknownId:
        """The error that names `id` and the nearest names: keys of `among`, in lower case, each with the value to show.
        By default these are the ids, unless ids are numbers or times, where near spelling means nothing."""
        near = self.near(id, among)
        hint = f"; near it are {', '.join(near)}" if near else ""
        return UnknownId(f"{self.name} {show(id)} is not among the {len(self) - 1:,} {self.name}s "
                         f"that were trained on{hint}")

    def near(self, id: Hashable, among: Mapping[str, object] | None = None) -> list[str]:
        """At most three names near to `id`, as messages show them: see `unknown`."""
        alike = self.kind not in ("number", "boolean", "datetime", "date")
        known = among or {str(known).casefold(): known for known in self if alike and len(self) <= MAX_COMPARED}
        names = dict[str, list[str]]()      # several may be the same when they are folded
        for name, shown in known.items() if len(self) <= MAX_COMPARED else ():
            names.setdefault(folded(name), []).append(show(shown))
        text, own = folded(str(id)), bare(str(id))
        close = difflib.get_close_matches(text, names, n=3) or [name for name in names if text and text in name]
        same = [show(shown) for name, shown in known.items() if bare(name) == own] if names else []
        return [*dict.fromkeys([*same, *(shown for name in close for shown in names[name])])][:3]

    def but_for_zeros(self, id: object) -> str:
        """The id that is a number or text but for zeros in front, as the end of a message: "; did you mean '00108'?"
        for 108; nothing without one."""
        text = str(id)
        if self.kind != "string" or not text.isdecimal() or len(self) > MAX_COMPARED:
            return ""
        near = next((known for known in self if str(known).lstrip("0") == text.lstrip("0")), None)
        return "" if near is None else f"; did you mean {show(near)}?"

    def encode(self, ids: Iterable[Hashable]) -> np.ndarray:
        """Rows of n ids, int64 (n,); unknown ids get row 0.

        Raises DataError for missing ids and ids of another kind than the vocab's, such as "5" for 5."""
        if is_coded(ids):
            return each_once(self.encode, ids)
        if isinstance(ids, list) and len(ids) == 1 and (row := self.find(ids[0])):
            return np.array([row], dtype=np.int64)
        index = id_index(ids)
        if not len(index):
            return np.empty(0, dtype=np.int64)
        kind = id_kind(index, f"the {self.name} ids")
        if kind != self.kind:
            raise DataError(f"{self.name} ids are of kind {self.kind} here (such as {self._example()!r}), but "
                            f"{(first := index[:1].tolist()[0])!r} is of kind {kind}; convert it, since 5 and '5' are "
                            f"different ids{self.but_for_zeros(first)}")
        if len(index) > MANY:       # look each up once: text that comes again and again is hashed once
            codes, each = distinct(index)
            return (self._index.get_indexer(each).astype(np.int64) + 1)[codes]
        return self._index.get_indexer(index).astype(np.int64) + 1

    def find(self, id: object) -> int:
        """The row of an id that is a whole number or text, as all ids of this vocab are; 0 for any other. It makes no
        column of the id, as `encode` does to check it, which takes a hundred times as long."""
        if type(id) not in self._own:
            return UNKNOWN
        if (rows := self._rows) is not None:
            return rows.get(id, UNKNOWN)
        try:
            place: Any = self._index.get_loc(id)        # one, since ids are unique
            return place + 1
        except (KeyError, OverflowError, ValueError):       # ValueError: half a character
            return UNKNOWN

    @cached_property
    def _rows(self) -> dict[Any, int] | None:
        """The rows by id, which are found in a fifth of the time; None where they would take much memory."""
        return {id: row for row, id in enumerate(self, start=1)} if len(self) <= MAX_COMPARED else None

    def decode(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Raw ids of n rows, (n,), in the type they came in; if any row is 0, an object array with None there.

        Raises IndexError for rows that the vocab does not have."""
        rows = np.asarray(rows, dtype=np.int64)
        low, high = (int(rows.min()), int(rows.max())) if len(rows) else (1, 1)
        if low < 0 or high >= len(self):
            raise IndexError(f"rows must lie between 0 and {len(self) - 1}, got {low} to {high}")
        if low == UNKNOWN or self._index.dtype == object:
            return self.ids[rows]
        if isinstance(self._index.dtype, np.dtype):
            return self._index.to_numpy()[rows - 1]
        return self._index.take(rows - 1).to_numpy(copy=True)       # an index gives out its own array read-only

    def named(self, rows: np.ndarray) -> np.ndarray:
        """`decode` of known rows that need no check, int64 (n,), in a quarter of the time."""
        return self.decode(rows) if self.by_row is None else self.by_row[rows]

    def raw(self, rows: np.ndarray) -> list[Hashable]:
        """The raw ids of known rows, int64 (n,), as Python's own values."""
        return (self.ids if self.by_row is None else self.by_row)[rows].tolist()

    @cached_property
    def by_row(self) -> np.ndarray | None:
        """The ids by row where they are whole numbers, as they are, or text, as objects."""
        if self._own == (int, np.int64):
            return np.concatenate([self._index.to_numpy()[:1], self._index.to_numpy()])
        return self.ids if isinstance(self._index.dtype, pd.StringDtype) else None

    def parse(self, text: str) -> Hashable:
        """The id that a person typed: the text itself where ids are text, a number or a time where ids are that, and
        for any other kind the id that prints as `text`. Raises DataError where it cannot be an id."""
        try:
            if self.kind == "string":
                return text
            if self.kind == "number":
                return type(self._example())(text)
            if self.kind in DATETIMES:
                return pd.Timestamp(text)
        except (ValueError, ArithmeticError):
            raise DataError(f"{self.name} ids are of kind {self.kind} (such as {self._example()!r}), "
                            f"which {text!r} is not") from None
        for id in self:
            if str(id) == text:
                return id
        raise self.unknown(text)

    def to_state(self) -> dict[str, Any]:
        """The vocab as plain JSON values, for `from_state`. Raises DataError for ids that JSON cannot hold."""
        return {"name": self.name, "dtype": dtype_name(self._index.dtype, f"the {self.name} ids"),
                "ids": [to_json(id) for id in self]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Vocab:
        """Rebuild a vocab from `to_state`."""
        ids = np.fromiter(map(from_json, state["ids"]), dtype=object)
        vocab = cls.__new__(cls)
        vocab._set(pd.Index(ids, dtype=state["dtype"], tupleize_cols=False), state["name"])
        return vocab

    def _example(self) -> Any:
        return self._index[:1].tolist()[0]


def several(ids: object) -> bool:
    """Whether these are several ids: a list, range, array or column, including those of polars and pyarrow."""
    return type(ids) not in ONE and (isinstance(ids, SEVERAL) or as_column(ids) is not None)


def labels(ids: object) -> list[Hashable]:
    """One id, or several, as a list of the ids as they were given."""
    if type(ids) in ONE:
        return [ids]
    if isinstance(ids, SEVERAL):
        return list(ids)
    return [ids] if (column := as_column(ids)) is None else list(column)


def id_index(ids: Iterable[Hashable]) -> pd.Index:
    """Ids as a flat index, tuples kept whole; numbers and strings in a list get the dtype that their column would."""
    if not isinstance(ids, (pd.Series, pd.Index, np.ndarray, pd.api.extensions.ExtensionArray)):
        if (column := as_column(ids)) is None:
            column = pd.Series(np.fromiter(ids, dtype=object), dtype=object)
            with suppress(UnicodeEncodeError):      # pandas cannot infer what half a character is
                column = column.infer_objects()
        ids = column
    return pd.Index(without_categories(pd.Series(ids)), tupleize_cols=False)


# JSON has numbers, strings and booleans; other ids are written as [type, text]. The first type that fits is taken:
# a Timestamp is also a datetime, and a datetime a date.
_CODECS: dict[str, tuple[type, Callable[..., object], Callable[..., Hashable]]] = {
    "timestamp": (pd.Timestamp, pd.Timestamp.isoformat, pd.Timestamp),
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "decimal": (Decimal, str, Decimal),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "tuple": (tuple, lambda t: [to_json(v) for v in t], lambda t: tuple(from_json(v) for v in t)),
}


def to_json(id: object) -> object:
    """Convert a raw id to a JSON value. Raises DataError for a type that has no such form."""
    if isinstance(id, np.generic):
        id = id.item()
    if id is None or isinstance(id, (str, int, float, bool)):
        return id
    for tag, (type_, encode, _) in _CODECS.items():
        if isinstance(id, type_):
            return [tag, encode(id)]
    raise DataError(f"ids of type {type(id).__name__} (such as {id!r}) cannot be written to a file; "
                    "use strings, numbers, dates, UUIDs, or tuples of these")


def dtype_name(dtype: object, where: str) -> str:
    """The name from which pandas can make the dtype again. Raises DataError where there is none: times in a zone
    without a name, for one."""
    try:
        again = str(pd.api.types.pandas_dtype(str(dtype)))
    except (TypeError, NotImplementedError):
        again = ""
    if again != str(dtype):
        raise DataError(f"{where} are of the type {dtype}, which cannot be written to a file; make them plain text, "
                        "numbers or dates")
    return str(dtype)


def from_json(value: Any) -> Any:
    """Convert what `to_json` gave back to the raw id."""
    return _CODECS[value[0]][2](value[1]) if isinstance(value, list) else value
