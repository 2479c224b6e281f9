"""BayesianFM: its chain, the draws it keeps, intervals and new users."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import fit_quietly, interrupted_at
from scipy.stats import norm

from collab import (
    Checkpoint,
    CollabDataBunch,
    CollabInterpretation,
    DataError,
    Unsupported,
    collab_learner,
    load_learner,
    synthetic,
)
from collab.models.bayesian import BayesianFM
from collab.models.drawn_side import DrawnSide
from collab.models.mixture import Mixture
from collab.ragged import Ragged

RATINGS = synthetic(n_users=60, n_items=40, n_ratings=1_200, seed=4).ratings


def bunch(ratings=RATINGS, **options):
    return CollabDataBunch.from_df(ratings, **{"seed": 0, "bs": 256, "device": "cpu", **options})


def fitted(data, n=3, **options):
    learn = collab_learner(data, "bayes", **{"n_factors": 3, "n_draws": 16, **options})
    fit_quietly(learn, n)
    return learn


@pytest.fixture(scope="module")
def learn():
    return fitted(bunch())


# The chain ---------------------------------------------------------------------------------------------------------

def test_every_second_draw_is_dropped_when_there_is_no_room():
    """Of 4 places: 1 2 3 4, then 2 4 6 8, then 4 8 12."""
    data = bunch(valid_pct=0)
    model = collab_learner(data, "bayes", 2, n_draws=4, per_epoch=1).model
    prepared, states, seen = model.prepare(*data.train.tensors), [], []
    for _ in range(13):
        model.sweep(prepared)
        states.append(model.u.x[1:].clone())
        places = model.kept_at.nonzero()[:, 0]
        seen.append(sorted(next(k + 1 for k, x in enumerate(states) if torch.equal(x, model.u.draws[1:, place, :-1]))
                           for place in places))
        assert seen[-1] == sorted(model.kept_at[places].tolist())
    assert seen == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [2, 4], [2, 4, 6], [2, 4, 6], [2, 4, 6, 8], [2, 4, 6, 8],
                    [4, 8], [4, 8], [4, 8, 12], [4, 8, 12]]


def test_a_chain_that_was_stopped_and_resumed_has_the_same_bits(tmp_path):
    whole = fitted(bunch(), 6, n_draws=8)
    cut, again = (collab_learner(bunch(), "bayes", 3, n_draws=8) for _ in range(2))
    fit_quietly(cut, 6, cbs=[Checkpoint(tmp_path / "c", every=1), interrupted_at("cleanup_epoch", 4)])
    assert cut.interrupted and int(cut.model.sweeps) == 32
    fit_quietly(again, 6, resume=tmp_path / "c")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_a_file_goes_on_with_the_chain(learn, tmp_path):
    loaded = load_learner(learn.export(tmp_path / "bayes.safetensors"), device="cpu")
    for name, value in learn.model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[name]), name
    assert learn.model.kept_at[learn.model.used].sort()[0].tolist() == [*range(4, 25, 2)]   # of 24 sweeps


def test_ratings_on_another_scale_give_the_same_on_that_scale():
    """By a power of 2, so that the standardised ratings have the same bits."""
    wide = RATINGS.assign(rating=8 * RATINGS["rating"] - 4)
    one, other = fitted(bunch(), 2), fitted(bunch(wide), 2)
    users, items, _ = one.data.valid.tensors
    with torch.no_grad():
        torch.testing.assert_close(other.model(users, items), 8 * one.model(users, items) - 4, atol=2e-4, rtol=0)


@pytest.mark.parametrize("degrees", [0.0, 8.0])
def test_ratings_without_noise_are_predicted(degrees):
    """Sums of what the user and the item add: the precision of a rating grows until it is held."""
    draw = np.random.default_rng(0)
    b_u, b_i = draw.normal(size=100), draw.normal(size=60)
    pair = draw.choice(6_000, 4_000, replace=False)
    table = pd.DataFrame({"user": pair // 60, "item": pair % 60, "rating": 3 + b_u[pair // 60] + b_i[pair % 60]})
    learn = fitted(bunch(table), 8, degrees=degrees)
    preds, targets = learn.get_preds()
    assert (preds - targets).abs().max() < 0.02
    found = learn.predict(table["user"][:50].tolist(), table["item"][:50].tolist(), interval=0.9)
    assert (found.high - found.low).max() < 0.2


def test_equal_ratings_are_predicted():
    learn = fitted(bunch(RATINGS.assign(rating=3.0), valid_pct=0), 2)
    mean, low, high = learn.predict(RATINGS["user"][0], RATINGS["item"][0], interval=0.9)
    assert (mean, low, high) == pytest.approx((3.0, 3.0, 3.0), abs=0.2)
    assert torch.isfinite(learn.model.u.x).all()


@pytest.mark.parametrize(("options", "said"), [({"n_draws": 2.5}, "whole number"), ({"n_draws": 0}, "at least 1"),
                                               ({"degrees": 1.5}, "above 2"),
                                               ({"per_epoch": 0}, "per_epoch"), ({"degrees": -1.0}, "degrees"),
                                               ({"levels": [2, 1]}, "ascending")])
def test_wrong_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        BayesianFM(2, 5, 5, **options)


# How sure it is ----------------------------------------------------------------------------------------------------

def planted(n_users=150, n_items=80, n=6_000, erratic=10):
    """Ratings 10 + b_u + b_i + x_u . z_i plus noise of deviation 0.5, and of 2 for the first users."""
    draw = np.random.default_rng(0)
    b_u, b_i, x, z = (draw.normal(size=shape) for shape in (n_users, n_items, (n_users, 2), (n_items, 2)))
    pair = draw.choice(n_users * n_items, n, replace=False)
    user, item = pair // n_items, pair % n_items
    noise = np.where(user < erratic, 2.0, 0.5) * draw.normal(size=n)
    rating = 10 + b_u[user] + b_i[item] + (x[user] * z[item]).sum(1) + noise
    return pd.DataFrame({"user": user, "item": item, "rating": rating})


@pytest.fixture(scope="module")
def certain():
    return fitted(bunch(planted(), valid_pct=0.25), 16, n_factors=4, n_draws=64)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_intervals_hold_as_many_ratings_as_they_say(certain, share):
    users, items, ratings = certain.data.valid.tensors
    found = certain.predict(certain.data.users.decode(users), certain.data.items.decode(items), interval=share)
    inside = (found.low <= ratings.numpy()) & (ratings.numpy() <= found.high)
    assert inside.mean() == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / len(ratings)))


def test_who_rates_erratically_has_wide_intervals(certain):
    noise = certain.model.u.draws[:, certain.model.used, -1].mean(1)[1:]
    erratic = torch.tensor([user < 10 for user in certain.data.users])
    assert noise[erratic].max() < noise[~erratic].min()
    found = certain.predict(list(certain.data.users), next(iter(certain.data.items)), interval=0.9)
    wide = found.high - found.low
    assert np.median(wide[erratic.numpy()]) > 2 * np.median(wide[~erratic.numpy()])


def test_a_mixture_has_the_quantiles_of_its_distribution():
    one = Mixture(torch.tensor([[2.0], [-1.0]]).double(), torch.tensor([[3.0], [0.5]]).double())
    for share in (0.025, 0.5, 0.9):
        expected = norm.ppf(share, [2.0, -1.0], [3.0, 0.5])
        np.testing.assert_allclose(one.quantile(share).numpy(), expected, atol=1e-9)
    two = Mixture(torch.tensor([[0.0, 10.0]]).double(), torch.ones(1, 2).double())
    assert two.mean.item() == 5.0
    assert two.quantile(0.25).item() == pytest.approx(0.0, abs=1e-9)        # half of the first
    assert two.below(torch.tensor([5.0])).item() == pytest.approx(0.5)
    assert two.below(torch.tensor([[0.0, 10.0]])).tolist() == [pytest.approx([0.25, 0.75], abs=1e-9)]


def test_the_interval_of_a_pair_is_the_mixture_over_draws(learn):
    """Mean and variance of what is drawn: of each draw's score, and of its noise."""
    user, item = RATINGS["user"][0], RATINGS["item"][0]
    model, used = learn.model, learn.model.used
    x = model.u.draws[learn.data.users[user], used].double()
    z = model.i.draws[learn.data.items[item], used].double()
    means = model.mu + model.spread * ((x[:, :3] * z[:, :3]).sum(1) + x[:, 3] + z[:, 3])
    deviations = model.spread / (model.alpha[used] * x[:, 4] * z[:, 4]).sqrt()
    found = learn.predict(user, item, interval=0.8)
    assert found.mean == pytest.approx(means.mean().item(), abs=1e-5)
    for limit, share in ((found.low, 0.1), (found.high, 0.9)):
        below = torch.special.ndtr((limit - means) / deviations).mean().item()
        assert limit in learn.data.scale or below == pytest.approx(share, abs=1e-5)


