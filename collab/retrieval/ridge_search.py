"""Memory of a search for a ridge, which by steps up and down comes back to where it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")        # a number, or a tuple of them; None where there is none


def once_each(distance: Callable[[R], float]) -> Callable[[R], float]:
    """The same function of a ridge above 0, or of a tuple of them, called once for those that differ by rounding
    alone."""
    known: dict[tuple[float | None, ...], float] = {}

    def kept(ridge: R) -> float:
        numbers: tuple[Any, ...] = ridge if isinstance(ridge, tuple) else (ridge,)
        place = tuple(None if x is None else round(math.log(x), 6) for x in numbers)
        if place not in known:
            known[place] = distance(ridge)
        return known[place]
    return kept
