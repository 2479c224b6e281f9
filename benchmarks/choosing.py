"""Which validation puts models that rank in the order that the test has? On MovieLens-100K, by the split of ranking.py.

Run: python benchmarks/choosing.py [--seeds 0 1 2] [--out FILE]

A quarter of every user's ratings, at random, is the test. Fifteen models and settings are put in order by it, and four
ways of validation by the other ratings alone: one part of a quarter, or `draws()`, four parts of 8 %; in each, what a
user has in the test part is ranked, and counts as a miss, or is left out. Printed are NDCG@10, rank correlations with
the order of the test for each seed, which decides splits and models, and what is lost on the test by taking the model
that comes first. Seconds are of the processor, for training alone, on one thread."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.ranking import OURS, THREE, fitted
from collab import (
    CollabDataBunch,
    CollabLearner,
    Comparison,
    average_learners,
    collab_learner,
    compare_models,
    draws,
    movielens,
    per_user_split,
)

Make = Callable[[CollabDataBunch], CollabLearner]


def solved(model: str, **options: Any) -> Callable[[CollabDataBunch, int], CollabLearner]:
    return lambda data, seed: fitted(collab_learner(data, model, seed=seed, **options))


def three(data: CollabDataBunch, seed: int) -> CollabLearner:
    return average_learners([OURS[name](data, seed) for name in ("als, 64 factors", "infinite_ae", "ease")])


MODELS = {name: make for name, make in OURS.items() if name not in ("lightgcn", THREE)} | {
    "als, infinite_ae and ease": three,
    "als, alpha 1": solved("als", n_factors=64, alpha=1.0), "als, alpha 5": solved("als", n_factors=64, alpha=5.0),
    "ease, ridge 100": solved("ease", reg=100.0), "ease, ridge 1000": solved("ease", reg=1000.0),
    "infinite_ae, ridge 10": solved("infinite_ae", reg=10.0)}
WAYS = {"a quarter": (False, True), "a quarter, test left out": (True, True), "draws": (False, False),
        "draws, test left out": (True, False)}


def seeded(make: Callable[[CollabDataBunch, int], CollabLearner], seed: int, data: CollabDataBunch) -> CollabLearner:
    torch.manual_seed(seed)         # for models that are built by hand
    return make(data, seed)


def comparisons(seed: int) -> dict[str, Comparison]:
    """Of all models: by the test, and by each way of validation."""
    ml = movielens("100k")
    models: dict[str, Make] = {name: partial(seeded, make, seed) for name, make in MODELS.items()}
    options: dict[str, Any] = {"items": ml.items, "users": ml.users, "bs": 1024, "seed": seed, "device": "cpu"}
    test = per_user_split(0.25, seed)
    data = CollabDataBunch.from_df(ml.ratings, test=test, valid_pct=0, **options)
    rest = ml.ratings.iloc[test(ml.ratings)[0]].reset_index(drop=True)
    found = {"test": compare_models(data, models, metrics="ndcg", part="test")}
    for way, (knows, quarter) in WAYS.items():
        folds = [per_user_split(0.25, seed + 1000)] if quarter else draws(seed=seed)
        found[way] = (compare_models(data, models, metrics="ndcg", folds=folds) if knows else
                      compare_models(rest, models, metrics="ndcg", folds=folds, **options))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    figures, orders = [], []
    for seed in args.seeds:
        tables = {way: found.table.set_index("model") for way, found in comparisons(seed).items()}
        ndcg = pd.DataFrame({way: table["ndcg@10"] for way, table in tables.items()})
        figures.append(ndcg.assign(seconds=tables["test"]["seconds"]))
        for way in WAYS:
            first = ndcg[way].idxmax()
            orders.append({"seed": seed, "way": way, "first": first,
                           "spearman": ndcg["test"].corr(ndcg[way], method="spearman"),
                           "kendall": ndcg["test"].corr(ndcg[way], method="kendall"),
                           "lost": ndcg["test"].max() - ndcg["test"][first],
                           "seconds": sum(tables[way]["seconds"]) * (1 if WAYS[way][1] else 4)})
            print(orders[-1], flush=True)
    mean = pd.concat(figures).groupby(level=0).mean().sort_values("test", ascending=False)
    order = pd.DataFrame(orders)
    means = order.groupby("way")[["spearman", "kendall", "lost", "seconds"]].mean()
    made = f"{mean.round(4).to_string()}\n\n{order.round(4).to_string(index=False)}\n\n{means.round(4).to_string()}"
    print(f"\n{made}")
    if args.out:
        args.out.write_text(made + "\n")


if __name__ == "__main__":
    main()
