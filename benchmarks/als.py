"""ALS against `implicit`'s on synthetic ratings of several sizes, in one run: processor seconds on one thread.

Run: python benchmarks/als.py [--sizes 100k 1m 5m] [--factors 32 64 128] [--repeats 3] [--explicit] [--peer PYTHON]
     python benchmarks/als.py --bayes [--sizes 1m] [--factors 10 32] [--repeats 3]

Both take 15 sweeps of 3 steps of conjugate gradients over the same choices, with alpha 5 and reg 30. "sweep" is one
over items and users, with its share of arranging the rows; "fit" is all of `learn.fit`, the objective after every
sweep included. `implicit` runs where `make peers` has made its environment; its fit computes no objective. The kernels
are compiled before the clock starts.

With --bayes a sweep of `BayesianFM` (ids, histories, a noise of each row) beside an exact one of explicit ALS and one
of 3 steps, without arranging the rows; each figure is the median of as many sweeps as there are repeats."""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from collab import ALS, CollabDataBunch, collab_learner, synthetic
from collab.compiled import not_compiled
from collab.models.bayesian import QUIET, BayesianFM

ROOT = Path(__file__).parents[1]
PEER = ROOT / ".peers" / "bin" / "python"
SIZES = {"100k": (1000, 1700, 100_000), "1m": (6000, 3700, 1_000_000), "5m": (35_000, 10_000, 5_000_000),
         "1m, short": (80_000, 20_000, 1_000_000)}       # users, items, ratings
N_SWEEPS = 15


def sweep_seconds(data: CollabDataBunch, n_factors: int, implicit: bool) -> float:
    users, items, ratings = data.train.tensors
    settings = {"alpha": 5.0, "reg": 30.0, "reg_power": 0.0} if implicit else {}
    start = time.process_time()
    model = ALS(n_factors, data.n_users, data.n_items, implicit=implicit, **settings)
    prepared = model.prepare(users, items, torch.ones_like(ratings) if implicit else ratings)
    for _ in range(N_SWEEPS):
        model.sweep(prepared)
    return (time.process_time() - start) / N_SWEEPS


def fit_seconds(data: CollabDataBunch, n_factors: int, implicit: bool) -> float:
    learn = collab_learner(data, "als" if implicit else "als_explicit", n_factors=n_factors, seed=0)
    start = time.process_time()
    with learn.no_logging():
        learn.fit(N_SWEEPS)
    return time.process_time() - start


def beside_bayes(data: CollabDataBunch, n_factors: int, repeats: int) -> dict[str, float]:
    """Seconds of a sweep of BayesianFM, and of exact and iterative ones of explicit ALS, taken in turns."""
    size = n_factors, data.n_users, data.n_items
    models = {"bayes": BayesianFM(*size, per_epoch=1), "exact": ALS(*size, implicit=False, cg_steps=0),
              "3 steps": ALS(*size, implicit=False)}
    prepared = {name: model.prepare(*data.train.tensors) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for k in range(QUIET + 2 + repeats):
        for name, model in models.items():
            start = time.process_time()
            model.sweep(prepared[name])
            if k >= QUIET + 2:          # rows have a noise of their own by then
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(own) for name, own in seconds.items()}


def compare_bayes(sizes: list[str], factors: list[int], repeats: int) -> None:
    rows = []
    for size in sizes:
        data = CollabDataBunch.from_df(synthetic(*SIZES[size]).ratings, valid_pct=0, device="cpu")
        for n_factors in factors:
            found = beside_bayes(data, n_factors, repeats)
            row = {"ratings": size, "factors": n_factors, **{f"{name} ms": 1e3 * own for name, own in found.items()}}
            rows.append(row | {"bayes over exact": found["bayes"] / found["exact"]})
            print(rows[-1], flush=True)
    print(f"\n{pd.DataFrame(rows).round(2).to_string(index=False)}")


def peer_seconds(python: Path, files: list[Path], n_factors: int) -> float:
    """Seconds of a whole fit of `implicit`."""
    run = subprocess.run([python, ROOT / "benchmarks/peers/ranking.py", *files, "--model", "als", "--factors",
                          str(n_factors), "--iterations", str(N_SWEEPS), "--out", files[1].with_name("recs.csv"),
                          "--json"], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])["cpu_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["100k", "1m", "5m"], choices=list(SIZES))
    parser.add_argument("--factors", nargs="+", type=int, default=[32, 64, 128])
    parser.add_argument("--repeats", type=int, default=3, help="medians are taken")
    parser.add_argument("--explicit", action="store_true", help="ours on ratings, against the same of implicit")
    parser.add_argument("--bayes", action="store_true", help="sweeps of BayesianFM beside those of explicit ALS")
    parser.add_argument("--peer", type=Path, default=PEER, help="a Python that has implicit")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if reason := not_compiled():
        print(f"without kernels: {reason}")
    if args.bayes:
        compare_bayes(args.sizes, args.factors, args.repeats)
        return
    tiny = CollabDataBunch.from_df(synthetic(20, 20, 100).ratings, split=None, device="cpu")
    fit_seconds(tiny, 2, implicit=not args.explicit)
    rows = []
    for size in args.sizes:
        ratings = synthetic(*SIZES[size]).ratings
        data = CollabDataBunch.from_df(ratings, split=None, device="cpu")
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / "train.csv", Path(folder) / "test.csv"]
            if args.peer.exists():
                for file, table in zip(files, (ratings, ratings[:1])):
                    table[["user", "item", "rating"]].to_csv(file, index=False)
            for n_factors in args.factors:
                seconds: dict[str, list[float]] = {"sweep": [], "fit": [], "implicit": []}
                for _ in range(args.repeats):       # side by side, as the machine's speed changes
                    seconds["sweep"].append(sweep_seconds(data, n_factors, not args.explicit))
                    seconds["fit"].append(fit_seconds(data, n_factors, not args.explicit))
                    if args.peer.exists():
                        seconds["implicit"].append(peer_seconds(args.peer, files, n_factors))
                sweep, fit = (statistics.median(seconds[name]) for name in ("sweep", "fit"))
                row = {"ratings": size, "factors": n_factors, "sweep ms": 1e3 * sweep, "fit s": fit}
                if seconds["implicit"]:
                    theirs = statistics.median(seconds["implicit"])
                    row |= {"implicit's sweep ms": 1e3 * theirs / N_SWEEPS, "implicit's fit s": theirs,
                            "sweep ratio": sweep * N_SWEEPS / theirs, "fit ratio": fit / theirs}
                rows.append(row)
                print(row, flush=True)
    print(f"\n{pd.DataFrame(rows).round(2).to_string(index=False)}")


if __name__ == "__main__":
    main()
