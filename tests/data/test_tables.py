"""Tables of polars, pyarrow and whatever speaks Arrow are taken everywhere, and their types outlive no file."""

from __future__ import annotations

import datetime
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from dateutil.tz import tzoffset

import collab
from collab import CollabDataBunch, DataError, Vocab, collab_learner, load_learner
from collab.data.frames import as_frame, is_table, plain

RATINGS = pd.DataFrame({"u": [1, 2, 1, 2], "i": ["a", "a", "b", "b"], "r": [1.0, 2, 3, 4], "time": [4, 3, 2, 1]})
FILMS = pd.DataFrame({"i": ["b", "a"], "title": ["B", "A"], "year": pd.array([1999, None], dtype="Int64")})


class Capsule:
    """A table of which nothing is known but that it speaks Arrow."""

    def __init__(self, table: Any):
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


class Interchange:
    """A table that speaks the older protocol alone."""

    def __init__(self, table: Any):
        self.table = table

    def __dataframe__(self, *args: Any, **options: Any) -> Any:
        return self.table.__dataframe__(*args, **options)


WAYS = {"polars": pl.from_pandas, "lazy polars": lambda df: pl.from_pandas(df).lazy(), "pyarrow": pa.Table.from_pandas,
        "capsule": lambda df: Capsule(pa.Table.from_pandas(df)),
        "polars capsule": lambda df: Capsule(pl.from_pandas(df)),
        "record batch": pa.RecordBatch.from_pandas, "interchange": lambda df: Interchange(pa.Table.from_pandas(df)),
        "arrow types": lambda df: df.convert_dtypes(dtype_backend="pyarrow")}


def bunch(ratings: Any, **options: Any) -> CollabDataBunch:
    return CollabDataBunch.from_df(ratings, **{"valid_pct": 0, "seed": 0, "device": "cpu", **options})


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_every_kind_of_table_gives_the_same_data(way):
    people = pd.DataFrame({"u": [2, 1], "age": [20, 30]})
    one, same = (bunch(to(RATINGS), items=to(FILMS), users=to(people), test=to(RATINGS.head(2)))
                 for to in (lambda df: df, way))
    assert one.users == same.users and one.items == same.items
    for part in ("train", "test"):
        assert all(map(lambda a, b: a.equal(b), getattr(one, part).tensors, getattr(same, part).tensors))
    assert same.titles(["a", "b"]) == ["A", "B"] and same.user_table["age"].to_dict() == {1: 30, 2: 20}
    pd.testing.assert_frame_equal(one.table(RATINGS), same.table(way(RATINGS)), check_dtype=False)
    assert all(map(lambda a, b: a.equal(b), one.batches(RATINGS).tensors, same.batches(way(RATINGS)).tensors))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_implicit_data_come_from_every_kind_of_table(way):
    data = bunch(way(RATINGS.rename(columns={"r": "rating"})), implicit=True, threshold=1)
    assert data.train.tensors[2].tolist() == [2.0, 3.0, 4.0]


def test_a_table_of_pandas_is_the_same_object_and_its_arrow_columns_are_replaced_in_a_copy():
    assert as_frame(RATINGS) is RATINGS
    arrow = RATINGS.convert_dtypes(dtype_backend="pyarrow").set_axis([7, 7, 8, 9], axis=0)
    before = arrow.copy()
    frame = as_frame(arrow)
    assert [str(dtype) for dtype in frame.dtypes] == ["int64", "str", "int64", "int64"]
    assert frame.index.tolist() == [7, 7, 8, 9] and frame["u"].tolist() == [1, 2, 1, 2]
    pd.testing.assert_frame_equal(arrow, before)


def arrow(values: list, type: pa.DataType | None = None) -> pd.Series:
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.array(values, type=type)])))


DAYS = [datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)]
COLUMNS = {
    "integers": (arrow([1, 2]), "int64", [1, 2]), "small": (arrow([1, 2], pa.uint8()), "uint8", [1, 2]),
    "floats": (arrow([1.5, None]), "float64", [1.5, None]),
    "half": (arrow([1.5, 2], pa.float16()), "float64", [1.5, 2]),
    "gaps": (arrow([2**62 + 1, None]), "Int64", [2**62 + 1, None]), "text": (arrow(["a", None]), "str", ["a", None]),
    "long text": (arrow(["a", "b"], pa.large_string()), "str", ["a", "b"]),
    "words": (arrow(["a", "b"]).astype(pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))), "str", ["a", "b"]),
    "numbered": (pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.array([7, 8]).dictionary_encode()]))),
                 "int64", [7, 8]),
    "truth": (arrow([True, False]), "bool", [True, False]), "doubt": (arrow([True, None]), "boolean", [True, None]),
    "decimals": (arrow([Decimal("1.10"), Decimal(2)]), "object", [Decimal("1.10"), Decimal(2)]),
    "bytes": (arrow([b"ab", b"cd"]), "object", [b"ab", b"cd"]),
    "fixed bytes": (arrow([b"ab", b"cd"], pa.binary(2)), "object", [b"ab", b"cd"]),
    "days": (arrow(DAYS), "object", DAYS),
    "moments": (arrow([1577836800123456789, 0], pa.timestamp("ns")), "datetime64[ns]",
                [pd.Timestamp(1577836800123456789), pd.Timestamp(0)]),
    "zoned": (arrow([1577836800, 0], pa.timestamp("s", "Europe/Berlin")), "datetime64[s, Europe/Berlin]",
              [pd.Timestamp(s, unit="s", tz="Europe/Berlin") for s in (1577836800, 0)]),
    "categories": (pd.Series(pd.Categorical.from_codes([1, 0], pd.Index(arrow(["a", "b"])))), "category", ["b", "a"]),
    "float16": (pd.Series(np.array([1, 2.5], dtype=np.float16)), "float32", [1, 2.5]),
}


