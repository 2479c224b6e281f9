"""One user's answer: CPU time of `recommend` and `Index.recommend` beside a bare product and top-k, implicit and faiss.

Run: python benchmarks/serving.py [--items 1682 27000 60000] [--model dot_bias] [--calls 400] [--rounds 5]

Bare is `torch.topk(items @ user, 10)` over tables of the same size, in float32. Weights are random; users have 100
known items, which `recommend` and implicit leave out; items have titles. Ours gives tables or lists of raw ids with
titles and ratings, bare and the peers row numbers. Microseconds of CPU in one thread: medians of `--calls` calls, 20 of
each kind by turns, and of these the median of rounds; the ratio is to bare. The peers run in a process of their own in
each round; without `make peers` they have no rows. The first call, which loads what is kept, is on its own."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):       # before anything that reads them; children inherit them
    os.environ[f"{name}_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.suite.children import Failed, peer
from collab import CollabDataBunch, CollabLearner, collab_learner

USERS, KNOWN, FACTORS, IN_A_ROW, ONES, K, BARE = 1000, 100, 50, 20, 100, 10, "bare product and top-k"


def made(model: str, n_items: int) -> CollabLearner:
    """A learner with random weights over users with KNOWN items each, and every item."""
    draw = np.random.default_rng(0)
    n = max(USERS * KNOWN, n_items)
    rated = pd.DataFrame({"user": np.arange(n) % USERS, "item": np.append(np.arange(n_items), draw.integers(
        0, n_items, n - n_items)), "rating": draw.integers(1, 6, n)}).drop_duplicates(["user", "item"])
    films = pd.DataFrame({"item": np.arange(n_items), "title": [f"Film {k} (1999)" for k in range(n_items)]})
    data = CollabDataBunch.from_df(rated, items=films, valid_pct=0, seed=0, bs=4096, device="cpu")
    learn = collab_learner(data, model, n_factors=FACTORS)
    torch.manual_seed(0)
    with torch.no_grad():
        for name in ("u_weight", "i_weight", "u_bias", "i_bias"):
            if hasattr(learn.model, name):
                getattr(learn.model, name).weight.normal_(std=0.3)
    learn.model.eval()
    return learn


def micros(calls: dict[str, Callable[[int], object]], n: int) -> dict[str, tuple[float, float]]:
    """The first call of each, and the median of the others, in microseconds of CPU."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for begin in range(0, n, IN_A_ROW):
        for name, call in calls.items():
            for k in range(begin, begin + IN_A_ROW):
                start = time.process_time_ns()
                call(k)
                times[name].append((time.process_time_ns() - start) / 1000)
    return {name: (own[0], statistics.median(own)) for name, own in times.items()}


def theirs(learn: CollabLearner, folder: Path) -> dict[str, float]:
    """The same of the peers, which are asked for ONES users, in a process of their own; {} where there are none."""
    file = folder / "serving.npz"
    users, items = (t.numpy() - 1 for t in learn.data.train.tensors[:2])        # row 0 is the unknown one
    np.savez(file, users=learn.weight(is_item=False).numpy(), items=learn.weight().numpy(), seen_users=users,
             seen_items=items, asked=np.arange(ONES), held_out_users=np.arange(ONES), held_out_items=np.arange(ONES))
    try:
        found = peer("serving", file, "--out", folder / "lists.npz", "--k", K, "--ones", ONES)
    except Failed as reason:
        print(f"without implicit and faiss: {reason}", file=sys.stderr)
        return {}
    return {"implicit": 1000 * found["implicit"]["one"], "faiss, a flat index": 1000 * found["faiss"]["one"]}


def calls_of(learn: CollabLearner) -> dict[str, Callable[[int], object]]:
    """What is timed, for the k-th user."""
    items, users, index = learn.weight(), learn.weight(is_item=False), learn.index()
    return {BARE: lambda k: torch.topk(items @ users[k % USERS], K),
            "learn.recommend(user)": lambda k: learn.recommend(k % USERS, K),
            'learn.recommend(user, as_frame="dict")': lambda k: learn.recommend(k % USERS, K, as_frame="dict"),
            "Index.recommend(user)": lambda k: index.recommend(k % USERS, K),
            'Index.recommend(user, as_frame="dict")': lambda k: index.recommend(k % USERS, K, as_frame="dict"),
            "learn.predict(user, item)": lambda k: learn.predict(k % USERS, k % 1000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[1682, 27_000, 60_000])
    parser.add_argument("--model", default="dot_bias")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'items':>7}  {'call':<40}{'first':>10}{'median':>9}{'x bare':>8}  of rounds")
    for n_items in args.items:
        learn = made(args.model, n_items)
        calls = calls_of(learn)
        for name in calls:          # once: what is kept, and kernels, which are loaded after a few lists
            if name.startswith("learn.recommend(user)"):
                start = time.process_time_ns()
                for k in range(IN_A_ROW):
                    calls[name](k)
                print(f"{n_items:>7,}  {f'the first {IN_A_ROW} lists, each':<40}"
                      f"{(time.process_time_ns() - start) / 1000 / IN_A_ROW:>10,.0f}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rounds = []
            for _ in range(args.rounds):
                measured = micros(calls, args.calls)
                rounds.append(measured | {name: (0.0, own) for name, own in theirs(learn, Path(folder)).items()})
        for name, (first, _) in rounds[0].items():
            own = [one[name][1] for one in rounds if name in one]
            ratios = sorted(one[name][1] / one[BARE][1] for one in rounds if name in one)
            print(f"{n_items:>7,}  {name:<40}{f'{first:,.0f}' if first else '':>10}{statistics.median(own):>9,.0f}"
                  f"{statistics.median(ratios):>8.2f}  {ratios[0]:.2f} to {ratios[-1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
