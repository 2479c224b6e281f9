"""evaluate for several k at once: what it says for each is what it says for that alone."""

from __future__ import annotations

import pandas as pd
import pytest

from collab import (
    CollabDataBunch,
    CollabLearner,
    Popularity,
    RankingMetrics,
    SaveBest,
    collab_learner,
    compare,
    cross_validate,
    evaluate,
    synthetic,
)
from collab.evaluate.evaluation import NAMES

RATINGS = synthetic(n_users=60, n_items=40, n_ratings=1_200, seed=0).ratings


@pytest.fixture(scope="module")
def learn() -> CollabLearner:
    learn = collab_learner(CollabDataBunch.from_df(RATINGS, seed=0, bs=256, device="cpu"), n_factors=4)
    with learn.no_logging():
        learn.fit(2)
    return learn


def test_each_k_is_what_it_is_alone(learn: CollabLearner):
    several = evaluate(learn, k=[5, 1, 60], metrics=NAMES)          # 60: more than there are items
    assert several.k == (5, 1, 60)
    assert several.metrics[:4] == ["ndcg@5", "ndcg@1", "ndcg@60", "precision@5"] and "auc" in several.metrics
    assert "coverage@1" in several.summary and "coverage@1" not in several.per_user
    for k in several.k:
        alone, one = evaluate(learn, k=k, metrics=NAMES), several.at(k)
        assert one.k == k and one.left_out == alone.left_out
        pd.testing.assert_frame_equal(one.per_user, alone.per_user)
        pd.testing.assert_series_equal(one.summary, alone.summary)
        pd.testing.assert_frame_equal(one.baseline.per_user, alone.baseline.per_user)
        for name in NAMES:
            named = name if name == "auc" else f"{name}@{k}"
            assert several.summary[named] == pytest.approx(alone.summary[name], abs=1e-12, nan_ok=True)
        assert alone.at(k) is alone
    assert evaluate(learn, k=[7]).metrics[0] == "ndcg@7"
    with pytest.raises(ValueError, match="k=2 is not what was evaluated"):
        several.at(2)


def test_its_intervals_and_its_comparison_have_a_row_a_metric_and_k(learn: CollabLearner):
    options = {"k": (1, 5), "metrics": ("ndcg", "auc")}
    a, b = evaluate(learn, **options), evaluate(Popularity(learn.data), **options)
    assert a.interval(n=50).index.tolist() == ["ndcg@1", "ndcg@5", "auc"]
    both, five = compare(a, b, n=50), compare(a.at(5), b.at(5), n=50)
    assert both.index.tolist() == ["ndcg@1", "ndcg@5", "auc"] and five.index.tolist() == ["ndcg", "auc"]
    assert both.loc["ndcg@5", "difference"] == five.loc["ndcg", "difference"] != both.loc["ndcg@1", "difference"]
    with pytest.raises(ValueError, match=r"a was evaluated with k=\(1, 5\), b with k=5; .* with at\(k\)"):
        compare(a, b.at(5))
    shown = repr(a).splitlines()
    assert shown[0] == f"Top 1, 5 of {len(a.per_user)} users" and shown[2].startswith("ndcg@1 ")


def test_they_are_recorded_and_watched_epoch_by_epoch(learn: CollabLearner):
    again = collab_learner(learn.data, n_factors=4, cbs=[RankingMetrics((1, 5), ("ndcg", "auc")), SaveBest("ndcg@5")])
    with again.no_logging():
        again.fit(2)
    row = again.recorder.rows[-1]
    assert [name for name in row if name[:3] in ("ndc", "auc")] == ["ndcg@1", "ndcg@5", "auc"]
    assert max(row["ndcg@5"] for row in again.recorder.rows) == evaluate(again, k=5).summary["ndcg"]


@pytest.mark.filterwarnings("ignore:.*, and mean and biases alone have:collab.CollabWarning")     # after one epoch
def test_they_are_measured_fold_by_fold():
    def quietly(learn: CollabLearner) -> None:
        with learn.no_logging():
            learn.fit(1)
    options = {"folds": 2, "fit": quietly, "bs": 256, "device": "cpu"}
    table = cross_validate(collab_learner, RATINGS, ranking=("ndcg", "auc"), k=[1, 5], **options)
    assert list(table)[4:-1] == [f"{name}{of}" for name in ("ndcg@1", "ndcg@5", "auc") for of in ("", " of popularity")]
    alone = cross_validate(collab_learner, RATINGS, ranking="ndcg", k=5, **options)
    assert table["ndcg@5"].tolist() == alone["ndcg@5"].tolist()


@pytest.mark.parametrize("k, message", [([], "at least one of them, got .."), ([5, 5], "distinct"), ([5, 0], "got 0"),
                                        ([2.5], "got 2.5"), ("10", "got '10'"), ([True], "got True")])
def test_numbers_that_make_no_sense_are_refused(learn: CollabLearner, k, message):
    for ask in (lambda: evaluate(learn, k=k), lambda: RankingMetrics(k)):
        with pytest.raises(ValueError, match=message):
            ask()
