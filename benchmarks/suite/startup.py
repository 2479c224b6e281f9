"""From process start: the import, the command line's help, and an RMSE below 0.92 on u1 of MovieLens-100K.

A figure is the CPU seconds of a whole process. For the error each library runs a script that a user would write:
ours with a warm cache of compiled code and with an empty one, and the peers at the settings of docs/results.md, whose
time is that of the process which benchmarks/peers/ratings.py runs in."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from collab import movielens, movielens_split

from .children import child, peer
from .contest import Choices, Run, contest
from .machine import PEER
from .row import Row
from .sets import COLUMNS

GOAL = 0.92
SCRIPT = """
from collab import CollabDataBunch, collab_learner, movielens
data = CollabDataBunch.from_df(movielens("100k").ratings, split="u1", bs=1024, seed=0)
learn = collab_learner(data)
learn.fit_one_cycle(5)
print(learn.validate()["rmse"])
"""
PEERS = {"fastai, shuffled": "fastai_dot_bias_shuffled",
         "Surprise SVD, tuned": "surprise_svd_tuned", "libmf, rebuilt with AVX": "libmf_vector"}


def rows(choices: Choices) -> Iterator[Row]:
    quick = replace(choices, rounds=max(3, choices.rounds))     # they take a second or two
    yield from imports(quick)
    yield from helps(quick)
    yield from error_on_u1(choices)


def statement(code: str, python: object = sys.executable) -> Run:
    return Run(child([str(python), "-c", code]).seconds)


def imports(choices: Choices) -> Iterable[Row]:
    """`import collab` beside what it is built on, and beside fastai."""
    return contest("startup", "import collab", "", "CPU s", partial(statement, "import collab"),
                   {"import torch, pandas": partial(statement, "import torch, pandas"),
                    "from fastai.collab import *": partial(statement, "from fastai.collab import *", PEER)}, choices)


def helps(choices: Choices) -> Iterator[Row]:
    """The help of the command line, and of its largest command, beside the import of torch."""
    for words in (["--help"], ["train", "--help"]):
        command = [sys.executable, "-m", "collab", *words]
        yield from contest("startup", f"collab {' '.join(words)}", "", "CPU s", partial(_seconds, command),
                           {"import torch": partial(statement, "import torch")}, choices)


def error_on_u1(choices: Choices) -> Iterator[Row]:
    """The script above, and what the peers take for the same rows and the error that they reach."""
    ratings = movielens("100k").ratings[COLUMNS]
    parts = movielens_split("u1")(ratings)
    train, test = (choices.sets.part(ratings.iloc[part], f"u1-{name}") for name, part in zip(("train", "test"), parts))

    def theirs(model: str) -> Run:
        made = peer("ratings", train.file, test.file, "--model", model, "--json")
        return reached(made["child_seconds"], made["rmse"])
    script()        # the cache of compiled code is warm from here on
    peers: dict[str, Callable[[], Run]] = {name: partial(theirs, model) for name, model in PEERS.items()}
    name = f"RMSE below {GOAL} on u1"
    yield from contest("startup", f"{name}, warm cache", "ML-100K", "CPU s", script, peers, choices, "RMSE")
    yield from contest("startup", f"{name}, empty cache", "ML-100K", "CPU s", cold, {}, choices, "RMSE")


def script(**env: str) -> Run:
    made = child([sys.executable, "-c", SCRIPT], **env)
    return reached(made.seconds, float(made.stdout.split()[-1]))


def cold() -> Run:
    """The script with an empty cache of compiled code."""
    with tempfile.TemporaryDirectory() as folder:
        return script(NUMBA_CACHE_DIR=folder)


def reached(seconds: float, error: float) -> Run:
    return Run(seconds, error, "" if error < GOAL else f"{GOAL} is not reached")


def _seconds(command: list[str]) -> Run:
    return Run(child(command).seconds)
