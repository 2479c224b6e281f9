"""Statistics of a set of ratings, before any model: the methods of RatingSet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from ..data.frames import Table, without_categories
from ..data.metadata import split_groups
from ..data.schema import show
from ..errors import DataError, warn

if TYPE_CHECKING:
    from .rating_set import RatingSet


def describe(self: RatingSet) -> pd.Series:
    """Count ratings, users and items, with the sparsity (the share of pairs without a rating), the mean rating, and the
    smallest, median and largest number of ratings per user and per item; NaN where there are no ratings."""
    ratings = self.ratings
    users, items = (without_categories(ratings[side]).value_counts() for side in ("user", "item"))
    rated, pairs = ratings[["user", "item"]].drop_duplicates(), len(users) * len(items)
    numbers = {"ratings": len(ratings), "users": len(users), "items": len(items),
               "sparsity": 1 - len(rated) / pairs if pairs else math.nan, "mean": ratings["rating"].mean()}
    for name, counts in (("user", users), ("item", items)):
        for word, number in (("least", counts.min()), ("median", counts.median()), ("most", counts.max())):
            numbers[f"ratings per {name}, {word}"] = int(number) if number % 1 == 0 else number
    return pd.Series(numbers, dtype=object, name=self.name)


def user_table(self: RatingSet) -> pd.DataFrame:
    """The users with n_ratings and mean_rating (NaN for users without ratings), in the order of `users`."""
    return _with_counts(self.users, self.ratings, "user")


def item_table(self: RatingSet) -> pd.DataFrame:
    """The items with n_ratings and mean_rating (NaN for items without ratings), in the order of `items`."""
    return _with_counts(self.items, self.ratings, "item")


def top_items(self: RatingSet, n: int = 10, by: str = "count", *, min_ratings: int = 1) -> pd.DataFrame:
    """The `n` items with the most ratings, or with by="mean" the highest mean among items with at least `min_ratings`
    ratings; ties by the other number, then by the order of `items`. Raises DataError for another `by`."""
    columns = {"count": ["n_ratings", "mean_rating"], "mean": ["mean_rating", "n_ratings"]}
    if by not in columns:
        raise DataError(f"by={by!r} is neither 'count' nor 'mean'")
    table = item_table(self)
    table = table[table["n_ratings"] >= max(1, min_ratings)]
    return table.sort_values(columns[by], ascending=False, kind="stable").head(n).reset_index(drop=True)


def genre_counts(self: RatingSet) -> pd.Series:
    """Count the items of each genre, the most frequent first; an item counts once for each of its genres.
    Raises DataError without a column `genres`, where "|" separates the genres of an item."""
    if "genres" not in self.items:
        raise DataError(f"there is no column 'genres' in ml.items; its columns are {[*self.items.columns]}")
    return pd.Series(split_groups(self.items["genres"]), name="genres").explode().value_counts().rename("items")


def cross_table(self: RatingSet, n_users: int = 15, n_items: int = 15) -> pd.DataFrame:
    """The ratings of the most active users (rows) for the most rated items (columns, by title where known); NaN where a
    user did not rate an item, the mean where a pair was rated several times.
    Raises DataError for ids that cannot be ordered, and for items with several rows in `items`."""
    ratings = self.ratings
    if "title" in self.items and self.items["item"].duplicated().any():
        again = self.items["item"][self.items["item"].duplicated()]
        raise DataError(f"{len(again):,} items are repeated in ml.items (such as {show(again.iloc[0])}); keep one row "
                        "per item, with ml.items.drop_duplicates('item')")
    users, items = (_busiest(ratings[side], n) for side, n in (("user", n_users), ("item", n_items)))
    part = ratings[ratings["user"].isin(users) & ratings["item"].isin(items)]
    table = part.pivot_table(index="user", columns="item", values="rating", aggfunc="mean")
    table = table.reindex(index=users, columns=items)
    if "title" in self.items:
        titles = self.items.set_index("item")["title"].astype(object).reindex(items)
        table.columns = pd.Index(titles.where(titles.notna() & (titles != ""), items.astype(object)), name="title")
    return table


def _with_counts(table: pd.DataFrame, ratings: pd.DataFrame, side: str) -> pd.DataFrame:
    numbers = ratings.groupby(side, observed=True)["rating"].agg(["size", "mean"])
    if lacking := int((~numbers.index.isin(table[side])).sum()):
        warn(f"{lacking:,} of {len(numbers):,} rated {side}s are not in the table of {side}s, and left out here; add a "
             "row for each")
    numbers = numbers.reindex(table[side])
    return Table(table.assign(n_ratings=numbers["size"].fillna(0).astype("int64").to_numpy(),
                              mean_rating=numbers["mean"].to_numpy()))


def _busiest(ids: pd.Series, n: int) -> pd.Index:
    """The `n` most frequent ids; of equally frequent ones the smaller first."""
    counts = without_categories(ids).value_counts()
    try:
        counts = counts.sort_index()
    except TypeError:
        kinds = sorted({type(id).__name__ for id in counts.index})
        raise DataError(f"column {ids.name!r} mixes ids of several kinds, {' and '.join(kinds)}, which have no order; "
                        f"make them one, such as text: df[{ids.name!r}].astype(str)") from None
    return counts.sort_values(ascending=False, kind="stable").index[:n]
