"""Several processes that train one model, beside one process; and what more of them would take, on paper.

Run: python benchmarks/distributed.py [--model dot_bias] [--processes 1 2 4] [--bs 8192] [--users 140000]
                                      [--items 27000] [--factors 64] [--steps 100] [--estimate]

Each process has one thread, and a slice of every batch of made-up ratings with a long tail; `bs` is that of the whole
batch. Printed are, of the first process: CPU and clock milliseconds of a step (medians of epochs; the clock means
something where each process has a core), MiB of memory beyond what it had before the model, bytes that it sent in a
step, and beside each of these what the formulas below give. One process trains in the same way, batch by batch; the
compiled pass, which one process takes by itself, is on its own line. `--estimate` prints the formulas for 1 to 64
processes and three sizes; nothing is measured then but the constants that it is told."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import numpy as np
import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1]))

from collab import Callback, CollabDataBunch, TensorBatches, Vocab, collab_learner
from collab.processes import is_main, size, started

EPOCHS, INDEX, NUMBER = 5, 8, 4     # measured; bytes of a row's number, and of a float


class Shape(NamedTuple):
    """What a run of a dot model with biases works on."""

    users: int
    items: int
    factors: int
    bs: int
    processes: int

    @property
    def rows(self) -> int:
        return self.users + self.items

    def memory(self, sharded: bool = False) -> float:
        """Bytes of each process: factors, biases, RowAdagrad's two sums and the four strengths of the ridge of every
        row. Sharded: of its own rows, whose biases are four numbers wide, and their numbers of ratings."""
        if sharded:
            return NUMBER * self.rows / self.processes * (self.factors + 4 + 2 + 1)
        return NUMBER * self.rows * (self.factors + 1 + 2 + 2)

    def sent(self, touched: float, sharded: bool = False) -> float:
        """Bytes that a process sends in a step to each of the others, or to all where tables are sharded. Replicated:
        its `touched` rows, with their numbers, once for factors and once for biases. Sharded: the rows that others ask
        it for, and the numbers and gradients of those that it asks for."""
        share = (self.processes - 1) / self.processes
        row = NUMBER * (self.factors + 1)
        return touched * (share * (2 * row + INDEX) if sharded else 2 * INDEX + row)


def touched_rows(data: CollabDataBunch, slices: int) -> float:
    """The distinct users and items in a slice of a batch, on average over ten batches."""
    users, items, _ = data.train.tensors
    n = data.train.bs // slices
    return statistics.mean(len(column[k:k + n].unique()) for k in range(0, 10 * data.train.bs, data.train.bs)
                           for column in (users, items)) * 2


class Clock(Callback):
    """CPU and clock seconds of each epoch's training pass."""

    def __init__(self) -> None:
        self.seconds: list[tuple[float, float]] = []

    def before_train(self) -> None:
        self.begun = time.process_time(), time.perf_counter()

    def after_train(self) -> None:
        now = time.process_time(), time.perf_counter()
        self.seconds.append((now[0] - self.begun[0], now[1] - self.begun[1]))


class Batchwise(Callback):
    """Keeps one process out of the compiled pass."""

    def after_batch(self) -> None:
        pass


class Sent:
    """Counts the bytes that this process puts into each exchange."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, exchange: Callable[..., Any]) -> Callable[..., Any]:
        def counted(first: Any, *others: Any, **more: Any) -> Any:
            mine = others[0] if others else first
            self.bytes += mine.numel() * mine.element_size()
            return exchange(first, *others, **more)
        return counted


def memory(what: str) -> float:
    """A line of /proc/self/status, in bytes."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0])


def made(args: argparse.Namespace) -> CollabDataBunch:
    """Ratings of `steps` batches, whose users and items are drawn with a long tail."""
    rng = np.random.default_rng(0)
    n = args.bs * args.steps
    rows = [1 + ((count - 1) * rng.random(n) ** power).astype(np.int64)
            for count, power in ((args.users, 1.5), (args.items, 3.0))]
    columns = (torch.from_numpy(column) for column in (*rows, rng.integers(1, 6, n).astype(np.float32)))
    train = TensorBatches(*columns, bs=args.bs, shuffle=True, shape=(args.users, args.items))
    vocabs = (Vocab(range(n - 1), name) for n, name in ((args.users, "user"), (args.items, "item")))
    return CollabDataBunch(train, None, None, *vocabs)


