"""Which process this is, of those that were started together, as by torchrun."""

from __future__ import annotations

import os

STARTED = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"      # what torchrun, or whoever starts them, tells each


def started() -> bool:
    """Whether this is one of several processes that were started to work together."""
    return all(os.environ.get(name) for name in STARTED) and size() > 1


def rank() -> int:
    """The number of this process among them, from 0; 0 where it is alone."""
    return int(os.environ["RANK"]) if "WORLD_SIZE" in os.environ and os.environ.get("RANK") else 0


def size() -> int:
    """How many processes there are; 1 where it is alone."""
    return int(os.environ.get("WORLD_SIZE") or 1) if os.environ.get("RANK") else 1


def is_main() -> bool:
    """Whether this is the process that writes files and prints: the first one, or the only one.

    >>> is_main()
    True
    """
    return rank() == 0 or not started()
