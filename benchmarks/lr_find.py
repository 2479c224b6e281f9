"""How far `lr_find` can be relied on: its suggestions over ten seeds, and what a fit at them is worth.

Run: python benchmarks/lr_find.py [--models dot net] [--bs 64 1024] [--seeds 10] [--out FILE]

For every model and batch size, each seed and each of two validation slices of MovieLens-100K: the "valley" that
`lr_find` suggests at its defaults to a new learner, the error after fit_one_cycle(5) with the recipe's learning rate,
what `lr_find` suggests then, and the error after fit_one_cycle(5) of another new learner with the first suggestion. The
slices are rows 20,001-40,000 and 60,001-80,000 of u.data, trained on the rest of u1's training rows; u1's test rows
are not touched. Errors are RMSE, and for bpr, which ranks, NDCG@10, where more is better. Seconds are of the processor,
on one thread. COLLAB_HOME may name a folder that holds ml-100k.zip."""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from collab import CollabDataBunch, CollabLearner, CollabWarning, collab_learner, movielens

SLICES = ((20_000, 40_000), (60_000, 80_000))
TEST = 20_000           # the first rows of u.data are u1's test part


def bunch(ratings: pd.DataFrame, held: tuple[int, int], bs: int, seed: int) -> CollabDataBunch:
    """The slice held out of u1's training rows."""
    rows = np.arange(TEST, len(ratings))
    inside = (rows >= held[0]) & (rows < held[1])
    return CollabDataBunch.from_df(ratings.iloc[TEST:].reset_index(drop=True), bs=bs, seed=seed, device="cpu",
                                   split=lambda _: (np.flatnonzero(~inside), np.flatnonzero(inside)))


def suggested(learn: CollabLearner) -> tuple[float | None, float]:
    """The valley, or None, and the seconds it took."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollabWarning)
        start = time.process_time()
        return learn.lr_find(suggest="valley", plot=False).valley, time.process_time() - start


def fitted(learn: CollabLearner, lr: float | None = None) -> tuple[float, float]:
    """The error, or NDCG@10, after a fit, and the seconds of an epoch of it, validation included."""
    start = time.process_time()
    with learn.no_logging():
        learn.fit_one_cycle(5, lr)
    row = learn.recorder.rows[-1]
    return row["rmse"] if "rmse" in row else row["ndcg@10"], (time.process_time() - start) / 5


def measure(model: str, bs: int, held: tuple[int, int], seed: int, ratings: pd.DataFrame) -> dict[str, Any]:
    data = bunch(ratings, held, bs, seed)
    learn = collab_learner(data, model, seed=seed)
    fresh, seconds = suggested(learn)
    recipe, epoch = fitted(learn)
    after, _ = suggested(learn)
    other = None if fresh is None else fitted(collab_learner(data, model, seed=seed), fresh)[0]
    return {"model": model, "bs": bs, "slice": held[0], "seed": seed, "lr": learn.lr, "fresh": fresh, "after": after,
            "recipe": recipe, "suggested": other, "seconds": seconds, "epoch": epoch}


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A row for every model and batch size. "worst" is the largest loss against the recipe, in percent; where it is
    negative, every fit was better."""
    found = []
    for (model, bs), some in pd.DataFrame(rows).groupby(["model", "bs"], sort=False):
        loss = 100 * (some["suggested"] / some["recipe"] - 1) * (-1 if model == "bpr" else 1)
        found.append({"model": model, "bs": bs, "recipe lr": f"{some['lr'].iloc[0]:.2g}",
                      "new learner": spread(some["fresh"]), "after a fit": spread(some["after"]),
                      "recipe": f"{some['recipe'].mean():.4f}", "suggested": f"{some['suggested'].mean():.4f}",
                      "worst": f"{loss.max():+.1f} %",
                      "seconds": f"{some['seconds'].mean():.2f}", "an epoch": f"{some['epoch'].mean():.2f}"})
    return pd.DataFrame(found)


def spread(suggestions: pd.Series) -> str:
    """From the least to the largest, their ratio, and how many were None."""
    given = suggestions.dropna().astype(float)
    none = len(suggestions) - len(given)
    if given.empty:
        return "None"
    return f"{given.min():.2g} to {given.max():.2g} (x {given.max() / given.min():.1f})" + \
        (f", None {none} of {len(suggestions)}" if none else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["dot", "dot_bias", "net", "bpr"])
    parser.add_argument("--bs", nargs="+", type=int, default=[64, 1024])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write every measurement to this file, a JSON object a line")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ratings, rows = movielens("100k").ratings, []
    for model in args.models:
        for bs in args.bs:
            rows += [measure(model, bs, held, seed, ratings) for held in SLICES for seed in range(args.seeds)]
            print(table(rows).tail(1).to_string(index=False, header=len(rows) == 2 * args.seeds), flush=True)
    if args.out:
        args.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print()
    print(table(rows).to_string(index=False))


if __name__ == "__main__":
    main()
