"""Sweeps: solved models behind the learner's usual face."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from collab.data.databunch import CollabDataBunch
from collab.data.vocab import UnknownId
from collab.datasets.synthetic import synthetic
from collab.interpret import CollabInterpretation
from collab.learner import sweeps
from collab.learner.collab_learner import CollabLearner
from collab.learner.factory import collab_learner, load_learner
from collab.losses import preference_error
from collab.models.als import ALS
from collab.models.ease import EASE
from collab.train.callback import Callback
from collab.train.callbacks.resume import Checkpoint
from collab.train.callbacks.trackers import SaveBest
from collab.train.events import CancelFit

NAMES = ("als", "als_explicit", "ease", "infinite_ae")
every_model = pytest.mark.parametrize("name", NAMES)


def some_data(seed: int = 0, **options: Any) -> CollabDataBunch:
    ml = synthetic(40, 25, 500, seed=1)
    return CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=seed, device="cpu", **options)


def fitted(name: str, epochs: int | None = None, data: CollabDataBunch | None = None,
           **options: Any) -> CollabLearner:
    learn = collab_learner(some_data() if data is None else data, name, n_factors=4, **options)
    assert learn.collab_model.solved
    with learn.no_logging():
        learn.fit(epochs)
    return learn


def weights(learn: CollabLearner) -> list[torch.Tensor]:
    return [p.clone() for p in learn.model.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# Fitting ----------------------------------------------------------------------------------------------------------

@every_model
def test_a_fit_prints_and_keeps_a_row_a_sweep(name: str, capsys: pytest.CaptureFixture[str]):
    learn = collab_learner(some_data(), name, n_factors=4)
    learn.fit(1)
    header, row = capsys.readouterr().out.splitlines()
    metrics = ["rmse", "mae"] if name == "als_explicit" else []
    assert header.split() == ["epoch", "train_loss", "valid_loss", *metrics, "seconds"] and row.split()[0] == "0"
    prepared = learn.model.prepare(*learn.data.train.tensors)
    recorded = learn.recorder.rows[0]
    assert recorded["train_loss"] == pytest.approx(learn.model.loss(prepared) / learn.data.train.n, rel=1e-6)
    assert {k: v for k, v in recorded.items() if k in ("valid_loss", *metrics)} == learn.validate()


def test_a_sweep_that_says_its_objective_is_not_asked_for_it(monkeypatch: pytest.MonkeyPatch):
    learn = collab_learner(some_data(), "ease")
    expected = learn.model.sweep(learn.model.prepare(*learn.data.train.tensors)) / learn.data.train.n
    monkeypatch.setattr(EASE, "loss", lambda *_: pytest.fail("summed again"))
    with learn.no_logging():
        learn.fit()
    assert learn.recorder.rows[0]["train_loss"] == pytest.approx(expected)


def test_without_a_number_a_fit_takes_as_many_sweeps_as_the_model_says_and_ease_never_more_than_one():
    assert len(fitted("als").recorder.rows) == ALS.n_sweeps == 15
    assert len(fitted("ease").recorder.rows) == len(fitted("ease", 7).recorder.rows) == 1
    assert not fitted("ease", 0).recorder.rows


def test_the_loss_falls_and_a_second_fit_goes_on_from_the_first():
    whole, halves = fitted("als", 6), fitted("als", 3)
    with halves.no_logging():
        halves.fit(3)
    losses = whole.recorder.frame()["train_loss"].to_numpy()
    assert (np.diff(losses) < 0).all()
    assert same(weights(whole), weights(halves))


@every_model
def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_random_state(name: str):
    before = torch.get_rng_state()
    one, other = fitted(name, 3), fitted(name, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(weights(one), weights(other))
    if name not in ("ease", "infinite_ae"):
        assert not same(weights(one), weights(fitted(name, 3, seed=5)))


class Interrupt(Callback):
    """Ctrl-C while the third sweep is solved."""

    def before_batch(self) -> None:
        if self.learn.training and self.learn.epoch == 2:
            solve, model, done = self.learn.model._solved, self.learn.model, []

            def cut_off(*args: Any) -> Any:
                if done:
                    raise KeyboardInterrupt
                done.append(1)
                return solve(*args)
            model._solved = cut_off


def test_ctrl_c_leaves_the_weights_of_the_last_whole_sweep():
    two, cut = fitted("als", 2), collab_learner(some_data(), "als", n_factors=4)
    with cut.no_logging():
        cut.fit(5, cbs=Interrupt())
    assert cut.interrupted and len(cut.recorder.rows) == 2 and same(weights(cut), weights(two))
    del cut.model._solved
    with cut.no_logging():
        cut.fit(1)
    assert not cut.interrupted and same(weights(cut), weights(fitted("als", 3)))


def test_a_fit_that_was_cut_off_is_resumed_with_the_same_bits(tmp_path: Path):
    class Stop(Callback):
        def after_epoch(self) -> None:
            if self.learn.epoch == 1:
                raise CancelFit
    data = some_data()
    cut, whole = (collab_learner(data, "als", n_factors=4, cbs=Checkpoint(tmp_path / "c")) for _ in range(2))
    with cut.no_logging(), whole.no_logging():
        cut.fit(4, cbs=Stop())
        again = collab_learner(data, "als", n_factors=4)
        with again.no_logging():
            again.fit(4, resume=tmp_path / "c")
        whole.fit(4)
    assert same(weights(again), weights(whole))


def test_callbacks_work_as_usual_and_a_state_is_saved_and_loaded(tmp_path: Path):
    learn = collab_learner(some_data(), "als_explicit", n_factors=4)
    with learn.no_logging():
        learn.fit(5, cbs=SaveBest(monitor="rmse"))
    assert learn.validate()["rmse"] == pytest.approx(min(row["rmse"] for row in learn.recorder.rows))
    learn.save(tmp_path / "state")
    other = collab_learner(some_data(), "als_explicit", n_factors=4)
    other.load(tmp_path / "state")
    assert same(weights(learn), weights(other)) and len(other.recorder.rows) == 5


def test_what_steps_is_refused():
    learn = fitted("als", 1)
    with pytest.raises(TypeError, match="ALS is solved"):
        learn.unfreeze()
    for name in ("fit_one_cycle", "fit_sgdr", "fit_flat_cos", "lr_find", "freeze_to"):
        with pytest.raises(TypeError, match=r"ALS is solved, not trained step by step: .* call learn.fit\(\)"):
            getattr(learn, name)(3)
    with pytest.raises(TypeError, match="ALS is solved, .* no lr and no wd"):
        learn.fit(1, lr=0.1)
    with pytest.raises(TypeError, match="takes no opt_func and no lr; its regularisation is reg"):
        collab_learner(some_data(), "als", opt_func=torch.optim.SGD, lr=0.1)
    with pytest.raises(ValueError, match="n_epochs must be a whole number"):
        learn.fit(-1)


# The learner's face -----------------------------------------------------------------------------------------------

@every_model
def test_an_exported_learner_gives_the_same_answers_to_the_bit(name: str, tmp_path: Path):
    learn = fitted(name, 3)
    path = learn.export(tmp_path / "model", about="a note")
    again = load_learner(path, device="cpu")
    assert type(again) is CollabLearner and type(again.model) is type(learn.model)
    assert again.notes == {"about": "a note"} and again.model.config == learn.model.config
    users, items = list(learn.data.users), list(learn.data.items)
    pd.testing.assert_frame_equal(again.recommend(users, n=4), learn.recommend(users, n=4), check_exact=True)
    if name == "infinite_ae":       # which has a measure of users
        pd.testing.assert_frame_equal(again.similar_users(users[0], n=4), learn.similar_users(users[0], n=4))
    else:
        pd.testing.assert_frame_equal(again.similar_items(items[0], n=4), learn.similar_items(items[0], n=4))
    assert np.array_equal(again.predict(users[:3], items[:3]), learn.predict(users[:3], items[:3]))
    with again.no_logging():
        again.fit(1)
    with learn.no_logging():
        learn.fit(1)
    assert same(weights(again), weights(learn))


@every_model
def test_recommendations_are_ranked_scores_of_unseen_items(name: str):
    learn = fitted(name, 3)
    user = next(iter(learn.data.users))
    found = learn.recommend(user, n=5)
    rest = [item for item in learn.data.items if item not in set(learn.rated(user)["item"])]
    scores = pd.Series(learn.predict([user] * len(rest), rest), index=rest).sort_values(ascending=False)
    if name != "als_explicit":          # clipped to the scale, its first scores may be equal
        assert found["item"].tolist() == scores.index[:5].tolist()
    np.testing.assert_allclose(found["score"], scores[:5], rtol=1e-5)


def test_scores_that_are_no_ratings_are_not_clipped_to_their_scale():
    for name in ("als", "ease"):
        learn = fitted(name, 3)
        assert learn.get_preds()[0].min() < 1 == learn.data.scale[0]
    assert fitted("als_explicit", 3).get_preds()[0].min() >= 1


@every_model
def test_an_unknown_user_gets_the_average_users_scores(name: str):
    learn = fitted(name, 3)
    items = list(learn.data.items)
    learn.scale = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unknown = learn.predict("nobody" if learn.data.users.kind == "string" else 10 ** 6, items)
    users = list(learn.data.users)
    everybody = learn.predict(users * len(items), [i for i in items for _ in users]).reshape(len(items), len(users))
    np.testing.assert_allclose(unknown, everybody.mean(1), rtol=1e-4, atol=1e-5)
    with pytest.raises(UnknownId):
        learn.recommend(10 ** 6, unknown="error")


def test_items_that_are_alike_are_those_of_the_models_own_measure():
    learn = fitted("ease")
    item = next(iter(learn.data.items))
    found = learn.similar_items(item, n=3, min_ratings=0)
    row = learn.data.items[item]
    expected = learn.model.weight[:, row].clone()
    expected[[0, row]] = -torch.inf
    assert [learn.data.items[i] for i in found["item"]] == expected.topk(3).indices.tolist()
    with pytest.raises(ValueError, match="EASE learns no factors of users"):
        learn.similar_users(next(iter(learn.data.users)))
    learn = fitted("infinite_ae")
    user = next(iter(learn.data.users))
    expected = learn.model.weight[learn.data.users[user]].clone()
    expected[[0, learn.data.users[user]]] = -torch.inf
    found = learn.similar_users(user, n=3, min_ratings=0)
    assert [learn.data.users[u] for u in found["user"]] == expected.topk(3).indices.tolist()


def test_interpretation_reads_factors_and_takes_scores_apart():
    for name, parts in (("als", 0), ("als_explicit", 3)):
        learn = fitted(name, 3)
        interp = CollabInterpretation.from_learner(learn)
        user, item = next(iter(learn.data.users)), next(iter(learn.data.items))
        told = interp.explain(user, item)
        assert len(told.parts) == parts + 5
        learn.scale = None
        assert told.logit == pytest.approx(learn.predict(user, item), rel=1e-4)
        assert len(interp.norms()) == len(learn.data.items) - 1
    assert len(CollabInterpretation(fitted("als_explicit", 2)).biases(n=5)) == 5


def test_a_built_model_is_taken_as_it_is_and_must_fit_the_data():
    data = some_data()
    learn = collab_learner(data, ALS(3, data.n_users, data.n_items, reg=2.0, alpha=9.0), metrics=[])
    assert learn.collab_model.solved and learn.model.reg == 2.0
    with pytest.raises(ValueError, match="built with n_items=99"):
        collab_learner(data, EASE(99))


def test_preference_error_is_the_mean_squared_distance_from_one():
    assert preference_error(torch.tensor([1.0, 0.0, 0.5]), torch.tensor([5.0, 1.0, 3.0])).item() == \
        pytest.approx(1.25 / 3)


# Threads ----------------------------------------------------------------------------------------------------------

def test_small_data_are_validated_in_one_thread_which_ends_with_the_batch(monkeypatch: pytest.MonkeyPatch):
    before, seen = torch.get_num_threads(), []
    learn = collab_learner(some_data(), "als", n_factors=4)
    hook = learn.model.register_forward_pre_hook(lambda *args: seen.append(torch.get_num_threads()))
    try:
        torch.set_num_threads(2)
        with learn.no_logging():
            learn.fit(1)
            assert seen == [1] and torch.get_num_threads() == 2
            monkeypatch.setattr(sweeps, "SMALL", learn.data.train.n - 1)
            learn.fit(1)
        assert seen == [1, 2]
    finally:
        torch.set_num_threads(before)
        hook.remove()
