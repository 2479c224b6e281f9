"""What the Learner costs over a bare PyTorch loop: dot-bias, fused AdamW, one-cycle, batches of 64, in one thread.

Three ways to train the same model on the same ratings, in turns: a plain loop as one would write it by hand; the
Learner without any callback but the schedule; and the Learner as it comes, with Recorder, table and a progress bar
that is drawn. The figures are ratios of medians. Run: python benchmarks/loop_overhead.py [--repeats 7]"""

import argparse
import contextlib
import math
import os
import statistics
import time

import torch
from torch.nn.functional import mse_loss

from collab import CollabDataBunch, EmbeddingDotBias, collab_learner, synthetic
from collab.train.callbacks import progress


def cosine(start: float, end: float, pos: float) -> float:
    return start + (end - start) * (1 - math.cos(math.pi * pos)) / 2


def bare(data: CollabDataBunch, model: EmbeddingDotBias) -> None:
    """A plain loop: no framework, no history, nothing printed."""
    users, items, ratings = data.train.tensors
    factors = [model.u_weight.weight, model.i_weight.weight]
    biases = [model.u_bias.weight, model.i_bias.weight, model.mu]
    opt = torch.optim.AdamW([{"params": factors, "weight_decay": 0.3}, {"params": biases, "weight_decay": 0.0}],
                            lr=5e-3, betas=(0.95, 0.99), fused=True)
    n_batches = math.ceil(len(ratings) / 64)
    model.train()
    order = torch.randperm(len(ratings))
    batches = zip(users[order].split(64), items[order].split(64), ratings[order].split(64))
    for done, (u, i, y) in enumerate(batches):
        pos = done / n_batches
        rising = pos < 0.25
        pos = pos / 0.25 if rising else (pos - 0.25) / 0.75
        lr, mom = (cosine(2e-4, 5e-3, pos), cosine(0.95, 0.85, pos)) if rising else \
            (cosine(5e-3, 5e-8, pos), cosine(0.85, 0.95, pos))
        for group in opt.param_groups:
            group["lr"], group["betas"] = lr, (mom, 0.99)
        loss = mse_loss(model(u, i), y)
        loss.backward()
        opt.step()
        opt.zero_grad()


def no_callbacks(data: CollabDataBunch, model: EmbeddingDotBias) -> None:
    """The Learner's loop with the schedule and nothing else."""
    learn = collab_learner(data, model, lr=5e-3, wd=0.3)
    with learn.removed_cbs(list(learn.cbs)):
        learn.fit_one_cycle(1)


def full(data: CollabDataBunch, model: EmbeddingDotBias) -> None:
    """The Learner as it comes, its bar drawn into nothing."""
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        collab_learner(data, model, lr=5e-3, wd=0.3).fit_one_cycle(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--n-ratings", type=int, default=40_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    progress.bars_wanted = lambda: True         # as if somebody watched
    ratings = synthetic(n_users=943, n_items=1682, n_ratings=options.n_ratings, seed=0).ratings
    ways = {"bare loop": bare, "no callbacks": no_callbacks, "full": full}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats + 1):
        for name, fit in ways.items():
            data = CollabDataBunch.from_df(ratings, valid_pct=0, seed=0)
            torch.manual_seed(0)
            model = EmbeddingDotBias(50, data.n_users, data.n_items, y_range=data.y_range, mean=data.mean)
            start = time.perf_counter()
            fit(data, model)
            seconds[name].append(time.perf_counter() - start)
    n_batches = len(data.train)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}   # the first round warms up
    for name, median in medians.items():
        print(f"{name:12} {1e6 * median / n_batches:5.0f} microseconds a batch, "
              f"{median / medians['bare loop']:.3f} times the bare loop")


if __name__ == "__main__":
    main()
