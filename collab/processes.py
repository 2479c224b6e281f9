"""Which process this is, of those that were started together, as by torchrun; and work that they share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

STARTED = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"      # what torchrun, or whoever starts them, tells each


def started() -> bool:
    """Whether this is one of several processes that were started to work together."""
    return all(os.environ.get(name) for name in STARTED) and size() > 1


def rank() -> int:
    """The number of this process among them, from 0; 0 where it is alone."""
    return int(os.environ["RANK"]) if "WORLD_SIZE" in os.environ and os.environ.get("RANK") else 0


def local_rank() -> int:
    """The number of this process among those on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def size() -> int:
    """How many processes there are; 1 where it is alone."""
    return int(os.environ.get("WORLD_SIZE") or 1) if os.environ.get("RANK") else 1


def is_main() -> bool:
    """Whether this is the process that writes files and prints: the first one, or the only one.

    >>> is_main()
    True
    """
    return rank() == 0 or not started()


class Team(Protocol):
    """Processes that make the same calls."""

    rank: int
    size: int

    def exchange(self, mine: Any) -> list[Any]:
        """What each of them gives here, in order."""
        ...

    def announce(self, mine: Any) -> Any:
        """What the first of them gives here."""
        ...


_teams: list[Team] = []


@contextmanager
def team(of: Team) -> Iterator[None]:
    """Let these processes share work for the length of a `with`."""
    _teams.append(of)
    try:
        yield
    finally:
        _teams.remove(of)


def team_size() -> int:
    """How many processes share work here."""
    return _teams[-1].size if _teams else 1


def of_first(work: Callable[[], T]) -> T:
    """What a work gives: where processes share work, what it gives in the first one, which alone does it.

    >>> of_first(lambda: 1)
    1
    """
    if not _teams:
        return work()
    of = _teams[-1]
    given: T = of.announce(work() if of.rank == 0 else None)
    return given


def by_turns(works: Sequence[Callable[[], T]]) -> Iterator[T]:
    """The results of all works, in order. Where processes share them, each does its turn, and all get all results.

    >>> list(by_turns([lambda: 1, lambda: 2]))
    [1, 2]
    """
    if not _teams:
        for work in works:
            yield work()
        return
    of = _teams[-1]
    for first in range(0, len(works), of.size):
        some = works[first:first + of.size]
        yield from of.exchange(some[of.rank]() if of.rank < len(some) else None)[:len(some)]