def test_probabilities_are_the_shares_of_the_mixture_between_levels_and_habits(learn):
    """A level has what lies nearer to it than to others, times a factor of the user."""
    levels = sorted(RATINGS["rating"].unique())
    users, items, ratings = learn.data.valid.tensors
    shares = learn.model.probabilities(users, items)
    mixture = learn.model.predictive(users, items)
    middles = torch.tensor([(low + high) / 2 for low, high in pairwise(levels)]).expand(len(users), -1)
    parts = torch.nn.functional.pad(mixture.below(middles), (1, 1))
    parts[:, -1] = 1
    weighted = parts.diff(dim=1) * learn.model.habits.factors[users]
    torch.testing.assert_close(shares, (weighted / weighted.sum(1, keepdim=True)).float())
    table = learn.probabilities(RATINGS["user"][0], RATINGS["item"][0])
    assert [*table.columns] == ["user", "item", *levels, "most_likely"]
    told = shares[torch.arange(len(users)), torch.searchsorted(learn.model.rating_levels(), ratings)].log().mean()
    by_chance = np.log(RATINGS["rating"].value_counts(normalize=True)[ratings.tolist()]).mean()
    assert told > by_chance + 0.05


def test_a_users_habits_are_those_of_the_training_ratings():
    """The even users give whole stars alone: of half stars that the scores make likely, hardly any are expected of
    them, and of the others as many as before."""
    drawn = synthetic(n_users=60, n_items=40, n_ratings=1_600, seed=4, step=0.5).ratings
    whole = drawn["user"] % 2 == 0
    drawn["rating"] = drawn["rating"].where(~whole, drawn["rating"].round())
    learn = fitted(bunch(drawn), 8)
    users, items, _ = learn.data.valid.tensors
    half = learn.model.rating_levels() % 1 > 0
    even = torch.tensor(learn.data.users.decode(users.numpy()).astype(int) % 2 == 0)
    shares = learn.model.probabilities(users, items)[:, half].sum(1)
    alone = learn.model.shares(users, items, learn.model.used)[:, half].sum(1)
    assert alone[even].mean() > 0.3
    assert shares[even].mean() < alone[even].mean() / 2
    assert shares[~even].mean() > 0.3
    back = fitted(bunch(drawn), 8)
    assert torch.equal(back.model.habits.factors, learn.model.habits.factors)


