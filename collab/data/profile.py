"""Measures of a table of ratings as tables: its size and density, the long tail, how ratings and times are spread."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .codes import coded, distinct, repeats
from .times import UNITS, as_numbers, unit_of

RARE = 5            # ratings: with fewer, a user or an item is little more than its bias
SHOWN = 20          # distinct ratings, above which quantiles stand for them
QUANTILES = (0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1)


def sizes(table: pd.DataFrame) -> pd.DataFrame:
    """What there is of each, in columns of a table with one row: ratings, users, items, pairs of them, the density
    (pairs per possible pair) and how many ratings are of a pair again, and of these how many say something else."""
    codes = table.assign(user=coded(table["user"]), item=coded(table["item"]))
    n_users, n_items = (len(distinct(codes[side])[1]) for side in ("user", "item"))
    again = repeats(codes)
    n_again = 0 if again is None else int(again.sum())
    exact = 0 if again is None else int(codes.duplicated(["user", "item", "rating"]).sum())
    pairs = len(table) - n_again
    return pd.DataFrame([{"ratings": len(table), "users": n_users, "items": n_items, "pairs": pairs,
                          "density": pairs / max(1, n_users * n_items), "again": n_again,
                          "again_with_another_rating": n_again - exact}])


def tails(table: pd.DataFrame) -> pd.DataFrame:
    """One row each for users and items: how many there are, how many ratings each has (mean, median, fewest, most), the
    share of ratings on the first 1% and 10% of them, the Gini coefficient (0: all have as many; 1: one has all), and
    how many have one rating, and fewer than 5."""
    rows = []
    for side in ("user", "item"):
        counts = np.sort(np.bincount(distinct(table[side])[0]))[::-1]
        counts = counts[counts > 0]
        n, total = len(counts), counts.sum()
        rows.append({"of": f"{side}s", "n": n, "mean": counts.mean(), "median": float(np.median(counts)),
                     "fewest": int(counts[-1]), "most": int(counts[0]),
                     "top_1%": counts[:max(1, round(n / 100))].sum() / total,
                     "top_10%": counts[:max(1, round(n / 10))].sum() / total, "gini": gini(counts),
                     "with_1": int((counts == 1).sum()), f"below_{RARE}": int((counts < RARE).sum())})
    return pd.DataFrame(rows)


def gini(counts: np.ndarray) -> float:
    """The Gini coefficient of n counts: half the mean difference of two of them, over their mean."""
    n, ordered = len(counts), np.sort(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def spread(ratings: pd.Series) -> pd.DataFrame:
    """How ratings are distributed: rating, rows and their share of each; or, of more than 20 distinct ones, the
    quantiles from the lowest to the highest."""
    levels, counts = np.unique(ratings.to_numpy(), return_counts=True)
    if len(levels) <= SHOWN:
        return pd.DataFrame({"rating": levels, "rows": counts, "share": counts / counts.sum()})
    return pd.DataFrame({"quantile": QUANTILES, "rating": np.quantile(ratings.to_numpy(), QUANTILES)})


def when(times: np.ndarray) -> tuple[pd.DataFrame, pd.Series | None]:
    """(a table of one row: the first time, the last, the days between, and how they were read; the times as dates, or
    None where numbers are in no known unit). None of the times may be `impossible`."""
    times = as_numbers(times)
    unit = "" if times.dtype.kind not in "iuf" else unit_of(times)
    if unit is None:
        low, high = (float(end) for end in (times.min(), times.max()))
        return pd.DataFrame([{"first": f"{low:.16g}", "last": f"{high:.16g}", "read_as": "numbers that only sort: in "
                              "no unit since 1970 are they likely times"}]), None
    dates = pd.Series(times.astype(f"datetime64[{unit}]") if unit else pd.to_datetime(times))
    first, last = dates.min(), dates.max()
    return pd.DataFrame([{"first": f"{first:%Y-%m-%d %H:%M}", "last": f"{last:%Y-%m-%d %H:%M}",
                          "days": (last - first).days,
                          "read_as": f"{UNITS[unit]} since 1970" if unit else "dates"}]), dates
