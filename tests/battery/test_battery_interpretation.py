"""Every model: tables, explanations and pictures of what it has learned."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from collab import UnknownId

from .ratings import BARE_ITEM, COLD_ITEMS, COLD_USERS, ITEMS, NOVELTY, ONCE, STRANGER, USER, valid_table

SIDES = pytest.mark.parametrize("by", ["item", "user"])


def drawn(plot, **options):
    """What is drawn into axes of its own."""
    ax = Figure().subplots()
    assert plot(**options, ax=ax) is ax
    assert isinstance(ax, Axes) and ax.has_data()
    return ax


def ids_of(it, by):
    return it.items if by == "item" else it.users


@SIDES
def test_biases(it, by):
    with it.able(f"{by}_biases"):
        bias = it.learn.bias(is_item=by == "item").numpy()
        table = it.interp.biases(by, n=100)
        assert [*table] == ["id", *(["title"] if by == "item" else []), "n_ratings", "mean_rating", "bias"]
        assert {*table["id"]} == {*ids_of(it, by)} and table["bias"].is_monotonic_decreasing
        assert table["bias"].tolist() == [bias[ids_of(it, by).index(id)] for id in table["id"]]
        users, items, ratings = (t.numpy() for t in it.data.train.tensors)
        means = pd.Series(ratings).groupby(items if by == "item" else users).mean()
        means.index = [ids_of(it, by)[row - 1] for row in means.index]
        np.testing.assert_allclose(table["mean_rating"], means.reindex(table["id"]), rtol=1e-5)
        smallest = it.interp.biases(by, n=4, largest=False, min_ratings=5)
        assert smallest["bias"].is_monotonic_increasing and smallest["n_ratings"].min() >= 5


@SIDES
def test_norms(it, by):
    with it.able(f"{by}_factors"):
        table, weight = it.interp.norms(by), it.learn.weight(is_item=by == "item")
        assert {*table["id"]} == {*ids_of(it, by)} and table["norm"].is_monotonic_decreasing
        np.testing.assert_allclose(table["norm"], [weight[ids_of(it, by).index(id)].norm() for id in table["id"]],
                                   rtol=1e-5)


@SIDES
def test_principal_components(it, by):
    with it.able(f"{by}_factors"):
        pca, weight = it.interp.pca(2, by), it.learn.weight(is_item=by == "item").double().numpy()
        variances = np.linalg.svd(weight - weight.mean(0), compute_uv=False) ** 2
        np.testing.assert_allclose(pca.explained_variance_ratio, variances[:2] / variances.sum(), rtol=1e-4)
        assert len(pca.table(0)) == 10 and len(pca.scores) == len(weight)
        places = it.interp.map("pca", by)
        assert {*places["id"]} == {*ids_of(it, by)} and np.isfinite(places[["x", "y"]]).all(axis=None)


@SIDES
def test_neighbours_and_pairs(it, by):
    id = ITEMS[4] if by == "item" else USER
    with it.able(f"{by}_factors"):
        weight = it.learn.weight(is_item=by == "item").double()
        unit = torch.nn.functional.normalize(weight, dim=1).numpy()
        cosine, ids = unit @ unit.T, ids_of(it, by)
        near = it.interp.neighbors(id, k=100, by=by, min_ratings=0)
        assert {*near["id"]} == {*ids} - {id} and near["score"].is_monotonic_decreasing
        np.testing.assert_allclose(near["score"], [cosine[ids.index(id), ids.index(one)] for one in near["id"]],
                                   atol=1e-5)
        pairs = it.interp.similar_pairs(-1.0, n=5, by=by, min_ratings=3)
        rated = np.flatnonzero(it.data.counts(by)[1:].numpy() >= 3)
        best = np.sort(cosine[np.ix_(rated, rated)][np.triu_indices(len(rated), 1)])[::-1][:5]
        np.testing.assert_allclose(pairs["score"], best, atol=1e-5)


@pytest.mark.parametrize("whom", ["busy", "once", "cold"])
def test_explanations(it, whom):
    user, item = {"busy": (USER, ITEMS[4]), "once": (ONCE[0], COLD_ITEMS[0]), "cold": (COLD_USERS[1], BARE_ITEM)}[whom]
    found = it.interp.explain(user, item)
    raw = it.raw[it.row(user), it.column(item)]
    it.assert_near(found.score, it.scores[it.row(user), it.column(item)])
    assert (found.user, found.item, found.title) == (user, item, it.titles[item])
    assert found.clipped == (not it.case.ranks and not 1 <= raw <= 5)
    if "parts" in it.case.lacks:
        assert found.parts is None and found.logit is None and "is no sum of parts" in str(found)
    else:
        assert found.parts["value"].sum() == pytest.approx(found.logit, abs=1e-6)
        low, high = getattr(it.learn.model, "y_range", None) or (None, None)
        it.assert_near(found.logit if low is None else low + (high - low) / (1 + np.exp(-found.logit)), raw)
        assert found.squashed == (low is not None)
    if "similar_items" in it.case.lacks:
        assert found.nearest is None and "does not say which items are near each other" in str(found)
    else:
        assert {*found.nearest["item"]} <= {*it.history(user)} - {item}
        assert len(found.nearest) == min(5, len({*it.history(user)} - {item})) or "item_factors" in it.case.lacks
        assert found.nearest["score"].is_monotonic_decreasing and len(found.nearest) + ("nothing else" in str(found))


def test_explanations_are_of_known_ids_or_titles(it):
    title = it.titles[ITEMS[2]]
    assert it.interp.explain(USER, title).item == ITEMS[2]
    for user, item in ((STRANGER, ITEMS[4]), (USER, NOVELTY)):
        with pytest.raises(UnknownId):
            it.interp.explain(user, item)


def test_calibration(it):
    with it.able("probabilities"):
        table = it.interp.calibration(bins=4)
        assert table.groupby("level")["n"].sum().tolist() == [len(valid_table())] * 5
        shares = valid_table()["rating"].value_counts(normalize=True)
        observed = (table["observed"] * table["n"]).groupby(table["level"]).sum() / len(valid_table())
        np.testing.assert_allclose(observed, shares.reindex(observed.index, fill_value=0), atol=1e-6)
        assert 0 <= table.attrs["ece"] <= 1
        drawn(it.interp.plot_calibration, bins=4)


# Pictures ----------------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("quick_pictures")
@SIDES
def test_pictures_of_biases(it, by):
    with it.able(f"{by}_biases"):
        drawn(it.interp.plot_biases, by=by, n=5)


@pytest.mark.usefixtures("quick_pictures")
@SIDES
def test_pictures_of_factors(it, by):
    with it.able(f"{by}_factors"):
        drawn(it.interp.plot_norms, by=by)
        drawn(it.interp.plot_map, method="pca", by=by)
        if by == "user":                # those of items are in the report
            drawn(it.interp.pca(2, by).plot)
            assert USER in it.interp.chart_map("pca", by).to_json()


@pytest.mark.usefixtures("quick_pictures")
def test_pictures_of_predictions(it):
    with it.able("errors"):
        drawn(it.interp.plot_predictions)


@pytest.mark.usefixtures("quick_pictures")
def test_pictures_of_the_data_and_the_training(it):
    drawn(it.interp.plot_cross, n=3)
    drawn(it.interp.plot_counts, by="item")
    drawn(it.interp.plot_counts, by="user")
    if len(it.learn.recorder.rows):
        drawn(it.learn.recorder.plot_loss)
