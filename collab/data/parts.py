"""From a table of ratings to its parts: checked, cut into training and validation, repeated pairs merged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from ..errors import DataError, they, warn
from ..given import is_real
from .codes import coded, stable_order
from .duplicates import BY_TIME, check_duplicates, merge_duplicates, warn_of_repeats
from .frames import COPIES, TableLike, as_frame
from .implicit import add_up, interactions_of, negative_strengths, too_weak, with_weights
from .problems import Problem, stop
from .schema import Schema, rating_table
from .split import Split, after, apply_split, by_time, named_split, random_split, time_split
from .times import times_of


class Cut(NamedTuple):
    """How the validation part was held out: the split, and for one by time the times of the training ratings, (n,), by
    which it can be repeated on them, and of those held out, (m,), that may join them."""

    split: Split
    times: np.ndarray | None = None
    held_out: np.ndarray | None = None

    @classmethod
    def of(cls, split: Split | str, table: pd.DataFrame, kept: pd.DataFrame, valid: pd.DataFrame) -> Cut:
        """Of a checked table, and the parts that `Rules.parts` made of it."""
        split = named_split(getattr(split, "rest", split))
        if not by_time(split) or "time" not in table:
            return cls(split)
        times = table["time"].to_numpy()
        return cls(split, times[kept.index], times[valid.index])


BAD_ROWS = ("error", "drop")


@dataclass(frozen=True)
class Rules:
    """How tables of ratings are read: the names of their columns, and what `CollabDataBunch.from_df` says of
    `duplicates`, `implicit`, `threshold` and `bad_rows`."""

    schema: Schema
    duplicates: str | None = None
    implicit: bool = False
    threshold: float | None = None
    bad_rows: str = "error"

    def checked(self, table: pd.DataFrame, *, timed: bool = False, of: str = "") -> pd.DataFrame:
        """The table as `rating_table` gives it; what is left out `of` it is warned of under this name.

        Raises DataError for what cannot be trained on and, where the table is `timed`, to be split by time, or the
        first or last rating of a pair is to be kept, for times that do not sort."""
        check_duplicates(self.duplicates)
        timed = timed or self.duplicates in BY_TIME
        if self.implicit and self.duplicates not in (None, "keep"):
            raise DataError(f"duplicates={self.duplicates!r} is for ratings; with implicit=True a pair that comes "
                            "again is one interaction with the sum of the strengths")
        if self.implicit:
            table = with_weights(table, self.schema.rating, self.threshold)
        check_bad_rows(self.bad_rows)
        if self.bad_rows == "drop":
            return without_bad(table, self.schema, choices=self.implicit and self.threshold is None, timed=timed,
                               of=of)
        found = rating_table(table, self.schema)
        if timed and self.schema.time is not None:
            times_of(found["time"], self.schema.time)
        return found

    def further(self, table: TableLike, *, timed: bool = False, of: str = "") -> tuple[pd.DataFrame, Rules]:
        """(a further table, `checked`, the rules with its columns), of `schema` or else user, item, rating."""
        table = as_frame(table)
        table = with_weights(table, self.schema.rating, self.threshold) if self.implicit else table
        found = replace(self, schema=self.schema.of_further(table))
        return found.checked(table, timed=timed, of=of), found

    def parts(self, table: pd.DataFrame, split: Split | str | None = None, *, say: bool = True) -> list[pd.DataFrame]:
        """[train, valid] of a checked table, or without a split [all of it]: only interactions where it is `implicit`,
        and repeated pairs merged, before the split, or after one by time or by position (averages and sums alone: of
        several ratings one that is kept has its own time and place). If `say`, what happens to such pairs is warned of.

        A part has the columns user, item (both `coded`) and rating, and its index says which rows of the table it has.
        After a split by time the training rows are in order of time, a merged pair at the place of its last row."""
        chosen = interactions_of(table, self.schema, self.threshold) if self.implicit else table
        kept = with_codes(chosen)
        split = None if split is None else named_split(split)
        by_position = getattr(split, "by_position", False)
        late = (self.implicit or self.duplicates == "mean") and (by_position or getattr(split, "by_time", False))
        if not late:
            kept, = self._merged([kept], table, say=say)
        unsaid = say and self.duplicates is None and not self.implicit
        if split is None:
            if unsaid:
                warn_of_repeats(kept)
            return [kept]
        if by_position:         # positions are those of the table as it was given
            sides = apply_split(split, table)
            parts = [kept[_among(kept.index, side, len(table))] for side in sides]
        else:
            if len(kept) < len(chosen):
                chosen = chosen.loc[kept.index].assign(rating=kept["rating"])
            sides = apply_split(split, chosen.reset_index(drop=True))
            parts = [kept.iloc[side] for side in sides]
        timed = by_time(split) and "time" in table
        if unsaid:
            later = getattr(split, "keeps_some_for_later", False)
            warn_of_repeats(kept, sides[0], _but(sides[0], len(kept)) if later else sides[1])
        if timed:               # from the last on, so that a merged pair has the place of its last row
            times = times_of(table["time"])
            assert times is not None        # it raises what is wrong
            parts[0] = parts[0].iloc[stable_order(times[parts[0].index.to_numpy()])[::-1]]
        parts = self._merged(parts, table, say=say) if late else parts
        return [parts[0].iloc[np.arange(len(parts[0]))[::-1]], *parts[1:]] if timed else parts

    def apart(self, table: pd.DataFrame, end: object, split: Split | str, seed: int,
              ) -> tuple[pd.DataFrame, Split]:
        """What `end` holds out of a checked table, a split or a fraction at random, and a split of the same table that
        leaves it out and divides the rest as `split` does."""
        if not callable(end) and not (is_real(end) and 0 < end < 1):
            raise DataError("test ratings are a table, a split, or a fraction of the ratings, above 0 and below 1; got "
                            f"test={end!r}")
        how: Split = random_split(float(end), seed + 1) if is_real(end) else cast(Split, end)
        held = self.parts(table, how, say=False)[1]
        if not len(held):
            raise DataError(f"test={end!r} holds out none of {len(table):,} ratings; hold out more")
        own = self.schema.user, self.schema.item, self.schema.rating
        found = table.loc[held.index, ["user", "item"]].assign(rating=held["rating"])
        return found.set_axis(list(own), axis=1).reset_index(drop=True), after(how, split)

    def further_part(self, table: TableLike, split: Split | str | None = None, *, timed: bool = False) -> pd.DataFrame:
        """The rows of a further table that would be trained on or, with `split`, held out. If `timed`, those to train
        on are in order of time, where the table has times."""
        checked, found = self.further(table, timed=timed or by_time(split))
        if timed and "time" in checked:
            part = found.parts(checked, time_split(0))[0]
        else:
            part = found.parts(checked, split)[-1]
        return checked.loc[part.index].assign(rating=part["rating"]).reset_index(drop=True)

    def too_weak(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a checked table that the threshold leaves out."""
        return too_weak(table, self.threshold)

    def _merged(self, parts: list[pd.DataFrame], table: pd.DataFrame, *, say: bool = True) -> list[pd.DataFrame]:
        """Parts of a checked table with each pair once, as far as that is asked for."""
        if self.implicit:
            return [add_up(part) for part in parts]
        time = self.schema.time
        return merge_duplicates(parts, self.duplicates, time=time, say=say, times=lambda: (
            None if time is None else times_of(table["time"], time)))


