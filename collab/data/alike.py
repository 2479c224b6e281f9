"""Ids that differ in how they are written alone: in capitals, in spaces around them, or in zeros before a number."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable

import pandas as pd

WAYS = ("capitals", "spaces", "leading zeros")
ZEROS = r"^0+(?=\d+$)"


def bare(id: Hashable) -> str:
    """An id as text without what may differ.

    >>> bare("007"), bare(7), bare(" Alien ")
    ('7', '7', 'alien')
    """
    return re.sub(ZEROS, "", str(id).strip().casefold())


def folded(text: str) -> str:
    """Text as it is compared with names that are near: without capitals, accents and umlauts.

    >>> folded("Käse"), folded("KAESE"), folded("Straße"), folded("Amélie")
    ('kase', 'kase', 'strasse', 'amelie')
    """
    lower = text.casefold()
    if not lower.isascii():
        lower = "".join(sign for sign in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(sign))
    return re.sub("(?<=[aou])e", "", lower)


def bare_text(ids: pd.Series) -> pd.Series:
    """`bare` of ids that are text."""
    return ids.str.strip().str.casefold().str.replace(ZEROS, "", regex=True)


def how_written(pairs: Iterable[tuple[Hashable, Hashable]]) -> str:
    """In what the ids of pairs that are alike, but not the same, differ: "spaces or leading zeros"."""
    told = set[str]()
    for pair in pairs:
        parts = [_parts(str(id)) for id in pair]
        told |= {way for way, one, other in zip(WAYS, *parts) if one != other}
    *others, last = [way for way in WAYS if way in told]
    return f"{', '.join(others)} or {last}" if others else last


def _parts(text: str) -> tuple[str, tuple[str, str], str]:
    """What may differ of an id: the word in its capitals, the spaces around it, and the zeros before a number."""
    before, word, after = text.partition(text.strip())
    number = re.sub(ZEROS, "", word)
    return number, (before, after), word.removesuffix(number)
