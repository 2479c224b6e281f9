"""What is wrong with a table of ratings is said before training: the column, how many rows, an example, the remedy."""

from __future__ import annotations

import datetime
import re
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from collab import CollabDataBunch, DataError
from collab.data.duplicates import merge_duplicates
from collab.data.schema import Schema, check_ratings, rating_table


def frame(**columns: object) -> pd.DataFrame:
    """Four ratings of two users and two items, no pair twice, with columns replaced."""
    return pd.DataFrame({"u": [1, 2, 1, 2], "i": [10, 10, 20, 20], "r": [1.0, 2.0, 3.0, 4.0], **columns})


def checked(df: pd.DataFrame, duplicates: str = "keep", **names: object) -> pd.DataFrame:
    return merge_duplicates([rating_table(df, Schema.of(df, **names))], duplicates)[0].reset_index(drop=True)


def refused(df: object, *parts: str, **options: object) -> None:
    """`from_df` raises a DataError whose message holds every part."""
    with pytest.raises(DataError) as caught:
        CollabDataBunch.from_df(df, valid_pct=0, seed=0, device="cpu", **options)
    for part in parts:
        assert part in str(caught.value), f"{part!r} is not in: {caught.value}"


# Columns ----------------------------------------------------------------------------------------------------------

def test_columns_default_to_the_first_three_and_the_time_to_its_name():
    df = pd.DataFrame(columns=["who", "what", "stars", "note", "Timestamp"])
    assert Schema.of(df) == Schema("who", "what", "stars", "Timestamp")


def test_a_named_column_wins_over_its_place_wherever_the_time_is():
    df = pd.DataFrame(columns=["time", "r", "i", "u"])
    assert Schema.of(df, user="u", item="i", rating="r") == Schema("u", "i", "r", "time")


def test_a_column_called_time_that_has_another_role_is_not_taken_for_the_time():
    df = pd.DataFrame(columns=["u", "i", "x", "time"])
    assert Schema.of(df, rating="time") == Schema("u", "i", "time", None)


@pytest.mark.parametrize("thing", [[(1, 2, 3.0)], {"u": [1]}, np.ones((3, 3)), "ratings.csv", None])
def test_something_that_is_no_dataframe_is_refused(thing):
    refused(thing, "DataFrame", type(thing).__name__, "from_csv")


def test_fewer_than_three_columns_are_refused():
    refused(frame()[["u", "i"]], "three columns", "has 2", "['u', 'i']", "is read with implicit=True")
    refused(frame()[["u", "i"]], "no column 'stars' for the rating", rating_name="stars")


def test_a_missing_column_is_named_with_a_near_one_whatever_its_case():
    df = frame().rename(columns={"u": "user_id"})
    refused(df, "no column 'UserID' for the user; did you mean 'user_id'? The columns are", user_name="UserID")


def test_a_missing_column_with_nothing_near_lists_the_columns():
    refused(frame(), "no column 'qqqq' for the rating. The columns are ['u', 'i', 'r']", rating_name="qqqq")
    refused(frame(), "no column 'when' for the time", time_name="when")


def test_one_column_in_two_roles_is_refused():
    refused(frame(), "two roles", "'user': 'i', 'item': 'i'", user_name="i")


def test_repeated_column_names_are_refused_also_where_the_column_is_not_needed():
    refused(frame().set_axis(["u", "u", "r"], axis=1), "'u' occurs 2 times")
    refused(frame(x=1, y=2).set_axis(["u", "i", "r", "x", "x"], axis=1), "'x' occurs 2 times")


def test_an_empty_table_is_refused():
    refused(frame().iloc[:0], "empty", "['u', 'i', 'r']", "no row")


