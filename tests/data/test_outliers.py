"""A rating far from all others stretches the range of predictions, and is named; usual ratings are not."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from collab import CollabDataBunch, CollabWarning, DataReport, collab_learner, rows_split
from collab.data.outliers import warn_of_outliers

FIVE = np.arange(600) % 5 + 1.0


def said(values: np.ndarray, **more: bool) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_outliers(pd.Series(np.asarray(values, dtype=float)), "stars", **more)
    return [str(w.message) for w in caught]


@pytest.mark.parametrize("odd, count, such", [([1000], "1 of 601", "1,000"), ([-99, -99], "2 of 602", "-99"),
                                              ([50, 99], "2 of 602", "99"), ([-1000, 1000], "2 of 602", "1,000")])
def test_what_is_far_from_a_scale_is_counted_and_named(odd, count, such):
    message, = said([*odd, *FIVE])
    assert message.startswith(f"column 'stars': {count} ratings, such as {such}, ")
    assert "which go from 1 to 5" in message and "y_range=None" in message


def test_one_of_ten_ratings_may_be_far_from_the_others_but_not_one_of_nine():
    assert said([1, 2, 3, 4, 5, 1, 2, 3, 4, 1000]) and not said([1, 2, 3, 4, 5, 1, 2, 3, 1000])


RNG = np.random.default_rng(0)
USUAL = {"stars": FIVE, "halves": FIVE / 2, "percent": np.arange(300) % 101, "binary": FIVE > 1,
         "nearly all the best": [5.0] * 995 + [1, 2, 3, 4, 4], "two levels": [5.0] * 999 + [1], "one level": [3.0] * 50,
         "J": RNG.choice([1, 2, 3, 4, 5], 3000, p=[.005, .001, .004, .04, .95]), "a ten": [*FIVE, 10],
         "minus one": [*FIVE, -1], "normal": RNG.normal(size=5000), "jester": RNG.uniform(-10, 10, 999),
         "many are far": [*FIVE, *[1000] * 20]}


@pytest.mark.parametrize("values", USUAL.values(), ids=USUAL.keys())
def test_usual_ratings_are_not_warned_of(values):
    assert not said(values)


@pytest.mark.parametrize("n, few", [(100, 1), (399, 3), (400, 4), (2000, 20)])
@pytest.mark.parametrize("sides", [[1], [-1], [1, -1]], ids=["above", "below", "both"])
def test_up_to_one_in_a_hundred_is_far_from_three_widths_on(n, few, sides):
    rng = np.random.default_rng(n)
    for width in (1, 4, 10):
        for count in {1, few}:
            others = [0.0, width, *rng.integers(0, width + 1, n - 2 - count)]
            ends = [sides[k % len(sides)] for k in range(count)]
            near, far = ([width + at if end > 0 else -at for end in ends] for at in (3 * width, 3 * width + 0.1))
            assert not said([*others, *near])
            message, = said([*others, *far])
            assert f"{count:,} of {n:,} ratings" in message


def test_the_warning_is_of_all_ratings_and_not_of_strengths():
    df = pd.DataFrame({"u": np.arange(600) % 20, "i": np.arange(600) // 20, "r": [1000, *FIVE[1:]]})
    with pytest.warns(CollabWarning, match="column 'r': 1 of 600 ratings, such as 1,000, is far"):
        data = CollabDataBunch.from_df(df, valid_pct=0, seed=0)
    assert data.y_range[1] > 1000 and collab_learner(data, n_factors=2, y_range=None) is not None
    with pytest.warns(CollabWarning, match="1 of 600 ratings, such as 1,000, .* or the error where they are held out"):
        CollabDataBunch.from_df(df, split=rows_split([0]), seed=0)
    CollabDataBunch.from_df(df, valid_pct=0, implicit=True, rating_name="r", seed=0)


COUNTS = np.ceil(np.random.default_rng(2).geometric(0.2, 2000)).astype(float)


@pytest.mark.parametrize("odd, count, is_more", [([1e6], "1 of 2,001", "is"), ([1e6, 2e5, 1e6], "3 of 2,003", "are")])
def test_strengths_that_outweigh_all_others_are_counted_and_named(odd, count, is_more):
    message, = said([*odd, *COUNTS], implicit=True)
    assert message.startswith(f"column 'stars': {count} strengths, such as 1,000,000, {is_more} more than all others "
                              f"together, which go up to {COUNTS.max():,.0f}: ") and "leave the column out" in message
    assert not said(COUNTS, implicit=True)


def test_one_strength_outweighs_others_from_their_sum_and_a_thousand_times_the_upper_percentile_on():
    others = [1.0] * 900
    assert said([*others, 1001], implicit=True) and not said([*others, 1000], implicit=True)
    many = [1.0] * 5000
    assert said([*many, 5001], implicit=True) and not said([*many, 5000], implicit=True)


@pytest.mark.parametrize("n", [20, 100, 1000, 30_000])
def test_a_long_tail_of_counts_is_not_warned_of(n):
    rng = np.random.default_rng(n)
    assert not said(np.ceil(n / np.arange(1, n + 1)), implicit=True)                  # Zipf's law itself
    for _ in range(20):
        assert not said(np.ceil(rng.lognormal(0, 2, n)), implicit=True)
        assert not said(rng.zipf(3, n), implicit=True)
    assert not said(np.ones(n), implicit=True)


def test_choices_are_warned_of_in_training_and_in_the_report_with_its_row():
    table = pd.DataFrame({"user": np.arange(2000) // 20, "item": np.arange(2000) % 50, "plays": COUNTS})
    table.loc[7, "plays"] = 1e6
    with pytest.warns(CollabWarning, match="'plays': 1 of 2,000 strengths, such as 1,000,000, is more than all others"):
        data = CollabDataBunch.from_df(table, implicit=True, seed=0)
    for report in (DataReport.from_df(table, implicit=True), DataReport.from_df(table)):
        row = report.problems[report.problems["what"].str.contains("more than all others")].iloc[0]
        assert row["at"] == [7] and not row["stops"] and report.family == "counts"
    assert data.report().problems["what"].str.contains("more than all others").any()
