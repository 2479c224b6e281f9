"""CollabDataBunch: ratings checked, split and encoded once, over vocabs of the training rows."""

from __future__ import annotations

import copy
import datetime
import uuid

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from collab import (
    CollabDataBunch,
    CollabWarning,
    DataBunch,
    DataError,
    TensorBatches,
    UnknownId,
    rows_split,
    synthetic,
    time_split,
)
from collab.data.extend import extended

SMALL = pd.DataFrame({"who": ["ann", "bob", "ann", "cid", "bob", "dan"], "film": [10, 10, 30, 30, 20, 40],
                      "stars": [1.0, 2.0, 5.0, 4.0, 3.0, 5.0], "time": [1, 2, 3, 4, 5, 6]})
FILMS = pd.DataFrame({"film": [30, 10, 99, 20], "title": ["Heat (1995)", "Toy Story (1995)", "Heat wave", None]})


def bunch(ratings: pd.DataFrame = SMALL, **options: object) -> CollabDataBunch:
    """Rows 4 and 5 (bob and dan, films 20 and 40, of which only bob is trained on) are for validation."""
    return CollabDataBunch.from_df(ratings, **{"split": rows_split([4, 5]), "seed": 0, "device": "cpu", **options})


def rated(values: list[float]) -> CollabDataBunch:
    n = len(values)
    df = pd.DataFrame({"u": np.arange(n) % 2, "i": np.arange(n), "r": values})
    return CollabDataBunch.from_df(df, valid_pct=0, seed=0, device="cpu")


def epoch(batches: TensorBatches) -> list[list[float]]:
    return [torch.stack([t.double() for t in batch]).tolist() for batch in batches]


# From a table to batches ------------------------------------------------------------------------------------------

def test_rows_stand_for_the_sorted_ids_of_the_training_part():
    data = bunch()
    assert data.users.ids.tolist() == [None, "ann", "bob", "cid"] and data.items.ids.tolist() == [None, 10, 30]
    assert (data.n_users, data.n_items) == (4, 3)
    users, items, ratings = data.train.tensors
    assert users.tolist() == [1, 2, 1, 3] and items.tolist() == [1, 1, 2, 2] and ratings.tolist() == [1, 2, 5, 4]
    assert [t.dtype for t in data.train.tensors] == [torch.int64, torch.int64, torch.float32]


def test_ids_that_were_not_trained_on_are_row_0_and_are_counted():
    with pytest.warns(CollabWarning, match="2 of 3 test ratings are of a user or an item that was not trained on"):
        data = bunch(test=pd.DataFrame({"stars": [3.0, 1.0, 2.0], "film": [10, 40, 50], "who": ["ann", "ann", "eve"]}))
    assert data.valid.tensors[0].tolist() == [2, 0] and data.valid.tensors[1].tolist() == [0, 0]
    assert data.test.tensors[0].tolist() == [1, 1, 0] and data.test.tensors[1].tolist() == [1, 0, 0]
    expected = pd.DataFrame({"ratings": [4, 2, 3], "users": [3, 2, 2], "items": [2, 2, 3], "mean": [3.0, 4.0, 2.0],
                             "unseen_users": [0, 1, 1], "unseen_items": [0, 2, 2], "ratings_with_unseen": [0, 2, 2]},
                            index=pd.Index(["train", "valid", "test"], name="part"))
    pd.testing.assert_frame_equal(data.summary(), expected, check_index_type=False)


def test_without_validation_there_is_no_part_for_it():
    data = bunch(split=None, valid_pct=0)
    assert data.valid is None and data.test is None and data.summary().index.tolist() == ["train"]


def test_by_default_a_fifth_is_for_validation():
    data = CollabDataBunch.from_df(synthetic(50, 40, 1000, seed=0).ratings, seed=0, device="cpu")
    assert (data.train.n, data.valid.n) == (800, 200)


def test_fewer_ratings_than_a_batch_are_one_batch():
    data = bunch(bs=64)
    assert [len(batch[0]) for batch in data.train] == [4] and len(data.train) == 1


def test_batch_sizes_are_those_that_were_asked_for():
    data = bunch(bs=3, val_bs=1)
    assert [len(b[0]) for b in data.train] == [3, 1] and [len(b[0]) for b in data.valid] == [1, 1]
    assert bunch(bs=10_000).valid.bs >= 10_000


