"""How many pairs are rated again, told from the ratings of some users: all of them cannot be sorted in memory."""

from __future__ import annotations

import numpy as np

from ..errors import DataError, warn
from .streamed_split import scrambled

SAMPLE = 1 << 21            # ratings that are compared
KEEP = ("from_parquet keeps all rows, and each counts, since merging pairs would take a sort of all ratings; merge "
        "them where the files are made, read a table that fits in memory with from_csv(path, duplicates='last'), or "
        "say duplicates='keep'")


class Repeated:
    """Gathers the pairs of a share of the users among n ratings, held out or not."""

    def __init__(self, n: int):
        self.share = min(1.0, SAMPLE / n)
        self.chosen = np.zeros(0, dtype=bool)           # by the number of a user
        self.keys: list[np.ndarray] = []
        self.held: list[np.ndarray] = []

    def add(self, users: np.ndarray, items: np.ndarray, held_out: np.ndarray) -> None:
        """Take in some ratings: numbers of users and items, int32 (n,), and which are held out."""
        if len(users) and (top := int(users.max())) >= len(self.chosen):
            more = scrambled(len(self.chosen), top + 1 - len(self.chosen), 0)
            self.chosen = np.concatenate([self.chosen, more <= np.uint64(min(self.share * 2**64, 2**64 - 1))])
        some = np.flatnonzero(self.chosen[users])
        self.keys.append(users[some].astype(np.int64) << 32 | items[some])
        self.held.append(held_out[some])

    def said(self, n: int, n_held: int) -> str:
        """How many of n ratings, of which `n_held` are held out, have a pair again, in words; "" if none has."""
        keys, held = np.concatenate(self.keys), np.concatenate(self.held)
        again = int((np.diff(np.sort(keys)) == 0).sum())
        if not again:
            return ""
        what = (f"{again:,} of {n:,} rows rate a pair again" if self.share == 1 else
                f"some {n * again / len(keys):,.0f} of {n:,} rows rate a pair again (told from {len(keys):,} ratings "
                "of some users)")
        trained = np.sort(keys[~held])
        place = np.searchsorted(trained, keys[held]).clip(max=max(0, len(trained) - 1))
        both = int((trained[place] == keys[held]).sum()) if len(trained) else 0
        return what + (f", and {both / held.sum():.1%} of the {n_held:,} ratings held out are of pairs that are "
                       "trained on too, so that the error on them looks smaller than it is" if both else "")


def warn_of_pairs(said: str) -> None:
    """Warn of what `Repeated.said` says, if it says anything."""
    if said:
        warn(f"{said}: {KEEP}")


def refuse_options(duplicates: object) -> None:
    """Raise DataError for a way to merge pairs."""
    if duplicates not in (None, "keep"):
        raise DataError(f"duplicates={duplicates!r} cannot be had here: {KEEP}")
