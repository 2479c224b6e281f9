"""What commands read: ratings, metadata of users and items, and the ratings that were held out of training; and that
none of it is overwritten by what they write."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack, cast

import pandas as pd
import torch

from ..data.batches import TensorBatches
from ..data.schema import Schema
from ..data.split import CANONICAL, Split, after, leave_last, per_user_split, random_split, time_split, user_split
from ..data.tables import ENDINGS, read_table
from ..datasets.movielens import movielens
from ..errors import DataError, listed
from ..files import kind_of
from ..interpret.labels import whom
from ..learner.collab_learner import CollabLearner
from ..learner.factory import load_learner
from .command import worded
from .output import progress
from .remedies import of_table

OPTIONS = ("sep", "format", "header", "encoding", "decimal", "date_format", "bad_lines")
WITHOUT_FRACTION = ("last", *CANONICAL)     # splits that know by themselves how much they hold out
WITHOUT_CHANCE = ("time", *WITHOUT_FRACTION)
WRITTEN = {"model": "a model that collab wrote", "page": "a page (HTML)", "lists": "lists that collab wrote",
           "log": "a log of JSON lines", "study": "the file of a study", "index": "an index that collab wrote",
           "picture": "a picture (PNG or SVG)"}
"""What the outputs of commands are: a file that is not must not be overwritten by one."""
T = TypeVar("T")
Tables = tuple[pd.DataFrame, pd.DataFrame | None, pd.DataFrame | None]      # ratings, items, users


class Reading(TypedDict, total=False):
    """Options of `read_table`, of those that were given."""

    sep: str
    format: str
    header: bool
    encoding: str
    decimal: str
    date_format: str
    bad_lines: str


def load(model: Path) -> CollabLearner:
    if not model.exists():
        raise DataError(f"there is no model file {model}; make one with: collab train DATA --out {model}")
    return load_learner(model)


def item_of(learn: CollabLearner, text: str) -> Hashable:
    """The item with this id, title, or part of a title; where several match, print which one is taken."""
    found = learn.data.find_items(text)
    if len(found) > 1:
        print(f"Warning: {whom(learn.data, text, found)}", file=sys.stderr)
    return found[0]


def check_writable(out: Path, sort: str, *, option: str = "--out",
                   inputs: Iterable[str | Path | None] = ()) -> None:
    """Raise DataError, before hours of work rather than after them, where `out` cannot be written or should not be:
    where it is one of `inputs` (under any of its names), where it is there and not of its `sort`, a key of WRITTEN, or
    where more than one folder is missing, which is more likely a slip than a wish."""
    missing = [folder for folder in out.absolute().parents if not folder.exists()]
    folder = next(p for p in out.absolute().parents if p.exists())
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DataError(f"{option} {out} cannot be written: " + (f"{out} is a folder" if out.is_dir() else
                                                                 f"{folder} is not a folder that can be written to"))
    if len(missing) > 1:
        raise DataError(f"{option} {out} cannot be written: there is no folder {missing[-1]}; if it is not misspelled, "
                        f"make {missing[0]} first")
    for path in inputs:
        if path is not None and _is_same(out, Path(path)):
            raise DataError(f"{option} {out} would overwrite {path}, which this command needs; take another name")
    if out.is_file() and out.stat().st_size and not _is_of(sort, out):
        raise DataError(f"{option} {out} is there already, and is not {WRITTEN[sort]}; take another name, or remove it "
                        "first")


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names are of one file, there already or to be made."""
    return os.path.realpath(one) == os.path.realpath(other) or (one.exists() and other.exists()
                                                                and one.samefile(other))


def _is_of(sort: str, path: Path) -> bool:
    """Whether a file begins as this sort of output does."""
    if sort in ("model", "index"):
        return kind_of(path) == sort
    with open(path, "rb") as file:
        start = file.read(512)
    if sort == "lists":
        return start.startswith((b"PAR1", b"user,rank,item,"))
    begins = {"page": (b"<!doctype html",), "log": (b"{",), "study": (b"sqlite format 3",),
              "picture": (b"\x89png", b"<?xml", b"<svg")}
    return start.lstrip().lower().startswith(begins[sort])


