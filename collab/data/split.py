"""Splits: callables that take the ratings and return (train rows, valid rows) as positions.

Each takes a frame with the columns user, item, rating and, where there is one, time, as `RatingSet.ratings` has them
and as `CollabDataBunch.from_df` names them. Any function of this form is a split. Where repeated pairs are merged or
added up, it gets each pair once, unless it has one of two attributes that is true: with `by_time` it gets every row,
since a pair may be both in the past and in the future, and with `by_position` every row of the table as it was given,
including those below the `threshold`, since it counts rows. Each part is then merged separately."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import overload

import numpy as np
import pandas as pd

from ..errors import DataError, as_share, warn
from .codes import Groups, stable_order
from .times import times_of

VALID_PCT = 0.2             # of the ratings, held out by default
Rows = np.ndarray
Split = Callable[[pd.DataFrame], tuple[Rows, Rows]]


def random_split(valid_pct: float = 0.2, seed: int = 0) -> Split:
    """Hold out a random fraction of the ratings, rounded down to whole ratings."""
    _check_fraction(valid_pct)

    def split(df: pd.DataFrame) -> tuple[Rows, Rows]:
        order = np.random.default_rng(seed).permutation(len(df))
        return _by_mask(df, order[:part_of(len(df), valid_pct)])
    return _streamed(split, "random", valid_pct, seed)


def _streamed(split: Split, by: str, valid_pct: float, seed: int = 0) -> Split:
    """A split that can be made without seeing all ratings at once (see `streamed_split`)."""
    vars(split)["streamed"] = {"by": by, "valid_pct": valid_pct, "seed": seed}
    return split


def _by_time(split: Split) -> Split:
    vars(split)["by_time"] = True
    return split


def _by_position(split: Split) -> Split:
    vars(split)["by_position"] = True
    return split


def time_split(valid_pct: float = 0.2) -> Split:
    """Hold out the latest fraction of the ratings; ratings of the same time keep the order of the table."""
    _check_fraction(valid_pct)

    @_by_time
    def split(df: pd.DataFrame) -> tuple[Rows, Rows]:
        times, n_valid = _times(df), part_of(len(df), valid_pct)
        return _by_mask(df, stable_order(times)[len(df) - n_valid:])
    return _streamed(split, "time", valid_pct)


def leave_last(n: int = 1) -> Split:
    """Hold out the last `n` ratings of each user by time or, without a column of times, by the order of the table, with
    a warning.

    A user with `n` ratings or fewer stays in training."""
    if n < 1:
        raise DataError(f"leave_last needs n of at least 1, got {n}")
    told: list[bool] = []

    @_by_time
    def split(df: pd.DataFrame) -> tuple[Rows, Rows]:
        if "time" not in df and not told:
            told.append(True)       # a split that is reused warns once
            others = [name for name in df.columns if name not in ("user", "item", "rating")]
            warn(f"leave_last: no column of times is known{f' among {others}' * bool(others)}, and the order of the "
                 "table is taken for that of time, which it may not be; name the column with time_name=...")
        by_user = Groups(df["user"], stable_order(_times(df)) if "time" in df else np.arange(len(df)))
        enough = by_user.sizes > n
        _warn_of_few(f"leave_last({n})", enough, n)
        return _by_mask(df, by_user.rows[(by_user.within >= by_user.sizes - n) & enough])
    return split


def per_user_split(valid_pct: float = 0.25, seed: int = 0) -> Split:
    """Hold out a random fraction of each user's ratings, rounded up as in scikit-learn's `train_test_split`: every user
    with two or more ratings is tested, and every user keeps at least one in training."""
    _check_fraction(valid_pct)

    def split(df: pd.DataFrame) -> tuple[Rows, Rows]:
        by_user = Groups(df["user"], np.random.default_rng(seed).permutation(len(df)))
        n = by_user.sizes
        if valid_pct > 0:
            _warn_of_few("per_user_split", n > 1, 1)
        return _by_mask(df, by_user.rows[by_user.within < np.minimum(-part_of(-n, valid_pct), n - 1)])
    return split


def user_split(valid_pct: float = 0.2, seed: int = 0) -> Split:
    """Hold out all ratings of a random fraction of the users: no user is on both sides."""
    _check_fraction(valid_pct)

    def split(df: pd.DataFrame) -> tuple[Rows, Rows]:
        codes, users = pd.factorize(df["user"])
        chosen = np.random.default_rng(seed).permutation(len(users))[:part_of(len(users), valid_pct)]
        held_out = np.zeros(len(users) + 1, dtype=bool)     # a missing user, -1, is not held out
        held_out[chosen] = True
        return _by_mask(df, held_out[codes])
    return split


def rows_split(valid_rows: Sequence[int] | np.ndarray) -> Split:
    """Hold out the given positions (0 is the first row), or the rows of a boolean mask over all of them."""
    @_by_position
    def split(df: pd.DataFrame) -> tuple[Rows, Rows]:
        rows = np.asarray(valid_rows)
        if rows.dtype == bool:
            if len(rows) != len(df):
                raise DataError(f"the mask of validation rows has {len(rows):,} entries for {len(df):,} ratings")
            rows = np.flatnonzero(rows)
        return _by_mask(df, _check_rows(rows, len(df)))
    return split


def kfold(n_folds: int = 5, seed: int = 0) -> list[Split]:
    """`n_folds` splits, each rating held out by exactly one of them; their sizes differ by at most one."""
    if n_folds < 2:
        raise DataError(f"kfold needs at least 2 folds, got {n_folds}")

    def fold(k: int) -> Split:
        def split(df: pd.DataFrame) -> tuple[Rows, Rows]:
            if len(df) < n_folds:
                raise DataError(f"{len(df)} ratings cannot be cut into {n_folds} folds")
            order = np.random.default_rng(seed).permutation(len(df))
            return _by_mask(df, np.array_split(order, n_folds)[k])
        return split
    return [fold(k) for k in range(n_folds)]


def draws(n_draws: int = 4, share: float = 0.08, seed: int = 0) -> list[Split]:
    """`n_draws` splits, each of which holds out a small random `share` of every user's ratings (see `per_user_split`):
    for choosing among models that rank. Each model is trained on nearly all ratings, as it will be in the end, and the
    noise of a small part is averaged out over the draws."""
    if isinstance(n_draws, bool) or not isinstance(n_draws, Integral) or n_draws < 1:
        raise DataError(f"draws needs a whole number of them, at least 1, got {n_draws!r}")
    if not isinstance(share, Real) or not 0 < share < 1:
        raise DataError(f"share is a fraction of each user's ratings, above 0 and below 1, got {share!r}")
    return [per_user_split(share, int(one.generate_state(1)[0])) for one in np.random.SeedSequence(seed).spawn(n_draws)]


def movielens_split(name: str) -> Split:
    """MovieLens-100K's own "u1" to "u5": fold k holds rows 20,000 (k - 1) to 20,000 k of u.data for validation."""
    if name not in CANONICAL:
        raise DataError(f"split {name!r} is not known; choose one of {', '.join(CANONICAL)}, or pass a callable "
                        "such as time_split(0.2) or leave_last(1)")

    @_by_position
    def split(df: pd.DataFrame) -> tuple[Rows, Rows]:
        first = (str(df["user"].iloc[0]), str(df["item"].iloc[0]))
        if len(df) != 100_000 or first != ("196", "242"):
            raise DataError(f"split {name!r} belongs to MovieLens-100K in the order of u.data (100,000 rows, the "
                            f"first of user 196 and item 242); this table has {len(df):,} rows and begins with {first}")
        k = CANONICAL.index(name)
        return _by_mask(df, np.arange(20_000 * k, 20_000 * (k + 1)))
    return split


