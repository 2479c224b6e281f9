"""Ratings as classes: the softmax by hand, the loss, what the learner makes of it, and calibration."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from collab import (
    CollabDataBunch,
    CollabInterpretation,
    DataError,
    RatingClassifier,
    RatingCrossEntropy,
    collab_learner,
    load_learner,
    synthetic,
)
from collab.evaluate.accuracy import errors
from collab.interpret.calibration import calibration_table

LEVELS = (1.0, 2.0, 4.5)


def some_model(levels=LEVELS, drop=0.0):
    torch.manual_seed(0)
    model = RatingClassifier(3, 6, 8, levels, drop=drop)
    for p in model.parameters():
        p.data.normal_()
    return model.eval()


@pytest.fixture(scope="module")
def ml():
    return synthetic(n_users=200, n_items=100, n_ratings=8_000, noise=0.4, seed=2)


@pytest.fixture(scope="module")
def learn(ml):
    data = CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, device="cpu")
    learn = collab_learner(data, "classifier", n_factors=8)
    with learn.no_logging():
        learn.fit_one_cycle(6)
    return learn


# The model --------------------------------------------------------------------------------------------------------

def test_probabilities_and_expected_ratings_are_those_by_hand():
    model = some_model()
    for u, i in ((1, 2), (5, 7)):
        w = {name: t.double().numpy() for name, t in model.state_dict().items()}
        logits = [w["class_bias"][c] + z * (w["u_shift.weight"][u, 0] + w["i_shift.weight"][i, 0])
                  + w["u_bias.weight"][u, c] + w["i_bias.weight"][i, c]
                  + sum(w["class_weight"][c, k] * w["u_weight.weight"][u, k] * w["i_weight.weight"][i, k]
                        for k in range(3))
                  for c, z in enumerate((-2.0, -2 + 4 / 3.5, 2.0))]
        shares = [math.exp(x) / sum(map(math.exp, logits)) for x in logits]
        pair = torch.tensor([u]), torch.tensor([i])
        np.testing.assert_allclose(model(*pair)[0].detach(), logits, rtol=1e-5)
        np.testing.assert_allclose(model.probabilities(*pair)[0].detach(), shares, rtol=1e-5)
        assert model.scores(*pair).item() == pytest.approx(sum(p * r for p, r in zip(shares, LEVELS)), rel=1e-6)


def test_cross_is_every_pair_scored_by_itself_also_for_large_logits():
    model, users, items = some_model(), torch.tensor([3, 0, 5]), torch.tensor([1, 7, 1, 2])
    for scale in (1, 200):          # exp(200) is no float
        model.class_bias.data = torch.randn(3) * scale
        pairwise = torch.stack([torch.cat([model.scores(u[None], i[None]) for i in items]) for u in users])
        torch.testing.assert_close(model.cross(users, items), pairwise)


def test_a_new_model_gives_the_shares_of_the_training_ratings():
    model = RatingClassifier(4, 9, 9, LEVELS, counts=(10, 30, 60))
    model.u_weight.weight.data.zero_()
    for table in (model.u_bias, model.i_bias, model.u_shift, model.i_shift):
        table.weight.data.zero_()
    shares = model.probabilities(torch.tensor([3]), torch.tensor([4]))
    torch.testing.assert_close(shares, torch.tensor([[0.1, 0.3, 0.6]]))


def test_config_builds_the_model_again_and_dropout_acts_in_training_only():
    model, pair = some_model(drop=0.5), (torch.arange(6), torch.arange(6))
    again = RatingClassifier(**model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(*pair), model(*pair))
    assert not torch.equal(model.train()(*pair), model(*pair))


@pytest.mark.parametrize(("levels", "options", "message"), [
    ((3.0,), {}, "at least two ratings"), ((2, 1), {}, "ascending"), ((1, 1), {}, "ascending"),
    ((1, 2), {"counts": (1, 2, 3)}, "2 positive numbers"), ((1, 2), {"counts": (0, 2)}, "2 positive numbers")])
def test_levels_and_counts_that_make_no_sense_are_refused(levels, options, message):
    with pytest.raises(ValueError, match=message):
        RatingClassifier(2, 3, 3, levels, **options)


# The loss ---------------------------------------------------------------------------------------------------------

def test_the_loss_is_minus_the_log_probability_of_the_nearest_level():
    loss, logits = RatingCrossEntropy(LEVELS), torch.tensor([[0.0, 1.0, 2.0]]).repeat(5, 1)
    ratings = torch.tensor([1.0, 1.6, 3.25, 3.3, 99.0])         # 3.25 is half way from 2 to 4.5: the lower one
    assert loss.classes(ratings).tolist() == [0, 1, 1, 2, 2]
    total = 1 + math.e + math.e ** 2
    by_hand = -np.mean([math.log(math.exp(c) / total) for c in (0, 1, 1, 2, 2)])
    assert loss(logits, ratings).item() == pytest.approx(by_hand, rel=1e-6)
    for shape in ((5,), (5, 2), (4, 3)):
        with pytest.raises(ValueError, match="5 ratings on 3 levels"):
            loss(torch.zeros(shape), ratings)


# The learner ------------------------------------------------------------------------------------------------------

def test_it_beats_the_mean_and_the_biases(learn):
    table = errors(learn).set_index("model")["rmse"]
    assert table["RatingClassifier"] < table["mean and biases"] < table["mean rating"]
    assert learn.validate()["rmse"] == pytest.approx(table["RatingClassifier"])
    assert isinstance(learn.loss_func, RatingCrossEntropy)


def test_predictions_recommendations_and_reports_are_expected_ratings(learn):
    users, items, _ = learn.data.valid.tensors
    preds, _ = learn.get_preds()
    assert preds.shape == (len(users),)
    with torch.no_grad():
        torch.testing.assert_close(preds, learn.model.eval().scores(users, items))
    found = learn.recommend(1, n=5)                             # as many as there are levels
    np.testing.assert_allclose(found["score"], learn.predict(1, found["item"]), rtol=1e-5)
    assert found["score"].is_monotonic_decreasing
    many = learn.recommend([1, 2, 3], n=5)
    np.testing.assert_allclose(many["score"], learn.predict(many["user"], many["item"]), rtol=1e-5)
    assert learn.show_results(3)["predicted"].between(1, 5).all()
    assert len(learn.similar_items(1, min_ratings=0)) == 10


def test_looks_at_ratings_take_batches_of_any_kind(learn):
    """A list of batches is looked at as the part that it was cut from."""
    some = list(learn.data.valid.with_(bs=7))
    assert learn.show_results(12, some).equals(learn.show_results(12))
    assert errors(learn, some).equals(errors(learn))
    interp = CollabInterpretation(learn)
    assert interp.calibration(part=some).equals(interp.calibration())


def test_probabilities_speak_raw_ids(learn):
    table = learn.probabilities(1, [2, 3, 4])
    assert list(table) == ["user", "item", 1.0, 2.0, 3.0, 4.0, 5.0, "most_likely"]
    assert table["user"].tolist() == [1, 1, 1] and table["item"].tolist() == [2, 3, 4]
    shares = table[[1.0, 2.0, 3.0, 4.0, 5.0]].to_numpy()
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(shares @ np.arange(1, 6), learn.predict(1, [2, 3, 4]), rtol=1e-6)
    assert table["most_likely"].tolist() == (shares.argmax(1) + 1).tolist()
    assert len(learn.probabilities(1, 2)) == 1
    with pytest.warns(UserWarning, match="average user") as caught:
        learn.probabilities(10**6, 2)
    assert caught[0].filename == __file__


def test_a_loaded_classifier_answers_to_the_bit_and_trains_on(learn, tmp_path):
    loaded = load_learner(learn.export(tmp_path / "m.safetensors"), device="cpu")
    assert loaded.model.config == learn.model.config
    pd.testing.assert_frame_equal(loaded.probabilities([1, 2], 3), learn.probabilities([1, 2], 3), check_exact=True)
    pd.testing.assert_frame_equal(loaded.recommend([1, 2]), learn.recommend([1, 2]), check_exact=True)
    assert loaded.loss_func(torch.zeros(2, 5), torch.tensor([1.0, 5.0])).item() == pytest.approx(math.log(5))
    with loaded.no_logging():
        loaded.fit(1)


def test_a_model_of_ones_own_levels_gets_its_loss_and_others_have_no_probabilities(ml):
    data = CollabDataBunch.from_df(ml.ratings, seed=0)
    learn = collab_learner(data, RatingClassifier(2, data.n_users, data.n_items, (1, 3, 5)), lr=1e-3)
    assert len(learn.loss_func.middles) == 2
    plain = collab_learner(data, n_factors=2)
    for ask in (lambda: plain.probabilities(1, 1), CollabInterpretation(plain).calibration):
        with pytest.raises(DataError, match="probabilities"):
            ask()


def test_a_loss_of_scores_is_refused_before_training(ml):
    data = CollabDataBunch.from_df(ml.ratings, seed=0)
    with pytest.raises(ValueError, match="RatingClassifier gives probabilities .* 'mae' compares scores"):
        collab_learner(data, "classifier", loss_func="mae")


def test_more_levels_than_a_scale_has_are_refused(ml):
    ratings = ml.ratings.assign(rating=np.linspace(0, 1, len(ml.ratings)))
    with pytest.raises(DataError, match="more than 101 levels"):
        collab_learner(CollabDataBunch.from_df(ratings, seed=0), "classifier")


def test_biases_are_effects_on_the_expected_rating(learn, ml):
    model, item = learn.model, 7
    row = learn.data.items[item]
    with torch.no_grad():
        rest = model.class_bias + model.u_bias.weight[0] + model.u_shift.weight[0] * model.z
        own, mean = (model.to_scores(rest + model.i_bias.weight[r] + model.i_shift.weight[r] * model.z)
                     for r in (row, 0))
    assert learn.bias(item).item() == pytest.approx((own - mean).item(), abs=1e-6)
    table = CollabInterpretation(learn).biases(n=10**6, min_ratings=20)
    assert np.corrcoef(table["bias"], ml.truth.i_bias[table["id"] - 1])[0, 1] > 0.8
    assert learn.bias([1, 2], is_item=False).shape == (2,)


def test_an_explanation_says_that_there_are_no_parts(learn):
    why = CollabInterpretation(learn).explain(1, 2)
    assert why.parts is None and "no sum of parts" in str(why)
    assert why.score == pytest.approx(learn.predict(1, 2))


# Calibration ------------------------------------------------------------------------------------------------------

def test_bins_and_errors_are_those_by_hand():
    shares = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.0, 1.0]])
    table = calibration_table([(shares[:3], torch.tensor([0, 1, 1])), (shares[3:], torch.tensor([1]))], [1.0, 3.0], 2)
    assert table.to_dict("list") == {"level": [1.0, 1.0, 3.0, 3.0], "low": [0.0, 0.5] * 2, "high": [0.5, 1.0] * 2,
                                     "n": [2, 2, 2, 2], "predicted": pytest.approx([0.15, 0.7, 0.3, 0.85]),
                                     "observed": [0.0, 0.5, 0.5, 1.0]}
    # most likely: 0.8, 0.6, 0.7, 1.0, all in the second bin, of which 3 of 4 are hit: |0.775 - 0.75|
    assert table.attrs["ece"] == pytest.approx(0.025)
    assert table.attrs["classwise_ece"] == pytest.approx((0.15 + 0.2) / 2)
    with pytest.raises(ValueError, match="at least 1 bin"):
        calibration_table([], [1.0, 2.0], 0)


def test_planted_probabilities_are_calibrated_and_shifted_ones_are_off_by_the_shift():
    draw = torch.Generator().manual_seed(0)
    first = torch.rand(200_000, generator=draw) * 0.4 + 0.55                # from 0.55 to 0.95
    true = (torch.rand(200_000, generator=draw) > first).long()
    for shift in (0.0, 0.05, -0.05):
        shares = torch.stack([first + shift, 1 - first - shift], 1)
        table = calibration_table([(part, c) for part, c in zip(shares.split(999), true.split(999))], [1.0, 2.0])
        assert table.attrs["ece"] == pytest.approx(abs(shift), abs=4e-3)
        assert table.attrs["classwise_ece"] == pytest.approx(abs(shift), abs=4e-3)
        assert table.groupby("level")["n"].sum().tolist() == [200_000, 200_000]


def test_calibration_is_over_the_validation_part_and_changes_nothing(learn):
    interp, state = CollabInterpretation(learn), torch.get_rng_state()
    table = interp.calibration(bins=5)
    assert table.groupby("level")["n"].sum().tolist() == [learn.data.valid.n] * 5
    shares = learn.data.valid.tensors[2].numpy()
    for level, rows in table.groupby("level"):
        assert np.average(rows["observed"], weights=rows["n"]) == pytest.approx((shares == level).mean())
    assert 0 < table.attrs["ece"] < 0.2 and torch.equal(torch.get_rng_state(), state)
    assert interp.calibration(bins=5, part=learn.data.train)["n"].sum() == 5 * learn.data.train.n
    some = learn.data.show_batch(50)
    assert interp.calibration(bins=5, part=some)["n"].sum() == 5 * 50
    ax = Figure().subplots()
    assert interp.plot_calibration(ax=ax) is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1", "2", "3", "4", "5"]
