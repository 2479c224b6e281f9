"""What a set of ratings looks like, against pandas by hand and known facts of MovieLens-100K."""

import numpy as np
import pandas as pd
import pytest

from collab import CollabWarning, DataError, RatingSet

RATINGS = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": [7, 8, 7, 9, 7], "rating": [5.0, 3, 4, 2, 3]})
ITEMS = pd.DataFrame({"item": [9, 8, 7, 6], "title": ["I", "H", "G", "F"], "genres": ["a|b", "b", "", "b|c"]})
SMALL = RatingSet(RATINGS, ITEMS, pd.DataFrame({"user": [1, 2, 3, 4]}), "small", "")


def test_the_description_by_hand():
    numbers = SMALL.describe()
    assert numbers[["ratings", "users", "items"]].tolist() == [5, 3, 3]
    assert numbers["sparsity"] == pytest.approx(4 / 9) and numbers["mean"] == pytest.approx(3.4)
    assert numbers[[f"ratings per user, {w}" for w in ("least", "median", "most")]].tolist() == [1, 2, 2]
    assert numbers[[f"ratings per item, {w}" for w in ("least", "median", "most")]].tolist() == [1, 1, 3]


def test_tables_count_and_average_also_where_there_is_nothing():
    items = SMALL.item_table()
    assert items["n_ratings"].tolist() == [1, 1, 3, 0] and items["item"].tolist() == [9, 8, 7, 6]
    np.testing.assert_array_equal(items["mean_rating"], [2, 3, 4, np.nan])
    assert SMALL.user_table()["n_ratings"].tolist() == [2, 2, 1, 0]


def test_what_was_rated_and_is_not_in_the_table_is_counted():
    few = RatingSet(RATINGS, ITEMS.iloc[:2], pd.DataFrame({"user": [1, 3]}), "few", "")
    with pytest.warns(CollabWarning, match="1 of 3 rated items are not in the table of items"):
        assert few.top_items()["item"].tolist() == [8, 9]
    with pytest.warns(CollabWarning, match="1 of 3 rated users are not in the table of users"):
        assert few.user_table()["n_ratings"].tolist() == [2, 1]


def test_top_items_by_count_and_by_mean():
    assert SMALL.top_items(2)["title"].tolist() == ["G", "H"]           # 3 ratings; 1 with the higher mean
    assert SMALL.top_items(by="mean")["title"].tolist() == ["G", "H", "I"]
    assert SMALL.top_items(by="mean", min_ratings=2)["title"].tolist() == ["G"]
    with pytest.raises(DataError, match="neither 'count' nor 'mean'"):
        SMALL.top_items(by="age")


def test_genres_are_counted_once_an_item():
    assert SMALL.genre_counts().to_dict() == {"b": 3, "a": 1, "c": 1}


def test_the_cross_table_by_hand():
    table = SMALL.cross_table(n_users=2, n_items=2)
    assert table.index.tolist() == [1, 2] and table.columns.tolist() == ["G", "H"]
    np.testing.assert_array_equal(table, [[5, 3], [4, np.nan]])


def test_known_facts_of_movielens(ml100k):
    items = ml100k.item_table().set_index("title")
    assert items.loc["Star Wars (1977)", "n_ratings"] == 583
    assert items.loc["Star Wars (1977)", "mean_rating"] == pytest.approx(4.358, abs=5e-4)
    best = ml100k.top_items(1, by="mean", min_ratings=21).iloc[0]
    assert (best["title"], best["n_ratings"]) == ("Close Shave, A (1995)", 112)
    assert best["mean_rating"] == pytest.approx(4.491, abs=5e-4)
    assert ml100k.genre_counts()[["Drama", "Comedy"]].tolist() == [725, 505]
    occupations = ml100k.user_table()["occupation"].value_counts()
    assert len(occupations) == 21 and occupations.index[0] == "student" and occupations.iloc[0] == 196
    assert ml100k.describe()["sparsity"] == pytest.approx(1 - 100_000 / (943 * 1682))
    assert ml100k.cross_table().shape == (15, 15) and ml100k.cross_table().columns[0] == "Star Wars (1977)"


def test_categories_that_do_not_occur_are_not_counted():
    ratings = RATINGS.astype({"user": "category", "item": pd.CategoricalDtype([6, 7, 8, 9])})
    listed = RatingSet(ratings, ITEMS, SMALL.users, "small", "")
    pd.testing.assert_series_equal(listed.describe(), SMALL.describe())
    assert listed.cross_table(9, 9).columns.tolist() == ["G", "H", "I"]


def test_the_median_of_an_even_number_lies_between():
    two = RatingSet(RATINGS[RATINGS["user"] != 1], ITEMS, SMALL.users, "two", "")
    assert two.describe()["ratings per user, median"] == 1.5


def test_no_ratings_are_described_by_what_is_missing():
    numbers = RatingSet(RATINGS[:0], ITEMS, SMALL.users, "none", "").describe()
    assert numbers[["ratings", "users", "items"]].tolist() == [0, 0, 0] and numbers[3:].isna().all()


def test_what_cannot_be_counted_is_said_with_a_remedy():
    twice = RatingSet(RATINGS, pd.concat([ITEMS, ITEMS[:1]]), SMALL.users, "twice", "")
    with pytest.raises(DataError, match=r"1 items are repeated .* \(such as 9\).*drop_duplicates\('item'\)"):
        twice.cross_table()
    mixed = RatingSet(RATINGS.assign(item=[7, "8", 7, 9, 7]), ITEMS, SMALL.users, "mixed", "")
    with pytest.raises(DataError, match=r"'item' mixes ids of several kinds, int and str.*df\['item'\].astype\(str\)"):
        mixed.cross_table()
    with pytest.raises(DataError, match=r"no column 'genres' in ml.items; its columns are \['item', 'title'\]"):
        RatingSet(RATINGS, ITEMS[["item", "title"]], SMALL.users, "bare", "").genre_counts()


def test_an_item_without_a_title_has_its_id_in_the_cross_table():
    some = RatingSet(RATINGS, ITEMS.assign(title=["I", "", None, "F"]), SMALL.users, "some", "")
    assert some.cross_table().columns.tolist() == [7, 8, "I"]


def test_tables_of_items_are_printed_with_their_titles_whole():
    items = pd.DataFrame({"item": [1, 2], "title": ["A Film Whose Title Has More than Fifty Characters in All"] * 2,
                          **{f"column_number_{k}": ["some text"] * 2 for k in range(8)}})
    ml = RatingSet(pd.DataFrame({"user": [1, 2], "item": [1, 2], "rating": [3.0, 4.0]}), items,
                   pd.DataFrame({"user": [1, 2]}), "", "")
    for table in (ml.item_table(), ml.top_items()):
        assert "..." not in repr(table) and items["title"][0] in repr(table)
