"""Style: how a CSV of recommendations is written, for the spreadsheet that is to read it."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..data.encodings import check_encoding
from ..errors import DataError
from ..files import whole_file


class Style(NamedTuple):
    """How a CSV is written: the separator of columns, the decimal mark of numbers, the encoding."""

    sep: str = ","
    decimal: str = "."
    encoding: str = "utf-8"

    def check(self, path: str | Path | None) -> None:
        """Raise DataError for what a .csv cannot have, and for anything but the defaults where `path`, that of the
        file to write, is not of one."""
        others = [f"{name}={value!r}" for name, value in self._asdict().items() if value != getattr(Style(), name)]
        if others and (path is None or Path(path).suffix.lower() != ".csv"):
            raise DataError(f"{others[0]} says how a .csv is written, " + (
                "which only path= writes" if path is None else f"and {path} is not one"))
        if len(self.sep) != 1 or self.sep in "\r\n\"":
            raise DataError(f"sep={self.sep!r} is not one character that can stand between the columns of a .csv")
        if self.decimal not in (".", ","):
            raise DataError(f"decimal={self.decimal!r} is neither '.' nor ','")
        if self.sep == self.decimal:
            raise DataError(f"decimal={self.decimal!r} stands between the columns too; give another separator, such as "
                            "sep=';'")
        check_encoding(self.encoding)

    def write(self, path: Path, first: pd.DataFrame, tables: Iterator[pd.DataFrame]) -> None:
        """Write the tables, which have the columns of the first, below each other."""
        encode = codecs.getincrementalencoder(self.encoding)().encode       # which writes a mark of byte order once
        with whole_file(path) as file:
            for k, table in enumerate(chain([first], tables)):
                text = table.to_csv(index=False, header=not k, sep=self.sep, decimal=self.decimal, lineterminator="\n")
                try:
                    file.write(encode(text))
                except UnicodeEncodeError as error:
                    raise DataError(f"{path}: {error.object[error.start]!r} cannot be written in {self.encoding}; take "
                                    "encoding='utf-8-sig', which a spreadsheet knows") from None
