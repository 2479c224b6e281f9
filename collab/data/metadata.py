"""Metadata of users and items: tables joined to the ratings by id, and the column of titles."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd

from ..errors import DataError, counted, listed, quoted, they, warn
from .alike import bare, how_written
from .frames import TableLike, as_frame
from .schema import NAMES, Schema, check_column_names, check_text, show
from .vocab import UNKNOWN, Vocab, id_index

TITLES = ("title", "name", "titel", "titre", "titolo", "titulo", "título")  # in this order, in any case
NAMED = {*NAMES["item"], "song", "track", "album", "game", "show", "series", "anime", "recipe", "article", "course",
         "restaurant", "business", "place", "artist"}     # a "..._name" of one of these is a title


@contextmanager
def about(what: str) -> Iterator[None]:
    """Prefix the errors raised inside with the name of the table."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{what}: {error}") from None


def metadata(table: TableLike | None, id_name: Hashable, vocab: Vocab) -> pd.DataFrame | None:
    """The metadata indexed by raw id, one row per id. Raises DataError where they cannot be joined to the ratings."""
    if table is None:
        return None
    with about(f"the table of {vocab.name}s"):
        table = as_frame(table, f"{vocab.name}s")
        if not len(table.columns):
            raise DataError("expected a column of ids, and this table has no column")
        check_column_names(table)
        column = id_column(table, id_name, vocab)
        for name in table:
            if pd.api.types.is_string_dtype(table[name].dropna()):
                check_text(table[name].dropna(), f"column {quoted(name)}")
        with about(f"column {quoted(column)}"):
            ids = id_index(table[column])
            if len(again := ids[ids.duplicated() & ids.notna()]):
                raise DataError(f"{counted(n := again.nunique(), 'id')} {they(n)} repeated (such as "
                                f"{quoted(again[:1].tolist()[0])}); "
                                f"keep one row an id, with df.drop_duplicates({quoted(column)})")
            try:
                found = vocab.encode(ids) != UNKNOWN
            except DataError as error:          # of another kind
                raise DataError(f"{error}{_hint(ids, vocab)}") from None
            if not found.any():
                raise DataError(f"it holds none of the rated {vocab.name}s: ids there look like {ids[:1].tolist()}, "
                                f"in the ratings like {[*vocab][:1]}{_hint(ids, vocab)}")
    return table.drop(columns=column).set_axis(ids.rename(column), axis=0)


def id_column(table: pd.DataFrame, id_name: Hashable, vocab: Vocab) -> Hashable:
    """The column of ids in a table of metadata: that of the ratings' name, of the side's, or else the first."""
    return next(c for c in (id_name, vocab.name, table.columns[0]) if c in table)


def with_cold(vocab: Vocab, table: pd.DataFrame | None, features: Iterable[str] | str | None) -> Vocab:
    """The vocab, extended by every id of the table if `features` are wanted. Raises DataError if there is no table."""
    if features is None:
        return vocab
    if table is None:
        raise DataError(f"{vocab.name}_features need a table of {vocab.name}s: pass {vocab.name}s=...")
    return vocab.with_more(table.index)


def warn_of_lacking(table: pd.DataFrame | None, rated: Vocab, *, features: bool, titles: bool = False) -> None:
    """Warn of rated ids without metadata, where `features` or `titles` are taken from these."""
    lost = [what for what, used in (("title", titles), ("features", features)) if used]
    if table is None or not lost:
        return
    lacking = np.ones(len(rated), dtype=bool)
    lacking[[UNKNOWN, *rated.encode(table.index)]] = False
    if n := int(lacking.sum()):
        pairs = _alike(table.index, rated.ids[lacking])
        left = n - len(pairs)
        rows = "add a row for each" + (" of the others" if pairs else "") if left else ""
        warn(f"the table of {rated.name}s lacks {n:,} of the {len(rated) - 1:,} rated {rated.name}s (such as "
             f"{show(rated.ids[lacking][0])}): they have no {' and no '.join(lost)}"
             + "; ".join(["", *filter(None, [_written(pairs), rows])]))


def _hint(ids: pd.Index, vocab: Vocab) -> str:
    said = _written(_alike(ids, vocab.ids[1:]))
    return said and f"; {said}"


def _alike(ids: Iterable[Hashable], rated: Iterable[Hashable]) -> list[tuple[Hashable, Hashable]]:
    """The `rated` ids that are those of a table but for how they are written: pairs of the table's id and theirs."""
    known = {bare(id): id for id in ids}
    pairs = [(own, id) for id in rated if (own := known.get(bare(id))) is not None]
    return [(own, id) for own, id in pairs if str(own) != str(id)]


