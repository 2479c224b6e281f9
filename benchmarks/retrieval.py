"""Top ten of all items for all users of a dot model: users a second of CPU, and the peak of memory of a fresh process.

Run: python benchmarks/retrieval.py [--users 100000] [--items 100000] [--factors 64] [--some 5000] [--parquet]

The goal: 100,000 users over 100,000 items with 64 factors in less than 2 GiB. The weights are random and every user
has 20 seen items; `--some` users are measured and the time of all of them is extrapolated (0: all are measured, which
takes minutes). "idle" is what the process holds before the first recommendation: torch, pandas, the model and the
ratings. With --parquet the rows are also written to a file through a learner. One thread."""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from collab import CollabDataBunch, collab_learner

SEEN = 20


def peak() -> float:
    """The largest resident size so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(model: str, users: int, items: int, factors: int, some: int, parquet: bool) -> None:
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    rated = pd.DataFrame({"user": np.repeat(np.arange(users), SEEN), "item": draw.integers(0, items, users * SEEN),
                          "rating": draw.integers(1, 6, users * SEEN)}).drop_duplicates(["user", "item"])
    data = CollabDataBunch.from_df(rated, valid_pct=0, seed=0, bs=4096, device="cpu")
    learn = collab_learner(data, model, n_factors=factors)
    with torch.no_grad():
        for table in (learn.model.u_weight, learn.model.i_weight):
            table.weight.normal_(std=0.3)
    _ = data.histories
    idle, start, n = peak(), time.process_time(), 0
    asked = range(some or users)
    if parquet:
        with tempfile.TemporaryDirectory() as folder:
            n = len(pd.read_parquet(learn.recommend_all(10, users=asked, path=Path(folder) / "recs.parquet")))
    else:
        n = sum(map(len, learn.recommend_all(10, users=asked)))
    seconds = time.process_time() - start
    rate = len(asked) / seconds
    print(f"{model:>9} {users:>8,} {data.n_items - 1:>8,} {n // 10:>9,} {rate:>8,.0f} {users / rate:>8.0f} "
          f"{idle:>6.2f} {peak():>6.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("users", 100_000), ("items", 100_000), ("factors", 64), ("some", 5000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--parquet", action="store_true")
    parser.add_argument("--model", help="measure this one in this process")
    args = parser.parse_args()
    if args.model:
        return measure(args.model, args.users, args.items, args.factors, args.some, args.parquet)
    print("    model    users    items  measured  users/s   s, all   idle   peak GiB", flush=True)
    for model in ("dot", "dot_bias", "als"):
        subprocess.run([sys.executable, __file__, "--model", model, *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
