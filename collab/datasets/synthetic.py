"""Ratings with known factors: for tests that can compare with the truth, for demos, and for measuring at scale."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..errors import DataError
from .rating_set import RatingSet, Truth

GENRES = ("Action", "Romance", "Comedy", "Horror", "Drama", "Sci-Fi", "Documentary", "Fantasy", "War", "Musical",
          "Crime", "Animation", "Western", "Mystery", "Thriller", "Adventure", "Film-Noir", "Children's")
OCCUPATIONS = ("administrator", "artist", "doctor", "educator", "engineer", "entertainment", "executive", "healthcare",
               "homemaker", "lawyer", "librarian", "marketing", "none", "other", "programmer", "retired", "salesman",
               "scientist", "student", "technician", "writer")
LICENCE = "Made up by collab.synthetic: no real person rated anything here, and anyone may use it for anything."

# Standard deviations, as shares of the width of the scale: on 1 to 5 they are 0.4, 0.45 and 0.7 of a rating, which
# is near what MovieLens has, and enough for a bias model to beat the mean and for factors to beat the biases.
USER_BIAS, ITEM_BIAS, TASTE = 0.1, 0.1125, 0.175
MEAN = 0.6               # of the way up the scale
FIRST_TIME = 946_684_800  # 2000-01-01, unix seconds
MEAN_GAP = 30            # seconds from one rating to the next


def synthetic(n_users: int = 500, n_items: int = 300, n_ratings: int = 20_000, seed: int = 0, n_factors: int = 5,
              noise: float = 0.5, scale: tuple[float, float] = (1, 5), step: float = 1.0,
              popularity: float = 0.8, activity: float = 0.8) -> RatingSet:
    """`n_ratings` ratings of distinct (user, item) pairs, each rounded to a multiple of `step` within `scale` from

        mean + u_bias[u] + i_bias[i] + u_factors[u] @ i_factors[i] + noise * N(0, 1)

    whose parts are in `.truth` (in the order of the ids, which count from 1). Rows are in the order of their time.
    The item of rank r is chosen with a weight of r ** -popularity (Zipf's law); the weights of users are log-normal
    with the standard deviation `activity`; 0 makes either side even. Where n_ratings allows it, that is from
    max(n_users, n_items) on, every user and every item has a rating. An item's genres are the directions of its
    strongest factors; what is said of users is independent of their taste.

    >>> synthetic(n_users=50, n_items=30, n_ratings=200)
    synthetic: 200 ratings, 50 users, 30 items, 1 to 5

    `seed` alone decides what comes out. Memory and time grow with n_ratings, never with n_users x n_items.
    Raises DataError for a request that cannot be met."""
    low, high = _check(n_users, n_items, n_ratings, n_factors, noise, scale, step, popularity, activity)
    rng = np.random.default_rng(seed)
    truth = _truth(rng, n_users, n_items, n_factors, low, high)
    item_weight = rng.permutation(np.arange(1, n_items + 1) ** -float(popularity))
    user_weight = np.exp(activity * rng.standard_normal(n_users))
    u, i = _pairs(rng, user_weight, item_weight, n_ratings)

    score = truth.mean + truth.u_bias[u] + truth.i_bias[i] + noise * rng.standard_normal(n_ratings)
    for f in range(n_factors):  # factor by factor: no table of n_ratings x n_factors
        score += truth.u_factors[u, f] * truth.i_factors[i, f]
    steps = np.clip(np.rint((score - low) / step), 0, round((high - low) / step))
    time = FIRST_TIME + np.cumsum(1 + rng.exponential(MEAN_GAP - 1, n_ratings).astype(np.int64))
    ratings = pd.DataFrame({"user": u + 1, "item": i + 1, "rating": low + steps * step, "time": time})
    return RatingSet(ratings, _items(rng, truth.i_factors), _users(rng, n_users), "synthetic", LICENCE, truth)


def _check(n_users: int, n_items: int, n_ratings: int, n_factors: int, noise: float, scale: tuple[float, float],
           step: float, popularity: float, activity: float) -> tuple[float, float]:
    """The two ends of the scale, if everything can be done as asked."""
    for name, value, least in (("n_users", n_users, 1), ("n_items", n_items, 1), ("n_ratings", n_ratings, 1),
                               ("n_factors", n_factors, 0)):
        if value != int(value) or value < least:
            raise DataError(f"{name}={value!r}: expected a whole number from {least} on")
    for name, size in (("noise", noise), ("popularity", popularity), ("activity", activity)):
        if not 0 <= size < np.inf:
            raise DataError(f"{name}={size!r}: expected a number from 0 on")
    if n_ratings > n_users * n_items:
        raise DataError(f"n_ratings={n_ratings:,} is more than the {n_users * n_items:,} distinct pairs of "
                        f"{n_users:,} users and {n_items:,} items")
    try:
        low, high = (float(end) for end in scale)
    except (TypeError, ValueError):
        raise DataError(f"scale={scale!r}: expected the lowest and the highest rating, such as (1, 5)") from None
    if not (-np.inf < low < high < np.inf):
        raise DataError(f"scale={scale!r}: expected the lowest and then the highest rating, such as (1, 5)")
    if not step > 0 or abs((high - low) / step - round((high - low) / step)) > 1e-9:
        raise DataError(f"step={step!r} does not divide the scale from {low:g} to {high:g} into equal steps")
    return low, high


def _truth(rng: np.random.Generator, n_users: int, n_items: int, n_factors: int, low: float, high: float) -> Truth:
    width = high - low
    # The variance of p . q over k independent factors, each entry of variance s^2, is k s^4.
    s = np.sqrt(TASTE * width) / max(n_factors, 1) ** 0.25
    return Truth(u_factors=s * rng.standard_normal((n_users, n_factors)),
                 i_factors=s * rng.standard_normal((n_items, n_factors)),
                 u_bias=USER_BIAS * width * rng.standard_normal(n_users),
                 i_bias=ITEM_BIAS * width * rng.standard_normal(n_items),
                 mean=low + MEAN * width)


def _pairs(rng: np.random.Generator, user_weight: np.ndarray, item_weight: np.ndarray,
           n: int) -> tuple[np.ndarray, np.ndarray]:
    """`n` distinct pairs of rows, in random order: first those that give everyone a rating, then by weight."""
    n_users, n_items = len(user_weight), len(item_weight)
    pairs = _cover(rng, user_weight, item_weight)[:n]
    if n_users * n_items <= 8 * n:
        pairs = _fill_dense(rng, pairs, user_weight, item_weight, n)
    else:
        pairs = _fill_sparse(rng, pairs, user_weight, item_weight, n)
    pairs = rng.permutation(pairs)
    return pairs // n_items, pairs % n_items


def _cover(rng: np.random.Generator, user_weight: np.ndarray, item_weight: np.ndarray) -> np.ndarray:
    """max(n_users, n_items) distinct pairs (as user * n_items + item) in which every row of both sides occurs."""
    n_users, n_items = len(user_weight), len(item_weight)
    few, many = sorted((n_users, n_items))
    weight = user_weight if n_users == few else item_weight
    one = rng.permutation(many)
    other = np.concatenate([rng.permutation(few), _draw(rng, weight, many - few)])
    users, items = (other, one) if n_users == few else (one, other)
    return users * n_items + items


def _fill_dense(rng: np.random.Generator, pairs: np.ndarray, user_weight: np.ndarray, item_weight: np.ndarray,
                n: int) -> np.ndarray:
    """Where a good part of all pairs is wanted, rank all of them: the n largest of log(weight) + Gumbel noise are a
    weighted sample without replacement (Efraimidis & Spirakis 2006; Vieira 2014)."""
    key = np.add.outer(np.log(user_weight), np.log(item_weight)).ravel() + rng.gumbel(size=user_weight.size
                                                                                        * item_weight.size)
    key[pairs] = np.inf
    return np.sort(np.argpartition(-key, n - 1)[:n])       # which are found in an order of the CPU's own


def _fill_sparse(rng: np.random.Generator, pairs: np.ndarray, user_weight: np.ndarray, item_weight: np.ndarray,
                 n: int) -> np.ndarray:
    """Where few of all pairs are wanted, draw pairs and leave out the repeated ones, until there are enough."""
    power = 1.0
    while (missing := n - len(pairs)) > 0:
        k = missing + missing // 4 + 100
        drawn = _draw(rng, user_weight ** power, k) * len(item_weight) + _draw(rng, item_weight ** power, k)
        drawn.sort()  # sorting and comparing neighbours: several times faster than np.unique on millions
        drawn = drawn[np.concatenate([[True], drawn[1:] != drawn[:-1]])]
        new = drawn[~np.isin(drawn, pairs, assume_unique=True)]
        pairs = np.concatenate([pairs, rng.permutation(new)[:missing]])
        # The favourite pairs run out, so every round is a little more even than the one before: it always ends.
        power *= 0.95
    return pairs


def _draw(rng: np.random.Generator, weight: np.ndarray, k: int) -> np.ndarray:
    """`k` rows with replacement, in proportion to `weight`."""
    return rng.choice(len(weight), size=k, p=weight / weight.sum())


def _items(rng: np.random.Generator, i_factors: np.ndarray) -> pd.DataFrame:
    n_items, n_factors = i_factors.shape
    year = rng.integers(1930, 2000, size=(n_items,))
    used = min(n_factors, len(GENRES) // 2)  # each factor has a genre at either end
    genres = [""] * n_items
    if used:
        strength = i_factors[:, :used] / i_factors[:, :used].std().clip(1e-12)
        belongs = np.abs(strength) > 1.0
        belongs[np.arange(n_items), np.abs(strength).argmax(1)] = True
        names = np.where(strength > 0, np.array(GENRES[0:2 * used:2]), np.array(GENRES[1:2 * used:2]))
        genres = ["|".join(sorted(row[has])) for row, has in zip(names, belongs, strict=True)]
    return pd.DataFrame({"item": np.arange(1, n_items + 1),
                         "title": [f"Film {i} ({y})" for i, y in enumerate(year.tolist(), 1)],
                         "year": pd.Series(year, dtype="Int64"), "genres": genres})


def _users(rng: np.random.Generator, n_users: int) -> pd.DataFrame:
    return pd.DataFrame({"user": np.arange(1, n_users + 1),
                         "age": np.clip(np.rint(rng.normal(34, 12, n_users)), 7, 80).astype(np.int64),
                         "gender": np.array(["F", "M"])[rng.integers(0, 2, n_users)],
                         "occupation": np.array(OCCUPATIONS)[rng.integers(0, len(OCCUPATIONS), n_users)],
                         "zip": [f"{code:05d}" for code in rng.integers(0, 100_000, n_users)]})