def test_column_names_may_be_numbers_or_tuples():
    assert checked(frame().set_axis([0, 1, 2], axis=1))["user"].tolist() == [1, 2, 1, 2]
    nested = frame().set_axis(pd.MultiIndex.from_tuples([("a", "u"), ("a", "i"), ("b", "r")]), axis=1)
    assert checked(nested)["rating"].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_further_columns_come_along_for_the_splits_but_never_over_the_roles():
    table = checked(frame(user=["x"] * 4, weight=[1, 2, 3, 4], date=[4, 3, 2, 1]))
    assert list(table) == ["user", "item", "rating", "time", "weight"]
    assert table["user"].tolist() == [1, 2, 1, 2] and table["time"].tolist() == [4, 3, 2, 1]


# The input frame --------------------------------------------------------------------------------------------------

INDEXES = {"repeated": [7, 7, 7, 7], "reversed": [3, 2, 1, 0], "text": list("abcd"),
           "multi": pd.MultiIndex.from_tuples([(1, "a"), (1, "a"), (2, "b"), (2, "c")])}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_the_index_does_not_matter(index):
    plain = frame(time=[4, 3, 2, 1], x=list("pqrs"))
    pd.testing.assert_frame_equal(checked(plain.set_axis(index, axis=0)), checked(plain))


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_the_index_does_not_matter_to_the_messages(index):
    df = frame(r=[1.0, 2.0, np.nan, 4.0]).set_axis(index, axis=0)
    refused(df, "column 'r'", "1 of 4", "row 2")
    refused(frame(r=["1", "2", "bad", "4"]).set_axis(index, axis=0), "'bad'", "row 2")


@pytest.mark.parametrize("duplicates", ["keep", "mean"])
@pytest.mark.filterwarnings("ignore:.*rate a pair again")
def test_the_input_frame_is_never_modified(duplicates):
    df = frame(i=[10, 10, 10, 20], time=[4, 3, 2, 1], x=[1, 2, 3, 4])
    before = df.copy(deep=True)

    def careless(table: pd.DataFrame) -> tuple[np.ndarray, list]:
        table.loc[:, "rating"] = 0.0
        table["user"] = 0
        return np.arange(len(table)), []
    data = CollabDataBunch.from_df(df, valid_pct=0, split=careless, duplicates=duplicates, seed=0,
                                   items=df.iloc[2:].rename(columns={"x": "title"}))
    pd.testing.assert_frame_equal(df, before)
    assert data.n_users == 3 and data.mean == (2.5 if duplicates == "keep" else (2 + 2 + 4) / 3)


# Ids --------------------------------------------------------------------------------------------------------------

DAY = datetime.date
KINDS = {
    "int": [1, 2, 1, 2],
    "text": ["a", "b", "a", "b"],
    "object text": pd.Series(["a", "b", "a", "b"], dtype=object),
    "float": [0.5, 1.5, 0.5, 1.5],
    "Int64": pd.array([1, 2, 1, 2], dtype="Int64"),
    "string": pd.array(["a", "b", "a", "b"], dtype="string"),
    "category of ints": pd.Categorical([1, 2, 1, 2], categories=[3, 2, 1]),
    "category of text": pd.Categorical(["a", "b", "a", "b"]),
    "bool": [True, False, True, False],
    "uuid": [uuid.UUID(int=k) for k in (1, 2, 1, 2)],
    "tuple": [(1, "a"), (1, "b"), (1, "a"), (1, "b")],
    "Timestamp": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-01", "2020-01-02"]),
    "Timestamp with zone": pd.to_datetime(["2020-01-01", "2020-01-02"] * 2, utc=True),
    "date": [DAY(2020, 1, 1), DAY(2020, 1, 2)] * 2,
    "Decimal": [Decimal("1"), Decimal("2")] * 2,
    "bytes": [b"a", b"b"] * 2,
}


@pytest.mark.parametrize("ids", KINDS.values(), ids=KINDS.keys())
def test_ids_of_any_one_kind_go_in_and_come_out_as_they_were(ids):
    df = frame(u=ids)
    df["i"] = df["u"].iloc[[0, 0, 1, 1]].reset_index(drop=True)
    data = CollabDataBunch.from_df(df, valid_pct=0, seed=0)
    assert list(data.users) == sorted(set(ids)) and data.n_users == 3
    shown = data.show_batch()["user"].tolist()
    assert shown == list(ids) and {type(u) for u in shown} == {type(u) for u in df["u"].tolist()}


