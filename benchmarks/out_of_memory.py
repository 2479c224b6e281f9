"""Ratings beyond memory: encoding Parquet files and training on them, beside the same ratings in memory.

    python benchmarks/out_of_memory.py [--n 50000000] [--folder /tmp/p50] [--bs 8192] [--model dot_bias]
    python benchmarks/out_of_memory.py --paired [--n 8000000]

The ratings are made once, part by part: long tails of users and items, 20 factors and noise, sorted by user as logs of
services often are. Each line is a process of its own: seconds of the processor, ratings a second, and the peak of its
resident memory (`ru_maxrss`). Of training, the median of five calls of `fit_one_cycle(1)` is shown, validation
included, after one that loads the kernels: "blocks" and "tiles" are ratings in files, "memory" the same by `from_df`,
in tiles, and "permuted" in a full permutation.

`--paired`: the RMSE after five epochs for four seeds: mapped in tiles, mapped in blocks, and in memory in the order of
a full permutation, and the differences from the last."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

PART = 1 << 20              # ratings made at a time
DRAWN = 1.2                 # pairs that are drawn for each that is left when pairs come once
USERS, ITEMS, FACTORS = 961_000, 60_000, 20         # at 50 million ratings; users in proportion to them
VALID_PCT, EPOCHS, SEEDS, REPEATS = 0.02, 5, (1, 2, 3, 4), 5


def make(folder: Path, n: int) -> None:
    """Write n ratings to Parquet files in a folder, unless they are there."""
    import pyarrow as pa
    from pyarrow.parquet import write_table
    done = folder / "done"
    if done.exists() and done.read_text() == str(n):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    n_users, n_items = max(1000, round(USERS * n / 50_000_000)), min(ITEMS, max(500, n // 800))
    weights = rng.pareto(1.3, n_users) + 0.3
    counts = rng.multinomial(round(n * DRAWN), weights / weights.sum())
    tail = np.cumsum(np.arange(1, n_items + 1) ** -0.8)
    places = rng.permutation(n_items)
    vectors, biases = rng.normal(0, 0.6, (n_items, FACTORS)).astype(np.float32), rng.normal(0, 0.4, n_items)
    ends, done_users, k = counts.cumsum(), 0, 0
    while done_users < n_users:
        last = max(done_users + 1, int(np.searchsorted(ends, (ends[done_users - 1] if done_users else 0) + PART)))
        last = min(last, n_users)
        own = np.repeat(np.arange(done_users, last), counts[done_users:last])
        factors = rng.normal(0, 0.6 / FACTORS ** 0.5, (last - done_users, FACTORS)).astype(np.float32)
        start = rng.normal(0, 0.4, last - done_users)
        items = places[np.searchsorted(tail, rng.random(len(own)) * tail[-1])]
        pairs = np.sort(own * n_items + items)          # each once
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
        own, items = pairs // n_items, pairs % n_items
        rating = 3.6 + start[own - done_users] + biases[items] + rng.normal(0, 0.8, len(own))
        for first in range(0, len(own), PART):
            some = slice(first, first + PART)
            rating[some] += np.einsum("ij,ij->i", factors[own[some] - done_users], vectors[items[some]])
        table = pa.table({"user": own + 1, "item": items + 1, "rating": (rating * 2).round().clip(1, 10) / 2})
        write_table(table, folder / f"part-{k:04}.parquet", row_group_size=PART // 2)
        done_users, k = last, k + 1
    done.write_text(str(n))


def main() -> None:
    args = arguments()
    if args.task:
        print(json.dumps(TASKS[args.task](args)))
        return
    folder = Path(args.folder) / f"{args.n}"
    make(folder, args.n)
    if args.paired:
        paired(args)
        return
    print(f"batches of {args.bs:,}, {args.model}")
    print(f"{'':12}{'ratings':>12}{'CPU s':>9}{'ratings/CPU s':>16}{'peak MiB':>10}")
    rates = {}
    for name, (task, order) in {"encode": ("encode", "plain"), "blocks": ("mapped", "plain"),
                                "memory": ("memory", "tiles"), "permuted": ("memory", "plain"),
                                "encode tiles": ("encode", "tiles"), "tiles": ("mapped", "tiles")}.items():
        if args.only and name not in args.only:
            continue
        found = run(args, task, order)
        rates[name] = found["n"] / found["cpu"]
        print(f"{name:12}{found['n']:12,}{found['cpu']:9.1f}{rates[name]:16,.0f}{found['peak']:10,.0f}"
              f"   {json.dumps(found['more'])}", flush=True)


def paired(args: argparse.Namespace) -> None:
    differences = []
    for seed in SEEDS:
        args.seed = seed
        tiles, blocks, whole = (run(args, *how)["more"]["rmse"] for how in (
            ("mapped", "tiles"), ("mapped", "plain"), ("memory", "plain")))
        differences.append((tiles - whole, blocks - whole))
        print(f"seed {seed}: full permutation {whole:.5f}, tiles {tiles - whole:+.5f}, blocks {blocks - whole:+.5f}",
              flush=True)
    for name, own in zip(("tiles", "blocks"), np.array(differences).T):
        print(f"{name}: mean {own.mean():+.5f}, standard error {own.std(ddof=1) / len(SEEDS) ** 0.5:.5f}")


def run(args: argparse.Namespace, task: str, order: str = "tiles") -> dict[str, Any]:
    """What a task prints in a process of its own."""
    shared = (f"--{name}={getattr(args, name)}" for name in ("n", "folder", "bs", "model", "epochs", "seed"))
    command = [sys.executable, __file__, "--task", task, "--order", order, *shared]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def encode(args: argparse.Namespace) -> dict[str, Any]:
    folder = Path(args.folder) / f"{args.n}"
    shutil.rmtree(folder / f"encoded-{args.order}", ignore_errors=True)
    started = time.process_time(), time.perf_counter()
    data = opened(args)
    return measured(started, {"n_users": data.n_users, "n_items": data.n_items},
                    data.train.n + (data.valid.n if data.valid else 0))


def mapped(args: argparse.Namespace) -> dict[str, Any]:
    return trained(args, opened(args))


def opened(args: argparse.Namespace) -> Any:
    from collab import CollabDataBunch
    folder = Path(args.folder) / f"{args.n}"
    return CollabDataBunch.from_parquet(folder, folder=folder / f"encoded-{args.order}", bs=args.bs, seed=args.seed,
                                        valid_pct=VALID_PCT, tiles=args.order == "tiles")


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """The same ratings in memory, by `from_df`, with the same validation part."""
    import pandas as pd

    from collab import CollabDataBunch, rows_split
    from collab.data.streamed_split import AtRandom
    folder = Path(args.folder) / f"{args.n}"
    table = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)
    held = np.flatnonzero(AtRandom(len(table), VALID_PCT, args.seed).held_out(0, len(table)))
    data = CollabDataBunch.from_df(table, bs=args.bs, seed=args.seed, split=rows_split(held), duplicates="keep")
    del table
    return trained(args, data)


def trained(args: argparse.Namespace, data: Any) -> dict[str, Any]:
    from collab import collab_learner
    from collab.learner.tile_order import TileOrder
    started = time.process_time()
    learn = collab_learner(data, args.model)
    if args.order == "plain":
        learn.cbs = [cb for cb in learn.cbs if not isinstance(cb, TileOrder)]
    built = time.process_time() - started
    rounds = []
    with learn.no_logging():
        learn.fit_one_cycle(args.epochs)        # loads the kernels
        rmse = learn.validate()["rmse"]
        for _ in range(REPEATS if args.epochs == 1 else 0):
            started = time.process_time()
            learn.fit_one_cycle(1)
            rounds.append(time.process_time() - started)
    found = measured((started, time.perf_counter()), {"rmse": rmse, "built": round(built, 1)}, data.train.n)
    return found | {"cpu": float(np.median(rounds or [0])), "rounds": rounds}


def measured(started: tuple[float, float], more: dict[str, Any], n: int = 0) -> dict[str, Any]:
    cpu, wall = time.process_time() - started[0], time.perf_counter() - started[1]
    return {"cpu": cpu, "wall": wall, "n": n, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "more": more}


TASKS = {"encode": encode, "mapped": mapped, "memory": memory}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=0)
    parser.add_argument("--folder", default="/tmp/collab-out-of-memory")
    parser.add_argument("--bs", type=int, default=8192)
    parser.add_argument("--model", default="dot_bias")
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--paired", action="store_true")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--order", choices=["tiles", "plain"], default="tiles")
    parser.add_argument("--task", choices=[*TASKS])
    args = parser.parse_args()
    args.n = args.n or (8_000_000 if args.paired else 50_000_000)
    args.epochs = args.epochs or (EPOCHS if args.paired else 1)
    return args


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
