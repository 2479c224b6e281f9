"""tune: what it finds where there is something to find, what it says where there is not, and what trials see."""

import builtins
import re
import types

import numpy as np
import pandas as pd
import pytest
import torch

from collab import CollabDataBunch, CollabWarning, DataError, WholeSet, evaluate, load_learner, synthetic, tune
from collab.select import candidates, study_file, tuning

CLEAR = synthetic(60, 50, 1800, seed=3, noise=0.05, step=0.01).ratings       # factors, and next to no noise
NOISE = synthetic(60, 50, 1500, seed=4, n_factors=0, noise=1.5, step=0.01).ratings
FREE = {"reg": (0.001, 0.2, "log")}             # around the recipe's 0.133, and far below it


def bunch(ratings=CLEAR, **options):
    return CollabDataBunch.from_df(ratings, **{"seed": 0, "device": "cpu", **options})


def untimed(trials):
    return trials.drop(columns="seconds")


@pytest.fixture(scope="module")
def found():
    return tune(bunch(), "als_explicit", 12, space=FREE, n_factors=5)


def test_tuning_finds_that_ratings_without_noise_want_little_regularisation(found):
    assert found.beaten and found.best["reg"] < 0.05 and found.best["n_factors"] == 5
    assert found.difference["high"] < 0 and found.difference["p_value"] < 0.01
    assert "tuning beats the default recipe" in repr(found)


def test_the_first_trial_is_the_recipe(found):
    assert found.trials["reg"][0] == pytest.approx(0.133) and found.trials["value"][0] > found.trials["value"].min()


def test_the_figures_are_those_of_the_learner_on_the_ratings_that_no_trial_saw(found):
    data = bunch()
    assert found.learn.data.train.n == data.train.n and found.learn.collab_model.config["reg"] == found.best["reg"]
    assert found.table["value"]["tuned"] == pytest.approx(found.learn.validate(data.valid)["rmse"])
    assert found.difference["value"] == pytest.approx(found.table["value"]["tuned"]
                                                      - found.table["value"]["default recipe"])
    assert f"all {data.train.n:,} training ratings" in found.trained_on
    assert f"not on the {data.valid.n:,} validation ratings" in found.trained_on


def test_the_best_trial_is_the_one_whose_settings_are_returned(found):
    best = found.trials.loc[found.trials["value"].idxmin()]
    assert found.candidate == {"reg": best["reg"]} and type(found.candidate["reg"]) is float


def test_the_settings_are_values_that_models_take():
    found = tune(bunch(implicit=True, threshold=3), "infinite_ae", 3, space={"depth": (4, 5), "reg": (0.5, 4.0)})
    assert type(found.candidate["depth"]) is int and found.learn.collab_model.config["depth"] in (3, 4, 5)


def test_the_picture_has_every_trial_and_the_default(found):
    ax = found.plot()
    drawn = sum(len(points.get_offsets()) for points in ax.collections)
    assert drawn == len(found.trials)
    assert {text.get_text() for text in ax.get_legend().get_texts()} >= {"trial", "best so far", "default recipe"}


def test_where_nothing_is_gained_the_recipe_is_kept_and_that_is_said():
    found = tune(bunch(NOISE), "als_explicit", 3, space={"reg": (1e-4, 1e-3)}, n_factors=5)
    assert not found.beaten and not found.has_default and found.best == {"n_factors": 5}
    assert found.learn.collab_model.config["reg"] == pytest.approx(0.133)
    assert "tuning does not beat the default recipe, whose settings are kept" in repr(found)


def test_where_the_recipe_is_the_best_trial_it_is_trained_once():
    found = tune(bunch(), "als_explicit", 2, space={"n_factors": [50, 1]})
    assert found.same and found.has_default and "No trial was better than the default recipe" in found.said
    assert found.difference["value"] == 0 and found.trials["n_factors"][0] == 50


@pytest.mark.parametrize("model, metric", [("ease", None), ("als", "recall@3"), ("ease", "map")])
def test_models_that_rank_are_tuned_by_ranking(model, metric):
    data = bunch(implicit=True, threshold=3)
    found = tune(data, model, 2, metric=metric, space={"reg": (10.0, 500.0, "log")})
    name, k = (found.metric + "@10").split("@")[:2]
    assert found.metric == {None: "ndcg@10", "map": "map@10"}.get(metric, metric) and not found.lower
    result = evaluate(found.learn, k=int(k), metrics=(name,))
    row = "tuned" if found.beaten else "default recipe"
    assert found.table["value"][row] == pytest.approx(result.summary[name])


