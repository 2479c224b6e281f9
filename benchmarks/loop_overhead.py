"""What the Learner costs over a bare PyTorch loop: dot-bias, AdamW, one-cycle, batches of 64, side by side.

Both train the same model on the same batches with the same schedule, in turns and in one thread; the figure is the
ratio of the medians. Run: python benchmarks/loop_overhead.py [--repeats 5] [--n-ratings 40000]"""

import argparse
import statistics
import time

import torch

from collab import CollabDataBunch, EmbeddingDotBias, collab_learner, synthetic
from collab.losses import mse
from collab.train.optim import adamw, make_optimizer, set_hyper
from collab.train.schedule import combine_scheds, sched_cos


def bare(data: CollabDataBunch, model: EmbeddingDotBias) -> None:
    """What one would write without a framework."""
    opt = make_optimizer(model, adamw, 5e-3, 0.3)
    lr = combine_scheds([0.25, 0.75], [sched_cos(2e-4, 5e-3), sched_cos(5e-3, 5e-8)])
    mom = combine_scheds([0.25, 0.75], [sched_cos(0.95, 0.85), sched_cos(0.85, 0.95)])
    model.train()
    for i, (users, items, ratings) in enumerate(data.train):
        pos = i / len(data.train)
        set_hyper(opt, lr=lr(pos), momentum=mom(pos))
        loss = mse(model(users, items), ratings)
        loss.backward()
        opt.step()
        opt.zero_grad()


def framed(data: CollabDataBunch, model: EmbeddingDotBias) -> None:
    """The same through the Learner, with its Recorder and table of epochs."""
    collab_learner(data, model, lr=5e-3, wd=0.3).fit_one_cycle(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--n-ratings", type=int, default=40_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ratings = synthetic(n_users=943, n_items=1682, n_ratings=options.n_ratings, seed=0).ratings
    seconds: dict[str, list[float]] = {"bare": [], "learner": []}
    for _ in range(options.repeats + 1):
        for name, fit in (("bare", bare), ("learner", framed)):
            data = CollabDataBunch.from_df(ratings, valid_pct=0, seed=0)
            torch.manual_seed(0)
            model = EmbeddingDotBias(50, data.n_users, data.n_items, y_range=data.y_range, mean=data.mean)
            start = time.perf_counter()
            fit(data, model)
            seconds[name].append(time.perf_counter() - start)
    batches = len(data.train)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}   # the first round warms up
    for name, median in medians.items():
        print(f"{name:8} {median:.2f} s for {batches} batches, {1e6 * median / batches:.0f} microseconds each")
    print(f"learner / bare = {medians['learner'] / medians['bare']:.3f}")


if __name__ == "__main__":
    main()
