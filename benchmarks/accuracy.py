"""Error of our models and of other libraries on MovieLens-100K's five canonical folds, in one run and one table.

Run: python benchmarks/accuracy.py [--folds u1 u2] [--models dot_bias svdpp] [--seed 0] [--no-peers] [--out FILE]
     python benchmarks/accuracy.py --validate svdpp [--lr 4e-3 --wd 0.5 --epochs 10 --bs 1024 ...]

A fold's test rows are looked at once, after training. Settings were chosen with --validate, which trains on u1's
training rows without a slice of them and prints the error on the slice, for two slices (rows 20,001-40,000 and
60,001-80,000 of u.data); u1's own test rows play no part in it. Those two slices are the test rows of u2 and u4, so
that of the five folds u1 is the one that no choice of settings has seen in any form. Seconds are of the processor, for
training alone, on one thread. Peers run where `make peers` has made their environment. "cold" is the error on the
ratings of a tenth of the items in u1's training rows, all of whose ratings were removed from training."""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from collab import CollabDataBunch, CollabLearner, average_learners, collab_learner, movielens, rows_split
from collab.data.split import CANONICAL, apply_split

ROOT = Path(__file__).parents[1]
PEER = ROOT / ".peers" / "bin" / "python"
PEERS = ("surprise_svd", "surprise_svd_tuned", "surprise_svdpp", "fastai_dot_bias", "fastai_dot_bias_shuffled")
SLICES = ((20_000, 40_000), (60_000, 80_000))

# name: the model's name for collab_learner, epochs, batch size, options; and how many seeds are averaged into one model
OURS: dict[str, tuple[str, int, int, dict[str, Any], int]] = {
    "dot_bias": ("dot_bias", 5, 64, {}, 1),
    "dot_bias, 8 seeds as one model": ("dot_bias", 5, 256, {"wd": 0.4}, 8),
    "net": ("net", 5, 64, {}, 1),
    "classifier": ("classifier", 5, 64, {}, 1),
    "svdpp": ("svdpp", 10, 1024, {"n_factors": 40}, 1),
    "hybrid": ("hybrid", 10, 1024, {"n_factors": 40}, 1),
    "hybrid, 4 seeds as one model": ("hybrid", 10, 1024, {"n_factors": 40}, 4),
    "bayes": ("bayes", 64, 1024, {}, 1),
}
TOGETHER = {"bayes with hybrid": ("bayes", "hybrid, 4 seeds as one model")}     # the mean of both


def bunch(ratings: pd.DataFrame, split: Any, bs: int, reads: bool) -> CollabDataBunch:
    """The data, with metadata for models that read these."""
    ml = movielens("100k")
    features = "auto" if reads else None
    return CollabDataBunch.from_df(ratings, split=split, items=ml.items, users=ml.users, bs=bs, seed=0, device="cpu",
                                   item_features=features, user_features=features)


def trained(name: str, ratings: pd.DataFrame, split: Any, seed: int, **changed: Any) -> tuple[CollabLearner, float]:
    """A learner of OURS or TOGETHER fitted to the training part of the split, and the seconds that took."""
    if name in TOGETHER:
        members, seconds = zip(*(trained(one, ratings, split, seed) for one in TOGETHER[name]))
        return average_learners(members), sum(seconds)
    model, epochs, bs, options, n = OURS[name]
    epochs, bs = changed.pop("epochs", epochs), changed.pop("bs", bs)
    data = bunch(ratings, split, bs, model in ("hybrid", "bayes"))
    start, learners = time.process_time(), []
    for k in range(n):
        learn = collab_learner(data, model, seed=seed + k, **(options | changed))
        with learn.no_logging(), without_validation(learn):
            learn.fit(epochs) if model == "bayes" else learn.fit_one_cycle(epochs)
        learners.append(learn)
    return learners[0] if n == 1 else average_learners(learners, merge=True), time.process_time() - start


class without_validation:
    """Nothing is measured while a learner trains: the seconds are of training alone, and no test row is looked at."""

    def __init__(self, learn: CollabLearner):
        self.data, self.valid = learn.data, learn.data.valid

    def __enter__(self) -> None:
        self.data.valid = None

    def __exit__(self, *_: object) -> None:
        self.data.valid = self.valid


