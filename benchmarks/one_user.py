"""One user's answer: CPU time of `recommend`, `Index.recommend` and `predict`, beside the bare product and top-k.

Run: python benchmarks/one_user.py [--items 1682 27000 100000] [--model dot_bias] [--calls 200]

Bare is `torch.topk(items @ user, 10)` over tables of the same size, in float32 and float64. Weights are random, users
have 100 known items and items have titles. Microseconds of CPU in one thread, medians of `--calls` calls: 20 of each
kind by turns. The first call, which builds what is kept, is on its own."""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from collab import CollabDataBunch, CollabLearner, collab_learner

USERS, KNOWN, FACTORS, IN_A_ROW = 1000, 100, 50, 20


def made(model: str, n_items: int) -> CollabLearner:
    """A learner with random weights over users with KNOWN items each, and every item."""
    draw = np.random.default_rng(0)
    n = max(USERS * KNOWN, n_items)
    rated = pd.DataFrame({"user": np.arange(n) % USERS, "item": np.append(np.arange(n_items), draw.integers(
        0, n_items, n - n_items)), "rating": draw.integers(1, 6, n)}).drop_duplicates(["user", "item"])
    films = pd.DataFrame({"item": np.arange(n_items), "title": [f"Film {k} (1999)" for k in range(n_items)]})
    data = CollabDataBunch.from_df(rated, items=films, valid_pct=0, seed=0, bs=4096, device="cpu")
    learn = collab_learner(data, model, n_factors=FACTORS)
    with torch.no_grad():
        for name in ("u_weight", "i_weight", "u_bias", "i_bias"):
            if hasattr(learn.model, name):
                getattr(learn.model, name).weight.normal_(std=0.3)
    learn.model.eval()
    return learn


def micros(calls: dict[str, Callable[[int], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """The first call of each, and the median of the others, in microseconds of CPU."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for begin in range(0, rounds, IN_A_ROW):
        for name, call in calls.items():
            for k in range(begin, begin + IN_A_ROW):
                start = time.process_time_ns()
                call(k)
                times[name].append((time.process_time_ns() - start) / 1000)
    return {name: (own[0], statistics.median(own)) for name, own in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[1682, 27_000, 100_000])
    parser.add_argument("--model", default="dot_bias")
    parser.add_argument("--calls", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'items':>8}  {'call':<32}{'first':>10}{'median':>10}{'x float32':>12}{'x float64':>12}")
    for n_items in args.items:
        learn = made(args.model, n_items)
        items, users = learn.model.i_weight.weight.detach(), learn.model.u_weight.weight.detach()
        index, wide = learn.index(), (items.double(), users.double())
        calls: dict[str, Callable[[int], object]] = {
            "bare float32": lambda k, i=items, u=users: torch.topk(i @ u[1 + k % USERS], 10),
            "bare float64": lambda k, w=wide: torch.topk(w[0] @ w[1][1 + k % USERS], 10),
            "recommend(user)": lambda k, s=learn: s.recommend(k % USERS),
            "recommend(user), lists": lambda k, s=learn: s.recommend(k % USERS, as_frame="dict"),
            "recommend(exclude=None)": lambda k, s=learn: s.recommend(k % USERS, exclude=None),
            "Index.recommend(user)": lambda k, s=index: s.recommend(k % USERS),
            "Index.recommend(user), lists": lambda k, s=index: s.recommend(k % USERS, as_frame="dict"),
            "predict(user, item)": lambda k, s=learn: s.predict(k % USERS, k % 1000)}
        measured = micros(calls, args.calls)
        for name, (first, median) in measured.items():
            ratios = "".join(f"{median / measured[f'bare float{bits}'][1]:>12.1f}" for bits in (32, 64))
            print(f"{n_items:>8,}  {name:<32}{first:>10,.0f}{median:>10,.0f}{ratios}", flush=True)


if __name__ == "__main__":
    main()
