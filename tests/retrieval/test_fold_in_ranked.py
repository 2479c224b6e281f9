"""Folding people into models that were trained to rank: the optimum, the ridge, and what is recommended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

from collab import (
    BPR,
    CollabDataBunch,
    CollabLearner,
    DataError,
    FullSoftmax,
    InBatchSoftmax,
    Logistic,
    SampledSoftmax,
    TwoTower,
    collab_learner,
    load_learner,
    synthetic,
)
from collab.learner.objectives import Objective
from collab.models.dot_form import DotForm
from collab.retrieval import fold_in_ranking as ranked
from collab.retrieval.fold_in_ranking import choose_ranked_ridge, solve_ranked

N_ITEMS, K = 15, 3
OBJECTIVES = {
    "bpr": BPR(2), "bpr, seen too, by popularity": BPR(1, beta=0.5, exclude_seen=False),
    "logistic": Logistic(3), "logistic, seen too, by popularity": Logistic(2, beta=1.0, exclude_seen=False),
    "full": FullSoftmax(temperature=0.7), "in batch": InBatchSoftmax(), "in batch, popularity left in":
    InBatchSoftmax(log_q=False, temperature=0.5), "in batch, seen left out": InBatchSoftmax(exclude_seen=True),
    "sampled": SampledSoftmax(4, beta=0.5), "sampled, popularity left in": SampledSoftmax(4, beta=1.0, log_q=False),
    "sampled, seen left out": SampledSoftmax(4, beta=1.0, exclude_seen=True),
    "sampled, seen left out, popularity left in": SampledSoftmax(4, beta=1.0, exclude_seen=True, log_q=False)}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


@pytest.fixture(scope="module")
def data() -> CollabDataBunch:
    ml = synthetic(80, 40, 1600, seed=1)
    return CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, device="cpu", bs=64)


def naive(objective: Objective, scores: np.ndarray, items: list[int], counts: np.ndarray) -> float:
    """The mean over the chosen items, by loops over what each is compared with."""
    c = objective.config
    share = np.where(counts > 0, np.maximum(counts, 1.0) ** c.get("beta", 1.0), 0.0)
    share /= share.sum()
    total, draws = 0.0, c.get("n_negatives", 63)        # 63 other rows in batches of 64
    if "n_negatives" in c and c["exclude_seen"]:        # which are drawn from the rest alone
        draws /= 1 - share[items].sum()
    for j in items:
        others = [i for i in range(len(scores)) if share[i] and not (c.get("exclude_seen") and i in items)]
        if isinstance(objective, BPR):
            q = share[others] / share[others].sum()
            total += sum(w * np.log1p(np.exp(scores[i] - scores[j])) for w, i in zip(q, others))
            continue
        if isinstance(objective, Logistic):
            q, n = share[others] / share[others].sum(), c["n_negatives"]
            drawn = sum(w * -np.log(1 - 1 / (1 + np.exp(-scores[i]))) for w, i in zip(q, others))
            total += (n * drawn - np.log(1 / (1 + np.exp(-scores[j])))) / (n + 1)
            continue
        logits = {i: scores[i] / c["temperature"] + (0 if c.get("log_q", True) else np.log(draws * share[i]))
                  for i in others}
        logits[j] = scores[j] / c["temperature"]
        total += logsumexp(list(logits.values())) - logits[j]
    return total / len(items)


def some_form(unit: bool = False) -> DotForm:
    draw = torch.Generator().manual_seed(0)
    users = torch.randn(6, K, generator=draw)
    return DotForm(torch.nn.functional.normalize(users, dim=1) if unit else users,
                   torch.randn(N_ITEMS, K, generator=draw), torch.randn(6, generator=draw),
                   torch.randn(N_ITEMS, generator=draw), unit=unit)


def known(objective: Objective) -> tuple[Objective, np.ndarray]:
    """The objective over 15 items, the last of them never trained on, and the items' counts."""
    pairs = [(u, i) for u in range(9) for i in range(1, 14) if (3 * u + 2 * i) % (i + 2)]
    frame = pd.DataFrame(pairs, columns=["user", "item"]).assign(rating=1.0)
    cold, films = pd.DataFrame({"user": [0], "item": [99], "rating": [1.0]}), [*range(1, 14), 99]
    data = CollabDataBunch.from_df(pd.concat([frame, cold]), split=lambda df: (np.arange(len(df) - 1), [len(df) - 1]),
                                   seed=0, device="cpu",
                                   items=pd.DataFrame({"item": films, "genre": "a"}), item_features=["genre"])
    objective.setup(data)
    counts = data.counts().numpy().astype(float)
    counts[0] = 0.0
    return objective, counts


@every_objective
def test_the_objective_over_all_items_is_that_of_loops(name: str):
    objective, counts = known(OBJECTIVES[name])
    rng = np.random.default_rng(0)
    for items in ([3], [1, 5, 13], list(range(1, len(counts)))[:6]):
        scores = rng.normal(size=len(counts)) * 3
        found = objective.exact_loss(torch.from_numpy(scores), torch.tensor(items), torch.tensor(items))
        assert found.item() == pytest.approx(naive(objective, scores, items, counts), rel=1e-5)


