"""Search spaces: those of the recipes hold their own settings, and what a caller gives is checked."""

import re

import pytest

from collab import CollabDataBunch, DataError, synthetic
from collab.learner.ranges import Between, OneOf
from collab.learner.recipes import RECIPES
from collab.select.candidates import defaults, made, used
from collab.select.goal import goal
from collab.select.spaces import options_of, space_of, span_of

ML = synthetic(30, 20, 300, seed=0)


@pytest.fixture(scope="module")
def data():
    return {ranks: CollabDataBunch.from_df(ML.ratings, seed=0, device="cpu", items=ML.items, implicit=ranks,
                                           item_features=["genres"], threshold=3 if ranks else None)
            for ranks in (False, True)}


@pytest.mark.filterwarnings("ignore:.*multiplies the matrix", "ignore:SASRec reads the ratings")
@pytest.mark.parametrize("name", RECIPES)
def test_the_space_of_every_recipe_holds_its_own_settings(name, data):
    recipe = RECIPES[name]
    space = space_of(recipe, None, {}, recipe.ranks)
    learn = made(data[recipe.ranks], recipe, {})
    own = defaults(learn, recipe, space)
    assert space and own.keys() == space.keys()
    assert all(value in space[setting] for setting, value in own.items()), own


@pytest.mark.filterwarnings("ignore:.*multiplies the matrix", "ignore:SASRec reads the ratings")
@pytest.mark.parametrize("name", RECIPES)
def test_a_learner_can_be_made_at_both_ends_of_every_space(name, data):
    recipe = RECIPES[name]
    space = space_of(recipe, None, {}, recipe.ranks)
    for end in (0, -1):
        settings = {setting: span.values[end] if isinstance(span, OneOf) else
                    (span.low, span.high)[end] for setting, span in space.items()}
        learn = made(data[recipe.ranks], recipe, settings)
        assert learn.collab_model.config.get("n_factors", settings.get("n_factors")) == settings.get("n_factors")


def test_multiples_are_of_the_recipe_at_the_size_of_the_data(data):
    recipe = RECIPES["svdpp"]
    plain, half = (made(data[False], recipe, settings | {"bs": 128}) for settings in
                   ({}, {"lr_times": 0.5, "wd_times": 2.0}))
    assert half.lr == pytest.approx(plain.lr / 2) and half.wd == pytest.approx(2 * plain.wd)


def test_dot_bias_builds_on_its_ridge_or_has_a_decay_in_its_place(data):
    recipe = RECIPES["dot_bias"]
    stronger = made(data[False], recipe, {"ridge": 0.4, "lr_times": 0.5})
    assert "Ridge(0.4)" in map(repr, stronger.cbs)
    plain = made(data[False], recipe, {})
    assert stronger.opt_func is plain.opt_func
    decayed = made(data[False], recipe, {"ridge": 0.4, "wd_times": 2.0, "bs": 64})
    assert not any(repr(cb).startswith("Ridge") for cb in decayed.cbs) and decayed.wd == pytest.approx(0.6)
    assert used({"ridge": 0.4, "wd_times": 2.0}) == {"wd_times": 2.0}
    assert used({"ridge": 0.4, "wd_times": None}) == {"ridge": 0.4}


@pytest.mark.parametrize("given, made_of", [
    ((10, 100), Between(10, 100, whole=True)), ((1, 100, "log"), Between(1, 100, log=True, whole=True)),
    ([8, 16], OneOf((8, 16))), (OneOf((3,)), OneOf((3,)))])
def test_ranges_are_written_as_tuples_and_values_as_lists(given, made_of):
    assert span_of("n_factors", given) == made_of
    assert span_of("lr", (1e-4, 1e-2, "log")) == Between(1e-4, 1e-2, log=True)
    assert span_of("hidden", [[50], [100, 50]]) == OneOf(((50,), (100, 50)))


@pytest.mark.parametrize("model, space, says", [
    ("dot_bias", {"n_factor": (1, 9)}, "dot_bias has no setting 'n_factor'; did you mean 'n_factors'?"),
    ("dot_bias", {"learning_rate": (1, 9)}, "did you mean 'lr'?"),
    ("als", {"lr": (1, 9)}, "als has no setting 'lr'"),
    ("ease", {"n_factors": (1, 9)}, "ease has no setting 'n_factors'"),
    ("svdpp", {"ridge": (0.1, 1)}, "svdpp has no setting 'ridge'"),
    ("dot_bias", {"n_factors": (0, 9)}, "'n_factors' is a whole number from 1 on, got (0, 9)"),
    ("dot_bias", {"n_factors": (2.5, 9)}, "'n_factors' is a whole number"),
    ("dot_bias", {"lr": (0.1, 0.01)}, "'lr' must have a lower and a higher end, got (0.1, 0.01)"),
    ("dot_bias", {"lr": (0, 0.01, "log")}, "above 0 by logarithm"),
    ("dot_bias", {"lr": (0.1, 0.2, "linear")}, "needs (low, high), (low, high, \"log\") or a list of values"),
    ("dot_bias", {"lr": 0.1}, "needs (low, high)"),
    ("dot_bias", {"lr": (0.1, 0.2), "lr_times": (1, 2)}, "'lr_times' is a multiple of the recipe's own 'lr'"),
    ("dot_bias", {}, "space is a dict of settings and ranges"),
    ("dot_bias", {"epochs": (1, 5)}, "'epochs' is given as 3 too; leave one of the two out")])
def test_a_space_that_does_not_fit_is_refused_with_what_is_near(model, space, says):
    with pytest.raises(DataError, match=re.escape(says)):
        space_of(RECIPES[model], space, {"epochs": 3} if model == "dot_bias" else {}, False)


def test_what_is_given_is_not_searched():
    searched = space_of(RECIPES["dot_bias"], None, {"n_factors": 8, "lr": 0.01}, False)
    assert {"n_factors", "lr", "lr_times"}.isdisjoint(searched) and {"epochs", "ridge"} <= {*searched}
    with pytest.raises(DataError, match="did you mean 'epochs'"):
        space_of(RECIPES["dot_bias"], None, {"epoch": 8}, False)


def test_the_options_of_an_objective_are_settings_of_models_that_rank():
    assert "n_negatives" in options_of(RECIPES["bpr"], True) and "n_negatives" not in options_of(RECIPES["dot"], False)


@pytest.mark.parametrize("metric", ["diversity", "diversity@5", "novelty@10", "popularity", "coverage@3"])
def test_what_a_list_is_like_is_no_goal(metric, data):
    for ranks in (True, False):
        with pytest.raises(DataError, match=f"metric='{metric}' is not one of rmse, mae, mse, "):
            goal(metric, data[ranks], ranks)
