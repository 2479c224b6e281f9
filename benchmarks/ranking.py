"""Top-10 recommendations of our models and of `implicit` on MovieLens-100K, judged by the same code in one run.

Run: python benchmarks/ranking.py [--seeds 0 1 2] [--models ease als] [--no-peers] [--out FILE]
     python benchmarks/ranking.py --validate als [--seeds 0]

A quarter of every user's ratings, at random, is the test; all items but those of the user's training part are ranked,
and every test item is relevant. Settings were chosen with --validate, which splits the training part in the same way
once more and never looks at the test; the average of three models by `draws()` of the training part, as choosing.py
makes them. Figures are means over the seeds, which decide split and model. Seconds are of the processor, for training
alone, on one thread. Peers run where `make peers` has made their environment."""

import argparse
import copy
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from collab import (
    ALS,
    BPR,
    CollabDataBunch,
    CollabLearner,
    CollabModel,
    EmbeddingDotBias,
    Popularity,
    SoftmaxNet,
    average_learners,
    collab_learner,
    evaluate,
    movielens,
    per_user_split,
    synthetic,
)
from collab.data.split import apply_split

ROOT = Path(__file__).parents[1]
PEER = ROOT / ".peers" / "bin" / "python"
METRICS = ("ndcg", "precision", "recall", "map")
THREE = "als, infinite_ae and two_tower"


def als(data: CollabDataBunch, seed: int) -> CollabLearner:
    return fitted(collab_learner(data, "als", n_factors=64, seed=seed))


def als_small(data: CollabDataBunch, seed: int) -> CollabLearner:
    return fitted(collab_learner(data, "als", n_factors=32, seed=seed))


def ease(data: CollabDataBunch, seed: int) -> CollabLearner:
    return fitted(collab_learner(data, "ease", seed=seed))


def infinite_ae(data: CollabDataBunch, seed: int) -> CollabLearner:
    return fitted(collab_learner(data, "infinite_ae", seed=seed))


def together(data: CollabDataBunch, seed: int) -> CollabLearner:
    return average_learners([als(data, seed), infinite_ae(data, seed)])


def three(data: CollabDataBunch, seed: int) -> CollabLearner:
    return average_learners([als(data, seed), infinite_ae(data, seed), two_tower(data, seed)])


def pairwise(data: CollabDataBunch, seed: int) -> CollabLearner:
    model = EmbeddingDotBias(100, data.n_users, data.n_items, init_std=0.1)
    return fitted(collab_learner(data, model, loss_func=BPR(n_negatives=4), lr=8e-3, wd=1.0, metrics=[],
                                 seed=seed), 14)


def softmax(data: CollabDataBunch, seed: int) -> CollabLearner:
    rebatched = copy.copy(data)
    rebatched.train = data.train.with_(bs=16_384)
    model = SoftmaxNet(200, data.n_users, data.n_items, data.train.tensors[:2], hidden=(), leave_out=False, drop=0.5,
                       bag_power=0.5, tied=False)
    return fitted(collab_learner(rebatched, model, lr=3e-3, wd=0.1, metrics=[], seed=seed), 20)


def two_tower(data: CollabDataBunch, seed: int) -> CollabLearner:
    return fitted(collab_learner(data, "two_tower", metrics=[], seed=seed), 5)


def lightgcn(data: CollabDataBunch, seed: int) -> CollabLearner:
    rebatched = copy.copy(data)
    rebatched.train = data.train.with_(bs=2048)
    return fitted(collab_learner(rebatched, "lightgcn", n_factors=64, metrics=[], seed=seed), 20)


OURS = {"ease": ease, "als, 32 factors": als_small, "als, 64 factors": als, "infinite_ae": infinite_ae,
        "als, 64 factors, with infinite_ae": together, THREE: three, "bpr": pairwise, "softmax": softmax,
        "two_tower, ids alone": two_tower, "lightgcn": lightgcn}


def fitted(learn: CollabLearner, n_epochs: int | None = None, **options: Any) -> CollabLearner:
    """A learner after its fit, measured by nothing while it trains."""
    valid, learn.data.valid = learn.data.valid, None
    try:
        with learn.no_logging():
            if n_epochs is None:
                learn.fit()             # a solved model knows its sweeps
            else:
                learn.fit_one_cycle(n_epochs, **options)
    finally:
        learn.data.valid = valid
    return learn