def test_ratings_on_too_many_levels_have_no_probabilities(certain):
    with pytest.raises(Unsupported, match="BayesianFM knows of no levels of ratings"):
        certain.probabilities(0, 1)


def test_intervals_are_floats_for_one_pair_and_arrays_for_several(learn):
    one = learn.predict(RATINGS["user"][0], RATINGS["item"][0], interval=0.9)
    several = learn.predict([*RATINGS["user"][:2]], [*RATINGS["item"][:2]], interval=0.9)
    assert all(isinstance(value, float) for value in one)
    assert [part.shape for part in several] == [(2,)] * 3
    assert [part[0] for part in several] == pytest.approx(list(one), abs=1e-6)
    assert learn.data.scale[0] <= one.low < one.mean < one.high <= learn.data.scale[1]


@pytest.mark.parametrize("interval", [0.0, 1.0, 90, "0.9"])
def test_an_interval_is_a_probability(learn, interval):
    with pytest.raises(ValueError, match="a probability between 0 and 1"):
        learn.predict(RATINGS["user"][0], RATINGS["item"][0], interval=interval)


def test_models_that_are_not_drawn_have_no_intervals():
    dots = collab_learner(bunch(), "dot_bias", 3)
    for who in ({"user": RATINGS["user"][0]}, {"ratings": {RATINGS["item"][1]: 4.0}}):
        with pytest.raises(Unsupported, match="EmbeddingDotBias gives scores without their uncertainty; .*'bayes'"):
            dots.predict(item=RATINGS["item"][0], interval=0.9, **who)


