"""Pictures of what was learned: the numbers that they show, room for labels, and nothing left behind."""

import random

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from collab import CollabDataBunch, CollabInterpretation, collab_learner, load_learner, synthetic


@pytest.fixture(scope="module")
def ml():
    return synthetic(n_users=150, n_items=120, n_ratings=6000, n_factors=3, noise=0.3, seed=3)


@pytest.fixture(scope="module")
def learn(ml):
    data = CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, bs=256, device="cpu")
    learn = collab_learner(data, n_factors=8)
    with learn.no_logging():
        learn.fit_one_cycle(4)
    return learn


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


def test_the_boxes_hold_what_was_predicted_for_each_rating(interp, learn, ml, tmp_path):
    preds, targets = learn.get_preds()
    expected = [np.median(preds[targets == level]) for level in np.unique(targets)]
    assert np.ptp(expected) < 3                             # those of the ratings themselves lie 4 apart
    loaded = CollabInterpretation(load_learner(learn.export(tmp_path / "m")))
    for found in (interp.plot_predictions(ax=Figure().subplots()),
                  loaded.plot_predictions(learn.data.valid, ax=Figure().subplots())):
        medians = [line.get_ydata()[0] for line in found.get_lines() if len(set(line.get_ydata())) == 1
                   and line.get_color() == mpl.rcParams["boxplot.medianprops.color"]]
        assert medians == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"no validation part, .* pass ratings to measure on"):
        loaded.plot_predictions()


def test_lengths_are_drawn_over_numbers_of_ratings(interp):
    points = interp.plot_norms(ax=Figure().subplots()).collections[0].get_offsets()
    np.testing.assert_allclose(points, interp.norms(min_ratings=1)[["n_ratings", "norm"]])


DRAWN = {"pca": lambda i, ax: i.pca(2).plot(ax=ax), "norms": lambda i, ax: i.plot_norms(n_labels=60, ax=ax),
         "map": lambda i, ax: i.plot_map("pca", ax=ax)}


@pytest.mark.parametrize("layout", [None, "tight", "constrained"])
@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_labels_overlap_in_no_layout(interp, draw, layout):
    figure = Figure(figsize=(6, 5), layout=layout)
    ax = draw(interp, figure.subplots())
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) > 5 and not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_a_title_with_dollars_is_shown_as_it_is(ml):
    items = ml.items.assign(title=[f"$5 {k} ^{{$" for k in range(len(ml.items))])
    interp = CollabInterpretation(collab_learner(CollabDataBunch.from_df(ml.ratings, items=items, seed=0), n_factors=3))
    for draw in (*DRAWN.values(), lambda i, ax: i.plot_biases(ax=ax), lambda i, ax: i.plot_cross(ax=ax)):
        figure = Figure()
        ax = draw(interp, figure.subplots())
        figure.draw_without_rendering()                     # where "$" begins mathematics, this fails
        shown = [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels()]
        assert any(text.get_text().startswith("$5 ") for text in shown)


BROKEN = {"biases": lambda i: i.plot_biases(n=0), "norms": lambda i: i.plot_norms(by="x"),
          "map": lambda i: i.plot_map("som"), "cross": lambda i: i.plot_cross(n=0),
          "counts": lambda i: i.plot_counts("x"),
          "predictions": lambda i: i.plot_predictions(pd.DataFrame({"a": [1]})), "pca": lambda i: i.pca(2).plot(0, 5),
          "top": lambda i: i.pca(2).plot(top=0), "pairs": lambda i: i.similar_pairs(n=0),
          "neighbors": lambda i: i.neighbors(10**6), "explain": lambda i: i.explain(1, 10**6), "data": lambda i:
          i.data.counts("x"), "report": lambda i: i.report("/no/such/folder/r.html", users=[10**6])}


@pytest.mark.parametrize("ask", BROKEN.values(), ids=BROKEN)
def test_what_fails_leaves_no_figure(interp, ask):
    before = plt.get_fignums()          # of tests of other pictures, in the same process
    with pytest.raises(ValueError):
        ask(interp)
    assert plt.get_fignums() == before


def test_looking_changes_nothing(interp, learn, tmp_path):
    def state():
        return [{k: v.clone().numpy() for k, v in learn.model.state_dict().items()}, learn.recorder.frame().to_dict(),
                [m.training for m in learn.model.modules()], torch.get_rng_state().numpy(), random.getstate(),
                np.random.get_state(legacy=False), dict(mpl.rcParams), plt.get_fignums(),
                [part.generator.get_state().numpy() for part in (learn.data.train, learn.data.valid)]]

    axes = Figure().subplots
    asked = [lambda by=by, name=name: getattr(interp, name)(by=by) for by in ("item", "user")
             for name in ("biases", "norms", "pca", "similar_pairs", "tsne")]
    asked += [lambda by=by, name=name: getattr(interp, name)(by=by, ax=axes()) for by in ("item", "user")
              for name in ("plot_biases", "plot_norms", "plot_map", "plot_counts")]
    asked += [lambda: interp.neighbors(7), lambda: interp.neighbors(7, by="user"), lambda: interp.explain(5, 11),
              interp.errors, lambda: interp.chart_map("pca"), lambda: interp.chart_map("pca", by="user"),
              lambda: interp.plot_predictions(ax=axes()), lambda: interp.plot_cross(ax=axes()),
              lambda: interp.pca(2).plot(ax=axes()), lambda: interp.report(tmp_path / "r.html")]
    learn.model.train()
    learn.model.i_bias.eval()                               # each module has a mode of its own
    before = state()
    for ask in asked:
        ask()
        np.testing.assert_equal(state(), before)
    for ask in BROKEN.values():
        with pytest.raises(ValueError):
            ask(interp)
        np.testing.assert_equal(state(), before)
