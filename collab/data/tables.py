"""Tables from files: CSV and its relatives, Parquet, and RecBole's atomic files."""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import io
import lzma
import os
import re
import warnings
import zlib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import IO, Any

import pandas as pd

from ..errors import DataError, counted, quoted, they, warn
from ..files import READERS, kind_of
from .encodings import COMPRESSED, as_lines, by_mark, check_encoding, garbled, is_utf8, likely
from .implicit import DECIMAL
from .problems import Unreadable
from .schema import NAMES, TIME_NAMES
from .spelling import is_unusual, unusual_columns
from .times import UnreadDates, with_dates_of

ENDINGS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".data": "tsv", ".dat": "::", ".parquet": "parquet",
           ".pq": "parquet", ".inter": "recbole", ".user": "recbole", ".item": "recbole"}
SEPARATORS = {"csv": ",", "tsv": "\t", "::": "::", "recbole": "\t"}
FORMATS = (*SEPARATORS, "parquet")
COLUMNS = ("user", "item", "rating", "time")  # the names for a file without a header
ID_NAMES = {name for side in ("user", "item") for name in NAMES[side]} | {"isbn", "asin", "sku", "ean", "code", "key"}
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
INTEGER = r"0|-?[1-9]\d{0,17}"  # as int64 prints it: converting loses nothing, such as a leading zero

SPACE = " \t"           # around a number it is layout, as in "1, 2", and not part of it
HEAD = 1000             # values that tell text from numbers written as text, mostly
COMMA = r"-?(?:\d+|[1-9]\d{0,2}(?:\.\d{3})+)(?:,\d+)?"       # 4,5 and 1.234,5
MISSING = ("NaN", "nan", "NA", "N/A", "null", "NULL", "None")
WORDS = (*MISSING, "inf", "-inf", "Inf", "-Inf")
# First bytes of files that are not text, so that an error can name the remedy.
MAGIC = {b"PK\x03\x04": "a zip archive, as Excel's .xlsx is: save the sheet as CSV, or unpack the archive",
         b"\xd0\xcf\x11\xe0": "a sheet of an old Excel: save it as CSV", b"\x1f\x8b": "compressed: name it .gz",
         b"\xfd7zXZ": "compressed: name it .xz", b"PAR1\x15": "Parquet: name it .parquet",
         b"ARROW1\0": "an Arrow file: save it as Parquet", b"\x89HDF": "HDF5: save the table as Parquet or CSV",
         b"SQLite format 3\0": "a database: save the table as CSV", b"%PDF-": "a PDF: find the table it was made of"}
WEB_PAGE = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)


def read_table(path: str | os.PathLike, format: str | None = None, *, sep: str | None = None,
               header: bool | None = None, encoding: str = "utf-8-sig", decimal: str = ".",
               date_format: str | None = None, bad_lines: str = "error",
               ids: Sequence[Hashable] = ()) -> pd.DataFrame:
    """Read the table in the file at `path`.

    The format follows from the ending (also before .gz, .bz2 or .xz), or is given as `format`: "csv", "tsv", "::",
    "parquet" or "recbole"; `sep` is any other separator. Without `header`, a first line in which any field is a number
    is data, and the columns are called user, item, rating, time, column_4 and so on. In RecBole's files the type after
    the colon gives the dtype: token (integers if all are, else text) or float; another `sep`, or header=False, makes
    such a file plain text.

    Numbers become numbers, but ids stay as written: 1.10 is not 1.1, nor -0 the number 0. Only spaces and tabs around a
    number are not part of it, as in pandas: " 4" is 4. The first column, those with the name of an id
    (user, item, "..._id") and those in `ids` are text unless all values are integers as they print; in the second
    column, no two different texts become one number.

    With `decimal` "," numbers of text files are written as 4,5 or 1.234,5. With a `date_format`, such as "%d.%m.%Y",
    columns of text in which every value is written so are times. With `bad_lines` "drop", lines with more fields than
    the first are left out, and so are those of dates that cannot be read, with a warning that counts them.

    Raises DataError for a file that is missing, empty, of an unknown kind, or not what its format says; `Unreadable`,
    one of these, where other options would read it; and where no column is written in the `date_format`
    (`UnreadDates` for one that is, but for a few values)."""
    if decimal not in (".", ","):
        raise DataError(f"decimal={decimal!r} is neither a point nor a comma")
    if bad_lines not in ("error", "drop"):
        raise DataError(f"bad_lines={bad_lines!r} is neither 'error' nor 'drop'")
    table = _read(path, format, sep, header, encoding, decimal, ids, bad_lines == "drop")
    if date_format is None:
        return table
    try:
        return with_dates_of(table, date_format, path)
    except UnreadDates as error:
        from .lines import line_numbers  # which reads as this module does
        lines = line_numbers(Path(path), error.rows[:1].tolist(), format=format, sep=sep, header=header,
                             encoding=encoding, decimal=decimal, bad_lines=bad_lines)
        if bad_lines != "drop":
            raise error.in_lines(lines) from None
        warn(f"{error.in_lines(lines).found}; these lines are left out")
        return error.table