def test_an_explanation_has_one_part_for_all_factors(learn):
    """Factors of different draws have no meaning of their own."""
    found = CollabInterpretation(learn).explain(RATINGS["user"][0], RATINGS["item"][0])
    assert found.parts["part"].tolist() == ["mean", "user bias", "item bias", "factors"]
    assert found.parts["value"].sum() == pytest.approx(found.logit)


def test_an_index_recommends_and_folds_in_nobody(learn):
    """New users are solved draw by draw, which an index does not do."""
    user, index = RATINGS["user"][0], learn.index()
    assert index.recommend(user, 5)["item"].tolist() == learn.recommend(user, 5, exclude=None)["item"].tolist()
    with pytest.raises(DataError):
        index.recommend(ratings={RATINGS["item"][1]: 4.0})


def test_before_a_fit_the_mean_is_predicted_and_the_interval_is_that_of_the_ratings():
    learn = collab_learner(bunch(), "bayes", 3, n_draws=4)
    found = learn.predict(RATINGS["user"][0], RATINGS["item"][0], interval=0.9)
    assert found.mean == pytest.approx(learn.data.mean, abs=1e-5) and np.isfinite(found).all()


def test_a_refusal_names_no_option_that_there_is_not():
    with pytest.raises(Unsupported, match=r"BayesianFM is solved, .* takes no lr; its options are given when"):
        collab_learner(bunch(), "bayes", lr=0.1)


def test_what_a_pair_without_ratings_leaves_open_is_in_its_interval():
    """Mean and variance of many draws of x, z and the noise, one by one."""
    model = BayesianFM(1, 3, 3, n_draws=1)
    model.kept_at[0] = 1
    for side, x, variance in ((model.u, [1.0, 0.5], [0.4, 0.3]), (model.i, [-2.0, 0.2], [0.5, 0.1])):
        side.draws[1, 0] = torch.tensor([*x, 1.0])
        side.variance[0, 0] = torch.tensor(variance)
    model.alpha[0] = 2.0
    row = torch.tensor([1])
    draw = np.random.default_rng(0)
    x, b, z, c = (mean + np.sqrt(v) * draw.normal(size=400_000) for mean, v in (
        (1.0, 0.4), (0.5, 0.3), (-2.0, 0.5), (0.2, 0.1)))
    drawn = x * z + b + c + draw.normal(size=400_000) / np.sqrt(2.0)
    found = model.predictive(row, row)
    assert found.mean.item() == pytest.approx(drawn.mean(), abs=0.02)
    assert found.deviations.item() ** 2 == pytest.approx(drawn.var(), rel=0.01)
    model.u.share[1] = model.i.share[1] = 1
    assert model.predictive(row, row).deviations.item() ** 2 == pytest.approx(0.5)


@pytest.mark.parametrize("history", [True, False])
def test_the_features_of_a_user_are_a_constant_what_they_rated_and_metadata(history):
    codes, weights = torch.tensor([[0, 0], [1, 0], [0, 2]]), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 2.0]])
    model = BayesianFM(1, 3, 4, users=(codes, weights, torch.tensor([0, 0, 1])), history=history, n_draws=1)
    pairs = Ragged.unique(torch.tensor([1, 1, 2]), torch.tensor([1, 3, 3]), None, 3, 4)
    design, root = model.u.design(pairs), 0.5 ** 0.5
    features = design.ahead(torch.eye(len(model.u.beta)))
    own = [[0, 0, 0, 0], [0, root, 0, root], [0, 0, 0, 1]]
    rows = [[1.0, *(own[r] if history else []), *known] for r, known in ((1, [0, 1, 0]), (2, [0.5, 0, 2]))]
    torch.testing.assert_close(features[1:], torch.tensor(rows))
    assert not features[0].any()
    assert design.group.tolist() == ([0, 1, 1, 1, 1, 2, 2, 3] if history else [0, 1, 1, 2])


# New users and cold items ------------------------------------------------------------------------------------------

