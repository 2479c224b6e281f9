"""Ids that differ in capitals, spaces or leading zeros alone are named where they are not found."""

from __future__ import annotations

import pandas as pd
import pytest

from collab import CollabDataBunch, CollabWarning, DataError, DataReport, UnknownId
from collab.data.alike import bare, bare_text, folded, how_written
from collab.data.catalogue import Catalogue
from collab.data.vocab import Vocab
from collab.data.where import meeting

ALIKE = {"007": "7", " 7 ": "7", "000": "0", "A1  ": "a1", "0A1": "0a1", "": "", "0.5": "0.5"}


def test_an_id_is_bare_without_capitals_spaces_and_leading_zeros():
    assert {id: bare(id) for id in ALIKE} == ALIKE
    assert bare_text(pd.Series([*ALIKE])).tolist() == [*ALIKE.values()] and bare(7) == "7"


@pytest.mark.parametrize("pairs, said", [
    ([("7", "007")], "leading zeros"), ([("A1", "A1  ")], "spaces"), ([("A1 ", " A1")], "spaces"),
    ([("a", "A")], "capitals"), ([(7, "007 ")], "spaces or leading zeros"),
    ([("a", "A"), ("7", "07"), ("b", "b ")], "capitals, spaces or leading zeros")])
def test_ways_in_which_ids_differ_are_named(pairs, said):
    assert how_written(pairs) == said


@pytest.mark.parametrize("asked, first", [("7", "'007'"), ("07", "'007'"), ("x ", "'x'"), (" X", "'x'")])
def test_an_unknown_id_names_the_one_that_is_written_almost_so_first(asked, first):
    with pytest.raises(UnknownId, match=f"near it are {first}"):
        Vocab(["70", "77", "17", "x1", "x 2", "xx", "007", "x"], "user")[asked]


def test_a_report_notes_ids_that_differ_by_leading_zeros():
    table = pd.DataFrame({"user": ["007", "007", "7", "x1", "x1"], "item": list("abcab"), "rating": [1.0, 2, 3, 4, 5]})
    what = DataReport.from_df(table).problems.set_index("where").loc["column 'user'", "what"]
    assert "1 of the users differ from another one in leading zeros alone, as '007' and '7' do" in [*pd.Series(what)]


def test_items_that_the_table_has_in_another_spelling_are_counted():
    ratings = pd.DataFrame({"user": [1, 1, 2, 2], "item": ["A1  ", "A1", "a2", "A3"], "rating": [1.0, 2, 3, 4]})

    def said(*ids: str) -> str:
        with pytest.warns(CollabWarning, match="lacks") as found:
            CollabDataBunch.from_df(ratings, items=pd.DataFrame({"item": ids, "title": ids}), valid_pct=0, seed=0)
        return str(found[0].message).partition("; ")[2]
    alike = ("but for capitals or spaces the table would have 2 of the rated ones ('A1' there, 'A1  ' in the ratings): "
             "write them alike in both")
    assert said("A1", "A2", "A3") == alike
    assert said("A1", "A2", "A4") == f"{alike}; add a row for each of the others"
    assert said("A1", "A1  ", "a2") == "add a row for each"


@pytest.mark.parametrize("asked, known", [("kaese", "Käse"), ("kase", "Käse"), ("Käse", "Kaese"), ("OEL", "Öl"),
                                          ("strasse", "Straße"), ("amelie", "Amélie"), ("creme brulee", "Crème brûlée"),
                                          ("muesli", "Müsli"), ("Brötchen", "Broetchen")])
def test_near_names_are_compared_without_accents_and_umlauts(asked, known):
    assert folded(asked) == folded(known)
    with pytest.raises(UnknownId, match=f"near it are '{known}'"):
        Vocab([known, "Wein", "Brot und Salz"], "item")[asked]
    titled = Catalogue(Vocab([1, 2, 3], "item"), [f"{known} (1999)", "Wein", "Der Rest"])
    assert f"near it are '{known} (1999)'" in str(titled.unknown(asked))
    long = Catalogue(Vocab([1, 2], "item"), ["Wein", f"Ein langer Titel mit {known} und vielen anderen Worten"])
    assert known in str(long.unknown(asked))


def test_what_is_to_be_left_out_and_is_unknown_is_said_with_near_names():
    catalogue = Catalogue(Vocab([1, 2, 3], "item"), ["Broetchen", "Wein", "Käse"])
    with pytest.warns(CollabWarning, match="and leave out nothing; near it are 'Broetchen'$"):
        assert catalogue.excluded(["Brötchen", "Wein"]).tolist() == [0, 2]
    with pytest.warns(CollabWarning, match="and leave out nothing$"):
        catalogue.excluded(["Zucker"])


def test_a_value_of_a_column_is_named_without_its_umlauts():
    with pytest.raises(DataError, match="near it are 'Käse'$"):
        meeting(pd.DataFrame({"kind": ["Käse", "Brot"]}, index=[1, 2]), Vocab([1, 2], "item"), {"kind": "kaese"})
