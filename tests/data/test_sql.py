"""Tables from queries: the values, types and ids of the database, in steps, through any DB-API connection."""

import datetime
import sqlite3

import pandas as pd
import pytest

from collab import CollabDataBunch, DataError, read_sql
from collab.data import sql as sql_module

ROWS = [("007", 1, 4.5, None), ("7", 2, 3, 1), ("007", 3, 2.5, 2), ("9", 1, 5, None), ("9", 2**60 + 1, 1, 3)]


@pytest.fixture
def lite():
    with sqlite3.connect(":memory:") as con:
        con.execute("create table r (reader text, book integer, stars real, page integer)")
        con.executemany("insert into r values (?, ?, ?, ?)", ROWS)
        yield con


@pytest.fixture
def duck():
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as con:
        con.execute("create temp table r (reader text, book bigint, stars double, page integer)")
        con.executemany("insert into r values (?, ?, ?, ?)", ROWS)
        yield con


@pytest.fixture(params=["lite", "duck"])
def con(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("step", [1, 2, 50_000])
def test_ids_and_gaps_come_as_they_are_however_the_rows_are_cut(con, step, monkeypatch):
    monkeypatch.setattr(sql_module, "STEP", step)
    table = read_sql("select * from r order by reader, book", con)
    assert [*table.columns] == ["reader", "book", "stars", "page"]
    assert table["reader"].tolist() == ["007", "007", "7", "9", "9"]
    assert table["book"].dtype == "int64" and table["book"].tolist() == [1, 3, 2, 1, 2**60 + 1]
    assert table["stars"].dtype == "float64" and table["stars"].tolist() == [4.5, 2.5, 3, 5, 1]
    assert table["page"].dtype == "Int64" and table["page"].isna().tolist() == [True, False, False, True, False]
    assert table["page"].dropna().tolist() == [2, 1, 3]


def test_a_query_becomes_the_databunch_of_its_table(con):
    query = "select reader, book, stars from r where book < ?"
    data = CollabDataBunch.from_sql(query, con, [10], valid_pct=0, seed=0)
    same = CollabDataBunch.from_df(pd.DataFrame([row[:3] for row in ROWS[:4]], columns=["reader", "book", "stars"]),
                                   valid_pct=0, seed=0)
    assert data.users == same.users and [*data.users] == ["007", "7", "9"] and data.schema == same.schema
    assert all(a.equal(b) for a, b in zip(data.train.tensors, same.train.tensors))


def test_named_parameters_and_a_cursor(lite):
    cursor = lite.cursor()
    table = read_sql("select book from r where stars > :least", cursor, {"least": 4})
    assert table["book"].tolist() == [1, 1]
    assert cursor.execute("select 1").fetchone() == (1,)        # it is the caller's, and still open


def test_integers_beside_floats_are_floats_only_where_nothing_is_lost(lite, monkeypatch):
    monkeypatch.setattr(sql_module, "STEP", 1)
    assert read_sql("select 1 as x union all select 2.5", lite)["x"].tolist() == [1.0, 2.5]
    large = read_sql(f"select {2**53 + 1} as x union all select 2.5", lite)["x"].tolist()
    assert large == [2**53 + 1, 2.5] and isinstance(large[0], int)


def test_times_and_decimals_of_a_database(duck):
    query = "select timestamp '2024-05-01 10:00' as t, 4.5::decimal(3, 1) as d, date '2024-05-01' as day"
    table = read_sql(query, duck)
    assert table["t"].tolist() == [pd.Timestamp("2024-05-01 10:00")] and float(table["d"].iloc[0]) == 4.5
    assert table["day"].tolist() == [datetime.date(2024, 5, 1)]


@pytest.mark.parametrize(("query", "says"), [
    ("select * from nothing", "the query fails: .*nothing.*; it was 'select \\* from nothing'"),
    ("select reader, reader from r", "gives the column name 'reader' 2 times; name them apart with AS"),
    ("select * from r where book < 0", "the query gives no row: 'select \\* from r where book < 0'"),
])
def test_what_is_wrong_with_a_query_is_said_with_the_query(con, query, says):
    with pytest.raises(DataError, match=says):
        read_sql(query, con)


def test_a_statement_that_gives_no_table(lite):
    with pytest.raises(DataError, match="gives no table: 'create table q .a.'; it must be a SELECT"):
        read_sql("create table q (a)", lite)


def test_what_is_no_connection(tmp_path):
    with pytest.raises(DataError, match=r"con is a str, which has no cursor\(\): pass a connection of DB-API 2.0"):
        read_sql("select 1", "ratings.db")


def test_lists_of_a_database_are_refused_as_ids(duck):
    with pytest.raises(DataError, match="column 'l': ids of kind list cannot be looked up"):
        CollabDataBunch.from_sql("select reader, [1, 2] as l, stars from r", duck)
