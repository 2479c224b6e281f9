"""Intervals and paired tests: against distributions that are known, and against every sign counted."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from collab import CollabDataBunch, CollabWarning, Popularity, RankingResult, compare, evaluate
from collab.data.split import rows_split
from collab.evaluate import resampling
from collab.evaluate.held_out import _id_keys


def result(users=None, k: int = 10, **metrics: list[float]) -> RankingResult:
    n = len(next(iter(metrics.values())))
    per_user = pd.DataFrame({"user": list(range(n)) if users is None else users, "n_relevant": 3, **metrics})
    return RankingResult("Model", k, per_user, per_user[list(metrics)].mean(), {})


def test_the_bootstrap_of_a_hit_rate_is_the_binomial_distribution():
    hits = result(hit=[1.0] * 30 + [0.0] * 70)
    for level in (0.5, 0.95):
        (mean, low, high), = hits.interval(level, n=20_000).to_numpy()
        theirs = stats.binom(100, 0.3).interval(level)
        assert mean == 0.3 and [low, high] == pytest.approx([edge / 100 for edge in theirs], abs=0.0101)


def test_the_interval_of_a_mean_has_its_standard_error():
    values = np.random.default_rng(0).normal(size=2000).tolist()
    low, high = result(ndcg=values).interval(0.95, n=4000).loc["ndcg", ["low", "high"]]
    assert (high - low) / 2 == pytest.approx(1.96 / math.sqrt(2000), rel=0.05)


def test_intervals_repeat_and_do_not_depend_on_how_the_work_is_cut(monkeypatch: pytest.MonkeyPatch):
    some = result(ndcg=np.random.default_rng(0).random(31).tolist())
    np.random.seed(0)
    before, whole = np.random.get_state()[1].tolist(), some.interval(seed=1, n=100)
    assert np.random.get_state()[1].tolist() == before
    monkeypatch.setattr(resampling, "MAX_WEIGHTS", 70)
    pd.testing.assert_frame_equal(some.interval(seed=1, n=100), whole)
    assert not some.interval(seed=2, n=100).equals(whole)


def test_the_p_value_is_the_share_of_signs_that_give_as_much():
    a, b = [0.9, 0.4, 0.8, 0.3, 0.7, 0.6, 0.35, 0.5], [0.5, 0.5, 0.5, 0.1, 0.8, 0.2, 0.1, 0.2]
    d = np.array(a) - np.array(b)
    flipped = [abs(np.dot(signs, d)) for signs in itertools.product([-1, 1], repeat=8)]
    exact = np.mean(np.array(flipped) >= abs(d.sum()) - 1e-12)
    row = compare(result(ndcg=a), result(ndcg=b), n=20_000).loc["ndcg"]
    assert row["p_value"] == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 20_000))
    assert row["difference"] == pytest.approx(d.mean()) and row["a"] == pytest.approx(np.mean(a)) and row["users"] == 8
    assert row["low"] < d.mean() < row["high"]
    theirs = stats.permutation_test((a, b), lambda x, y: np.mean(x - y), permutation_type="samples")
    assert exact == pytest.approx(theirs.pvalue)


def test_signs_that_give_as_much_count_although_their_sums_differ_in_the_last_bit():
    for seed in range(10):
        d = np.random.default_rng(seed).random(7)
        p = compare(result(ndcg=d), result(ndcg=[0.0] * 7), n=10_000).loc["ndcg", "p_value"]
        assert p == pytest.approx(2 / 2 ** 7, abs=5 * math.sqrt(2 / 2 ** 7 / 10_000))     # all plus, or all minus


def test_equal_results_differ_by_nothing_and_others_surely():
    same = result(ndcg=[0.1, 0.5, 0.9], hit=[0.0, 1.0, 1.0])
    assert (compare(same, same)[["difference", "low", "high"]] == 0).all(axis=None)
    assert (compare(same, same)["p_value"] == 1).all()
    clear = compare(result(hit=[1.0] * 50), result(hit=[0.0] * 50), n=999).loc["hit"]
    assert clear["p_value"] == 1 / 1000 and clear["low"] == clear["high"] == 1


def test_swapping_the_two_swaps_the_signs():
    rng = np.random.default_rng(0)
    a, b = result(ndcg=rng.random(40)), result(ndcg=rng.random(40))
    ab, ba = compare(a, b).loc["ndcg"], compare(b, a).loc["ndcg"]
    assert ab["difference"] == -ba["difference"] and ab["p_value"] == ba["p_value"]
    assert [ab["low"], ab["high"]] == pytest.approx([-ba["high"], -ba["low"]])


def test_only_users_and_metrics_that_both_have_are_compared():
    a = result(users=[("x", 1), ("x", 2), ("y", 1)], ndcg=[0.1, 0.2, 0.3], hit=[1.0, 1.0, 0.0])
    b = result(users=[("y", 1), ("z", 1), ("x", 1)], mrr=[0.1, 0.2, 0.3], ndcg=[0.5, 0.0, 0.2])
    with pytest.warns(CollabWarning, match="^not compared, since a or b alone has them: users 2, metrics hit, mrr"):
        table = compare(a, b)
    assert table.index.tolist() == ["ndcg"]
    assert table.loc["ndcg", ["a", "b", "difference", "users"]].tolist() == pytest.approx([0.2, 0.35, -0.15, 2])


def test_users_for_whom_a_metric_is_not_defined_weigh_nothing():
    a, b = result(auc=[math.nan, 0.8, 0.6, 0.7]), result(auc=[0.1, 0.6, math.nan, 0.5])
    assert compare(a, b).loc["auc", ["a", "b", "difference", "users"]].tolist() == pytest.approx([0.75, 0.55, 0.2, 2])
    (mean, low, high), = a.interval().to_numpy()
    assert mean == pytest.approx(0.7) and 0.6 <= low < mean < high <= 0.8 + 1e-12
    nobody = result(auc=[math.nan, math.nan])
    assert nobody.interval().isna().all(axis=None)
    assert compare(nobody, nobody).loc["auc"].isna().tolist() == [True] * 6 + [False]


def test_what_cannot_be_compared_is_refused():
    a = result(ndcg=[0.5, 0.5])
    with pytest.raises(ValueError, match="a was evaluated with k=10, b with k=5"):
        compare(a, result(k=5, ndcg=[0.5, 0.5]))
    with pytest.raises(ValueError, match="share 0 users and 1 metrics"):
        compare(a, result(users=[7, 8], ndcg=[0.5, 0.5]))
    with pytest.raises(ValueError, match="share 2 users and 0 metrics"):
        compare(a, result(hit=[1.0, 1.0]))
    other = result(ndcg=[0.5, 0.5])
    other.per_user.loc[0, "n_relevant"] = 4
    with pytest.raises(ValueError, match="1 of 2 users had other relevant items in a than in b.*unknown_items='miss'"):
        compare(a, other)
    for options, message in (({"level": 95}, "between 0 and 1, got 95"), ({"n": 0}, "at least 1, got 0")):
        with pytest.raises(ValueError, match=message):
            a.interval(**options)
        with pytest.raises(ValueError, match=message):
            compare(a, a, **options)


def ranked(rows: list[tuple], n_train: int, held_out: pd.DataFrame | None = None, **options) -> RankingResult:
    df = pd.DataFrame(rows, columns=["user", "item", "rating"])
    data = CollabDataBunch.from_df(df, split=rows_split(range(n_train, len(df))), seed=0, device="cpu")
    return evaluate(Popularity(data), held_out, k=2, **options)


@pytest.mark.parametrize("a, b, c", [("a", "b", "c"), (1, 2, 3), (("x", 1), ("x", 2), ("y", 1)),
                                     tuple(pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]))])
def test_as_many_relevant_items_that_are_others_are_told_from_the_same_ones(a, b, c):
    train = [(7, a, 1.0), (7, b, 1.0), (7, c, 1.0), (8, a, 1.0), (9, b, 1.0)]
    one, two, turned = ([*train, *rows] for rows in (
        [(8, b, 1.0), (9, a, 1.0), (9, c, 1.0)], [(8, c, 1.0), (9, a, 1.0), (9, c, 1.0)],
        [(9, c, 1.0), (9, a, 1.0), (8, b, 1.0)]))
    with pytest.raises(ValueError, match="^1 of 2 users had other relevant items in a than in b; evaluate both on the "
                                         "same held-out rows"):
        compare(ranked(one, 5), ranked(two, 5))
    assert compare(ranked(one, 5), ranked(turned, 5)).loc["ndcg", "users"] == 2
    assert list(ranked(one, 5, metrics="hit").per_user) == ["user", "n_relevant", "hit"]
    shifted = [(7, _before(a), 1.0), *train]            # the same ids in other rows
    held_out = pd.DataFrame(one[5:], columns=["user", "item", "rating"])
    assert compare(ranked(one, 5), ranked(shifted, 6, held_out)).loc["ndcg", "users"] == 2


def _before(id):
    """An id of the same kind that sorts before it."""
    if isinstance(id, tuple):
        return ("a", 0)
    return "A" if isinstance(id, str) else 0 if isinstance(id, int) else id - pd.Timedelta(days=9)


def test_items_that_one_of_two_vocabs_lacks_are_known_by_their_ids_in_a_table_and_by_their_number_in_batches():
    wide = [(7, "A", 1.0), (7, "B", 1.0), (7, "C", 1.0), (8, "A", 1.0)]
    narrow = [(7, "A", 1.0), (7, "B", 1.0), (8, "A", 1.0)]
    by_id = [pd.DataFrame({"user": [8], "item": [item], "rating": [1.0]}) for item in "CD"]
    both = [ranked(rows, len(rows), by_id[0], unknown_items="miss") for rows in (wide, narrow)]
    assert compare(*both).loc["ndcg", "users"] == 1
    with pytest.raises(ValueError, match="1 of 1 users"):
        compare(both[0], ranked(narrow, 3, by_id[1], unknown_items="miss"))
    batches = ranked([*narrow, (8, "C", 1.0)], 3, unknown_items="miss")
    assert compare(both[0], batches).loc["ndcg", "users"] == 1


def test_whether_seen_items_were_ranked_must_be_the_same_and_kinds_of_users_may_differ():
    rows = [(7, "A", 1.0), (7, "B", 1.0), (8, "A", 1.0), (8, "B", 1.0)]
    with pytest.raises(ValueError, match="a was evaluated with exclude='train', b with exclude=None"):
        compare(ranked(rows, 3), ranked(rows, 3, exclude=None))
    with pytest.raises(ValueError, match="share 0 users"):
        compare(ranked(rows, 3), ranked([(str(user), item, rating) for user, item, rating in rows], 3))
    as_floats = [(float(user), item, rating) for user, item, rating in rows]
    assert compare(ranked(rows, 3), ranked(as_floats, 3)).loc["ndcg", "users"] == 1


def test_an_id_has_one_key_however_it_is_stored():
    day = pd.Timestamp(2020, 1, 1)
    same = [5, 5.0, np.int32(5)], [("x", 1), ("x", np.int64(1))], [day, day.to_pydatetime(), day.to_datetime64()]
    assert all(len(set(_id_keys(ids).tolist())) == 1 for ids in same)
    assert len({*_id_keys([5, "5", ("5",), True, 5.5]).tolist()}) == 5
