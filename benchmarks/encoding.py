"""Reading and encoding ratings beside pyarrow's reading of the same file, in one thread: seconds of CPU as ratios.

`--memory`: the peak of the resident memory (MiB) after each stage, for a table of the size of MovieLens-25M, each file
in a fresh process: reading, splitting and encoding, a pass over the training batches, a validation.

Run: python benchmarks/encoding.py [--n 5000000] [--repeats 3] [--ids numbers text codes] | --memory [--n 25000000]"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch

from collab import (
    CollabDataBunch,
    collab_learner,
    leave_last,
    per_user_split,
    read_table,
    time_split,
    user_split,
)

SIZES = {"ratios": (5_000_000, 140_000, 27_000), "memory": (25_000_000, 162_000, 62_000)}     # ratings, users, items
SPLITS = {"random": None, "time": time_split(0.2), "last": leave_last(), "per user": per_user_split(),
          "user": user_split(0.2)}


def ratings(n: int, n_users: int, n_items: int, ids: str) -> pd.DataFrame:
    """Long-tailed ratings in halves, each pair once, with times; ids are numbers, text (U12) or codes (UC0FFEE05)."""
    rng = np.random.default_rng(0)

    def drawn(n_ids: int, power: float) -> np.ndarray:
        share = np.cumsum(np.arange(1, n_ids + 1) ** -power)
        return rng.permutation(n_ids)[np.searchsorted(share / share[-1], rng.random(n // 3))]
    pairs = np.empty(0, dtype=np.int64)
    while len(pairs) < n:
        pairs = np.sort(np.concatenate([pairs, drawn(n_users, 0.5) * n_items + drawn(n_items, 0.8)]))
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    pairs = pairs[rng.permutation(len(pairs))[:n]]
    table = pd.DataFrame({"user": pairs // n_items + 1, "item": pairs % n_items + 1,
                          "rating": (rng.integers(1, 11, n) / 2).astype(np.float32),
                          "time": rng.integers(9 * 10**8, 15 * 10**8, n)})
    if ids == "numbers":
        return table
    written = (lambda id: f"{id}") if ids == "text" else (lambda id: f"{id * 2654435761 % 2**32:08X}")
    for role in ("user", "item"):
        names = np.array([role[0].upper() + written(id) for id in range(table[role].max() + 1)], dtype=object)
        table[role] = names[table[role]]
    return table


def write_csv(table: pd.DataFrame, path: Path) -> None:
    options = pa.csv.WriteOptions(quoting_style="none")
    pa.csv.write_csv(pa.Table.from_pandas(table, preserve_index=False), path, options)


def seconds(repeats: int, do: Callable[[], Any]) -> tuple[float, Any]:
    """(the median of the CPU's seconds, what was made)"""
    took = []
    for _ in range(repeats):
        start = time.process_time()
        made = do()
        took.append(time.process_time() - start)
    return statistics.median(took), made


def ratios(n: int, repeats: int, ids: str, folder: Path) -> None:
    """Print the seconds and ratios for a CSV and a Parquet file of one kind of ids."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    table = ratings(n, *SIZES["ratios"][1:], ids)
    csv, parquet = folder / "ratings.csv", folder / "ratings.parquet"
    write_csv(table, csv)
    table.to_parquet(parquet)
    del table
    readers = {csv: lambda: pa.csv.read_csv(csv).to_pandas(),
               parquet: lambda: pa.parquet.read_table(parquet).to_pandas()}
    print(f"\n{n:,} ratings, ids are {ids}: seconds of CPU, medians of {repeats}")
    for path, read in readers.items():
        read()                                                              # warm the file cache
        base, _ = seconds(repeats, read)
        ours, df = seconds(repeats, lambda path=path: read_table(path))
        print(f"{path.suffix[1:]:8} pyarrow {base:.2f}, read_table {ours:.2f} ({ours / base:.2f} times)")
        for name, split in SPLITS.items():
            if name != "random" and path is parquet:
                continue
            options = {"valid_pct": 0.2} if split is None else {"split": split}
            made, _ = seconds(repeats, lambda df=df, options=options: CollabDataBunch.from_df(df, seed=0, **options))
            both = (ours + made) / base
            print(f"         and from_df, {name + ' split:':15} {made:.2f}, together {both:.2f} times pyarrow")


def stages(path: str) -> None:
    """Print the peak of this process's memory after each stage."""
    import resource

    def peak(stage: str) -> None:
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:7,.0f} MiB  {stage}", flush=True)
    torch.set_num_threads(1)
    peak("imports")
    df = read_table(path)
    peak(f"read_table of {path.rpartition('.')[2]}: {len(df):,} rows, {df.dtypes['user']} and {df.dtypes['rating']}")
    data = CollabDataBunch.from_df(df, valid_pct=0.2, seed=0, device="cpu")
    peak(f"from_df: {data.n_users - 1:,} users, {data.n_items - 1:,} items")
    for _ in data.train:
        pass
    peak("a pass over the training batches")
    collab_learner(data, n_factors=20).validate()
    peak("validate, a dot model of 20 factors")


def write(n: int, folder: Path) -> None:
    """Write the tables whose reading and encoding `--memory` measures."""
    table = ratings(n, *SIZES["memory"][1:], "numbers")
    table.to_parquet(folder / "int64.parquet")
    table.drop(columns="time").astype({"user": "int32", "item": "int32"}).to_parquet(folder / "int32.parquet")
    write_csv(table, folder / "ratings.csv")


def memory(n: int, folder: Path) -> None:
    """Run `stages` on each table in a process of its own; this one stays small, since a process starts with the peak of
    the one that starts it."""
    def run(*arguments: object) -> None:
        subprocess.run([sys.executable, __file__, *map(str, arguments)], check=True)
    run("--write", folder, "--n", n)
    for name in ("int64.parquet", "int32.parquet", "ratings.csv"):
        print(flush=True)
        run("--stages", folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ids", nargs="+", default=["numbers", "text", "codes"])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--stages", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if options.write:
        return write(options.n, Path(options.write))
    if options.stages:
        return stages(options.stages)
    with tempfile.TemporaryDirectory() as folder:
        if options.memory:
            return memory(options.n or SIZES["memory"][0], Path(folder))
        for ids in options.ids:
            ratios(options.n or SIZES["ratios"][0], options.repeats, ids, Path(folder))


if __name__ == "__main__":
    main()
