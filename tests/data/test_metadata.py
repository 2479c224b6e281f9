"""Titles under any usual name, and what a table of metadata does not give is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from collab import CollabDataBunch, CollabWarning, DataError, UnknownId, collab_learner, cross_validate, load_learner
from collab.data.metadata import guess_title

RATINGS = pd.DataFrame({"user": [1, 2, 1, 2, 3], "item": [10, 10, 20, 20, 30], "rating": [1.0, 2, 3, 4, 5]})
FILMS = pd.DataFrame({"item": [20, 10, 30, 40], "Titel": ["B", "A", "C", "D"], "year": [1990, 1991, 1992, 1993]})


def bunch(items: pd.DataFrame | None = None, **options: Any) -> CollabDataBunch:
    return CollabDataBunch.from_df(RATINGS, **{"items": items, "valid_pct": 0, "seed": 0, "device": "cpu", **options})


@pytest.mark.parametrize("name", ["title", "Title", "TITLE", "name", "Name", "Titel", "titre", "Título", "Book-Title",
                                  "movie_title", "bookTitle", "Original Title", "Product Name", "movie_name",
                                  "item-name", "booktitle", "songName"])
def test_titles_are_found_under_the_usual_names(name):
    data = bunch(FILMS.rename(columns={"Titel": name}))
    assert data.title_name == name and data.titles([10, 20, 99]) == ["A", "B", ""]


@pytest.mark.parametrize("columns, expected", [
    (["name", "title"], "title"), (["Title", "title"], "title"), (["original_title", "name"], "name"),
    (["author_name", "book_name"], "book_name"), (["genre_name", "brand name", "subtitle", "untitled"], None),
    (["renamed", "entitled"], None), ([0, ("a", "b")], None), ([], None)])
def test_of_several_names_the_most_usual_is_taken_and_none_that_only_sounds_like_one(columns, expected):
    assert guess_title(pd.DataFrame(columns=pd.Index(columns, dtype=object, tupleize_cols=False))) == expected


def test_a_name_that_is_given_wins_and_outlives_the_file(tmp_path):
    films = FILMS.rename(columns={"Titel": "what it says"}).assign(title="never")
    learn = collab_learner(bunch(films, title_name="what it says"), n_factors=2)
    learn.export(tmp_path / "m.safetensors")
    for data in (learn.data, load_learner(tmp_path / "m.safetensors").data):
        assert data.title_name == "what it says" and data.titles([20, 10]) == ["B", "A"]
        assert data.find_item("c") == 30
        with pytest.raises(UnknownId):
            data.find_item("never")


def test_folds_of_data_keep_the_name_of_the_titles():
    found = []

    def build(data: CollabDataBunch) -> Any:
        found.append(data.titles([10]))
        raise KeyboardInterrupt
    films = FILMS.rename(columns={"Titel": "what it says"})
    with pytest.raises(KeyboardInterrupt):
        cross_validate(build, bunch(films, title_name="what it says"), [lambda df: (np.arange(4), np.arange(4, 5))])
    assert found == [["A"]]


def test_a_name_that_is_not_there_is_refused_with_a_near_one():
    with pytest.raises(DataError, match=r"no column 'Title' for the title; did you mean 'Titel'\? The columns are"):
        bunch(FILMS, title_name="Title")
    with pytest.raises(DataError, match=r"title_name='Titel' names neither .* passed as items=\.\.\., nor one of"):
        bunch(title_name="Titel")


def test_titles_may_stand_in_the_ratings_themselves():
    rows = [(1, 10, 5.0, "Aa"), (2, 10, 3.0, "Aa"), (1, 20, 1.0, None), (2, 20, 2.0, "Bb"), (2, 30, 4.0, None)]
    with pytest.warns(CollabWarning, match="lacks 1 of the 3 rated items .such as 30.: they have no title"):
        data = CollabDataBunch.from_df(pd.DataFrame(rows, columns=["user", "item", "rating", "film"]),
                                       title_name="film", valid_pct=0, seed=0)
    assert data.titles([10, 20, 30]) == ["Aa", "Bb", ""] and data.find_item("Bb") == 20


def test_of_several_titles_the_first_is_taken_with_a_warning():
    rows = pd.DataFrame({"user": [1, 2, 1, 2], "item": [10, 10, 20, 20], "rating": 1.0, "film": ["A", "B", "C", "C"]})
    with pytest.warns(CollabWarning, match="'film': 1 item has another title too .such as 10, which is 'A' and"):
        data = CollabDataBunch.from_df(rows, title_name="film", valid_pct=0, seed=0)
    assert data.titles([10, 20]) == ["A", "C"]


@pytest.mark.parametrize("films, options, says", [
    (FILMS.rename(columns={"Titel": "Text"}), {}, r"\['Text', 'year'\]: .*title_name=\.\.\., such as 'Text'"),
    (FILMS.rename(columns={"Titel": "Text"}), {"item_features": ["year"]}, "such as 'Text'"),
    (FILMS.rename(columns={"Titel": "Text"}), {"item_features": "auto"}, "such as 'Text'"),
    (FILMS[["item", "year"]], {}, r"no titles are shown; its columns are \['year'\]"),
    (FILMS.assign(Titel=None), {}, "no title in the column 'Titel'"),
])
def test_items_without_titles_are_warned_of(films, options, says):
    with pytest.warns(CollabWarning, match=says) as caught:
        bunch(films, **options)
    assert len(caught) == 1


def test_items_that_are_there_for_their_features_need_no_title():
    assert bunch(FILMS[["item", "year"]], item_features=["year"]).titles([10]) is None
    assert bunch(FILMS.assign(Titel=list("xyxy")), item_features=["Titel"]).titles([10]) == ["y"]
    assert bunch(FILMS[["item"]]).titles([10]) is None and bunch().titles([10]) is None


def test_titles_are_no_features_of_their_own_accord():
    films = FILMS.assign(Titel=["A", "B", "A", "B"])        # so few words that they could be groups
    assert [column for column, _ in bunch(films, item_features="auto").item_features.labels] == ["year"]


def test_rated_ids_that_the_metadata_lack_are_counted():
    with pytest.warns(CollabWarning, match=r"items lacks 1 of the 3 rated items \(such as 30\): they have no title;"):
        bunch(FILMS.drop(index=2))
    with pytest.warns(CollabWarning, match="items lacks 2 of the 3 .*no title and no features"):
        bunch(FILMS.iloc[:1], item_features=["year"])
    people = pd.DataFrame({"user": [1, 2], "age": [30, 40]})
    with pytest.warns(CollabWarning, match=r"users lacks 1 of the 3 rated users \(such as 3\): they have no features"):
        bunch(users=people, user_features=["age"])
    assert bunch(users=people).user_features is None        # nothing is taken from it that could be lacking


ZEROS = ("; but for leading zeros the table would have {} of the rated ones \\({} there, {} in the ratings\\): write "
         "them alike in both")


@pytest.mark.parametrize(("rated", "films", "says"), [
    ([1, 2, 3], ["0001", "0002", "0004"], "of kind number here .*" + ZEROS.format(2, "'0001'", 1)),
    (["0001", "0002", "a"], [1, 2, 3], "of kind string here .*" + ZEROS.format(2, 1, "'0001'")),
    (["1", "2", "a"], ["01", "02", "b"], "holds none of the rated .*" + ZEROS.format(2, "'01'", "'1'")),
    ([1, 2, 3], ["a", "b", "c"], "different ids$")])
def test_ids_that_differ_in_leading_zeros_are_told(rated, films, says):
    ratings = pd.DataFrame({"user": [1, 1, 2, 2], "item": [*rated, rated[0]], "rating": [1.0, 2, 3, 4]})
    table = pd.DataFrame({"item": films, "title": ["A", "B", "C"]})
    with pytest.raises(DataError, match=says):
        CollabDataBunch.from_df(ratings, items=table, valid_pct=0, seed=0, device="cpu")


def test_a_few_ids_that_differ_in_leading_zeros_are_told_with_those_that_lack():
    ratings = pd.DataFrame({"user": [1, 1, 2, 2], "item": ["7", "100", "x", "7"], "rating": [1.0, 2, 3, 4]})
    table = pd.DataFrame({"item": ["007", "100", "y"], "title": ["A", "B", "C"]})
    says = r"lacks 2 of the 3 rated items \(such as '7'\).*" + ZEROS.format(1, "'007'", "'7'")
    with pytest.warns(CollabWarning, match=says):
        CollabDataBunch.from_df(ratings, items=table, valid_pct=0, seed=0, device="cpu")


def test_items_of_several_titles_are_counted_and_not_their_titles():
    ratings = pd.DataFrame({"user": range(6), "item": [1, 1, 1, 1, 2, 2], "rating": 3.0, "name": list("ABCDEF")})
    with pytest.warns(CollabWarning, match="'name': 2 items have another title too .such as 1, which is 'A' and 'B'"):
        CollabDataBunch.from_df(ratings, title_name="name", valid_pct=0, seed=0, device="cpu")


def test_metadata_of_more_items_than_were_rated_are_normal():
    assert bunch(FILMS).n_items == 4 and bunch(FILMS, item_features=["year"]).n_items == 5


def test_half_a_character_is_refused_by_its_column_and_row():
    odd = pd.Series(["A", "B\udcff", "C", "D"], dtype=object)
    with pytest.raises(DataError, match=r"table of items: column 'Titel': 1 of 4 values hold half a character "
                                        r".*'B\\udcff' at row 1.*surrogateescape"):
        bunch(FILMS.assign(Titel=odd))


def test_infinite_features_are_warned_of():
    with pytest.warns(CollabWarning, match=r"column 'year': 1 of 4 values are infinite, and count as missing"):
        data = bunch(FILMS.assign(year=[1.0, np.inf, 3, 2]), item_features=["year"])
    assert data.item_features.weights[1].tolist() == [0.0]


def test_lists_in_a_feature_are_refused_with_the_remedy():
    lists = pd.Series([["War"], ["War", "Drama"], [], ["War"]])
    with pytest.raises(DataError, match=r"column 'genres' holds lists .*df\['genres'\]\.map\('\|'\.join\)"):
        bunch(FILMS.assign(genres=lists), item_features=["genres"])
