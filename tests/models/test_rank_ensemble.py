"""RankEnsemble: learners that rank as one, by standardised scores."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from collab import (
    ALS,
    CollabDataBunch,
    CollabLearner,
    DataError,
    EmbeddingDotBias,
    Ensemble,
    RankEnsemble,
    average_learners,
    collab_learner,
    evaluate,
    load_learner,
    per_user_split,
    synthetic,
)
from collab.learner import ensembles as ensembles_module
from collab.models.rank_ensemble import moments


def some_data(**options: Any) -> CollabDataBunch:
    ml = synthetic(40, 25, 500, seed=1)
    return CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, device="cpu", **options)


def fitted(name: str, data: CollabDataBunch, seed: int = 0) -> CollabLearner:
    learn: Any = collab_learner(data, name, n_factors=4, seed=seed)
    with learn.no_logging():
        learn.fit() if name in ("als", "ease", "infinite_ae") else learn.fit(2)
    return learn


def all_scores(learn: CollabLearner) -> np.ndarray:
    return learn.model.eval().cross(torch.arange(learn.data.n_users), torch.arange(learn.data.n_items)).detach().numpy()


def standard(scores: np.ndarray) -> np.ndarray:
    """With a mean of 0 and a deviation of 1 over the known items of each user."""
    return (scores - scores[:, 1:].mean(1, keepdims=True)) / scores[:, 1:].std(1, keepdims=True)


NAMES = ("als", "ease", "bpr", "softmax")


@pytest.fixture(scope="module")
def learners() -> list[CollabLearner]:
    data = some_data()
    return [fitted(name, data) for name in NAMES]


def test_it_is_the_mean_of_standardised_scores(learners, monkeypatch):
    whole = average_learners(learners)
    assert type(whole.model) is RankEnsemble and whole.scale is None and not whole.model.training
    expected = np.mean([standard(all_scores(learn)) for learn in learners], 0)
    np.testing.assert_allclose(all_scores(whole), expected, atol=1e-5)
    users, items = list(whole.data.users)[:5], list(whole.data.items)[:5]
    rows = whole.data.users.encode(users), whole.data.items.encode(items)
    np.testing.assert_allclose(whole.predict(users, items), expected[rows], atol=1e-5)
    monkeypatch.setattr(ensembles_module, "MAX_SCORES", 60)
    in_blocks = average_learners(learners).model
    torch.testing.assert_close(in_blocks.centre, whole.model.centre, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(in_blocks.spread, whole.model.spread, rtol=1e-5, atol=1e-5)


def test_the_scale_of_a_member_does_not_matter():
    data = some_data()
    als, ease = fitted("als", data), fitted("ease", data)
    before = average_learners([als, ease]).recommend(1, n=20)
    with torch.no_grad():
        ease.model.weight *= 1000
    pd.testing.assert_frame_equal(average_learners([als, ease]).recommend(1, n=20), before, rtol=1e-4)


def test_the_members_are_copies_and_stay_what_they_are(learners):
    before = [{k: t.clone() for k, t in learn.model.state_dict().items()} for learn in learners]
    whole = average_learners(learners)
    assert all(p.requires_grad for p in learners[2].model.parameters())
    with torch.no_grad():
        whole.model.members[0].u_weight.weight.zero_()
    for learn, state in zip(learners, before):
        assert all(torch.equal(t, state[k]) for k, t in learn.model.state_dict().items())


def test_a_file_gives_the_same_recommendations(learners, tmp_path):
    whole = average_learners(learners)
    loaded = load_learner(whole.export(tmp_path / "m.safetensors"), device="cpu")
    assert type(loaded.model) is RankEnsemble and loaded.scale is None
    users = list(whole.data.users)
    pd.testing.assert_frame_equal(loaded.recommend(users, n=5), whole.recommend(users, n=5))
    rated = Ensemble([fitted("ease", whole.data).model])        # histories are told to members of any ensemble
    learn = CollabLearner(whole.data, rated)
    loaded = load_learner(learn.export(tmp_path / "e.safetensors"), device="cpu")
    np.testing.assert_array_equal(all_scores(loaded), all_scores(learn))


def test_somebody_new_has_the_mean_of_the_members_standardised_scores(learners):
    als, ease, _, softmax = learners
    own, items = {3: 5.0, 8: 4.0, 20: 5.0}, list(als.data.items)
    parts = [learn.predict(ratings=own, item=items) for learn in (als, ease, softmax)]
    expected = np.mean([(p - p.mean()) / p.std() for p in parts], 0)
    whole = average_learners([als, ease, softmax])
    np.testing.assert_allclose(whole.predict(ratings=own, item=items), expected, atol=1e-5)
    found = whole.recommend(ratings=own, n=3)
    order = [item for _, item in sorted(zip(-expected, items)) if item not in own]
    assert found["item"].tolist() == order[:3]
    assert not any(whole.recommend(ratings=own, n=25)["item"].isin(own))


def test_it_has_no_loss_and_is_not_trained(learners, tmp_path):
    whole = average_learners(learners[:2])
    assert np.isnan(whole.validate()["valid_loss"]) and len(whole.get_preds()[0]) == whole.data.valid.n
    before = {k: t.clone() for k, t in whole.model.state_dict().items()}
    with pytest.raises(TypeError, match=r"no loss: train its members; evaluate\(learn\) measures"):
        whole.fit(1)
    assert all(torch.equal(t, before[k]) for k, t in whole.model.state_dict().items())
    whole.save(tmp_path / "c.safetensors")
    assert "RankEnsemble" in str(whole.summary())


def test_dot_models_of_one_objective_are_folded_and_rank_on():
    """The mean of scores is the score of one model, which has an index, and is not clipped to the ratings' scale."""
    data = some_data()
    one, other = fitted("bpr", data), fitted("bpr", data, seed=1)
    whole = average_learners([one, other])
    assert type(whole.model) is EmbeddingDotBias and whole.objective is not one.objective
    assert repr(whole.objective) == repr(one.objective)
    np.testing.assert_allclose(all_scores(whole), (all_scores(one) + all_scores(other)) / 2, atol=1e-5)
    item = next(iter(data.items))
    assert whole.predict(1, item) == pytest.approx((one.predict(1, item) + other.predict(1, item)) / 2, abs=1e-5)
    assert len(whole.index().recommend(1, 3)) == 3
    apart = average_learners([one, other], merge=False)
    np.testing.assert_allclose(all_scores(apart), (standard(all_scores(one)) + standard(all_scores(other))) / 2,
                               atol=1e-5)


