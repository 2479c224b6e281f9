"""learn.noise: users and items by how far their ratings lie from predictions."""

import numpy as np
import pandas as pd
import pytest
from helpers import fit_quietly

from collab import CollabDataBunch, Unsupported, collab_learner

USERS = np.tile([0.5, 0.8, 1.2, 1.8], 20)      # the deviation of users 1 to 80


def planted(by="user", n_ratings=200):
    """Ratings 10 + user + item with this deviation for each user or, by="item", for each item."""
    rng = np.random.default_rng(0)
    one, other = (grid.ravel() for grid in np.meshgrid(np.arange(len(USERS)), np.arange(n_ratings), indexing="ij"))
    means = 10 + rng.normal(size=len(USERS))[one] + rng.normal(size=n_ratings)[other]
    error = USERS[one] * rng.normal(size=len(one))
    user, item = (one, other) if by == "user" else (other, one)
    return pd.DataFrame({"user": user + 1, "item": item + 1, "rating": means + error,
                         "error": error})


def fitted(ratings, n=4, **options):
    learn = collab_learner(CollabDataBunch.from_df(ratings, valid_pct=0, seed=0, bs="full", device="cpu", **{
        name: options.pop(name) for name in [*options] if name in ("items", "title_name")}), "bayes", 1, **options)
    fit_quietly(learn, n)
    return learn


@pytest.mark.parametrize("by", ["user", "item"])
def test_planted_deviations_are_found_in_order(by):
    """A row's 200 ratings have a deviation s around the truth. The prior counts as 8 more with the noise t of all, so
    that sqrt((8 t^2 + 200 s^2) / 208) is expected, and found to 2 %: factors and biases explain a little of it, too.
    Kinds are 1.5 times apart: their order is sure."""
    ratings = planted(by)
    learn = fitted(ratings.drop(columns="error"), 6)
    table, model = learn.noise(by, n=None), learn.model
    assert list(table) == ["id", "n_ratings", "noise"] and (table["n_ratings"] == 200).all()
    assert table["noise"].is_monotonic_decreasing
    assert USERS[table["id"].to_numpy() - 1].tolist() == sorted(USERS, reverse=True)
    own = ratings["error"].pow(2).groupby(ratings[by]).mean()[table["id"]].to_numpy()
    of_all = float((model.spread ** 2 / model.alpha[model.used]).mean())
    ratio = table["noise"].to_numpy() / np.sqrt((8 * of_all + 200 * own) / 208)
    assert ratio == pytest.approx(np.ones(80), abs=0.08)
    assert ratio.reshape(4, 20).mean(1) == pytest.approx(np.ones(4), abs=0.02)      # by kind, the most erratic first


def test_the_noise_is_the_mean_over_draws_in_units_of_the_ratings():
    ratings = planted(n_ratings=10)
    learn = fitted(ratings, 2, n_draws=4)
    model, row = learn.model, learn.data.users[7]
    own = [float(model.spread) * np.sqrt((1 / model.i.draws[1:, k, -1].double()).mean().item()
                                         / (float(model.alpha[k]) * float(model.u.draws[row, k, -1])))
           for k in model.used.tolist()]
    table = learn.noise(n=None).set_index("id")
    assert table.loc[7, "noise"] == pytest.approx(np.mean(own), rel=1e-6)
    wide = fitted(ratings.assign(rating=8 * ratings["rating"]), 2, n_draws=4).noise(n=None).set_index("id")
    assert wide.loc[7, "noise"] == pytest.approx(8 * table.loc[7, "noise"], rel=1e-6)


def test_few_ratings_are_left_out_and_the_first_n_are_listed():
    ratings = planted()
    films = pd.DataFrame({"item": range(1, 201), "title": [f"Film {k}" for k in range(1, 201)]})
    learn = fitted(ratings[(ratings["user"] > 1) | (ratings["item"] <= 4)], 2, items=films, title_name="title")
    assert 1 not in learn.noise(n=None)["id"].tolist()
    assert learn.noise(n=None, min_ratings=4)["id"].nunique() == 80
    items = learn.noise("item", n=3)
    assert list(items) == ["id", "title", "n_ratings", "noise"] and len(items) == 3
    assert items["title"].tolist() == [f"Film {id}" for id in items["id"]]
    assert learn.noise("item", n=3, as_frame="dict") == items.to_dict("list")
    assert len(learn.noise()) == 15
    with pytest.warns(UserWarning, match="no user has 300 training ratings"):
        assert not len(learn.noise(min_ratings=300))


def test_other_models_and_one_noise_for_all_say_so():
    ratings = planted(n_ratings=10)
    data = CollabDataBunch.from_df(ratings, valid_pct=0, seed=0, bs=64, device="cpu")
    with pytest.raises(Unsupported, match="EmbeddingDotBias knows no noise of a user or an item; .*'bayes'"):
        collab_learner(data).noise()
    with pytest.raises(Unsupported, match="BayesianFM has one noise for all, since degrees=0"):
        collab_learner(data, "bayes", degrees=0).noise("item")
    with pytest.raises(ValueError, match="neither 'user' nor 'item'"):
        collab_learner(data, "bayes").noise("users")
    with pytest.raises(ValueError, match="at least 1"):
        collab_learner(data, "bayes").noise(n=0)
