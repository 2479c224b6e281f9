"""Interpretation: planted structure is found, numbers agree with other libraries, and nothing moves."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.metrics.pairwise import cosine_similarity

from collab import CollabDataBunch, CollabInterpretation, DataError, collab_learner, load_learner, synthetic


@pytest.fixture(scope="module")
def ml():
    return synthetic(n_users=800, n_items=300, n_ratings=60_000, n_factors=3, noise=0.3, seed=3)


@pytest.fixture(scope="module")
def learn(ml):
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0), n_factors=8)
    with learn.no_logging():
        learn.fit_one_cycle(8)
    return learn


@pytest.fixture
def interp(learn):
    return CollabInterpretation.from_learner(learn)


def test_the_biases_of_items_and_users_are_found(interp, ml):
    for by, true in (("item", ml.truth.i_bias), ("user", ml.truth.u_bias)):
        table = interp.biases(by=by, n=10**6, min_ratings=20)
        assert len(table) > 150
        assert np.corrcoef(table["bias"], true[table["id"] - 1])[0, 1] > 0.9


def test_the_first_components_span_the_planted_factors(interp, ml):
    pca = interp.pca(3, top=None, min_ratings=20)
    found, true = pca.scores[[0, 1, 2]].to_numpy(), ml.truth.i_factors[pca.scores["id"] - 1]
    x, y = CCA(3, max_iter=2000).fit_transform(found, true)
    assert min(np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(3)) > 0.9


def test_components_agree_with_scikit_learn_and_have_one_sign(interp, learn):
    pca = interp.pca(5, top=200)
    rows = [learn.data.items[id] - 1 for id in pca.scores["id"]]
    weight = learn.weight()[rows].double().numpy()
    other = SklearnPCA(5).fit(weight)
    signs = np.sign((pca.components * other.components_).sum(1))
    np.testing.assert_allclose(pca.components, other.components_ * signs[:, None], atol=1e-5)
    np.testing.assert_allclose(pca.explained_variance_ratio, other.explained_variance_ratio_, atol=1e-5)
    np.testing.assert_allclose(pca.scores[range(5)], other.transform(weight) * signs, atol=1e-5)
    assert (pca.components[np.arange(5), np.abs(pca.components).argmax(1)] > 0).all()
    assert np.array_equal(interp.pca(5, top=200).components, pca.components)


def test_the_most_rated_ids_make_the_components(interp, ml):
    counts = ml.ratings["item"].value_counts()
    ids = interp.pca(2, top=20).scores
    train = interp.data.counts()[1:]
    assert len(ids) == 20 and ids["n_ratings"].min() >= np.sort(train)[-20] and set(ids["id"]) <= set(counts.index)


def test_the_table_of_a_component_has_both_ends(interp):
    pca = interp.pca(2, top=50)
    table = pca.table(1, n=4)
    ranked = pca.scores[1].sort_values(ascending=False).tolist()
    assert table["score"].tolist() == ranked[:4] + ranked[-4:]
    assert list(table) == ["id", "title", "n_ratings", "score"]
    with pytest.raises(ValueError, match="component 2 is not there: they are 0 to 1"):
        pca.table(2)


def test_more_components_than_factors_are_refused(interp):
    with pytest.raises(ValueError, match="between 1 and the number of factors, 8, got 9"):
        interp.pca(9)


@pytest.mark.parametrize(("measure", "alpha"), [("cosine", None), ("dot", 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_neighbours_are_those_of_the_formula(interp, learn, measure, alpha):
    weight = learn.weight().double().numpy()
    place = learn.data.items[7] - 1
    if alpha is None:
        scores = cosine_similarity(weight[[place]], weight)[0]
    else:
        scores = weight @ weight[place] / np.linalg.norm(weight, axis=1) ** alpha
    scores[place] = -np.inf
    best = np.argsort(-scores)[:6]
    table = interp.neighbors(7, k=6, measure=measure)
    assert table["id"].tolist() == (best + 1).tolist() and list(table) == ["id", "title", "n_ratings", "score"]
    np.testing.assert_allclose(table["score"], scores[best], rtol=1e-4)


def test_neighbours_of_a_title_and_of_a_part_of_one(interp, learn):
    title = learn.data.titles([9])[0]
    assert interp.neighbors(title).equals(interp.neighbors(9))
    with pytest.warns(UserWarning, match=r"'film' is taken for Film \d+ .*; 299 others hold it too, such as Film"):
        found = interp.neighbors("film")
    most_rated = learn.data.items.ids[learn.data.counts().argmax()]
    assert found.equals(interp.neighbors(most_rated))


def test_neighbours_with_few_ratings_can_be_left_out(interp):
    assert (interp.neighbors(7, k=50, min_ratings=100)["n_ratings"] >= 100).all()


def test_an_unknown_measure_is_refused(interp):
    with pytest.raises(ValueError, match="'euclid' is not 'cosine', 'dot' or a number alpha"):
        interp.neighbors(7, measure="euclid")


@pytest.mark.parametrize("block", [7, 2048])
@pytest.mark.parametrize("threshold", [0.8, -0.5])
def test_similar_pairs_are_those_of_the_whole_matrix(interp, learn, monkeypatch, block, threshold):
    monkeypatch.setattr("collab.interpret.interpretation.BLOCK", block)
    matrix = cosine_similarity(learn.weight().double().numpy())
    i, j = np.triu_indices(len(matrix), 1)
    keep = matrix[i, j] >= threshold
    pairs = sorted(zip(-matrix[i, j][keep], i[keep] + 1, j[keep] + 1))[:40]
    table = interp.similar_pairs(threshold, n=40)
    assert set(zip(table["id"], table["other_id"])) == {(a, b) for _, a, b in pairs}
    np.testing.assert_allclose(table["score"], [-s for s, _, _ in pairs], atol=1e-5)


def test_norms_are_the_lengths_of_the_embeddings(interp, learn):
    table = interp.norms()
    expected = np.linalg.norm(learn.weight().numpy(), axis=1)
    np.testing.assert_allclose(table["norm"], expected[table["id"] - 1], rtol=1e-5)
    assert table["norm"].is_monotonic_decreasing and len(table) == len(learn.data.items) - 1


def test_mean_ratings_are_those_of_pandas(interp, learn):
    _, items, ratings = learn.data.train.tensors
    expected = pd.Series(ratings.numpy()).groupby(learn.data.items.decode(items.numpy())).agg(["mean", "size"])
    table = interp.biases(n=10**6).set_index("id").sort_index()
    np.testing.assert_allclose(table["mean_rating"], expected["mean"], rtol=1e-6)
    assert table["n_ratings"].tolist() == expected["size"].tolist()


def test_an_explanation_adds_up_to_the_score(interp, learn):
    why = interp.explain(5, 11, n_factors=3, n_nearest=4)
    assert why.parts["part"].tolist()[:3] == ["mean", "user bias", "item bias"] and len(why.parts) == 7
    assert why.logit == pytest.approx(why.parts["value"].sum())
    low, high = learn.data.y_range
    assert why.score == pytest.approx(np.clip(low + (high - low) / (1 + np.exp(-why.logit)), 1, 5), abs=1e-4)
    strongest = why.parts["value"][3:6].abs()
    assert strongest.is_monotonic_decreasing
    rated = learn.rated(5)
    assert set(why.nearest["id"]) <= set(rated["item"]) - {11} and why.nearest["score"].is_monotonic_decreasing
    best = cosine_similarity(learn.weight([11]), learn.weight([i for i in rated["item"] if i != 11])).max()
    assert why.nearest["score"][0] == pytest.approx(best, abs=1e-5)
    assert f"User 5 and {why.title} (11): predicted {why.score:.2f}" in str(why)


@pytest.mark.parametrize("model", ["dot", "net"])
def test_a_model_without_biases_says_so_and_gives_the_rest(ml, model):
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, seed=0, bs=1024), model, n_factors=4)
    with learn.no_logging():
        learn.fit_one_cycle(1)
    interp = CollabInterpretation(learn)
    with pytest.raises(DataError, match="it learns no biases for items"):
        interp.biases()
    assert len(interp.neighbors(3)) == 6 and len(interp.pca(2).table(0)) == 10 and len(interp.norms("user")) > 700
    why = interp.explain(5, 11)
    assert (why.parts is None) == (model == "net") and len(why.nearest) == 5 and str(why)


def test_looking_changes_nothing_and_a_loaded_learner_answers_the_same(interp, learn, tmp_path):
    state, rng = copy.deepcopy(learn.model.state_dict()), torch.get_rng_state()
    learn.export(tmp_path / "m")
    loaded = CollabInterpretation(load_learner(tmp_path / "m"))
    for ask in (lambda i: i.biases(), lambda i: i.neighbors(7), lambda i: i.norms("user"), lambda i: i.pca(2).scores,
                lambda i: i.similar_pairs(), lambda i: i.explain(5, 11).parts):
        pd.testing.assert_frame_equal(ask(interp), ask(loaded))
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(state[k], v) for k, v in learn.model.state_dict().items())


def test_the_scatter_labels_only_where_there_is_room(interp):
    ax = Figure(figsize=(6, 5)).subplots()
    assert interp.pca(2).plot(0, 1, ax=ax, top=60) is ax
    boxes = [text.get_window_extent() for text in ax.texts]
    assert 5 < len(boxes) < 60
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    assert len(ax.collections[0].get_offsets()) == 60 and "of the variance" in ax.get_xlabel()


@pytest.mark.parametrize("plot", ["plot_biases", "plot_norms", "plot_predictions", "plot_cross", "plot_counts"])
def test_every_picture_draws_on_the_given_axes_and_returns_them(interp, plot):
    ax = Figure().subplots()
    assert getattr(interp, plot)(ax=ax) is ax and ax.has_data()


def test_the_bars_are_both_ends_of_the_biases(interp):
    ax = interp.plot_biases(n=4, ax=Figure().subplots())
    widths = [bar.get_width() for bar in ax.patches]
    top, bottom = interp.biases(n=4)["bias"].tolist(), interp.biases(n=4, largest=False)["bias"].tolist()
    assert widths == pytest.approx(top + bottom[::-1])
    assert ax.get_yticklabels()[0].get_text() == interp.biases(n=1)["title"][0]


def test_the_cross_table_holds_the_ratings_of_the_busiest(interp, learn):
    ax = interp.plot_cross(n=6, ax=Figure().subplots())
    shown = np.ma.filled(ax.images[0].get_array().astype(float), np.nan)
    users, items, ratings = (t.numpy() for t in learn.data.train.tensors)
    frame = pd.DataFrame({"u": learn.data.users.decode(users), "i": learn.data.items.decode(items), "r": ratings})
    order = {c: frame[c].value_counts().reset_index().sort_values(["count", c], ascending=[False, True])[c][:6]
             for c in "ui"}
    expected = frame.pivot(index="u", columns="i", values="r").reindex(index=order["u"], columns=order["i"])
    np.testing.assert_array_equal(shown, expected.to_numpy())


def test_the_histogram_counts_every_item_once(interp, learn):
    ax = interp.plot_counts(ax=Figure().subplots())
    assert sum(bar.get_height() for bar in ax.patches) == len(learn.data.items) - 1


def test_predictions_of_half_stars_and_of_many_levels(ml):
    for ratings, boxes in ((ml.ratings["rating"] / 2, 5), (ml.ratings["rating"] + ml.ratings.index / 1e5, 10)):
        learn = collab_learner(CollabDataBunch.from_df(ml.ratings.assign(rating=ratings), seed=0, bs=4096), n_factors=2)
        ax = CollabInterpretation(learn).plot_predictions(ax=Figure().subplots())
        assert len(next(line for line in ax.get_lines() if line.get_linestyle() == "--").get_xdata()) == boxes


def test_errors_of_a_loaded_learner_come_from_a_table_of_ratings_and_a_whole_bunch_is_refused(tmp_path):
    ml = synthetic(n_users=60, n_items=40, n_ratings=900, seed=1)
    data = CollabDataBunch.from_df(ml.ratings, seed=0)
    learn = collab_learner(data, n_factors=4)
    loaded = CollabInterpretation(load_learner(learn.export(tmp_path / "m")))
    pd.testing.assert_frame_equal(loaded.errors(ml.ratings), loaded.errors(loaded.data.batches(ml.ratings)))
    with pytest.raises(ValueError, match="no validation part"):
        loaded.errors()
    with pytest.raises(TypeError, match=r"a part of the data, such as data\.valid"):
        loaded.learn.validate(data)
