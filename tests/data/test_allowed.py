"""The items a list may hold: ids, titles and conditions, over a table like that of MovieLens-latest-small."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from collab import DataError, UnknownId, Vocab
from collab.data.allowed import Allowed, allowed, typed
from collab.data.catalogue import Catalogue

MOVIES = pd.DataFrame({
    "title": ["Toy Story (1995)", "Heat (1995)", "Platoon (1986)", "Alien (1979)", "Glory (1989)", "E=mc2 (2005)"],
    "genres": ["Adventure|Animation|Children|Comedy|Fantasy", "Action|Crime|Thriller", "Drama|War", "Horror|Sci-Fi",
               "Drama|War", "(no genres listed)"],
    "year": [1995, 1995, 1986, 1979, 1989, 2005]}, index=pd.Index([1, 6, 1090, 1214, 1242, 9999], name="movieId"))
ITEMS = Catalogue(Vocab(MOVIES.index, "item"), MOVIES["title"].tolist())


def kept(**rules: object) -> list[int] | None:
    rows = allowed(ITEMS, lambda: MOVIES, **rules)
    return None if rows is None else ITEMS.vocab.ids[rows].tolist()


def test_ids_and_titles_mean_what_they_did():
    assert kept() is None
    assert kept(among=[6, "Alien (1979)"]) == [6, 1214] and kept(among=6) == kept(among="Heat (1995)") == [6]
    assert kept(without=[6, 1090]) == [1, 1214, 1242, 9999]
    assert kept(among=[]) == [] and kept(without=[]) == [*MOVIES.index]
    assert kept(among="E=mc2 (2005)") == [9999]         # a title, whatever it looks like
    for some in ({6: 5.0, 1214: 1.0}, {"Heat (1995)": 5.0, "Alien (1979)": None}, dict.fromkeys([6, 1214]), {6, 1214}):
        assert kept(among=some) == [6, 1214] and kept(without=some) == [1, 1090, 1242, 9999]        # a user's ratings
    assert kept(among={}) == [] and kept(without={77: 5.0}) == [*MOVIES.index]
    with pytest.warns(UserWarning, match="1 of 2 items in among= were not trained on"):
        assert kept(among=[6, 77]) == [6]
    with pytest.raises(UnknownId):
        kept(among=[6, 77], unknown="error")


def test_a_condition_stands_for_the_items_that_meet_it():
    assert kept(among={"genres": "War"}) == kept(where={"genres": "War"}) == [1090, 1242]
    assert kept(among={"genres": ["War", "Horror"], "year": "<1989"}) == [1090, 1214]      # all conditions of one
    assert kept(among=[{"genres": "War"}, {"genres": "Horror"}, 1]) == [1, 1090, 1214, 1242]        # any of several
    assert kept(without={"genres": "War"}) == [1, 6, 1214, 9999]
    assert kept(without=[{"genres": "War", "year": 1986}, "Heat (1995)"]) == [1, 1214, 1242, 9999]
    assert kept(without={"year": ">2010"}) == [*MOVIES.index]           # none is so new: none is left out
    assert kept(among={"year": ">=1986"}, without={"genres": "War"}, where="year<2000") == [1, 6]
    before = Allowed(allowed(ITEMS, lambda: MOVIES, among={"genres": "War"}))
    assert kept(among=before, without=1090) == [1242] and ITEMS.vocab.ids[before.rows].tolist() == [1090, 1242]


def test_ratings_of_titles_that_nobody_knows_leave_out_nothing():
    for rated in ({"Film 333": 5.0}, {"Film 333": 5, "Film 4": None}, {"Film 333": np.float32(5)}):
        with pytest.warns(UserWarning, match="are neither the id nor the title"):
            assert kept(without=rated) == [*MOVIES.index]
        with pytest.raises(UnknownId, match="'Film 333'"):
            kept(among=rated)
    assert kept(without={"year": 1995}) == [1090, 1214, 1242, 9999]         # a column: a condition


@pytest.mark.parametrize(("text", "form"), [
    ("genres=War", "{'genres': 'War'}"), ("genre = War", "{'genre': 'War'}"), ("year>=1990", "{'year': '>=1990'}")])
def test_a_condition_in_text_is_told_the_form_it_has_in_python(text: str, form: str):
    for rules in ({"among": text}, {"without": [6, text]}, {"among": (text,)}):
        with pytest.raises(DataError, match=f"={text!r} is not an item; .* pass {form}"):
            kept(**rules)


@pytest.mark.parametrize(("rules", "says"), [
    ({"among": {"genre": "War"}}, r"among= names a column 'genre' that .*; did you mean 'genres'\? The columns are"),
    ({"without": [6, {"gender": "War"}]}, "without= names a column 'gender' that the table of items has not"),
    ({"among": {"genres": "Wra"}}, "among=: no item has 'Wra' in column 'genres'; near it are 'War'"),
    ({"without": {"yaer": 1986}}, r"without= names a column 'yaer' .*; did you mean 'year'"),
    ({"without": {"genres": "Horor"}}, "without=: no item has 'Horor' in column 'genres'; near it are 'Horror'"),
    ({"among": {"year": ">2010"}}, "among={'year': '>2010'}: no item that was trained on meets this condition"),
    ({"without": {"year": "new"}}, "without=: column 'year' holds numbers, and 'new' is none")])
def test_what_cannot_be_met_names_the_argument(rules: dict[str, object], says: str):
    with pytest.raises(DataError, match=says):
        kept(**rules)


def test_conditions_need_a_table_and_ids_do_not():
    for rules in ({"among": {"genres": "War"}}, {"without": [6, {"genres": "War"}]}):
        with pytest.raises(DataError, match=rf"{next(iter(rules))}= needs to know more of the items than their ids"):
            allowed(ITEMS, lambda: MOVIES.iloc[:, :0], **rules)

    def never() -> pd.DataFrame:
        raise AssertionError("asked for a table that ids alone do not need")
    assert np.flatnonzero(allowed(ITEMS, never, among=[6, 1], without=6)).tolist() == [1]


def test_what_a_person_types_is_an_item_first_and_then_a_condition():
    def meant(text: str) -> object:
        return typed(ITEMS, MOVIES, text)
    assert meant("6") == 6 and meant("Heat (1995)") == "Heat (1995)" and meant("e=MC2 (2005)") == "e=MC2 (2005)"
    assert meant("genres=War") == {"genres": "=War"} and meant("year >= 1990") == {"year": ">=1990"}
    assert meant("genre=War") == {"genre": "=War"}      # nearly a column: the error says which
    assert meant("x=y") == "x=y" and meant("genres=") == "genres="
    assert kept(among=[meant("genres=War"), meant("6")]) == [6, 1090, 1242]


def test_an_unknown_id_that_is_typed_is_of_the_kind_of_the_ids():
    bare = Catalogue(ITEMS.vocab, None)
    for ids in (["6", "77777"], ["77777", "6"]):
        given = [typed(bare, None, text) for text in ids]
        assert sorted(given) == [6, 77777] and np.flatnonzero(~bare.vocab.encode(given).astype(bool)).size == 1
        without = allowed(bare, lambda: MOVIES, without=given)
        assert ITEMS.vocab.ids[without].tolist() == [1, 1090, 1214, 1242, 9999]
        with pytest.warns(UserWarning, match=r"1 of 2 items in among= were not trained on \(such as 77777\)"):
            assert np.flatnonzero(allowed(bare, lambda: MOVIES, among=given)).tolist() == [2]
    assert typed(bare, None, "7.5") == "7.5" and typed(bare, None, "Heat") == "Heat"
    assert typed(ITEMS, None, "77777") == "77777"       # which may be a part of a title: the message says of which
    floats = Catalogue(Vocab([0.5, 1.5], "item"), None)
    assert typed(floats, None, "7.5") == 7.5 and typed(floats, None, "nan") == "nan"
