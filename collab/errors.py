"""What is raised and warned of: `DataError`, `CollabWarning`, and the functions that warn."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Collection, Hashable

from .processes import is_main

OURS = re.compile(rf"{__name__.partition('.')[0]}(\.|$)|(functools|contextlib|abc)$|torch(\.|$)")
"""Modules whose frames are not the caller's: ours, and those that call our functions for us."""


WIDTH, MOST = 60, 20
"""How much of a name or a value, and of how many names, a message quotes."""


class DataError(ValueError):
    """The input cannot be used: the message names the column, the value and the remedy."""


class CollabWarning(UserWarning):
    """Something was dropped, ignored, averaged or guessed: the message says what, how much of it, and the remedy.

    All warnings of this library that are not about a renamed argument or attribute are of this class, so that a script
    that wants none of them stops at the first with `warnings.simplefilter("error", CollabWarning)`."""


def counted(n: int, what: str, plural: str | None = None) -> str:
    """A number and what it counts, as a message says it.

    >>> counted(1, "line"), counted(3000, "user"), counted(2, "person", "people")
    ('1 line', '3,000 users', '2 people')
    """
    return f"{n:,} {what if n == 1 else plural or what + 's'}"


def amount(number: float) -> str:
    """A rating or a count as a message says it: with all digits and commas where it is whole or large, else six digits.

    >>> amount(4.0), amount(1000007), amount(1493388.25), amount(16955.71), amount(3.14159265), amount(1e30)
    ('4', '1,000,007', '1,493,388', '16,955.7', '3.14159', '1e+30')
    """
    size = abs(number)
    return f"{number:,.0f}" if size < 1e15 and (float(number).is_integer() or size >= 1e5) else f"{number:,.6g}"


def they(n: int, one: str = "is", several: str = "are") -> str:
    """The verb for `n` things: "is" of one, "are" of several."""
    return one if n == 1 else several


def with_point(value: object) -> str:
    """How to write a number with a decimal comma, for the end of a message; nothing of anything else.

    >>> with_point("0,3"), with_point("many")
    ('; write 0.3', '')
    """
    comma = isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d*,\d+\s*", value)
    return f"; write {str(value).strip().replace(',', '.')}" if comma else ""


def as_share(value: object) -> str:
    """How to write a percentage as the share that is asked for, for the end of a message; nothing of anything else.

    >>> as_share("20"), as_share("2,5 %"), as_share(30), as_share("0.2"), as_share("many"), as_share(300)
    ('; say 0.2 for 20 %', '; say 0.025 for 2.5 %', '; say 0.3 for 30 %', '', '', '')
    """
    found = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*(%?)\s*", str(value))
    number = float(found[1].replace(",", ".")) if found else 0.0
    return f"; say {number / 100:g} for {number:g} %" if found and (1 < number < 100 or (found[2] and number)) else ""


def warn(message: str) -> None:
    """Warn with a `CollabWarning` at the line outside this package that led here, however deep the calls between.
    Of several processes that do the same, the first one alone warns."""
    if is_main():
        _at_the_caller(message, CollabWarning)


def renamed(old: str, new: str) -> None:
    """Warn with a `DeprecationWarning`, at the caller's line as `warn` does, that `old` still works under its new name.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     renamed("Callback.looks", "Callback.in_eval")
    >>> print(caught[0].message)
    Callback.looks is now called Callback.in_eval; the old name will go with the next version
    """
    _at_the_caller(f"{old} is now called {new}; the old name will go with the next version", DeprecationWarning)


def _at_the_caller(message: str, category: type[Warning]) -> None:
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and OURS.match(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def quoted(value: object) -> str:
    """A name or a value as Python writes it, cut to about 60 characters: a file that is read in a wrong way may be one
    single name."""
    text = repr(value[:WIDTH + 1] if isinstance(value, (str, bytes)) else value)
    if len(text) <= WIDTH + 2:
        return text
    quote = text[-1] if isinstance(value, (str, bytes)) else ""
    return f"{text[:WIDTH].rstrip()}…{quote}"


def listed(names: Collection[Hashable]) -> str:
    """Names, of columns for example, as a list; of many the first ones and how many more there are."""
    more = f", and {len(names) - MOST:,} more" if len(names) > MOST else ""
    return f"[{', '.join(quoted(name) for name, _ in zip(names, range(MOST)))}{more}]"
