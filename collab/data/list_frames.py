"""One list of recommendations as a DataFrame, from the parts that pandas puts one together of: its constructor takes
six times as long as it takes to find the list."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from .frames import COPIES, Table
from .texts import NoTexts, Texts
from .vocab import Vocab

with suppress(ImportError):     # these are not public: see `fits`
    from pandas._libs.internals import BlockPlacement
    from pandas.core.internals.blocks import ExtensionBlock, NumpyBlock
    from pandas.core.internals.managers import BlockManager

RangeIndex: Any = pd.RangeIndex


class ListFrames:
    """Lists of items as DataFrames: rank, the name of the vocab, title where there are titles, score. What is the same
    in all of them is prepared once.

    `arrays` are what a kernel writes a list from (`retrieval.list_kernels`): the ids by row, and the titles as `Texts`
    has them. Ids other than int64, and titles that pyarrow does not keep, are looked up afterwards: the kernel then
    writes rows."""

    def __init__(self, name: str, ids: np.ndarray, titles: Texts | None):
        n_rows = len(ids)
        self.ids, self.id_texts = ids, Texts(["", *ids[1:]]) if ids.dtype == object else None
        self.titles, arrows = titles, titles is None or titles.are_arrows
        self.written = NoTexts(n_rows) if titles is None or not arrows else titles
        self.writes_ids = arrows and ids.dtype == np.int64
        self.arrays = (ids if self.writes_ids else np.arange(n_rows), *self.written.arrays)
        self.names: Any = pd.Index(["rank", name, *([] if titles is None else ["title"]), "score"])
        self.places = [BlockPlacement(k) for k in range(len(self.names))]
        self.first_two = BlockPlacement(slice(0, 2))

    @classmethod
    def of(cls, vocab: Vocab, titles: Texts | None) -> ListFrames | None:
        """The lists of a vocab's items, or None: where ids are neither whole numbers nor text, two columns would have
        one name, not every item has a text for its title, or `fits` does not hold."""
        if vocab.by_row is None or vocab.name in ("rank", "title", "score") or not fits():
            return None
        made = cls(vocab.name, vocab.by_row, titles)
        texts = [own for own in (titles, made.id_texts) if own is not None]
        whole = all(len(own.all) == len(vocab) and isinstance(own.column.dtype, pd.StringDtype) for own in texts)
        return made if whole else None

    def frame(self, numbers: np.ndarray, scores: np.ndarray, text: np.ndarray, size: int, kind: Any) -> pd.DataFrame:
        """What the kernel wrote as a `kind` of DataFrame, which keeps these arrays: ranks and ids, int64 (2, n), scores
        (1, n), and `size` bytes in `text`, the room of the titles."""
        places, n = self.places, numbers.shape[1]
        if self.writes_ids:
            blocks = [NumpyBlock(numbers, self.first_two, 2)]
        else:
            blocks = [NumpyBlock(numbers[:1], places[0], 2), self._ids(numbers[1])]
        if (titles := self.titles) is not None:
            column = titles.copied(text, size, n) if titles is self.written else titles.take(numbers[1])
            blocks.append(ExtensionBlock(column, places[2], 2))
        blocks.append(NumpyBlock(scores, places[-1], 2))
        axes = [self.names._view(), RangeIndex._simple_new(range(n), None)]    # of its own: both may be renamed
        return kind._from_mgr(BlockManager(blocks, axes, verify_integrity=False), axes)

    def _ids(self, rows: np.ndarray) -> Any:
        """The ids of n rows."""
        if (texts := self.id_texts) is None:
            return NumpyBlock(self.ids[rows][None], self.places[1], 2)
        if not texts.are_arrows or (room := texts.room(len(rows))) is None:
            return ExtensionBlock(texts.take(rows), self.places[1], 2)
        size = _gather()(*texts.arrays, rows, room)
        return ExtensionBlock(texts.copied(room, size, len(rows)), self.places[1], 2)


@cache
def _gather() -> Any:
    from .text_kernels import gather  # imports numba
    return gather


@cache
def fits() -> bool:
    """Whether the parts of frames and of columns of text, which are not public, are as they were in pandas 3.0 and 3.1:
    whether what is put together from them is what the constructors make."""
    try:
        numbers, scores = np.array([[1, 2], [2, 1]]), np.array([[0.5, 0.25]], np.float32)
        text = np.frombuffer(np.array([0, 1, 2]).tobytes() + b"ab", np.uint8)
        for titles in (None, Texts(["", "b", "a"])):
            made = ListFrames("item", np.arange(3), titles).frame(numbers, scores, text, len(text), Table)
            columns = {"rank": numbers[0], "item": numbers[1], **({} if titles is None else {"title": ["a", "b"]})}
            if not made.equals(Table({**columns, "score": scores[0]})):
                return False
        return not COPIES
    except Exception:       # whatever a change of them may raise
        return False
