"""What commands read: models, ratings, and metadata of users and items; and that none of it is overwritten by what they
write."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack, cast

import pandas as pd

from ..data.split import CANONICAL, Split, leave_last, per_user_split, random_split, time_split, user_split
from ..data.tables import COMPRESSED, ENDINGS, near, read_table
from ..datasets.movielens import movielens
from ..errors import DataError, as_share
from ..files import kind_of
from ..interpret.labels import whom
from ..learner.collab_learner import CollabLearner
from ..learner.factory import load_learner
from ..learner.recipes import name_of_model
from .command import known_as
from .output import progress

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
    if model.is_dir():
        raise DataError(f"{model} is a folder; give the model file in it")
    if not model.exists():
        meant = near(model) if model.absolute().parent.is_dir() else ""
        raise DataError(f"there is no model file {model}{meant or f'; make one with: collab train DATA --out {model}'}")
    if kind_of(model) is None and any(model.name.lower().endswith((end, *(end + z for z in COMPRESSED)))
                                      for end in ENDINGS):
        raise DataError(f"{model} looks like a table, not like a model; train first: collab train {model}")
    return known_by_recipe(load_learner(model))


def known_by_recipe(learn: CollabLearner) -> CollabLearner:
    """The learner, whose model goes by the name of its recipe until the command ends."""
    known_as(learn.collab_model.kind, name_of_model(learn.collab_model, learn.ranks))
    return learn


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
        text = start.lstrip(b"\xef\xbb\xbf\xff\xfe").replace(b"\0", b"")       # in any encoding
        return start.startswith(b"PAR1") or re.match(rb"user(.)rank\1item\1", text) is not None
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
            point = given.replace(",", ".")
            hint = f"; write {point}" if re.fullmatch(r"0?\.\d+", point) else as_share(given)
            raise DataError(f"--test {given} is neither a fraction, such as 0.1, nor a file{hint}") from None
        return read(given, **reading)[0], given
    if not 0 < fraction < 1:
        raise DataError(f"--test {given}: a fraction is above 0 and below 1{as_share(given)}")
    if split in WITHOUT_FRACTION:
        raise DataError(f"--split {split} decides by itself what is held out, and takes no fraction as --test; take "
                        "--split random or time, or a file of ratings")
    return cast(Split, split_of(split, valid_pct=fraction, seed=seed + 1)), fraction
