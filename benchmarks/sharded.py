"""Memory and CPU of tables that TorchRec shards over processes, beside one process.

Run: python benchmarks/sharded.py [--rows 20000000] [--factors 64] [--processes 4] [--bs 8192] [--steps 60]
                                  [--plain] [--one] [--gather] [--checkpoint] [--folder DIR]

Trains dot_bias on made-up ratings of `rows` rows in all, four fifths of them users, whose tables are sharded from the
start (`sharded_tables`). Printed are, for each process, its memory before the learner was built, how much more it had
at most until the fit was over (VmHWM over VmRSS), the share of that in the whole tables and RowAdagrad's sums, and the
CPU of a step: the median over epochs. `--plain` leaves out the ridge of dot_bias, for which each process looks at all
ratings as the learner is built, and keeps how many its own rows have; `--one` trains one process in the usual way, by
the compiled pass; `--gather` also measures the end of the `with` and an export; `--checkpoint`, a save inside of it and
a load: how much memory each takes more."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from collab import Callback, CollabDataBunch, TensorBatches, Vocab, collab_learner
from collab.processes import rank, started
from collab.sharded_rows import sharded_tables
from collab.train.row_adagrad import RowAdagrad

LIMIT = 900         # seconds that the processes may take


class Clock(Callback):
    """CPU seconds of each epoch's training pass."""

    def before_train(self) -> None:
        self.begun = time.process_time()

    def after_train(self) -> None:
        self.seconds = [*getattr(self, "seconds", []), time.process_time() - self.begun]


def memory(what: str) -> float:
    """A line of /proc/self/status, in MiB."""
    found = Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]
    return int(found) / 1024


def data_of(rows: int, bs: int, steps: int) -> CollabDataBunch:
    """Ratings of `steps` batches, whose users and items are drawn with a long tail."""
    rng = np.random.default_rng(0)
    n_users, n_items = rows * 4 // 5, rows - rows * 4 // 5
    n = bs * steps
    users, items = (1 + ((size - 1) * rng.random(n) ** power).astype(np.int64)
                    for size, power in ((n_users, 1.2), (n_items, 3.0)))
    ratings = rng.integers(1, 6, n).astype(np.float32)
    rows = map(torch.from_numpy, (users, items, ratings))
    train = TensorBatches(*rows, bs=bs, shuffle=True, shape=(n_users, n_items))
    return CollabDataBunch(train, None, None, Vocab(range(n_users - 1), "user"), Vocab(range(n_items - 1), "item"))


def work(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    data = data_of(args.rows, args.bs, args.steps)
    whole = args.rows * (args.factors + 1 + 2) * 4 / 2 ** 20       # factors, biases and the sums of both
    if started():       # imported before, so that memory is that of tables
        import torchrec  # noqa: F401
    import numba  # noqa: F401
    Path("/proc/self/clear_refs").write_text("5")
    before, clock = memory("VmRSS"), Clock()
    plain = {"lr": 0.07, "wd": 0.0} if args.plain else {}
    with sharded_tables():
        learn = collab_learner(data, "dot_bias", args.factors, opt_func=RowAdagrad, metrics=[], seed=0, **plain)
    learn.cbs.remove(learn.progress)
    began = time.process_time()
    with learn.distributed(tables="sharded") if started() else nullcontext():
        learn.fit(1, cbs=clock)                    # compiles, and touches pages
        built = time.process_time() - began - clock.seconds[-1]
        learn.fit(args.epochs, cbs=clock)
        peak = memory("VmHWM")
        steps = [1000 * s / args.steps for s in clock.seconds[1:]]
        print(f"{'process ' + str(rank()) if started() else 'one process'}: {before:,.0f} MiB before, at most "
              f"{peak - before:,.0f} MiB more, {(peak - before) / whole:.3f} of {whole:,.0f}; {peak:,.0f} MiB in all, "
              f"{peak / whole:.3f}; built in {built:.1f} CPU s, a step {statistics.median(steps):.1f} CPU ms",
              flush=True)
        if args.checkpoint:
            for what, verb in (("saved", learn.save), ("loaded", learn.load)):
                Path("/proc/self/clear_refs").write_text("5")
                now, start, began = memory("VmRSS"), time.perf_counter(), time.process_time()
                verb(Path(args.folder) / "sharded.checkpoint")
                print(f"{what} by process {rank()} in {time.perf_counter() - start:.1f} s, "
                      f"{time.process_time() - began:.1f} CPU s; at most {memory('VmHWM') - now:,.0f} MiB more",
                      flush=True)
        began = time.process_time()
        if not args.gather:
            os._exit(0)
    if rank() == 0:
        learn.predict(0, [1, 2, 3])
        print(f"gathered in {time.process_time() - began:.1f} CPU s; {memory('VmHWM'):,.0f} MiB at most, "
              f"{memory('RssAnon'):,.0f} of its own at the end", flush=True)
        learn.export(Path(args.folder) / "sharded.safetensors", card=False)
        print(f"exported; {memory('VmHWM'):,.0f} MiB at most", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in (("rows", 20_000_000), ("factors", 64), ("processes", 4), ("bs", 8192), ("steps", 60),
                        ("epochs", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", default="/tmp")
    for name in ("plain", "one", "gather", "checkpoint"):
        parser.add_argument(f"--{name}", action="store_true")
    args = parser.parse_args()
    if started() or args.one:
        work(args)
        return
    try:
        import torchrec  # noqa: F401
    except ImportError:
        print('benchmarks/sharded.py measures TorchRec: pip install "collab-torch[sharded]"')
        return
    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
                    str(args.processes), __file__, *sys.argv[1:]], check=True, timeout=LIMIT,
                   env=os.environ | {"OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
