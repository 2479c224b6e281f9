"""What every subject shares: the choices of a run, and rounds in which ours and the peers take turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .children import Failed, peer
from .row import Row
from .sets import NAMES, Sets


@dataclass(frozen=True)
class Choices:
    """What a run of the suite measures.

    - `sizes`: of the sets, keys of `sets.NAMES`.
    - `rounds`: how often each side is measured; once where all its rounds would take more than `limit`.
    - `limit`: CPU seconds that one training may take. Of longer ones a number of batches is timed, without an error."""

    sets: Sets
    sizes: tuple[str, ...]
    n_factors: tuple[int, ...]
    rounds: int
    limit: float
    quick: bool = False
    failures: list[str] = field(default_factory=list)       # what went wrong so far, in words


class Run(NamedTuple):
    """One round of one side: the figure, the error that it had, and what a reader must know."""

    figure: float
    error: float | None = None
    note: str = ""


Side = Callable[[], Run]


def contest(subject: str, name: str, size: str, unit: str, ours: Side, peers: dict[str, Side], choices: Choices,
            error: str = "") -> Iterable[Row]:
    """A row for each peer, or one without any, from rounds in which all sides take turns, so that a machine that gets
    slower does so for all of them. A peer that fails has no figures, and is named in `choices.failures`."""
    sides = {"": ours, **peers}
    runs: dict[str, list[Run]] = {who: [] for who in sides}
    spent = dict.fromkeys(sides, 0.0)
    for _ in range(choices.rounds):
        for who, run in sides.items():
            if runs[who] and spent[who] / len(runs[who]) * choices.rounds > choices.limit:
                continue        # once is enough of what takes long
            gc.collect()        # learners and their callbacks refer to each other
            start = time.perf_counter()
            try:
                runs[who].append(run())
            except Failed as reason:
                choices.failures.append(f"{subject}, {name}, {NAMES.get(size, size)}: {reason}")
            spent[who] += time.perf_counter() - start
    mine = runs[""]
    for who in peers or [""]:
        theirs = runs[who] if who else []
        notes = [f"{whose}: {side[-1].note}" for whose, side in (("collab", mine), (who, theirs))
                 if side and side[-1].note]
        yield Row(subject, name, NAMES.get(size, size), unit, tuple(run.figure for run in mine), who,
                  tuple(run.figure for run in theirs), error, mine[-1].error, theirs[-1].error if theirs else None,
                  "; ".join(notes))


def of_peer(script: str, *arguments: Any, figure: str, error: str = "", **env: str) -> Side:
    """A side that is a script of benchmarks/peers: the names of its figure and its error in the JSON that it prints."""
    def run() -> Run:
        made = peer(script, *arguments, **env)
        return Run(made[figure], made.get(error), made.get("note", ""))
    return run
