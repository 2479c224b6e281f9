"""Error of our models and of other libraries on MovieLens-100K's five canonical folds, in one run and one table.

Run: python benchmarks/accuracy.py [--folds u1 u2] [--models dot_bias svdpp] [--seed 0] [--no-peers] [--out FILE]
     python benchmarks/accuracy.py --size latest-small [--folds 0 1 2]
     python benchmarks/accuracy.py --filmtrust RATINGS [--folds 0 1 2]
     python benchmarks/accuracy.py --validate svdpp [--lr 4e-3 --wd 0.5 --epochs 10 --bs 1024 ...]

A fold's test rows are looked at once, after training. Settings were chosen with --validate, which trains on u1's
training rows without a slice of them and prints the error on the slice, for two slices (rows 20,001-40,000 and
60,001-80,000 of u.data); u1's own test rows play no part in it. Those two slices are the test rows of u2 and u4, so
that of the five folds u1 is the one that no choice of settings has seen in any form. Of ml-latest-small, and of
FilmTrust (see tuning.py), a fold is a fifth of the rows, held out at random by the seed of that number, which is also
that of the training.

Seconds are of the processor, for training alone, on one thread. The interval beside a mean is that of 95 % over folds,
by Student's t. Peers run where `make peers` has made their environment. "cold" is the error on the ratings of a tenth
of the items in u1's training rows, all of whose ratings were removed from training."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.tuning import ratings_of
from collab import CollabDataBunch, CollabLearner, RatingSet, average_learners, collab_learner, movielens, rows_split
from collab.data.split import CANONICAL, apply_split

ROOT = Path(__file__).parents[1]
PEER = ROOT / ".peers" / "bin" / "python"
PEERS = ("myfm_ordered", "myfm", "surprise_svd", "surprise_svd_tuned", "surprise_svdpp", "fastai_dot_bias",
         "fastai_dot_bias_shuffled")
SLICES = ((20_000, 40_000), (60_000, 80_000))

# name: the model's name for collab_learner, epochs, batch size, options; and how many seeds are averaged into one model
OURS: dict[str, tuple[str, int, int, dict[str, Any], int]] = {
    "dot_bias": ("dot_bias", 5, 64, {}, 1),
    "dot_bias, 8 seeds as one model": ("dot_bias", 5, 256, {"wd": 0.4}, 8),
    "dot": ("dot", 5, 64, {}, 1),
    "als_explicit": ("als_explicit", 15, 64, {}, 1),
    "net": ("net", 5, 64, {}, 1),
    "classifier": ("classifier", 5, 64, {}, 1),
    "svdpp": ("svdpp", 10, 1024, {"n_factors": 40}, 1),
    "hybrid": ("hybrid", 10, 1024, {"n_factors": 40}, 1),
    "hybrid, 4 seeds as one model": ("hybrid", 10, 1024, {"n_factors": 40}, 4),
    "bayes": ("bayes", 64, 1024, {}, 1),
    "bayes, ordinal": ("bayes", 64, 1024, {"likelihood": "ordinal"}, 1),
}
TOGETHER = {        # the mean of both
    "bayes with hybrid": ("bayes", "hybrid, 4 seeds as one model"),
    "bayes, ordinal, with hybrid": ("bayes, ordinal", "hybrid, 4 seeds as one model")}


def set_of(size: str, filmtrust: Path | None) -> RatingSet:
    """The ratings, and what is known of items and users."""
    if filmtrust is None:
        return movielens(size)
    return RatingSet(ratings_of("filmtrust", filmtrust), pd.DataFrame(), pd.DataFrame(), "FilmTrust", "")


def bunch(ml: RatingSet, ratings: pd.DataFrame, split: Any, bs: int, reads: bool) -> CollabDataBunch:
    """The data, with metadata for models that read these."""
    features = "auto" if reads else None
    of_users = {} if ml.users is None or ml.users.shape[1] < 2 else {"users": ml.users, "user_features": features}
    of_items = {} if not len(ml.items) else {"items": ml.items, "item_features": features}
    return CollabDataBunch.from_df(ratings, split=split, bs=bs, seed=0, device="cpu", **of_items, **of_users)


def split_of(ratings: pd.DataFrame, fold: str) -> Any:
    """A canonical fold by its name, or a fifth of the rows at random by its seed."""
    if fold in CANONICAL:
        return fold
    return rows_split(np.random.default_rng(int(fold)).permutation(len(ratings))[:len(ratings) // 5])


def trained(name: str, ml: RatingSet, ratings: pd.DataFrame, split: Any, seed: int,
            **changed: Any) -> tuple[CollabLearner, float]:
    """A learner of OURS fitted to the training part of the split, and the seconds that took."""
    model, epochs, bs, options, n = OURS[name]
    epochs, bs = changed.pop("epochs", epochs), changed.pop("bs", bs)
    data = bunch(ml, ratings, split, bs, model in ("hybrid", "bayes"))
    start, learners = time.process_time(), []
    for k in range(n):
        learn = collab_learner(data, model, seed=seed + k, **(options | changed))
        with learn.no_logging(), without_validation(learn):
            learn.fit(epochs) if learn.collab_model.solved else learn.fit_one_cycle(epochs)
        learners.append(learn)
    return learners[0] if n == 1 else average_learners(learners, merge=True), time.process_time() - start


def _together(members: list[tuple[CollabLearner, float]]) -> tuple[CollabLearner, float]:
    """The mean of learners, and the seconds that they took."""
    learners, seconds = zip(*members)
    return average_learners(learners), sum(seconds)


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


def peers(ml: RatingSet, fold: str, seed: int) -> list[dict[str, Any]]:
    """What other libraries reach on the fold, one process each."""
    ratings = ml.ratings
    train, test = apply_split(split_of(ratings, fold), ratings)
    scale = f"{ratings['rating'].min():g}", f"{ratings['rating'].max():g}"
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "train.csv", Path(folder) / "test.csv"]
        for file, rows in zip(files, (train, test)):
            ratings.iloc[rows][["user", "item", "rating"]].to_csv(file, index=False)
        write_features(ml, fold, Path(folder))
        found = []
        for model in PEERS:
            reads = ["--features", folder] if model.startswith("myfm") else []
            run = subprocess.run([PEER, "-W", "ignore", ROOT / "benchmarks/peers/ratings.py", *files, "--model", model,
                                  "--seed", str(seed), "--scale", *scale, "--json", *reads], capture_output=True,
                                 text=True, check=True)
            got = json.loads(run.stdout.splitlines()[-1])
            found.append({"model": model, "fold": fold, "rmse": got["rmse"], "mae": got["mae"],
                          "seconds": got["cpu_seconds"]})
            print(found[-1], flush=True)
    return found


def write_features(ml: RatingSet, fold: str, folder: Path) -> None:
    """The metadata that our models read, in files for myFM."""
    data = bunch(ml, ml.ratings, split_of(ml.ratings, fold), 64, True)
    for side, vocab, features in (("user", data.users, data.user_features), ("item", data.items, data.item_features)):
        if features is None:
            continue
        row, place = features.weights.nonzero(as_tuple=True)
        feature = features.codes[row, place]
        pd.DataFrame({"id": vocab.ids[row.numpy()], "feature": feature, "weight": features.weights[row, place],
                      "column": features.column[feature]}).to_csv(folder / f"{side}.csv", index=False)


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A row a model: RMSE of every fold, their mean and half of its interval of 95 %, and seconds a fold."""
    frame = pd.DataFrame(rows)
    wide = frame.pivot(index="model", columns="fold", values="rmse")
    n = wide.shape[1]
    half = wide.std(axis=1) * stats.t.ppf(0.975, n - 1) / n ** 0.5 if n > 1 else np.nan
    means = frame.groupby("model")[["rmse", "mae", "seconds"]].mean().assign(half=half)[["rmse", "half", "mae",
                                                                                        "seconds"]]
    return wide.join(means.rename(columns={"rmse": "mean rmse", "half": "+-", "mae": "mean mae"})).sort_values(
        "mean rmse")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--size", default="100k", choices=["100k", "latest-small"])
    which.add_argument("--filmtrust", type=Path)
    parser.add_argument("--folds", nargs="+")
    parser.add_argument("--models", nargs="+", choices=[*OURS, *TOGETHER])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--validate", choices=list(OURS))
    for option, kind in (("lr", float), ("wd", float), ("epochs", int), ("bs", int), ("n_factors", int)):
        parser.add_argument(f"--{option}", type=kind)
    args = parser.parse_args()
    torch.set_num_threads(1)
    ml = set_of(args.size, args.filmtrust)
    ratings, canonical = ml.ratings, args.size == "100k" and not args.filmtrust
    folds = args.folds or ([*CANONICAL] if canonical else ["0", "1", "2", "3", "4"])
    if not all(fold in CANONICAL if canonical else fold.isdigit() for fold in folds):
        parser.error("folds of 100k are u1 to u5, of other sets numbers")
    if args.validate and not canonical:
        parser.error("--validate is of MovieLens-100K")
    reading = [*(name for name in OURS if name.startswith("hybrid")), *TOGETHER]        # they need metadata
    args.models = args.models or [name for name in (*OURS, *TOGETHER) if len(ml.items) or name not in reading]

    if args.validate:
        changed = {k: v for k in ("lr", "wd", "epochs", "bs", "n_factors") if (v := getattr(args, k)) is not None}
        base, found = ratings.iloc[20_000:].reset_index(drop=True), []
        for low, high in SLICES:
            held = np.arange(low, high) - 20_000
            learn, _ = trained(args.validate, ml, base, rows_split(held), args.seed, **changed)
            found.append(learn.validate()["rmse"])
        print(f"{args.validate} {changed}: {np.mean(found):.4f} {np.round(found, 4)}")
        return

    rows: list[dict[str, Any]] = []
    needed = {*args.models, *(member for name in args.models for member in TOGETHER.get(name, ()))}
    for fold in folds:
        seed = args.seed if fold in CANONICAL else int(fold)
        split = split_of(ratings, fold)
        members = {name: trained(name, ml, ratings, split, seed) for name in OURS if name in needed}
        for name in args.models:
            learn, seconds = _together([members[one] for one in TOGETHER[name]]) if name in TOGETHER else members[name]
            scores = learn.validate()
            rows.append({"model": name, "fold": fold, **scores, "seconds": seconds})
            print(rows[-1], flush=True)
        if PEER.exists() and not args.no_peers:
            rows += peers(ml, fold, seed)
    made = table(rows).round(4).to_string()
    cold = []
    for name in [m for m in ("dot_bias", "svdpp", "hybrid", "bayes") if m in args.models and canonical]:
        learn, _ = trained(name, ml, ratings.iloc[20_000:].reset_index(drop=True), cold_split(args.seed), args.seed)
        cold.append({"model": name, "rmse on cold items": learn.validate()["rmse"]})
    if cold:
        made += "\n\n" + pd.DataFrame(cold).round(4).to_string(index=False)
    settings = "\n".join(f"{name}: model {model}, {epochs} epochs, bs {bs}, {options or 'recipe'}, {n} seed(s) from "
                         f"{args.seed}" for name, (model, epochs, bs, options, n) in OURS.items()
                         if name in args.models)
    print(f"\n{made}\n\nOur settings\n{settings}")
    if args.out:
        args.out.write_text(f"{made}\n\nOur settings\n{settings}\n")


if __name__ == "__main__":
    main()