@every_objective
def test_training_takes_samples_of_it(name: str, data: CollabDataBunch):
    """The mean of many draws of the loss of one row is near what `expected` says (with many negatives a softmax of
    samples is near that of all)."""
    many = {"n_negatives": 4000} if "n_negatives" in OBJECTIVES[name].config else {}
    if name.startswith("in batch"):
        return              # an in-batch loss depends on the other rows; its optimum is compared below
    objective = type(OBJECTIVES[name])(**{**OBJECTIVES[name].config, **many})
    learn = collab_learner(data, "dot_bias", n_factors=4, loss_func=objective, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        learn.model.u_weight.weight.normal_()
    user = 3
    own = data.histories[user][0]
    learn.model.eval()
    learn.xb, learn.yb = [torch.full_like(own, user), own], torch.ones(len(own))
    objective.before_train()
    with torch.no_grad():
        scores = learn.model.cross(torch.tensor([user]), torch.arange(data.n_items))[0]
        learn.pred = learn.model(*learn.xb)
        if isinstance(objective, FullSoftmax):
            objective.predict()
        objective.get_loss()
        exact = objective.exact_loss(scores.double(), own, own).item()
    assert learn.loss.item() == pytest.approx(exact, rel=0.03)


@every_objective
@pytest.mark.parametrize("ridge", [0.1, 3.0])
def test_the_vector_is_the_best_that_another_optimizer_finds(name: str, ridge: float, monkeypatch):
    objective, counts = known(OBJECTIVES[name])
    n_items = len(counts)
    form = some_form()._replace(items=some_form().items[:n_items], i_bias=some_form().i_bias[:n_items], mu=-1.5)
    table, centre = form.items.numpy(), form.users[0].numpy()
    bias = form.i_bias.numpy() + form.mu + form.u_bias[0].item()        # the whole score, which "logistic" asks for
    items = [2, 3, 7, 8]

    def value(p: np.ndarray) -> float:
        fit = naive(objective, table @ p + bias, items, counts)
        return 2 * fit + ridge / 2 * float(((p - centre) ** 2).sum())       # 2 is the root of 4 items
    best = minimize(value, np.zeros(K), method="BFGS", tol=1e-9)
    found = solve_ranked(form, objective.exact_loss, torch.tensor(items), ridge)
    np.testing.assert_allclose(found[:K], best.x, atol=2e-4)
    assert found[K] == form.u_bias[0]
    monkeypatch.setattr(ranked, "MAX_SCORES", 1)                # item by item
    torch.testing.assert_close(solve_ranked(form, objective.exact_loss, torch.tensor(items), ridge), found,
                               atol=1e-5, rtol=1e-4)


def test_a_strong_ridge_leaves_the_average_user_and_a_unit_model_gets_a_unit_vector():
    objective, counts = known(FullSoftmax())
    cut = {"items": some_form().items[:len(counts)], "i_bias": some_form().i_bias[:len(counts)]}
    form = some_form()._replace(**cut)
    held = solve_ranked(form, objective.exact_loss, torch.tensor([2, 3]), 1e7)
    torch.testing.assert_close(held[:K].float(), form.users[0], atol=1e-5, rtol=1e-5)
    unit = some_form(unit=True)._replace(**cut)
    assert solve_ranked(unit, objective.exact_loss, torch.tensor([2, 3]), 0.1)[:K].norm().item() == pytest.approx(1)


def test_the_ridge_is_the_one_that_made_the_users():
    """Users who were solved with a ridge are found again with that ridge, to half a decade."""
    objective, counts = known(FullSoftmax())
    form = some_form()._replace(items=some_form().items[:len(counts)], i_bias=some_form().i_bias[:len(counts)])
    rng = np.random.default_rng(0)
    chosen = [torch.from_numpy(rng.choice(np.arange(1, 14), 5, replace=False)) for _ in range(5)]
    for ridge in (0.1, 10.0):
        solved = [solve_ranked(form, objective.exact_loss, items, ridge)[:K].float() for items in chosen]
        made = form._replace(users=torch.stack([form.users[0], *solved]))
        users = torch.arange(1, 6).repeat_interleave(5)
        assert choose_ranked_ridge(made, objective.exact_loss, users, torch.cat(chosen)) == pytest.approx(ridge)


def trained(data: CollabDataBunch, model: Any, epochs: int = 30, **options: Any) -> CollabLearner:
    learn = collab_learner(data, model, n_factors=4, seed=0, metrics=[], **options)
    with learn.no_logging():
        learn.fit_one_cycle(epochs)
    return learn


@pytest.mark.parametrize("model, options", [
    ("bpr", {}), ("two_tower", {}), ("dot_bias", {"loss_func": "full_softmax"}), ("dot", {"loss_func": "softmax"}),
    ("dot", {"loss_func": "sampled_softmax"}), ("svdpp", {"loss_func": "bpr"})],
    ids=["bpr", "two_tower", "full", "in_batch", "sampled", "svdpp"])
def test_known_users_folded_in_come_near_what_training_made_of_them(model: str, options: Any, data: CollabDataBunch):
    learn = trained(data, model, **options)
    items, near = list(data.items), []
    for user in list(data.users)[:20]:
        own = learn.rated(user, part="train").set_index("item")["rating"]
        near.append(np.corrcoef(learn.predict(ratings=own, item=items), learn.predict(user, items))[0, 1])
    assert np.mean(near) > 0.9


def test_how_somebody_rated_does_not_matter_and_looking_changes_nothing(data: CollabDataBunch):
    learn = trained(data, "bpr", epochs=3)
    state = torch.get_rng_state()
    before = {k: t.clone() for k, t in learn.model.state_dict().items()}
    one = learn.recommend(ratings={3: 5.0, 8: 5.0}, n=5)
    pd.testing.assert_frame_equal(learn.recommend(ratings={3: 1.0, 8: 2.0}, n=5), one)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[k]) for k, t in learn.model.state_dict().items())