@pytest.mark.parametrize("ids", [[1.0, None, 2.0, None], ["a", None, "b", None], [(1,), None, (2,), None],
                                 pd.array([1, pd.NA, 2, pd.NA], dtype="Int64"), pd.Categorical([1, None, 2, None]),
                                 pd.to_datetime(["2020", None, "2021", None])])
@pytest.mark.parametrize("column", ["u", "i"])
def test_missing_ids_are_counted(ids, column):
    refused(frame(**{column: ids}), f"column {column!r}", "2 of 4 ids are missing", "row 1", "bad_rows='drop'")


def test_ids_of_mixed_kinds_are_refused():
    mixed = pd.Series([5, "5", 6, 7], dtype=object)
    refused(frame(u=mixed), "column 'u'", "3 of kind number (such as 5)", "1 of kind string (such as '5' at row 1)",
            "astype")
    refused(frame(i=pd.Series([True, 1, 0, 2], dtype=object)), "'i'", "1 of kind boolean (such as True at row 0)")
    refused(frame(i=pd.Categorical(mixed)), "column 'i'", "ids of several kinds")


def test_ids_that_no_file_could_hold_are_refused_by_column_and_row():
    for column in ("u", "i"):
        odd = frame(**{column: pd.Series(["a", "b\ud800", "a", "b\ud800"], dtype=object)})
        refused(odd, f"column {column!r}: 2 of 4 values hold half a character (such as 'b\\ud800' at row 1)")


def test_dates_among_datetimes_are_refused():
    mixed = pd.Series([DAY(2020, 1, 1), datetime.datetime(2020, 1, 1, 5)] * 2, dtype=object)
    refused(frame(u=mixed), "column 'u'", "2 of kind date (such as", "2 of kind datetime (such as")


def test_ids_that_cannot_be_hashed_are_refused():
    refused(frame(u=[[1], [2], [1], [2]]), "column 'u'", "list", "[1]")
    refused(frame(i=[(1,), ([2],), (1,), (2,)]), "column 'i'", "tuple", "([2],)")


def test_long_integers_that_became_floats_are_refused_since_neighbours_are_one():
    refused(frame(u=[1.0, 2.0**53, 1.0, 2.0**53]), "column 'u'", "2 of 4", "2**53", "Int64")
    exact = frame(u=np.array([2**53, 2**53 + 1] * 2))
    assert CollabDataBunch.from_df(exact, valid_pct=0, seed=0).n_users == 3


def test_a_single_user_or_item_is_refused_by_its_value():
    refused(frame(u=[7] * 4, i=[1, 2, 3, 4]), "column 'u'", "4 ratings", "same user, 7;", "user_name=")
    refused(frame(u=[1, 2, 3, 4], i=["x"] * 4), "column 'i'", "same item, 'x'", "item_name=")


# Ratings ----------------------------------------------------------------------------------------------------------

GOOD = {"int8": np.array([1, 2, 3, 4], dtype=np.int8), "float32": np.float32([1, 2, 3, 4]),
        "Float64": pd.array([1, 2, 3, 4], dtype="Float64"), "object": pd.Series([1, 2.0, np.int64(3), 4], dtype=object),
        "Decimal": [Decimal(k) for k in (1, 2, 3, 4)], "category": pd.Categorical([1, 2, 3, 4])}


@pytest.mark.parametrize("ratings", GOOD.values(), ids=GOOD.keys())
def test_ratings_may_be_numbers_of_any_type(ratings):
    found = checked(frame(r=ratings))["rating"]
    assert found.dtype == np.float64 and found.tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("ratings", [[1, None, 3, np.nan], pd.array([1, None, 3, None], dtype="Int64"),
                                     pd.Series([1, None, 3, pd.NA], dtype=object),
                                     pd.Categorical([1, None, 3, None])])