def test_a_training_part_of_one_user_is_refused_whoever_split_it():
    with pytest.raises(DataError, match="column 'who': all 2 ratings to train on have the same user, 'ann'"):
        bunch(split=lambda t: ([0, 2], [1, 3, 4, 5]))


def test_a_test_table_may_be_a_single_rating_and_its_errors_say_which_table():
    assert bunch(test=SMALL.iloc[[0]]).test.n == 1
    for test, message in ((SMALL.drop(columns="stars"), "the test ratings: .*'stars' for the rating"),
                          (SMALL.iloc[:0], "the test ratings: .*empty"), ([1], "the test ratings: .*DataFrame"),
                          (SMALL.astype({"film": str}), "the test ratings: item ids are of kind number"),
                          (SMALL.assign(stars=np.nan), "the test ratings: column 'stars': 6 of 6")):
        with pytest.raises(DataError, match=message):
            bunch(test=test)


def test_a_test_table_needs_no_time():
    assert bunch(split=time_split(0.3), test=SMALL.drop(columns="time").head(4)).test.n == 4


def test_from_csv_is_from_df_of_the_file(tmp_path):
    SMALL.to_csv(tmp_path / "ratings.csv", index=False)
    data = CollabDataBunch.from_csv(tmp_path / "ratings.csv", split=rows_split([4, 5]), seed=0, bs=2, device="cpu")
    assert epoch(data.train) == epoch(bunch(bs=2).train) and data.users == bunch().users


# Randomness -------------------------------------------------------------------------------------------------------

RATINGS = synthetic(40, 30, 500, seed=1).ratings


def test_the_seed_decides_split_and_batches():
    one, same, other = (CollabDataBunch.from_df(RATINGS, seed=s, device="cpu") for s in (5, 5, 6))
    for part in ("train", "valid"):
        assert epoch(getattr(one, part)) == epoch(getattr(same, part)) != epoch(getattr(other, part))
    assert epoch(one.train) == epoch(same.train) and one.seed == 5      # and the second epoch


def test_without_a_seed_torch_manual_seed_repeats_a_run():
    def run(seed: int) -> list:
        torch.manual_seed(seed)
        data = CollabDataBunch.from_df(RATINGS, device="cpu")
        return [data.seed, epoch(data.train), epoch(data.valid)]
    assert run(1) == run(1) != run(2)
    assert CollabDataBunch.from_df(RATINGS).seed != CollabDataBunch.from_df(RATINGS).seed


def test_with_a_seed_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    epoch(CollabDataBunch.from_df(RATINGS, seed=0, device="cpu").train)
    assert torch.equal(torch.get_rng_state(), before)


def test_looking_draws_no_random_number_and_does_not_advance_training():
    data, untouched = (CollabDataBunch.from_df(RATINGS, seed=0, device="cpu") for _ in range(2))
    before = torch.get_rng_state()
    data.show_batch(), data.one_batch(), data.summary(), repr(data), data.y_range, data.mean, data.histories
    assert torch.equal(torch.get_rng_state(), before)
    assert epoch(data.train) == epoch(untouched.train)


# What the ratings are ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("values, y_range", [([1, 2, 3, 4, 5], (0.5, 5.5)), ([5, 1, 5, 3, 4], (0.5, 5.5)),
                                             (np.arange(0.5, 5.5, 0.5), (0.25, 5.25)), ([0, 1, 0], (-0.5, 1.5)),
                                             ([3, 3], (2.5, 3.5)), ([0, 50, 100], (-25, 125))])
def test_y_range_is_half_a_step_beyond_each_end(values, y_range):
    assert rated(values).y_range == y_range


def test_continuous_ratings_are_within_y_range_and_on_no_scale():
    values = np.random.default_rng(0).normal(size=500)
    data = rated(values)
    step = np.diff(np.sort(values.astype(np.float32))).min()
    assert data.y_range == pytest.approx((values.min() - step / 2, values.max() + step / 2), abs=1e-6)
    assert data.scale is None and data.mean == pytest.approx(values.mean(), abs=1e-7)


