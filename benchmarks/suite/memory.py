"""Memory, and the time of what comes before training: from a CSV file to a validated model, each step's peak.

A figure is MiB beyond what the process held once its libraries were imported, or CPU seconds of the same step; what
earlier steps have left (the table, the batches) is in it. Beside pandas.read_csv and fastai's way from the same file.
Our epoch is whole, in batches of 8,192 with 50 factors; of fastai's, the first 50 batches are run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from .children import child, peer
from .contest import Choices, Run, contest
from .row import Row
from .serving import ONES, SHAPES, K

BATCHES = 50
STEPS = {           # of ours: of the peer, and what the rows say
    "reading": ("reading", "reading a CSV file"),
    "splitting": (None, "splitting the table"),
    "encoding": ("encoding", "encoding"),
    "encoding and splitting": ("encoding and splitting", "encoding and splitting"),
    "an epoch": ("an epoch", "an epoch"),
    "validation": ("validation", "validation"),
}


def rows(choices: Choices) -> Iterator[Row]:
    for size in choices.sizes:
        if size == "100k":
            continue        # less than the libraries themselves
        yield from steps(size, choices)
        if size in SHAPES:
            yield from lists(size, choices)


def steps(size: str, choices: Choices) -> Iterator[Row]:
    """The peak of each step, and its seconds where training is not measured elsewhere."""
    file = choices.sets.csv(size)
    n_rounds = 1 if size == "25m" else choices.rounds
    ours = [json.loads(child([sys.executable, "-m", "benchmarks.suite.memory_steps", file]).stdout)
            for _ in range(n_rounds)]
    theirs = [peer("memory", file, "--batches", BATCHES) for _ in range(n_rounds)]

    def side(made: list[dict[str, Any]], step: str, figure: str, note: str = "") -> Callable[[], Run]:
        figures = iter([one[step][figure] for one in made] * choices.rounds)
        return lambda: Run(next(figures), note=note)
    for figure, unit in (("mib", "MiB"), ("seconds", "CPU s")):
        for mine, (other, name) in STEPS.items():
            cut = f"{BATCHES} batches" if mine == "an epoch" else ""
            if figure == "seconds" and mine in ("an epoch", "validation"):
                continue
            who = "pandas.read_csv" if mine == "reading" else "fastai"
            peers = {} if other is None else {who: side(theirs, other, figure, cut)}
            yield from contest("memory", name, size, unit, side(ours, mine, figure), peers, choices)


def lists(size: str, choices: Choices) -> Iterable[Row]:
    """The ten best items for 5,000 users, beside implicit, with the same vectors."""
    command = [sys.executable, "-m", "benchmarks.suite.memory_serving", choices.sets.folder, size]
    made = json.loads(child(command).stdout)
    theirs = peer("serving", made["file"], "--out", made["out"], "--k", K, "--ones", ONES)["implicit"]
    users, items, n_factors = SHAPES[size]
    return contest("memory", "the lists of 5,000 users", f"{users:,} x {items:,}, {n_factors} factors", "MiB",
                   lambda: Run(made["mib"]), {"implicit": lambda: Run(theirs["mib"])}, replace(choices, rounds=1))
