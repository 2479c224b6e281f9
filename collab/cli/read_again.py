"""What `evaluate` and `report` measure on: the ratings of training, found, read and split again, or others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Unpack

import pandas as pd
import torch

from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..data.schema import Schema
from ..data.split import Split, after
from ..data.times import NoDates
from ..errors import DataError, counted, listed, they
from ..files import Config
from ..learner.collab_learner import CollabLearner
from .command import as_options, worded
from .inputs import (
    OPTIONS,
    WITHOUT_FRACTION,
    Reading,
    given,
    is_set,
    named,
    only,
    read,
    split_of,
    takes,
    with_bad_lines,
)
from .metadata_files import in_utf8
from .remedies import of_table

TIMED = ("time", "last")        # splits that depend on times


class Held(NamedTuple):
    """Ratings to measure on, None where there are none, and which part of those of training they are: "valid", "test",
    or None for all rows and other data; and what reads the `other` of these two, where there is one."""

    ratings: TensorBatches | None
    part: str | None
    other: Callable[[], TensorBatches | None] | None = None


class AsRead(NamedTuple):
    """The rows of a source, in columns of training, and how they were read."""

    source: str
    rows: pd.DataFrame
    reading: Reading


def training_files(learn: CollabLearner, model: Path) -> list[Path]:
    """The files that a model was trained on, where they may be."""
    sources = [learn.notes.get(name) for name in ("source", "test")]
    return [path for source in sources if isinstance(source, str) for path in _places(source, model)]


def held_out(learn: CollabLearner, model: Path, *, data: str | None = None, split: str | None = None,
             part: str | None = None, columns: Mapping[str, str] | None = None, duplicates: str | None = None,
             bad_rows: str | None = None, say: Callable[[str], None] = print, splits: bool = True,
             **reading: Unpack[Reading]) -> Held:
    """The ratings that were held out when the model was trained, read and split again, or all those of other `data`.
    Data of another name that hold the ratings of training are taken for these, unless another `split` is given; how a
    file was read is told by `say`.
    `part` is "valid" or "test", by default the latter where --test was given. `columns` of the data (by user, item,
    rating and time), `duplicates`, `bad_rows` and `reading` are by default as in training. Raises DataError where what
    was held out cannot be told from the training ratings. Messages name --split none where the command has it, as
    `splits` says."""
    if data is None and (said := [*(f"{role}_col" for role in columns or {}),
                                  *given(duplicates=duplicates, bad_rows=bad_rows)]):
        raise DataError(f"ratings of training are read as they were then; without --data this takes no {named(said)}")
    notes, trained = learn.notes, learn.notes.get("source")
    source = trained if data is None else data
    if source is None:
        raise DataError(f"{model} does not say which ratings it was trained on, since it was exported from Python and "
                        "not written by collab train; name the ratings to use with --data FILE")
    if part not in (None, "valid", "test"):
        raise DataError(f"--part {part} is not one of valid, test")

    table, same = None, source == trained
    if not same:
        table = _other(learn, source, columns or {}, bad_rows=bad_rows, say=say, **reading)
        as_then = split in (None, "none", notes.get("split")) or part is not None
        same = as_then and _of_training(learn, table.rows) is True
        if same and split in (None, notes.get("split")):
            say(f"{source} holds the ratings of training: what was held out of them is measured"
                f"{'; --split none measures all of them' if splits else ''}.")
    _check_split(learn, model, source, part=part, split=split, same=same)
    which = None if not same or (split or notes.get("split", "none")) == "none" else part or (
        "valid" if notes.get("test") is None else "test")
    if which == "test" and isinstance(notes["test"], str):
        found = _test_file(learn, model, source, **reading)
        return Held(found, which, None if not _has_valid(notes) else lambda: held_out(
            learn, model, data=data, split=split, part="valid", columns=columns, duplicates=duplicates,
            bad_rows=bad_rows, say=lambda _: None, **reading).ratings)
    if table is None:
        table = _trained(learn, _found(source, model), columns or {}, bad_rows=bad_rows, **reading)
        if which is not None and _of_training(learn, table.rows) is False:
            raise DataError(f"{table.source} is not what the model was trained on any more, so the ratings that were "
                            "held out cannot be told from the others; train again"
                            f"{', or see all rows with --split none' if splits else ''}")
    how = split or (notes.get("split", "none") if same else "none")
    valid_pct, seed, test = notes.get("valid_pct", 0.2), notes.get("seed", 0), notes.get("test") if which else None
    rule = None if how == "none" else split_of(how, valid_pct=valid_pct, seed=seed)
    if duplicates is None and (noted := notes.get("duplicates", "keep")) and (same or noted != "keep"):
        duplicates = noted              # what was kept in training is warned of in other data

    def of(rule: Split | str | None) -> TensorBatches | None:
        with worded(of_table(table.source, table.rows, table.reading)):
            ratings = learn.data.table(table.rows, duplicates=duplicates, split=rule,
                                       bad_rows=bad_rows or notes.get("bad_rows", "error"))
        return learn.data.batches(ratings) if len(ratings) else None
    if which == "valid" and isinstance(test, str):
        return Held(of(rule), which, lambda: _test_file(learn, model, source, **reading))
    if not isinstance(test, float) or rule is None:
        return Held(of(rule), which)
    first = split_of(how, valid_pct=test, seed=seed + 1)
    rest = after(first, rule)
    if which == "valid":
        return Held(of(rest), which, lambda: of(first))
    return Held(of(first), which, (lambda: of(rest)) if _has_valid(notes) else None)


def _has_valid(notes: Config) -> bool:
    """Whether training held out a part for validation."""
    return notes.get("split") in WITHOUT_FRACTION or bool(notes.get("valid_pct", 0.2))


def seen(learn: CollabLearner, part: TensorBatches) -> int:
    """The number of ratings in a part whose pair was trained on."""
    pairs = [users * learn.data.n_items + items for users, items, _ in (learn.data.train.tensors, part.tensors)]
    return int(torch.isin(pairs[1], pairs[0]).sum())


def of_pairs(data: CollabDataBunch, file: str) -> str:
    """What is to be said of a part test of which pairs of user and item come again, or are trained on too: nothing
    where none is, or of choices, which are added up and of which rankings leave out those of training."""
    if data.implicit or data.test is None:
        return ""
    users, items, _ = data.aside.parts["test"]
    pairs = users * len(data.aside.items) + items
    u, i, _ = (part.cpu() for part in data.train.tensors)
    trained = int(torch.isin(pairs, u * len(data.aside.items) + i).sum())
    again = len(pairs) - len(torch.unique(pairs))
    told = [f"{again:,} {they(again, 'rates', 'rate')} a pair again"] * bool(again)
    told += [f"{trained:,} {they(trained)} of pairs that are trained on too: the error on them looks smaller than it is"
             ] * bool(trained)
    return f"{file}: of {counted(len(pairs), 'rating')}, {' and '.join(told)}." if told else ""


# Which ratings they are -------------------------------------------------------------------------------------------

def fingerprints(ratings: pd.DataFrame, schema: Schema, split: str | None) -> dict[str, str]:
    """Hashes that are the same for the same ratings in the same order, as the notes of a model have them: of users,
    items and ratings and, where the `split` depends on them, of times."""
    found = {"fingerprint": _hash(ratings, (schema.user, schema.item, schema.rating))}
    if split in TIMED and schema.time in ratings:
        found["fingerprint_of_times"] = _hash(ratings, (schema.time,))
    return found


def _hash(ratings: pd.DataFrame, names: Iterable[Hashable]) -> str:
    columns = [name for name in names if name in ratings]
    hashed = pd.util.hash_pandas_object(ratings[columns], index=False).to_numpy()
    return hashlib.sha256(hashed.tobytes()).hexdigest()[:16]


def _of_training(learn: CollabLearner, rows: pd.DataFrame) -> bool | None:
    """Whether these are the ratings that the model was trained on; None where its file does not say."""
    schema, notes = learn.data.schema, learn.notes
    kept = {name: value for name, value in notes.items() if name.startswith("fingerprint")}
    if not kept or not {schema.user, schema.item} <= {*rows}:
        return False if kept else None
    found = fingerprints(rows, schema, notes.get("split"))
    return all(found.get(name) == value for name, value in kept.items())


def _check_split(learn: CollabLearner, model: Path, source: str, *, part: str | None, split: str | None,
                 same: bool) -> None:
    """Raise DataError for another split of the ratings of training, and for a part that there is not, with those that
    there are."""
    notes = learn.notes
    if same and split not in (None, "none", notes.get("split")):
        raise DataError(f"--split {split}: the model was trained with --split {notes.get('split')}, so that most "
                        "ratings which another split holds out are ratings it has seen")
    if part is None:
        return
    if not same:
        raise DataError(f"--part is of the ratings of training, and {source} holds others; leave it out")
    has = [name for name, there in (("valid", _has_valid(notes)), ("test", notes.get("test") is not None)) if there]
    told = f"training held out {f'the part {has[0]} alone' if len(has) == 1 else ' and '.join(has) or 'nothing'}" + (
        "" if "test" in has else "; for a part test train with --test, a fraction such as 0.1 or a file")
    if split == "none":
        raise DataError(f"--part {part} does not go with --split none, which measures all rows: leave one of the two "
                        f"out; {told}")
    if part not in has:
        how = {"valid": "on it by collab tune" if "tuned" in notes else "with --valid-pct 0",
               "test": "without --test"}[part]
        raise DataError(f"--part {part}: {model} was trained {how}; {told}")


# Reading them -----------------------------------------------------------------------------------------------------

def _places(source: str, model: Path) -> list[Path]:
    """Where a source of training may be: under the name that it had and, after a move, beside the model file."""
    return [Path(source), model.parent / source, model.parent / Path(source).name]


def _found(source: str, model: Path, *, beside: str | None = None, was: str = "was trained on",
           instead: str = "name the ratings to use with --data FILE") -> str:
    """A source of training where it is, or `beside` another file. Raises DataError for a file that is in none of its
    places, and says what it `was` and what to do `instead`."""
    near = [] if beside is None else [Path(beside).parent / Path(source).name]
    found = next((str(path) for path in [*_places(source, model), *near] if path.is_file()), None)
    if found is None and not is_set(source):
        raise DataError(f"{model} {was} {source}, which is neither here nor beside the model file; put it there, or "
                        f"{instead}")
    return found or source


def _trained(learn: CollabLearner, source: str, columns: Mapping[str, str], *, bad_rows: str | None,
             **reading: Unpack[Reading]) -> AsRead:
    """The ratings of training as they were read then, but for the `reading` that is given."""
    kept = only(learn.notes.get("reading", {}), OPTIONS) | with_bad_lines(source, reading, bad_rows)
    return _read(learn, source, columns, kept)


def _test_file(learn: CollabLearner, model: Path, source: str, **reading: Unpack[Reading]) -> TensorBatches:
    """The ratings of the file that was held out for the end, from its place or beside those of training, by the rules
    of training for rows that are bad or repeated, and by the `reading` that is given or, where it is not written so, as
    in training."""
    notes = learn.notes
    test = _found(notes["test"], model, beside=source, was="has as its part test (--test) the file",
                  instead="say --part valid, or measure it with --data FILE")
    kept = only(notes.get("reading", {}), takes(test))

    def batches(how: Reading) -> TensorBatches:
        rows = read(test, **how)[0]
        with worded(of_table(test, rows, how)):
            return learn.data.batches(learn.data.table(rows, duplicates=notes.get("duplicates", "keep"),
                                                       bad_rows=notes.get("bad_rows", "error")))
    try:
        return batches(kept | reading)
    except DataError as error:
        if not reading:
            raise
        try:
            return batches(kept)
        except DataError:
            raise error from None


def _other(learn: CollabLearner, source: str, columns: Mapping[str, str], *, bad_rows: str | None,
           say: Callable[[str], None], **reading: Unpack[Reading]) -> AsRead:
    """Ratings of another name, read by the `reading` that is given and, where they can be, as those of training; which
    of the two `say` tells."""
    own = with_bad_lines(source, reading, bad_rows)
    kept = only(learn.notes.get("reading", {}), OPTIONS)
    apply = takes(source, own.get("format", kept.get("format")), own.get("sep", kept.get("sep")))
    more = only(kept, (name for name in apply if name not in own and not (name == "bad_lines" and bad_rows)))
    if Path(source).is_file() and in_utf8(Path(source), more):
        more.pop("encoding")
    if not more:
        return _read(learn, source, columns, own)
    try:
        table = _read(learn, source, columns, {**more, **own})
    except DataError as error:
        undated = only(more, (name for name in more if name != "date_format"))
        for fewer in (undated, Reading()) if isinstance(error, NoDates) else (Reading(),):
            try:
                table = _read(learn, source, columns, {**fewer, **own})
                break
            except DataError:
                continue
        else:
            raise error from None
        without = only(more, (name for name in more if name not in fewer))
        say(f"{source} is read without {_told(without)}, by which the ratings of training were read.")
        more = fewer
    if more:
        say(f"{source} is read as the ratings of training were: {_told(more)}.")
    return table


def _told(reading: Reading) -> str:
    """How a file is read, as options."""
    return as_options(" ".join(f"{name}={value!r}" for name, value in reading.items()))


def _read(learn: CollabLearner, source: str, columns: Mapping[str, str], reading: Reading) -> AsRead:
    schema = learn.data.schema
    rows, *_ = read(source, [columns.get(role, getattr(schema, role)) for role in ("user", "item")], **reading)
    if columns:
        rows = _renamed(rows, source, schema, columns)
    _check_columns(rows, source, schema, learn.data.implicit)
    return AsRead(source, rows, reading)


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


def _check_columns(ratings: pd.DataFrame, source: str, schema: Schema, implicit: bool) -> None:
    """Raise DataError where the columns have neither the names that they had in training nor the usual ones."""
    wanted = [str(name) for name in (schema.user, schema.item, *(() if implicit else (schema.rating,)))]
    if not ({*wanted} <= {*ratings.columns} or {"user", "item", "rating"} <= {*ratings.columns}):
        raise DataError(f"{source} has the columns {listed(ratings.columns)}, and the model was trained on "
                        f"{', '.join(wanted)}: give them these names, or user, item and rating")
