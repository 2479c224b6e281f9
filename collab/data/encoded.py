"""A folder of encoded ratings: made once from Parquet files, and opened without reading them while they stay the same.

    FOLDER/
      3f0c.../      one encoding, named after its sources and options: a manifest, vocabs, totals, columns
      .3f0c....part/    one that is being made, or that was cut off; it takes its name when it is complete

A folder keeps the last encoding; those of other sources or options are removed when a new one is complete."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DataError
from ..files import alone_with
from .aside import WiderVocab
from .encoder import ON_DISK, TILED, Encoded
from .tiles import Grid
from .totals import Totals
from .vocab import Vocab

MANIFEST = "manifest.json"
NAME = re.compile("[0-9a-f]{16}")       # of an encoding
VERSION = 1
WAIT = 0.2              # seconds between looks at an encoding that another process makes
SEED = "seed"

Options = dict[str, Any]


def encoding_in(folder: Path, sources: list[list[object]], options: Options, n: int,
                encode: Callable[[Path, Options], Encoded]) -> tuple[Path, Options]:
    """(the folder of the encoding of these sources with these options, its options). Where there is none yet, `encode`
    writes one into an empty folder: no other process sees it before it is complete, and others that want the same wait
    for it. With a seed of None an encoding of any seed will do, and a new one draws its seed from torch's generator.

    Raises DataError for a file in place of a folder, and where the disk has no room for n ratings."""
    if folder.is_file():
        raise DataError(f"{folder} is a file; the encoded ratings need a folder: choose another folder=...")
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        if (found := _found(folder, sources, options)) is not None:
            return found
        with alone_with(folder / "encoding") as alone:
            if not alone:
                time.sleep(WAIT)
            elif (found := _found(folder, sources, options)) is None:
                return _make(folder, sources, options, n, encode)


def _found(folder: Path, sources: list[list[object]], options: Options) -> tuple[Path, Options] | None:
    for path in _encodings(folder):
        try:
            known = json.loads((path / MANIFEST).read_text())
        except (OSError, ValueError):           # just removed, or damaged
            continue
        if known["version"] == VERSION and known["sources"] == sources:
            own: Options = known["options"]
            if _seeded(options, own[SEED]) == own:
                return path, own
    return None


def _encodings(folder: Path) -> list[Path]:
    """The folders that have the name of an encoding and a manifest; others in the same place are not ours."""
    return [path.parent for path in folder.glob(f"*/{MANIFEST}") if NAME.fullmatch(path.parent.name)]


def _seeded(options: Options, seed: int) -> Options:
    """The options with this seed where they have none."""
    split = options["split"]
    return options if options[SEED] is not None else {
        **options, SEED: seed, "split": {**split, SEED: seed} if split[SEED] is None else split}


def _make(folder: Path, sources: list[list[object]], options: Options, n: int,
          encode: Callable[[Path, Options], Encoded]) -> tuple[Path, Options]:
    for left in folder.glob(".*.part"):
        if NAME.fullmatch(left.name[1:-len(".part")]):
            shutil.rmtree(left)
    _check_room(folder, n * (TILED if options["tiles"] else ON_DISK))
    if options[SEED] is None:
        options = _seeded(options, int(torch.randint(2**31, ())))
    name = hashlib.blake2b(json.dumps([VERSION, sources, options]).encode(), digest_size=8).hexdigest()
    part, path = folder / f".{name}.part", folder / name
    part.mkdir()
    try:
        write(part, encode(part, options), {"version": VERSION, "sources": sources, "options": options})
        if path.exists():                       # of a manifest that could not be read
            shutil.rmtree(path)
        os.replace(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    for other in _encodings(folder):
        if other != path:
            shutil.rmtree(other)
    return path, options


def _check_room(folder: Path, needs: int) -> None:
    if needs > (free := shutil.disk_usage(folder).free):
        raise DataError(f"{folder}: encoding these ratings takes up to {needs / 1e6:,.0f} MB on disk, and "
                        f"{free / 1e6:,.0f} MB are free there; choose another folder=...")


def write(folder: Path, found: Encoded, manifest: dict[str, Any]) -> None:
    """Write what encoding has found beside the columns, the manifest last."""
    for side, wide in (("users", found.users), ("items", found.items)):
        _write_vocab(folder / side, wide.vocab)
        if wide.more is not None:
            _write_vocab(folder / f"{side}.more", wide.more)
    for name, values in (("levels", found.totals.levels), ("times", found.totals.times),
                         ("counts.users", found.totals.counts[0]), ("counts.items", found.totals.counts[1])):
        np.save(folder / f"{name}.npy", values.numpy())
    manifest |= {"mean": found.totals.mean, "n_train": found.n_train, "n_valid": found.n_valid,
                 "repeated": found.repeated, "grid": None if found.grid is None else asdict(found.grid)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def read(folder: Path) -> Encoded:
    """What `write` wrote. Raises DataError where files lack."""
    try:
        known = json.loads((folder / MANIFEST).read_text())
        vocabs = [_read_vocab(folder / name) for name in ("users", "items", "users.more", "items.more")]
        if vocabs[0] is None or vocabs[1] is None:
            raise ValueError("there are no ids in it")
        users, items = WiderVocab(vocabs[0], vocabs[2]), WiderVocab(vocabs[1], vocabs[3])
        levels, times = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("levels", "times"))
        counts = [torch.from_numpy(np.load(folder / f"counts.{side}.npy", mmap_mode="c"))
                  for side in ("users", "items")]
        grid = known["grid"] and Grid(tuple(known["grid"]["block"]), tuple(known["grid"]["blocks"]))
        return Encoded(users, items, Totals(known["mean"], levels, times, (counts[0], counts[1])), known["n_train"],
                       known["n_valid"], grid, known["repeated"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is damaged ({error}); remove it, and it is made anew") from error


def _write_vocab(path: Path, vocab: Vocab) -> None:
    ids = vocab.decode(np.arange(1, len(vocab)))
    if ids.dtype.kind in "iu":
        np.save(f"{path}.npy", ids)
    else:
        Path(f"{path}.json").write_text(json.dumps(vocab.to_state()))


def _read_vocab(path: Path) -> Vocab | None:
    """The vocab of these files; None where there are none."""
    numbers, others = Path(f"{path}.npy"), Path(f"{path}.json")
    if numbers.exists():
        return Vocab(np.load(numbers), path.name[:4])
    return Vocab.from_state(json.loads(others.read_text())) if others.exists() else None
