"""Files in other encodings than the command says: what is read, and how short and useful the errors are."""

import pytest

from collab import load_learner
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
