"""What is raised, and what is warned of: `DataError`, `CollabWarning`, and the one function that warns."""

from __future__ import annotations

import sys
import warnings


class DataError(ValueError):
    """The input cannot be used: the message names the column, the value and the remedy."""


class CollabWarning(UserWarning):
    """Something was dropped, ignored, averaged or guessed: the message says what, how much of it, and the remedy.

    All warnings of this library are of this class, so that a script that wants none of them stops at the first with
    `warnings.simplefilter("error", CollabWarning)`."""


def warn(message: str) -> None:
    """Warn with a `CollabWarning` at the line outside this package that led here, however deep the calls between."""
    warnings.warn(message, CollabWarning, stacklevel=_outside())


def renamed(old: str, new: str) -> None:
    """Warn with a DeprecationWarning, at the line outside this package, that `old` is called `new` from now on."""
    warnings.warn(f"{old} is called {new} now; the old name goes with the next version", DeprecationWarning,
                  stacklevel=_outside())


def _outside() -> int:
    """How many frames above the caller the first one outside this package is, as `warnings.warn` counts."""
    between = __name__.partition(".")[0], "functools", "contextlib"     # the latter call ours for others of ours
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in between:
        frame, level = frame.f_back, level + 1
    return level
