"""Synthetic ratings: made as they say, in the shape that real ones have, and learnable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collab.datasets.rating_set import RatingSet
from collab.datasets.synthetic import synthetic
from collab.errors import DataError


@pytest.fixture(scope="module")
def default() -> RatingSet:
    return synthetic()


def true_scores(ml: RatingSet) -> np.ndarray:
    """mean + biases + p . q of each rating, straight from the formula."""
    t = ml.truth
    return np.array([t.mean + t.u_bias[u - 1] + t.i_bias[i - 1] + t.u_factors[u - 1] @ t.i_factors[i - 1]
                     for u, i in zip(ml.ratings["user"], ml.ratings["item"], strict=True)])


def test_without_noise_a_rating_is_its_formula_rounded_and_clipped():
    ml = synthetic(30, 20, 200, seed=3, noise=0, scale=(0.5, 5), step=0.5)
    expected = np.clip(np.round(true_scores(ml) * 2) / 2, 0.5, 5)
    np.testing.assert_allclose(ml.ratings["rating"], expected)


def test_noise_has_the_size_asked_for():
    ml = synthetic(200, 100, 10_000, noise=0.5, scale=(-100, 100), step=0.001)  # hardly rounded at all
    truth = true_scores(ml)
    rest = (ml.ratings["rating"] - truth)[np.abs(truth) < 97]  # beyond, the ends of the scale clip
    assert len(rest) > 9_000
    assert rest.mean() == pytest.approx(0, abs=0.02)
    assert rest.std() == pytest.approx(0.5, abs=0.02)


def test_same_shape_as_movielens(default):
    assert repr(default) == "synthetic: 20,000 ratings, 500 users, 300 items, 1 to 5"
    assert list(default.ratings) == ["user", "item", "rating", "time"]
    assert default.ratings.dtypes.astype(str).tolist() == ["int64", "int64", "float64", "int64"]
    assert list(default.items) == ["item", "title", "year", "genres"]
    assert list(default.users) == ["user", "age", "gender", "occupation", "zip"]
    assert default.items["item"].tolist() == list(range(1, 301))
    assert default.users["user"].tolist() == list(range(1, 501))
    first = default.items.iloc[0]
    assert first["title"] == f"Film 1 ({first['year']})"
    t = default.truth
    assert (t.u_factors.shape, t.i_factors.shape) == ((500, 5), (300, 5))
    assert (t.u_bias.shape, t.i_bias.shape) == ((500,), (300,))
    assert set(default.ratings["rating"]) == {1, 2, 3, 4, 5}
    assert default.ratings["time"].is_monotonic_increasing and default.ratings["time"].is_unique


def test_popularity_has_a_long_tail_and_can_be_even(default):
    counts = default.ratings["item"].value_counts()
    assert counts.iloc[:30].sum() > 3 * counts.iloc[-30:].sum()
    even = synthetic(popularity=0, activity=0).ratings["item"].value_counts()
    assert even.std() < 1.2 * np.sqrt(even.mean())  # as even as chance allows: a Poisson spread
    assert counts.std() > 5 * even.std()


def test_genres_follow_the_factors(default):
    """The first factor ends in Action above and in Romance below."""
    genres, first = default.items["genres"].str.split("|"), default.truth.i_factors[:, 0]
    action = np.array(["Action" in g for g in genres])
    romance = np.array(["Romance" in g for g in genres])
    assert action.sum() > 20 and (first[action] > 0).all()
    assert romance.sum() > 20 and (first[romance] < 0).all()
    assert all(genres.str.len() >= 1)


def test_seed_decides_everything(default):
    again = synthetic(seed=0)
    for table in ("ratings", "items", "users"):
        pd.testing.assert_frame_equal(getattr(again, table), getattr(default, table))
    assert not synthetic(seed=1).ratings.equals(default.ratings)


def test_global_random_state_is_neither_used_nor_touched():
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    one = synthetic(20, 20, 50).ratings
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(2)
    assert synthetic(20, 20, 50).ratings.equals(one)


@settings(max_examples=60, deadline=None)
@given(n_users=st.integers(1, 30), n_items=st.integers(1, 30), share=st.floats(0, 1), seed=st.integers(0, 1000),
       popularity=st.floats(0, 3))
def test_pairs_are_distinct_and_nobody_is_left_out(n_users, n_items, share, seed, popularity):
    n = max(1, round(share * n_users * n_items))
    r = synthetic(n_users, n_items, n, seed=seed, popularity=popularity).ratings
    assert len(r) == n and not r.duplicated(["user", "item"]).any()
    if n >= max(n_users, n_items):
        assert (r["user"].nunique(), r["item"].nunique()) == (n_users, n_items)


@pytest.mark.parametrize("n_users, n_items, n_ratings", [(3000, 40, 5000), (40, 3000, 5000), (400, 300, 14_000)])
def test_a_thin_table_is_covered_too(n_users, n_items, n_ratings):
    r = synthetic(n_users, n_items, n_ratings).ratings
    assert len(r) == n_ratings and not r.duplicated(["user", "item"]).any()
    assert (r["user"].nunique(), r["item"].nunique()) == (n_users, n_items)


def test_many_users_and_items_need_no_table_of_both():
    """A table of 200,000 x 100,000 would take 20 GB even at a byte a cell."""
    ml = synthetic(200_000, 100_000, 300_000)
    assert repr(ml) == "synthetic: 300,000 ratings, 200,000 users, 100,000 items, 1 to 5"


def rmse_of_factors(ml: RatingSet, n_factors: int, reg: float = 4.0, n_sweeps: int = 15) -> float:
    """RMSE on a fifth of the ratings of a factor model with biases, fitted to the rest by alternating least squares."""
    rng = np.random.default_rng(0)
    test = rng.random(len(ml.ratings)) < 0.2
    u, i = ml.ratings["user"].to_numpy() - 1, ml.ratings["item"].to_numpy() - 1
    mean = ml.ratings["rating"][~test].mean()
    r = ml.ratings["rating"].to_numpy() - mean
    # Columns: factors, then (own bias, 1) for users and (1, own bias) for items, so that a product holds both biases.
    p = rng.normal(0, 0.1, (len(ml.users), n_factors + 2))
    q = rng.normal(0, 0.1, (len(ml.items), n_factors + 2))
    p[:, -1] = q[:, -2] = 1
    for _ in range(n_sweeps):
        for own, other, rows, cols, fixed in ((p, q, u, i, -1), (q, p, i, u, -2)):
            free = [c for c in range(n_factors + 2) if c != n_factors + 2 + fixed]
            for row in range(len(own)):
                mine = np.flatnonzero((rows == row) & ~test)
                x, y = other[cols[mine]][:, free], r[mine] - other[cols[mine], fixed]
                own[row, free] = np.linalg.solve(x.T @ x + reg * np.eye(len(free)), x.T @ y)
    guess = mean + (p[u[test]] * q[i[test]]).sum(1)
    return float(np.sqrt(((guess - ml.ratings["rating"][test]) ** 2).mean()))


def test_biases_beat_the_mean_and_factors_beat_biases(default):
    spread = default.ratings["rating"].std()
    biases, factors = rmse_of_factors(default, 0, n_sweeps=3), rmse_of_factors(default, 5)
    assert biases < 0.92 * spread
    assert factors < 0.85 * biases


def test_biases_alone_are_possible():
    ml = synthetic(20, 20, 100, n_factors=0)
    assert ml.truth.u_factors.shape == (20, 0) and set(ml.items["genres"]) == {""}


@pytest.mark.parametrize("wrong, said", [
    ({"n_users": 3, "n_items": 4, "n_ratings": 13}, "13 is more than the 12 distinct pairs"),
    ({"n_users": 0}, "n_users=0"), ({"n_items": -1}, "n_items=-1"), ({"n_ratings": 0}, "n_ratings=0"),
    ({"n_users": 2.5}, "n_users=2.5"), ({"n_factors": -1}, "n_factors=-1"), ({"noise": -0.1}, "noise=-0.1"),
    ({"noise": float("nan")}, "noise=nan"), ({"popularity": -1}, "popularity=-1"), ({"step": 0.3}, "step=0.3"),
    ({"step": 0}, "step=0"), ({"step": -1}, "step=-1"), ({"step": 8}, "step=8"), ({"scale": (5, 1)}, "scale="),
    ({"scale": 5}, "scale=5"), ({"scale": (1, float("inf"))}, "scale=")])
def test_impossible_requests_are_refused(wrong, said):
    with pytest.raises(DataError, match=said):
        synthetic(**wrong)