def test_missing_ratings_are_counted(ratings):
    refused(frame(r=ratings), "column 'r'", "2 of 4 ratings are missing", "row 1", "bad_rows='drop'")


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_infinite_ratings_are_refused_also_those_that_float32_cannot_hold(value):
    refused(frame(r=[1, 2, 3, value]), "column 'r'", "1 of 4", "infinite", "row 3", str(value))


@pytest.mark.parametrize("dtype", [object, "str", "string", "category"])
def test_numbers_written_as_text_are_refused_with_the_conversion(dtype):
    refused(frame(r=pd.Series(["1", "2", "3", "4.5"]).astype(dtype)), "column 'r'", "4 of 4", "'1'",
            "pd.to_numeric(df['r'])")


def test_words_among_digits_are_the_example():
    refused(frame(r=["1", "2", "good", "4"]), "'good' at row 2", "rating_name=")
    refused(frame(r=pd.Series([1, 2, "3", None], dtype=object)), "1 of 4", "'3' at row 2", "to_numeric")


TRUTH = {"bool": [True, False, True, False], "boolean": pd.array([True, False, True, False], dtype="boolean"),
         "arrow": pd.array([True, False, True, False], dtype="bool[pyarrow]"),
         "among numbers": pd.Series([True, 0.0, 1, False], dtype=object), "words": ["True", "False", "TRUE", "false"],
         "category": pd.Categorical([True, False, True, False]),
         "numpy's": pd.Series(list(np.array([1, 0, 1, 0]) > 0), dtype=object)}


@pytest.mark.parametrize("ratings", TRUTH.values(), ids=TRUTH.keys())
def test_booleans_are_ratings_of_1_and_0(ratings):
    assert checked(frame(r=ratings))["rating"].tolist() == [1.0, 0.0, 1.0, 0.0]


def test_words_are_booleans_only_where_there_are_no_others():
    refused(frame(r=["True", "False", "perhaps", "True"]), "column 'r'", "4 of 4 are not", "'True' at row 0")
    refused(frame(r=pd.array([True, False, True, None], dtype="boolean")), "1 of 4 ratings are missing", "row 3")


ODD = {"complex": [1j, 2, 3, 4], "bytes": pd.Series([b"1", b"\xff", b"3", b"4"], dtype=object),
       "datetime": pd.to_datetime(["2020"] * 4), "timedelta": pd.to_timedelta([1, 2, 3, 4]),
       "list": [[1], [2], [3], [4]]}


@pytest.mark.parametrize("ratings", ODD.values(), ids=ODD.keys())
def test_ratings_that_are_no_numbers_are_refused(ratings):
    refused(frame(r=ratings), "column 'r'", "ratings must be numbers", "of 4 are not")


# Duplicates -------------------------------------------------------------------------------------------------------

AGAIN = pd.DataFrame({"u": ["a", "b", "a", "a"], "i": [1, 1, 1, 2], "r": [1.0, 2.0, 4.0, 5.0], "time": [5, 6, 7, 8]})
COUNTED = re.escape("1 of 4 rows rate a pair again (first: user 'a', item 1)")


def test_repeated_pairs_are_kept_where_that_was_chosen_in_silence():
    assert checked(AGAIN)["rating"].tolist() == [1.0, 2.0, 4.0, 5.0]
    made = CollabDataBunch.from_df(AGAIN, valid_pct=0, seed=0, device="cpu", duplicates="keep")
    assert made.train.tensors[2].tolist() == [1.0, 2.0, 4.0, 5.0]
    with pytest.warns(UserWarning, match=COUNTED + ": all rows are kept, and each counts; .*duplicates='last'"):
        made = CollabDataBunch.from_df(AGAIN, valid_pct=0, seed=0, device="cpu")
    assert made.train.tensors[2].tolist() == [1.0, 2.0, 4.0, 5.0]


def test_repeated_pairs_are_averaged_at_the_place_of_the_first():
    with pytest.warns(UserWarning, match=COUNTED):
        table = checked(AGAIN, "mean")
    assert table["rating"].tolist() == [2.5, 2.0, 5.0]          # (1 + 4) / 2
    assert table["user"].tolist() == ["a", "b", "a"] and table["time"].tolist() == [5, 6, 8]
    assert table.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize("ids", KINDS.values(), ids=KINDS.keys())