def _written(pairs: list[tuple[Hashable, Hashable]]) -> str:
    """What is said of pairs by `_alike`; nothing where there are none."""
    if not pairs:
        return ""
    ours, theirs = map(show, pairs[0])
    return (f"but for {how_written(pairs)} the table would have {len(pairs):,} of the rated ones ({ours} there, "
            f"{theirs} in the ratings): write them alike in both")


# Titles -----------------------------------------------------------------------------------------------------------

def guess_title(table: pd.DataFrame) -> Hashable | None:
    """The column with a usual name for titles: "title", "name" or the like; a name that ends in such a word
    ("Book-Title"); or "name" after a word for items ("movie_name"). None where there is no such column."""
    words = {column: re.findall(r"[^\W_]+", re.sub(r"(?<=[a-zà-ÿ])(?=[A-Z])", " ", str(column)).lower())
             for column in table}
    for word in TITLES:
        if found := [column for column, own in words.items() if own == [word]]:
            return next((column for column in found if column == word), found[0])
    usual = (*(word for word in TITLES if word != "name"), *(f"{item}title" for item in NAMES["item"]))
    return next((column for column, own in words.items() if own and own[-1] in usual),
                next((column for column, own in words.items() if own[-1:] == ["name"] and own[-2:-1] and
                      own[-2] in NAMED), None))


def title_column(table: pd.DataFrame | None, given: Hashable | None,
                 features: list[str] | str | None) -> Hashable | None:
    """The name of the column of titles: the `given` one, or a usual one. Where there is none, warns if the table gives
    no features either, or has text that tells ids apart. Raises DataError for a given one that is not there."""
    if table is None:
        return None
    if given is not None:
        if given not in table:
            near = difflib.get_close_matches(str(given).lower(), names := {str(c).lower(): c for c in table}, n=1)
            raise DataError(f"the table of items has no column {quoted(given)} for the title"
                            + (f"; did you mean {quoted(names[near[0]])}?" if near else ".") + " The columns are "
                                                                                               f"{listed(table.columns)}")
        return given
    name = guess_title(table)
    taken = [] if features is None or isinstance(features, str) else features
    text = [column for column in table if column not in (name, *taken)
            and pd.api.types.is_string_dtype(table[column].dropna()) and table[column].nunique() > len(table) / 2]
    if name is not None and table[name].notna().any():
        return name
    if len(table.columns) and (features is None or text):
        what = "no column that is called as titles are" if name is None else f"no title in the column {quoted(name)}"
        warn(f"the table of items has {what}, so no titles are shown; its columns are {listed(table.columns)}: say "
             "which holds them "
             f"with title_name=...{f', such as {quoted(text[0])}' if text else ''}")
    return name


def titles_among(checked: pd.DataFrame, ratings: pd.DataFrame, schema: Schema, name: Hashable) -> pd.DataFrame:
    """A table of items with the titles that stand in the ratings themselves, in their column `name`: of each item the
    first that is not missing. `checked` is what `rating_table` made of the ratings. Warns of items with several titles;
    raises DataError where there is no such column."""
    if name not in ratings:
        near = difflib.get_close_matches(str(name).lower(), names := {str(c).lower(): c for c in ratings}, n=1)
        raise DataError(f"title_name={quoted(name)} names neither a column of a table of items, which is passed as "
                        "items=..., nor one of the ratings" + ("; did you mean "
                                                               f"{quoted(names[near[0]])}?" if near else ".")
                        + f" The columns of the ratings are {listed(ratings.columns)}")
    if name in schema.roles().values():
        role = next(role for role, column in schema.roles().items() if column == name)
        titles = checked[role]
    else:
        titles = checked[name]
    table = pd.DataFrame({schema.item: checked["item"], "title": titles}).dropna().drop_duplicates()
    if n := table[schema.item][again := table[schema.item].duplicated()].nunique():
        first = table[schema.item][again].iloc[0]
        two = table["title"][table[schema.item] == first].iloc[:2].tolist()
        warn(f"column {quoted(name)}: {counted(n, 'item')} {they(n, 'has', 'have')} another title too (such as "
             f"{show(first)}, which is {quoted(two[0])} and {quoted(two[1])}): the first is taken")
    return table[~again].reset_index(drop=True).rename(columns={"title": name})


def split_groups(column: pd.Series) -> list[list[str]]:
    """Split every cell of a column at "|"; an empty or missing cell has no groups. Raises DataError for lists."""
    for cell in column:
        if not pd.api.types.is_scalar(cell):
            raise DataError(f"column {quoted(column.name)} holds {type(cell).__name__}s (such as {quoted(cell)}) "
                            "where text is "
                            f"expected, groups joined by '|'; join them with df[{quoted(column.name)}].map('|'.join)")
    return [str(cell).split("|") if pd.notna(cell) and str(cell) else [] for cell in column]
