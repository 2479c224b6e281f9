"""`DataReport`: every problem of a table at once, with lines and remedies; roles, measures and families by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from collab import CollabDataBunch, CollabWarning, DataError, DataReport, read_table, synthetic
from collab.data.family import family_of
from collab.data.profile import gini, sizes, spread, tails, when

FEW = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": [10, 20, 10, 20, 10], "rating": [5.0, 4, 3, 2, 1]})
GERMAN = """Kunde;Artikel;Bewertung;Datum
K1;A1;4,5;18.10.2018
K1;A2;3,0;19.10.2018

K2;;2,5;20.10.2018
K2;A2;k.A.;21.10.2018
Kä;A1;1,5;01.11.2018
K3;A2;5,0;02.11.2018
"""


def found(report):
    """(stops, where, at, example) of each problem."""
    table = report.problems
    return [*zip(table["stops"], table["where"], table["at"], table["example"])]


# All at once ------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def german(tmp_path_factory):
    path = tmp_path_factory.mktemp("german") / "german.csv"
    path.write_text(GERMAN, encoding="latin-1")
    return path


def test_a_messy_file_is_looked_through_behind_each_problem_that_hides_others(german):
    report = DataReport.from_csv(german)
    assert found(report) == [
        (True, "the file", [], None), (True, "the file", [], None),
        (True, "column 'Bewertung'", [2, 3, 5, 6, 7, 8], "'4,5'"),
        (True, "column 'Artikel'", [5], None),
        (True, "column 'Bewertung'", [6], "'k.A.'"),
        (False, "column 'Datum'", [], None)]
    assert report.stops and report.options == {
        "sep": ";", "encoding": "latin-1", "decimal": ",", "time_name": "Datum", "date_format": "%d.%m.%Y",
        "bad_rows": "drop"}
    assert report.counts.iloc[0][["ratings", "users", "items"]].tolist() == [4, 3, 2]
    assert report.times.iloc[0]["first"] == "2018-10-18 00:00" and report.times.iloc[0]["days"] == 15


def test_the_options_of_a_report_train_on_what_can_be_used(german):
    options = DataReport.from_csv(german).options
    with pytest.warns(CollabWarning, match="2 of 6 rows are left out: .*'Artikel': 1 of 6 ids are missing .first at r"):
        data = CollabDataBunch.from_csv(german, **options, valid_pct=0, seed=0)
    assert [*data.users] == ["K1", "K3", "Kä"] and sorted(data.train.tensors[2].tolist()) == [1.5, 3.0, 4.5, 5.0]
    assert not DataReport.from_csv(german, **options).problems["where"].str.startswith("the file").any()


def test_without_bad_rows_the_same_table_is_refused_at_the_first(german):
    with pytest.raises(DataError, match="column 'Artikel': 1 of 6 ids are missing"):
        CollabDataBunch.from_csv(german, sep=";", encoding="latin-1", decimal=",", valid_pct=0, seed=0)


def test_bad_rows_leaves_out_nothing_that_an_option_of_reading_would_mend():
    commas = FEW.assign(rating=["4,5", "3,0", "x", "2,0", "1,0"])
    with pytest.raises(DataError, match="decimal=','"):
        CollabDataBunch.from_df(commas, bad_rows="drop", seed=0)
    with pytest.raises(DataError, match="bad_rows='skip' is not one of"):
        CollabDataBunch.from_df(FEW, bad_rows="skip", seed=0)


def test_column_names_within_the_table_are_found_and_what_is_beside_them_is_still_numbers(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\n1,10,5\n1,20,4\nuser,item,rating\n2,10,3\n2,20,oops\n")
    report = DataReport.from_csv(tmp_path / "r.csv")
    assert found(report) == [(True, "the table", [4], "'user'"), (True, "column 'rating'", [6], "'oops'")]
    assert report.columns["type"].tolist() == ["whole numbers", "whole numbers", "text"]
    assert report.ratings["rating"].tolist() == [3, 4, 5]


def test_a_file_without_names_of_columns_is_told_by_its_first_line(tmp_path):
    (tmp_path / "r.csv").write_text("K1;A1;4,5\nK1;A2;3,5\nK2;A1;2,5\n")
    report = DataReport.from_csv(tmp_path / "r.csv")
    assert report.options == {"sep": ";", "header": False, "decimal": ","} and len(report.table) == 3


def test_frames_have_rows_where_files_have_lines():
    mixed = FEW.assign(user=pd.Series([1, "1", None, 2, 3], dtype=object), rating=[5, np.inf, 3, 2, None])
    assert found(DataReport.from_df(mixed)) == [
        (True, "column 'user'", [2], None), (True, "column 'user'", [1], "'1'"),
        (True, "column 'rating'", [4], None), (True, "column 'rating'", [1], "inf")]


def test_a_line_with_too_many_fields_hides_none_of_the_other_problems(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\n1,a,5\n1,Dune, Part 1,4\n2,a,?\n2,b,1\n3,,1\n")
    report = DataReport.from_csv(tmp_path / "r.csv")
    assert found(report) == [(True, "the file", [], None), (True, "column 'item'", [6], None),
                             (True, "column 'rating'", [4], "'?'")]
    assert report.options == {"bad_lines": "drop", "bad_rows": "drop"} and len(report.table) == 2


def test_ids_that_are_text_by_a_few_exceptions_are_noted(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\n1,10,5\n2,10,4\n3,20,3\n4,20,3\nAnna,10,1\nanna,20,2\n"
                                    "NULL,10,2\n")
    report = DataReport.from_csv(tmp_path / "r.csv")
    assert found(report) == [(False, "column 'user'", [8], "'NULL'"), (False, "column 'user'", [6, 7], "'Anna'"),
                             (False, "column 'user'", [7], "'anna'")]
    assert not report.stops and read_table(tmp_path / "r.csv")["user"].tolist()[0] == "1"


def test_pairs_again_say_how_many_agree_and_stop_only_where_that_is_asked_for():
    again = pd.concat([FEW, FEW.iloc[:1], FEW.iloc[1:2].assign(rating=1.0)], ignore_index=True)
    report = DataReport.from_df(again)
    assert found(report) == [(False, "the table", [5, 6], "user 1, item 10")]
    assert "2 of 7 rows rate a pair again, 1 of them with the same rating" in report.problems["what"][0]
    assert report.counts.iloc[0][["pairs", "again", "again_with_another_rating"]].tolist() == [5, 2, 1]
    assert DataReport.from_df(again, duplicates="error").stops


def test_columns_in_another_order_are_noted_with_the_arguments_that_say_it():
    table = pd.DataFrame({"when": 1_600_000_000 + np.arange(5), "film": FEW["item"], "who": FEW["user"],
                          "stars": FEW["rating"]})
    report = DataReport.from_df(table)
    assert report.options == {"user_name": "who", "rating_name": "stars", "time_name": "when"}
    assert report.columns["role"].tolist() == ["time", "item", "user", "rating"]
    assert report.times["read_as"][0] == "seconds since 1970"


def test_titles_in_the_table_are_pointed_to():
    titled = FEW.assign(title=["A", "B", "A", "B", "A"])
    report = DataReport.from_df(titled)
    assert report.options == {"title_name": "title"} and not report.stops
    data = CollabDataBunch.from_df(titled, **report.options, valid_pct=0, seed=0)
    assert data.titles([20, 10]) == ["B", "A"] and not len(DataReport.from_df(titled, title_name="title").problems)


def test_one_user_alone_and_an_empty_table():
    assert "have the same user, 1" in DataReport.from_df(FEW.assign(user=1)).problems["what"][0]
    assert found(DataReport.from_df(FEW.iloc[:0])) == [(True, "the table", [], None)]
    assert DataReport.from_df(FEW.iloc[:0]).counts is None


def test_a_file_that_is_not_there_is_no_report(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        DataReport.from_csv(tmp_path / "r.csv")


# Which family -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "values", "family", "options"), [
    ("rating", [1, 2, 3, 4, 5, 5], "ratings", {}),
    ("points", [0, 20, 55, 100, 80, 35], "ratings", {}),                        # 0 to 100
    ("rating", [1, 1, 1], "likes", {"implicit": True}),
    ("bought", [0, 1, 1], "likes and dislikes", {"threshold": 0.5}),
    ("plays", [1, 1, 2, 1, 3, 14], "counts", {"implicit": True}),               # by its name
    ("x", [1, 1, 2, 1, 3, 250], "counts", {"implicit": True}),                  # by its tail
    ("x", [2, 3, 3, 2], "ratings", {}),                                         # two values alone are no likes
    ("x", [-3, 1, 2, 250], "ratings", {}),                                      # no count is below 0
    ("seconds", [0.5, *np.linspace(1, 2, 200), 4000], "amounts", {"implicit": True}),
])
def test_the_family_by_its_signs(name, values, family, options):
    told = family_of(pd.Series(values, dtype=float, name=name))
    assert (told.name, dict(told.options)) == (family, options)


def test_clicks_without_ratings_are_choices(tmp_path):
    (tmp_path / "c.csv").write_text("user,item,clicked_at\n1,10,2024-05-01T10:00Z\n2,10,2024-05-02T10:00Z\n"
                                    "2,20,2024-05-02T10:00Z\n")
    report = DataReport.from_csv(tmp_path / "c.csv")
    assert report.stops and report.family == "choices" and report.options == {"implicit": True,
                                                                            "time_name": "clicked_at"}
    again = DataReport.from_csv(tmp_path / "c.csv", **report.options)
    assert not again.stops and again.times.iloc[0]["days"] == 1


def test_counts_that_are_taken_for_ratings_are_told():
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"user": np.arange(300) % 20, "item": np.arange(300) // 20, "plays": draw.geometric(.2, 300)})
    table.loc[0, "plays"] = 90
    stars, percent = (table.assign(plays=draw.integers(1, most + 1, 300)).rename(columns={"plays": "stars"})
                      for most in (10, 100))
    options = {"valid_pct": 0, "device": "cpu"}
    with pytest.warns(UserWarning, match=r"column 'plays' looks like counts .*for choices, say implicit=True"):
        CollabDataBunch.from_df(table, **options)
    CollabDataBunch.from_df(table, implicit=True, **options)        # pytest makes errors of warnings
    CollabDataBunch.from_df(table, implicit=True, threshold=3, **options)
    for ratings in (stars, percent, table[:99]):
        CollabDataBunch.from_df(ratings, **options)


def test_the_report_of_choices_with_times_names_what_reads_their_order():
    table = pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 1, 3], "plays": [1, 40, 2, 3], "time": [10, 20, 30, 40]})
    for options, told in (({}, True), ({"implicit": True}, True), ({"rating_name": "plays"}, True)):
        assert ("sasrec (split=leave_last(1))" in DataReport.from_df(table, **options).advice) is told
    assert "sasrec" not in DataReport.from_df(table.drop(columns="time")).advice
    assert "sasrec" not in DataReport.from_df(table.assign(plays=[1, 2, 3, 4])).advice      # ratings
    text = DataReport.from_df(table).text()
    assert "choices of each: mean" in text and "\n\nplays:" in text and "atings" not in text


def test_a_rating_far_from_the_others_is_noted_and_does_not_make_ratings_counts():
    table = synthetic(20, 20, 200, seed=1).ratings[["user", "item", "rating"]]
    table.loc[7, "rating"] = 1000
    report = DataReport.from_df(table)
    assert report.family == "ratings" and found(report)[-1][1:3] == ("column 'rating'", [7])


# Measures ---------------------------------------------------------------------------------------------------------

def test_gini_is_that_of_all_pairs():
    counts = np.array([5, 1, 7, 2, 2])
    by_pairs = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert gini(counts) == pytest.approx(by_pairs) and gini(np.array([3, 3])) == 0


def test_sizes_and_tails_by_hand():
    assert sizes(FEW).iloc[0].tolist() == [5, 3, 2, 5, 5 / 6, 0, 0]
    users, items = tails(FEW).to_dict("records")
    assert (users["n"], users["mean"], users["most"], users["with_1"], users["below_5"]) == (3, 5 / 3, 2, 1, 3)
    assert (items["median"], items["top_1%"], items["top_10%"], items["below_5"]) == (2.5, 0.6, 0.6, 2)


def test_the_spread_of_few_levels_and_of_many():
    assert spread(FEW["rating"])["share"].tolist() == [0.2] * 5
    many = spread(pd.Series(np.arange(101.0)))
    assert many.set_index("quantile")["rating"].to_dict()[0.9] == 90


def test_times_in_no_known_unit_are_only_sorted():
    table, dates = when(np.array([3, 1, 2]))
    assert dates is None and table.iloc[0][["first", "last"]].tolist() == ["1", "3"]


DAY = pd.Timestamp("2018-10-18")


@pytest.mark.parametrize(("usual", "far"), [
    (1539820800, 946684893000000000000), (1539820800, 9 * 10**18), (1539820800, -9223372036854775807),
    (1539820800000, 10**18), (DAY, pd.Timestamp("9999-12-31").as_unit("s"))])
def test_a_time_that_is_no_date_is_told_with_its_row_and_left_out_of_the_range(usual, far):
    table = pd.concat([FEW] * 4, ignore_index=True).assign(user=np.arange(20))
    report = DataReport.from_df(table.assign(time=[usual] * 13 + [far] + [usual] * 6), time_name="time")
    what = "1 of 20 times are not between 1677 and 2262, as the others are read"
    assert [(row["what"], row["at"]) for row in report.problems.to_dict("records")] == [(what, [13])]
    assert report.times.iloc[0]["first"] == report.times.iloc[0]["last"] == "2018-10-18 00:00"
    assert not report.stops and what in " ".join(repr(report).split()) and "1677" in report._repr_html_()


def test_numbers_too_long_for_any_unit_are_only_sorted():
    report = DataReport.from_df(FEW.assign(time=946684893000000000000))
    assert "only sort" in report.times.iloc[0]["read_as"] and report.dates is None and "only sort" in repr(report)


@pytest.mark.parametrize("row", [[None, None, None], [None, 2, 3.0]])
@pytest.mark.parametrize("options", [{}, {"implicit": True}, {"bad_rows": "drop"}])
def test_a_table_of_one_row_without_a_user_is_reported(row, options):
    report = DataReport.from_df(pd.DataFrame([row], columns=["user", "item", "rating"], dtype=object), **options)
    assert report.stops and "none of 1 rows can be used" in [*report.problems["what"]]
    assert report.problems["where"].str.contains("'user'").any()


# Shown ------------------------------------------------------------------------------------------------------------

def test_the_text_is_at_most_100_columns_and_says_what_stops(german):
    text = repr(DataReport.from_csv(german))
    assert max(map(len, text.splitlines())) <= 100
    text = " ".join(text.split())
    assert "5 problems stop training; 1 thing to know:" in text and "(such as 'k.A.'; line 6)" in text


def test_a_report_is_json_and_html_with_its_picture(german):
    report = DataReport.from_csv(german)
    read = json.loads(json.dumps(report.to_dict()))
    assert read["stops"] is True and read["problems"][3]["at"] == [5] and read["counts"]["users"] == 3
    page = report._repr_html_()
    assert "data:image/png;base64," in page and "<script" not in page


def test_html_escapes_what_stands_in_the_table():
    page = DataReport.from_df(FEW.rename(columns={"rating": "<b>rating"}))._repr_html_()
    assert "&lt;b&gt;rating" in page and "<b>rating" not in page


def test_the_picture_has_a_panel_for_times_only_where_there_are_some():
    from matplotlib import pyplot as plt
    timed = FEW.assign(time=pd.to_datetime(["2024-01-01"] * 3 + ["2024-02-01"] * 2))
    figures = [DataReport.from_df(table).plot() for table in (FEW, timed)]
    assert [len(figure.axes) for figure in figures] == [2, 3]
    bars = figures[0].axes[0].patches
    assert [bar.get_height() for bar in bars] == [1] * 5
    plt.close("all")
    with pytest.raises(DataError, match="nothing to draw"):
        DataReport.from_df(FEW.iloc[:0]).plot()


def test_a_databunch_reports_on_all_its_parts_and_stays_as_it_is():
    table = synthetic(30, 20, 300, seed=2).ratings
    data = CollabDataBunch.from_df(table, valid_pct=0.3, seed=0)
    report = data.report()
    assert report.counts.iloc[0][["ratings", "users", "items"]].tolist() == [
        len(table), table["user"].nunique(), table["item"].nunique()]
    assert report.family == "ratings" and not report.stops and report.times is None
    assert data.report().tail.equals(report.tail)


def test_a_databunch_of_choices_reports_on_what_was_chosen():
    table = synthetic(30, 20, 300, seed=2).ratings
    report = CollabDataBunch.from_df(table, valid_pct=0.3, seed=0, implicit=True, threshold=3).report()
    assert report.counts["ratings"][0] == (table["rating"] > 3).sum() and "read as choices" in report.advice
