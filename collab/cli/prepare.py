"""Prepare ratings for train, tune and compare, which take the same options."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..data.databunch import CollabDataBunch
from ..data.features import telling
from ..data.implicit import schema_of
from ..data.roles import ARGUMENTS, guess, misnamed, refused
from ..data.schema import LEAVE_OUT
from ..errors import DataError, warn
from ..files import Config
from ..learner.recipes import RECIPES
from .command import worded
from .inputs import Reading, is_set, with_bad_lines
from .metadata_files import read_all, reading_beside
from .model_options import needs_metadata, uses
from .options import TableOptions
from .read_again import fingerprints
from .remedies import in_lines, of_part, of_table

BESIDE = re.compile(r"the table of (item|user)s: ")


class Prepared(NamedTuple):
    """A table of ratings, how it was read, what `CollabDataBunch.from_df` is told beside it, and the files of items and
    users, with how they were read."""

    source: str
    ratings: pd.DataFrame
    reading: Reading
    options: dict[str, Any]
    beside: dict[str, tuple[Path, Reading]]

    def bunch(self, *, test_file: float | str | None = None, **more: Any) -> CollabDataBunch:
        """The databunch of them; `more` is for `from_df`. What is said of a test part that was read of a `test_file`
        names it."""
        of_test = of_part(test_file, more.get("test"), self.reading)
        with self.in_lines(more.get("test")), worded(of_test):
            return CollabDataBunch.from_df(self.ratings, **more, **self.options)

    @contextmanager
    def in_lines(self, test: object = None) -> Iterator[None]:
        """Name lines of the file where a message from inside a `with` names rows of the table. With a table to `test`,
        it may be that which is meant."""
        told = not is_set(self.source) and not isinstance(test, pd.DataFrame)
        with worded(self._in_lines) if told else nullcontext():
            yield

    def _in_lines(self, message: str) -> str:
        if (about := BESIDE.match(message)) is None:
            return of_table(self.source, self.ratings, self.reading)(message)
        if about[1] not in self.beside:
            return message
        file, reading = self.beside[about[1]]
        said = in_lines(message, file, len(self.options[f"{about[1]}s"]), reading)
        return said.replace(": ", f" ({file}): ", 1).replace(LEAVE_OUT, "correct these lines")

    def notes(self, bunch: CollabDataBunch, **more: Any) -> Config:
        """What a model file keeps, so that `evaluate` can hold out the same ratings again."""
        kept = {"duplicates": self.options["duplicates"] or "keep", "bad_rows": self.options["bad_rows"]}
        reading = {} if is_set(self.source) else {**self.reading}
        return {"source": self.source, **kept, **more, "reading": reading,
                **fingerprints(self.ratings, bunch.schema, more.get("split"))}


def _check_places(ratings: pd.DataFrame, columns: Mapping[str, str | None], *, implicit: bool,
                  threshold: float | None) -> None:
    """Raise DataError, with the options that mend it, for columns that by their names are in another order, where
    training would refuse them as they are."""
    given = {role: columns.get(name) for role, name in ARGUMENTS.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # training says it
        schema = schema_of(ratings, [*given.values()], implicit=implicit, threshold=threshold)
    why = misnamed(ratings, schema, given) if len(ratings) else ""
    if why and (guessed := guess(ratings, given)) and refused(ratings, schema, implicit=implicit):
        raise DataError(f"{why}; say " + " ".join(f"{name}={value!r}" for name, value in guessed.items()))


def prepare(data: str, models: Sequence[str], table: TableOptions, *, option: str = "--model") -> Prepared:
    """Read ratings and metadata for `models`, by default all. Metadata become features where one of the models reads
    them. Raises DataError where a named model needs metadata and there are none."""
    beside = {by: file for by, file in (("item", table.items), ("user", table.users)) if file is not None}
    reading, columns = with_bad_lines(data, table.reading, table.bad_rows), table.columns
    ratings, known_items, known_users = read_all(data, table.items, users=table.users, table_sep=table.table_sep,
                                                 table_encoding=table.table_encoding,
                                                 ids=(columns["user_name"], columns["item_name"]), **reading)
    _check_places(ratings, columns, implicit=table.choices, threshold=table.threshold)
    wanted, features = models or [*RECIPES], dict[str, str | None]()
    for side, known in (("user", known_users), ("item", known_items)):
        reads = known is not None and any(uses(name, f"{side}s") for name in wanted) and telling(known.iloc[:, 1:])
        features[f"{side}_features"] = "auto" if reads else None
    if not any(features.values()) and (needy := [name for name in models if needs_metadata(name)]):
        raise DataError(f"{option} {needy[0]} needs to know more than ids and titles: pass --items or --users, a file "
                        "with columns such as genres or age")
    if (users := table.users) is not None and features["user_features"] is None:
        warn(f"{users} is not used: it says nothing that several users have in common, such as an age or a group"
             if any(uses(name, "users") for name in wanted) else
             f"{users} is not used: none of the models reads what it says of users")
    return Prepared(data, ratings, reading, {
        **columns, "items": known_items, "users": known_users, **features, "implicit": table.choices,
        "threshold": table.threshold, "duplicates": table.duplicates, "bad_rows": table.bad_rows or "error"},
        {by: (file, how) for (by, file), how in zip(beside.items(), reading_beside(
            beside, reading, table_sep=table.table_sep, table_encoding=table.table_encoding).values())})
