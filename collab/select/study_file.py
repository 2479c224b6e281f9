"""Studies of Optuna: in memory or in a file, taken up again only for what they were begun for."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..errors import DataError
from ..files import alone_with
from ..learner.ranges import ADDRESS

NAME, DONE, WHAT = "collab", "done", "what"
NEEDED = "tune needs optuna: pip install '.[tune]' in a clone of this library, or pip install optuna"
WORDS = {"data": "other ratings, or another split of them", "model": "another model", "space": "another space",
         "metric": "another metric", "options": "other options", "seed": "another seed", "bs": "another batch size"}


def optuna() -> Any:
    """The package, loaded when it is needed. Raises ImportError with the remedy."""
    try:
        import optuna as package
    except ImportError as error:
        raise ImportError(NEEDED) from error
    return package


@contextmanager
def quietly() -> Iterator[None]:
    """Keep Optuna from logging every trial for the length of a `with`."""
    logging = optuna().logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def opened(storage: str | Path | None, what: dict[str, str], direction: str) -> Iterator[Any]:
    """The study in an SQLite file, made if there is none, for the length of a `with`; or one in memory. Trials that
    were cut off are marked so. Raises DataError for a file of another kind, one that another process works on, and a
    study of something else, which says what is different."""
    if storage is None:
        yield _study(None, what, direction)
        return
    path = Path(storage).absolute()
    _check_file(path)
    with alone_with(path) as alone:
        if not alone:
            raise DataError(f"another run of tune works on {storage}; wait for its end and go on from there, or take "
                            "another file")
        yield _study(path, what, direction)


def _study(path: Path | None, what: dict[str, str], direction: str) -> Any:
    package = optuna()
    try:
        # By a connection of our own: in the URL of a file, some characters of its name would mean something else.
        storage = None if path is None else package.storages.RDBStorage(
            "sqlite:///study", engine_kwargs={"creator": lambda: sqlite3.connect(path, check_same_thread=False)})
        study = package.create_study(storage=storage, study_name=NAME, direction=direction, load_if_exists=True)
    except Exception as error:
        if path is None:
            raise
        raise DataError(f"{path} cannot be used as the file of a study: {error}") from error
    known = study.user_attrs.get(WHAT)
    if known is None:
        study.set_user_attr(WHAT, what)
    elif other := [WORDS[name] for name in what if known.get(name, what[name] if name == "bs" else None) != what[name]]:
        raise DataError(f"{path} holds a study of {', '.join(other)}, whose trials say nothing about this one; take "
                        "another file")
    for trial in study.get_trials(deepcopy=False, states=(package.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=package.trial.TrialState.FAIL)
    return study


def _check_file(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise DataError(f"there is no folder {path.absolute().parent} for the study {path.name}")
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the name of a file for the study")
    if not path.exists() or not path.stat().st_size:
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            names = {name for name, in file.execute("select name from sqlite_master")}
            studies = [name for name, in file.execute("select study_name from studies")] if "studies" in names else None
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path} is not the file of a study ({error}); take another name") from None
    if studies is None or (studies and NAME not in studies):
        raise DataError(f"{path} is a database of something else; take another name")


def fingerprint(trials: CollabDataBunch, untouched: TensorBatches, **rest: Any) -> dict[str, str]:
    """What a study is about, each as text that is the same for the same, in any process: "data" is a hash of ids and
    ratings, and a function is its module and its name."""
    hashed = hashlib.sha256()
    assert isinstance(trials.valid, TensorBatches)
    for part in (trials.train, trials.valid, untouched):
        for column in part.tensors:
            hashed.update(column.cpu().numpy().tobytes())
    for vocab in (trials.users, trials.items):
        hashed.update(json.dumps(vocab.to_state()).encode())
    return {"data": hashed.hexdigest()[:16], **{name: _told(value) for name, value in rest.items()}}


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {_told(one)}" for name, one in value.items()) + "}"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return ADDRESS.sub("", repr(value))
