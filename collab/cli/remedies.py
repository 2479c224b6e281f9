"""Messages of the library made to fit a command: lines of the file in place of rows, and no remedy that the command
does not have or that was given already."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.lines import line_numbers
from ..data.tables import read_table
from ..errors import DataError
from .command import as_options

ROW = re.compile(r"\bat row (\d[\d,]*)\b")
TESTED = "the test ratings: "
ASKED = re.compile(r"(--[a-z-]+)(?: '([^']*)')?")
OF_TABLES = ("--bad-rows", "--decimal", "--date-format", "--duplicates", "--encoding", "--sep", "--format",
             "--user-col", "--item-col", "--rating-col", "--time-col", "--title-col")
"""Options that mend how a table is read; others may be those of another command that is advised."""


def in_lines(message: str, path: str | Path, n: int, reading: Mapping[str, Any],
             places: np.ndarray | None = None) -> str:
    """The message with lines of a file where it names rows of the table of `n` rows that was read of it. `places` are
    the rows of the file that the table has, by default all."""
    rows = sorted({row for found in ROW.findall(message) if (row := int(found.replace(",", ""))) < n})
    if not rows or f" of {n:,} " not in message:
        return message
    read = [row if places is None else int(places[row]) for row in rows]
    found = line_numbers(path, read, **{name: value for name, value in reading.items() if name != "date_format"})
    lines = {row: found[place] for row, place in zip(rows, read) if place in found}
    return ROW.sub(lambda at: f"at line {lines[row]:,}" if (row := int(at[1].replace(",", ""))) in lines else at[0],
                   message)


def of_table(path: str | Path, table: pd.DataFrame, reading: Mapping[str, Any]) -> Callable[[str], str]:
    """What puts a message about rows of the table that was read of a file so into words: it names lines."""
    n, places = len(table), table.index.to_numpy()      # of which some lack where lines of bad dates are left out
    return lambda message: in_lines(message, path, n, reading, places)


def of_part(path: object, table: object, reading: Mapping[str, Any]) -> Callable[[str], str]:
    """What puts a message about the test ratings into words, where they are the table that was read of a file: it names
    the file and lines."""
    def words(message: str) -> str:
        if not (isinstance(path, str) and isinstance(table, pd.DataFrame) and message.startswith(TESTED)):
            return message
        return f"{path}: {of_table(path, table, reading)(message.removeprefix(TESTED))}"
    return words


def of_file(path: Path, reading: Mapping[str, Any]) -> Callable[[str], str]:
    """What puts a message about rows of a file into words: it names the file and the line."""
    def words(message: str) -> str:
        if not ROW.search(message):
            return message
        try:
            n = len(read_table(path, **reading))
        except DataError:
            return message
        said = in_lines(message, path, n, reading)
        return said if str(path) in said else f"{path}: {said}"
    return words


def possible(message: str, options: Mapping[str, object]) -> str:
    """A message in words of the command line without remedies by options that are not among those of the command (name
    -> value), and without those that were given with the very value that is advised. What is wrong, before the first
    semicolon, stays."""
    wrong, *remedies = message.split("; ")
    kept = []
    for remedy in remedies:
        ways = re.split(r"(, (?:or|and) )", remedy)
        left = [(before, way) for before, way in zip(["", *ways[1::2]], ways[::2]) if not _idle(way, options)]
        if left:
            kept.append(left[0][1] + "".join(before + way for before, way in left[1:]))
    return "; ".join([wrong, *kept])


def _idle(way: str, options: Mapping[str, object]) -> bool:
    """Whether a way out is by an option of tables that is not there, or has this value."""
    if re.search(r"\b(collab|train|evaluate)\b", way):
        return False                # with another command
    return any(name in OF_TABLES and (name not in options or (bool(value) and str(options[name]) == value))
               for name, value in ASKED.findall(way))


def fitting(options: Mapping[str, object]) -> Callable[[str], str]:
    """What puts the messages of a command with these options into words that fit it."""
    return lambda message: possible(as_options(message), options)
