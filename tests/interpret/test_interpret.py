"""Interpretation: planted structure is found, numbers agree with other libraries, and nothing moves."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.metrics.pairwise import cosine_similarity

from collab import (
    CollabDataBunch,
    CollabInterpretation,
    DataError,
    EmbeddingDotBias,
    UnknownId,
    collab_learner,
    load_learner,
    synthetic,
)
from collab.interpret.labels import names
from collab.interpret.maps import need
from collab.interpret.pca import PCA
from collab.retrieval.topk import top_k


@pytest.fixture(scope="module")
def ml():
    return synthetic(n_users=800, n_items=300, n_ratings=60_000, n_factors=3, noise=0.3, seed=3)


@pytest.fixture(scope="module")
def learn(ml):
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, device="cpu"), n_factors=8)
    with learn.no_logging():
        learn.fit_one_cycle(8)
    return learn


def titled(titles):
    """Data of a few items with these titles, the first rated most, and their interpretation."""
    ratings = pd.DataFrame([(f"u{user}", item, 1.0 + (user + item) % 5) for user in range(9) for k, item in
                            enumerate(titles) if user + k < 9], columns=["user", "item", "rating"])
    items = pd.DataFrame({"item": titles.keys(), "title": titles.values()})
    data = CollabDataBunch.from_df(ratings, items=items, valid_pct=0, seed=0)
    return data, CollabInterpretation(collab_learner(data, n_factors=2))


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


def test_the_table_of_few_rows_has_all_of_them(interp):
    pca = interp.pca(1, top=5)
    assert pca.table(0, 5)["score"].tolist() == sorted(pca.scores[0], reverse=True) == pca.table(0, 3)["score"].tolist()
    assert len(pca.table(0, 2)) == 4


def test_rows_that_are_all_alike_have_components_without_variance():
    pca = PCA(np.ones((4, 3)), pd.DataFrame({"id": range(4), "n_ratings": 1}), 2)
    assert pca.explained_variance_ratio.tolist() == [0, 0]


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


def test_neighbours_of_a_title_are_those_of_its_item_and_a_part_of_a_title_is_not_guessed_at(interp, learn):
    title = learn.data.titles([9])[0]
    assert interp.neighbors(title).equals(interp.neighbors(9))
    with pytest.raises(UnknownId, match=r"'film' is not among the 300 items that were trained on; near it are 'Film"):
        interp.neighbors("film")


def test_neighbours_with_few_ratings_can_be_left_out(interp):
    assert (interp.neighbors(7, k=50, min_ratings=100)["n_ratings"] >= 100).all()


@pytest.mark.parametrize("measure", ["euclid", None, float("nan"), float("inf"), [1]])
def test_an_unknown_measure_is_refused(interp, measure):
    with pytest.raises(ValueError, match=re.escape(f"{measure!r} is not 'cosine', 'dot' or a number alpha")):
        interp.neighbors(7, measure=measure)


@pytest.mark.parametrize(("name", "ask"), [
    ("n", lambda i, n: i.biases(n=n)), ("n", lambda i, n: i.similar_pairs(n=n)), ("n", lambda i, n: i.plot_cross(n=n)),
    ("n", lambda i, n: i.pca(1).table(0, n)), ("k", lambda i, n: i.neighbors(7, k=n)),
    ("top", lambda i, n: i.pca(1, top=n)), ("top", lambda i, n: i.map("pca", top=n)),
    ("top", lambda i, n: i.pca(2).plot(top=n)), ("n_factors", lambda i, n: i.explain(5, 11, n_factors=n)),
    ("n_nearest", lambda i, n: i.explain(5, 11, n_nearest=n))])
def test_a_count_that_is_none_is_refused_by_its_name(interp, name, ask):
    for n in (0, -1, 2.5, "3"):
        with pytest.raises(ValueError, match=re.escape(f"{name} must be a whole number, at least 1, got {n!r}")):
            ask(interp, n)


def test_whoever_asks_for_all_neighbours_gets_those_there_are_without_room_for_more(interp, monkeypatch):
    asked = []
    monkeypatch.setattr("collab.interpret.interpretation.top_k", lambda *args: asked.append(args[3]) or top_k(*args))
    assert [len(interp.neighbors(7, k=10**8))] == asked == [len(interp.norms(min_ratings=5)) - 1]


def test_a_title_that_reads_like_an_id_is_a_title_and_an_item_without_one_has_its_id_for_a_name():
    data, interp = titled({1: "2 (1997)", 2: "Up", 3: "", 4: "Up", 5: "2 of us"})
    assert interp.neighbors("2 (1997)", min_ratings=0).equals(interp.neighbors(1, min_ratings=0))
    assert interp.explain("u1", "2 OF us").item == 5
    for ask in (lambda: interp.neighbors("2"), lambda: interp.explain("u1", "2")):
        with pytest.raises(DataError, match="5 and '5' are different ids"):
            ask()
    assert data.find_items("2") == [2] and data.find_titles("2") == [1, 5]      # on the command line ids are typed too
    assert names(interp.norms().sort_values("id")) == ["2 (1997)", "Up", "3", "Up", "2 of us"]


def test_an_id_that_is_also_a_title_is_taken_for_the_id_where_ids_are_typed_and_the_title_is_named():
    data, interp = titled({1: "One", 2: "1", 3: "Three"})
    assert data.find_items("1") == [1, 2]
    assert interp.neighbors("1", min_ratings=0).equals(interp.neighbors(2, min_ratings=0))


def test_text_is_no_number_where_there_are_no_titles():
    data = CollabDataBunch.from_df(synthetic(n_users=20, n_items=10, n_ratings=90, seed=0).ratings, seed=0)
    with pytest.raises(DataError, match="5 and '5' are different ids"):
        CollabInterpretation(collab_learner(data, n_factors=2)).neighbors("5")


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


@pytest.mark.parametrize("block", [3, 2048])
def test_similar_pairs_of_equal_rows_are_in_the_order_of_their_places(interp, monkeypatch, block):
    monkeypatch.setattr("collab.interpret.interpretation.BLOCK", block)
    weight = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    weight[[4, 9, 20]], weight[[2, 25]] = weight[0].clone(), 3 * weight[1]
    monkeypatch.setattr(interp.learn, "weight", lambda is_item=True: torch.cat([weight, weight.new_zeros(270, 8)]))
    expected = [(0, 4), (0, 9), (0, 20), (1, 2), (1, 25), (2, 25), (4, 9), (4, 20), (9, 20)]
    for n in (9, 5):
        table = interp.similar_pairs(1.0, n=n)
        assert list(zip(table["id"] - 1, table["other_id"] - 1)) == expected[:n] and set(table["score"]) == {1.0}


def test_pairs_of_items_with_fewer_than_five_ratings_are_not_compared_unless_asked_for():
    _, interp = titled({1: "a", 2: "b", 3: "c", 4: "d", 5: "e", 6: "f", 7: "g"})       # rated 9, 8, ... 3 times
    pairs = interp.similar_pairs(-1.0)
    assert {*pairs["id"], *pairs["other_id"]} == {1, 2, 3, 4, 5} == {1, *interp.neighbors(1)["id"]}
    assert {*interp.similar_pairs(-1.0, min_ratings=0)["other_id"]} == {2, 3, 4, 5, 6, 7}


def test_similar_pairs_keep_no_more_than_are_asked_for_from_block_to_block(interp, monkeypatch):
    monkeypatch.setattr("collab.interpret.interpretation.BLOCK", 100)
    kept, sort = [], np.lexsort
    monkeypatch.setattr(np, "lexsort", lambda keys: kept.append(len(keys[0])) or sort(keys))
    assert len(interp.similar_pairs(-1.0, n=10)) == 10
    assert max(kept) <= 20 + 2


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
    assert set(why.nearest["item"]) <= set(rated["item"]) - {11} and why.nearest["score"].is_monotonic_decreasing
    trained = learn.data.items.decode(learn.data.histories[learn.data.users[5]][0].numpy())
    best = cosine_similarity(learn.weight([11]), learn.weight([i for i in trained if i != 11])).max()
    assert why.nearest["score"][0] == pytest.approx(best, abs=1e-5)
    assert f"User 5 and {why.title} (11): predicted {why.score:.2f}" in str(why)


def test_an_explanation_says_what_the_parts_are_the_sum_of_and_what_was_clipped(ml):
    data = CollabDataBunch.from_df(ml.ratings, seed=0, bs=1024)
    learn = collab_learner(data, n_factors=4, y_range=None)
    with torch.no_grad():
        learn.model.i_bias.weight[data.items[11]] += 9
    why = CollabInterpretation(learn).explain(5, 11)
    assert why.score == 5 and why.clipped and why.logit > 9 and not why.squashed
    text = str(why)
    assert "predicted 5.00, clipped to the scale\n" in text and f"The score is {why.logit:.3f}, the sum of" in text
    plain = str(CollabInterpretation(learn).explain(5, 12))
    assert "clipped" not in plain and "sigmoid" not in plain
    squashed = str(CollabInterpretation(collab_learner(data, n_factors=4)).explain(5, 11))
    assert "Before the sigmoid" in squashed and "The score is" not in squashed
    assert "The score is" in str(CollabInterpretation(collab_learner(data, "dot", n_factors=4)).explain(5, 11))


class Twice(EmbeddingDotBias):
    def forward(self, users, items):
        return 2 * super().forward(users, items)


class NoFactors(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, users, items):
        return self.level + 0 * users


def test_a_model_of_ones_own_is_explained_by_what_it_has(ml):
    data = CollabDataBunch.from_df(ml.ratings, seed=0, bs=1024)
    twice = CollabInterpretation(collab_learner(data, Twice(4, data.n_users, data.n_items))).explain(5, 11)
    assert twice.parts is None and len(twice.nearest) == 5
    why = CollabInterpretation(collab_learner(data, NoFactors())).explain(5, 11)
    assert why.nearest is None and why.score == 3
    assert "no sum of parts" in str(why) and "does not say which items are near each other" in str(why)


def test_what_is_near_in_ease_is_what_adds_to_the_score(ml):
    data = CollabDataBunch.from_df(ml.ratings, implicit=True, seed=0)
    learn = collab_learner(data, "ease")
    with learn.no_logging():
        learn.fit(1)
    why = CollabInterpretation(learn).explain(5, 11, n_nearest=300)
    rows, item = data.items.encode(why.nearest["item"]), data.items[11]
    assert why.nearest["score"].tolist() == pytest.approx(learn.collab_model.weight[item][rows].tolist())
    assert why.nearest["score"].sum() == pytest.approx(why.score, abs=1e-4)     # of choices of 1 each
    assert why.nearest["score"].is_monotonic_decreasing and "Nearest among what the user rated" in str(why)


def test_a_pair_that_was_rated_again_is_shown_once_with_its_mean():
    ratings = pd.DataFrame({"u": ["a"] * 4 + ["b"] * 2, "i": [1, 1, 2, 3, 1, 2], "r": [5.0, 2, 4, 1, 3, 4]})
    with pytest.warns(UserWarning, match="rate a pair again"):
        data = CollabDataBunch.from_df(ratings, valid_pct=0, seed=0)
    interp = CollabInterpretation(collab_learner(data, n_factors=2))
    nearest = interp.explain("a", 3).nearest.set_index("item")["rating"]
    assert nearest.to_dict() == {1: 3.5, 2: 4.0}
    shown = interp.plot_cross(ax=Figure().subplots()).images[0].get_array()
    assert np.ma.filled(shown.astype(float), np.nan)[0].tolist() == [3.5, 4.0, 1.0]


@pytest.mark.parametrize("model", ["dot", "net"])
def test_a_model_without_biases_says_so_and_gives_the_rest(ml, model):
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, seed=0, bs=1024), model, n_factors=4)
    with learn.no_logging():
        learn.fit_one_cycle(1)
    interp = CollabInterpretation(learn)
    with pytest.raises(DataError, match="learns no biases of items"):
        interp.biases()
    assert len(interp.neighbors(3)) == 6 and len(interp.pca(2).table(0)) == 10 and len(interp.norms("user")) > 700
    why = interp.explain(5, 11)
    assert (why.parts is None) == (model == "net") and len(why.nearest) == 5 and str(why)


def test_a_loaded_learner_answers_the_same(interp, learn, tmp_path):
    learn.export(tmp_path / "m")
    loaded = CollabInterpretation(load_learner(tmp_path / "m"))
    for ask in (lambda i: i.biases(), lambda i: i.neighbors(7), lambda i: i.norms("user"), lambda i: i.pca(2).scores,
                lambda i: i.similar_pairs(), lambda i: i.explain(5, 11).parts):
        pd.testing.assert_frame_equal(ask(interp), ask(loaded))


@pytest.mark.filterwarnings("ignore:.*, and mean and biases alone have:collab.CollabWarning")     # it is not trained
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


def test_a_package_that_is_imported_for_a_map_leaves_the_filters_of_warnings_alone(tmp_path, monkeypatch):
    """As scikit-learn, which adds one when it is imported."""
    (tmp_path / "adds_a_filter.py").write_text("import warnings; warnings.simplefilter('always'); here = 1")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(warnings.filters)
    assert need("adds_a_filter").here == 1 and warnings.filters == before