def _read(path: str | os.PathLike, format: str | None, sep: str | None, header: bool | None, encoding: str,
          decimal: str, ids: Sequence[Hashable], drop: bool) -> pd.DataFrame:
    path = Path(path).expanduser().absolute()
    _check_exists(path)
    check_no_model(path)
    kind = format_of(path, format, sep, header)
    if kind == "parquet":
        return _read_parquet(path)
    check_encoding(encoding)
    try:
        with COMPRESSED.get(path.suffix.lower(), open)(path, "rb") as f:
            _check_no_other(f, path)
            own = by_mark(f, encoding)
            if own != encoding and codecs.lookup(encoding).name != "utf-8":
                if not is_utf8(path):
                    raise DataError(f"{path} begins with the mark of UTF-8, and holds bytes that are not UTF-8: it was "
                                    "put together of files in two encodings; save it in one")
                warn(f"{path} begins with the mark of UTF-8 and is read so, and not as encoding={encoding!r}; leave "
                     "encoding= out")
            f, read_as = as_lines(f, own)
            return _read_text(f, path, kind, sep or SEPARATORS[kind], header, read_as, ids, decimal, drop)
    except UnicodeDecodeError as error:
        other = likely(path, error.object[:2])
        said = "UTF-8" if codecs.lookup(encoding).name == "utf-8-sig" else encoding
        raise Unreadable(f"{path} is not written in {said} ({error.reason}, byte {error.object[error.start]:#04x}); "
                         f"say what it is written in, for example encoding={other!r}", encoding=other) from error
    except csv.Error as error:
        raise DataError(f"{path} cannot be parsed: {error}") from error
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be decompressed: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _check_exists(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the file in it that holds the table")
    if not path.exists():
        if not path.parent.is_dir():
            raise DataError(f"there is no file {path}: not even the folder {path.parent} is there")
        raise DataError(f"there is no file {path}{near(path)}")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file, and a table is read more than once; write it to a file first")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")


def near(path: Path) -> str:
    """The name in the folder of a path that is not there which is most like it, for the end of a message."""
    found = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"; did you mean {quoted(found[0])}?" if found else ""


def check_no_model(path: str | os.PathLike) -> None:
    """Raise DataError for a file that collab wrote, such as a model, in the place of a table."""
    if (kind := kind_of(Path(path))) is not None and kind in READERS:
        raise DataError(f"{path} is not a table but {READERS[kind]}")


def _check_no_other(f: IO[bytes], path: Path) -> None:
    """Raises DataError for a file that is not text."""
    begin = f.read(64)
    f.seek(0)
    what = next((what for magic, what in MAGIC.items() if begin.startswith(magic)), "")
    if WEB_PAGE.match(begin.removeprefix(b"\xef\xbb\xbf")):
        what = "a web page: download the file that it leads to"
    if what:
        raise DataError(f"{path} is not the text that its name says, but {what}")