def test_ratings_of_at_most_101_levels_are_on_a_scale():
    assert rated([1, 5, 4]).scale == (1.0, 5.0) and rated(list(range(101))).scale == (0.0, 100.0)
    assert rated(list(range(102))).scale is None


def test_mean_scale_and_range_are_of_the_training_part_only():
    data = bunch(split=rows_split([0, 2]))       # trained on 2, 4, 3, 5
    assert data.mean == 3.5 and data.scale == (2.0, 5.0) and data.y_range == (1.5, 5.5)


def test_histories_hold_the_training_part():
    items, ratings = bunch().histories[1]
    assert items.tolist() == [1, 2] and ratings.tolist() == [1.0, 5.0]


# Titles -----------------------------------------------------------------------------------------------------------

def test_titles_are_those_of_the_metadata_and_empty_where_there_is_none():
    assert bunch(items=FILMS).titles([10, 20, 30, 12345]) == ["Toy Story (1995)", "", "Heat (1995)", ""]
    assert bunch().titles([10]) is None and bunch(items=FILMS[["film"]]).titles([10]) is None


def test_the_metadata_are_not_modified_and_are_indexed_by_raw_id():
    before = FILMS.copy()
    assert bunch(items=FILMS).item_table.loc[99, "title"] == "Heat wave"
    pd.testing.assert_frame_equal(FILMS, before)


DAY = datetime.date
KINDS = {"tuple": [(1, "a"), (1, "b"), (2, "a"), (2, "b")], "uuid": [uuid.UUID(int=k) for k in range(4)],
         "date": [DAY(2020, 1, k) for k in (1, 2, 3, 4)], "Timestamp": list(pd.date_range("2020", periods=4)),
         "zone": list(pd.date_range("2020", periods=4, tz="Europe/Berlin")), "text": list("abcd"),
         "float": [0.5, 1.0, 1.5, 2.0]}


@pytest.mark.parametrize("dtype", [None, "category", object])
@pytest.mark.parametrize("ids", KINDS.values(), ids=KINDS.keys())
def test_metadata_join_ids_of_any_kind(ids, dtype):
    ratings = pd.DataFrame({"u": [1, 2, 1, 2], "i": pd.Series(ids), "r": [1.0, 2, 3, 4]})
    column = pd.Series(ids[::-1]) if dtype is None else pd.Series(ids[::-1], dtype=object).astype(dtype)
    films = pd.DataFrame({"i": column, "title": pd.Categorical(["D", "C", "B", None])})
    data = CollabDataBunch.from_df(ratings, valid_pct=0, seed=0, items=films, device="cpu")
    assert data.titles(ids) == ["", "B", "C", "D"] and data.show_batch()["title"].tolist() == ["", "B", "C", "D"]
    assert data.find_item("c") == ids[2] or "c" in ids
    assert all(data.find_item(str(id)) == id for id in ids)


@pytest.mark.parametrize("dtype", ["Int64", "float64", "int8", "category"])
def test_whole_numbers_are_the_same_ids_in_every_type(dtype):
    assert bunch(items=FILMS.astype({"film": dtype})).titles([10, 30]) == ["Toy Story (1995)", "Heat (1995)"]


def test_the_id_column_of_metadata_is_found_by_name_and_else_is_the_first():
    for films in (FILMS[["title", "film"]], FILMS.rename(columns={"film": "movieId"}),
                  FILMS.rename(columns={"film": "item"})[["title", "item"]]):
        assert bunch(items=films).titles([30]) == ["Heat (1995)"]
    people = pd.DataFrame({"age": [30, 40], "user": ["bob", "ann"]})
    assert bunch(users=people).user_table["age"].to_dict() == {"bob": 30, "ann": 40}