@pytest.mark.parametrize("column, dtype, values", COLUMNS.values(), ids=COLUMNS.keys())
def test_a_plain_column_has_the_values_and_no_arrow_type(column, dtype, values):
    found = plain(column.rename("x"))
    assert str(found.dtype) == dtype and found.name == "x"
    assert [None if pd.isna(value) else value for value in found] == values
    if dtype == "category":
        assert not isinstance(found.cat.categories.dtype, pd.ArrowDtype)


@pytest.mark.parametrize("column", [column for column, _, _ in COLUMNS.values()], ids=COLUMNS.keys())
def test_ids_and_metadata_of_every_type_are_trained_on_written_and_read_again(column, tmp_path):
    films = pd.DataFrame({"i": ["a", "b"], "title": ["A", "B"], "x": column})
    known = bunch(RATINGS, items=films)
    if column.notna().all():
        ids = pd.concat([column, column], ignore_index=True)
        known = bunch(RATINGS.assign(u=ids), items=films)
        assert set(known.users) == set(column.tolist())
        assert known.users.encode(column).tolist() == known.users.encode(list(column)).tolist() != [0, 0]
    learn = collab_learner(known, n_factors=2)
    learn.export(tmp_path / "m.safetensors")
    loaded = load_learner(tmp_path / "m.safetensors").data
    assert loaded.users == known.users and list(map(type, loaded.users)) == list(map(type, known.users))
    pd.testing.assert_frame_equal(loaded.item_table, known.item_table)


def test_a_file_with_ids_of_arrow_is_read_where_pyarrow_is_not_installed(tmp_path):
    films = as_frame(FILMS).convert_dtypes(dtype_backend="pyarrow").assign(
        day=arrow(DAYS), at=arrow([0, 1], pa.timestamp("us")), kind=arrow(["x", "y"]).astype("category"))
    ratings = pd.DataFrame({"u": arrow([1, 2, 1, 2]), "i": arrow(list("aabb")), "r": arrow([1.0, 2, 3, 4])})
    learn = collab_learner(bunch(ratings, items=films), n_factors=2)
    learn.export(tmp_path / "m.safetensors")
    learn.index().save(tmp_path / "i.safetensors")
    script = ("import sys; sys.modules['pyarrow'] = None\n"
              "from collab import Index, load_learner\n"
              "data = load_learner('m.safetensors').data\n"
              "print([*data.users], [*data.items], data.titles(['a', 'b']), Index.load('i.safetensors').titles)")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True,
                          env={"PYTHONPATH": str(Path(collab.__file__).parents[1])})
    assert done.stdout.split("\n")[0] == "[1, 2] ['a', 'b'] ['A', 'B'] ['A', 'B']", done.stderr


def test_a_type_that_has_no_name_is_refused_when_it_is_written(tmp_path):
    times = pd.Series(pd.date_range("2020", periods=2, tz=tzoffset("here", 3600)))
    for data, where in ((bunch(RATINGS.assign(u=pd.concat([times, times], ignore_index=True))), "the user ids"),
                        (bunch(RATINGS, items=FILMS.assign(at=times)), "column 'at' of the table of items")):
        with pytest.raises(DataError, match=rf"{where} are of the type datetime64.*tzoffset.*cannot be written"):
            collab_learner(data, n_factors=2).export(tmp_path / "never.safetensors")
    assert not (tmp_path / "never.safetensors").exists()


@pytest.mark.parametrize("thing", [pl.Series([1]), pa.array([1]), pa.chunked_array([[1]]), pd.Series([1]), [1], None,
                                   np.ones((2, 3)), pl.DataFrame, Capsule(pa.chunked_array([[1]]))],
                         ids=lambda thing: type(thing).__name__)
def test_what_is_no_table_is_refused_by_its_name(thing):
    with pytest.raises(DataError, match=f"expected a table of films.*got {type(thing).__name__}"):
        as_frame(thing, "films")
    assert not is_table(thing) or isinstance(thing, Capsule)


def test_every_table_is_known_as_one():
    assert all(is_table(way(RATINGS)) for way in WAYS.values())


def test_a_set_of_ratings_in_place_of_its_table_is_refused_with_the_remedy():
    with pytest.raises(DataError, match=r"got RatingSet; pass its \.ratings"):
        bunch(collab.synthetic(50, 40, 500))


def test_a_column_name_that_comes_twice_is_refused_in_every_table():
    twice = pa.Table.from_arrays([pa.array([1, 2]), pa.array([1, 2]), pa.array([1.0, 2.0])], names=["a", "a", "r"])
    with pytest.raises(DataError, match="the table of ratings has a column name more than once .*'a' 2 times"):
        bunch(twice)


def test_columns_of_polars_and_pyarrow_are_ids():
    vocab = Vocab(pl.Series([5, 7]), "user")
    assert [*vocab] == [5, 7] == [*Vocab(pa.array([7, 5]))] and {type(id) for id in vocab} == {int}
    assert vocab.encode(pl.Series([7, 9])).tolist() == vocab.encode(pa.chunked_array([[7, 9]])).tolist() == [2, 0]
