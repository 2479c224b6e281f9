"""What a set of ratings looks like, before any model: each function takes the ratings or a RatingSet's frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from .schema import DataError

if TYPE_CHECKING:
    from .dataset import RatingSet


def describe(self: RatingSet) -> pd.Series:
    """Sizes and shares: ratings, users, items, sparsity (the share of pairs that nobody rated), the mean rating, and
    the least, median and largest number of ratings per user and per item."""
    ratings = self.ratings
    users, items = ratings["user"].value_counts(), ratings["item"].value_counts()
    rated = ratings[["user", "item"]].drop_duplicates()
    numbers = {"ratings": len(ratings), "users": len(users), "items": len(items),
               "sparsity": 1 - len(rated) / (len(users) * len(items)), "mean": ratings["rating"].mean()}
    for name, counts in (("user", users), ("item", items)):
        numbers |= {f"ratings per {name}, {word}": int(counts.quantile(q, interpolation="lower"))
                    for word, q in (("least", 0), ("median", 0.5), ("most", 1))}
    return pd.Series(numbers, dtype=object, name=self.name)


def user_table(self: RatingSet) -> pd.DataFrame:
    """The users with n_ratings and mean_rating (missing where there are none), in the order of `users`."""
    return _with_counts(self.users, self.ratings, "user")


def item_table(self: RatingSet) -> pd.DataFrame:
    """The items with n_ratings and mean_rating (missing where there are none), in the order of `items`."""
    return _with_counts(self.items, self.ratings, "item")


def top_items(self: RatingSet, n: int = 10, by: str = "count", min_ratings: int = 1) -> pd.DataFrame:
    """The `n` items with the most ratings, or by="mean" with the highest mean among those with at least `min_ratings`;
    ties by the other number, then by the order of `items`."""
    columns = {"count": ["n_ratings", "mean_rating"], "mean": ["mean_rating", "n_ratings"]}
    if by not in columns:
        raise DataError(f"by={by!r} is neither 'count' nor 'mean'")
    table = item_table(self)
    table = table[table["n_ratings"] >= max(1, min_ratings)]
    return table.sort_values(columns[by], ascending=False, kind="stable").head(n).reset_index(drop=True)


def genre_counts(self: RatingSet) -> pd.Series:
    """How many items each genre has, the most frequent first; an item counts once for each of its genres."""
    genres = self.items["genres"].str.split("|").explode()
    return genres[genres != ""].value_counts().rename("items")


def cross_table(self: RatingSet, n_users: int = 15, n_items: int = 15) -> pd.DataFrame:
    """The ratings of the busiest users (rows) for the most rated items (columns, by title where known); missing where
    a user did not rate one. A pair that was rated again counts with its mean."""
    ratings = self.ratings
    users, items = (_busiest(ratings[side], n) for side, n in (("user", n_users), ("item", n_items)))
    part = ratings[ratings["user"].isin(users) & ratings["item"].isin(items)]
    table = part.pivot_table(index="user", columns="item", values="rating", aggfunc="mean")
    table = table.reindex(index=users, columns=items)
    if "title" in self.items:
        table.columns = pd.Index(self.items.set_index("item")["title"].reindex(items), name="title")
    return table


def _with_counts(table: pd.DataFrame, ratings: pd.DataFrame, side: str) -> pd.DataFrame:
    numbers = ratings.groupby(side, observed=True)["rating"].agg(["size", "mean"]).reindex(table[side])
    return table.assign(n_ratings=numbers["size"].fillna(0).astype("int64").to_numpy(),
                        mean_rating=numbers["mean"].to_numpy())


def _busiest(ids: pd.Series, n: int) -> pd.Index:
    """The `n` most frequent ids; of equally frequent ones the smaller first."""
    return ids.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:n]