def test_a_rater_beside_a_ranker_ranks():
    data = some_data()
    for ranker in ("als", "bpr"):       # the second is of the same class, and still on another scale
        whole = average_learners([fitted("dot_bias", data), fitted(ranker, data)])
        assert type(whole.model) is RankEnsemble and whole.scale is None and not whole.scores.metrics


def test_together_two_models_rank_better_than_each(ml100k):
    data = CollabDataBunch.from_df(ml100k.ratings, split=per_user_split(0.25, seed=9), seed=0, device="cpu")
    als = collab_learner(data, ALS(32, data.n_users, data.n_items), seed=0)
    ae: Any = collab_learner(data, "infinite_ae")
    for learn in (als, ae):
        with learn.no_logging():
            learn.fit()
    alone = [evaluate(learn, metrics=("ndcg",)).summary["ndcg"] for learn in (als, ae)]
    assert evaluate(average_learners([als, ae]), metrics=("ndcg",)).summary["ndcg"] > max(alone) + 0.003


def test_other_training_rows_are_warned_of_and_a_single_learner_is_no_list():
    ml = synthetic(40, 25, 500, seed=1)
    one, other = (CollabDataBunch.from_df(ml.ratings, split=per_user_split(0.25, seed), items=ml.items, seed=0,
                                          device="cpu", item_features="auto") for seed in (0, 1))
    with pytest.warns(UserWarning, match="were trained on different rows"):
        average_learners([fitted("als", one), fitted("als", other)])
    for name in ("ease", "softmax"):
        with pytest.raises(DataError, match="different rows, and some of their models score from these"):
            average_learners([fitted("als", one), fitted(name, other)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        average_learners([fitted("als", one), fitted("als", one, seed=1)])
    with pytest.raises(ValueError, match="give a list of them"):
        average_learners(fitted("als", one))


def test_learners_over_other_data_are_refused(learners):
    other = CollabDataBunch.from_df(synthetic(41, 25, 500, seed=2).ratings, seed=0, device="cpu")
    with pytest.raises(DataError, match="know different users or items"):
        average_learners([learners[0], fitted("als", other)])


def test_equal_scores_keep_a_deviation_of_one():
    centre, spread = moments(torch.tensor([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0], [7.0, 7.000001, 7.0], [0, 1e-20, 0]]))
    assert centre[:2].tolist() == [2.0, 2.0] and spread.tolist() == [1.0, pytest.approx((2 / 3) ** 0.5), 1.0, 1.0]