def test_a_function_of_predictions_and_ratings_is_a_metric():
    def worst_error(pred, target):
        return (pred - target).abs().max()
    found = tune(bunch(), "als_explicit", 2, space=FREE, metric=WholeSet(worst_error, mode="min"))
    assert found.metric == "worst_error" and found.table["value"]["tuned"] > 0.1
    assert (found.table["low"] <= found.table["value"]).all()


def test_trials_see_none_of_the_ratings_of_the_report(monkeypatch):
    seen, fit = [], candidates.fit
    monkeypatch.setattr(tuning, "fit", lambda learn, *rest: seen.append(learn.data) or fit(learn, *rest))
    data = bunch(test=0.1)
    found = tune(data, "als_explicit", 2, space=FREE)
    *trials, last = seen
    untouched = {*pairs(data, "test")}
    assert untouched and len(seen) >= 3 and last.train.n == data.train.n + data.valid.n
    for trial in trials[:2]:
        assert all({*pairs(trial, part)} == {*pairs(data, part)} for part in ("train", "valid"))
        assert not {*pairs(trial, "train"), *pairs(trial, "valid")} & untouched and trial.test is None
    assert {*pairs(found.learn.data, "train")} == {*pairs(data, "train"), *pairs(data, "valid")}
    row = "tuned" if found.beaten else "default recipe"
    assert found.table["value"][row] == pytest.approx(found.learn.validate(found.learn.data.test)["rmse"])
    n = data.train.n + data.valid.n
    assert (f"all {n:,} training and validation ratings, the {data.valid.n:,} that trials were measured on included, "
            f"and not on the {data.test.n:,} test ratings") in repr(found)


@pytest.mark.parametrize("how", [{}, {"test": 0.1}, {"test": 0.1, "valid_pct": 0}])
def test_trials_that_rank_leave_out_what_users_chose_in_the_untouched_part(monkeypatch, how):
    tried, fitted = [], tuning._fitted
    monkeypatch.setattr(tuning, "_fitted", lambda *args: tried.append(fitted(*args)) or tried[-1])
    data = bunch(implicit=True, threshold=3, **how)
    found = tune(data, "ease", 2, space={"reg": (10.0, 500.0, "log")})
    for learn, value in zip(tried, found.trials["value"]):
        known, ranked = evaluate(learn, exclude=("train", "test")), evaluate(learn)
        assert {*pairs(learn.data, "test")} == {*pairs(data, "test" if how else "valid")}
        assert value == pytest.approx(known.summary["ndcg"], abs=1e-12) and value > ranked.summary["ndcg"] + 0.01


def pairs(data, name):
    users, items, _ = data.train.tensors if name == "train" else data.aside.parts[name]
    return list(zip(data.aside.users.decode(users).tolist(), data.aside.items.decode(items).tolist()))


def test_a_trial_far_behind_the_others_is_ended_early():
    found = tune(bunch(), "als_explicit", 12, space={"reg": (0.01, 1000.0, "log")}, n_factors=5)
    early = found.trials["state"] == "ended early"
    assert 0 < early.sum() < 12
    assert found.trials["value"][early].min() > found.trials["value"][~early].min()
    assert f"{early.sum()} of them ended early" in repr(found)


def test_a_trial_that_diverges_is_the_worst_and_the_others_go_on():
    found = tune(bunch(bs=64), "dot_bias", 6, space={"lr": [1e-3, 1e20]}, epochs=1, n_factors=2)
    worst = found.trials["lr"] == 1e20
    assert np.isinf(found.trials["value"]).eq(worst).all() and 0 < worst.sum() < 6
    assert found.candidate == {"lr": 1e-3}
    none = tune(bunch(bs=64), "dot_bias", 1, space={"lr": [1e20]}, epochs=1, n_factors=2)
    assert repr(none).startswith("1 trial of dot_bias in ")
    assert none.same and none.best == {"epochs": 1, "n_factors": 2} and np.isfinite(none.table["value"]).all()


# Files ------------------------------------------------------------------------------------------------------------

