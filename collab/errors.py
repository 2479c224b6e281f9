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
    between = __name__.partition(".")[0], "functools", "contextlib"     # the latter call ours for others of ours
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in between:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, CollabWarning, stacklevel=level)