def format_of(path: Path, format: str | None, sep: str | None, header: bool | None) -> str:
    """The kind of a file, one of FORMATS, by its ending, or as it is given."""
    if format is not None:
        if format not in FORMATS:
            raise DataError(f"format={format!r} is not one of {', '.join(map(repr, FORMATS))}")
        return format
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    kind = ENDINGS.get(name.suffix.lower())
    if kind is None and sep is not None:
        return "csv"
    if kind is None:
        raise DataError(f"{path}: the ending {name.suffix!r} is not known; known are {', '.join(ENDINGS)} (text "
                        f"also with {', '.join(COMPRESSED)} after it). Say what it is with format=, one of "
                        f"{', '.join(map(repr, FORMATS))}, or with sep=")
    own = sep in (None, SEPARATORS["recbole"]) and header is not False      # an explicit choice wins
    return "tsv" if kind == "recbole" and not own else kind


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from error
    except (ValueError, OSError) as error:  # pyarrow's own errors are of these two kinds
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _read_text(f: IO[bytes], path: Path, kind: str, sep: str, header: bool | None, encoding: str,
               ids: Sequence[Hashable], decimal: str, drop: bool) -> pd.DataFrame:
    first = b""
    while not first.strip():
        if not (first := f.readline()):
            raise DataError(f"{path} is empty: there is nothing in it but blank lines")
    f.seek(0)
    line = first.decode(encoding).rstrip("\r\n")
    options: dict[str, Any] = {}
    if len(sep) > 1 and sep != r"\s+":
        # pandas takes a separator of several characters for a pattern and reads ten times as slowly: replace it by a
        # control character that no text has.
        f = io.BytesIO(f.read().replace(sep.encode(), b"\x1f"))
        line, sep = line.replace(sep, "\x1f"), "\x1f"
    if sep == "\x1f" or kind == "recbole":
        options["quoting"] = csv.QUOTE_NONE  # there, a quotation mark is part of a title
    try:
        fields = line.split() if sep == r"\s+" else next(csv.reader([line], delimiter=sep, **options))
    except csv.Error:
        fields = line.split(sep)        # one is too long for the parser; `garbled` says it
    if kind == "recbole":
        return _read_recbole(f, path, sep, fields, encoding, options)
    if header is None:
        header = has_header(fields, decimal)
    if header and (odd := garbled(fields)):
        own = likely(path, first)
        raise Unreadable(f"{path} is not written in this encoding: its first line has {odd}; say what it is written "
                         f"in, for example encoding={own!r}", encoding=own)
    if len(fields) == 1 and (other := next((s for s in (",", ";", "\t", "::", "|") if s in line), None)):
        raise Unreadable(f"{path} has a single column {quoted(fields[0])} when split at {sep!r}; say sep={other!r}",
                         sep=other)
    if not header:
        options["names"] = [COLUMNS[i] if i < len(COLUMNS) else f"column_{i}" for i in range(len(fields))]
    options |= {"sep": sep, "header": 0 if header else None, "encoding": encoding, "keep_default_na": False,
                "na_values": [""], "decimal": decimal}
    try:
        unusual = is_unusual(f)
    except ValueError:
        raise Unreadable(f"{path} holds bytes of 0, as text does not: it is another kind of file, or written in "
                         "UTF-16, which encoding='utf-16' (or 'utf-16-le') reads", encoding="utf-16-le") from None
    f.seek(0)
    if drop and (lines := _bad_lines(f, **options)):
        warn(f"{path}: {counted(n := len(lines), 'line')} {they(n, 'has', 'have')} more fields than the first, and "
             f"{they(n)} left out (first: line {lines[0]}); put fields that hold the separator in quotation marks")
        options["skiprows"] = [line - 1 for line in lines]
    f.seek(0)
    table = _parse(f, path, **options)
    holds_ids = [_is_id(table, place, ids) for place in range(len(table.columns))]
    columns = [column for _, column in table.items()]
    again = {place for place, column in enumerate(columns) if _lossy(column, holds_ids[place])}
    numbers = {place for place, column in enumerate(columns) if not _is_text(column)}
    if unusual and not numbers <= again:
        f.seek(0)
        again |= numbers & unusual_columns(f, sep, len(columns), header=header, quotes="quoting" not in options)
    if unusual or again:
        again |= {place for place in numbers if _prints_otherwise(columns[place])}
    # Beside integers of 64 bits without a sign, pandas takes gaps for text.
    again |= {place for place, column in enumerate(columns) if place not in numbers and (column == "").any()}
    if again:           # these may differ from what was written: read text, which is slower, and check each value
        f.seek(0)
        text = _parse(f, path, **options, dtype="str", usecols=sorted(again))
        for place, (_, column) in zip(sorted(again), text.items(), strict=True):
            columns[place] = column
    if decimal == ",":
        columns = [column if is_id else _with_points(column) for column, is_id in zip(columns, holds_ids)]
    made = {place: converted(column, is_id) for place, (column, is_id) in enumerate(zip(columns, holds_ids))}
    return pd.DataFrame(made, index=table.index, copy=False).set_axis(table.columns, axis=1)


def has_header(fields: Sequence[str], decimal: str = ".") -> bool:
    """Whether the first line of a text file has column names: none of its fields is a number."""
    return not any(NUMBER.fullmatch(field.replace(",", ".") if decimal == "," else field) for field in fields)


def _with_points(column: pd.Series) -> pd.Series:
    """Numbers such as 4,5 and 1.234,5 with a decimal point, as they are written elsewhere; other text stays, and so do
    all where some are written with a decimal point already."""
    if not _is_text(column):
        return column
    bare = column.str.strip(SPACE)
    if (bare.str.fullmatch(DECIMAL) & ~bare.str.fullmatch(COMMA).fillna(False)).any():
        return column
    commas = bare.str.fullmatch(COMMA).fillna(False).astype(bool)
    return column.where(~commas, bare.str.replace(".", "", regex=False).str.replace(",", ".", regex=False))


def _is_id(table: pd.DataFrame, place: int, ids: Sequence[Hashable]) -> bool | None:
    """Whether a column holds ids, by its name or as the first one; None for the second, which may."""
    name = table.columns[place]
    plain = re.sub(r"[\W_]", "", str(name).lower())
    if name in ids or plain in ID_NAMES or re.search(r"(?:[\W_]id|[a-z]ID|Id)$", str(name)):
        return True
    if plain in (*NAMES["rating"], *TIME_NAMES) or place > 1:
        return False
    return True if place == 0 else None


