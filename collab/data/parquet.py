"""A CollabDataBunch over Parquet files that need not fit into memory (see `CollabDataBunch.from_parquet`)."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ..environment import bars_wanted
from ..errors import DataError, quoted, warn
from .aside import Aside
from .batches import VALID_BS, TensorBatches, default_device
from .encoded import Options, encoding_in, read
from .encoder import Encoded, Sizes, encode_into
from .frames import TableLike
from .mapped import ROW, MappedBatches, Stored
from .mapped_aside import MappedAside
from .metadata import metadata, title_column, warn_of_lacking
from .outliers import warn_of_far
from .parts import Cut
from .repeated import refuse_options, warn_of_pairs
from .row_groups import Paths, Sources
from .schema import Schema
from .split import VALID_PCT, Split, random_split, time_split
from .streamed_split import AtRandom, ByTime, Keys, Streamed, sortable, streamed_kind
from .times import times_of

if TYPE_CHECKING:
    from .databunch import CollabDataBunch

UNITS = {"": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
IN_MEMORY = 1 / 16      # share of `memory` up to which a held-out part stays there


def from_parquet(cls: type[CollabDataBunch], ratings: Paths, user_name: Hashable | None = None,
                 item_name: Hashable | None = None, rating_name: Hashable | None = None,
                 time_name: Hashable | None = None, *, folder: str | Path, valid_pct: float = VALID_PCT,
                 split: Split | str | None = None, seed: int | None = None, items: TableLike | None = None,
                 users: TableLike | None = None, title_name: Hashable | None = None, bs: int = 64,
                 val_bs: int | None = None, device: torch.device | str | None = None, duplicates: str | None = None,
                 memory: int | str = "1GB", tiles: bool = False) -> CollabDataBunch:
    """`from_df` for ratings in Parquet files that need not fit into memory: they are encoded once, in row groups, into
    files that training reads block by block.

    - `ratings`: a file, a folder of files (those of its folders too, in the order of their names), or a list of
      either, all with the same columns. `user_name`, `item_name`, `rating_name`, `time_name`: as for `from_df`.
    - `folder`: where the encoded ratings are kept, some 12 bytes a rating, up to 24 while they are made, and 12 more
      for each of the histories that `recommend` and `evaluate` ask for. While the files (paths, sizes, times of change
      and footers) and the options below are the same, a second call only opens what is there; otherwise it encodes
      again, and removes what was there. A process that is killed leaves nothing that would be opened.
    - `valid_pct`, `split`: the fraction that is held out at random: the same rows whatever the row groups are, but not
      those of `from_df`; or `random_split(...)` or `time_split(...)`. Other splits would have to sort all ratings, and
      are refused.
    - `seed`: of the split, the order of the rows and that of batches. None takes that of the encoding in `folder`, or
      draws one where there is none.
    - `items`, `users`, `title_name`: metadata to show, as for `from_df`. They are not encoded as features.
    - `duplicates`: pairs that are rated again cannot be told without a sort, so that all rows are kept; a
      warning says how many there are, by a sample of the users where ratings are many, unless it is "keep".
    - `bs`, `val_bs`, `device`: as for `from_df`; there is no bs="full".
    - `memory`: bytes, or text such as "2GB", that the arrays of encoding take at most, beside the ids of users and
      items and the libraries themselves; a held-out part stays in memory up to a sixteenth of it.

    - `tiles`: write the training rows once more (12 bytes each, 36 while they are made), in the order in which ratings
      in memory are trained by row-wise Adagrad where they are many (see `TiledBatches`). An epoch then takes three
      fifths of the time, and two threads share it; the errors are higher than in a random order, by .002 on 8 million
      ratings of a scale of 5.

    The vocabs are those of `from_df` for the same training rows. What trains in batches, and recommending, evaluating
    and errors, take memory for a block of ratings. What needs all ratings at once, such as "als", "svdpp", `export` or
    `report`, reads them into memory, 20 bytes a rating, and raises DataError where there is no room.

    Raises FileNotFoundError, and DataError for what cannot be trained on, with the file, the column, the rows and the
    remedy: before work starts for what the footers tell, such as missing columns, other types and missing ids; and for
    a disk without room."""
    refuse_options(duplicates)
    sizes = Sizes.of(bytes_of(memory))
    if seed is not None and not isinstance(seed, Integral):
        raise DataError(f"seed must be a whole number or None, got {seed!r}")
    for name, size in (("bs", bs), ("val_bs", val_bs)):
        if size is not None and not (isinstance(size, Real) and size >= 1 and size == int(size)):
            raise DataError(f"the batch size {name} must be a whole number from 1 on, got {size!r}; data in files have "
                            "no bs='full'" if size == "full" else
                            f"the batch size {name} must be a whole number from 1 on, got {size!r}")
    if split is not None and valid_pct not in (0, VALID_PCT):
        warn(f"valid_pct={valid_pct} is not used, since the split says what is held out; leave one of the two out")
    random_split(valid_pct)                 # raises what is wrong with the fraction
    how = streamed_kind(split, valid_pct, None if seed is None else int(seed))
    sources = Sources(ratings)
    schema = sources.schema(user_name, item_name, rating_name, time_name, timed=how["by"] == "time")
    options: Options = {"columns": [*map(str, schema.roles().values())], "split": how,
                        "seed": None if seed is None else int(seed), "tiles": bool(tiles)}

    def encode(into: Path, options: Options) -> Encoded:
        with _bar(2 * sources.n) as done:
            how = _streamed(sources, schema, into, options["split"], sizes)
            return encode_into(into, sources.tables(schema, sizes.read), sources.n, schema, how, options["seed"], sizes,
                               lambda column: _keys(column, schema.time), done, tiles=tiles)
    path, options = encoding_in(Path(folder), sources.signature(), options, sources.n, encode)
    found, seed = read(path), int(options["seed"])
    vocabs = found.users.vocab, found.items.vocab
    tables = metadata(users, schema.user, vocabs[0]), metadata(items, schema.item, vocabs[1])
    title_name = title_column(tables[1], title_name, None)
    warn_of_lacking(tables[1], vocabs[1], features=False, titles=title_name is not None)
    device = default_device() if device is None else torch.device(device)
    shape = len(vocabs[0]), len(vocabs[1])
    if split is None and not found.n_valid and valid_pct:
        warn(f"valid_pct={valid_pct} holds out none of {found.n_train:,} ratings, so there is no validation part; hold "
             "out more, or none with valid_pct=0")
    if duplicates is None:
        warn_of_pairs(found.repeated)
    warn_of_far(found.totals.levels.numpy(), found.totals.times.numpy(), schema.rating)
    train = MappedBatches(Stored(path, "train", found.n_train), bs=bs, shuffle=True, seed=seed, device=device,
                          shape=shape, digest=f"{path.name}.train", totals=found.totals)
    valid, aside = _held_out(path, found, max(bs, VALID_BS) if val_bs is None else val_bs, seed, device, memory)
    return cls(train, valid, None, *vocabs, item_table=tables[1], user_table=tables[0], title_name=title_name,
               seed=seed, device=device, schema=schema, aside=aside, cut=Cut(_split_of(options["split"])))


def _held_out(path: Path, found: Encoded, bs: int, seed: int, device: torch.device, memory: int | str,
              ) -> tuple[TensorBatches | None, Aside]:
    """The validation part, in memory where it is small, and the same ratings as known ones."""
    if not found.n_valid:
        return None, MappedAside(found.users, found.items, {})
    shape = len(found.users.vocab), len(found.items.vocab)
    stored = Stored(path, "valid", found.n_valid)
    small = ROW * found.n_valid <= IN_MEMORY * bytes_of(memory)
    aside = MappedAside(found.users, found.items, {"valid": stored}, keep=small)
    if not small:
        return MappedBatches(replace(stored, within=shape), bs=bs, seed=seed, device=device, shape=shape,
                             digest=f"{path.name}.valid"), aside
    return TensorBatches(*(aside.batch("valid") or ()), bs=bs, seed=seed, device=device, shape=shape), aside


def _split_of(options: dict[str, Any]) -> Split:
    """The split of a table that does the same as the streamed one: the same fraction, by the same rule."""
    if options["by"] == "time":
        return time_split(options["valid_pct"])
    return random_split(options["valid_pct"], options["seed"])


def _streamed(sources: Sources, schema: Schema, folder: Path, how: dict[str, Any], sizes: Sizes) -> Streamed:
    if how["by"] == "random":
        return AtRandom(sources.n, how["valid_pct"], how["seed"])
    path = folder / "times"
    with open(path, "wb") as file:
        for _, _, column in sources.column(schema.time, sizes.read):
            _keys(column, schema.time).tofile(file)

    def keys() -> Iterator[Keys]:
        return (np.fromfile(path, np.uint64, sizes.read, offset=8 * first) for first in range(0, sources.n, sizes.read))
    split = ByTime(keys, sources.n, how["valid_pct"])
    path.unlink()
    return split


def _keys(column: pd.Series, name: Hashable) -> Keys:
    times = times_of(column, name)
    assert times is not None            # it raises what is wrong
    return sortable(times)


def bytes_of(memory: int | str) -> int:
    """Bytes from a number, or from text such as "1GB" or "512 MiB"."""
    match = re.fullmatch(r"\s*([\d.]+)\s*([kmg]?i?b?)\s*", memory.lower()) if isinstance(memory, str) else None
    unit = "" if match is None else match[2] if match[2].endswith("b") or not match[2] else f"{match[2]}b"
    try:
        if match is not None and unit in UNITS:
            return int(float(match[1]) * UNITS[unit])
        if isinstance(memory, Integral) and not isinstance(memory, bool):
            return int(memory)
    except ValueError:
        pass
    raise DataError(f"memory={quoted(memory)} is neither a number of bytes nor text such as '1GB' or '512MB'")


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    """What is told how much of `total` is done, and shows it in a notebook or a terminal."""
    if not bars_wanted():
        yield lambda n: None
        return
    from fastprogress import progress_bar  # late: it imports matplotlib in a notebook
    bar: Any = progress_bar(range(total), leave=False)
    bar.update(0)
    try:
        yield lambda n: bar.update(min(n, total - 1))
    finally:
        bar.on_iter_end()
