"""Rows of a table and the lines of its file."""

import gzip

import pytest

from collab import read_table
from collab.data.lines import line_numbers

TEXT = 'user,item,rating\n\na,"one\ntwo",1\n   \nb,three,2\n\n\nc,four,3\n'


def test_blank_lines_and_lines_within_quotation_marks_are_counted_as_lines(tmp_path):
    (tmp_path / "r.csv").write_text(TEXT)
    assert len(read_table(tmp_path / "r.csv")) == 3
    assert line_numbers(tmp_path / "r.csv", [0, 1, 2]) == {0: 3, 1: 6, 2: 9}
    assert line_numbers(tmp_path / "r.csv", [2]) == {2: 9}


@pytest.mark.parametrize(("name", "text", "options", "lines"), [
    ("r.csv", "1,2,3\n4,5,6\n", {}, {0: 1, 1: 2}),                      # no header: the first line is a row
    ("r.csv", "a,b,c\n1,2,3\n", {"header": False}, {0: 1, 1: 2}),
    ("r.csv", "a;b;c\r\n1;2;3,5\r\n1;2;4,5\r\n", {"sep": ";", "decimal": ","}, {0: 2, 1: 3}),
    ("r.dat", '1::"2::3\n\n4::5::6\n', {}, {0: 1, 1: 3}),               # a quotation mark is no such thing there
    ("r.inter", "user_id:token\titem_id:token\n1\t2\n\n3\t4\n", {}, {0: 2, 1: 4}),
])
def test_the_lines_of_each_format(tmp_path, name, text, options, lines):
    (tmp_path / name).write_bytes(text.encode())
    assert len(read_table(tmp_path / name, **options)) == 2
    assert line_numbers(tmp_path / name, [0, 1], **options) == lines


def test_lines_of_compressed_files_and_of_other_encodings(tmp_path):
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert line_numbers(tmp_path / "r.csv.gz", [1]) == {1: 6}
    (tmp_path / "u.csv").write_bytes(TEXT.encode("utf-16"))
    assert line_numbers(tmp_path / "u.csv", [1], encoding="utf-16") == {1: 6}


def test_lines_that_are_left_out_are_not_rows(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\na,x,1\nb,y,2,3\nc,z,3\n")
    assert line_numbers(tmp_path / "r.csv", [0, 1], bad_lines="drop") == {0: 2, 1: 4}


def test_a_file_that_is_no_text_has_no_lines(tmp_path):
    assert line_numbers(tmp_path / "r.parquet", [0]) == {}
