"""Files into tables: every format, and what is said of a file that is not one."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sys
import warnings

import pandas as pd
import pytest

from collab import CollabDataBunch
from collab.data.tables import read_table
from collab.errors import DataError

RATINGS = pd.DataFrame({"user": [7, 3], "item": [2, 1], "rating": [4.5, 1.0]})


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path
    return write


@pytest.mark.parametrize("name, content", [
    ("r.csv", "user,item,rating\n7,2,4.5\n3,1,1\n"),
    ("R.CSV", "user,item,rating\r\n7,2,4.5\r\n3,1,1\r\n"),
    ("bom.csv", "\ufeffuser,item,rating\n7,2,4.5\n3,1,1\n"),
    ("blank.csv", "\n\nuser,item,rating\n7,2,4.5\n\n3,1,1\n"),
    ("r.tsv", "user\titem\trating\n7\t2\t4.5\n3\t1\t1\n"),
    ("u.data", "7\t2\t4.5\n3\t1\t1\n"),
    ("ratings.dat", "7::2::4.5\n3::1::1\n"),
    ("r.inter", "user:token\titem:token\trating:float\n7\t2\t4.5\n3\t1\t1\n")])
def test_the_same_ratings_in_every_text_format(write, name, content):
    pd.testing.assert_frame_equal(read_table(write(name, content)), RATINGS)
    pd.testing.assert_frame_equal(read_table(str(write(name, content))), RATINGS)


@pytest.mark.parametrize("ending, compress", [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_compressed_text(write, ending, compress):
    for name, content in (("r.csv", b"user,item,rating\n7,2,4.5\n3,1,1\n"), ("r.dat", b"7::2::4.5\n3::1::1\n")):
        path = write(name + ending, compress(content))
        pd.testing.assert_frame_equal(read_table(path), RATINGS)
        path.write_bytes(compress(content)[:-9])
        with pytest.raises(DataError, match="cannot be decompressed"):
            read_table(path)


@pytest.mark.parametrize("ending", ["parquet", "pq"])
def test_parquet(tmp_path, ending):
    pytest.importorskip("pyarrow")
    RATINGS.to_parquet(tmp_path / f"r.{ending}")
    pd.testing.assert_frame_equal(read_table(tmp_path / f"r.{ending}"), RATINGS)


def test_a_first_line_with_a_number_is_data(write):
    table = read_table(write("r.csv", "ann,Alien,5,880000000,mobile\nbob,Brazil,3,880000001,web\n"))
    assert list(table) == ["user", "item", "rating", "time", "column_4"]
    assert table["user"].tolist() == ["ann", "bob"]


def test_a_first_line_of_words_is_a_header(write):
    table = read_table(write("r.csv", "who,what,nan,inf\nann,Alien,5,1\n"))
    assert list(table) == ["who", "what", "nan", "inf"] and len(table) == 1


def test_header_can_be_said(write):
    path = write("r.csv", "user,item,2024\nann,Alien,5\n")
    assert list(read_table(path, header=True)) == ["user", "item", "2024"]
    words = write("w.csv", "ann,Alien,good\nbob,Brazil,bad\n")
    assert read_table(words, header=False).values.tolist() == [["ann", "Alien", "good"], ["bob", "Brazil", "bad"]]


def test_format_and_separator_can_be_said(write):
    assert read_table(write("r.txt", "7\t2\t4.5\n3\t1\t1\n"), format="tsv").equals(RATINGS)
    assert read_table(write("s.txt", "user|item|rating\n7|2|4.5\n3|1|1\n"), sep="|").equals(RATINGS)
    assert read_table(write("s.csv", "user;item;rating\n7;2;4.5\n3;1;1\n"), sep=";").equals(RATINGS)
    assert read_table(write("b.txt", "7  2 4.5\n3 1   1\n"), sep=r"\s+").equals(RATINGS)
    assert read_table(write("h.txt", "7##2##4.5\n3##1##1\n"), sep="##").equals(RATINGS)


def test_single_colons_and_quotation_marks_belong_to_the_title(write):
    table = read_table(write("movies.dat", '1::Alien: "Resurrection (1997)::Horror|Sci-Fi\n2::Up::Comedy\n'))
    assert table.values.tolist() == [[1, 'Alien: "Resurrection (1997)', "Horror|Sci-Fi"], [2, "Up", "Comedy"]]


def test_quoted_fields_hold_separators(write):
    table = read_table(write("movies.csv", 'item,title\n1,"President, The ""Real"" One"\n'))
    assert table["title"].tolist() == ['President, The "Real" One']


def test_recbole_types(write):
    table = read_table(write("ml.user", "user_id:token\tzip:token\tage:token\ttags:token_seq\tv:float\tw:float_seq\n"
                                        "1\t02139\t24\t7\t3\t1 2\n2\tT8H1N\t\tnull\t\t3\n"))
    assert list(table) == ["user_id", "zip", "age", "tags", "v", "w"]
    assert table["user_id"].tolist() == [1, 2] and table["user_id"].dtype == "int64"
    assert table["zip"].tolist() == ["02139", "T8H1N"]
    assert table["age"].tolist() == [24, pd.NA]
    assert table["tags"].tolist() == ["7", "null"]  # a sequence stays text
    assert table["v"].dtype == "float64" and table["v"].isna().tolist() == [False, True]
    assert table["w"].tolist() == ["1 2", "3"]


def test_recbole_ids_that_integers_would_spell_in_another_way_stay_text(write):
    table = read_table(write("ml.item", "item_id:token\n007\n7\n"))
    assert table["item_id"].tolist() == ["007", "7"]


def test_other_encodings_can_be_said(write):
    path = write("m.csv", "item,title\n1,Misérables\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"not written in UTF-8.*0xe9.*encoding='latin-1'"):
        read_table(path)
    assert read_table(path, encoding="latin-1")["title"].tolist() == ["Misérables"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8", "utf-8-sig", "cp037"])
@pytest.mark.parametrize("name, sep", [("m.csv", ","), ("m.dat", "::")])
def test_every_encoding_that_is_said_is_read_also_where_a_line_feed_is_not_one_byte(write, name, sep, encoding):
    text = f"item{sep}title\r\n1{sep}Misérables\n2{sep}Up\n"
    table = read_table(write(name, text.encode(encoding)), encoding=encoding)
    assert list(table) == ["item", "title"] and table.values.tolist() == [[1, "Misérables"], [2, "Up"]]


def test_an_encoding_that_is_not_said_or_not_known_is_refused_with_a_likely_one(write):
    path = write("m.csv", "item,title\n1,Up\n".encode("utf-16"))
    with pytest.raises(DataError, match="not written in UTF-8.*encoding='utf-16'"):
        read_table(path)
    with pytest.raises(DataError, match="holds bytes of 0.*encoding='utf-16'"):
        read_table(write("n.csv", "item,title\n1,Up\n".encode("utf-16-le")))
    for unknown in ("klingon", "hex", "", None):
        with pytest.raises(DataError, match=f"encoding={unknown!r} is not one that Python knows.*'latin-1'"):
            read_table(path, encoding=unknown)


@pytest.mark.parametrize("name, content", [
    ("r.csv", "user,item,rating\r7,2,4.5\r3,1,1\r"), ("r.csv", "7,2,4.5\r3,1,1"), ("u.data", "7\t2\t4.5\r3\t1\t1\r"),
    ("r.inter", "user:token\titem:token\trating:float\r7\t2\t4.5\r3\t1\t1\r"), ("r.dat", "7::2::4.5\r3::1::1\r")])
def test_lines_may_end_in_a_carriage_return(write, name, content):
    pd.testing.assert_frame_equal(read_table(write(name, content)), RATINGS)


@pytest.mark.parametrize("begin, says", [
    (b"PK\x03\x04\x14\0", "zip archive, as Excel's .xlsx is: save the sheet as CSV"),
    (b"\x1f\x8b\x08\0", "name it .gz"), (b"PAR1\x15\x04", "name it .parquet"), (b"%PDF-1.7\n", "a PDF"),
    (b"\xd0\xcf\x11\xe0\xa1", "old Excel"),
    (b"<!DOCTYPE html>\n<html>", "a web page"), (b"\n <HTML lang='en'>", "a web page"),
    (b"SQLite format 3\0", "a database")])
@pytest.mark.parametrize("name", ["r.csv", "r.inter", "r.dat"])
def test_a_file_that_is_no_text_is_told_by_what_it_is(write, name, begin, says):
    with pytest.raises(DataError, match=f"r[.].* is not the text that its name says, but .*{says}"):
        read_table(write(name, begin + b"1,2,3\n" * 20))


def test_words_that_other_files_begin_with_may_be_columns(write):
    assert list(read_table(write("r.csv", "PAR1,PK,BZh\n1,2,3\n"))) == ["PAR1", "PK", "BZh"]


@pytest.mark.parametrize("options", [{"sep": "|"}, {"sep": "|", "header": False}])
def test_a_separator_that_is_said_wins_over_the_ending(write, options):
    path = write("u.item", "1|Misérables (1995)|Drama\n2|Up|\n".encode("latin-1"))
    table = read_table(path, encoding="latin-1", **options)
    assert table.iloc[:, :2].values.tolist() == [[1, "Misérables (1995)"], [2, "Up"]]
    tabs = write("u.user", "1\t24\n2\t53\n")
    assert read_table(tabs, header=False).values.tolist() == [[1, 24], [2, 53]]
    assert list(read_table(write("r.inter", "user:token\titem:token\n1\t2\n"), sep="\t")) == ["user", "item"]


def test_missing_file_is_named_in_full_with_one_that_is_near(write, tmp_path, monkeypatch):
    write("ratings.csv", "1,2,3\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        read_table("rating.csv")
    assert str(caught.value) == f"there is no file {tmp_path / 'rating.csv'}; did you mean 'ratings.csv'?"
    with pytest.raises(DataError, match=r"not even the folder .*nowhere"):
        read_table("nowhere/ratings.csv")


@pytest.mark.parametrize("name, content, said", [
    ("r.csv", "", "r.csv is empty"),
    ("r.csv", "\n \n\n", "nothing in it but blank lines"),
    ("r.xlsx", "x", r"'.xlsx' is not known; known are .csv, .*\.inter.*format=, one of 'csv'"),
    ("ratings", "x", "ending '' is not known"),
    ("r.csv", "a,b,c\n1,2,3\n4,5,6,7\n", "r.csv, line 3: 4 fields, where the lines before have 3"),
    ("r.csv", "a,b,c\n1,2,3,4\n", "more fields than the first line has columns"),
    ("r.csv", 'a,b,c\n1,"2,3\n', "cannot be parsed"),
    ("r.csv", "user;item;rating\n1;2;3\n", "single column .*sep=';'"),
    ("r.inter", "user\titem\n1\t2\n", "line 1: expected RecBole's typed headers"),
    ("r.inter", "user:word\titem:token\n1\t2\n", "types: token, token_seq, float, float_seq"),
    ("r.inter", "user:token\trating:float\n1\tgood\n", "cannot be parsed: .*good"),
    ("r.csv.gz", "not compressed", "cannot be decompressed"),
    ("r.parquet", "no parquet", "cannot be read as Parquet")])
def test_what_is_wrong_is_said(write, name, content, said):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=said):
            read_table(write(name, content))


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes")
def test_a_pipe_is_not_called_empty(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(DataError) as error:
            read_table(path, sep=";")
        assert str(error.value) == (f"{path} is not a regular file, and a table is read more than once; write it to a "
                                    "file first")


def test_folder_and_unknown_format(tmp_path, write):
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="format='excel' is not one of 'csv', 'tsv', '::', 'recbole', 'parquet'"):
        read_table(write("r.csv", "1,2,3\n"), format="excel")


def test_parquet_without_pyarrow_says_how_to_install_it(write, monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise ImportError("Unable to find a usable engine")
    monkeypatch.setattr(pd, "read_parquet", fail)
    with pytest.raises(DataError, match="pip install pyarrow$"):
        read_table(write("r.parquet", "x"))


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work in another way there")
def test_file_that_may_not_be_read(write, monkeypatch):
    path = write("r.csv", "1,2,3\n")
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        read_table(path)


@pytest.mark.parametrize(("ids", "expected"), [
    (["007", "7"], ["007", "7"]), (["1e3", "1000"], ["1e3", "1000"]), (["True", "TRUE"], ["True", "TRUE"]),
    (["NA", "None"], ["NA", "None"]), (["1.50", "x"], ["1.50", "x"]), (["7", "-12"], [7, -12]),
    (["9" * 20, "1"], [int("9" * 20), 1]),
])
def test_ids_of_a_csv_stay_different_when_they_are_written_differently(tmp_path, ids, expected):
    (tmp_path / "r.csv").write_text("user,item,rating\n" + "".join(f"{id},a,3\n" for id in ids))
    assert read_table(tmp_path / "r.csv")["user"].tolist() == expected


@pytest.mark.parametrize("ids", [["1.10", "1.1"], ["0.1234567890123456789", "0.1234567890123456788"], ["1.0", "2.0"],
                                 ["1", "1.0"], ["2.5", "NaN"]])
@pytest.mark.parametrize("header", ["user,item,rating", "who,what,rating", "rating,user_id,x", "x,y,userId",
                                    "a,b,movieId"])
def test_ids_are_text_unless_all_are_integers(write, ids, header):
    name = next(c for c in ("user", "who", "user_id", "userId", "movieId") if c in header.split(","))
    rows = [[id if c == name else f"{k}{k}" for c in header.split(",")] for k, id in enumerate(ids, 1)]
    table = read_table(write("r.csv", "\n".join([header, *map(",".join, rows)]) + "\n"))
    assert table[name].tolist() == ids


def test_a_column_that_is_said_to_hold_ids_does(write):
    path = write("r.csv", "when,stars,version,rating\n1,2,1.10,4.50\n2,1,1.1,4.5\n")
    assert read_table(path)["version"].tolist() == [1.1, 1.1]
    assert read_table(path, ids=["version"])["version"].tolist() == ["1.10", "1.1"]
    data = CollabDataBunch.from_csv(path, user_name="version", item_name="stars", rating_name="rating", valid_pct=0,
                                    seed=0, device="cpu")
    assert [*data.users] == ["1.1", "1.10"] and data.train.tensors[2].tolist() == [4.5, 4.5]


def test_the_second_column_holds_ids_or_prices_and_nothing_is_lost_either_way(write):
    assert read_table(write("i.csv", "item,price\n1,9.50\n2,12.00\n"))["price"].tolist() == [9.5, 12.0]
    assert read_table(write("j.csv", "who,version,stars\n1,1.10,4.0\n1,1.1,5\n"))["version"].tolist() == ["1.10", "1.1"]
    assert read_table(write("k.csv", "who,rating\n1,4.50\n1,4.5\n"))["rating"].tolist() == [4.5, 4.5]


def test_numbers_of_a_csv_are_numbers_and_its_words_for_missing_are_missing(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\n1,a,4\n2,b,4.5\n3,c,NaN\n4,d,\n5,e,1e-05\n6,f,inf\n")
    ratings = read_table(tmp_path / "r.csv")["rating"]
    assert ratings.dtype == "float64" and ratings.isna().tolist() == [False, False, True, True, False, False]
    assert ratings[[0, 1, 4, 5]].tolist() == [4.0, 4.5, 1e-05, float("inf")]


@pytest.mark.parametrize("user, others", [("007", [3, 4.5, 19, "Alien"]), ("B00013", [3, 4.5, 19, "2001: A+"]),
                                          ("12e5", [3, 4.5, 19, "x"]), ("9.50", [3, 4.5, 19, "x"])])
def test_a_column_of_unusual_numbers_makes_no_text_of_the_others(write, user, others):
    line = ",".join(map(str, others))
    table = read_table(write("r.csv", f"user,item,rating,year,title\n{user},{line}\n1,{line}\n"))
    assert table["user"].tolist() == [user, "1"] and table.iloc[:, 1:].values.tolist() == [others, others]
    assert [column.dtype.kind for _, column in table.iloc[:, 1:4].items()] == ["i", "f", "i"]


@pytest.mark.parametrize("other", ["8", "007", '"a,007"'])
@pytest.mark.parametrize("space", [" ", "\t", " \t "])
def test_spaces_around_a_number_are_no_part_of_it_whatever_else_is_in_the_file(write, space, other):
    rows = [f"{space}4,{other},{space}4.5,b", f"-7{space},x,2{space},{space}c"]
    table = read_table(write("r.csv", "\n".join(["user,item,rating,title", *rows]) + "\n"))
    assert table["user"].tolist() == [4, -7] and table["rating"].tolist() == [4.5, 2.0]
    assert table["title"].tolist() == ["b", f"{space}c"]        # text is as it is written


def test_minus_0_is_not_the_id_0_and_stays_as_it_is_written(write, tmp_path):
    path = write("r.csv", "who,what,rating,year\n-0,-0,-0,-0\n0,7,5,3\n5,8,2,1")
    table = read_table(path)
    assert table["who"].tolist() == ["-0", "0", "5"] and table["what"].tolist() == ["-0", "7", "8"]
    assert table["rating"].tolist() == [0, 5, 2] and table["year"].tolist() == [0, 3, 1]
    data = CollabDataBunch.from_csv(path, valid_pct=0, seed=0, device="cpu")
    assert data.show_batch()["user"].tolist() == ["-0", "0", "5"] and data.n_users == 4
    assert read_table(write("end.csv", "user,item,rating\n4,1,2\n5,3,2\n7,2,-0"))["rating"].tolist() == [2, 2, 0]
    assert read_table(write("last.csv", "rating,item\n4,1\n5,-0"))["item"].tolist() == ["1", "-0"]


def test_the_numbers_of_a_file_with_quotation_marks_are_told_by_their_text(write):
    table = read_table(write("r.csv", 'user,item,rating\n"a,b",007,4.50\n"c",7,3\n'))
    assert table.values.tolist() == [["a,b", "007", 4.5], ["c", "7", 3.0]]


@pytest.mark.parametrize("id", [2**53 + 1, -2**53 - 1, 10**17 + 1, -10**17 - 1, 2**63 - 1, -2**63])
def test_large_ids_are_exact(write, id):
    table = read_table(write("r.csv", f"user,item,rating\n{id},{id},1\n{id + 1 if id < 0 else id - 1},2,5\n"))
    assert table["user"].tolist() == [id, id + 1 if id < 0 else id - 1] and table["item"].tolist() == [id, 2]
    data = CollabDataBunch.from_df(table, valid_pct=0, seed=0, device="cpu")
    assert data.users.decode(data.train.tensors[0]).tolist() == table["user"].tolist()
    gaps = read_table(write("g.csv", f"user,item,rating\n{id},a,1\n,b,5\n"))
    assert str(gaps["user"][0]) == str(id) and gaps["user"].isna().tolist() == [False, True]


def test_gaps_beside_integers_of_64_bits_without_a_sign_are_missing(write):
    table = read_table(write("r.csv", f"user,item,rating\n{2**64 - 1},1,2\n,2,5\n7,3,4\n"))
    assert table["user"].isna().tolist() == [False, True, False] and str(table["user"][0]) == str(2**64 - 1)
    with pytest.raises(DataError, match="1 of 3 ids are missing"):
        CollabDataBunch.from_df(table, seed=0)


# Decimal commas ---------------------------------------------------------------------------------------------------

def test_numbers_with_decimal_commas_are_numbers_and_ids_stay_as_written(tmp_path):
    (tmp_path / "r.csv").write_text("user;item;rating;weight;note\n1,5;A;4,5;1.234,5;4,5 or so\n2;B;-3;12;x\n"
                                    "007;C;0,05;;y\n")
    table = read_table(tmp_path / "r.csv", sep=";", decimal=",")
    assert table["rating"].tolist() == [4.5, -3, 0.05] and table["user"].tolist() == ["1,5", "2", "007"]
    assert table["weight"].tolist()[:2] == [1234.5, 12] and table["weight"].isna()[2]
    assert table["note"].tolist() == ["4,5 or so", "x", "y"]


def test_a_point_is_a_thousand_where_the_comma_is_decimal_and_never_two_things_in_one_column(tmp_path):
    (tmp_path / "r.tsv").write_text("u\ti\tplays\tmixed\na\tx\t1.234\t4,5\nb\ty\t2.000.000\t4.5\n")
    table = read_table(tmp_path / "r.tsv", decimal=",")
    assert table["plays"].tolist() == [1234, 2_000_000] and table["mixed"].tolist() == ["4,5", "4.5"]


def test_decimal_commas_within_quotation_marks_and_in_the_first_line(tmp_path):
    (tmp_path / "r.csv").write_text('a,x,"4,5"\nb,y,"3,0"\n')
    assert read_table(tmp_path / "r.csv", decimal=",")["rating"].tolist() == [4.5, 3]       # no header: 4,5 is a number
    with pytest.raises(DataError, match="decimal=';' is neither a point nor a comma"):
        read_table(tmp_path / "r.csv", decimal=";")


# Lines with too many fields ---------------------------------------------------------------------------------------

def test_lines_with_too_many_fields_are_left_out_on_demand_wherever_they_stand(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating\n007,x,1\n8,Dune, Part 1,5\n\n9,y,2\n10,Dune, Part 2,5,\n11,z,3\n")
    with pytest.raises(DataError, match=r"line 3: 4 fields, .* leave such lines out with bad_lines='drop'"):
        read_table(path)
    with pytest.warns(UserWarning, match=r"2 lines have more fields than the first, .*\(first: line 3\)"):
        table = read_table(path, bad_lines="drop")
    assert table.to_dict("list") == {"user": ["007", "9", "11"], "item": ["x", "y", "z"], "rating": [1, 2, 3]}
    with pytest.raises(DataError, match="bad_lines='skip' is neither 'error' nor 'drop'"):
        read_table(path, bad_lines="skip")
