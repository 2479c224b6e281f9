"""Every entrance for tables takes those of polars, pyarrow and DuckDB as it takes those of pandas."""

import warnings

import pandas as pd
import pytest
from helpers import fit_quietly

from collab import CollabDataBunch, DataReport, collab_learner, evaluate, synthetic

RATINGS = synthetic(12, 10, 80, seed=3).ratings[["user", "item", "rating"]]
FILMS = pd.DataFrame({"item": sorted(RATINGS["item"].unique())})
FILMS = FILMS.assign(title=[f"Film {id}" for id in FILMS["item"]], genres=["A|B", "C"] * (len(FILMS) // 2))
PEOPLE = pd.DataFrame({"user": sorted(RATINGS["user"].unique())}).assign(age=lambda users: users["user"] * 2.5)
TASTE = pd.DataFrame({"item": FILMS["item"].iloc[:3], "rating": [5.0, 3.0, 1.0]})
NEWCOMERS = pd.DataFrame({"user": [900, 900, 901], "item": FILMS["item"].iloc[:3], "rating": [5.0, 3.0, 1.0]})


def duckdb_relation(df):
    duckdb = pytest.importorskip("duckdb")
    con = duckdb.connect()
    con.register("df", df)
    return con.sql("select * from df")


def polars_frame(df):
    return pytest.importorskip("polars").from_pandas(df)


def arrow_table(df):
    return pytest.importorskip("pyarrow").Table.from_pandas(df, preserve_index=False)


WAYS = {"polars": polars_frame, "polars, lazy": lambda df: polars_frame(df).lazy(), "pyarrow": arrow_table,
        "a stream of Arrow": lambda df: arrow_table(df).to_reader(), "duckdb": duckdb_relation,
        "pandas of Arrow": lambda df: df.convert_dtypes(dtype_backend="pyarrow")}


def answers(to):
    """What each entrance for tables gives, for tables made by `to`."""
    data = CollabDataBunch.from_df(to(RATINGS[:60]), items=to(FILMS), users=to(PEOPLE), test=to(RATINGS[60:]),
                                   item_features=["genres"], user_features=["age"], seed=0, valid_pct=0.2)
    learn = collab_learner(data, "dot_bias", n_factors=3)
    fit_quietly(learn)
    return {"features": data.item_features.codes.tolist(), "test": learn.validate(to(RATINGS[60:])),
            "ranking": str(evaluate(learn, to(RATINGS[60:]), k=5)),
            "a new user": learn.recommend(ratings=to(TASTE), n=3).to_dict(),
            "added": learn.add_ratings(to(NEWCOMERS)).recommend(900, n=3).to_dict(),
            "further": data.table(to(RATINGS[60:])).to_dict(),
            "report": DataReport.from_df(to(RATINGS)).to_dict() | {"columns": None}}     # their types may differ


@pytest.fixture(scope="module")
def of_pandas():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return answers(lambda df: df)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("to", WAYS.values(), ids=WAYS.keys())
def test_every_entrance_takes_frames_of_every_kind_as_it_takes_those_of_pandas(to, of_pandas):
    assert answers(to) == of_pandas


def test_ids_of_a_database_are_those_of_python():
    duckdb = pytest.importorskip("duckdb")
    con = duckdb.connect()
    relation = con.sql("select '007' as user, 2::hugeint as item, 4.5::decimal(3, 1) as rating union all "
                       "select '7', 3, 2.0 union all select '007', 3, 1.0")
    data = CollabDataBunch.from_df(relation, valid_pct=0, seed=0)
    assert [*data.users] == ["007", "7"] and [*data.items] == [2, 3] and data.train.tensors[2].sum() == 7.5