def test_a_new_user_is_solved_in_every_draw():
    """Without noise of their own: ridge regressions around the average user, one by one."""
    learn = fitted(bunch(), degrees=0.0)
    model, items, ratings = learn.model, torch.tensor([3, 7, 11]), torch.tensor([1.0, 4.0, 5.0])
    total = np.zeros(learn.data.n_items)
    draws = model.used.tolist()
    for k in draws:
        z = model.i.draws[:, k].double().numpy()
        design, target = np.c_[z[items, :3], np.ones(3)], (ratings.numpy() - model.mu.item()) / model.spread.item()
        ridge = np.diag(1 / (model.alpha[k].item() * model.u.variance[k, 0].double().numpy()))
        average = model.u.draws[0, k, :4].double().numpy()
        left = design.T @ design + ridge
        x = np.linalg.solve(left, design.T @ (target - z[items, 3]) + ridge @ average)
        total += z[:, :3] @ x[:3] + x[3] + z[:, 3]
    expected = model.mu.item() + model.spread.item() * total / len(draws)
    np.testing.assert_allclose(model.score_new(items, ratings).numpy(), expected, atol=1e-5)


def test_few_ratings_leave_wide_intervals(certain):
    user = next(user for user in certain.data.users if user >= 10)
    history = certain.rated(user, part="train").set_index("item")["rating"]
    other = next(item for item in certain.data.items if item not in history.index)
    few, all_of_it = (certain.predict(ratings=own, item=other, interval=0.9) for own in (history[:2], history))
    assert few.high - few.low > 1.2 * (all_of_it.high - all_of_it.low)


def test_a_new_user_who_rates_as_a_known_one_is_predicted_alike(certain):
    user = next(user for user in certain.data.users if user >= 10)
    history = certain.rated(user, part="train").set_index("item")["rating"]
    others = [item for item in certain.data.items if item not in history.index]
    known = certain.predict(user, others, interval=0.8)
    new = certain.predict(ratings=history, item=others, interval=0.8)
    assert np.abs(known.mean - new.mean).mean() < 0.1 * (known.high - known.low).mean()
    assert (new.high - new.low).mean() == pytest.approx((known.high - known.low).mean(), rel=0.2)


def genres():
    """Items of two genres that differ by 3, the last two of them without training ratings."""
    draw = np.random.default_rng(0)
    films = pd.DataFrame({"item": range(42), "genres": ["War" if k % 2 else "Comedy" for k in range(42)]})
    table = pd.DataFrame({"user": np.repeat(np.arange(50), 20), "item": np.concatenate(
        [draw.choice(40, 20, replace=False) for _ in range(50)])})
    table["rating"] = 5.0 + 3.0 * (table["item"] % 2) + draw.normal(size=len(table))
    held = pd.DataFrame({"user": [0, 1], "item": [40, 41], "rating": [5.0, 8.0]})
    return CollabDataBunch.from_df(pd.concat([table, held], ignore_index=True), items=films, item_features=["genres"],
                                   split=lambda table: (np.flatnonzero(table["item"] < 40),
                                                        np.flatnonzero(table["item"] >= 40)),
                                   seed=0, bs=256, device="cpu")


def test_a_cold_item_has_what_its_metadata_say_and_a_wider_interval():
    learn = fitted(genres(), 8, n_draws=32)
    comedy, war = learn.predict([3, 3], [40, 41], interval=0.9).mean
    assert comedy == pytest.approx(5.0, abs=0.6)
    assert war == pytest.approx(8.0, abs=0.6)
    cold, rated = np.subtract(*reversed(learn.predict([3, 3], [41, 39], interval=0.9)[1:]))
    assert cold > rated


def test_what_metadata_leave_open_is_that_of_an_average_rating():
    """Of two rated items and a cold one of the same genre, all of whose x is 3 of its genre and a rest: 1 of the item
    with 30 ratings, 5 of that with 10."""
    features = (torch.zeros(4, 1, dtype=torch.int64), torch.tensor([[0.0], [1.0], [1.0], [1.0]]), torch.tensor([0]))
    side = DrawnSide(4, 3, 1, 2, features, history=False)
    side.share.copy_(torch.tensor([0.0, 0.75, 0.25, 0.0]))
    side.beta[-1], side.x[1], side.x[2] = 3.0, 4.0, 8.0
    side.keep(0)
    torch.testing.assert_close(side.draws[:, 0, 0], torch.tensor([6.0, 4.0, 8.0, 3.0 + 2.0]))       # row 0: the mean
    torch.testing.assert_close(side.variance[0], torch.tensor([[4.0, 4.0], [3.0, 3.0]]))
