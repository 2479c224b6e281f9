"""BayesianFM of ordinal ratings: levels between cut-points of a latent rating."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import fit_quietly, interrupted_at
from scipy.stats import norm

from collab import Checkpoint, CollabDataBunch, Unsupported, average_learners, collab_learner, load_learner, synthetic
from collab.models.bayesian import BayesianFM
from collab.models.mixture import Graded

RATINGS = synthetic(n_users=60, n_items=40, n_ratings=1_200, seed=4).ratings


def bunch(ratings=RATINGS, **options):
    return CollabDataBunch.from_df(ratings, **{"seed": 0, "bs": 256, "device": "cpu", **options})


def fitted(data, n=3, **options):
    learn = collab_learner(data, "bayes", **{"n_factors": 3, "n_draws": 16, "likelihood": "ordinal", **options})
    fit_quietly(learn, n)
    return learn


@pytest.fixture(scope="module")
def learn():
    return fitted(bunch())


CUTS = np.array([-2.0, -0.5, 0.0, 1.5])


def planted(cuts, n_users=150, n_items=80, n=8_000):
    """Ratings 1, 2, ... by the interval that b_u + b_i + x_u . z_i + N(0, 1) falls into."""
    draw = np.random.default_rng(0)
    b_u, b_i, x, z = (0.7 * draw.normal(size=shape) for shape in (n_users, n_items, (n_users, 2), (n_items, 2)))
    pair = draw.choice(n_users * n_items, n, replace=False)
    user, item = pair // n_items, pair % n_items
    score = b_u[user] + b_i[item] + (x[user] * z[item]).sum(1)
    rating = 1.0 + np.searchsorted(cuts, score + draw.normal(size=n))
    return pd.DataFrame({"user": user, "item": item, "rating": rating, "score": score})


@pytest.fixture(scope="module")
def table():
    return planted(CUTS)


@pytest.fixture(scope="module")
def certain(table):
    return fitted(bunch(table[["user", "item", "rating"]], valid_pct=0.25), 16, n_factors=4, n_draws=64)


def observed(learn):
    """The probabilities of all levels for the held-out ratings, (n, C), and the numbers of their levels."""
    users, items, ratings = learn.data.valid.tensors
    return learn.model.probabilities(users, items), torch.searchsorted(learn.model.rating_levels(), ratings)


# What is found -----------------------------------------------------------------------------------------------------

def test_planted_cut_points_are_found(table):
    """Their distances, in deviations of noise that is the same for all, and where the mean score lies among them."""
    learn = fitted(bunch(table[["user", "item", "rating"]], valid_pct=0.0), 16, n_factors=2, n_draws=64, degrees=0.0)
    cuts = learn.model.kept_cuts[learn.model.used].mean(0).numpy()
    np.testing.assert_allclose(np.diff(cuts), np.diff(CUTS), atol=0.12)
    x, z = (side.draws[:, learn.model.used].double() for side in (learn.model.u, learn.model.i))
    rows = [vocab.encode(table[vocab.name]) for vocab in (learn.data.users, learn.data.items)]
    x, z = x[rows[0]], z[rows[1]]
    scores = (x[..., :-2] * z[..., :-2]).sum(2) + x[..., -2] + z[..., -2]
    assert scores.mean().item() - cuts[2] == pytest.approx(table["score"].mean() - CUTS[2], abs=0.08)
    assert np.corrcoef(scores.mean(1), table["score"])[0, 1] > 0.93


def test_probabilities_are_calibrated(certain):
    """Of each level, in tenths of the held-out ratings by its probability; all sum to 1."""
    shares, classes = observed(certain)
    torch.testing.assert_close(shares.sum(1), torch.ones(len(shares)))
    for k in range(5):
        order = shares[:, k].argsort()
        for rows in order.tensor_split(10):
            said, hits = shares[rows, k].double(), (classes[rows] == k).double()
            error = (said * (1 - said)).sum().sqrt() / len(rows)
            assert (hits.mean() - said.mean()).abs() < 4 * error + 0.01


def test_and_say_more_of_uneven_levels_than_normal_noise_does(certain, table):
    """Without habits, which make up for levels that are rarer than even ones would be."""
    users, items, ratings = certain.data.valid.tensors
    classes = torch.searchsorted(certain.model.rating_levels(), ratings)
    normal = fitted(bunch(table[["user", "item", "rating"]], valid_pct=0.25), 16, n_factors=4, n_draws=64,
                    likelihood="normal")
    assert all(torch.equal(a, b) for a, b in zip(certain.data.valid.tensors, normal.data.valid.tensors))
    shares, others = (learn.model.shares(users, items, learn.model.used) for learn in (certain, normal))
    rows = torch.arange(len(classes))
    gain = (shares[rows, classes] / others[rows, classes]).log()
    assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_intervals_are_of_levels_and_hold_at_least_as_many_as_they_say(certain, share):
    users, items, ratings = certain.data.valid.tensors
    found = certain.predict(certain.data.users.decode(users), certain.data.items.decode(items), interval=share)
    assert {*found.low, *found.high} <= {1.0, 2.0, 3.0, 4.0, 5.0}
    inside = ((found.low <= ratings.numpy()) & (ratings.numpy() <= found.high)).mean()
    assert inside > share - 3 * np.sqrt(share * (1 - share) / len(ratings))
    narrower = (found.low < ratings.numpy()) & (ratings.numpy() < found.high)
    assert narrower.mean() < share


def test_likes_have_two_levels():
    table = planted(np.array([0.3]))
    learn = fitted(bunch(table[["user", "item", "rating"]].assign(rating=table["rating"] - 1), valid_pct=0.2), 8)
    assert learn.model.rating_levels().tolist() == [0.0, 1.0]
    preds, targets = learn.get_preds()
    shares, _ = observed(learn)
    torch.testing.assert_close(shares[:, 1], preds, atol=1e-5, rtol=0)      # the expected rating
    true = norm.cdf(table["score"] - 0.3)
    at_best, at_worst = (true * (1 - true)).mean(), targets.var().item()    # knowing everything, and nothing but a mean
    assert ((preds - targets) ** 2).mean() < at_best + 0.3 * (at_worst - at_best)


def test_half_stars_have_ten_levels():
    table = planted(np.linspace(-2.0, 2.0, 9))
    learn = fitted(bunch(table[["user", "item", "rating"]].assign(rating=table["rating"] / 2), valid_pct=0.2), 8)
    assert learn.model.rating_levels().tolist() == [k / 2 for k in range(1, 11)]
    cuts = learn.model.kept_cuts[learn.model.used].mean(0)
    gaps = cuts.diff()
    assert (gaps / gaps.mean() - 1).abs().max() < 0.2
    assert learn.validate()["rmse"] < 0.75 * table["rating"].std() / 2


# A distribution over levels ----------------------------------------------------------------------------------------

def test_a_graded_distribution_is_the_mean_over_draws():
    means, deviations = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([[1.0, 0.5], [2.0, 1.0]])
    cuts, levels = np.array([[-1.0, 0.5], [-0.5, 1.0]]), np.array([1.0, 2.0, 4.0])
    found = Graded.of(*(torch.from_numpy(t) for t in (means, deviations, cuts, levels)))
    below = norm.cdf((cuts[None] - means[..., None]) / deviations[..., None]).mean(1)
    np.testing.assert_allclose(found.cumulative.numpy(), below, rtol=1e-12)
    shares = np.diff(np.pad(below, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))), axis=1)
    np.testing.assert_allclose(found.mean.numpy(), shares @ levels, rtol=1e-12)


def test_limits_are_the_lowest_levels_that_reach_a_share():
    found = Graded(torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor([[0.25, 0.5], [0.0, 0.875]]).double())
    for share, levels in ((0.1, [1, 2]), (0.25, [1, 2]), (0.3, [2, 2]), (0.5, [2, 2]), (0.51, [4, 2]), (0.9, [4, 4]),
                          (1.0, [4, 4])):
        assert found.quantile(share).tolist() == levels, share
    assert found.below(torch.tensor([2.0, 2.0])).tolist() == [0.25, 0.0]
    assert found.below(torch.tensor([[0.5, 1.0, 1.5, 4.0, 4.5], [0.0, 1.0, 2.0, 3.0, 9.0]])).tolist() == [
        [0.0, 0.0, 0.25, 0.5, 1.0], [0.0, 0.0, 0.0, 0.875, 1.0]]


def test_a_prediction_is_the_expected_rating_on_every_route(learn):
    user, items = RATINGS["user"][0], list(learn.data.items)
    levels = torch.tensor(learn.model.rating_levels().tolist()).double()
    shares = learn.probabilities(user, items)[[*levels.tolist()]].to_numpy()
    expected = shares @ levels.numpy()
    np.testing.assert_allclose(learn.predict(user, items), expected, atol=1e-5)
    np.testing.assert_allclose(learn.predict(user, items, interval=0.8).mean, expected, atol=1e-5)
    best = learn.recommend(user, 5, exclude=None)
    assert best["item"].tolist() == [items[k] for k in np.argsort(-expected, kind="stable")[:5]]
    np.testing.assert_allclose(best["score"], np.sort(expected)[::-1][:5], atol=1e-5)


def test_what_a_pair_without_ratings_leaves_open_is_in_its_probabilities():
    """A cold user of a warm item: the noise of the latent rating grows."""
    model = BayesianFM(1, 3, 3, n_draws=1, levels=[1, 2, 3], likelihood="ordinal")
    model.kept_at[0] = 1
    model.u.draws[1, 0], model.i.draws[1, 0] = torch.tensor([1.0, 0.5, 1.0]), torch.tensor([-2.0, 0.2, 4.0])
    model.u.variance[0, 0], model.kept_cuts[0] = torch.tensor([0.4, 0.3]), torch.tensor([-1.0, 0.5])
    model.i.share[1] = 1
    row, score = torch.tensor([1]), -2.0 + 0.5 + 0.2
    for cold, variance in ((True, 0.25 + 0.4 * 4 + 0.3), (False, 0.25)):
        model.u.share[1] = float(not cold)
        below = norm.cdf((np.array([-1.0, 0.5]) - score) / variance ** 0.5)
        np.testing.assert_allclose(model.probabilities(row, row)[0], np.diff(np.r_[0, below, 1]), atol=1e-6)


# New users ---------------------------------------------------------------------------------------------------------

def test_a_new_user_who_rates_as_a_known_one_is_predicted_alike(certain):
    user = next(iter(certain.data.users))
    history = certain.rated(user, part="train").set_index("item")["rating"]
    others = [item for item in certain.data.items if item not in history.index]
    known, new = (certain.predict(item=others, **who) for who in ({"user": user}, {"ratings": history}))
    assert np.abs(known - new).mean() < 0.08 and np.corrcoef(known, new)[0, 1] > 0.99
    found = certain.predict(ratings=history, item=others, interval=0.8)
    np.testing.assert_allclose(found.mean, new, atol=1e-5)
    best = certain.recommend(ratings=history, n=3)
    assert best["score"].tolist() == pytest.approx(sorted(new, reverse=True)[:3], abs=1e-5)


def test_a_new_user_without_a_taste_is_near_the_average_one(certain):
    """One rating of the middle moves predictions less than a rating of either end."""
    item, *others = list(certain.data.items)[:20]
    low, middle, high = (certain.predict(ratings={item: rating}, item=others) for rating in (1.0, 3.0, 5.0))
    assert (low < middle).all() and (middle < high).all()


# The chain and its file --------------------------------------------------------------------------------------------

def test_a_chain_that_was_stopped_and_resumed_has_the_same_bits(tmp_path):
    whole = fitted(bunch(), 6, n_draws=8)
    cut, again = (collab_learner(bunch(), "bayes", 3, n_draws=8, likelihood="ordinal") for _ in range(2))
    fit_quietly(cut, 6, cbs=[Checkpoint(tmp_path / "c", every=1), interrupted_at("cleanup_epoch", 4)])
    assert cut.interrupted and int(cut.model.sweeps) == 32
    fit_quietly(again, 6, resume=tmp_path / "c")
    assert len(whole.model.kept_cuts.unique(dim=0)) > 4
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_a_file_goes_on_with_the_chain(tmp_path):
    learn = fitted(bunch())
    loaded = load_learner(learn.export(tmp_path / "bayes.safetensors"), device="cpu")
    assert loaded.model.ordinal and {"cuts", "kept_cuts"} <= {*loaded.model.state_dict()}
    user, items = RATINGS["user"][0], RATINGS["item"][:10].tolist()
    assert loaded.predict(user, items).tolist() == learn.predict(user, items).tolist()
    before = learn.model.cuts.clone()
    fit_quietly(learn, 1)
    moved = (learn.model.cuts - before)
    assert moved[2] == 0 and moved[[0, 1, 3]].all()     # they go on, but for the one that is fixed
    again = collab_learner(bunch(), "bayes", 3, n_draws=16, likelihood="ordinal")
    again.model.load_state_dict(loaded.model.state_dict())
    fit_quietly(again, 1)
    assert again.model.cuts[2] == before[2]             # a chain that goes on does not begin again


def test_latent_ratings_fall_between_the_new_cut_points():
    """Also where the noise of rows is large or small; those of a level that ends nowhere go beyond it."""
    data = bunch(valid_pct=0)
    model = collab_learner(data, "bayes", 2, likelihood="ordinal").model
    prepared = model.prepare(*data.train.tensors)
    model.u.noise.copy_(torch.logspace(-2, 2, len(model.u.noise)))
    before = model.cuts.clone()
    for _ in range(5):
        drawn, cuts = model._latent(prepared)
        if not torch.equal(cuts, before):
            break
    assert not torch.equal(cuts, before)
    ends, classes = torch.cat([cuts[:1] - 1e9, cuts, cuts[-1:] + 1e9]), prepared.classes
    assert (drawn.targets >= ends[classes] - 1e-5).all() and (drawn.targets <= ends[classes + 1] + 1e-5).all()
    apart = (drawn.targets - cuts[-1])[classes == 4]
    loud = model.u.noise[data.train.tensors[0].sort().values][classes == 4] < 1
    assert apart[loud].mean() > 2 * apart[~loud].mean() > 0


def test_a_chain_that_goes_on_keeps_its_cut_points():
    data = bunch(valid_pct=0)
    model = collab_learner(data, "bayes", 2, likelihood="ordinal").model
    model.sweep(model.prepare(*data.train.tensors))
    model.cuts += 0.25
    cuts = model.cuts.clone()
    model.prepare(*data.train.tensors)
    assert torch.equal(model.cuts, cuts)


def test_a_kept_draw_has_the_cut_points_of_its_sweep():
    data = bunch(valid_pct=0)
    model = collab_learner(data, "bayes", 2, n_draws=3, per_epoch=1, likelihood="ordinal").model
    prepared, seen = model.prepare(*data.train.tensors), {}
    for sweep in range(1, 8):
        model.sweep(prepared)
        seen[sweep] = model.cuts.clone()
    assert sorted(model.kept_at.tolist()) == [2, 4, 6]
    for place, sweep in enumerate(model.kept_at.tolist()):
        assert torch.equal(model.kept_cuts[place], seen[sweep])


def test_the_loss_is_the_squared_error_of_expected_ratings():
    data = bunch(valid_pct=0)
    model = collab_learner(data, "bayes", 2, likelihood="ordinal").model
    users, items, ratings = data.train.tensors
    prepared = model.prepare(users, items, ratings)
    said = model.sweep(prepared)
    x, z = model.u.x[users].double(), model.i.x[items].double()
    score = ((x[:, :-1] * z[:, :-1]).sum(1) + x[:, -1] + z[:, -1]).numpy()
    root = (model.u.noise[users] * model.i.noise[items]).sqrt().numpy()
    below = norm.cdf((model.cuts.numpy() - score[:, None]) * root[:, None])
    expected = 5 - below.sum(1)
    assert said == pytest.approx(((ratings.numpy() - expected) ** 2).sum(), rel=1e-5)


# What it refuses ---------------------------------------------------------------------------------------------------

def test_wrong_likelihoods_and_levels_are_refused(learn):
    with pytest.raises(ValueError, match="likelihood must be 'normal' or 'ordinal', got 'probit'"):
        BayesianFM(2, 5, 5, likelihood="probit")
    for levels in (None, [3.0]):
        with pytest.raises(ValueError, match=r"likelihood='ordinal' needs levels, .*leave it out"):
            BayesianFM(2, 5, 5, levels=levels, likelihood="ordinal")
    with pytest.raises(ValueError, match=r"1 of 2 ratings, such as 2\.5, .*levels"):
        learn.model.prepare(torch.tensor([1, 2]), torch.tensor([1, 2]), torch.tensor([2.5, 3.0]))


def test_ratings_on_no_scale_are_refused():
    draw = np.random.default_rng(0)
    with pytest.raises(ValueError, match="on no scale of a few levels"):
        collab_learner(bunch(RATINGS.assign(rating=draw.normal(size=len(RATINGS)))), "bayes", likelihood="ordinal")


def test_it_is_no_product_of_vectors(learn):
    assert learn.model.dot_form() is None
    with pytest.raises(Unsupported, match="BayesianFM has no index"):
        learn.index()
    assert learn.similar_items(RATINGS["item"][0], 3, min_ratings=0).shape[0] == 3


def test_untrained_every_level_is_as_likely():
    learn = collab_learner(bunch(), "bayes", likelihood="ordinal")
    np.testing.assert_allclose(learn.probabilities(RATINGS["user"][0], RATINGS["item"][0]).iloc[0, 2:7].astype(float),
                               0.2, atol=1e-6)


def test_it_is_averaged_with_others(learn):
    other = collab_learner(bunch(), "dot_bias", 3)
    fit_quietly(other)
    both = average_learners([learn, other])
    users, items, _ = learn.data.valid.tensors
    with torch.no_grad():
        expected = (learn.model(users, items) + other.model(users, items)) / 2
        torch.testing.assert_close(both.model(users, items), expected)


def test_the_last_epoch_is_what_is_left():
    """Scores read the habits of users, which are counted before each validation."""
    learn = fitted(bunch(), 2)
    assert learn.recorder.rows[-1]["rmse"] == pytest.approx(learn.validate()["rmse"], abs=1e-6)
