"""recommend(risk=, interval=): by a quantile of the rating, or by a draw; and the intervals beside it."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import fit_quietly

from collab import CollabDataBunch, DataError, Unsupported, collab_learner, synthetic
from collab.models.bayesian import BayesianFM
from collab.retrieval import cautious
from collab.retrieval.cautious import by_quantile

SET = synthetic(n_users=60, n_items=40, n_ratings=1_200, seed=4)
COLD = 41           # a film that nobody rated
FILMS = pd.concat([SET.items, SET.items.iloc[:1].assign(item=COLD, title="Nobody's film")], ignore_index=True)
RATED = {1: 5.0, 2: 1.0, 3: 4.0}


def bunch():
    return CollabDataBunch.from_df(SET.ratings, items=FILMS, item_features="auto", title_name="title", seed=0, bs=256,
                                   device="cpu")


@pytest.fixture(scope="module")
def learn():
    learn = collab_learner(bunch(), "bayes", 3, n_draws=16)
    fit_quietly(learn, 3)
    assert bool(learn.model.i.cold[learn.data.items[COLD]])
    return learn


def quantiles(learn, user, share, *, ratings=None):
    """By item, highest first: the quantile of the rating of each item, computed one by one."""
    found = {}
    for row in range(1, learn.data.n_items):
        item = torch.tensor([row])
        if ratings is None:
            one = learn.model.predictive(torch.tensor([learn.data.users[user]]), item)
        else:
            rows = torch.tensor([learn.data.items[id] for id in ratings])
            one = learn.model.predictive_new(rows, torch.tensor([*ratings.values()]), item)
        found[learn.data.items.ids[row]] = one.quantile(share).item()
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


# By a quantile -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("block", [2048, 7])
def test_the_order_is_that_of_all_quantiles(learn, share, block, monkeypatch):
    """Also where items come in blocks, and in lists of any length."""
    monkeypatch.setattr(cautious, "BLOCK", block)
    for user in (1, 17, 60):
        expected = quantiles(learn, user, share)
        for n in (1, 5, 60):
            found = learn.recommend(user, n, risk=share, exclude=None)
            assert found["item"].tolist() == [*expected][:n]
            assert found["score"].tolist() == pytest.approx(np.clip([*expected.values()][:n], 1, 5), rel=1e-6)
    expected = quantiles(learn, None, share, ratings=RATED)
    found = learn.recommend(ratings=RATED, n=8, risk=share, exclude=None)
    assert found["item"].tolist() == [*expected][:8]


def test_a_lower_quantile_is_not_the_order_of_means(learn):
    """A film that nobody rated is a bold choice, and a poor safe one."""
    rank = {risk: learn.recommend(1, 60, risk=risk, exclude=None)["item"].tolist().index(COLD)
            for risk in (0.05, 0.5, 0.95)}
    assert rank[0.95] < rank[0.5] < rank[0.05]


class Levels:
    """Three items of levels 1 to 3: the first two have the same quantile of 0.2, the second the higher mean."""

    shares = torch.tensor([[0.3, 0.5, 0.2], [0.3, 0.2, 0.5], [0.1, 0.8, 0.1]]).double()

    def __init__(self, items):
        self.own = self.shares[items]

    @property
    def mean(self):
        return (self.own * torch.tensor([1.0, 2, 3])).sum(1)

    def below(self, values):
        return (self.own * (torch.tensor([1.0, 2, 3]) < values[:, None])).sum(1)

    def quantile(self, share):
        return (self.own.cumsum(1) < share).sum(1).double() + 1


def test_of_levels_equal_quantiles_are_ordered_by_the_mean_and_then_by_row():
    found, scores = by_quantile(Levels, torch.arange(3), 3, 0.2)
    assert found.tolist() == [2, 1, 0] and scores.tolist() == [2, 1, 1]
    assert by_quantile(Levels, torch.arange(3), 2, 0.2)[0].tolist() == [2, 1]
    assert by_quantile(Levels, torch.tensor([0, 0, 1]), 2, 0.9)[1].tolist() == [3, 3]
    assert len(by_quantile(Levels, torch.arange(0), 2, 0.2)[0]) == 0


def test_rules_of_lists_hold_as_for_the_mean(learn):
    known = set(learn.rated(1)["item"])
    order = [item for item in quantiles(learn, 1, 0.1) if item not in known]
    assert learn.recommend(1, 60, risk=0.1)["item"].tolist() == order
    assert learn.recommend(1, 60, risk=0.1, without=order[0])["item"].tolist() == order[1:]
    some = sorted(order[3:9])
    assert learn.recommend(1, 4, risk=0.1, among=some)["item"].tolist() == order[3:7]
    several = learn.recommend([1, 17], 3, risk=0.1)
    assert several["user"].tolist() == [1] * 3 + [17] * 3 and list(several["item"][:3]) == order[:3]
    assert set(learn.recommend(ratings=RATED, n=60, risk=0.1)["item"]).isdisjoint(RATED)
    told = learn.recommend(1, 3, risk=0.1, why=True, interval=0.5)
    assert list(told) == ["rank", "item", "title", "score", "low", "high", "why"]
    lists = learn.recommend(1, 3, risk=0.1, interval=0.5, as_frame="dict")
    assert lists["item"] == order[:3] and lists["low"] == told["low"].tolist()
    diverse = learn.recommend(1, 3, risk=0.1, diversity=0.9)
    assert diverse["item"][0] == order[0] and diverse["item"].tolist() != order[:3]
    assert diverse["score"][0] == told["score"][0]


def test_everybody_gets_the_list_that_each_gets(learn):
    whole = pd.concat(learn.recommend_all(3, risk=0.1, interval=0.8), ignore_index=True)
    for user in (1, 30, 60):
        own = learn.recommend(user, 3, risk=0.1, interval=0.8)
        pd.testing.assert_frame_equal(whole[whole["user"] == user].drop(columns="user").reset_index(drop=True), own)


# Intervals ---------------------------------------------------------------------------------------------------------

def test_low_and_high_are_those_of_predict(learn):
    for risk in (None, "mean", 0.1, "draw"):
        found = learn.recommend(17, 5, risk=risk, interval=0.9)
        low, high = learn.predict(17, found["item"].tolist(), interval=0.9)[1:]
        np.testing.assert_allclose(found[["low", "high"]].to_numpy().T, [low, high], rtol=1e-6)
    found = learn.recommend(ratings=RATED, n=5, interval=0.9)
    low, high = learn.predict(item=found["item"].tolist(), ratings=RATED, interval=0.9)[1:]
    np.testing.assert_allclose(found[["low", "high"]].to_numpy().T, [low, high], rtol=1e-6)


def test_the_mean_is_what_it_was(learn):
    plain = learn.recommend(1, 5)
    pd.testing.assert_frame_equal(learn.recommend(1, 5, risk="mean"), plain)
    pd.testing.assert_frame_equal(learn.recommend(1, 5, interval=0.9).drop(columns=["low", "high"]), plain)


# By a draw ---------------------------------------------------------------------------------------------------------

def test_a_draw_is_another_one_each_time_and_the_same_by_its_seed(learn):
    lists = [tuple(learn.recommend(1, 10, risk="draw")["item"]) for _ in range(12)]
    assert len({*lists}) > 1
    one, again, other = (learn.recommend([1, 1, 17], 20, risk="draw", seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(one, again)
    assert one["score"].tolist() != other["score"].tolist()
    new = [learn.recommend(ratings=RATED, n=20, risk="draw", seed=seed)["score"].tolist() for seed in (3, 3, 4)]
    assert new[0] == new[1] != new[2]


def test_looking_by_other_risks_leaves_the_random_state(learn):
    before = torch.get_rng_state()
    for risk in (None, 0.1):
        learn.recommend(1, 3, risk=risk, interval=0.9)
    learn.recommend(1, 3, risk="draw", seed=1)
    learn.recommend(1, 3, risk="draw")
    assert torch.equal(before, torch.get_rng_state())


def test_a_score_is_that_of_one_of_the_draws(learn):
    model, row = learn.model, learn.data.users[1]
    items = torch.tensor([learn.data.items[id] for id in (1, 2, 3)])
    user, means = torch.tensor([row]), model.predictive(torch.tensor([row]), items).means.T
    chosen = set()
    for seed in range(60):
        scores = model.drawn_scorer(torch.Generator().manual_seed(seed))(user, items)[0]
        apart = (means - scores).abs().amax(1)
        assert apart.min() < 1e-5
        chosen.add(int(apart.argmin()))
    assert 1 < len(chosen) <= len(means) == len(model.used)


@pytest.mark.parametrize("who", ["known", "unknown", "new"])
@pytest.mark.parametrize("item", [5, COLD])
def test_draws_are_distributed_as_what_the_model_does_not_know(learn, who, item):
    """As the ratings are, without their noise: 600 draws, whose mean and deviation have standard errors of s / 24 and
    s / 35."""
    model, row = learn.model, torch.tensor([learn.data.items[item]])
    user = torch.tensor([learn.data.users[1] if who == "known" else 0])
    rows, values = torch.tensor([learn.data.items[id] for id in RATED]), torch.tensor([*RATED.values()])
    ratings = model.predictive_new(rows, values, row) if who == "new" else model.predictive(user, row)
    a_u = model._solved(rows, values)[2] if who == "new" else model.u.split(user, model.used)[2][0]
    noise = model.spread ** 2 / (model.alpha[model.used] * a_u * model.i.split(row, model.used)[2][0])
    variance = ratings.means.var(correction=0) + (ratings.deviations ** 2 - noise).mean()
    generators = [torch.Generator().manual_seed(seed) for seed in range(600)]
    drawn = torch.stack([model.score_drawn(rows, values, one)[row[0]] if who == "new" else
                         model.drawn_scorer(one)(user, row)[0, 0] for one in generators]).double()
    assert drawn.mean().item() == pytest.approx(ratings.mean.item(), abs=4 * variance.sqrt().item() / 24)
    assert drawn.std().item() == pytest.approx(variance.sqrt().item(), rel=0.12)


# Refusals ----------------------------------------------------------------------------------------------------------

def test_other_models_have_the_mean_alone(learn):
    plain = collab_learner(bunch())
    assert len(plain.recommend(1, 3, risk="mean")) == 3
    for options in ({"risk": 0.1}, {"risk": "draw"}, {"interval": 0.9}):
        with pytest.raises(Unsupported, match="EmbeddingDotBias gives scores without their uncertainty; .*'bayes'"):
            plain.recommend(1, 3, **options)
        with pytest.raises(Unsupported, match="EmbeddingDotBias gives scores without their uncertainty"):
            plain.recommend(ratings=RATED, n=3, **options)
        with pytest.raises(DataError, match="an index holds vectors, and not how sure the model is"):
            learn.index().recommend(1, 3, **options)
    assert len(learn.index().recommend(1, 3, risk="mean")) == 3


@pytest.mark.parametrize("options", [{"risk": 0}, {"risk": 1}, {"risk": 90}, {"risk": "safe"}, {"risk": True},
                                     {"interval": 90}, {"interval": 0}, {"interval": "0.9"}])
def test_what_is_neither_a_quantile_nor_a_probability_is_refused(learn, options):
    with pytest.raises(ValueError, match="must be"):
        learn.recommend(1, **options)
    with pytest.raises(ValueError, match="must be"):
        learn.recommend_all(**options)


def test_what_a_chain_knows_before_its_first_sweep_can_be_drawn_too():
    model = BayesianFM(3, 5, 4)
    found = model.drawn_scorer(torch.Generator().manual_seed(0))(torch.arange(5), torch.arange(4))
    assert found.shape == (5, 4) and torch.isfinite(found).all()


@pytest.mark.parametrize(("options", "said"), [
    ({"risk": "draw", "seed": 1.5}, "seed must be a whole number, got 1.5"),
    ({"risk": "draw", "seed": "a"}, "seed must be a whole number, got 'a'"),
    ({"risk": 0.1, "seed": 1}, "seed=1 decides a draw, and risk=0.1 makes none")])
def test_a_seed_is_a_whole_number_and_of_a_draw(learn, options, said):
    with pytest.raises(ValueError, match=said):
        learn.recommend(1, 3, **options)


def test_recommend_all_refuses_a_model_that_is_never_sure_at_once():
    plain = collab_learner(CollabDataBunch.from_df(SET.ratings, device="cpu"), "dot_bias", 2)
    with pytest.raises(Unsupported, match="without their uncertainty"):
        plain.recommend_all(risk=0.1)