def test_a_study_that_goes_on_ends_as_a_whole_one(tmp_path, monkeypatch):
    study = tmp_path / "study.db"
    options = {"space": {"reg": (0.001, 0.2, "log"), "n_factors": (2, 8)}, "storage": study}
    monkeypatch.setattr(tuning, "AT_RANDOM", 3)         # so that the sampler learns from trials
    cut = []

    def interrupted(*args):
        cut.append(1)
        if len(cut) == 3:
            raise KeyboardInterrupt
        return tried(*args)
    tried = tuning._tried
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_tried", interrupted)
        with pytest.warns(CollabWarning, match="interrupted: 2 of 7 trials were finished"):
            first = tune(bunch(), "als_explicit", 7, **options)
    assert len(first.trials) == 2
    resumed = tune(bunch(), "als_explicit", 7, **options)
    whole = tune(bunch(), "als_explicit", 7, **options | {"storage": None})
    pd.testing.assert_frame_equal(untimed(resumed.trials), untimed(whole.trials))
    assert resumed.candidate == whole.candidate and resumed.trials["reg"].nunique() == 7
    with pytest.raises(DataError, match="study.db holds a study of another model, another space, another metric, who"):
        tune(bunch(), "ease", 7, space={"reg": (10, 20)}, storage=study)


@pytest.mark.parametrize("change, says", [
    ({"ratings": NOISE}, "a study of other ratings, or another split of them"), ({"seed": 1}, "other ratings"),
    ({"metric": "mae"}, "a study of another metric"), ({"space": {"reg": (0.1, 0.2)}}, "a study of another space"),
    ({"n_factors": 3}, "a study of other options")])
def test_a_study_of_something_else_is_refused(kept, change, says):
    change = dict(change)
    data = bunch(change.pop("ratings", CLEAR), seed=change.pop("seed", 0))
    with pytest.raises(DataError, match=says):
        tune(data, "als_explicit", 1, **{"space": FREE, "storage": kept, **change})


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "study.db"
    tune(bunch(), "als_explicit", 1, space=FREE, storage=path)
    return path


def test_a_file_that_is_no_study_is_left_alone(tmp_path):
    text = tmp_path / "ratings.csv"
    text.write_text("user,item,rating\n1,2,3\n" * 100)
    with pytest.raises(DataError, match=r"ratings.csv is not the file of a study"):
        tune(bunch(), "als_explicit", 1, space=FREE, storage=text)
    assert text.read_text().startswith("user,item")
    with pytest.raises(DataError, match="there is no folder"):
        tune(bunch(), "als_explicit", 1, space=FREE, storage=tmp_path / "none" / "study.db")


@pytest.mark.parametrize("name", ["a b.db", "a?b.db", "a#b.db", "a%20b.db", "$x%y.db"])
def test_the_file_of_a_study_may_have_any_name(tmp_path, name):
    for n in (1, 2):
        assert len(tune(bunch(), "als_explicit", n, space=FREE, epochs=1, storage=tmp_path / name).trials) == n
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_two_runs_do_not_work_on_one_study(tmp_path, monkeypatch):
    study, tried, refused = tmp_path / "study.db", tuning._tried, []

    def another(*args):
        monkeypatch.setattr(tuning, "_tried", tried)
        with pytest.raises(DataError, match="another run of tune works on .*study.db; wait for its end and go on"):
            tune(bunch(), "als_explicit", 2, space=FREE, epochs=1, storage=study)
        refused.append(True)
        return tried(*args)
    monkeypatch.setattr(tuning, "_tried", another)
    assert len(tune(bunch(), "als_explicit", 2, space=FREE, epochs=1, storage=study).trials) == 2 and refused
    assert len(tune(bunch(), "als_explicit", 3, space=FREE, epochs=1, storage=study).trials) == 3


def test_a_study_of_another_batch_size_is_refused_where_that_matters(tmp_path):
    options = {"space": {"n_factors": (2, 4)}, "epochs": 1, "storage": tmp_path / "study.db"}
    tune(bunch(bs=256), "dot_bias", 1, **options)
    with pytest.raises(DataError, match="a study of another batch size, whose"):
        tune(bunch(bs=64), "dot_bias", 2, **options)
    assert len(tune(bunch(bs=256), "dot_bias", 2, **options).trials) == 2
    options["storage"], options["space"] = tmp_path / "solved.db", {"reg": (0.1, 0.2)}
    tune(bunch(bs=256), "als_explicit", 1, **options)
    assert len(tune(bunch(bs=64), "als_explicit", 2, **options).trials) == 2


def squared(pred, target):
    return ((pred - target) ** 2).mean()