def check_bad_rows(how: str) -> None:
    """Raises DataError unless `how` is "error" or "drop"."""
    if how not in BAD_ROWS:
        raise DataError(f"bad_rows={how!r} is not one of {BAD_ROWS}")


def without_bad(table: pd.DataFrame, schema: Schema, *, choices: bool = False, timed: bool = False,
                of: str = "") -> pd.DataFrame:
    """The table as `rating_table` gives it, without the rows that it refuses and, where rows are `choices`, those of
    negative strength, and where it is `timed` those whose times do not sort, with a warning that counts them and begins
    with what they are rows `of`.

    Raises DataError where something is wrong that is not about some rows, or where an option of reading mends it."""
    found: list[Problem] = []
    checked = rating_table(table, schema, found.append)
    if choices and (negative := negative_strengths(checked, schema)) is not None:
        found.append(negative)
    if timed and schema.time is not None:
        times_of(checked["time"], schema.time, found.append)
    bad = np.zeros(len(checked), dtype=bool)
    for problem in found:
        if problem.options or not len(problem.rows):
            stop(problem)
        bad[problem.rows] = True
    if bad.all():
        stop(max(found, key=lambda problem: len(problem.rows)))
    if not bad.any():
        return checked
    warn(f"{of}{': ' * bool(of)}{(n := int(bad.sum())):,} of {len(bad):,} rows {they(n)} left out: "
         + "; ".join(f"{problem.where}: {problem.found()}" for problem in found))
    return checked[~bad].reset_index(drop=True)


def with_codes(table: pd.DataFrame) -> pd.DataFrame:
    """The columns user, item and rating of a checked table, ids as codes (see `coded`)."""
    return pd.DataFrame({"user": coded(table["user"]), "item": coded(table["item"]), "rating": table["rating"]},
                        copy=COPIES)


def _but(rows: np.ndarray, n: int) -> np.ndarray:
    """The other positions of n."""
    others = np.ones(n, dtype=bool)
    others[rows] = False
    return np.flatnonzero(others)


def _among(positions: pd.Index, rows: np.ndarray, n: int) -> np.ndarray:
    """Which positions are in `rows`, of n."""
    held = np.zeros(n, dtype=bool)
    held[rows] = True
    return held if len(positions) == n else held[positions]
