"""In which encoding a text file is written: what is known by its bytes, and what a wrong one makes of it."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from ..errors import DataError, quoted

COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
BLOCK = 2**20           # bytes that are decoded at a time
LONGEST = 500           # characters of a name of a column; a longer one is a file that was read in a wrong encoding
ODD = ("Cc", "Cn", "Co", "Cs")      # categories of characters that control, and of those that are none
LEGAL = {"\0", "\t", "\r", "\n", *map(chr, range(0x80, 0xa0))}    # bytes of 0 are told apart; the last are cp1252's


def check_encoding(encoding: str) -> None:
    try:
        "a".encode(encoding)
    except (LookupError, ValueError, TypeError):
        raise DataError(f"encoding={encoding!r} is not one that Python knows; usual ones are 'utf-8', 'latin-1', "
                        "'cp1252' and 'utf-16'") from None


def as_lines(f: IO[bytes], encoding: str) -> tuple[IO[bytes], str]:
    """(the file, its encoding) with lines that end in a line feed of one byte: UTF-16 and UTF-32 become UTF-8, and
    carriage returns become line feeds."""
    if "\n,".encode(encoding) != b"\n," and codecs.lookup(encoding).name != "utf-8-sig":
        text = f.read().decode(encoding).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        return io.BytesIO(text.encode()), "utf-8"
    first = f.readline()
    f.seek(0)
    if b"\r" in first.rstrip(b"\r\n"):
        return io.BytesIO(f.read().replace(b"\r\n", b"\n").replace(b"\r", b"\n")), encoding
    return f, encoding


def by_mark(f: IO[bytes], encoding: str) -> str:
    """The encoding of a file in which ASCII is one byte a character: UTF-8 where the file begins with the mark (BOM) of
    that, whatever was said, since in another encoding the mark would be part of the first name."""
    begin = f.read(len(codecs.BOM_UTF8))
    f.seek(0)
    name = codecs.lookup(encoding).name
    other = name.startswith("utf") and name != "utf-8"
    return encoding if begin != codecs.BOM_UTF8 or other else "utf-8-sig"


def is_utf8(path: Path) -> bool:
    """Whether a text file, perhaps a compressed one, has characters beyond ASCII, all of them written in UTF-8: text in
    another encoding is not, but by a rare chance."""
    decoder, beyond = codecs.getincrementaldecoder("utf-8")(), False
    try:
        with COMPRESSED.get(path.suffix.lower(), open)(path, "rb") as file:
            while block := file.read(BLOCK):
                decoder.decode(block)
                beyond = beyond or not block.isascii()
            decoder.decode(b"", final=True)
    except (OSError, EOFError, ValueError):
        return False
    return beyond


def likely(path: Path, begin: bytes) -> str:
    """The encoding of a file, which begins with these bytes, that is not written in the one that was taken."""
    if begin[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    return "utf-8" if is_utf8(path) else "latin-1"


def garbled(names: Sequence[str]) -> str:
    """What is odd about the names of columns, as where a file was read in a wrong encoding; "" for usual ones."""
    for name in names:
        if len(name) > LONGEST:
            return f"a name of {len(name):,} characters ({quoted(name)})"
        if any(unicodedata.category(c) in ODD for c in name if c not in LEGAL):
            return f"characters that no name has ({quoted(name)})"
    return ""
