"""Files that the version before wrote are read: a model of every kind, an index, a learner's state, a checkpoint.

`older/` holds what it wrote after training on `ratings.csv`, and in `answers.json` what it answered."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from collab import CollabDataBunch, DataError, Index, Unsupported, collab_learner, load_learner
from collab.learner.factory import NOT_KEPT

OLDER = Path(__file__).parent / "older"
ANSWERS = json.loads((OLDER / "answers.json").read_text())
MODELS = [name for name in ANSWERS if name not in ("index", "state", "checkpoint")]


def data():
    items = pd.read_csv(OLDER / "items.csv")
    return CollabDataBunch.from_df(pd.read_csv(OLDER / "ratings.csv"), items=items, item_features=["genres"],
                                   valid_pct=0.2, bs=16, seed=1)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_the_version_before_exported_gives_the_same_answers(name):
    learn, said = load_learner(OLDER / f"{name}.safetensors"), ANSWERS[name]
    assert type(learn.model).__name__ == said["model"]
    # The version before scored items without ratings 0 in an InfiniteAE, and the unknown one as the average.
    among = [item for item in learn.data.items if item != 110] if name == "infinite_ae" else None
    found = learn.recommend("u3", 5, among=among)
    assert np.ravel(learn.predict(["u1", "u2", "u3"], [101, 102, 103])) == pytest.approx(said["predict"], abs=1e-5)
    kept = [(item, score) for item, score in zip(said["items"], said["scores"]) if among is None or item in among]
    assert found["item"].tolist() == [item for item, _ in kept]
    assert found["score"].tolist() == pytest.approx([score for _, score in kept], abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_summary_says_that_its_recipe_is_not_known(name, tmp_path):
    learn = load_learner(OLDER / f"{name}.safetensors")
    for one in (learn, load_learner(learn.export(tmp_path / "again"))):
        recipe = [line for line in one.summary().splitlines() if line.startswith("Recipe:")]
        assert recipe == ([] if one.collab_model.solved else [f"Recipe: {NOT_KEPT}"])


@pytest.mark.parametrize("name", MODELS)
def test_new_users_are_folded_into_it_as_before(name):
    learn, new = load_learner(OLDER / f"{name}.safetensors"), {101: 5.0, 104: 1.0}
    if ANSWERS[name]["new"] is None:
        with pytest.raises(Unsupported, match="cannot score new users"):
            learn.recommend(ratings=new, n=4)
    else:
        with suppress(DataError):       # a model that scores new users in a way of its own has no ridge
            fold = learn.fold_in()
            fold.ridge = fold.ridge._replace(prior=None)        # which the version before had not
        assert learn.recommend(ratings=new, n=4)["score"].tolist() == pytest.approx(ANSWERS[name]["new"], abs=1e-4)


def test_an_index_that_the_version_before_saved_finds_the_same():
    found, said = Index.load(OLDER / "index.safetensors").recommend("u3", 4), ANSWERS["index"]
    assert found["item"].tolist() == said["items"]
    assert found["score"].tolist() == pytest.approx(said["scores"], abs=1e-5)


def test_a_state_that_the_version_before_saved_is_put_back():
    learn = collab_learner(data(), "dot_bias", n_factors=3, lr=5e-3, wd=0.3)      # by AdamW, as it was then
    learn.load(OLDER / "state.safetensors")
    assert learn.predict(["u1", "u2"], [101, 102]) == pytest.approx(ANSWERS["state"]["predict"], abs=1e-5)
    assert len(learn.recorder.rows) == 2


def test_a_fit_that_was_cut_off_in_the_version_before_is_resumed():
    learn = collab_learner(data(), "net", n_factors=3, seed=5)
    with learn.no_logging():
        learn.fit_one_cycle(3, resume=OLDER / "checkpoint")
    assert learn.predict(["u1", "u2"], [101, 102]) == pytest.approx(ANSWERS["checkpoint"]["predict"], abs=1e-4)