def test_people_who_are_added_are_known_users_of_a_new_learner(data: CollabDataBunch, tmp_path):
    learn = trained(data, "bpr", epochs=3)
    new = pd.DataFrame({"user": [1000, 1000, 1001, 7], "item": [1, 2, 3, 9], "rating": 4.0})
    more = learn.add_ratings(new)
    assert repr(more.objective) == repr(learn.objective) and {1000, 1001} < {*more.data.users}
    pd.testing.assert_frame_equal(more.recommend(1000, n=5), learn.recommend(ratings={1: 4.0, 2: 4.0}, n=5), rtol=1e-4)
    others = [user for user in data.users if user != 7]
    np.testing.assert_array_equal(more.predict(others, 5), learn.predict(others, 5))
    loaded = load_learner(more.export(tmp_path / "m"), device="cpu")
    pd.testing.assert_frame_equal(loaded.recommend(1001, n=5), more.recommend(1001, n=5))
    pd.testing.assert_frame_equal(loaded.recommend(ratings={3: 4.0}, n=5), more.recommend(ratings={3: 4.0}, n=5))


def test_a_network_of_towers_takes_people_in_and_a_model_without_a_product_does_not(data: CollabDataBunch):
    torch.manual_seed(0)
    tower = TwoTower(4, data.n_users, data.n_items, hidden=(8,), normalise=True)
    learn = collab_learner(data, tower, loss_func=InBatchSoftmax(temperature=0.2), seed=0, metrics=[])
    with learn.no_logging():
        learn.fit_one_cycle(20)
    items, near = list(data.items), []
    for user in list(data.users)[:10]:
        scores = learn.predict(ratings=learn.rated(user, part="train").set_index("item")["rating"], item=items)
        near.append(np.corrcoef(scores, learn.predict(user, items))[0, 1])
        assert np.abs(scores).max() <= 1 + 1e-5
    assert np.mean(near) > 0.9
    with pytest.raises(DataError, match="EmbeddingNet cannot score new users"):
        trained(data, "net", epochs=1, loss_func="bpr").recommend(ratings={3: 5.0})


class Own(Objective):
    """An objective that says nothing of all items."""

    name, config = "own", {}

    def get_loss(self) -> None:
        self.learn.loss = -self.learn.pred.mean()


def test_an_objective_of_ones_own_takes_in_nobody_unless_it_says_what_it_expects(data: CollabDataBunch):
    learn = trained(data, "dot", epochs=1, loss_func=Own())
    with pytest.raises(DataError, match=r"Own\(\) has no exact_loss\(scores, items, history\), which folding in"):
        learn.recommend(ratings={3: 5.0})


def test_recommendations_for_new_users_are_far_better_than_popularity(ml100k):
    """60 people who are held out, folded in from half of what they rated, find more of the other half than the most
    popular items do."""
    table = ml100k.ratings.iloc[:, :3].set_axis(["user", "item", "rating"], axis=1)
    rng = np.random.default_rng(0)
    held = rng.choice(table["user"].unique(), 60, replace=False)
    old = table[~table["user"].isin(held)]
    data = CollabDataBunch.from_df(old, valid_pct=0, bs=1024, seed=0, device="cpu")
    learn = collab_learner(data, "bpr", seed=0, metrics=[])
    with learn.no_logging():
        learn.fit_one_cycle(5)
    popular, found, base = old["item"].value_counts().index, [], []
    for _, rows in table[table["user"].isin(held) & table["item"].isin(popular)].groupby("user"):
        shown = rows.sample(frac=0.5, random_state=1)
        rest = set(rows["item"]) - set(shown["item"])
        top = learn.recommend(ratings=dict(zip(shown["item"], shown["rating"])), n=10)["item"]
        found.append(len(rest & {*top}))
        base.append(len(rest & {*[item for item in popular if item not in set(shown["item"])][:10]}))
    assert np.mean(found) > 1.25 * np.mean(base)


