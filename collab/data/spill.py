"""Spill: rows of numbers that are sorted into files, each of which fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

Rows = np.ndarray
"""int32 (n, columns); float32 is kept by its bits."""


class Spill:
    """`n` buckets of rows in files of a folder. Within a bucket rows keep the order in which they came."""

    def __init__(self, folder: Path, name: str, n: int, columns: int = 3):
        self.folder, self.name, self.n, self.columns = folder, name, n, columns
        self.sizes = np.zeros(n, np.int64)

    def add(self, into: np.ndarray, rows: Rows) -> None:
        """Append each row to the bucket that `into` (n,) names."""
        order = np.argsort(into, kind="stable")
        counts = np.bincount(into, minlength=self.n)
        ends, rows = counts.cumsum(), rows[order]
        for k in np.flatnonzero(counts).tolist():
            with open(self._path(k), "ab") as file:
                rows[ends[k] - counts[k]:ends[k]].tofile(file)
        self.sizes += counts

    def take(self, k: int) -> Rows:
        """The rows of a bucket, whose file is removed."""
        path = self._path(k)
        if not self.sizes[k]:
            return np.empty((0, self.columns), np.int32)
        rows = np.fromfile(path, np.int32).reshape(-1, self.columns)
        path.unlink()
        return rows

    def parts(self, k: int, rows: int) -> Iterator[Rows]:
        """The rows of a bucket, at most so many at a time; its file is removed at the end."""
        for first in range(0, int(self.sizes[k]), rows):
            yield np.fromfile(self._path(k), np.int32, rows * self.columns,
                              offset=4 * first * self.columns).reshape(-1, self.columns)
        self._path(k).unlink(missing_ok=True)

    def _path(self, k: int) -> Path:
        return self.folder / f"{self.name}.{k}.spill"


def groups_of(counts: np.ndarray, rows: int) -> np.ndarray:
    """The group of each block, int64, where consecutive blocks with these counts make groups of about `rows` rows."""
    before = counts.cumsum() - counts
    return np.unique(before // max(1, rows), return_inverse=True)[1]
