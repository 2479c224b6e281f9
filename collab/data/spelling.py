"""How numbers are written in a file, and which columns hold some that would not print as they are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np

CHUNK = 1 << 20         # bytes at a time: what is computed of them stays in the processor's cache
LOWER = 32              # the bit that makes a letter small


def is_unusual(f: IO[bytes]) -> bool:
    """Whether a file, read to its end, holds a number with a zero before it (007), an exponent without a sign (12e5), a
    plus sign, or a minus sign before 0 (-0). Raises ValueError for bytes of 0."""
    found, before = False, b"\n"
    while chunk := f.read(CHUNK):
        if b"\0" in chunk:
            raise ValueError("bytes of 0")
        if not found:
            window = before + chunk
            found = bool(_unusual(window).any()) or b"+" in chunk
            before = window[-2:]
    return found or bool(_unusual(before + b"\n").any())


def unusual_columns(f: IO[bytes], sep: str, n: int, *, header: bool, quotes: bool) -> set[int]:
    """Which of n columns hold such numbers (their names, in the `header`, do not count), in a text file that is read to
    its end; all of them where lines cannot be cut at each `sep`: with fields in quotation marks (if `quotes` are such),
    or lines that have not n fields."""
    if len(sep) > 1 or not sep.isascii():
        return set(range(n))
    while header and not f.readline().strip():
        pass                    # blank lines may come before it
    found = np.zeros(n, dtype=bool)
    for lines in _lines(f):
        a = np.frombuffer(lines, dtype=np.uint8)
        ends = a == ord("\n")
        fields = np.cumsum(ends | (a == ord(sep)), dtype=np.int32)      # how many have ended
        if (quotes and b'"' in lines) or (fields[ends] % n).any() or len(fields[ends]) * n != fields[-1]:
            return set(range(n))
        found[fields[np.flatnonzero(_unusual(b"\n" + lines + b"\n"))] % n] = True
    return set(np.flatnonzero(found).tolist())


def _lines(f: IO[bytes]) -> Iterator[bytes]:
    """A file in pieces of whole lines, each with its end."""
    rest = b""
    while chunk := f.read(CHUNK):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield rest + chunk[:cut]
        rest = chunk[cut:] if cut else rest + chunk
    if rest:
        yield rest + b"\n"


def _unusual(window: bytes) -> np.ndarray:
    """Of each byte but the first and the last, whether it begins such a number or its exponent, bool (n - 2,)."""
    a = np.frombuffer(window, dtype=np.uint8)
    at, digit = a[1:-1], (a - ord("0")) < 10        # in 8 bits, what is below "0" becomes large
    found = (at == ord("0")) & digit[2:] & ~(digit[:-2] | (a[:-2] == ord(".")))
    if b"e" in window or b"E" in window:
        found |= ((at | LOWER) == ord("e")) & digit[2:]
    if b"+" in window:
        found |= at == ord("+")
    if b"-0" in window:
        found |= (at == ord("0")) & (a[:-2] == ord("-")) & ~(digit[2:] | (a[2:] == ord(".")))
    return found
