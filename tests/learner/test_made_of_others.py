"""What learners that are made of others, by adding people or averaging, have of them: what they are, and were."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from collab import (
    BPR,
    Callback,
    CollabDataBunch,
    CollabLearner,
    CollabWarning,
    DataError,
    average_learners,
    collab_learner,
    load_learner,
    synthetic,
)
from collab.models.rank_ensemble import RankEnsemble
from collab.train.callbacks.steps import Threads

MORE = pd.DataFrame({"user": [99, 99], "item": [1, 2], "rating": [5.0, 3.0]})


class MyBPR(BPR):
    """An objective of one's own, which no file holds."""


class Mine(Callback):
    """A callback of one's own."""


@pytest.fixture(scope="module")
def data() -> CollabDataBunch:
    return CollabDataBunch.from_df(synthetic(20, 15, 150, seed=1).ratings, seed=0, bs=32, device="cpu")


def loaded(data: CollabDataBunch, path, lost: str, **options) -> CollabLearner:
    """A learner from a file that does not hold what was `lost`."""
    learn = collab_learner(data, n_factors=4, **options)
    with learn.no_logging():
        learn.fit(1)
    learn.export(path)
    with pytest.warns(CollabWarning, match=lost):
        return load_learner(path, device="cpu")


@pytest.fixture(scope="module")
def ranker(data, tmp_path_factory) -> CollabLearner:
    return loaded(data, tmp_path_factory.mktemp("ranker") / "m", "the objective MyBPR", loss_func=MyBPR())


@pytest.fixture(scope="module")
def rater(data, tmp_path_factory) -> CollabLearner:
    return loaded(data, tmp_path_factory.mktemp("rater") / "m", "the callback Mine", cbs=Mine(), y_range=None)


def test_a_ranker_whose_objective_is_lost_takes_in_nobody_until_it_is_added(ranker, tmp_path):
    assert ranker.ranks and ranker.scale is None
    for take in (lambda: ranker.add_ratings(MORE), lambda: ranker.recommend(ratings={1: 5.0, 2: 3.0})):
        with pytest.raises(DataError, match="trained to rank with an objective that is not collab's own; add it"):
            take()
    again = ranker.export(tmp_path / "m")
    with pytest.warns(CollabWarning, match="MyBPR"):
        learn = load_learner(again, device="cpu")
    learn.add_cbs(MyBPR())
    more = learn.add_ratings(MORE)
    assert more.ranks and more.scale is None and more.unknown_objective and 99 in more.data.users


def test_the_mean_of_rankers_ranks_also_where_their_objective_is_lost(ranker, rater, tmp_path):
    for others in ([ranker, ranker], [ranker, rater], [rater, ranker]):
        mean = average_learners(others)
        assert mean.ranks and mean.scale is None and isinstance(mean.model, RankEnsemble)   # it may be two objectives
        folded = average_learners(others, merge=True)
        assert folded.ranks and folded.scale is None
        with pytest.warns(CollabWarning, match="MyBPR"):
            assert load_learner(folded.export(tmp_path / "m"), device="cpu").ranks
    both = average_learners([ranker, ranker], merge=True)
    pd.testing.assert_frame_equal(both.recommend(7), ranker.recommend(7))      # the mean of one model and itself
    assert not average_learners([rater, rater]).ranks


def test_what_a_file_has_lost_is_named_by_the_files_of_what_was_made_of_it(ranker, rater, tmp_path):
    more = rater.add_ratings(MORE)
    assert more.lost == rater.lost == ["the callback Mine"]
    with pytest.warns(CollabWarning, match="does not hold the callback Mine of the learner"):
        load_learner(more.export(tmp_path / "m"), device="cpu")
    more.lost.append("what was added later")
    assert rater.lost == ["the callback Mine"]
    assert average_learners([rater, rater]).lost == ["the callback Mine"]
    assert average_learners([ranker, rater]).lost == ["the objective MyBPR", "the callback Mine"]


@pytest.mark.parametrize("model", ["dot", "net", "als"])
def test_models_of_learners_made_of_others_are_in_evaluation_mode(model, data):
    learn = collab_learner(data, model, n_factors=4)
    made = [average_learners([learn, learn])] + ([learn.add_ratings(MORE)] if model != "net" else [])
    assert not any(module.training for other in made for module in other.model.modules())


def test_learners_made_of_others_train_with_as_many_threads(data):
    learn = collab_learner(data, n_factors=4)
    next(cb for cb in learn.cbs if isinstance(cb, Threads)).n = 2
    for other in (learn.add_ratings(MORE), average_learners([learn, learn])):
        own = [cb for cb in other.cbs if isinstance(cb, Threads)]
        assert [cb.n for cb in own] == [2] and own[0] not in learn.cbs
    plain = CollabLearner(data, learn.model, learn.loss_func)
    assert not any(isinstance(cb, Threads) for cb in average_learners([plain, plain]).cbs)


def test_ratings_at_the_ends_of_a_decimal_scale_are_on_it():
    draw = np.random.default_rng(0)
    pairs = pd.MultiIndex.from_product([range(20), range(15)], names=["user", "item"]).to_frame(index=False)
    ratings = pairs.sample(150, random_state=0).assign(rating=draw.choice(np.arange(14, 71, 14) / 100, 150))
    learn = collab_learner(CollabDataBunch.from_df(ratings, seed=0, device="cpu"), n_factors=4)
    assert learn.scale == (np.float32(0.14), np.float32(0.7))
    ends = {0: 0.14, 1: 0.7}
    assert len(learn.recommend(ratings=ends, n=3)) == 3
    assert np.isfinite(learn.predict(item=2, ratings=ends))
    more = learn.add_ratings(pd.DataFrame({"user": 99, "item": [0, 1], "rating": [0.14, 0.7]}))
    assert more.rated(99)["item"].tolist() == [1, 0]
    with pytest.raises(DataError, match=r"1 of 2 ratings lie outside the scale of 0.14 to 0.7, such as 0.71 of item 1"):
        learn.recommend(ratings={0: 0.14, 1: 0.71})