def _is_text(column: pd.Series) -> bool:
    return bool(len(column)) and pd.api.types.is_string_dtype(column)


def _lossy(column: pd.Series, is_id: bool | None) -> bool:
    """Whether reading booleans or floats may have lost how they were written."""
    if column.dtype.kind == "f":
        return bool(column.notna().any()) and (is_id is not False or bool(column.abs().max() > 2**53))
    return pd.api.types.is_bool_dtype(column)


def _prints_otherwise(column: pd.Series) -> bool:
    """Whether it would have another type as text: integers with gaps, of 19 digits or more, and what is not there."""
    if column.dtype.kind == "f":
        return column.hasnans and bool((column.dropna() % 1 == 0).all())
    return column.dtype == object or bool(column.max() >= 10**18 or column.min() <= -10**18)


def converted(column: pd.Series, is_id: bool | None = False) -> pd.Series:
    """Convert text to integers or floats where every value is written as a number prints; 007 is not 7, and 12e5 may be
    an id. Among numbers, the usual words for a missing one are missing values. Ids never become floats, and where
    values may be ids (None), different texts never become one number."""
    known = column.dropna()
    if not pd.api.types.is_string_dtype(known):
        return column
    begin = known.iloc[:HEAD].str.strip(SPACE)
    if not (begin.str.fullmatch(DECIMAL) | begin.isin(WORDS)).all():
        return column               # it stays text whatever the others are
    bare, known = column.str.strip(SPACE), known.str.strip(SPACE)
    if len(known) and known.str.fullmatch(INTEGER).all():
        return bare.astype("Int64" if column.hasnans else "int64")
    if is_id:
        return column
    numbers = known.str.fullmatch(DECIMAL) & (known.str.len() < 19)
    different = known[numbers].drop_duplicates()
    if is_id is None and (different.astype("float64").duplicated().any() or (different == "-0").any()):
        return column
    if numbers.any() and known[~numbers].isin(WORDS).all():
        return pd.to_numeric(bare.where(~bare.isin(MISSING)), errors="coerce").astype("float64")
    return column


def _read_recbole(f: IO[bytes], path: Path, sep: str, fields: list[str], encoding: str,
                  options: dict[str, Any]) -> pd.DataFrame:
    names, _, kinds = zip(*(field.strip().rpartition(":") for field in fields), strict=True)
    known = ("token", "token_seq", "float", "float_seq")
    if not all(names) or not set(kinds) <= set(known):
        raise DataError(f"{path}, line 1: expected RecBole's typed headers such as 'user_id:token' (types: "
                        f"{', '.join(known)}), found {', '.join(map(repr, fields))}; for another table say format=")
    table = _parse(f, path, sep=sep, header=0, names=list(names), encoding=encoding, keep_default_na=False,
                   na_values=[""], dtype={n: "float64" if k == "float" else "str"
                                          for n, k in zip(names, kinds, strict=True)}, **options)
    for name, kind in zip(names, kinds, strict=True):
        known_ones = table[name].dropna()
        if kind == "token" and len(known_ones) and known_ones.str.fullmatch(INTEGER).all():
            table[name] = converted(table[name])
    return table


def _bad_lines(f: IO[bytes], **options: Any) -> list[int]:
    """The lines, from 1, of a text file that have more fields than the first."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", pd.errors.ParserWarning)
        pd.read_csv(f, index_col=False, low_memory=False, on_bad_lines="warn", **options)
    return [int(line) for one in said for line in re.findall(r"Skipping line (\d+)", str(one.message))]


def _parse(f: IO[bytes], path: Path, **options: Any) -> pd.DataFrame:
    if options["sep"] == r"\s+":
        options["skipinitialspace"] = True
    try:
        with warnings.catch_warnings():
            # Without index_col=False, pandas takes surplus fields for an index; with it, it warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(f, index_col=False, low_memory=False, **options)
    except pd.errors.ParserWarning as error:
        raise DataError(f"{path}: the rows have more fields than the first line has columns; if that line is data, "
                        "say header=False; if the separator is another, say sep=") from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty") from error
    except pd.errors.ParserError as error:
        told = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if told:
            raise Unreadable(f"{path}, line {told[2]}: {told[3]} fields, where the lines before have {told[1]}; "
                             "correct that line, or put fields that hold the separator in quotation marks, or leave "
                             "such lines out with bad_lines='drop'", bad_lines="drop") from error
        raise DataError(f"{path} cannot be parsed: {error}") from error
    except UnicodeDecodeError:
        raise  # `read_table` explains it
    except ValueError as error:
        raise DataError(f"{path} cannot be parsed: {error}") from error
