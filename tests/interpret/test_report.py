"""The report: one page, whole and the same whatever the learner, its data and the reader's settings are."""

import re

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.figure import Figure

from collab import (
    CollabDataBunch,
    CollabInterpretation,
    DataError,
    RankingMetrics,
    collab_learner,
    evaluate,
    load_learner,
    synthetic,
    user_split,
)
from collab.interpret.curves import panels

pytest.importorskip("altair")
ML = synthetic(n_users=40, n_items=60, n_ratings=900, seed=0)
ITEMS = ML.items.assign(title=[f"<i>Film</i> {k}" for k in range(len(ML.items))])


def trained(ratings=ML.ratings, items=ITEMS, epochs=1, model="dot_bias", **options):
    learn = collab_learner(CollabDataBunch.from_df(ratings, items=items, seed=0, **options), model, n_factors=4)
    with learn.no_logging():
        learn.fit_one_cycle(epochs)
    return CollabInterpretation(learn)


def shown(path):
    """The page without its scripts and style."""
    return re.sub(r"<script.*?</script>|<style>.*?</style>", "", path.read_text(), flags=re.DOTALL)


def cells_of(page):
    """The rows of all tables, as lists of cells."""
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr.*?</tr>", page)]


@pytest.fixture(scope="module")
def interp():
    return trained(epochs=2)


def test_the_report_is_the_same_after_loading_and_escapes_titles(interp, tmp_path):
    first = interp.report(tmp_path / "a.html", interp.data.valid).read_text()
    loaded = load_learner(interp.learn.export(tmp_path / "m.safetensors"))
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "pink"}):
        second = CollabInterpretation(loaded).report(tmp_path / "b.html", interp.data.valid).read_text()
    assert first == second
    batches = interp.data.batches(ML.ratings[:300])
    assert (shown(interp.report(tmp_path / "c.html", ML.ratings[:300])) ==
            shown(interp.report(tmp_path / "d.html", batches))) and "On 300 held-out" in shown(tmp_path / "c.html")
    for section in ("Error", "Training", "Recommendations", "Similar items", "Map of the items", "Biases",
                    "Principal components"):
        assert f"<h2>{section}</h2>" in first
    assert "&lt;i&gt;Film" in first and "<i>Film" not in first


def test_the_report_has_every_picture_and_three_different_users(interp, tmp_path):
    page = shown(interp.report(tmp_path / "r.html"))
    assert page.count("<svg ") == 5         # predictions, losses, metrics, and components for a screen and a telephone
    assert page.count('role="img" aria-label="') == 5 + 1 and 'aria-label=""' not in page
    busiest = interp.data.counts("user")[1:].argsort(descending=True, stable=True)[[0, 20, -1]] + 1
    counts = [sum((part.tensors[0] == row).sum() for part in (interp.data.train, interp.data.valid)) for row in busiest]
    asked = re.findall(r"<h3>User (\d+), (\d+) known ratings", page)
    assert [int(n) for _, n in asked] == counts and len({user for user, _ in asked}) == 3
    assert page.count(">id</th>") == 2 + 3                       # biases and components: titles may be shared


@pytest.mark.parametrize("end", ["</script>", "</SCRIPT>", "<!--<script>"])
def test_a_title_cannot_end_the_script_that_draws_the_map(end, tmp_path):
    page = trained(items=ITEMS.assign(title=f"{end}<script>throw 1</script>"), epochs=0)
    text = page.report(tmp_path / "r.html").read_text().lower()
    assert text.count("</script") == text.count("<script") == 3 and "<!--" not in text


def test_a_model_without_biases_is_reported_with_a_sentence_in_their_place(tmp_path):
    learn = collab_learner(CollabDataBunch.from_df(ML.ratings, valid_pct=0, seed=0), "net", n_factors=4)
    page = CollabInterpretation(learn).report(tmp_path / "net.html").read_text()
    for sentence in ("EmbeddingNet learns no biases of items", "no history of training", "no error to report"):
        assert sentence in page


