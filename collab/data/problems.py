"""What is wrong with a table, as values: a check says it to a function, which raises it or collects it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError

NO_ROWS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Problem:
    """One thing that is wrong, or notable, in a table.

    - `where`: what it is about, such as "column 'stars'"; `column`: the name of that column, or None for the table.
    - `what`: what is wrong there, with how many; `remedy`: what to do, in the arguments of Python.
    - `in_file`: the remedy where the table is a file, if that is another.
    - `rows`: the positions of all rows concerned, int64 (n,), none where it is about the whole; `example`: the value in
      the first of them as a person would type it, or None where nothing is there.
    - `options`: the arguments of reading or of `from_df` that mend it, by name; empty where only the table can be
      mended.
    - `stops`: whether a model cannot be trained on the table as it is. `chosen`: whether an option has asked for what
      is done about it. `misleads`: whether its rows are better corrected, or confirmed, before training, though nothing
      stops it."""

    where: str
    what: str
    remedy: str
    column: Hashable = None
    rows: np.ndarray = field(default_factory=lambda: NO_ROWS)
    example: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    stops: bool = True
    chosen: bool = False
    in_file: str = ""
    misleads: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.found()}; {self.remedy}"

    def found(self, place: Callable[[int], str] = lambda row: f"row {row}") -> str:
        """What is wrong and where it is first, by a function that names the place of a row."""
        if not len(self.rows):
            return self.what
        at = place(int(self.rows[0]))
        first = "first" if self.example is None else f"such as {self.example}"
        return f"{self.what} ({first} at {at})"


class Unreadable(DataError):
    """A file cannot be read so; with the `options` of `read_table`, by name, it may."""

    def __init__(self, message: str, **options: object):
        super().__init__(message)
        self.options = options


Found = Callable[[Problem], None]
"""What a check calls with each problem: `stop`, or the `append` of a list, after which it goes on with the rest."""


def stop(problem: Problem) -> None:
    """Raise the problem as a DataError."""
    raise DataError(str(problem))
