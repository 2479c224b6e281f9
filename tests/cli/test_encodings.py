"""Files in other encodings than the command says: what is read, and how short and useful the errors are."""

import gzip
import json

import pytest

from collab import load_learner, read_table
from collab.errors import listed, quoted


@pytest.fixture
def german(tmp_path):
    """Ratings in latin-1, with titles in UTF-8 and another time in latin-1."""
    rows = [f"k{k % 7};{k % 11};{k % 5 + 1};München" for k in range(60)]
    (tmp_path / "r.csv").write_text("\n".join(["Kunde;Buch;Note;Filiale", *rows]), encoding="latin-1")
    films = "\n".join(["Buch;Titel", *(f"{k};Straße {k}" for k in range(11))])
    (tmp_path / "utf8.csv").write_text(films, encoding="utf-8")
    (tmp_path / "latin.csv").write_text(films, encoding="latin-1")
    (tmp_path / "r8.csv").write_text("\n".join(["Kunde;Buch;Note;Filiale", *rows]), encoding="utf-8")
    return tmp_path


def trained(collab, german, ratings, *words):
    return collab("train", german / ratings, "--sep", ";", "--epochs", 1, "--factors", 2, "--no-card", "--out",
                  german / "m", *words)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("ratings, words, warned", [
    ("r.csv", ["--encoding", "latin-1", "--items", "utf8.csv"], True),
    ("r.csv", ["--encoding", "latin-1", "--items", "utf8.csv", "--table-encoding", "utf-8"], False),
    ("r.csv", ["--encoding", "latin-1", "--items", "latin.csv"], False),
    ("r8.csv", ["--table-encoding", "latin-1", "--items", "latin.csv"], False)])
def test_titles_are_read_in_their_own_encoding(collab, german, ratings, words, warned):
    words = [german / word if word.endswith(".csv") else word for word in words]
    code, _, err = trained(collab, german, ratings, *words)
    assert code == 0, err
    assert load_learner(german / "m").data.titles([3]) == ["Straße 3"]
    assert ("utf8.csv is read as UTF-8, as it is written, and not as --encoding latin-1" in err) == warned


@pytest.mark.filterwarnings("default")
def test_a_chosen_encoding_of_the_tables_is_not_warned_of_and_the_warning_names_it(collab, german):
    words = ["--encoding", "latin-1", "--items", german / "utf8.csv"]
    _, _, err = trained(collab, german, "r.csv", *words)
    line = next(line for line in err.splitlines() if line.startswith("Warning"))
    assert line.endswith("utf8.csv is read as UTF-8, as it is written, and not as --encoding latin-1; "
                         "--table-encoding utf-8 says so")
    code, _, err = trained(collab, german, "r.csv", *words, *line.split("; ")[1].split()[:2])
    assert code == 0 and "Warning: " + str(german) not in err and "UTF-8" not in err


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("encoding, compressed", [("latin-1", ""), ("cp1252", ""), ("latin-1", ".gz"), ("utf-8", "")])
def test_a_file_with_the_mark_of_utf8_is_read_so_whatever_was_said(collab, tmp_path, encoding, compressed):
    rows = [f"k{k % 7};{k % 11};{k % 5 + 1};München" for k in range(60)]
    rows[9] = "k2;9;viel;Köln"
    text = "\n".join(["Kunde;Buch;Note;Filiale", *rows]).encode("utf-8-sig")
    file = tmp_path / f"r.csv{compressed}"
    file.write_bytes(gzip.compress(text) if compressed else text)
    words = file, "--sep", ";", "--encoding", encoding
    code, _, err = collab("train", *words, "--out", tmp_path / "m")
    said = f"{file} begins with the mark of UTF-8 and is read so, and not as --encoding '{encoding}'; leave --encoding"
    assert code == 2 and (said in err) == (encoding != "utf-8") and "(such as 'viel' at line 11)" in err
    code, out, _ = collab("check", *words, "--as", "json")
    assert code == 1 and [column["column"] for column in json.loads(out)["columns"]] == ["Kunde", "Buch", "Note",
                                                                                        "Filiale"]
    code, _, err = collab("train", *words, "--bad-rows", "drop", "--epochs", 1, "--factors", 2, "--out", tmp_path / "m")
    assert code == 0 and load_learner(tmp_path / "m").data.schema.user == "Kunde"
    plain = tmp_path / "plain.csv"
    plain.write_bytes("1;10;3\n2;10;4\n1;20;5\n".encode("utf-8-sig"))      # the mark is no letter of a name
    assert read_table(plain, sep=";", encoding="utf-8").values.tolist() == [[1, 10, 3], [2, 10, 4], [1, 20, 5]]


def test_a_file_with_the_mark_of_utf8_and_bytes_of_another_encoding_is_refused(collab, tmp_path):
    (tmp_path / "r.csv").write_bytes(b"\xef\xbb\xbfuser,item,rating\nM\xfcller,1,2\n")
    code, _, err = collab("train", tmp_path / "r.csv", "--encoding", "latin-1", "--out", tmp_path / "m")
    assert code == 2 and "begins with the mark of UTF-8, and holds bytes that are not UTF-8" in err


@pytest.mark.parametrize("n", [60, 20_000])
def test_a_file_that_is_not_utf16_is_asked_for_its_encoding_in_a_short_message(collab, tmp_path, n):
    text = "Kunde;Buch;Note;Filiale\n" + "".join(f"k{k % 7};{k % 11};{k % 5};Munchen\n" for k in range(n))
    (tmp_path / "r.csv").write_text(text + "ü" + " " * (len(text) % 2))
    code, _, err = collab("train", tmp_path / "r.csv", "--encoding", "utf-16-le", "--out", tmp_path / "m")
    assert code == 2 and len(err) < 500
    assert "is not written in this encoding" in err and "--encoding 'utf-8'" in err and "--implicit" not in err


def test_messages_quote_names_cut_to_about_sixty_characters(collab, tmp_path):
    assert quoted("short") == "'short'" and quoted(5.0) == "5.0"
    assert quoted("x" * 60) == repr("x" * 60) and len(quoted("x" * 10_000)) <= 63
    assert listed(["a", 1]) == "['a', 1]" and listed(range(30)).endswith("18, 19, and 10 more]")
    (tmp_path / "r.csv").write_text(f"user,{'n' * 400}\n1,2\n1,3\n2,2\n")
    code, _, err = collab("train", tmp_path / "r.csv", "--out", tmp_path / "m")
    assert code == 2 and "nnn…'" in err and len(err) < 400