def given(**options: T | None) -> dict[str, T]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def only(options: Mapping[str, object], names: Iterable[str]) -> Reading:
    """Those of the options that have these names and are not None."""
    return cast(Reading, {name: options[name] for name in names if options.get(name) is not None})


def named(options: Iterable[str]) -> str:
    """"--lr and no --wd": the options after "takes no"."""
    return " and no ".join(f"--{name.replace('_', '-')}" for name in options)


def is_set(source: str | Path) -> bool:
    """Whether `source` is the name of a MovieLens set and not a file."""
    return str(source).startswith("ml-") and not Path(source).exists()


def takes(source: str | Path, format: str | None = None, sep: str | None = None) -> tuple[str, ...]:
    """Those of OPTIONS that apply to a source."""
    if is_set(source):
        return ()
    kind = format or ENDINGS.get(Path(source).suffix.lower())
    if kind == "recbole" and (format or not sep):
        return "sep", "format", "encoding", "date_format"
    return ("format", "date_format") if kind == "parquet" else OPTIONS


def with_bad_lines(source: str, reading: Reading, bad_rows: str | None) -> Reading:
    """How a source is read, where with --bad-rows drop lines that cannot be read go too."""
    drop = bad_rows == "drop" and "bad_lines" in takes(source, reading.get("format"), reading.get("sep"))
    return {**reading, "bad_lines": "drop"} if drop else reading


def read(source: str, ids: Iterable[Hashable | None] = (), **reading: Unpack[Reading]) -> Tables:
    """(ratings, items, users) of a MovieLens set, or of a file whose columns `ids` hold ids. Raises DataError for
    options that do not apply to the source."""
    idle = [name for name in reading if name not in takes(source, reading.get("format"), reading.get("sep"))]
    if idle:
        raise DataError(f"{source} {'is a set of its own' if is_set(source) else 'has that in itself'}, and takes no "
                        f"{named(idle)}")
    if is_set(source):
        with progress():        # of a download
            ml = movielens(source)
        return ml.ratings, ml.items, ml.users
    return read_table(source, ids=[name for name in ids if name is not None], **reading), None, None


def split_of(name: str, *, valid_pct: float, seed: int) -> Split | str:
    """The split that --split names."""
    known: dict[str, Split | str] = {"random": random_split(valid_pct, seed), "time": time_split(valid_pct),
                                     "per-user": per_user_split(valid_pct, seed), "last": leave_last(1),
                                     "users": user_split(valid_pct, seed), **{fold: fold for fold in CANONICAL}}
    if name not in known:
        raise DataError(f"--split {name} is not one of {', '.join(known)}")
    return known[name]


def test_of(given: str | None, split: str, *, seed: int, **reading: Unpack[Reading],
            ) -> tuple[Split | pd.DataFrame | None, float | str | None]:
    """What --test holds out, as `from_df` takes it, and as the notes of a model keep it: a fraction or a file."""
    if given is None:
        return None, None
    try:
        fraction = float(given)
    except ValueError:
        if not Path(given).exists():
            raise DataError(f"--test {given} is neither a fraction, such as 0.1, nor a file") from None
        return read(given, **reading)[0], given
    if not 0 < fraction < 1:
        raise DataError(f"--test {given}: a fraction is above 0 and below 1")
    if split in WITHOUT_FRACTION:
        raise DataError(f"--split {split} decides by itself what is held out, and takes no fraction as --test; take "
                        "--split random or time, or a file of ratings")
    return cast(Split, split_of(split, valid_pct=fraction, seed=seed + 1)), fraction


def training_files(learn: CollabLearner, model: Path) -> list[Path]:
    """The files that a model was trained on, where they may be."""
    sources = [learn.notes.get(name) for name in ("source", "test")]
    return [path for source in sources if isinstance(source, str) for path in _places(source, model)]


