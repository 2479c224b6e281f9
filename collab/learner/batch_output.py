"""Recommendations for many users: an iterator over tables, or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.allowed import Chosen
from ..data.frame_kinds import check_kind, framed
from ..data.vocab import Ids
from ..data.where import Where
from ..environment import bars_wanted, in_notebook
from ..errors import DataError, counted, warn
from ..files import whole_file
from ..processes import by_turns, is_main
from ..retrieval.diverse import check_diversity, n_candidates
from ..retrieval.topk import check_exclude, check_k
from .csv_style import Style
from .recommendations import pool_of, ranked_rows, rows_of
from .risk import Risk

if TYPE_CHECKING:
    from .collab_learner import CollabLearner

MAX_ROWS = 1 << 16      # recommendations made at a time
NONE_LEFT = "all that may be recommended has been rated; exclude=None recommends that too"


def recommend_all(self: CollabLearner, n: int = 10, users: Ids | None = None, *, exclude: str | None = "known",
                  among: Chosen | None = None, path: str | Path | None = None, without: Chosen | None = None,
                  unknown: str = "average", where: Where | None = None, diversity: float = 0.0, why: bool = False,
                  risk: float | str | None = None, interval: float | None = None, seed: int | None = None,
                  as_frame: str = "pandas", sep: str = ",", decimal: str = ".",
                  encoding: str = "utf-8") -> Iterator[Any] | Path:
    """`recommend` for many `users` (one id or several; by default all trained ones): an iterator over tables of some
    65,000 rows (user, rank, item, title, score), in the order of the users. `exclude`, `among`, `without`, `unknown`,
    `where`, `diversity`, `why`, `risk`, `interval`, `seed` and `as_frame` are those of `recommend`; files are written
    as they are, with `why` as text.

    With `path` the rows are written to that .csv or .parquet file (which needs pyarrow) as they come, with a bar in a
    notebook or terminal, and the path is returned. The file takes its name once it is whole: Ctrl-C leaves the old one.
    A warning counts users whom the file lacks, since no item is left for them. `sep`, `decimal` and `encoding` are
    those of a .csv: ";", "," and "utf-8-sig" for a spreadsheet that is set to German. Inside `with
    learn.distributed()`, processes share the work, and the first one writes.

    Raises DataError for another ending, ids that the file cannot hold, without pyarrow, and for a `sep`, `decimal` or
    `encoding` that a .csv cannot have, or that is given without a .csv to write."""
    style = Style(sep, decimal, encoding)
    style.check(path)
    check_k(n)
    check_exclude(exclude)
    check_kind(as_frame)
    check_diversity(diversity)
    by = Risk.of(risk, interval, seed)
    by.check(self)
    pool = pool_of(self, among, without, unknown, where)
    vocab = self.data.users
    asked = (vocab.decode(np.arange(1, len(vocab))) if users is None else
             pd.Index(vocab.listed(users), tupleize_cols=False))
    rows = rows_of(self, vocab, asked, unknown)
    size = max(1, MAX_ROWS // min(n_candidates(n, diversity), max(1, len(pool))))

    def table(begin: int, end: int) -> pd.DataFrame:
        made: pd.DataFrame = ranked_rows(self, rows[begin:end], pool, n=n, exclude=exclude, ids=asked[begin:end],
                                         why=why, diversity=diversity, risk=by, first=begin)
        return made.assign(why=made["why"].astype("string")) if why and path is not None else made

    def made() -> Iterator[pd.DataFrame]:
        n_lists = 0
        for one in by_turns([partial(table, begin, begin + size) for begin in range(0, len(rows), size)]):
            n_lists += int((one["rank"] == 1).sum())
            yield one
        if path is not None and (lacking := len(rows) - n_lists):
            warn(f"{lacking:,} of {counted(len(rows), 'user')} {'has' if lacking == 1 else 'have'} no list: "
                 f"{'no item is left to recommend' if exclude is None else NONE_LEFT}")
    tables = made()
    if path is None:
        return (framed(one, as_frame) for one in tables)
    path, total = Path(path), -(-len(rows) // size)
    write: Callable[[Path, pd.DataFrame, Iterator[pd.DataFrame]], None] = {
        ".parquet": _write_parquet, ".pq": _write_parquet, ".csv": style.write}.get(path.suffix.lower(), _no_ending)
    if is_main():
        write(path, table(0, 0), _with_bar(tables, total))      # the first has the columns and their types
    else:
        for _ in tables:
            pass        # this process has made its share of them
    return path


def _with_bar(tables: Iterator[pd.DataFrame], total: int) -> Iterator[pd.DataFrame]:
    if not bars_wanted() or not total:
        return tables
    return _under_bar(tables, total)


def _under_bar(tables: Iterator[pd.DataFrame], total: int) -> Iterator[pd.DataFrame]:
    from fastprogress import progress_bar
    yield from progress_bar(tables, total=total)
    if not in_notebook():
        print()     # in a terminal, fastprogress leaves the cursor behind the bar


def _no_ending(path: Path, *_: object) -> None:
    raise DataError(f"recommendations are written as .parquet or .csv, but the ending of {path} is {path.suffix!r}")


def _write_parquet(path: Path, first: pd.DataFrame, tables: Iterator[pd.DataFrame]) -> None:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise DataError(f"{path}: writing Parquet needs pyarrow: pip install pyarrow") from None
    with whole_file(path) as file:
        writer: Any = None
        try:
            for table in (table for table in tables if len(table)):     # the first rows decide the types
                columns = pa.Table.from_pandas(table, writer and writer.schema, preserve_index=False)
                if any(pa.types.is_nested(kind) for kind in columns.schema.types):
                    raise pa.ArrowTypeError("tuples would be read back as arrays")
                writer = writer or ParquetWriter(file, columns.schema, compression="zstd")
                writer.write_table(columns)
            writer = writer or ParquetWriter(file, pa.Schema.from_pandas(first, preserve_index=False))
        except (pa.ArrowException, OverflowError) as error:
            raise DataError(f"{path}: these ids cannot be written as Parquet ({error}); write a .csv") from None
        finally:
            if writer is not None:
                writer.close()
