"""Text such as "12,50 EUR" is compared as the number that it holds, and refused where that is in doubt."""

import numpy as np
import pandas as pd
import pytest

from collab import CollabDataBunch, DataError, DataReport
from collab.data.units import amounts, has_unit
from collab.data.vocab import Vocab
from collab.data.where import meeting

ITEMS = Vocab([1, 2, 3, 4, 5], "item")


def kept(prices, where):
    table = pd.DataFrame({"Preis": prices}, index=[1, 2, 3, 4, 5])
    return np.flatnonzero(meeting(table, ITEMS, where)).tolist()


EURO = ["12,50 EUR", "20,00 EUR", "1.299,00 EUR", "gratis", None]


@pytest.mark.parametrize("prices", [EURO, ["€ 12,50", "€20,00", "€ 1.299,00", None, None],
                                    ["$12.50", "$20", "$1,299.00", None, "?"], ["12,50", "20,0", "1299,0", None, "-"],
                                    ["12,50 eur", "20 EUR", "1299 Eur", "auf Anfrage", None],
                                    ["12.5", "20.0 EUR", "1299.00 EUR", None, "n"]])
@pytest.mark.parametrize("where, rows", [("Preis<20", [1]), ("Preis<=20", [1, 2]), ("Preis>12.49", [1, 2, 3]),
                                         ("Preis>12,5", [2, 3]), ("Preis>=1299", [3])])
def test_prices_are_compared_as_numbers(prices, where, rows):
    assert kept(prices, where) == rows


def test_a_value_may_have_the_unit_and_no_other():
    assert kept(EURO, "Preis<20 EUR") == kept(EURO, "Preis < 20,00eur") == [1] and kept(EURO, "Preis>1.000") == [3]
    with pytest.raises(DataError, match="numbers of 'eur' .such as '12,50 EUR'., and '20 USD' is not one of these"):
        kept(EURO, "Preis<20 USD")
    with pytest.raises(DataError, match="and 'viel' is not one of these"):
        kept(EURO, "Preis<viel")
    assert kept(EURO, "Preis=12,50 EUR") == [1]         # as text


@pytest.mark.parametrize("prices, says", [
    (["12,50 EUR", "20 USD", "3 EUR", None, None], "several units .such as '.*EUR' and '20 USD'.*; write all in one"),
    (["1.234 EUR", "2.500 EUR", "9.999 EUR", None, None], "not told whether a point or a comma.*'1.234 EUR'"),
    (["12,50 EUR", "20.50 EUR", "1 EUR", None, None], "not told whether a point or a comma"),
    (["12,50 EUR", "1,234,567 EUR", "1 EUR", None, None], "not told whether a point or a comma"),
    (["12,50 EUR", "0.125 EUR", "1 EUR", None, None], "not told whether a point or a comma"),
    (["01.05.2020", "02.06.2021", "03.07.2022", None, None], "holds text .such as '01.05.2020'., which < cannot"),
    (["cheap", "dear", "20 EUR", "free", None], "holds text .such as 'cheap'., which < cannot compare")])
def test_what_is_in_doubt_is_refused(prices, says):
    with pytest.raises(DataError, match=says):
        kept(prices, "Preis<20")


def test_thousands_are_told_where_another_value_tells_the_decimals():
    found = amounts(pd.Series(["1.234 EUR", "12,50 EUR", "1.234.567 EUR"], name="Preis"))
    assert found.numbers.tolist() == [1234.0, 12.5, 1234567.0] and (found.unit, found.decimal) == ("eur", ",")
    assert [has_unit(text) for text in ("5 EUR", "$5", "90%", "Ort 5", "5", "A", None, 5.0)] == [
        True, True, True, False, False, False, False, False]


@pytest.mark.parametrize(("prices", "numbers", "decimal"), [
    (["1,234,567 EUR", "2,000 EUR"], [1234567, 2000], "."), (["0.125 kg", "1.500 kg"], [0.125, 1.5], "."),
    (["1234,567 l", "2,000 l"], [1234.567, 2], ","), (["-0,125 %", "+1.234.567 %"], [-0.125, 1234567], ",")])
def test_the_digits_around_a_mark_tell_what_it_parts(prices, numbers, decimal):
    found = amounts(pd.Series(prices, name="Preis"))
    assert found.numbers.tolist() == numbers and found.decimal == decimal


@pytest.mark.parametrize("word", ["?", "unknown", None])
def test_plain_numbers_beside_a_word_are_read_as_they_are(word):
    assert kept(["1.234", "19.999", "20.125", word, None], "Preis<20") == [1, 2]


def test_ratings_with_a_unit_are_refused_with_what_to_do(collab, tmp_path):
    table = pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 1, 2], "Preis": ["12,50 EUR", "3 EUR", "4 EUR", "5 €"]})
    says = "4 of 4 are not .such as '12,50 EUR' at row 0.; they are numbers with a unit: write the numbers alone, or"
    with pytest.raises(DataError, match=says):
        CollabDataBunch.from_df(table, valid_pct=0)
    assert "numbers with a unit" in DataReport.from_df(table).problems["remedy"][0]
    table.to_csv(tmp_path / "r.csv", index=False)
    code, _, err = collab("train", tmp_path / "r.csv", "--out", tmp_path / "m")
    assert code == 2 and "they are numbers with a unit" in err and "--rating-col" in err
