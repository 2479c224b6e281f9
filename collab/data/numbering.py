"""Numbering: ids that come a few at a time, numbered in the order of their first occurrence."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd

from ..errors import DataError
from .codes import distinct
from .schema import id_kind, show

MOST = 2**31 - 1


class Numbering:
    """The ids seen so far of one side, `ids`, and how many training ratings each has, `counts` int64 (len(ids),)."""

    def __init__(self, name: str):
        self.name, self.kind = name, ""
        self.ids = pd.Index([])
        self.counts = np.zeros(0, np.int64)

    def number(self, ids: pd.Series) -> np.ndarray:
        """The numbers of some ids, int32 (n,). Raises DataError for ids of another kind than those before."""
        codes, each = distinct(ids)
        used = np.zeros(len(each), dtype=bool)
        used[codes] = True
        each = each[used]
        kind = id_kind(each, f"the {self.name} ids")
        if not self.kind:
            self.kind, self.ids = kind, each[:0]
        if kind != self.kind:
            raise DataError(f"{self.name} ids of several kinds: some are of kind {self.kind} (such as "
                            f"{show(self.ids[0])}), others of kind {kind} (such as {show(each[0])}); 5 and '5' are "
                            "different ids: write all files with one type")
        place = self.ids.get_indexer(each)
        new = place < 0
        if new.any():
            place[new] = np.arange(len(self.ids), len(self.ids) + int(new.sum()))
            self.ids = self.ids.append(each[new])
            self.counts = np.concatenate([self.counts, np.zeros(int(new.sum()), np.int64)])
            if len(self.ids) > MOST:
                raise DataError(f"there are more than {MOST:,} {self.name} ids, which 32 bits cannot tell apart")
        numbers = np.zeros(len(used), np.int32)
        numbers[used] = place
        return numbers[codes]

    @property
    def most_rated(self) -> Hashable:
        """The id with the most training ratings."""
        id: Hashable = self.ids[int(self.counts.argmax())]
        return id

    def count(self, numbers: np.ndarray) -> None:
        """Count these ids, int32 (n,), as those of training ratings."""
        self.counts += np.bincount(numbers, minlength=len(self.ids))
