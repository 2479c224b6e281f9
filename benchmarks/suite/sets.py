"""The sets of ratings, and the tenth of each that is held out: made once, and kept for all libraries alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from collab import movielens, random_split, synthetic

SEED = 0            # of the sets, of what is held out, and of the models
HELD_OUT = 0.1
COLUMNS = ["user", "item", "rating"]
SHAPES = {          # users, items, ratings of the synthetic ones, which have a long tail on both sides
    "1m": (28_000, 5_400, 1_000_000),
    "5m": (140_000, 27_000, 5_000_000),
    "25m": (162_000, 62_000, 25_000_000),
}
NAMES = {"100k": "ML-100K", "1m": "1 million", "5m": "5 million", "25m": "25 million"}


@dataclass(frozen=True)
class Part:
    """A table of ratings (user, item, rating), and the same rows as an .npz file for the peers."""

    table: pd.DataFrame
    file: Path


@dataclass(frozen=True)
class Sets:
    """Sets by size: "100k" is MovieLens-100K; the others are `synthetic`, kept as Parquet files in `folder`."""

    folder: Path

    def table(self, size: str) -> pd.DataFrame:
        """All ratings of a set: user, item, rating."""
        if size == "100k":
            return movielens("100k").ratings[COLUMNS]
        path = self._path(size, "parquet")
        if not path.exists():
            users, items, ratings = SHAPES[size]
            made = synthetic(n_users=users, n_items=items, n_ratings=ratings, seed=SEED).ratings[COLUMNS]
            made.to_parquet(path, index=False)
        return pd.read_parquet(path)

    def csv(self, size: str) -> Path:
        """A file of all ratings with a header."""
        path = self._path(size, "csv")
        if not path.exists():
            import pyarrow
            from pyarrow.csv import write_csv
            write_csv(pyarrow.Table.from_pandas(self.table(size), preserve_index=False), path)
        return path

    def parts(self, size: str) -> tuple[Part, Part]:
        """What is trained on and the tenth that is held out, in the order of the set."""
        table = self.table(size)
        rows = random_split(HELD_OUT, SEED)(table)
        train, test = (self.part(table.iloc[part].reset_index(drop=True), f"{size}-{name}")
                       for name, part in zip(("train", "test"), rows))
        return train, test

    def part(self, table: pd.DataFrame, name: str) -> Part:
        """A table and its file, which is written anew."""
        path = self._path(name, "npz")
        np.savez(path, user=table["user"].to_numpy(), item=table["item"].to_numpy(), rating=table["rating"].to_numpy())
        return Part(table, path)

    def _path(self, name: str, ending: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{name}-{SEED}.{ending}"
