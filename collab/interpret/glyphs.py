"""Names that can be drawn: fonts that have their characters, and ids in place of titles for which no font does."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import NamedTuple

import pandas as pd

from ..errors import warn
from ..plotting import cut
from .labels import names

CJK = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Source Han Sans", "IPAexGothic",
       "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic",
       "Microsoft YaHei", "SimHei", "Malgun Gothic", "NanumGothic", "Droid Sans Fallback", "Arial Unicode MS")
MATHS = ("cm", "STIX", "Last Resort")       # fonts inside matplotlib that hold no letters, or a box for each


BY_READER: ContextVar[bool] = ContextVar("by_reader", default=False)


@contextmanager
def fonts_of_the_reader() -> Iterator[None]:
    """Inside, pictures keep their text as text, for which the reader's browser finds fonts: no name is replaced by its
    id, and for room, a Chinese, Japanese or Korean character is taken to be as wide as a "W"."""
    token = BY_READER.set(True)
    try:
        yield
    finally:
        BY_READER.reset(token)


def measured_as(label: str) -> str:
    """The text whose width stands for that of the label."""
    if not BY_READER.get() or label.isascii():
        return label
    return "".join("W" if unicodedata.east_asian_width(c) in "WF" else c for c in label)


class Drawable(NamedTuple):
    """Labels, and the font families to draw them with: a label's characters may come from several."""

    labels: list[str]
    families: list[str]


def drawable(table: pd.DataFrame, width: int) -> Drawable:
    """How each row of `table` is called in a picture: its title, or its id where it has none, cut to `width`.

    Where no installed font has all characters of a title, the id is shown in its place, with a CollabWarning; what
    cannot be drawn of an id becomes "?"."""
    labels = [cut(name, width) for name in names(table)]
    families, missing = fonts(labels)
    if BY_READER.get():
        return Drawable(labels, families)
    if missing and (lost := [k for k, label in enumerate(labels) if missing.intersection(label)]):
        ids = table["id"].astype(str).tolist()
        warn(f"{len(lost):,} of {len(labels):,} names, such as {labels[lost[0]]!r}, have characters that no installed "
             "font has, and are shown by their ids; install a font that has them, such as Noto Sans CJK, and delete "
             "matplotlib's list of fonts (in matplotlib.get_cachedir())")
        others, missing = fonts(ids[k] for k in lost)
        families = list(dict.fromkeys([*families, *others]))
        for k in lost:
            labels[k] = cut("".join("?" if c in missing else c for c in ids[k]), width)
    return Drawable(labels, families)


def fonts(texts: Iterable[str]) -> tuple[list[str], set[str]]:
    """The families to draw the texts with, the configured ones first, and the characters that no font has."""
    from matplotlib import rcParams
    families = tuple(rcParams["font.family"])
    found, missing = _fonts(frozenset(c for text in texts for c in text if not c.isascii() or not c.isprintable()),
                            families)
    return [*families, *found], set(missing)


@cache
def _fonts(needed: frozenset[str], families: tuple[str, ...]) -> tuple[list[str], frozenset[str]]:
    """Further families for the characters that `families` lack, and what remains."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager
    for family in families:
        needed -= _of_these(findfont(FontProperties(family=[family])), needed) if needed else needed
    found: list[str] = []
    if needed:
        known = {font.name: font.fname for font in fontManager.ttflist if not font.name.startswith(MATHS)}
        for name in sorted(known, key=lambda name: (CJK.index(name) if name in CJK else len(CJK), name)):
            if needed and (has := _of_these(known[name], needed)):
                found.append(name)
                needed -= has
    return found, needed


def _of_these(path: str, characters: frozenset[str]) -> frozenset[str]:
    """The characters that a font file has; none, where it cannot be read (fonts of coloured bitmaps cannot)."""
    from matplotlib.ft2font import FT2Font
    try:
        codes = FT2Font(path).get_charmap()
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(c for c in characters if ord(c) in codes)
