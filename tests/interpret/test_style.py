"""The style that pictures share: labels that stay apart, plain ticks, names that can be drawn, colours."""

import re
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from collab import CollabDataBunch, CollabInterpretation, CollabWarning, collab_learner, synthetic

NOBODY_HAS = "\u0378"       # a character that Unicode has not assigned, so that no font has it
LONG = "The Title of a Film that Has no End, or: How They Went on and on without Any Mercy, Part " + "I" * 40


@pytest.fixture(scope="module")
def ml():
    return synthetic(n_users=150, n_items=120, n_ratings=6000, n_factors=3, noise=0.3, seed=3)


@pytest.fixture(scope="module")
def interp(ml):
    items = ml.items.assign(title=[f"The Film No. {k} (19{k % 100:02})" for k in range(len(ml.items))])
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=items, seed=0, bs=256), n_factors=8,
                           lr=1e-2, wd=0.6)
    with learn.no_logging():
        learn.fit_one_cycle(3)
        learn.fit_one_cycle(2)
    return CollabInterpretation(learn)


@pytest.fixture
def shown():
    """Draw on a new figure of pyplot's, which is closed afterwards."""
    def show(plot, **options):
        ax = plot(**options)
        ax.figure.draw_without_rendering()
        return ax
    yield show
    plt.close("all")


def named(ml, titles):
    data = CollabDataBunch.from_df(ml.ratings, items=ml.items.assign(title=titles), seed=0)
    return CollabInterpretation(collab_learner(data, n_factors=4))


def boxes(ax):
    return {text.get_text(): text.get_window_extent() for text in ax.texts}


def points(ax):
    return ax.transData.transform(ax.collections[0].get_offsets())


def overlapping(found):
    return [pair for pair in combinations(found, 2) if found[pair[0]].overlaps(found[pair[1]])]


SCATTERS = {"pca": lambda i, **o: i.pca(3).plot(**o), "norms": lambda i, **o: i.plot_norms(**o),
            "map": lambda i, **o: i.plot_map("pca", **o), "users": lambda i, **o: i.plot_norms("user", **o)}


# Labels -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("draw", SCATTERS.values(), ids=SCATTERS)
@pytest.mark.parametrize("size", [None, (6, 5)])
def test_no_label_runs_over_another_one_or_a_point_or_out_of_the_axes(interp, draw, size, shown):
    given = {"ax": Figure(figsize=size).subplots()} if size else {}
    ax = shown(lambda **o: draw(interp, **o), **given)
    found, frame = boxes(ax), ax.get_window_extent()
    assert len(found) > 5 and overlapping(found) == []
    for box in found.values():
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1 and frame.y0 <= box.y0 < box.y1 <= frame.y1
    covered = sum(box.contains(*point) for point in points(ax) for box in found.values())
    assert covered <= (3 if draw is SCATTERS["norms"] and size else 0)      # where 15 labels are promised a small page


@pytest.mark.parametrize("draw", SCATTERS.values(), ids=SCATTERS)
def test_both_ends_of_each_axis_have_a_label(interp, draw, shown):
    ax = shown(lambda: draw(interp))
    x, y = np.asarray(ax.collections[0].get_offsets()).T
    for k in (x.argmin(), x.argmax(), y.argmin(), y.argmax()):
        assert any(np.allclose(text.xy, (x[k], y[k])) for text in ax.texts), (x[k], y[k])


@pytest.mark.parametrize("n", [15, 3])
def test_the_longest_embeddings_all_have_their_label(interp, n, shown):
    ax = shown(interp.plot_norms, n_labels=n)
    assert set(interp.norms(min_ratings=1)["title"][:n]) <= set(boxes(ax)) and n <= len(ax.texts) <= n + 3
    assert len(shown(interp.plot_norms, n_labels=0).texts) == 0


def test_a_label_that_is_moved_is_led_to_by_a_line_that_ends_at_it(interp, shown):
    ax = shown(interp.plot_norms)
    ends = [line.get_transform().transform(line.get_xydata()) for line in ax.get_lines()]
    places = [box.padded(3) for box in boxes(ax).values()]
    assert ends                                             # some are
    for start, end in ends:
        assert np.abs(points(ax) - start).max(1).min() < 0.1
        assert any(box.contains(*end) for box in places)


@pytest.mark.parametrize("name", ["plot_biases", "plot_cross"])
def test_long_titles_are_cut_and_leave_the_picture_its_room(ml, name, shown):
    interp = named(ml, [LONG] * len(ml.items))
    ax = shown(getattr(interp, name))
    width, height = ax.figure.get_size_inches() * ax.figure.dpi
    frame = ax.get_window_extent()
    assert frame.height > 0.65 * height and frame.width > 0.6 * width
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        box = label.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and len(label.get_text()) <= 36
    assert sum(label.get_text().endswith("…") for label in (*ax.get_xticklabels(), *ax.get_yticklabels())) >= 15


