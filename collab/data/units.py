"""Text such as "12,50 EUR", "$1,299" or "90 min" as numbers, where a column leaves no doubt how they are meant."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import pandas as pd

from ..errors import DataError, quoted

AMOUNT = re.compile(r"\s*([^\d\s.,+-]{0,8})\s*([-+]?(?:\d+(?:[.,]\d+)?|\d{1,3}(?:[.,]\d{3})+(?:[.,]\d+)?))\s*"
                    r"([^\d\s.,+-]{0,8})\s*")
MOST = 0.5          # above this share of its values, the others in a column are words among its numbers


class Amounts(NamedTuple):
    """A column of text as `numbers`, missing where it holds a word, all with this `unit` (or "") and `decimal` mark."""

    numbers: pd.Series
    unit: str
    decimal: str

    def of(self, text: object) -> float | None:
        """A number as a person writes it beside these, with the unit or without; None for anything else."""
        found = AMOUNT.fullmatch(str(text))
        if found is None or (found[1] + found[3]).casefold() not in ("", self.unit):
            return None
        return _number(found[2], _mark(found[2]) or self.decimal)


def amounts(column: pd.Series) -> Amounts | None:
    """A column of text whose values are numbers, mostly, with one unit before or after each, or commas; None for any
    other, also of plain numbers. Raises DataError where it has several units, or where a point or a comma may part
    thousands or decimals."""
    known = column.dropna()
    if not len(known) or not pd.api.types.is_string_dtype(known):
        return None
    found = {text: AMOUNT.fullmatch(text) for text in known.unique()}
    read = {text: (one[1] + one[3], one[2]) for text, one in found.items() if one is not None}
    if known.isin(read).mean() <= MOST or not any(unit or not _is_plain(number) for unit, number in read.values()):
        return None
    units = {unit.casefold(): text for text, (unit, _) in read.items() if unit}
    if len(units) > 1:
        one, two = [*units.values()][:2]
        raise DataError(f"column {quoted(column.name)} has several units (such as {quoted(one)} and {quoted(two)}), "
                        "which cannot be compared; write all in one")
    marks = {mark for _, number in read.values() if (mark := _mark(number))}
    parted = next((text for text, (_, number) in read.items() if re.search("[.,]", number)), None)
    if len(marks) > 1 or (not marks and parted is not None):
        raise DataError(f"column {quoted(column.name)}: it is not told whether a point or a comma parts the decimals "
                        f"(such as {quoted(parted)}); write plain numbers")
    decimal = next(iter(marks), ".")
    numbers = {text: _number(number, decimal) for text, (_, number) in read.items()}
    return Amounts(column.map(numbers).astype("float64"), next(iter(units), ""), decimal)


def has_unit(value: object) -> bool:
    """Whether it is text of a number with a unit after it, or a sign such as $ before it."""
    found = AMOUNT.fullmatch(value) if isinstance(value, str) else None
    return found is not None and bool(found[1] or found[3]) and not found[1].isalpha()


def _mark(number: str) -> str:
    """The decimal mark of a number, "." or ",", where it is certain: the last one of two kinds, the other one where a
    mark comes again, as thousands alone do, or one that cannot part thousands, by the digits around it; else ""."""
    marks, digits = re.findall("[.,]", number), re.findall(r"\d+", number)
    if len({*marks}) == 2:
        return marks[-1]
    if len(marks) > 1:
        return "," if marks[0] == "." else "."
    return marks[0] if marks and (len(digits[1]) != 3 or len(digits[0]) > 3 or digits[0][0] == "0") else ""


def _is_plain(number: str) -> bool:
    """Whether a number is one as it is, without a decimal comma or marks between thousands."""
    return "," not in number and number.count(".") <= 1


def _number(text: str, decimal: str) -> float:
    thousands = "." if decimal == "," else ","
    try:
        return float(text.replace(thousands, "").replace(decimal, "."))
    except ValueError:
        return math.nan
