"""Business rules of recommend, recommend_all and similar_items: where, among, without, diversity; what it costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from collab import CollabDataBunch, CollabLearner, DataError, collab_learner, compare, evaluate, synthetic
from collab.models.base import Unsupported

ML = synthetic(60, 40, 900, seed=1)
FILMS = ML.items.assign(year=range(1960, 2000), genres=["Drama|War", "Comedy", "War", "Drama"] * 10)


def fitted(name: str = "dot_bias") -> CollabLearner:
    data = CollabDataBunch.from_df(ML.ratings, items=FILMS, seed=0, device="cpu", implicit=name == "ease")
    learn = collab_learner(data, name, n_factors=4)
    with learn.no_logging():
        learn.fit() if name == "ease" else learn.fit_one_cycle(3)
    return learn


@pytest.fixture(scope="module")
def learn() -> CollabLearner:
    return fitted()


def test_where_keeps_the_order_of_what_it_keeps(learn):
    user, rules = learn.data.users.ids[4], {"genres": "War", "year": ">=1980"}
    kept = FILMS[FILMS["genres"].str.split("|").map(lambda own: "War" in own) & (FILMS["year"] >= 1980)]["item"]
    every = learn.recommend(user, 40)
    expected = every[every["item"].isin(kept)]
    found = learn.recommend(user, 40, where=rules)
    assert 3 < len(found) < len(every) and found["item"].tolist() == expected["item"].tolist()
    assert found["score"].tolist() == expected["score"].tolist()
    pd.testing.assert_frame_equal(learn.recommend(user, 40, where=["genres=War", "year>=1980"]), found)
    everybody = pd.concat(learn.recommend_all(40, where=rules))
    assert everybody[everybody["user"] == user]["item"].tolist() == found["item"].tolist()
    rated = {learn.data.items.ids[1]: 5.0}
    new = learn.recommend(ratings=rated, n=40)
    ours = learn.recommend(ratings=rated, n=40, where=rules)
    assert ours["item"].tolist() == [i for i in new["item"] if i in {*kept}]
    alike = learn.similar_items(FILMS["item"][0], 40, 0)
    assert learn.similar_items(FILMS["item"][0], 40, 0, where=rules)["item"].tolist() == [
        i for i in alike["item"] if i in {*kept}]


def test_where_among_and_without_are_all_obeyed(learn):
    user = learn.data.users.ids[4]
    some, out = FILMS["item"][:30].tolist(), FILMS["item"][10:14].tolist()
    found = learn.recommend(user, 40, where="genres=War", among=some, without=out, exclude=None)
    expected = [i for i in some if i not in out and "War" in FILMS.set_index("item").loc[i, "genres"]]
    assert {*found["item"]} == {*expected}
    with pytest.raises(DataError, match="near it are 'War'"):
        learn.recommend_all(3, where={"genres": "Wra"})
    bare = CollabDataBunch.from_df(ML.ratings, seed=0, device="cpu")
    with pytest.raises(DataError, match="needs to know more of the items than their ids"):
        collab_learner(bare, "dot", n_factors=2).recommend(user, where="genres=War")


def test_without_diversity_the_list_is_the_same_and_with_it_the_rule_is_followed(learn):
    users = learn.data.users.ids[[4, 9]]
    plain = learn.recommend(users, 5)
    pd.testing.assert_frame_equal(learn.recommend(users, 5, diversity=0), plain, check_exact=True)
    found = learn.recommend(users, 5, diversity=0.6)
    unit = torch.nn.functional.normalize(learn.weight().double(), dim=1).numpy()
    for user in users:
        pool = learn.recommend(user, 100)               # all of 40 items are candidates
        rows = learn.data.items.encode(pool["item"]) - 1
        with torch.no_grad():
            raw = learn.model(torch.full((len(rows),), learn.data.users[user]), torch.from_numpy(rows + 1)).numpy()
        relevance = (raw - raw.min()) / (raw.max() - raw.min())
        chosen = [0]
        while len(chosen) < 5:
            gain = 0.4 * relevance - 0.6 * (unit[rows] @ unit[rows[chosen]].T).max(1)
            gain[chosen] = -np.inf
            chosen.append(int(gain.argmax()))
        own = found[found["user"] == user]
        assert own["item"].tolist() == pool["item"].iloc[chosen].tolist() and own["rank"].tolist() == [1, 2, 3, 4, 5]
        assert own["score"].tolist() == pool["score"].iloc[chosen].tolist()
    assert found["item"].tolist() != plain["item"].tolist()
    everybody = pd.concat(learn.recommend_all(5, diversity=0.6))
    assert everybody[everybody["user"] == users[0]]["item"].tolist() == found["item"].tolist()[:5]


def test_diversity_of_a_new_users_list(learn):
    rated = {FILMS["item"][0]: 5.0, FILMS["item"][1]: 1.0}
    found, plain = learn.recommend(ratings=rated, n=5, diversity=0.7), learn.recommend(ratings=rated, n=5)
    assert found["item"].iloc[0] == plain["item"].iloc[0] and {*found["item"]} != {*plain["item"]}


def test_a_model_without_factors_has_no_diversity():
    learn = fitted("ease")
    with pytest.raises(Unsupported, match="EASE learns no factors of items"):
        learn.recommend(learn.data.users.ids[1], diversity=0.3)
    with pytest.raises(ValueError, match="diversity must be a number"):
        learn.recommend_all(3, diversity=2)
    with pytest.raises(Unsupported, match="EASE learns no factors of items"):
        evaluate(learn, diversity=0.3)


def test_evaluate_says_what_diversity_costs_and_gains(learn):
    plain = evaluate(learn, k=5, metrics=("ndcg", "diversity"))
    result = evaluate(learn, k=5, metrics="ndcg", diversity=0.8)
    assert (result.name, result.baseline.name) == ("EmbeddingDotBias, diversity 0.8", "EmbeddingDotBias")
    assert [*result.summary.index] == ["ndcg", "diversity"]
    pd.testing.assert_frame_equal(result.baseline.per_user, plain.per_user)
    table = compare(result, result.baseline, n=200)
    assert table.loc["diversity", "low"] > 0 and result.summary["ndcg"] != plain.summary["ndcg"]
    # one user by hand
    user = result.per_user["user"].iloc[0]
    own = learn.recommend(user, 5, exclude="train", diversity=0.8)
    unit = torch.nn.functional.normalize(learn.weight(own["item"].tolist()).double(), dim=1)
    pairs = [1 - float(unit[a] @ unit[b]) for a in range(5) for b in range(a)]
    assert result.per_user["diversity"].iloc[0] == pytest.approx(np.mean(pairs))
    assert evaluate(learn, k=[3, 5], diversity=0.8).at(5).summary["diversity"] == pytest.approx(
        result.summary["diversity"])


def test_among_and_without_take_conditions_wherever_they_are_taken(learn):
    user, war = learn.data.users.ids[4], {*FILMS[FILMS["genres"].str.contains("War")]["item"]}
    late = {*FILMS[FILMS["year"] >= 1990]["item"]}
    every = learn.recommend(user, 40)["item"].tolist()
    rules = {"among": {"genres": "War"}, "without": [{"year": ">=1990"}, every[0]]}
    expected = [item for item in every if item in war - late - {every[0]}]
    assert learn.recommend(user, 40, **rules)["item"].tolist() == expected and 2 < len(expected) < 20
    everybody = pd.concat(learn.recommend_all(40, **rules))
    assert everybody[everybody["user"] == user]["item"].tolist() == expected
    new = learn.recommend(ratings={every[0]: 5.0}, n=40)["item"]
    assert learn.recommend(ratings={every[0]: 5.0}, n=40, **rules)["item"].tolist() == [
        item for item in new if item in war - late]
    alike = learn.similar_items(every[0], 40, 0)["item"]
    assert learn.similar_items(every[0], 40, 0, **rules)["item"].tolist() == [i for i in alike if i in war - late]
    result = evaluate(learn, k=5, among={"genres": "War"})
    pd.testing.assert_frame_equal(result.per_user, evaluate(learn, k=5, among=sorted(war)).per_user)
