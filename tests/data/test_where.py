"""where: conditions on the table of items, against pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from collab import DataError, Vocab
from collab.data.where import meeting

FILMS = pd.DataFrame({
    "year": pd.array([1995, 1986, None, 1979, 1960], dtype="Int64"), "stars": [3.5, 4.0, 5.0, np.nan, 4.0],
    "genres": ["Drama|War", "Action|War ", "Comedy", None, "Prewar|Drama"], "seen": [True, False, True, False, True],
    "out": pd.to_datetime(["1995-03-01", "1986-07-18", "2001-01-01", None, "1960-05-05"]),
    "code": ["12", "x", "7", "100", None]}, index=[10, 20, 30, 40, 50])
IDS = Vocab([10, 20, 30, 40, 50, 60], "item")      # 60 is not in the table


def met(where: object) -> list[int]:
    kept = meeting(FILMS, IDS, where)
    assert not kept[0] and len(kept) == 7
    return IDS.ids[kept].tolist()


@pytest.mark.parametrize("sign", [">=", "<=", ">", "<", "==", "!="])
def test_numbers_are_compared_as_pandas_compares_them(sign: str):
    for column, value in (("year", 1986), ("stars", 4.0)):
        known = FILMS.dropna(subset=column)
        expected = known.query(f"{column} {sign} {value}").index.tolist()
        assert met({column: f"{sign}{value}"}) == met(f"{column} {sign} {value}") == met([f"{column}{sign}{value}"])
        assert met({column: f" {sign} {value}"}) == expected
    assert met({"code": ">9"}) == [10, 40]          # text that reads as numbers


def test_a_value_is_equal_or_among_several():
    assert met({"genres": "War"}) == met("genres=war") == [10, 20]          # and not Prewar
    assert met({"genres": ["War", "Comedy"]}) == [10, 20, 30]
    assert met({"genres": "!=War"}) == [30, 50]                             # what is not known meets no condition
    assert met({"year": 1986}) == met({"year": "1986"}) == [20] and met({"year": [1986, 1960]}) == [20, 50]
    assert met({"seen": True}) == met("seen=true") == met({"seen": "yes"}) == [10, 30, 50]
    assert met({"out": ">=1990"}) == [10, 30] and met({"out": "1986-07-18"}) == [20]
    assert met({"code": "x"}) == [20]


def test_all_conditions_must_be_met():
    assert met({"genres": "War", "year": ">=1990"}) == met(["genres=War", "year>=1990"]) == [10]
    assert met(["year>=1980", "year<1990"]) == [20] and met({}) == met([]) == [10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize(("where", "says"), [
    ({"genre": "War"}, r"names a column 'genre' that the table of items has not; did you mean 'genres'\? The columns"),
    ("zzz=1", r"'zzz' that the table of items has not\. The columns are 'year', 'stars', 'genres'"),
    ({"genres": "Wra"}, "no item has 'Wra' in column 'genres'; near it are 'War'"),
    ({"year": 2020}, "no item has 2020 in column 'year': they go from 1960 to 1995"),
    ({"year": "new"}, "column 'year' holds numbers, and 'new' is none"),
    ({"out": ">soon"}, "column 'out' holds times, and 'soon' is none"),
    ({"genres": ">War"}, r"column 'genres' holds text \(such as 'Drama\|War'\), which > cannot compare; take = or !="),
    (["year>2100"], "where='year>2100': no item that was trained on meets this condition"),
    (["year>=1990", "genres=Comedy"], "where='year>=1990' and 'genres=Comedy': no item that"),
    ({"year": ">=1990", "genres": "Comedy"}, "no item that was trained on meets all of these conditions"),
    ("year", "where='year' is not a condition"), ("year>=", "is not a condition"), (7, "where= is {column: condition}"),
    ([5], "where=5 is not a condition")])
def test_what_cannot_be_met_is_named(where: object, says: str):
    with pytest.raises(DataError, match=says):
        meeting(FILMS, IDS, where)


def test_ids_alone_meet_no_condition():
    with pytest.raises(DataError, match="train with a table of them"):
        meeting(pd.DataFrame(), IDS, {"year": 1990})