@pytest.mark.parametrize("films, message", [
    (FILMS.assign(film=[30, 10, 30, 10]), r"the table of items: column 'film': 2 ids are repeated \(such as 30\)"),
    (FILMS.assign(film=[30, 30, 30, 30]), r"the table of items: column 'film': 1 id is repeated \(such as 30\)"),
    (FILMS.assign(film=[30, None, None, 10]), "items: column 'film': the item ids: 2 of 4 ids are missing"),
    (FILMS.assign(film=[None] * 4), "items: column 'film': the item ids: 4 of 4 ids are missing"),
    (FILMS.assign(film=["30", "10", "99", "20"]), "column 'film': item ids are of kind number.*but '30'"),
    (FILMS.assign(film=[30, 10, None, 20]), "column 'film': the item ids: 1 of 4 ids are missing"),
    (FILMS.assign(film=[1, 2, 3, 4]), r"column 'film': it holds none of the rated items.*like \[1\], .*like \[10\]"),
    (FILMS.set_axis(["film", "film"], axis=1), "the table of items: .*'film' occurs 2 times"),
    ({"film": [1]}, "the table of items: expected a table of items.*DataFrame.*dict"),
    (FILMS[[]], "the table of items: expected"),
])
def test_metadata_that_cannot_be_joined_are_refused(films, message):
    with pytest.raises(DataError, match=message):
        bunch(items=films)


def test_an_article_at_the_end_of_a_title_is_found_where_it_is_said():
    titles = ["Matrix, The (1999)", "Matrix Reloaded, The (2003)", "A (2000)"]
    items = pd.DataFrame({"item": [1, 2, 3], "title": titles})
    ratings = pd.DataFrame({"user": [1, 1, 1, 2], "item": [1, 2, 3, 2], "rating": [1., 2, 3, 4]})
    data = CollabDataBunch.from_df(ratings, valid_pct=0, items=items, seed=0)
    assert data.find_item("The Matrix (1999)") == 1 and data.find_items("the matrix") == [2, 1]
    with pytest.raises(UnknownId, match=r"near it are 'Matrix, The \(1999\)'"):
        data.find_item("Matirx")


def test_an_item_is_found_by_id_by_title_and_by_part_of_a_title():
    ratings = pd.DataFrame({"u": [1, 2, 3, 1, 2, 1], "i": [2, 2, 2, 1, 1, 3], "r": [1.0, 2, 3, 4, 5, 1]})
    films = pd.DataFrame({"i": [1, 2, 3, 4], "title": ["Alien (1979)", "Aliens", "alien", "Alien 4 [2]"]})
    data = CollabDataBunch.from_df(ratings, items=films, valid_pct=0, seed=0, device="cpu")
    assert data.find_item("2") == 2
    assert data.find_item("ALIEN") == 3                 # the whole title, before the more rated part of one
    assert data.find_item("aliens") == 2
    assert data.find_item("lien") == 2                  # the most rated of three
    assert data.find_item("(1979)") == 1                # no pattern, just text
    for text in ("Casablanca", "4", "", "[2]"):         # 4 was not trained on
        with pytest.raises(UnknownId, match="not among the 3 items"):
            data.find_item(text)
    with pytest.raises(UnknownId, match=r"near it are 'alien', 'Aliens'"):
        data.find_item("Alyen")


def test_without_titles_an_item_is_found_by_its_id_only():
    assert bunch().find_item("30") == 30
    with pytest.raises(UnknownId, match="item 'heat' is not among"):
        bunch().find_item("heat")
    text = bunch(SMALL.assign(film=SMALL["film"].astype(str) + "x"))
    assert text.find_item("30x") == "30x"
    with pytest.raises(UnknownId, match="near it are '30x'"):
        text.find_item("30")


# Further ratings, and showing -------------------------------------------------------------------------------------

def test_further_ratings_are_encoded_as_the_training_part_is():
    data = bunch()
    one = data.batches(pd.DataFrame({"user": ["bob"], "item": [30], "rating": [2.0]}))
    assert [t.tolist() for t in one.tensors] == [[2], [2], [2.0]]
    by_place = data.batches(SMALL, bs=4)
    assert by_place.tensors[0].tolist() == [1, 2, 1, 3, 2, 0] and len(by_place) == 2 and not by_place.shuffle
    by_name = data.batches(pd.DataFrame({"rating": [5.0], "item": [10], "user": ["ann"]}))
    assert [t.tolist() for t in by_name.tensors] == [[1], [1], [5.0]]
    with pytest.raises(DataError, match="'10' is of kind string"):
        data.batches(SMALL.astype({"film": str}))


