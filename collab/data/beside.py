"""What is wrong or notable with a table of items or users beside the ratings, by the checks that training makes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable

import pandas as pd

from ..errors import CollabWarning, DataError, counted, quoted, they
from .frames import TableLike, as_frame
from .metadata import id_column, metadata, title_column, warn_of_lacking
from .problems import Problem
from .schema import show
from .vocab import UNKNOWN, Vocab


def problems_beside(table: TableLike, side: str, rated: pd.Series, name: Hashable,
                    title_name: Hashable = None) -> list[Problem]:
    """The problems of a table of metadata for a `side`, "item" or "user", whose ids in the ratings are `rated`, in the
    column `name` there: all that training would refuse or warn of, one behind the other, then ids that no rating has,
    and titles that are blank or those of several items. `title_name` is that of `from_df`."""
    where, found = f"the table of {side}s", list[Problem]()

    def note(message: str, *, stops: bool = False) -> None:
        what, _, remedy = message.removeprefix(f"{where}: ").removeprefix(f"{where} ").partition("; ")
        if what not in [problem.what for problem in found]:
            found.append(Problem(where, what, remedy, stops=stops))
    vocab = Vocab(rated, side)
    try:
        frame = as_frame(table, f"{side}s")
        known = _joined(frame, name, vocab, note)
    except DataError as error:
        note(str(error), stops=True)
        return found
    title: Hashable = None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            title = title_column(known, title_name, None) if side == "item" else None
        except DataError as error:
            note(str(error), stops=True)
        warn_of_lacking(known, vocab, features=title is None, titles=title is not None)
    for one in said:
        if issubclass(one.category, CollabWarning):
            note(str(one.message))
    unrated = known.index[vocab.encode(known.index) == UNKNOWN]
    if n := len(unrated):
        note(f"{n:,} of its {counted(len(known), side)} {they(n, 'has', 'have')} no rating (such as {show(unrated[0])})"
             "; nothing is learned of them but by models that read metadata")
    if title is not None:
        column = known[title]
        blank = column.isna() | (column.astype(object).astype(str).str.strip() == "")
        if n := int(blank.sum()):
            note(f"{n:,} of its {counted(len(known), side)} {they(n, 'has', 'have')} no title in column "
                 f"{quoted(title)} (such as {show(known.index[blank.to_numpy()][0])}); they are shown by id")
        words = column[~blank].astype(str).str.strip().str.casefold()
        if n := int((again := words.duplicated(keep=False)).sum()):
            same = words.index[(words == words[again].iloc[0]).to_numpy()]
            note(f"{n:,} of its {counted(len(known), side)} share their title with another one (such as "
                 f"{show(known.at[same[0], title])}, of {show(same[0])} and {show(same[1])}); they are found by id "
                 "alone: merge them if they are the same")
    return found


def _joined(frame: pd.DataFrame, name: Hashable, vocab: Vocab, note: Callable[..., None]) -> pd.DataFrame:
    """The table by id as training joins it to the ratings. Where it refuses rows, that is noted, and it is joined
    without them. Raises DataError for what is about no single row."""
    column = None if frame.columns.has_duplicates or not len(frame.columns) else id_column(frame, name, vocab)
    if column is not None and (missing := frame[column].isna().to_numpy()).any() and not missing.all():
        try:
            vocab.encode(frame[column])
        except DataError as error:
            note(f"column {quoted(column)}: {error}", stops=True)
        frame = frame[~missing].reset_index(drop=True)
    try:
        return _by_id(frame, name, vocab)
    except DataError as error:
        if column is None or not (again := frame[column].duplicated()).any():
            raise
        note(str(error), stops=True)
    return _by_id(frame[~again], name, vocab)


def _by_id(frame: pd.DataFrame, name: Hashable, vocab: Vocab) -> pd.DataFrame:
    known = metadata(frame, name, vocab)
    assert known is not None        # as it is for no table alone
    return known
