"""Files of items and users beside a file of ratings: how they are read, and what of the options is theirs."""

from __future__ import annotations

import codecs
import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Unpack

import pandas as pd

from ..data.encodings import is_utf8
from ..data.tables import read_table
from ..errors import DataError, warn
from .command import as_options
from .inputs import Reading, Tables, only, read, takes


def read_all(source: str, items: Path | None = None, *, users: Path | None = None, table_sep: str | None = None,
             table_encoding: str | None = None, ids: Iterable[Hashable | None] = (),
             **reading: Unpack[Reading]) -> Tables:
    """As `read`, with files of items and of users: --decimal applies to all of them, --sep without --table-sep, and
    --encoding without --table-encoding, but for those that are written in UTF-8, with a warning."""
    beside = check_beside(items, users, table_sep=table_sep, table_encoding=table_encoding)
    options = reading_beside(beside, reading, table_sep=table_sep, table_encoding=table_encoding)
    elsewhere = {name for by in options for name in options[by]} - {
        name for name, own in (("sep", table_sep), ("encoding", table_encoding)) if own}
    own = takes(source, reading.get("format"), reading.get("sep"))
    ratings, *known = read(source, ids, **only(reading, (name for name in reading
                                                          if name in own or name not in elsewhere)))
    tables = {by: read_beside(file, by, options[by], table_encoding or reading.get("encoding"))
              for by, file in beside.items()}
    of_items, of_users = (tables.get(by, before) for before, by in zip(known, ("item", "user")))
    return ratings, of_items, of_users


def check_beside(items: Path | None, users: Path | None, *, table_sep: str | None,
                 table_encoding: str | None) -> dict[str, Path]:
    """The files of items and users that were given, by "item" and "user". Raises DataError for options of theirs where
    there are none."""
    beside = {by: file for by, file in (("item", items), ("user", users)) if file is not None}
    if table_sep is not None and not beside:
        raise DataError("--table-sep is the separator of --items and --users; for the ratings say --sep")
    if table_encoding is not None and not beside:
        raise DataError("--table-encoding is the encoding of --items and --users; for the ratings say --encoding")
    return beside


def read_beside(file: Path, by: str, options: Reading, said: str | None) -> pd.DataFrame:
    """The file of items or users (`by` "item" or "user"), read with its own of `reading_beside`, with a warning where
    these have another encoding than `said`."""
    if options.get("encoding", said) != said:
        warn(f"{file} is read as UTF-8, as it is written, and not as --encoding {said}; --table-encoding utf-8 says so")
    return _known(file, by, **options)


def reading_beside(beside: Mapping[str, Path], reading: Reading, *, table_sep: str | None = None,
                   table_encoding: str | None = None) -> dict[str, Reading]:
    """How the files of items and users, by "item" and "user", are read beside ratings that are read so."""
    shared = only({**reading, "sep": table_sep or reading.get("sep"),
                    "encoding": table_encoding or reading.get("encoding")}, ("sep", "encoding", "decimal"))
    options = {by: only(shared, takes(file, sep=shared.get("sep"))) for by, file in beside.items()}
    for by, file in beside.items():
        if table_encoding is None and in_utf8(file, options[by]):
            options[by] = {**options[by], "encoding": "utf-8-sig"}
    return options


def in_utf8(file: Path, reading: Reading) -> bool:
    """Whether a file that is to be read in another encoding is written in UTF-8."""
    encoding = reading.get("encoding")
    try:
        return encoding is not None and not codecs.lookup(encoding).name.startswith("utf") and is_utf8(file)
    except LookupError:
        return False                # which reading says


def _known(file: Path, by: str, **reading: Unpack[Reading]) -> pd.DataFrame:
    """The metadata of items (or users). The first column of a file without column names has the ids."""
    try:
        table = read_table(file, **reading)
        unnamed = [*table.columns[:2]] == ["user", "item"] and len(table) == len(
            read_table(file, **(reading | {"header": False})))
    except DataError as error:
        said = re.sub(r"with format=.* or with sep=", "with --table-sep", str(error))
        said = said.replace("if that line is data, say header=False; ", "")
        raise DataError(as_options(said, {"sep=": "--table-sep ", "encoding=": "--table-encoding "})) from error
    if not unnamed:
        return table
    names = [by, *(["title"] if by == "item" else []), *(f"column_{k}" for k in range(1, len(table.columns)))]
    if by == "item":
        names = [*names[:2], *names[3:]]
        warn(f"{file} has no column names: the first column is taken for the ids, the second for the titles")
    return table.set_axis(names[:len(table.columns)], axis=1)
