"""TitleSearch: items by parts of their titles, for a visitor who types; accents, case and articles do not matter."""

from __future__ import annotations

import heapq
import re
import unicodedata

import numpy as np

MAX_WORDS = 8           # of a search that count: each is looked for in all titles that have the words before it
ARTICLE_LAST = re.compile(r"^(.*), (the|an?|les?|la|l'|el|il|der|die|das)(?= \(|$)")


class TitleSearch:
    """Finds the rows of items whose names hold all words of a text (the first MAX_WORDS): those that begin with it
    first, then those with a word that begins with it, each in the order of how often they were rated.

    `names` are those of rows 1..n; `counts` (n + 1,) the numbers of ratings by row."""

    def __init__(self, names: list[str], counts: np.ndarray):
        self._folded = [_both_ways(folded(name)) for name in names]
        self._counts = counts.tolist()

    def find(self, text: str, n: int) -> list[int]:
        """The first `n` rows; none for a text without letters or digits."""
        wanted = folded(text)
        words = [*dict.fromkeys(wanted.split())][:MAX_WORDS]
        if not words:
            return []
        longest = max(words, key=len)
        found = [row for row, name in enumerate(self._folded, 1) if longest in name]
        for word in words:
            found = [row for row in found if word in self._folded[row - 1]]
        text = " ".join(words)

        def order(row: int) -> tuple[int, int, int]:
            name = self._folded[row - 1]
            fit = 0 if f"\n{text}" in name else 1 if f" {text}" in name or f"({text}" in name else 2
            return fit, -self._counts[row], row
        return heapq.nsmallest(n, found, key=order)


def folded(text: str) -> str:
    """Text without accents, in lower case, with single spaces.

    >>> folded("Le Fabuleux destin d'AMÉLIE")
    "le fabuleux destin d'amelie"
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(plain.split())


def _both_ways(name: str) -> str:
    """A name as it is and, where its article comes last, with the article in front; each after a new line."""
    turned = ARTICLE_LAST.sub(r"\2 \1", name)
    return f"\n{name}" if turned == name else f"\n{name}\n{turned}"