def _places(source: str, model: Path) -> list[Path]:
    """Where a source of training may be: under the name that it had and, after a move, beside the model file."""
    return [Path(source), model.parent / source, model.parent / Path(source).name]


def _found(source: str, model: Path) -> str:
    """A source of training where it is. Raises DataError for a file that is in none of its places."""
    found = next((str(path) for path in _places(source, model) if path.is_file()), None)
    if found is None and not is_set(source):
        raise DataError(f"{model} was trained on {source}, which is neither here nor beside the model file; put it "
                        "there, or name the ratings to use with --data FILE")
    return found or source


# What was held out ------------------------------------------------------------------------------------------------

def held_out(learn: CollabLearner, model: Path, *, data: str | None = None, split: str | None = None,
             part: str | None = None, columns: Mapping[str, str] | None = None, duplicates: str | None = None,
             bad_rows: str | None = None, **reading: Unpack[Reading]) -> TensorBatches | None:
    """The ratings that were held out when the model was trained, read and split again, or those of other data; None
    where there are none. `part` is "valid" or "test", by default the latter where --test was given. `columns` of other
    data (by user, item, rating and time), `duplicates` and `bad_rows` are as in training. Raises DataError where they
    cannot be told from the training ratings."""
    if data is None and (said := [*(f"{role}_col" for role in columns or {}),
                                  *given(duplicates=duplicates, bad_rows=bad_rows)]):
        raise DataError(f"ratings of training are read as they were then; without --data this takes no {named(said)}")
    trained = learn.notes.get("source")
    source = trained if data is None else data
    if source is None:
        raise DataError(f"{model} does not say which ratings it was trained on, since it was exported from Python and "
                        "not written by collab train; name the ratings to use with --data FILE")
    same = source == trained
    if same and split not in (None, "none", learn.notes.get("split")):
        raise DataError(f"--split {split}: the model was trained with --split {learn.notes.get('split')}, so that most "
                        "ratings which another split holds out are ratings it has seen")
    _check_part(learn, model, part, split, same=same)
    test = learn.notes.get("test") if same and split != "none" else None
    if isinstance(test, str) and part != "valid":
        test = _found(test, model)
        how_late = only(learn.notes.get("reading", {}), takes(test)) | reading
        late = read(test, **how_late)[0]
        with worded(of_table(test, late, how_late)):
            return learn.data.batches(late)
    split = split or (learn.notes.get("split", "none") if same else "none")
    ids = [(columns or {}).get(role, getattr(learn.data.schema, role)) for role in ("user", "item")]
    kept = only(learn.notes.get("reading", {}), OPTIONS) if same else Reading()
    source = _found(source, model) if same else source
    kept |= with_bad_lines(source, reading, bad_rows)
    raw, *_ = read(source, ids, **kept)
    if columns:
        raw = _renamed(raw, source, learn.data.schema, columns)
    _check_columns(raw, source, learn.data.schema, learn.data.implicit)
    known = learn.notes.get("fingerprint")
    if same and split != "none" and known is not None and known != fingerprint(raw, learn.data.schema):
        raise DataError(f"{source} is not what the model was trained on any more, so the ratings that were held out "
                        "cannot be told from the others; train again, or see all rows with --split none")
    valid_pct, seed = learn.notes.get("valid_pct", 0.2), learn.notes.get("seed", 0)
    how = None if split == "none" else split_of(split, valid_pct=valid_pct, seed=seed)
    if isinstance(test, float) and how is not None:
        first = split_of(split, valid_pct=test, seed=seed + 1)
        how = after(first, how) if part == "valid" else first
    if bad_rows is None:
        bad_rows = learn.notes.get("bad_rows", "error") if same else "error"
    if duplicates is None and (noted := learn.notes.get("duplicates", "keep")) and (same or noted != "keep"):
        duplicates = noted              # what was kept in training is warned of in other data
    with worded(of_table(source, raw, kept)):
        ratings = learn.data.table(raw, duplicates=duplicates, split=how, bad_rows=bad_rows)
    return learn.data.batches(ratings) if len(ratings) else None


