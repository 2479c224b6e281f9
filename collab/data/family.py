"""What a column of ratings holds, by measured signs: ratings on a scale, likes, counts, amounts; or nothing at all."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..errors import amount, they, warn
from .implicit import names_strength
from .schema import NAMES

FAR = 5         # the largest count is at least so many times the upper quartile: ratings do not have such a tail
FAR_AMOUNT = 20     # the same for what are no whole numbers
HIGH = 10       # where most scales of ratings end
ENOUGH = 100    # fewer values are no sign of a long tail
LEAST_LARGEST = 20  # a scale of ratings may end at 10; a count that is worth the name goes higher somewhere
TWO = ((0, 1), (-1, 1))     # the two values of likes and dislikes
FEW_NEGATIVE = 0.01     # a smaller share of negative values does not keep counts from being counts
LEVELS = 101        # a scale has no more distinct ratings: 0 to 100 is one


@dataclass(frozen=True)
class Family:
    """The `name` of a kind of ratings, the `sign` by which it was told, the `options` of `from_df` that suit it, the
    `advice`, and for ratings on a scale the `threshold` above which they are liked more than most."""

    name: str
    sign: str
    options: dict[str, object]
    advice: str
    threshold: float | None = None


def family_of(ratings: pd.Series, *, given: bool = True) -> Family:
    """Which family of models suits ratings, float64 (n,), none missing, with the name of their column. `given` says
    whether the table has that column; otherwise every row weighs 1."""
    if not given:
        return Family("choices", "there is no column of ratings: a row says that something was chosen",
                      {"implicit": True}, "train a model that ranks, such as als")
    values = ratings.to_numpy()
    below = values < 0
    if 0 < below.mean() < FEW_NEGATIVE and (family := family_of(ratings[~below])).name in ("counts", "amounts"):
        return replace(family, sign=f"{family.sign}, but for {(n := int(below.sum())):,} that {they(n)} negative")
    levels, counts = np.unique(values, return_counts=True)
    whole, low, high = bool((levels % 1 == 0).all()), levels[0], levels[-1]
    if len(levels) == 1:
        return Family("likes", f"all {len(values):,} ratings are {amount(high)}: there is nothing to tell them apart "
                      "by", {"implicit": True}, "train a model that ranks, such as als")
    if (low, high) in TWO and len(levels) == 2:
        return Family("likes and dislikes", f"there are two values, {amount(low)} ({counts[0]:,} of {len(values):,}) "
                      f"and {amount(high)}", {"threshold": float((low + high) / 2)},
                      "rank what was liked; without that option, they are ratings and are predicted")
    quartile = float(np.quantile(values, 0.75))
    tail = (f"the largest, {amount(high)}, is {high / quartile:,.0f} times the upper quartile, {amount(quartile)}"
            if quartile else "")
    counted = str(ratings.name).lower() not in NAMES["rating"] and names_strength(ratings)
    far = low >= 0 and high >= LEAST_LARGEST and high >= FAR * quartile
    if low >= 0 and whole and (far or (counted and high > HIGH)):
        named = f"its name, {ratings.name!r}, is one of counts" if counted else ""
        signs = "; ".join(sign for sign in ("all are whole numbers", named, tail if far else "") if sign)
        return Family("counts", signs, {"implicit": True}, "train a model that ranks, such as als: a count says how "
                      "often, not how good")
    if low >= 0 and not whole and high >= FAR_AMOUNT * quartile and len(levels) > LEVELS:
        return Family("amounts", f"no scale: {len(levels):,} different values; {tail}", {"implicit": True},
                      "train a model that ranks, such as als: an amount says how much, not how good")
    if len(levels) > LEVELS:
        return Family("ratings", f"numbers from {amount(low)} to {amount(high)}, without a scale: {len(levels):,} "
                      "different values", {}, "train a model of ratings, such as dot_bias")
    middle = _middle(levels, values)
    return Family("ratings", f"a scale of {len(levels)} values from {amount(low)} to {amount(high)}", {},
                  "train a model of ratings, such as dot_bias; to rank what was liked instead, say "
                  f"threshold={middle:g}", middle)


def warn_of_counts(ratings: pd.Series, name: Hashable) -> None:
    """Warn of ratings (n,), none missing, that look like counts or amounts, which a model of ratings would predict."""
    if len(ratings) < ENOUGH or ratings.max() <= HIGH:      # the usual case, in which nothing is sorted
        return
    family = family_of(pd.Series(ratings.to_numpy(), name=name))
    if family.name in ("counts", "amounts"):
        warn(f"column {name!r} looks like {family.name} ({family.sign}) and is taken for ratings; for choices, say "
             f"implicit=True and {family.advice}")


def _middle(levels: np.ndarray, values: np.ndarray) -> float:
    """The largest level below the mean: what is rated above it is liked more than most."""
    return float(levels[max(0, int(np.searchsorted(levels, values.mean())) - 1)])