def test_a_study_with_a_function_among_its_options_goes_on_in_another_process(tmp_path, monkeypatch):
    options = {"space": {"n_factors": (2, 4)}, "epochs": 1, "storage": tmp_path / "study.db"}
    tune(bunch(bs=256), "dot_bias", 1, loss_func=squared, **options)
    again = types.FunctionType(squared.__code__, squared.__globals__, "squared")      # at another address
    assert len(tune(bunch(bs=256), "dot_bias", 2, loss_func=again, **options).trials) == 2
    with pytest.raises(DataError, match="a study of other options"):
        tune(bunch(bs=256), "dot_bias", 2, loss_func=torch.nn.functional.mse_loss, **options)


def test_a_study_tries_both_of_two_functions_of_one_name(tmp_path):
    def absolute(pred, target):
        return (pred - target).abs().mean()
    absolute.__name__ = "squared"
    given = [squared, absolute]
    found = tune(bunch(bs=256), "dot_bias", 8, space={"loss_func": given}, epochs=1, storage=tmp_path / "study.db")
    assert {*found.trials["loss_func"]} == {*given} and found.trials["value"].nunique() == 2
    assert all(found.trials["value"][found.trials["loss_func"] == f].nunique() == 1 for f in given)


def test_ctrl_c_in_the_first_trial_ends_everything(monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(tuning, "_tried", stop)
    with pytest.raises(KeyboardInterrupt):
        tune(bunch(), "als_explicit", 2, space=FREE)


def test_no_trial_begins_after_the_time_is_over(monkeypatch):
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: next(clock))
    with pytest.warns(CollabWarning, match=r"the time is over after [1-5] of 50 trials"):
        assert 1 <= len(tune(bunch(), "als_explicit", 50, space=FREE, timeout=65).trials) <= 5
    with pytest.raises(DataError, match="no trial was finished in 0.1 seconds; give more time"), \
            pytest.warns(CollabWarning, match="the time is over after 0 of 50 trials"):
        tune(bunch(), "als_explicit", 50, space=FREE, timeout=0.1)


def test_a_tuned_learner_is_exported_with_its_settings(tmp_path):
    found = tune(bunch(bs=64), "dot_bias", 2, space={"lr_times": [1.0, 0.5]}, epochs=2, n_factors=3)
    found.learn.export(tmp_path / "m.safetensors")
    loaded = load_learner(tmp_path / "m.safetensors")
    assert loaded.lr == found.learn.lr
    assert loaded.predict(1, 1) == found.learn.predict(1, 1)


# What is refused --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, says", [
    ({"n_trials": 0}, "n_trials must be a whole number, at least 1, got 0"),
    ({"metric": "rmsee"}, "metric='rmsee' is not one of rmse, mae, mse, ndcg, precision"),
    ({"metric": "rmsee"}, "such as ndcg@10; did you mean 'rmse'?"),
    ({"metric": "NDGC@5"}, "such as ndcg@10; did you mean 'ndcg@5'?"),
    ({"timeout": 0}, "timeout must be a number of seconds above 0"),
    ({"metric": lambda a, b: 0.0}, "does not say whether less or more of it is better"),
    ({"model": "ease", "metric": "rmse"}, "'rmse' compares predicted ratings, and this model only ranks")])
def test_what_cannot_be_tuned_is_refused_before_any_trial(monkeypatch, arguments, says):
    monkeypatch.setattr(tuning, "_tried", None)
    with pytest.raises(DataError, match=re.escape(says)):
        tune(bunch(), **{"model": "als_explicit", "n_trials": 2, **arguments})


def test_data_without_a_part_to_report_on_are_refused():
    with pytest.raises(DataError, match="these data hold out none: make them with valid_pct=0.2"):
        tune(bunch(valid_pct=0), "als_explicit", 2)
    with pytest.raises(ValueError, match="model 'als_expl' is not one of"):
        tune(bunch(), "als_expl")
    with pytest.raises(TypeError, match="tune needs the name of a model"):
        tune(bunch(), bunch())
    with pytest.raises(TypeError, match="tune needs a CollabDataBunch, got DataFrame"):
        tune(CLEAR, "als_explicit")


def test_without_optuna_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "optuna":
            raise ImportError("No module named 'optuna'")
        return real(name, *args, **kwargs)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install '\.\[tune\]' .* or pip install optuna"):
        tune(bunch(), "als_explicit", 2)
    assert study_file.NEEDED