def _check_part(learn: CollabLearner, model: Path, part: str | None, split: str | None, *, same: bool) -> None:
    """Raise DataError for a part that there is not, with those that there are."""
    if part is None:
        return
    if part not in ("valid", "test"):
        raise DataError(f"--part {part} is not one of valid, test")
    if not same:
        raise DataError("--part is of the ratings of training; leave it out with --data")
    notes = learn.notes
    valid = notes.get("split") in WITHOUT_FRACTION or notes.get("valid_pct", 0.2)
    has = [name for name, there in (("valid", valid), ("test", notes.get("test") is not None)) if there]
    told = f"training held out {f'the part {has[0]} alone' if len(has) == 1 else ' and '.join(has) or 'nothing'}" + (
        "" if "test" in has else "; for a part test train with --test, a fraction such as 0.1 or a file")
    if split == "none":
        raise DataError(f"--part {part} does not go with --split none, which measures all rows: leave one of the two "
                        f"out; {told}")
    if part not in has:
        how = {"valid": "with --valid-pct 0", "test": "without --test"}[part]
        raise DataError(f"--part {part}: {model} was trained {how}; {told}")


def part_of(learn: CollabLearner, *, data: str | None, split: str | None, part: str | None) -> str | None:
    """Which part of the ratings of training `held_out` takes: "valid", "test", or None for all rows and other data."""
    if data not in (None, learn.notes.get("source")) or (split or learn.notes.get("split")) == "none":
        return None
    return part or ("valid" if learn.notes.get("test") is None else "test")


def _renamed(ratings: pd.DataFrame, source: str, schema: Schema, columns: Mapping[str, str]) -> pd.DataFrame:
    """Ratings whose columns have the names that they had in training, where they are called as `columns` says or, for
    roles that it leaves out, by the name of the role."""
    names = dict[Hashable, Hashable]()
    for role in ("user", "item", "rating", "time"):
        wanted, name = getattr(schema, role), columns.get(role, role)
        if role in columns and name not in ratings:
            raise DataError(f"--{role}-col {name}: {source} has no such column; it has {listed(ratings.columns)}")
        if role in columns and wanted is None:
            raise DataError(f"--{role}-col {name}: the model was trained without times")
        if name in ratings and (role in columns or wanted not in ratings):
            names[name] = wanted
    rest = [name for name in ratings if name in names or name not in {*names.values()}]
    return ratings[rest].rename(columns=names)


def seen(learn: CollabLearner, part: TensorBatches) -> int:
    """The number of ratings in a part whose pair was trained on."""
    pairs = [users * learn.data.n_items + items for users, items, _ in (learn.data.train.tensors, part.tensors)]
    return int(torch.isin(pairs[1], pairs[0]).sum())


def fingerprint(ratings: pd.DataFrame, schema: Schema) -> str:
    """A hash that is the same for the same ratings in the same order."""
    columns = [name for name in (schema.user, schema.item, schema.rating) if name in ratings]
    hashed = pd.util.hash_pandas_object(ratings[columns], index=False).to_numpy()
    return hashlib.sha256(hashed.tobytes()).hexdigest()[:16]


def _check_columns(ratings: pd.DataFrame, source: str, schema: Schema, implicit: bool) -> None:
    """Raise DataError where the columns have neither the names that they had in training nor the usual ones."""
    wanted = [str(name) for name in (schema.user, schema.item, *(() if implicit else (schema.rating,)))]
    if not ({*wanted} <= {*ratings.columns} or {"user", "item", "rating"} <= {*ratings.columns}):
        raise DataError(f"{source} has the columns {listed(ratings.columns)}, and the model was trained on "
                        f"{', '.join(wanted)}: give them these names, or user, item and rating")
