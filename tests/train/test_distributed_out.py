"""What several processes evaluate, recommend and write is what one does."""

import pandas as pd
import pytest
import torch
from processes import in_processes, values

from collab import (
    BPR,
    RMSE,
    CollabDataBunch,
    Popularity,
    RankingMetrics,
    collab_learner,
    evaluate,
    load_learner,
    synthetic,
)
from collab.processes import by_turns, team

MADE = synthetic(n_users=60, n_items=80, n_ratings=1_500, seed=3)
METRICS = "ndcg", "recall", "mrr", "auc", "coverage", "novelty", "popularity", "diversity"


def learner(model="dot_bias", **options):
    data = CollabDataBunch.from_df(MADE.ratings, seed=0, bs=100, device="cpu")
    return collab_learner(data, model, n_factors=5, lr=5e-3, wd=0.1, seed=1, **options)


@pytest.mark.parametrize("model", ["dot_bias", "svdpp", "net"])
def test_rankings_are_equal_to_the_last_digit(model):
    def measured(rank):
        learn = learner(model)
        with learn.distributed():
            result = evaluate(learn, k=[1, 5], metrics=METRICS)
            diverse = evaluate(learn, k=5, diversity=0.3)
            return result.per_user, result.summary, result.baseline.summary, diverse.summary
    one = measured(0)
    for each in values(in_processes(3, measured)):
        for table, own in zip(each, one):
            assert table.equals(own)


def test_ranking_metrics_of_a_fit():
    """Each process ranks its share of users; the history has all."""
    def fitted(rank):
        learn = learner("dot_bias", cbs=[BPR(), RankingMetrics(k=5)])
        with learn.no_logging(), learn.distributed():
            learn.fit(1, lr=0.0, wd=0.0)
        return learn.recorder.rows[0]["ndcg@5"]
    one = fitted(0)
    assert values(in_processes(2, fitted)) == [one, one]


def test_recommendations_for_all(tmp_path, monkeypatch):
    """Several tables, in the order of users, and one file."""
    monkeypatch.setattr("collab.learner.batch_output.MAX_ROWS", 60)

    def made(rank):
        learn = learner()
        with learn.distributed():
            learn.recommend_all(5, path=tmp_path / f"{rank}.csv")
            return pd.concat(learn.recommend_all(5))
    one = made(0)
    text = (tmp_path / "0.csv").read_bytes()
    for table in values(in_processes(3, made)):
        pd.testing.assert_frame_equal(table, one)
    assert [path.name for path in tmp_path.iterdir()] == ["0.csv"] and (tmp_path / "0.csv").read_bytes() == text


def test_the_exported_file_is_the_usual_one(tmp_path):
    def trained(rank):
        learn = learner(metrics=RMSE())
        with learn.no_logging(), learn.distributed():
            learn.fit(1)
            learn.export(tmp_path / f"model{rank}")
            learn.save(tmp_path / f"state{rank}")
        return learn.predict(1, 5)
    many = values(in_processes(2, trained))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model0", "model0.md", "state0"]
    assert load_learner(tmp_path / "model0").predict(1, 5) == many[0] == many[1]


def test_an_error_in_one_share_ends_all():
    def measured(rank):
        learn = learner()
        with learn.distributed(minutes=0.3):
            if rank:
                with torch.no_grad():
                    learn.model.i_weight.weight.fill_(torch.nan)
            evaluate(learn)
    first, second = in_processes(2, measured)
    assert second[0] == "raised" and first[1] == f"OtherProcess: process 1 has failed with {second[1]}"


def test_works_by_turns():
    """Each process does every third of seven; all have all results in order."""
    done = []

    class Three:
        rank, size = 1, 3

        def exchange(self, mine):
            return ["of 0", mine, "of 2"]
    with team(Three()):
        results = list(by_turns([lambda k=k: done.append(k) or k for k in range(7)]))
    assert done == [1, 4] and results == ["of 0", 1, "of 2", "of 0", 4, "of 2", "of 0"]


def test_popularity_too():
    def measured(rank):
        with learner().distributed():
            return evaluate(Popularity(learner().data), k=5, metrics=METRICS[:-1]).summary
    one = measured(0)
    assert all(each.equals(one) for each in values(in_processes(2, measured)))
