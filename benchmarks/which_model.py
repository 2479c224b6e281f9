"""Which model for which data: `compare_models` on real ratings and on synthetic ones of several shapes.

    python benchmarks/which_model.py ratings
    python benchmarks/which_model.py choices tiny small

prints one comparison for each set that is named, by default all. It takes half an hour on one core; the figures are in
docs/results.md."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd

from collab import compare_models, movielens, per_user_split, synthetic

RATERS = ("dot_bias", "als_explicit", "dot", "svdpp", "classifier", "net")
RANKERS = ("als", "ease", "infinite_ae", "bpr", "two_tower", "softmax", "lightgcn")
MADE: dict[str, dict[str, Any]] = {         # by arguments of `synthetic`
    "filmtrust": {"n_users": 1500, "n_items": 2000, "n_ratings": 35_000, "seed": 1, "scale": (0.5, 4), "step": 0.5,
                  "popularity": 1.1, "activity": 1.0},
    "tiny": {"n_users": 100, "n_items": 60, "n_ratings": 800, "seed": 2},
    "small": {"n_users": 300, "n_items": 150, "n_ratings": 4_000, "seed": 3},
    "sparse": {"n_users": 20_000, "n_items": 4_000, "n_ratings": 60_000, "seed": 4},
    "noisy": {"n_users": 1000, "n_items": 500, "n_ratings": 40_000, "seed": 5, "noise": 2.0},
    "no-factors": {"n_users": 1000, "n_items": 500, "n_ratings": 40_000, "seed": 6, "n_factors": 0},
    "dense": {"n_users": 500, "n_items": 200, "n_ratings": 30_000, "seed": 7}}
TASTES = {                                  # by arguments of `tastes`
    "tastes": (1000, 500, 30, 10, 0.5, 3), "tastes-sparse": (5000, 2000, 5, 10, 0.7, 1),
    "tastes-tiny": (100, 60, 8, 5, 0.7, 0), "tastes-faint": (5000, 2000, 5, 10, 0.3, 2)}
REAL = ("ml-100k", "ml-latest-small")
TOO_MANY_USERS = ("sparse", "no-factors")   # not ranked: infinite_ae is cubic in users; without factors no tastes


def tastes(n_users: int, n_items: int, per_user: int, n_groups: int, share: float, seed: int) -> pd.DataFrame:
    """Choices, some `per_user` each: a `share` from the items of the user's own group, the others by popularity, which
    follows Zipf's law with the exponent 0.8."""
    rng = np.random.default_rng(seed)
    popular = (1 / np.arange(1, n_items + 1) ** 0.8)[rng.permutation(n_items)]
    group, rows = rng.integers(n_groups, size=n_items), []
    for user in range(n_users):
        own = popular * np.where(group == user % n_groups, 1, 0)
        weights = share * own / own.sum() + (1 - share) * popular / popular.sum()
        n = min(max(2, rng.poisson(per_user)), int((weights > 0).sum()) - 1)
        rows += [(user, item) for item in rng.choice(n_items, n, replace=False, p=weights)]
    return pd.DataFrame(rows, columns=["user", "item"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Which model for which data.")
    parser.add_argument("what", choices=["ratings", "choices"])
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join((*REAL, *MADE, *TASTES))}")
    asked = parser.parse_args()
    choices = asked.what == "choices"
    every = [*REAL, *(name for name in MADE if not choices or name not in TOO_MANY_USERS), *(TASTES if choices else ())]
    for name in asked.sets or every:
        print(f"\n## {name}\n")
        options: dict[str, Any] = {"device": "cpu"}
        if name in TASTES:
            ratings = tastes(*TASTES[name])
        elif name in REAL:
            made = movielens(name)
            ratings, options["items"] = made.ratings, made.items
        else:
            ratings = synthetic(**MADE[name]).ratings
        if choices:
            options |= {"implicit": True, "split": per_user_split(0.25, 0)}
            if "rating" in ratings:
                options["threshold"] = 3 if ratings["rating"].max() > 4.5 else 2.5
            print(compare_models(ratings, RANKERS, **options), flush=True)
        else:
            real = name in REAL
            if real:
                options["item_features"] = [name for name in ("genres", "year") if name in options["items"]]
            print(compare_models(ratings, [*RATERS, *(["hybrid"] if real else [])], **options), flush=True)


if __name__ == "__main__":
    main()