# Ticks, titles and legends ----------------------------------------------------------------------------------------

def ticks(axis):
    return [label.get_text() for label in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))
            if label.get_text()]


def test_ticks_of_logarithmic_axes_are_plain_numbers(interp, shown):
    assert ticks(shown(interp.plot_counts).xaxis) == ["1", "2", "4", "8", "16", "32", "64", "128"]
    with interp.learn.no_logging():
        interp.learn.lr_find(plot=False, num_it=10)
    for plot in (interp.plot_norms, interp.learn.recorder.plot_lr_find):
        found = ticks(shown(plot).xaxis)
        assert len(found) >= 3 and all(re.fullmatch(r"[\d,]+|0\.\d+", text) for text in found), found


@pytest.mark.parametrize("name", ["plot_sched", "plot_loss", "plot_metrics"])
def test_the_legend_covers_no_data_and_not_the_title(interp, name, shown):
    ax = shown(getattr(interp.learn.recorder, name))
    legend, frame = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert legend.y0 >= frame.y1 and not legend.overlaps(ax.title.get_window_extent())
    assert ax.title.get_window_extent().y1 <= ax.figure.bbox.y1 and legend.x1 <= ax.figure.bbox.x1


def test_every_picture_says_what_it_shows_and_keeps_a_title_that_is_there(interp, shown):
    names = ["plot_biases", "plot_norms", "plot_map", "plot_predictions", "plot_cross", "plot_counts"]
    for plot in [*(getattr(interp, name) for name in names), interp.pca(2).plot, interp.learn.recorder.plot_sched]:
        assert len(shown(plot).get_title()) > 10
        ax = Figure().subplots()
        ax.set_title("mine")
        assert plot(ax=ax).get_title() == "mine"


def test_numbers_are_written_plainly():
    from collab.plotting import plain
    assert [plain(x) for x in (1e-5, 0.0083, 0.1, 0, 1, 2.5, 1000, 25_000_095, -0.25)] == [
        "0.00001", "0.0083", "0.1", "0", "1", "2.5", "1,000", "25,000,100", "-0.25"]


def test_texts_are_cut_to_columns_and_keep_their_year():
    from collab.plotting import cut
    assert cut("Short (1999)", 28) == "Short (1999)" and cut("", 5) == "" and cut("a\n b", 5) == "a b"
    assert cut("Wallace & Gromit: The Best of Aardman Animation (1996)", 28) == "Wallace & Gromit: Th… (1996)"
    assert cut("abcdefgh", 5) == "abcd…" and cut("千と千尋の神隠し", 16) == "千と千尋の神隠し"
    assert cut("千と千尋の神隠し", 15) == "千と千尋の神隠…"


# Fonts and colours ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("draw", [SCATTERS["pca"], SCATTERS["norms"], SCATTERS["map"],
                                  lambda i: i.plot_biases(), lambda i: i.plot_cross()])
def test_a_title_that_no_font_can_draw_is_shown_by_its_id_with_a_warning(ml, draw, shown):
    interp = named(ml, [f"{NOBODY_HAS}{k}" for k in range(len(ml.items))])
    with pytest.warns(CollabWarning, match="no installed font has, and are shown by their ids; install") as said:
        ax = shown(lambda: draw(interp))
    assert len(said) == 1                                   # and none of matplotlib's on missing glyphs
    texts = {text.get_text() for text in (*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels())}
    assert len(texts & set(ml.items["item"].astype(str))) > 5 and not any(NOBODY_HAS in text for text in texts)


def test_an_installed_font_that_has_the_characters_is_found(ml, shown):
    with mpl.rc_context({"font.family": "DejaVu Sans Mono"}):       # it has no Hebrew letters; DejaVu Sans has
        ax = shown(named(ml, [f"שלום {k}" for k in range(len(ml.items))]).plot_biases)
    label = ax.get_yticklabels()[0]
    assert label.get_text().startswith("שלום") and len(label.get_fontfamily()) == 2


def test_an_id_that_no_font_can_draw_has_question_marks():
    from collab.interpret.glyphs import drawable
    with pytest.warns(CollabWarning, match="1 of 2 names"):
        found = drawable(pd.DataFrame({"id": [f"a{NOBODY_HAS}", "b"]}), 20)
    assert found.labels == ["a?", "b"]


def lab(colour):
    """CIELAB under D65, from sRGB (IEC 61966-2-1)."""
    rgb = np.array([int(colour[k:k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_colours_of_groups_stay_apart_from_each_other_and_from_white():
    from collab.plotting import GREY, HUES
    places = [lab(colour) for colour in (*HUES, GREY)]
    assert len(HUES) == 8 and min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) > 40
    assert all(lightness < 80 for lightness, *_ in places)
