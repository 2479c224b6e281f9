"""log_loss and coverage: metrics of how well a model knows how sure it is."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import fit_quietly

from collab import (
    RMSE,
    CollabDataBunch,
    CollabInterpretation,
    CollabLearner,
    CollabModel,
    DataError,
    Unsupported,
    collab_learner,
    compare_models,
    cross_validate,
    evaluate,
    synthetic,
)
from collab.evaluate import errors
from collab.evaluate.accuracy import errors_and_remark
from collab.evaluate.certainty import certainty, inside, standing
from collab.models.mixture import Mixture

RATINGS = synthetic(n_users=60, n_items=40, n_ratings=1_200, seed=4).ratings
ROWS = pd.DataFrame({"user": [1, 1, 2, 2, 3, 3], "item": [1, 2, 1, 2, 1, 2], "rating": [1.0, 2, 2, 3, 3, 3]})


class Told(CollabModel):
    """Levels 1, 2 and 3, with a probability of 1/8, 1/8 and 3/4 each, as probabilities and as a distribution."""

    levels, shares = torch.tensor([1.0, 2, 3]), torch.tensor([1 / 8, 1 / 8, 3 / 4], dtype=torch.float64)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, users, items):
        return self.weight + torch.full((len(users),), 2.5)

    def rating_levels(self):
        return self.levels

    def probabilities(self, users, items):
        return self.shares.expand(len(users), -1)

    def predictive(self, users, items):
        return Discrete()


class Discrete:
    """What `Told` says, as a distribution of levels alone."""

    def below(self, values):
        return (Told.shares * (Told.levels < values[..., None])).sum(-1)


class Spread(CollabModel):
    """Normal ratings around 3 with a deviation of 0.5, half of the time, and of 2."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, users, items):
        return self.weight + torch.full((len(users),), 3.0)

    def predictive(self, users, items):
        return Mixture(torch.full((len(users), 2), 3.0).double(), torch.tensor([[0.5, 2.0]]).double().expand(
            len(users), -1))


def bunch(ratings=RATINGS, **options):
    return CollabDataBunch.from_df(ratings, **{"seed": 0, "bs": 256, "device": "cpu", **options})


@pytest.fixture(scope="module")
def bayes():
    learn = collab_learner(bunch(), "bayes", 3, n_draws=16)
    fit_quietly(learn, 3)
    return learn


# The log loss ------------------------------------------------------------------------------------------------------

def test_the_log_loss_is_the_mean_of_minus_the_logarithm_of_what_was_given():
    """Of ratings 1, 2, 3 and 3: (3 + 3 + 2 log2(4/3)) ln 2 / 4; the training shares are 1/6, 2/6 and 3/6."""
    learn = CollabLearner(bunch(ROWS, valid_pct=0), Told())
    held_out = pd.DataFrame({"user": [1, 2, 3, 3], "item": [1, 2, 1, 2], "rating": [1.0, 2, 3, 3]})
    table = errors(learn, held_out, metrics=("log_loss",))
    assert list(table) == ["model", "log_loss"]
    assert table["log_loss"][2] == pytest.approx((2 * math.log(8) + 2 * math.log(4 / 3)) / 4, rel=1e-12)
    assert table["log_loss"][0] == pytest.approx((math.log(6) + math.log(3) + 2 * math.log(2)) / 4, rel=1e-12)
    assert math.isnan(table["log_loss"][1])


def test_a_rating_between_levels_counts_as_the_nearest_and_no_rating_costs_more_than_36():
    learn = CollabLearner(bunch(ROWS, valid_pct=0), Told())
    between = pd.DataFrame({"user": [1], "item": [1], "rating": [2.6]})
    assert errors(learn, between, metrics="log_loss")["log_loss"][2] == pytest.approx(math.log(4 / 3))
    learn.model.shares = torch.tensor([0.0, 0.5, 0.5])
    never = pd.DataFrame({"user": [1], "item": [1], "rating": [1.0]})
    assert errors(learn, never, metrics="log_loss")["log_loss"][2] == pytest.approx(52 * math.log(2))