CANONICAL = ("u1", "u2", "u3", "u4", "u5")


def after(first: Split | str, split: Split | str) -> Split:
    """What `split` does with the rows that another one, `first`, does not hold out; those are in neither part. `first`
    holds out what is kept for the end, a test part."""
    first, split = named_split(first), named_split(split)
    if getattr(split, "by_position", False):
        raise DataError("a split by positions counts all rows, and cannot follow one that has held some of them out; "
                        "take another, such as random_split, or hold out the test ratings first: test=TABLE")

    def both(df: pd.DataFrame) -> tuple[Rows, Rows]:
        rest = apply_split(first, df)[0]
        train, valid = apply_split(split, df.iloc[rest].reset_index(drop=True))
        return rest[train], rest[valid]
    vars(both).update(by_time=any(getattr(one, "by_time", False) for one in (first, split)),
                      by_position=getattr(first, "by_position", False), rest=split, keeps_some_for_later=True)
    return both


def apply_split(split: Split | str, table: pd.DataFrame) -> tuple[Rows, Rows]:
    """Call a split (or the name of a canonical one) and check what it returns.

    Warns of ratings in neither part. Raises DataError for something that is not a split, rows out of range, rows on
    both sides, or an empty training part."""
    split = named_split(split)
    parts = split(table.copy(deep=False))       # a column that it adds or changes is its own
    if not isinstance(parts, (tuple, list)) or len(parts) != 2:
        raise DataError(f"a split must return (train rows, valid rows), this one returned {type(parts).__name__}")
    train, valid = parts
    train, valid = _check_rows(np.asarray(train), len(table)), _check_rows(np.asarray(valid), len(table))
    sides = np.zeros((2, len(table)), dtype=bool)
    sides[0, train], sides[1, valid] = True, True
    if both := int((sides[0] & sides[1]).sum()):
        raise DataError(f"the split puts {both:,} rows on both sides; no rating may be trained on and validated on")
    if not len(train):
        raise DataError(f"the split leaves none of the {len(table):,} ratings for training")
    if (neither := int((~sides.any(0)).sum())) and not getattr(split, "keeps_some_for_later", False):
        warn(f"the split puts {neither:,} of {len(table):,} ratings into neither part: they are left out; return all "
             "positions, or drop these rows from the table")
    return train, valid


