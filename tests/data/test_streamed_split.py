import numpy as np
import pandas as pd
import pytest

from collab import leave_last, random_split, time_split
from collab.data.streamed_split import AtRandom, ByTime, scrambled, smallest, sortable, streamed_kind
from collab.errors import DataError


def asked(split, n, step, keys=None):
    """Which ratings a split holds out, asked `step` at a time."""
    return np.concatenate([
        split.held_out(first, min(step, n - first), None if keys is None else keys[first:first + step])
        for first in range(0, n, step)])


@pytest.mark.parametrize(("n", "valid_pct", "held"), [(1000, 0.2, 200), (7, 0.5, 3), (100, 0.29, 29), (5, 0.1, 0),
                                                      (10, 0, 0)])
def test_as_many_are_held_out_as_a_split_at_random_holds_out(n, valid_pct, held):
    assert asked(AtRandom(n, valid_pct, 3), n, 64).sum() == held


@pytest.mark.parametrize("step", [1, 7, 5000])
def test_the_same_places_are_held_out_however_many_are_asked_at_a_time(step):
    whole = asked(AtRandom(5000, 0.2, 3), 5000, 999)
    np.testing.assert_array_equal(asked(AtRandom(5000, 0.2, 3), 5000, step), whole)
    other = asked(AtRandom(5000, 0.2, 4), 5000, 999)
    assert 100 < (whole & other).sum() < 300        # of two independent fifths: 200, with a deviation of 12.6


def test_places_that_are_held_out_are_spread_evenly():
    held = asked(AtRandom(100_000, 0.2, 0), 100_000, 100_000)
    tenths = held.reshape(10, -1).sum(1)            # 2,000 each, with a deviation of 38
    assert abs(tenths - 2000).max() < 5 * 38
    assert abs((held[1:] & held[:-1]).sum() - 4000) < 5 * 60


def test_hashes_of_places_are_all_different_and_do_not_depend_on_where_one_begins():
    assert len(set(scrambled(0, 10_000, 1).tolist())) == 10_000
    np.testing.assert_array_equal(scrambled(300, 50, 1), scrambled(0, 1000, 1)[300:350])


@pytest.mark.parametrize("many", [False, True])
def test_the_key_of_a_rank_is_that_of_the_sorted_keys(many, monkeypatch):
    if many:                # so that all digits are looked at
        monkeypatch.setattr("collab.data.streamed_split.CHUNK", 0)
    rng = np.random.default_rng(0)
    keys = np.concatenate([rng.integers(0, 2**64, 500, dtype=np.uint64), np.full(100, 2**40, np.uint64)])
    ordered = np.sort(keys)
    for k in (0, 1, 57, 300, 599):
        assert smallest(lambda: iter([keys[:50], keys[50:]]), k) == ordered[k]


@pytest.mark.parametrize("times", [
    np.array([-3, 5, 0, -2**63, 2**63 - 1]), np.array([1.5, -2.5, 0.0, -np.inf, np.inf, 1e-300]),
    np.array([3, 2**64 - 1, 0], dtype=np.uint64), np.array(["2024-01-01", "1969-05-01", "2300-01-01"], "datetime64[D]"),
    np.array([3, -7, 2], dtype=np.int16)])
def test_keys_sort_as_times_do(times):
    np.testing.assert_array_equal(np.argsort(sortable(times)), np.argsort(times))


def test_both_zeros_are_one_time():
    assert len(set(sortable(np.array([0.0, -0.0])).tolist())) == 1


@pytest.mark.parametrize("n_times", [3, 50, 10**6])
@pytest.mark.parametrize("valid_pct", [0.1, 0.5, 0])
def test_a_split_by_time_is_that_of_a_table_also_where_times_are_equal(n_times, valid_pct):
    times = np.random.default_rng(1).integers(0, n_times, 1000)
    table = pd.DataFrame({"user": 1, "item": 1, "rating": 1.0, "time": times})
    keys = sortable(times)
    held = asked(ByTime(lambda: iter([keys[:300], keys[300:]]), 1000, valid_pct), 1000, 128, keys)
    np.testing.assert_array_equal(np.flatnonzero(held), time_split(valid_pct)(table)[1])


def test_which_splits_need_no_sort():
    assert streamed_kind(None, 0.3, 5) == {"by": "random", "valid_pct": 0.3, "seed": 5}
    assert streamed_kind(random_split(0.1, 7), 0.2, 5) == {"by": "random", "valid_pct": 0.1, "seed": 7}
    assert streamed_kind(time_split(0.1), 0.2, 5)["by"] == "time"
    for other in (leave_last(1), "u1", lambda table: (table.index, table.index)):
        with pytest.raises(DataError, match=r"split without sorting.*time_split\(0.2\).*learn.validate"):
            streamed_kind(other, 0.2, 5)