def work(args: argparse.Namespace) -> None:
    """Train in this process, and print what it took in the first one."""
    torch.set_num_threads(1)
    data, sent, clock = made(args), Sent(), Clock()
    collab_learner(data, args.model, seed=0)                # imports, and what is computed once for the data
    before = memory("VmRSS")
    sizes = {} if args.model == "two_tower" else {"n_factors": args.factors}
    learn = collab_learner(data, args.model, seed=0, metrics=[], cbs=[] if args.compiled else [Batchwise()], **sizes)
    learn.cbs.remove(learn.progress)
    with learn.distributed() if started() else nullcontext():
        learn.fit(1)
        Path("/proc/self/clear_refs").write_text("5")       # what building took is over
        with mock.patch.object(dist, "all_gather", sent(dist.all_gather)), mock.patch.object(
                dist, "all_reduce", sent(dist.all_reduce)):
            learn.fit(EPOCHS, cbs=clock)
    steps = len(data.train)
    cpu, wall = (1000 * statistics.median(column) / steps for column in zip(*clock.seconds))
    shape = Shape(args.users, args.items, args.factors, args.bs, size())
    touched = touched_rows(data, size())
    on_paper = shape.sent(touched) if args.model == "dot_bias" and size() > 1 else float("nan")
    if is_main():
        print(f"{size():>9} {'compiled' if args.compiled else 'loop':>9}{cpu:>10.1f}{wall:>10.1f}"
              f"{args.bs / wall / 1000:>9.2f}{(memory('VmHWM') - before) / 2 ** 20:>9.0f}"
              f"{shape.memory() / 2 ** 20:>9.0f}{sent.bytes / EPOCHS / steps / 1000:>11.0f}{on_paper / 1000:>9.0f}",
              flush=True)


def estimate() -> None:
    """The formulas for dot_bias with 64 factors, 8,192 rows of a batch to each process: GB of memory, MB that a process
    sends in a step, and millions of ratings a second by all of them over two networks, with the hours of an epoch."""
    print(f"{'ratings':>8}{'rows':>9}{'processes':>11}{'replicated GB':>15}{'sharded GB':>12}{'MB a step':>11}"
          f"{'10 Gbit/s':>14}{'100 Gbit/s':>14}")
    for ratings, users, items in ((25e6, 162_000, 62_000), (1e9, 20_000_000, 2_000_000), (1e11, 10 ** 9, 10 ** 8)):
        for processes in (1, 4, 16, 64):
            shape = Shape(users, items, 64, 8192 * processes, processes)
            sent = shape.sent(2 * 8192.0, sharded=True)         # at most: no row comes twice in a slice
            rates = [shape.bs / (STEP + 8 * sent / network) for network in (1e10, 1e11)]
            told = [f"{rate / 1e6:.1f}, {ratings / rate / 3600:,.1f} h" for rate in rates]
            print(f"{ratings / 1e6:>7,.0f}M{shape.rows / 1e6:>8,.1f}M{processes:>11}{shape.memory() / 1e9:>15,.1f}"
                  f"{shape.memory(sharded=True) / 1e9:>12,.2f}{sent / 1e6:>11.1f}{told[0]:>14}{told[1]:>14}")


STEP = 0.0186 + 7.05e-6 * 8192      # CPU seconds of a sharded step of 8,192 rows, by benchmarks/sharded.py: the line
                                    # through its lowest times for 2,048 and 16,384 rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("bs", 8192), ("users", 140_000), ("items", 27_000), ("factors", 64), ("steps", 100)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--model", default="dot_bias")
    for name in ("compiled", "child", "estimate"):
        parser.add_argument(f"--{name}", action="store_true")
    args = parser.parse_args()
    if args.estimate:
        estimate()
    elif args.child:
        work(args)
    else:
        print(f"{args.model}, batches of {args.bs:,}\n{'processes':>9}{'':>10}{'CPU ms':>10}{'clock ms':>10}{'M/s':>9}"
              f"{'MiB':>9}{'paper':>9}{'kB sent':>11}{'paper':>9}", flush=True)
        own = sys.argv[1:]
        if args.model == "dot_bias":
            subprocess.run([sys.executable, __file__, *own, "--child", "--compiled"], check=True)
        for n in args.processes:
            start = [] if n == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
            subprocess.run([sys.executable, *start, __file__, *own, "--child"], check=True)


if __name__ == "__main__":
    main()