def sweep_seconds(data: CollabDataBunch, n_factors: int, n_sweeps: int) -> float:
    """Seconds of the processor of one of our ALS sweeps, its share of `prepare` included, at the settings that
    `implicit` has in `peers`."""
    users, items, ratings = data.train.tensors
    start = time.process_time()
    model = ALS(n_factors, data.n_users, data.n_items, alpha=5.0, reg=30.0, reg_power=0.0)
    prepared = model.prepare(users, items, torch.ones_like(ratings))
    for _ in range(n_sweeps):
        model.sweep(prepared)
    return (time.process_time() - start) / n_sweeps


class Given(CollabModel):
    """Recommendations that were read from a file, as a model: the first of a user's list has the highest score."""

    ranks = True

    def __init__(self, recs: pd.DataFrame, data: CollabDataBunch):
        super().__init__()
        scores = torch.full((data.n_users, data.n_items), -1e6)
        scores[data.users.encode(recs["user"]), data.items.encode(recs["item"])] = -torch.tensor(
            recs["rank"].to_numpy(), dtype=torch.float32)
        self.register_buffer("scores_of_all", scores)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return self.get_buffer("scores_of_all")[users][:, items]


class Theirs:
    """What `evaluate` needs of somebody else's recommendations."""

    def __init__(self, recs: pd.DataFrame, data: CollabDataBunch):
        self.data, self.model = data, Given(recs, data)

    def untouched(self) -> AbstractContextManager[None]:
        return nullcontext()


def peers(data: CollabDataBunch, train: pd.DataFrame, test: pd.DataFrame, seed: int,
          metrics: Sequence[str] = METRICS, **judged: Any) -> list[dict[str, Any]]:
    """What `implicit` recommends, judged like ours, by `evaluate` and its options."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "train.csv", Path(folder) / "test.csv"]
        for file, table in zip(files, (train, test)):
            table[["user", "item", "rating"]].to_csv(file, index=False)
        for model in ("als", "bpr"):
            out = Path(folder) / f"{model}.csv"
            run = subprocess.run([PEER, ROOT / "benchmarks/peers/ranking.py", *files, "--model", model, "--seed",
                                  str(seed), "--out", out, "--json"], capture_output=True, text=True, check=True)
            got = json.loads(run.stdout.splitlines()[-1])
            result = evaluate(Theirs(pd.read_csv(out), data), metrics=metrics, baseline=False, **judged)
            rows.append({"model": f"implicit {model}", **result.summary, "seconds": got["cpu_seconds"]})
            if model == "als":
                n_factors, n_sweeps = (got["settings"][name] for name in ("factors", "iterations"))
                ours, theirs = sweep_seconds(data, n_factors, n_sweeps), got["cpu_seconds"] / n_sweeps
                print(f"an ALS sweep with {n_factors} factors: {1e3 * ours:.1f} ms, implicit's {1e3 * theirs:.1f} ms, "
                      f"ratio {ours / theirs:.2f}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=list(OURS), choices=list(OURS))
    parser.add_argument("--validate", choices=list(OURS))
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tiny = CollabDataBunch.from_df(synthetic(20, 20, 100).ratings, split=None, device="cpu")
    fitted(collab_learner(tiny, "als", n_factors=2))        # compiles kernels, or reads them
    ml, rows = movielens("100k"), list[dict[str, Any]]()
    for seed in args.seeds:
        ratings = ml.ratings
        if args.validate:
            ratings = ratings.iloc[apply_split(per_user_split(0.25, seed), ratings)[0]].reset_index(drop=True)
        split = per_user_split(0.25, seed + 1000 if args.validate else seed)
        data = CollabDataBunch.from_df(ratings, split=split, items=ml.items, users=ml.users, bs=1024, seed=seed,
                                       device="cpu")
        for name in [args.validate] if args.validate else args.models:
            torch.manual_seed(seed)         # for models that are built by hand
            start = time.process_time()
            learn = OURS[name](data, seed)
            seconds = time.process_time() - start
            result = evaluate(learn, metrics=METRICS, baseline=False)
            rows.append({"model": name, **result.summary, "seconds": seconds})
            print(rows[-1], flush=True)
        rows.append({"model": "popularity", **evaluate(Popularity(data), metrics=METRICS).summary, "seconds": 0.0})
        if PEER.exists() and not args.no_peers and not args.validate:
            rows += peers(data, *(ratings.iloc[part] for part in apply_split(split, ratings)), seed)
    made = pd.DataFrame(rows).groupby("model").mean().sort_values("ndcg", ascending=False).round(4).to_string()
    print(f"\n{made}")
    if args.out:
        args.out.write_text(made + "\n")


if __name__ == "__main__":
    main()