def cold_split(seed: int) -> Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]]:
    """All ratings of a tenth of the items of u1's training rows are held out."""
    def split(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        items = np.sort(table["item"].unique())
        cold = np.random.default_rng(seed).choice(items, len(items) // 10, replace=False)
        held = table["item"].isin(cold).to_numpy()
        return np.flatnonzero(~held), np.flatnonzero(held)
    return split


def peers(ratings: pd.DataFrame, fold: str, seed: int) -> list[dict[str, Any]]:
    """What other libraries reach on the fold, one process each."""
    train, test = apply_split(fold, ratings)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "train.csv", Path(folder) / "test.csv"]
        for file, rows in zip(files, (train, test)):
            ratings.iloc[rows][["user", "item", "rating"]].to_csv(file, index=False)
        found = []
        for model in PEERS:
            run = subprocess.run([PEER, ROOT / "benchmarks/peers/ratings.py", *files, "--model", model, "--seed",
                                  str(seed), "--json"], capture_output=True, text=True, check=True)
            got = json.loads(run.stdout.splitlines()[-1])
            found.append({"model": model, "fold": fold, "rmse": got["rmse"], "mae": got["mae"],
                          "seconds": got["cpu_seconds"]})
            print(found[-1], flush=True)
    return found


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A row a model: RMSE of every fold, means, and seconds a fold."""
    frame = pd.DataFrame(rows)
    wide = frame.pivot(index="model", columns="fold", values="rmse")
    means = frame.groupby("model")[["rmse", "mae", "seconds"]].mean()
    return wide.join(means.rename(columns={"rmse": "mean rmse", "mae": "mean mae"})).sort_values("mean rmse")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folds", nargs="+", default=list(CANONICAL), choices=list(CANONICAL))
    parser.add_argument("--models", nargs="+", default=[*OURS, *TOGETHER], choices=[*OURS, *TOGETHER])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--validate", choices=list(OURS))
    for option, kind in (("lr", float), ("wd", float), ("epochs", int), ("bs", int), ("n_factors", int)):
        parser.add_argument(f"--{option}", type=kind)
    args = parser.parse_args()
    torch.set_num_threads(1)
    ratings = movielens("100k").ratings

    if args.validate:
        changed = {k: v for k in ("lr", "wd", "epochs", "bs", "n_factors") if (v := getattr(args, k)) is not None}
        base, found = ratings.iloc[20_000:].reset_index(drop=True), []
        for low, high in SLICES:
            held = np.arange(low, high) - 20_000
            learn, _ = trained(args.validate, base, rows_split(held), args.seed, **changed)
            found.append(learn.validate()["rmse"])
        print(f"{args.validate} {changed}: {np.mean(found):.4f} {np.round(found, 4)}")
        return

    rows: list[dict[str, Any]] = []
    for fold in args.folds:
        for name in args.models:
            learn, seconds = trained(name, ratings, fold, args.seed)
            scores = learn.validate()
            rows.append({"model": name, "fold": fold, **scores, "seconds": seconds})
            print(rows[-1], flush=True)
        if PEER.exists() and not args.no_peers:
            rows += peers(ratings, fold, args.seed)
    made = table(rows).round(4).to_string()
    cold = []
    for name in [m for m in ("dot_bias", "svdpp", "hybrid") if m in args.models]:
        learn, _ = trained(name, ratings.iloc[20_000:].reset_index(drop=True), cold_split(args.seed), args.seed)
        cold.append({"model": name, "rmse on cold items": learn.validate()["rmse"]})
    made += "\n\n" + pd.DataFrame(cold).round(4).to_string(index=False)
    settings = "\n".join(f"{name}: model {model}, {epochs} epochs, bs {bs}, {options or 'recipe'}, {n} seed(s) from "
                         f"{args.seed}" for name, (model, epochs, bs, options, n) in OURS.items()
                         if name in args.models)
    print(f"\n{made}\n\nOur settings\n{settings}")
    if args.out:
        args.out.write_text(f"{made}\n\nOur settings\n{settings}\n")


if __name__ == "__main__":
    main()
