"""Numbers that would not print as they are written are found in a file, and the columns that hold them."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

from collab.data import spelling
from collab.data.spelling import is_unusual, unusual_columns

USUAL = ["", "0", "10", "-1", "-0.5", "-0.0", "-10", "0.05", "10.05", "1.005", "3E-7", "x1", "e", "ee", "1.0", "100",
         "\u00e9"]
UNUSUAL = ["007", "00", "-01", "r05", "+7", "1+1", "12e5", "1E5", "1e-05", "+", "x01", "e0", "-0", "1e-0"]
PATTERN = re.compile(rb"(?<![\d.])0\d|[eE]\d|[+]|-0(?![\d.])")


@pytest.fixture(params=[1, 2, 3, 1 << 20], autouse=True)
def chunk(request, monkeypatch):
    monkeypatch.setattr(spelling, "CHUNK", request.param)


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_value_is_unusual_wherever_it_stands(end):
    for value in (*USUAL, *UNUSUAL):
        for line in (value, f"{value},1", f"5,{value}", f"a,1.5\n2,{value}", f"{value}\n1,2"):
            assert is_unusual(io.BytesIO((line + end).encode())) == (value in UNUSUAL), line


def test_chunks_find_what_a_pattern_finds_in_the_whole():
    rng = np.random.default_rng(0)
    for _ in range(300):
        text = bytes(rng.choice(list(b"0019.eE+-,\n" b"0,.19"), rng.integers(1, 12)).tolist())
        assert is_unusual(io.BytesIO(text)) == (PATTERN.search(text) is not None), text


@pytest.mark.parametrize("text", [b"\0", b"1,2\n3,\0", b"007,\0"])
def test_bytes_of_0_are_refused(text):
    with pytest.raises(ValueError, match="bytes of 0"):
        is_unusual(io.BytesIO(text))


def columns(text: str, sep: str = ",", n: int = 3, header: bool = False, quotes: bool = True) -> set[int]:
    return unusual_columns(io.BytesIO(text.encode()), sep, n, header=header, quotes=quotes)


def test_the_columns_of_unusual_numbers_are_told():
    assert columns("1,2,3\n4,5,6\n") == columns("1,2,3\n4,5,6") == set()
    assert columns("007,2,3\n4,5,6\n") == {0} and columns("1,2,3\n4,5,+6") == columns("1,2,3\n4,5,6e1\n") == {2}
    assert columns("1,2,r05\r\n4,+5,6\r\n") == {1, 2} and columns("1\t,07,1\t3\n", "\t") == {1}
    assert columns("e1,e2,+\n1,07,2\n", header=True) == columns("\n\n e1,e2,+\n1,07,2\n", header=True) == {1}
    assert columns('"a","b","c01"\n1,07,2\n', header=True) == {1}


@pytest.mark.parametrize("text", ["07,2\n4,5,6\n", "07,2,3,4\n", "07,2,3\n\n4,5,6\n", '07,2,"3"\n', "07,2\n3,4,5,6\n",
                                  "07,2,3\r4,5,6\n"])
def test_where_lines_cannot_be_cut_it_may_be_every_column(text):
    assert columns(text) == {0, 1, 2}


def test_separators_of_several_characters_and_marks_that_quote_nothing():
    assert columns("07 1 2\n", r"\s+") == columns("07\u00a61\u00a62\n", "\u00a6") == {0, 1, 2}
    assert columns('07,"2,3\n', quotes=False) == {0}