def test_show_batch_shows_ratings_as_they_came_in():
    shown = bunch(items=FILMS).show_batch(3)
    expected = pd.DataFrame({"user": ["ann", "bob", "ann"], "item": [10, 10, 30],
                             "title": ["Toy Story (1995)", "Toy Story (1995)", "Heat (1995)"],
                             "rating": np.float32([1, 2, 5])})
    pd.testing.assert_frame_equal(shown, expected, check_dtype=False)
    assert list(bunch().show_batch(100)) == ["user", "item", "rating"] and len(bunch().show_batch(100)) == 4


def test_one_batch_is_the_first_rows_in_their_order():
    users, items, ratings = bunch(bs=3).one_batch()
    assert users.tolist() == [1, 2, 1] and items.tolist() == [1, 1, 2] and ratings.tolist() == [1.0, 2.0, 5.0]


def test_it_prints_its_sizes():
    assert repr(bunch()) == "CollabDataBunch(train 4, valid 2 ratings; 3 users, 2 items, bs=64, cpu)"


# Any batches ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("generator", [None, 3])
def test_a_databunch_takes_a_dataloader_and_looking_at_it_changes_nothing(generator):
    def loader() -> DataLoader:
        made = torch.Generator().manual_seed(generator) if generator else None
        rows = TensorDataset(torch.arange(10), torch.arange(10.0))
        return DataLoader(rows, batch_size=4, shuffle=True, generator=made)

    data, untouched = DataBunch(loader(), device="cpu"), loader()
    before = torch.get_rng_state()
    x, y = data.one_batch()
    assert len(x) == len(y) == 4 and torch.equal(torch.get_rng_state(), before)
    epochs = []
    for batches in (data.train, untouched):
        torch.manual_seed(0)
        epochs.append(epoch(batches))
    assert epochs[0] == epochs[1] and len(data.train) == 3 and data.valid is None and data.test is None


def test_a_databunch_moves_any_batches_to_its_device():
    batches = [(torch.ones(2), torch.zeros(2)), (torch.ones(1), torch.zeros(1))]
    data = DataBunch(batches, valid=batches, device="meta")
    assert [(x.device.type, len(y)) for x, y in data.valid] == [("meta", 2), ("meta", 1)] and len(data.valid) == 2
    kept = TensorBatches(torch.arange(3))
    assert DataBunch(kept, device="cpu").train is kept


def test_counts_are_those_of_pandas():
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"user": rng.integers(1, 20, 300), "item": rng.integers(1, 30, 300), "rating": 3.0})
    df = df.drop_duplicates(["user", "item"]).assign(rating=lambda d: d.index % 5 + 1.0)
    data = CollabDataBunch.from_df(df, valid_pct=0, seed=0)
    for by, vocab in (("user", data.users), ("item", data.items)):
        expected = df[by].value_counts()
        assert data.counts(by).tolist() == [0, *(expected[id] for id in vocab)]


def test_users_of_the_validation_part_that_are_added_to_training_are_no_longer_unseen():
    def part(users: list[int], items: list[int]) -> pd.DataFrame:
        return pd.DataFrame({"user": users, "item": items, "rating": 3.0})

    table = part([1, 1, 2, 7, 7, 8], [1, 2, 1, 1, 2, 2])
    data = CollabDataBunch.from_df(table, split=rows_split([3, 4, 5]), seed=0)
    more = data.table(part([7], [2]))
    added, _ = extended(data, more, more[:0])
    assert data.unseen["valid"] == {"unseen_users": 2, "unseen_items": 0}
    assert added.unseen["valid"] == {"unseen_users": 1, "unseen_items": 0}
    assert added.summary().loc["valid", "users"] == data.summary().loc["valid", "users"] == 2


def test_batches_of_another_device_are_moved_to_that_of_the_data():
    """As a list of batches of a user on a GPU, or data of a GPU with a learner that was loaded onto a CPU."""
    data = bunch()
    there = TensorBatches(*data.valid.tensors, bs=64, device="meta")
    part = data.part(there)
    assert part.device == data.device and len(part) == len(there)
    assert data.part(data.valid) is data.valid
    some = list(data.valid)
    assert data.part(some) is some
    elsewhere = copy.copy(data)
    elsewhere.device = torch.device("meta")
    assert all(t.device.type == "meta" for batch in elsewhere.part(some) for t in batch)
    assert all(t.device.type == "meta" for batch in elsewhere.part(data.valid) for t in batch)
