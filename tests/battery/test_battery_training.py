"""Every model: it is trained again, by whatever schedule, and takes in further ratings; what is solved says so."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from collab import EmbeddingDotBias, RankingMetrics, collab_learner, evaluate

from .cases import CASES, RECIPES, STEPS
from .ratings import COLD_USERS, ITEMS, NEW, NOVELTY, ONCE, USER


def fresh(it):
    """A learner of one's own to change: what has been trained, again."""
    return copy.deepcopy(it.learn)


def changed(learn, before):
    return any(not torch.equal(t, before[name]) for name, t in learn.model.state_dict().items())


@pytest.mark.parametrize("verb", ["fit", "fit_one_cycle"])
def test_fit_again(it, verb):
    with it.able(verb):
        learn = fresh(it)
        rows, before = len(learn.recorder.rows), copy.deepcopy(learn.model.state_dict())
        with learn.no_logging():
            getattr(learn, verb)(1)
        assert len(learn.recorder.rows) == rows + 1 and np.isfinite(learn.recorder.losses).all()
        assert changed(learn, before) or it.case.name in ("ease", "infinite_ae")        # which are solved by one
        assert np.isfinite(learn.predict(USER, it.items)).all()


def test_the_range_test_of_learning_rates(it):
    with it.able("lr_find"):
        found = it.learn.lr_find(num_it=12, plot=False)
        assert {*found._fields} == {"valley", "steep", "minimum"}
        assert all(rate is None or 0 < rate < 10 for rate in found)


def test_the_summary_counts_the_weights(it):
    summary = str(it.learn.summary())
    assert f"{sum(p.numel() for p in it.learn.model.parameters()):,}" in summary


def test_groups_are_frozen_and_thawed(it):
    with it.able("freeze_to", "unfreeze"):
        learn = fresh(it)
        groups = learn.opt.param_groups
        learn.freeze_to(-1)
        trained = [{p.requires_grad for p in group["params"]} for group in groups]
        assert trained == [{False}] * (len(groups) - 1) + [{True}]
        learn.unfreeze()
        assert all(p.requires_grad for group in groups for p in group["params"])


@pytest.mark.parametrize(("it", "verb"), [
    pytest.param(name, verb, id=f"{name}-{verb}") for name, case in CASES.items() for verb in sorted(case.lacks & STEPS)
], indirect=["it"])
def test_what_is_solved_refuses_steps_as_it_always_did(it, verb):
    with pytest.raises(TypeError), it.learn.no_logging():       # scripts may catch that
        getattr(it.learn, verb)(*([] if verb in ("lr_find", "unfreeze") else [1]))


def test_ranking_metrics_are_those_of_evaluate(it):
    with it.able("fit"):
        learn = fresh(it)
        with learn.no_logging():
            learn.fit(1, cbs=RankingMetrics(k=3, metrics=("precision", "ndcg")))
        last, found = learn.recorder.rows[-1], evaluate(learn, k=3, baseline=False).summary
        assert last["precision@3"] == pytest.approx(found["precision"])
        assert last["ndcg@3"] == pytest.approx(found["ndcg"])


def test_further_ratings(it):
    new = pd.DataFrame({"user": "nadia", "item": list(NEW), "rating": list(NEW.values())})
    with it.able("add_ratings"):
        learn = it.learn.add_ratings(new)
        assert "nadia" in learn.data.users and learn.data.n_users == it.data.n_users + 1
        assert "nadia" not in it.learn.data.users
        it.assert_near(learn.predict("nadia", it.items), it.learn.predict(ratings=NEW, item=it.items))
        assert not {*learn.recommend("nadia", n=100)["item"]} & {*NEW}
        for user in (USER, ONCE[0]):
            np.testing.assert_array_equal(learn.predict(user, it.items), it.learn.predict(user, it.items))
        # Both are an average over more users than before.
        it.assert_near(learn.predict(COLD_USERS[1], it.items), learn.predict("nobody", it.items))
        assert learn.ranks == it.case.ranks


def test_further_ratings_of_known_and_cold_users_and_unknown_items(it):
    more = pd.DataFrame({"user": [USER, COLD_USERS[1], COLD_USERS[1]], "item": [ITEMS[1], ITEMS[20], NOVELTY],
                         "rating": [1.0, 5.0, 2.0]})
    with it.able("add_ratings"):
        learn = it.learn.add_ratings(more)
        assert learn.data.n_users == it.data.n_users
        assert ITEMS[1] in set(learn.rated(USER)["item"]) and ITEMS[20] in set(learn.rated(COLD_USERS[1])["item"])
        scores = learn.predict(COLD_USERS[1], it.items)
        assert np.isfinite(scores).all() and (scores != it.learn.predict(COLD_USERS[1], it.items)).any()


@pytest.mark.parametrize("it", [name for name in RECIPES if name != "bpr"], indirect=True)  # the class of "dot_bias"
def test_a_model_that_is_built_by_hand_has_the_recipe_of_its_class(it):
    by_name = it.case.untrained()
    by_hand = collab_learner(it.data, copy.deepcopy(by_name.model))
    assert (by_hand.lr, by_hand.wd) == (by_name.lr, by_name.wd)
    assert repr(by_hand.objective) == repr(by_name.objective) and by_hand.ranks == by_name.ranks
    assert type(by_hand) is type(by_name) and repr(by_hand.loss_func) == repr(by_name.loss_func)


def test_a_model_of_biases_that_is_built_by_hand_ends_where_the_name_ends(subjects):
    case = subjects["dot_bias"].case
    by_name, data = case.untrained(), case.data
    by_hand = collab_learner(data, copy.deepcopy(by_name.model))
    assert isinstance(by_hand.model, EmbeddingDotBias)
    for learn in (by_name, by_hand):
        with learn.no_logging():
            learn.fit_one_cycle(2)
    assert by_hand.validate() == by_name.validate()