@pytest.mark.parametrize(("model", "axes"), [
    ("als", ["training: objective per rating", "validation loss", "ndcg@10", "recall@10"]),
    ("bpr", ["training loss, smoothed", "validation loss", "ndcg@10", "recall@10"]),
])
def test_a_model_that_ranks_is_reported_by_its_ranking_beside_the_most_popular_items(model, axes, tmp_path):
    learn = collab_learner(CollabDataBunch.from_df(ML.ratings, items=ITEMS, seed=0), model, n_factors=4)
    with learn.no_logging():
        learn.fit(3, cbs=RankingMetrics() if model == "als" else None)
    drawn = {ax.get_title(): ax for ax in (draw(ax=Figure().subplots()) for draw in panels(learn))}
    assert [*drawn] == axes
    step = "sweep" if model == "als" else "epoch"
    assert [ax.get_xlabel() for ax in drawn.values()] == [step if model == "als" else "batch", step, step, step]
    line, = drawn["ndcg@10"].get_lines()
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata().tolist() == learn.recorder.frame()["ndcg@10"].tolist()
    page = shown(CollabInterpretation(learn).report(tmp_path / "r.html"))
    assert page.count("<svg ") == 4 + 2 and "<h2>Ranking</h2>" in page
    assert "<h2>Error</h2>" not in page and "units of the rating" not in page
    found = evaluate(learn, k=10)
    for name in ("ndcg", "recall", "mrr"):
        row = [f"{result.summary[name]:.4f}" for result in (found, found.baseline)]
        cells = [cells for cells in cells_of(page) if cells[0] == name]
        low, high = found.interval().loc[name, ["low", "high"]]
        assert [one[1:5] for one in cells] == [[*row, f"{low:.4f}", f"{high:.4f}"]]
        assert float(cells[0][5]) == pytest.approx(found.summary[name] - found.baseline.summary[name], abs=1e-4)
    assert ("solved in 3 sweeps on" if model == "als" else "trained for 3 epochs on") in page


def test_a_model_that_is_solved_in_one_sweep_or_ranks_nobody_is_reported_with_sentences(tmp_path):
    data = CollabDataBunch.from_df(ML.ratings, split=user_split(0.2), seed=0)
    learn = collab_learner(data, "ease")
    with learn.no_logging():
        learn.fit()
    page = shown(CollabInterpretation(learn).report(tmp_path / "r.html"))
    assert "solved in 1 sweep on" in page and "EASE was solved in one sweep, so there are no curves to draw" in page
    assert "there is no ranking to report: none of" in page


def test_errors_of_ratings_are_refused_for_a_model_that_ranks():
    data = CollabDataBunch.from_df(ML.ratings, seed=0)
    interp = CollabInterpretation(collab_learner(data, "als", n_factors=2))
    for ask in (interp.errors, interp.plot_predictions):
        with pytest.raises(DataError, match=r"ALS only orders items, .*evaluate\(learn\)"):
            ask()


def small(*n_ratings):
    """So many ratings of each of a few items."""
    rows = [(user, item, 1.0 + (user + item) % 5) for item, n in enumerate(n_ratings) for user in range(n)]
    return pd.DataFrame(rows, columns=["user", "item", "rating"])


@pytest.mark.parametrize(("ratings", "sentences"), [
    (small(5, 5, 5), ["a map by tsne needs at least 4 items, got 3; lower min_ratings or raise top",
                      "There is nothing to list"]),
    (small(7, 1, 2, 3, 1, 2, 3, 1), []),
], ids=["three items", "one item with more than a few ratings"])
def test_small_data_have_a_report_too(ratings, sentences, tmp_path):
    page = shown(trained(ratings, items=None, valid_pct=0).report(tmp_path / "r.html"))
    assert page.count("<h2>") == 7 and all(sentence in page for sentence in sentences)
    assert "Empty DataFrame" not in page and "nan%" not in page
