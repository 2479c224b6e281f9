"""Every model: what was exported and loaded, saved, or copied gives the same answers, to the bit."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from collab import CollabInterpretation, Index, average_learners, evaluate, load_learner

from .cases import FOREIGN, MADE_OF
from .ratings import COLD_USERS, ITEMS, NEW, ONCE, STRANGER, USER, valid_table

EVERYBODY = [USER, ONCE[0], COLD_USERS[1], STRANGER]


def same(left, right):
    """Two tables, arrays or tensors are equal to the bit."""
    if isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right, check_exact=True)
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    else:
        np.testing.assert_array_equal(left, right)


def every_pair(learn):
    users, items = list(learn.data.users), list(learn.data.items)
    return learn.predict(list(np.repeat(users, len(items))), items * len(users))


def assert_same_scores(it, learn):
    same(every_pair(learn), every_pair(it.learn))
    same(learn.recommend(EVERYBODY, n=9), it.learn.recommend(EVERYBODY, n=9))


def test_what_is_loaded_predicts_and_recommends_the_same(it):
    assert_same_scores(it, it.loaded)
    same(it.loaded.recommend(USER, n=9, exclude="train"), it.learn.recommend(USER, n=9, exclude="train"))
    assert it.loaded.predict(USER, ITEMS[4]) == it.learn.predict(USER, ITEMS[4])
    assert type(it.loaded.model) is type(it.learn.model) and it.loaded.ranks == it.learn.ranks == it.case.ranks
    assert it.loaded.scale == it.learn.scale
    same(it.loaded.rated(USER), it.learn.rated(USER))


def test_a_model_that_a_file_cannot_build_is_asked_for_by_its_class(it):
    if it.case.name not in FOREIGN:
        assert_same_scores(it, load_learner(it.path, device="cpu"))
    else:
        with pytest.raises(ValueError, match=it.model) as caught:
            load_learner(it.path, device="cpu")
        assert "load_learner(path, model=" in str(caught.value)


def test_what_is_loaded_takes_in_somebody_new(it):
    with it.able("new_people"):
        same(it.loaded.recommend(ratings=NEW, n=9), it.learn.recommend(ratings=NEW, n=9))
        same(it.loaded.predict(ratings=NEW, item=it.items), it.learn.predict(ratings=NEW, item=it.items))


def test_what_is_loaded_has_an_index(it, tmp_path):
    with it.able("index"):
        found = Index.load(it.loaded.index().save(tmp_path / "index.safetensors")).recommend(EVERYBODY, n=9)
        same(found, it.learn.index().recommend(EVERYBODY, n=9))


@pytest.mark.parametrize("by", ["item", "user"])
def test_what_is_loaded_knows_factors_and_biases(it, by):
    is_item, loaded = by == "item", CollabInterpretation(it.loaded)
    if f"{by}_factors" not in it.case.lacks:
        same(it.loaded.weight(is_item=is_item), it.learn.weight(is_item=is_item))
        same(loaded.norms(by), it.interp.norms(by))
    if f"{by}_biases" not in it.case.lacks:
        same(it.loaded.bias(is_item=is_item), it.learn.bias(is_item=is_item))
        same(loaded.biases(by), it.interp.biases(by))
    if f"similar_{by}s" not in it.case.lacks:
        of, id = f"similar_{by}s", ITEMS[4] if is_item else USER
        same(getattr(it.loaded, of)(id), getattr(it.learn, of)(id))


def test_what_is_loaded_explains_and_measures_the_same(it):
    assert str(CollabInterpretation(it.loaded).explain(USER, ITEMS[4])) == str(it.interp.explain(USER, ITEMS[4]))
    same(it.loaded.get_preds(valid_table())[0], it.learn.get_preds()[0])
    found, before = (evaluate(learn, valid_table(), k=5) for learn in (it.loaded, it.learn))
    same(found.per_user, before.per_user)
    if not it.case.ranks:
        assert it.loaded.validate(valid_table()) == it.learn.validate()
        same(CollabInterpretation(it.loaded).errors(valid_table()), it.interp.errors())


def test_probabilities_of_what_is_loaded(it):
    with it.able("probabilities"):
        same(it.loaded.probabilities(USER, it.items), it.learn.probabilities(USER, it.items))


def test_what_is_loaded_is_exported_to_the_same_file(it, tmp_path):
    assert it.loaded.export(tmp_path / "again.safetensors").read_bytes() == it.path.read_bytes()


def test_what_is_loaded_is_trained_further(it):
    learn = it.load()
    with it.able("fit"), learn.no_logging():
        learn.fit(1)
        assert np.isfinite(learn.recorder.losses).all() and np.isfinite(every_pair(learn)).all()


def test_save_and_load(it, tmp_path):
    path = it.learn.save(tmp_path / "state")
    learn = copy.deepcopy(it.learn) if it.case.name in MADE_OF else it.case.untrained(seed=5)
    with torch.no_grad():
        for p in learn.model.parameters():
            p.add_(1.0)
    learn.load(path)
    assert_same_scores(it, learn)
    assert len(learn.recorder.rows) == len(it.learn.recorder.rows)


def test_a_copy_is_the_same_and_its_own(it):
    learn = copy.deepcopy(it.learn)
    assert_same_scores(it, learn)
    with torch.no_grad():
        for p in learn.model.parameters():
            p.mul_(0.5)         # the learner itself stays what it was, as after each of these tests
    assert it.case.ranks or (every_pair(learn) != every_pair(it.learn)).any()


def test_another_model_is_set(it):
    learn = copy.deepcopy(it.learn) if it.case.name in MADE_OF else it.case.untrained(seed=5)
    learn.set_model(copy.deepcopy(it.learn.model))
    assert_same_scores(it, learn)


def test_the_average_of_a_learner_with_itself_is_itself(it):
    mean = average_learners([it.learn, it.learn])
    assert mean.ranks == it.case.ranks
    ranked, expected = (learn.recommend(EVERYBODY, n=9) for learn in (mean, it.learn))
    if it.case.ranks:           # scores may be standardised
        places = [(it.row(user), it.column(item)) for user, item in zip(ranked["user"], ranked["item"])]
        it.assert_near([it.raw[place] for place in places],
                [it.raw[it.row(user), it.column(item)] for user, item in zip(expected["user"], expected["item"])])
    else:
        it.assert_near(every_pair(mean), every_pair(it.learn))