def test_the_log_loss_of_a_classifier_is_its_cross_entropy():
    learn = collab_learner(bunch(), "classifier", 3)
    fit_quietly(learn, 2)
    table = errors_and_remark(learn, metrics=("log_loss", "rmse"))[0]
    assert list(table) == ["model", "log_loss", "rmse"]
    assert table["log_loss"][2] == pytest.approx(learn.validate()["valid_loss"], rel=1e-5)
    assert table["rmse"][2] == pytest.approx(learn.validate()["rmse"], rel=1e-6)


# Coverage ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_coverage_is_the_share_of_ratings_inside_the_interval_of_predict(bayes, share):
    users, items, ratings = bayes.data.valid.tensors
    names = bayes.data.users.decode(users.numpy()), bayes.data.items.decode(items.numpy())
    low, high = bayes.predict(*map(list, names), interval=share)[1:]
    held = (low <= ratings.numpy()) & (ratings.numpy() <= high)
    assert errors(bayes, metrics=f"coverage({share})").iloc[2, 1] == held.mean()
    assert 0 < held.mean() < 1


def test_what_a_model_draws_itself_is_covered_as_often_as_it_says():
    """40,000 ratings: four standard errors are 0.006 at 0.9, and 0.01 at 0.5."""
    generator = np.random.default_rng(0)
    drawn = torch.from_numpy(3 + np.where(generator.random(40_000) < 0.5, 0.5, 2.0) * generator.normal(size=40_000))
    rows = torch.zeros(len(drawn), dtype=torch.int64)
    places = standing(Spread(), rows, rows, drawn)
    for share in (0.1, 0.5, 0.9, 0.95):
        held = inside(*places, share).double().mean().item()
        assert held == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / len(drawn)))
    low, high = (Spread().predictive(rows[:1], rows[:1]).quantile(end).item() for end in (0.05, 0.95))
    assert torch.equal(inside(*places, 0.9), (drawn >= low) & (drawn <= high))


def test_of_discrete_levels_both_ends_of_the_interval_are_inside():
    """The quantiles of 0.25 and 0.75 are 2, up to which 2/8 lie, and 3; those of 0.1 and 0.9 are 1 and 3."""
    rows = torch.zeros(3, dtype=torch.int64)
    places = standing(Told(), rows, rows, torch.tensor([1.0, 2, 3]))
    assert [part.tolist() for part in places] == [[0, 1 / 8, 2 / 8], [1 / 8, 2 / 8, 1]]
    assert inside(*places, 0.5).tolist() == [False, True, True]
    assert inside(*places, 0.8).tolist() == [True, True, True]


def test_an_interval_beyond_the_scale_is_cut_to_its_end():
    """-20 is far below the interval of 90 % around 3; on a scale from -30 to -20 that interval is cut to -20."""
    rows = torch.zeros(1, dtype=torch.int64)
    below, up_to = standing(Spread(), rows, rows, torch.tensor([-20.0]), (-20.0, 5.0))
    assert below.item() == 0 and up_to.item() < 0.01
    below, up_to = standing(Spread(), rows, rows, torch.tensor([-20.0]), (-30.0, -20.0))
    assert up_to.item() == 1 and inside(below, up_to, 0.9).all()


# Where they are asked for --------------------------------------------------------------------------------------------

def test_the_interpretation_has_them_too(bayes):
    table = CollabInterpretation(bayes).errors(metrics=("rmse", "coverage(0.5)", "log_loss"))
    assert list(table) == ["model", "rmse", "coverage(0.5)", "log_loss"]
    assert table["log_loss"][2] < table["log_loss"][0]


def test_cross_validation_measures_them_on_every_fold():
    table = cross_validate(lambda data: collab_learner(data, "bayes", 3, n_draws=16), RATINGS, folds=2,
                           fit=lambda learn: fit_quietly(learn, 2), certainty=("log_loss", "coverage(0.9)"))
    assert list(table)[-3:] == ["log_loss", "coverage(0.9)", "seconds"]
    assert table["coverage(0.9)"].between(0.8, 0.98).all() and table["log_loss"].between(0.5, 1.7).all()
    built = []
    with pytest.raises(Unsupported, match="EmbeddingDotBias gives scores, not probabilities"):
        cross_validate(lambda data: built.append(1) or collab_learner(data), RATINGS, folds=2, certainty="log_loss",
                       fit=lambda learn: built.append("trained"))
    assert built == [1]


