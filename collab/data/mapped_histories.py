"""Histories of ratings in files: sorted by user on disk, and mapped, so that each is read when it is asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..files import alone_with
from .histories import Histories
from .mapped import Stored
from .spill import Spill, groups_of

GROUP = 1 << 21         # rows that are sorted at a time
READ = 1 << 20          # rows that are read at a time
WAIT = 0.1              # seconds between looks at what another process writes
KINDS = {"columns": np.int64, "values": np.float32}


def mapped_histories(name: str, parts: Sequence[Stored], n_users: int) -> Histories:
    """The ratings of all parts by user, mapped from files beside the first part, which are made where they lack: 12
    bytes a rating. Other processes that ask for the same meanwhile wait for them. Rows or columns of 0, which stand for
    unknown ids, are left out. Within a user the order is that of the parts."""
    folder = parts[0].folder / name
    parts[0].check_there()
    while not folder.exists():
        with alone_with(folder) as alone:
            if not alone:
                time.sleep(WAIT)
            elif not folder.exists():
                _write(folder, parts, n_users)
    starts = torch.from_numpy(np.load(folder / "starts.npy"))
    n = int(starts[-1])
    # copied where it is written: nobody changes the files through a tensor
    columns, values = (np.memmap(folder / column, kind, mode="c", shape=n) if n else np.empty(0, kind)
                       for column, kind in KINDS.items())
    return Histories(starts, torch.from_numpy(np.asarray(columns)), torch.from_numpy(np.asarray(values)))


def _write(folder: Path, parts: Sequence[Stored], n_users: int) -> None:
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)         # what a killed process has left
    part.mkdir()
    try:
        counts = np.zeros(n_users, np.int64)
        for stored in parts:
            for first in range(0, stored.n, READ):
                users, items, _ = stored.read(first, READ)
                counts += np.bincount(users[(users > 0) & (items > 0)], minlength=n_users)
        groups = groups_of(counts, GROUP)
        spill = Spill(part, "group", int(groups[-1]) + 1)
        for stored in parts:
            for first in range(0, stored.n, READ):
                users, items, ratings = stored.read(first, READ)
                rows = np.stack([users, items, ratings.view(np.int32)], 1)[(users > 0) & (items > 0)]
                spill.add(groups[rows[:, 0]], rows)
        with open(part / "columns", "wb") as columns, open(part / "values", "wb") as values:
            for k in range(spill.n):
                rows = spill.take(k)
                rows = rows[np.argsort(rows[:, 0], kind="stable")]
                rows[:, 1].astype(np.int64).tofile(columns)
                np.ascontiguousarray(rows[:, 2]).tofile(values)
        np.save(part / "starts.npy", np.concatenate([[0], counts.cumsum()]))
        part.replace(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
