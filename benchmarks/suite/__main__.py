"""Time, memory and error of ours and of other libraries, in one run on the same data and one thread.

    python -m benchmarks.suite                              everything, about an hour
    python -m benchmarks.suite --quick                      a few minutes: small sets, fewer rounds
    python -m benchmarks.suite --only training --sizes 5m   some of it

At the end it lists the ratios that are lower by a third or more than those in benchmarks/recorded.json. A whole run in
which none fell becomes the record, and docs/benchmarks.md is written from it; --record does so in any case, and takes
the rows of a part of a run into the record where machine and versions are the same. --page only writes the page."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType

for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):       # before anything that reads them; children inherit them
    os.environ[f"{name}_NUM_THREADS"] = "1"

import torch

from collab import CollabDataBunch, collab_learner, evaluate, synthetic
from collab.datasets.download import cache_folder

from . import memory, page, rankers, serving, startup, training
from .contest import Choices
from .machine import ROOT
from .record import Record
from .row import Row, fallen
from .sets import NAMES, SEED, Sets

SUBJECTS: dict[str, ModuleType] = {"training": training, "ranking": rankers, "serving": serving, "memory": memory,
                                   "startup": startup}
ABOUT = {name: module.__doc__ or "" for name, module in SUBJECTS.items()}
LATEST = ROOT / "build" / "benchmarks.json"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ML-100K and a million ratings, 50 factors, one round")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, help="these subjects")
    parser.add_argument("--sizes", nargs="+", choices=NAMES, help="these sets")
    parser.add_argument("--factors", nargs="+", type=int, help="factors of trained models (50 128)")
    parser.add_argument("--rounds", type=int, help="runs of each side (3)")
    parser.add_argument("--limit", type=float, help="CPU seconds that one training may take (150); of longer ones some "
                                                    "batches are timed, without an error")
    parser.add_argument("--sets", type=Path, help="the folder of the sets ($COLLAB_HOME/benchmarks)")
    parser.add_argument("--out", type=Path, default=LATEST, help="the file of this run's rows (build/benchmarks.json)")
    parser.add_argument("--record", action="store_true", help="these rows become the recorded ones in any case")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a ratio fell; nothing is recorded")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md from the record; measure nothing")
    return parser.parse_args()


def main() -> int:
    asked = options()
    recorded = Record.load()
    if asked.page:
        if recorded is None:
            raise SystemExit("there is no benchmarks/recorded.json yet")
        page.write(recorded, ABOUT)
        return 0
    part = bool(asked.quick or asked.only or asked.sizes or asked.factors)
    sizes = asked.sizes or (["100k", "1m"] if asked.quick else [*NAMES])
    choices = Choices(Sets(asked.sets or cache_folder() / "benchmarks"), tuple(sizes),
                      tuple(asked.factors or ([50] if asked.quick else [50, 128])),
                      asked.rounds or (1 if asked.quick else 3), asked.limit or (20.0 if asked.quick else 150.0),
                      asked.quick)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})     # all on one core, and the children too
    torch.set_num_threads(1)
    warm_up()
    rows, failures = measure(asked.only or [*SUBJECTS], choices, asked.out), choices.failures
    fell = fallen(recorded.rows if recorded else [], rows)
    for row, then, now in fell:
        print(f"fell by a third or more: {said(row)}: the ratio was {then:.3g}, and is {now:.3g}")
    for failure in failures:
        print(f"failed: {failure}")
    new = Record.of(rows, SEED)
    if asked.record or not (part or fell or failures or asked.check):
        new = new.over(recorded) if part else new
        new.save()
        page.write(new, ABOUT)
        print(f"recorded {len(rows)} rows, and wrote {page.PAGE.relative_to(ROOT)}")
    return 1 if failures or (fell and asked.check) else 0


def measure(subjects: list[str], choices: Choices, out: Path) -> list[Row]:
    """The rows of these subjects, printed and written to `out` as they come. A subject that fails is left, and the next
    one begun: an hour's figures are not lost to one error."""
    rows, start = list[Row](), time.perf_counter()
    for subject in subjects:
        try:
            for row in SUBJECTS[subject].rows(choices):
                rows.append(row)
                Record.of(rows, SEED).save(out)
                print(f"{time.perf_counter() - start:6.0f} s  {said(row)}", flush=True)
        except Exception as error:
            traceback.print_exc()
            choices.failures.append(f"{subject}: {type(error).__name__}: {error}")
    return rows


def said(row: Row) -> str:
    """A row on a line."""
    made = row.to_json()
    line = f"{row.subject}, {row.name}{f', {row.size}' if row.size else ''}: {made['ours']:g} {row.unit}"
    if row.peer:
        line += f"; {row.peer_name}: {made['peer']:g}; ratio {made['ratio']:g}"
    if row.error:
        line += f"; {row.error} {page.number(row.our_error) or '-'}, {page.number(row.peer_error) or '-'}"
    return f"{line}{f' ({row.note})' if row.note else ''}"


def warm_up() -> None:
    """Compile or load, once, what the measured calls use: a process of a user does so too, which `startup` measures."""
    ratings = synthetic(n_users=60, n_items=40, n_ratings=900, seed=SEED).ratings
    data = CollabDataBunch.from_df(ratings, seed=SEED, device="cpu")
    chosen = CollabDataBunch.from_df(ratings[["user", "item"]], implicit=True, seed=SEED, device="cpu")
    for of, name in ((data, "dot_bias"), (chosen, "bpr"), (chosen, "two_tower"), (chosen, "softmax"), (chosen, "als")):
        learn = collab_learner(of, name, seed=SEED)
        with learn.no_logging():
            learn.fit(1)
        learn.recommend(1)
        evaluate(learn)
        if name != "softmax":
            learn.index()


if __name__ == "__main__":
    sys.exit(main())