def test_a_comparison_decides_by_the_log_loss_and_leaves_gaps():
    found = compare_models(bunch(), ["bayes", "als_explicit"], metrics=["log_loss", "rmse", "coverage(0.9)"], epochs=2,
                           keep=True)
    table = found.table.set_index("model")
    assert table.index[0] == "bayes" and table.loc["als_explicit", "vs best"] == "not measured"
    assert table.loc[["als_explicit", "mean rating", "mean and biases"], "coverage(0.9)"].isna().all()
    assert table["rmse"].notna().all() and math.isnan(table.loc["mean and biases", "log_loss"])
    own = errors(found.learners["bayes"][0], metrics=("log_loss", "coverage(0.9)")).iloc[2]
    assert table.loc["bayes", "log_loss"] == pytest.approx(own["log_loss"], rel=1e-12)
    assert table.loc["bayes", "coverage(0.9)"] == pytest.approx(own["coverage(0.9)"])
    assert "nan" not in str(found) and "Log loss on" in str(found)


def test_a_model_that_is_not_measured_is_not_called_faster():
    found = compare_models(bunch(), ["bayes", "als_explicit"], metrics=["log_loss", "rmse"], epochs=2)
    found.table.loc[found.table["model"] == "bayes", "seconds"] = 1e3
    assert not any("als_explicit" in text for text in found.advice())


# Refusals ----------------------------------------------------------------------------------------------------------

def test_a_model_without_probabilities_or_intervals_is_named():
    data = bunch()
    for make in ("als_explicit", "dot_bias"):
        with pytest.raises(Unsupported, match=r"(ALS|EmbeddingDotBias) gives scores, not probabilities"):
            errors(collab_learner(data, make), metrics="log_loss")
    with pytest.raises(Unsupported, match="RatingClassifier gives scores without their uncertainty"):
        errors(collab_learner(data, "classifier"), metrics="coverage(0.9)")
    with pytest.raises(Unsupported, match="als_explicit: ALS gives scores, not probabilities"):
        compare_models(data, ["bayes", "als_explicit"], metrics="log_loss")
    with pytest.raises(DataError, match="has no log_loss"):
        compare_models(data, ["bpr"], metrics="log_loss")


@pytest.mark.parametrize("name", ["coverage", "coverage()", "coverage(90)", "coverage(0)", "coverage(1)",
                                  "coverage(many)"])
def test_a_coverage_says_of_which_intervals(name):
    with pytest.raises(DataError, match=r"write the probability between 0 and 1 .* such as coverage\(0\.9\)"):
        certainty(name)


def test_names_of_metrics():
    assert certainty("coverage(.5)").name == "coverage(0.5)" and certainty("log_loss").share is None
    assert certainty("rmse") is None and certainty(RMSE()) is None


def test_metrics_of_a_learner_and_of_rankings_say_where_these_are_measured(bayes):
    for metrics in ("log_loss", ["coverage(0.9)"]):
        with pytest.raises(TypeError, match=r"CollabInterpretation\(learn\)\.errors\(metrics=\.\.\.\) measures them"):
            collab_learner(bunch(), metrics=metrics)
    with pytest.raises(TypeError, match="'rmse' is not a metric") as told:
        collab_learner(bunch(), metrics="rmse")
    assert "log_loss" not in str(told.value)
    with pytest.raises(ValueError, match="of ratings, not of lists"):
        evaluate(bayes, metrics=("ndcg", "log_loss"))
    with pytest.raises(DataError, match="is not one of rmse, mae, log_loss, coverage"):
        errors(bayes, metrics="ndcg")


def test_coverage_decides_no_comparison():
    with pytest.raises(DataError, match="cannot decide"):
        compare_models(bunch(), ["bayes"], metrics=["coverage(0.9)", "rmse"])
