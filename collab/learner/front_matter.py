"""Front matter: plain values as YAML that every parser reads back as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MARK = "---\n"
ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def front_matter(values: Mapping[str, Any]) -> str:
    """The values between two lines of three dashes, as Markdown pages begin: mappings and lists of text, whole and
    finite numbers, booleans and None, in block style, text in double quotes (YAML 1.1 and 1.2). Raises TypeError for
    anything else, and for a number that is not finite."""
    return MARK + "".join(f"{line}\n" for line in _lines(values)) + MARK


def _lines(value: Any) -> list[str]:
    """A mapping or list that is not empty, line by line."""
    if isinstance(value, Mapping):
        return [line for key, one in value.items() for line in _entry(f"{_key(key)}:", one)]
    lines = []
    for one in value:
        if _inline(one):
            lines.append(f"- {_scalar(one)}")
        else:
            first, *rest = _lines(one)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
    return lines


def _entry(key: str, value: Any) -> list[str]:
    if _inline(value):
        return [f"{key} {_scalar(value)}"]
    return [key, *(f"  {line}" for line in _lines(value))]


def _inline(value: Any) -> bool:
    return not (isinstance(value, Mapping | list | tuple) and len(value))


def _scalar(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float) and math.isfinite(value):
        text = repr(float(value))
        mantissa, _, exponent = text.partition("e")     # in YAML 1.1 a number has a point, and a sign after the e
        return text if not exponent else f"{mantissa}{'' if '.' in mantissa else '.0'}e{int(exponent):+d}"
    raise TypeError(f"{value!r} of type {type(value).__name__} has no place in front matter")


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() and key[0].isalpha() and \
        key not in ("y", "n", "yes", "no", "on", "off", "true", "false", "null") else _quoted(key)


def _quoted(text: str) -> str:
    """Text in double quotes. What does not print is escaped: no parser takes it otherwise."""
    return '"' + "".join(ESCAPED.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}" if ord(c) > 0xffff else
                                            f"\\u{ord(c):04x}") for c in text) + '"'
