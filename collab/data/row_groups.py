"""Ratings in Parquet files, a few rows at a time: which files, what their footers say, and checked tables."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import DataError, counted, listed, quoted, they
from .frames import as_frame, is_table
from .problems import Problem
from .schema import DATETIMES, LEAVE_OUT, Schema, rating_table

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".parquet", ".pq")
BUFFER = 1 << 20            # bytes of a column chunk that are read at a time
CORRECT = LEAVE_OUT.partition(", or leave")[0]
Paths = str | Path | Sequence[str | Path]


class Sources:
    """The Parquet files of ratings: one, all of a folder and of its folders in the order of their names, or several of
    either. `n` is the number of their rows, which the footers say.

    Raises FileNotFoundError for a path that is not there, DataError for a table in place of paths, for a folder without
    such files, for a file that cannot be read, and where pyarrow is missing."""

    def __init__(self, paths: Paths):
        several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        if is_table(several) or not isinstance(several, Iterable):
            raise DataError(f"from_parquet takes paths of Parquet files, got {type(paths).__name__}; a table is taken "
                            "by from_df")
        self.files = [file for path in several for file in _files(Path(path))]
        if not self.files:
            raise DataError("no files to read ratings from: the list of paths is empty")
        self.footers = [self._footer(file) for file in self.files]
        self.n = sum(footer.num_rows for footer in self.footers)

    def signature(self) -> list[list[object]]:
        """What tells these files from others and from what they were: of each the path, bytes, time of change and a
        hash of its footer."""
        found: list[list[object]] = []
        for file in self.files:
            stat = file.stat()
            found.append([str(file.resolve()), stat.st_size, stat.st_mtime_ns, _footer_hash(file, stat.st_size)])
        return found

    def schema(self, *names: Hashable | None, timed: bool = False) -> Schema:
        """The columns by these names of user, item, rating and time, as `Schema.of` finds them; the time only if it is
        needed (`timed`). Raises DataError for what the footers tell: no rows, missing columns, and columns of several
        kinds, or with gaps."""
        first = self.footers[0].schema.to_arrow_schema()
        found = Schema.of(first.empty_table().to_pandas(ignore_metadata=True), *names)
        if timed and found.time is None:
            raise DataError("this split needs the time of each rating; name its column with time_name=...")
        found = found if timed else Schema(found.user, found.item, found.rating)
        if not self.n:
            raise DataError(f"{self._all()}: there is no row; the columns are {listed(first.names)}")
        for role, name in found.roles().items():
            self._check(role, str(name))
        return found

    def tables(self, schema: Schema, rows: int) -> Iterator[pd.DataFrame]:
        """All ratings, in order, as tables of at most `rows` rows with the columns user, item, rating (float64) and
        perhaps time. Raises DataError for what `rating_table` refuses, with the file and the rows."""
        for file, first, table in self._read(list(schema.roles().values()), rows):
            def found(problem: Problem, file: Path = file, first: int = first, n: int = len(table)) -> None:
                remedy = CORRECT if problem.remedy == LEAVE_OUT else problem.remedy
                raise DataError(f"{file}, rows {first:,} to {first + n - 1:,}: {problem.where}: "
                                f"{problem.found(lambda row: f'row {first + row:,}')}; {remedy}")
            yield rating_table(table, schema, found)

    def column(self, name: Hashable, rows: int) -> Iterator[tuple[Path, int, pd.Series]]:
        """(file, first row in it, values) of one column, at most `rows` at a time."""
        for file, first, table in self._read([name], rows):
            yield file, first, table[name]

    def _read(self, names: list[Hashable], rows: int) -> Iterator[tuple[Path, int, pd.DataFrame]]:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
        for file in self.files:
            first = 0
            # pre_buffer would read whole row groups ahead
            with ParquetFile(file, pre_buffer=False, buffer_size=BUFFER) as opened:
                for batch in opened.iter_batches(batch_size=rows, columns=[*map(str, names)], use_threads=False):
                    if len(batch):
                        frame = pa.Table.from_batches([batch]).to_pandas(ignore_metadata=True)
                        yield file, first, as_frame(frame)
                        first += len(batch)

    def _check(self, role: str, name: str) -> None:
        kinds: dict[str, tuple[Path, Any]] = {}
        missing, where = 0, self.files[0]
        for file, footer in zip(self.files, self.footers):
            columns = footer.schema.to_arrow_schema()
            if name not in columns.names:
                raise DataError(f"{file}: there is no column {quoted(name)}, which {self.files[0]} has; its columns "
                                f"are {listed(columns.names)}. Give all files the same columns, or leave this one out")
            kind = columns.field(name).type
            if footer.num_rows:
                kinds.setdefault(_kind(kind), (file, kind))
            if gaps := _gaps(footer, name):
                missing, where = missing + gaps, where if missing else file
        what = {"rating": "ratings", "time": "times"}.get(role, "ids")
        if len(kinds) > 1:
            (one, own), (other, others) = list(kinds.values())[:2]
            raise DataError(f"column {quoted(name)}: {what} of several kinds: {own} in {one}, {others} in {other}"
                            + ("; 5 and '5' are different ids: write all files with one type" if what == "ids" else
                               "; write all files with one type"))
        if missing:
            raise DataError(f"column {quoted(name)}: {missing:,} of {self.n:,} {what} {they(missing)} missing (the "
                            f"first in {where}); {CORRECT}")

    def _footer(self, file: Path) -> Any:
        try:
            import pyarrow as pa
            from pyarrow.parquet import read_metadata
        except ImportError as error:
            raise DataError(f"{file}: reading Parquet needs pyarrow: pip install pyarrow") from error
        try:
            return read_metadata(file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} cannot be read as Parquet: {error}" + (
                "" if file.suffix.lower() in ENDINGS else "; other files are read with from_csv")) from error

    def _all(self) -> str:
        return str(self.files[0]) if len(self.files) == 1 else counted(len(self.files), "file")

    def __repr__(self) -> str:
        return f"Sources({self._all()}, {self.n:,} rows)"


def _files(path: Path) -> list[Path]:
    """The file, or the files of a folder, in the order of their names, those with hidden names left out."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder" + (
            "; patterns are not expanded: pass the folder, or a list of files" if set(str(path)) & set("*?[") else ""))
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file() and not any(
        part.startswith((".", "_")) for part in file.relative_to(path).parts))
    if not found:
        raise DataError(f"{path}: the folder holds no Parquet file, with the ending {' or '.join(ENDINGS)}")
    return found


def _footer_hash(file: Path, size: int) -> str:
    with open(file, "rb") as opened:
        opened.seek(max(0, size - 8))
        length = int.from_bytes(opened.read(4), "little")
        opened.seek(max(0, size - 8 - length))
        return hashlib.blake2b(opened.read(), digest_size=16).hexdigest()


def _kind(kind: pa.DataType) -> str:
    """The kind of ids or ratings that a column of this type holds, as `schema.id_kind` tells it."""
    import pyarrow.types as types
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_timestamp(kind):
        return DATETIMES[kind.tz is not None]
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return "string" if text else str(kind)


def _gaps(footer: Any, name: str) -> int:
    """How many values of a column are null, as far as the footer says."""
    found = 0
    for k in range(footer.num_row_groups):
        group = footer.row_group(k)
        for j in range(group.num_columns):
            column = group.column(j)
            if column.path_in_schema == name and column.statistics is not None and column.statistics.has_null_count:
                found += column.statistics.null_count
    return found
