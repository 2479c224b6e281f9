"""The report: one page, whole and the same whatever the learner, its data and the reader's settings are."""

import re

import matplotlib as mpl
import pandas as pd
import pytest

from collab import CollabDataBunch, CollabInterpretation, collab_learner, load_learner, synthetic

pytest.importorskip("altair")
ML = synthetic(n_users=40, n_items=60, n_ratings=900, seed=0)
ITEMS = ML.items.assign(title=[f"<i>Film</i> {k}" for k in range(len(ML.items))])


def trained(ratings=ML.ratings, items=ITEMS, epochs=1, model="dot_bias", **options):
    learn = collab_learner(CollabDataBunch.from_df(ratings, items=items, seed=0, **options), model, n_factors=4)
    with learn.no_logging():
        learn.fit_one_cycle(epochs)
    return CollabInterpretation(learn)


def shown(path):
    """The page without its scripts and pictures."""
    return re.sub(r"<script>.*?</script>|base64,[^\"]*", "", path.read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def interp():
    return trained(epochs=2)


def test_the_report_is_the_same_after_loading_and_escapes_titles(interp, tmp_path):
    first = interp.report(tmp_path / "a.html", interp.data.valid).read_text()
    loaded = load_learner(interp.learn.export(tmp_path / "m.safetensors"))
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "pink"}):
        second = CollabInterpretation(loaded).report(tmp_path / "b.html", interp.data.valid).read_text()
    assert first == second
    for section in ("Training", "Error", "Biases", "Principal components", "Map of the items", "Recommendations"):
        assert f"<h2>{section}</h2>" in first
    assert "&lt;i&gt;Film" in first and "<i>Film" not in first


def test_the_report_has_every_picture_and_three_different_users(interp, tmp_path):
    page = shown(interp.report(tmp_path / "r.html"))
    assert page.count("<img ") == 3                                 # losses, metrics, components
    busiest = interp.data.counts("user")[1:].argsort(descending=True, stable=True)[[0, 20, -1]] + 1
    counts = [sum((part.tensors[0] == row).sum() for part in (interp.data.train, interp.data.valid)) for row in busiest]
    asked = re.findall(r"<h3>User (\d+), (\d+) known ratings", page)
    assert [int(n) for _, n in asked] == counts and len({user for user, _ in asked}) == 3
    assert page.count("<th>id</th>") == 2 + 3                       # biases and components: titles may be shared


@pytest.mark.parametrize("end", ["</script>", "</SCRIPT>", "<!--<script>"])
def test_a_title_cannot_end_the_script_that_draws_the_map(end, tmp_path):
    page = trained(items=ITEMS.assign(title=f"{end}<script>throw 1</script>"), epochs=0)
    text = page.report(tmp_path / "r.html").read_text().lower()
    assert text.count("</script") == text.count("<script>") == 2 and "<!--" not in text


def test_a_model_without_biases_is_reported_with_a_sentence_in_their_place(tmp_path):
    learn = collab_learner(CollabDataBunch.from_df(ML.ratings, valid_pct=0, seed=0), "net", n_factors=4)
    page = CollabInterpretation(learn).report(tmp_path / "net.html").read_text()
    for sentence in ("EmbeddingNet has no i_bias", "no history of training", "no error to report"):
        assert sentence in page


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
    assert page.count("<h2>") == 6 and all(sentence in page for sentence in sentences)
    assert "Empty DataFrame" not in page and "nan%" not in page
