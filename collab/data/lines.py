"""The lines of a text file in which rows of its table begin."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DataError
from .encodings import COMPRESSED, as_lines, by_mark
from .tables import SEPARATORS, format_of, has_header


def line_numbers(path: str | Path, rows: Sequence[int], *, format: str | None = None, sep: str | None = None,
                 header: bool | None = None, encoding: str = "utf-8-sig", decimal: str = ".",
                 bad_lines: str = "error") -> dict[int, int]:
    """Row -> its line, from 1, of those `rows` (ascending) of the table that `read_table` makes of the file with these
    options. Blank lines, the line of column names and lines within quotation marks are counted as lines, not as rows.
    Empty for a file that is not text. The file is read up to the last of these rows."""
    path = Path(path).expanduser().absolute()
    wanted, found, n_fields = set(rows), dict[int, int](), 0
    try:
        kind = format_of(path, format, sep, header)
        if kind == "parquet" or not len(rows):
            return {}
        with COMPRESSED.get(path.suffix.lower(), open)(path, "rb") as raw:
            f, read_as = as_lines(raw, by_mark(raw, encoding))
            text = io.TextIOWrapper(f, read_as, newline="")
            row = -1
            for line, fields in _records(text, sep or SEPARATORS[kind], plain=kind == "recbole"):
                n_fields = n_fields or len(fields)
                if bad_lines == "drop" and len(fields) > n_fields:
                    continue
                if row < 0 and kind != "recbole" and header is None:
                    header = has_header(fields, decimal)
                if row < 0 and (header or kind == "recbole"):
                    header, kind = False, "read"
                    continue
                row += 1
                if row in wanted:
                    found[row] = line
                if row >= rows[-1]:
                    break
            text.detach()
    except (OSError, UnicodeError, csv.Error, DataError):
        return {}
    return found


def _records(text: io.TextIOWrapper, sep: str, *, plain: bool) -> Iterator[tuple[int, list[str]]]:
    """(the line in which it begins, its fields) of each record that is not blank."""
    if plain or len(sep) > 1:
        for line, content in enumerate(text, 1):
            if content.strip():
                yield line, content.split() if sep == r"\s+" else content.rstrip("\r\n").split(sep)
        return
    reader, before = csv.reader(text, delimiter=sep), 0
    for fields in reader:
        if len(fields) > 1 or any(field.strip() for field in fields):
            yield before + 1, fields
        before = reader.line_num
