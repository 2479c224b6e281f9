"""What is asked for: counts that can be counted to, items by their titles, and names to show."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from numbers import Integral

import pandas as pd

from ..data.databunch import CollabDataBunch
from ..data.schema import show


def check_count(**given: int | None) -> None:
    """Raises ValueError, with the argument's name, for something else than a whole number from 1 on; None is all."""
    for name, n in given.items():
        if n is not None and (not isinstance(n, Integral) or n < 1):
            raise ValueError(f"{name} must be a whole number, at least 1, got {n!r}")


def names(table: pd.DataFrame) -> list[str]:
    """How each row is called: by its title, or where it has none by its id."""
    ids = table["id"].astype(str).tolist()
    return [title or id for title, id in zip(table["title"], ids)] if "title" in table else ids


def whom(data: CollabDataBunch, asked: str, found: Sequence[Hashable]) -> str:
    """Which of the items found for a title is taken, the first, and three of the others."""
    titles = data.titles(found[:4]) or [""] * 4
    first, *some = [f"{title} ({show(id)})" if title else show(id) for title, id in zip(titles, found)]
    n = len(found) - 1
    others = f"{n:,} others hold it too, such as" if n > 3 else "1 other holds it too:" if n == 1 else \
        f"{n} others hold it too:"
    return f"{asked!r} is taken for {first}; {others} {', '.join(some)}"