def by_time(split: object) -> bool:
    """Whether a split, if it is one, goes by the times of the ratings."""
    return callable(split) and bool(getattr(split, "by_time", False))


def named_split(split: Split | str) -> Split:
    """The split itself, or the canonical one of this name. Raises DataError for something that is not a split."""
    split = movielens_split(split) if isinstance(split, str) else split
    if not callable(split):
        raise DataError(f"split={split!r} is neither a name nor a callable from ratings to (train rows, valid rows); "
                        "for a fraction use valid_pct=, for given rows rows_split(rows), of kfold(5) one of the five")
    return split


def _warn_of_few(split: str, enough: np.ndarray, n: int) -> None:
    if not enough.any():
        warn(f"{split} holds out none of {len(enough):,} ratings: no user has more than {n}, so there is no validation "
             "part; split in another way")


def _by_mask(df: pd.DataFrame, valid: Rows) -> tuple[Rows, Rows]:
    """(the other rows, `valid`), ascending; `valid` holds positions, or is a mask."""
    mask = np.zeros(len(df), dtype=bool)
    mask[valid] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _check_rows(rows: Rows, n: int) -> Rows:
    if not rows.size:
        return np.empty(0, dtype=np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise DataError(f"rows of a split must be one list of whole numbers, got {rows.dtype} of shape {rows.shape}")
    if rows.min() < 0 or rows.max() >= n:
        raise DataError(f"rows of a split must lie between 0 and {n - 1}, got {rows.min()} to {rows.max()}")
    return rows.astype(np.int64, copy=False)


def _check_fraction(valid_pct: float) -> None:
    if not isinstance(valid_pct, Real) or not 0 <= valid_pct < 1:
        raise DataError(f"valid_pct is a fraction of the ratings, at least 0 and below 1, got {valid_pct!r}"
                        f"{as_share(valid_pct)}")


@overload
def part_of(n: int, fraction: float) -> int: ...
@overload
def part_of(n: np.ndarray, fraction: float) -> np.ndarray: ...
def part_of(n: int | np.ndarray, fraction: float) -> int | np.ndarray:
    """`fraction` of `n`, rounded down: 29 for 0.29 of 100, although the product of these floats is 28.999..."""
    part = np.floor(np.round(n * fraction, 6)).astype(int)
    return int(part) if isinstance(n, int) else part


def _times(df: pd.DataFrame) -> np.ndarray:
    if "time" not in df:
        raise DataError("this split needs the time of each rating; name its column with time_name=...")
    times = times_of(df["time"])
    assert times is not None            # it raises what is wrong
    return times
