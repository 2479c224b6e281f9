"""Times of ratings: what is read as a time, how dates are written, and in which unit numbers are."""

import numpy as np
import pandas as pd
import pytest

from collab import DataError, leave_last, read_table, time_split
from collab.data.times import date_format, times_of, unit_of


@pytest.mark.parametrize(("texts", "format"), [
    (["18.10.2018", "01.11.2018"], "%d.%m.%Y"),
    (["18.10.2018 12:30", "01.11.2018 09:05"], "%d.%m.%Y %H:%M"),
    (["18/10/2018", "01/11/2018"], "%d/%m/%Y"),
    (["10/18/2018", "11/01/2018"], "%m/%d/%Y"),          # no month is 18
    (["10/11/2018", "11/10/2018"], "%d/%m/%Y"),          # may be either: the day first
    (["2018-10-18", "nothing"], None),
    (["18.10.2018"] * 99 + ["31.02.2018"], "%d.%m.%Y"),
    (["18.10.2018"] * 98 + ["31.02.2018"], None),       # below 99%
    (["Drama", "War"], None),
])
def test_how_dates_are_written(texts, format):
    assert date_format(pd.Series(texts)) == format


def test_dates_of_a_file_in_their_own_format_are_times(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating,time\na,1,5,01.11.2018\na,2,4,18.10.2018\na,3,3,02.11.2018\nb,1,3,\n")
    with pytest.raises(DataError, match=r"'01.11.2018' at row 0\); read the file with date_format='%d.%m.%Y', or"):
        leave_last(1)(read_table(path).iloc[:3])
    table = read_table(path, date_format="%d.%m.%Y")
    assert table["time"].iloc[:3].tolist() == [pd.Timestamp(2018, 11, 1), pd.Timestamp(2018, 10, 18),
                                               pd.Timestamp(2018, 11, 2)]
    assert table["time"].isna().tolist() == [False, False, False, True]
    train, valid = leave_last(1)(table.iloc[:3])
    assert (train.tolist(), valid.tolist()) == ([0, 1], [2])


def test_a_format_in_which_no_column_is_written_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating,time\na,1,5,01.11.2018\na,2,4,soon\n")
    with pytest.raises(DataError, match=r"in none of the columns \['user', .* is all text written as date_format='%d"):
        read_table(tmp_path / "r.csv", date_format="%d.%m.%Y")


def test_iso_times_with_offsets_sort_by_the_moment(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating,time\na,1,5,2024-05-01T12:00:00+02:00\na,2,4,2024-05-01T10:30:00Z\n"
                    "a,3,3,2024-05-01T04:59:00-05:00\n")
    train, valid = time_split(0.4)(read_table(path))        # 10:00, 10:30 and 9:59 of UTC
    assert (train.tolist(), valid.tolist()) == ([0, 2], [1])


@pytest.mark.parametrize(("scale", "unit"), [(1, "s"), (10**3, "ms"), (10**6, "us"), (10**9, "ns"), (1e-3, None)])
def test_the_unit_of_numbers(scale, unit):
    assert unit_of(np.array([964982703, 1537799250]) * scale) == unit


def test_all_that_is_wrong_with_times_is_collected():
    found = []
    column = pd.Series(["2024-01-01T10:00Z", None, "yesterday", "2024-01-02T10:00Z"])
    assert times_of(column, "when", found.append) is None
    assert [(p.rows.tolist(), p.example) for p in found] == [([1], None), ([2], "'yesterday'")]