def test_repeated_pairs_are_found_and_averaged_for_every_kind_of_id(ids):
    with pytest.warns(UserWarning, match="2 of 4 rows"):
        assert checked(frame(u=ids, i=ids), "mean")["rating"].tolist() == [2.0, 3.0]        # (1+3)/2, (2+4)/2


def test_repeated_pairs_are_refused_where_asked():
    refused(AGAIN, "1 of 4 rows rate a pair again", "duplicates='last', 'first', 'mean'", duplicates="error")
    refused(AGAIN, "duplicates='sum'", "keep", duplicates="sum")


def test_no_repeated_pair_no_warning():
    assert len(checked(frame(), "error")) == len(checked(frame(), "mean")) == 4


def test_the_warning_points_at_the_caller(tmp_path):
    with pytest.warns(UserWarning) as caught:
        CollabDataBunch.from_df(AGAIN, valid_pct=0, seed=0)
    AGAIN.to_csv(tmp_path / "r.csv", index=False)
    with pytest.warns(UserWarning) as caught_in_file:
        CollabDataBunch.from_csv(tmp_path / "r.csv", valid_pct=0, seed=0)
    with pytest.warns(UserWarning) as caught_in_test:
        CollabDataBunch.from_df(AGAIN, valid_pct=0, seed=0, test=AGAIN.drop(2))
    assert {w.filename for c in (caught, caught_in_file, caught_in_test) for w in c} == {__file__}


@pytest.mark.parametrize(("columns", "says"), [
    (["Unnamed: 0", "userId", "movieId", "rating"], "'Unnamed: 0' would be the user.*like the index of a table"),
    (["timestamp", "userId", "movieId", "rating"], "'timestamp' would be the user.*like the time"),
    (["rating", "user_id", "item_id"], "'rating' would be the user.*like the rating"),
    (["item", "user", "rating"], "'item' would be the user.*like the item"),
])
def test_columns_whose_names_say_that_they_are_in_another_order_are_refused(columns, says):
    df = pd.DataFrame([[1] * len(columns), [2] * len(columns)], columns=columns)
    with pytest.raises(DataError, match=says):
        Schema.of(df)
    named = [c for c in columns if c.lower() not in ("unnamed: 0", "timestamp")]
    order = sorted(named, key=lambda c: ("user" not in c.lower(), "rating" in c))
    assert Schema.of(df, *order).roles()["rating"] == "rating"


def test_one_word_among_numbers_written_as_text_is_counted_as_one():
    df = pd.DataFrame({"user": [1, 2, 3], "item": [1, 2, 3], "rating": ["4.0", "bad", "3"]})
    with pytest.raises(DataError, match=r"1 of 3 are not \(such as 'bad' at row 1\)"):
        rating_table(df, Schema.of(df))


@pytest.mark.parametrize("name", ["ts", "clicked_at", "rating"])
def test_times_in_the_place_of_ratings_are_refused(name: str):
    times = frame(r=[881250949, 891717742, 5, 880606923]).rename(columns={"r": name})
    says = repr(name), "such as 881250949, look like times (seconds since 1970)", "time_name=", "rating_name="
    refused(times, *says, "implicit=True")
    refused(times, *says, implicit=True, rating_name=name)
    CollabDataBunch.from_df(frame(r=[1.0, 2.0, 3.0, 9e8]), valid_pct=0, seed=0, device="cpu")      # one large rating


def test_a_decimal_comma_is_named_as_such():
    with pytest.raises(DataError, match=r"'4,5' at row 0\); they have a decimal comma: .*'Note'\].astype\(str\)"):
        check_ratings(pd.Series(["4,5", "3,0"], name="Note"))
    with pytest.raises(DataError, match=r"2 of 3 are not .*; 1 of them have a decimal comma"):
        check_ratings(pd.Series(["k.A.", "4,5", "3"], name="Note"))
