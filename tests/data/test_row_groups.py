import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collab import CollabDataBunch, time_split
from collab.data.row_groups import Sources
from collab.errors import DataError


def table(n=10, **columns):
    k = np.arange(n)
    return pd.DataFrame({"user": k % 3, "item": k % 4, "rating": k % 5 + 1.0} | columns)


@pytest.fixture
def made(tmp_path):
    """A function that writes tables to files a.parquet, b.parquet ... of a folder, and returns the folder."""
    folder = tmp_path / "ratings"

    def write(*tables, **options):
        folder.mkdir(exist_ok=True)
        for name, one in zip("abcd", tables):
            one.to_parquet(folder / f"{name}.parquet", index=False, **options)
        return folder
    return write


def opened(folder, **options):
    return CollabDataBunch.from_parquet(folder, folder=folder.parent / "encoded", seed=0, duplicates="keep",
                                       **options)


def opened_as(ratings, folder):
    return CollabDataBunch.from_parquet(ratings, folder=folder, seed=0, duplicates="keep")


def tables_of(paths, rows=4):
    sources = Sources(paths)
    return list(sources.tables(sources.schema(), rows))


def test_files_of_a_folder_are_read_in_the_order_of_their_names_and_no_others(made):
    folder = made(table(5, rating=1.0), table(5, rating=2.0))
    (folder / "deep").mkdir()
    table(3, rating=4.0).to_parquet(folder / "deep" / "c.PQ", index=False)
    (folder / "_SUCCESS").write_text("")
    table(3, rating=9.0).to_parquet(folder / ".hidden.parquet", index=False)
    (folder / "notes.txt").write_text("no ratings")
    assert Sources(folder).n == 13
    assert [part["rating"].iloc[0] for part in tables_of(folder, 100)] == [1.0, 2.0, 4.0]
    again = [folder / "b.parquet", folder / "deep"]
    assert [part["rating"].iloc[0] for part in tables_of(again, 100)] == [2.0, 4.0]


def test_tables_have_no_more_rows_than_are_asked_for(made):
    folder = made(table(10), row_group_size=7)
    parts = tables_of(folder, 4)
    assert max(map(len, parts)) <= 4 and sum(map(len, parts)) == 10
    whole = pd.concat(parts, ignore_index=True)
    pd.testing.assert_frame_equal(whole, table(10)[["user", "item", "rating"]])


def test_a_footer_that_changes_changes_the_signature(made):
    folder = made(table(10))
    path = folder / "a.parquet"
    before, stat = Sources(folder).signature(), path.stat()
    assert Sources(folder).signature() == before
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert Sources(folder).signature() != before
    table(10, rating=2.0).to_parquet(path, index=False)         # other statistics
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = Sources(folder).signature()
    assert after[0][2] == before[0][2] and after[0][3] != before[0][3]


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing: no such file or folder"):
        Sources(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"holds no Parquet file, with the ending \.parquet or \.pq"):
        Sources(tmp_path)
    with pytest.raises(DataError, match="the list of paths is empty"):
        Sources([])
    (tmp_path / "a.parquet").write_text("user,item,rating")
    with pytest.raises(DataError, match="a.parquet cannot be read as Parquet"):
        Sources(tmp_path)


def test_what_is_no_parquet_file_is_told_what_reads_it(made, tmp_path):
    folder, text = made(table()), tmp_path / "ratings.csv"
    table().to_csv(text, index=False)
    for given in (table(), pa.table(table()), 5):
        with pytest.raises(DataError, match="takes paths of Parquet files, got .*; a table is taken by from_df"):
            opened_as(given, tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder; patterns are not expanded: pass the folder,"):
        opened_as(folder / "*.parquet", tmp_path)
    with pytest.raises(DataError, match="cannot be read as Parquet: .*; other files are read with from_csv"):
        opened_as(text, tmp_path)
    with pytest.raises(DataError, match="ratings.csv is a file; the encoded ratings need a folder"):
        opened_as(folder, text)


def test_a_column_that_one_file_lacks_is_named_before_anything_is_encoded(made):
    folder = made(table(), table().rename(columns={"rating": "stars"}))
    with pytest.raises(DataError, match=r"b\.parquet: there is no column 'rating', which .*a\.parquet has; its columns "
                                        r"are \['user', 'item', 'stars'\]"):
        opened(folder)
    assert not (folder.parent / "encoded").exists()


def test_a_wrong_name_suggests_a_near_one(made):
    with pytest.raises(DataError, match="there is no column 'ratng' for the rating; did you mean 'rating'"):
        opened(made(table()), rating_name="ratng")


def test_ids_of_two_kinds_are_told_by_the_footers(made):
    folder = made(table(), table().astype({"item": str}))
    with pytest.raises(DataError, match=r"column 'item': ids of several kinds: int64 in .*a\.parquet, .*string in "
                                        r".*b\.parquet; 5 and '5' are different ids"):
        opened(folder)
    assert not (folder.parent / "encoded").exists()


def test_integers_of_two_widths_are_ids_of_one_kind(made):
    data = opened(made(table(40), table(40).astype({"user": "int32", "item": "int16"})), valid_pct=0)
    assert [*data.users] == [0, 1, 2] and data.train.n == 80


def test_missing_ids_are_counted_over_all_files_before_anything_is_encoded(made):
    gaps = table().astype({"user": "Int64"})
    gaps.loc[[2, 5], "user"] = pd.NA
    folder = made(table(), gaps)
    with pytest.raises(DataError, match=r"column 'user': 2 of 20 ids are missing \(the first in .*b\.parquet\); "
                                        "correct or drop these rows$"):
        opened(folder)
    assert not (folder.parent / "encoded").exists()


def test_ratings_that_are_not_numbers_are_named_with_their_file_and_rows(made):
    bad = table(30)
    bad.loc[25, "rating"] = np.nan
    folder = made(table(), bad.astype({"rating": "float64"}))
    # pandas writes NaN as a gap, which the footer counts; a file of another tool may keep it as a number
    pq.write_table(pa.table({"user": bad.user, "item": bad.item, "rating": pa.array(bad.rating.to_numpy())}),
                   folder / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet, rows 0 to 29: column 'rating': 1 of 30 ratings are missing "
                                        r"\(first at row 25\); correct or drop these rows$"):
        opened(folder)
    assert [path.name for path in (folder.parent / "encoded").iterdir()] == []
    bad["rating"] = "good"
    with pytest.raises(DataError, match=r"a\.parquet.*ratings must be numbers, but 30 of 30 are not \(such as 'good'"):
        opened(made(bad, bad))


def test_files_without_rows_are_told(made):
    with pytest.raises(DataError, match=r"a\.parquet: there is no row; the columns are \['user', 'item', 'rating'\]"):
        opened(made(table(0)))


def test_a_time_is_needed_only_by_a_split_by_time(made):
    folder = made(table(20, time=np.arange(20)), table(20))
    assert opened(folder).train.n == 32
    with pytest.raises(DataError, match=r"b\.parquet: there is no column 'time'"):
        opened(folder, split=time_split(0.2))
    with pytest.raises(DataError, match="needs the time of each rating; name its column with time_name="):
        opened(made(table(20), table(20)), split=time_split(0.2))


def test_one_item_alone_is_refused(made):
    with pytest.raises(DataError, match="column 'item': all 8 ratings to train on have the same item, 7; coll"):
        opened(made(table(10, item=7)))


def test_ratings_far_from_all_others_are_warned_of(made):
    ratings = np.tile([1.0, 2, 3, 4, 5], 100)
    ratings[13] = 1000.0
    with pytest.warns(UserWarning, match="1 of 500 ratings, such as 1,000, is far from the others, which go from 1"):
        opened(made(table(500, rating=ratings, user=np.arange(500))), valid_pct=0)
