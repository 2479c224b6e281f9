"""Interactive charts and the report in a real browser: what is drawn follows the clicks, and nothing is fetched."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from browsing import requests_of, until

from collab import (
    CollabDataBunch,
    CollabInterpretation,
    DataError,
    chart_counts,
    chart_norms,
    collab_learner,
    synthetic,
)
from collab.datasets.rating_set import RatingSet
from collab.interpret.charts import encode_groups, few, rarest
from collab.interpret.maps import need
from collab.plotting import BLUE, PALE

alt = pytest.importorskip("altair")
GENRES = ["Drama", "Comedy|Drama", "R&B (soul)|Comedy", ""]


@pytest.fixture(scope="module")
def ml():
    """Eighty films whose genres go round, and forty users whose jobs do."""
    made = synthetic(n_users=40, n_items=80, n_ratings=1500, seed=0)
    items = made.items.assign(title=[f"<i>Film</i> {k}" for k in range(len(made.items))], year=1990,
                              genres=[GENRES[k % 4] for k in range(len(made.items))])
    users = made.users.assign(occupation=[("artist", "none", "student")[k % 3] for k in range(len(made.users))])
    return RatingSet(made.ratings, items, users, "made", "")


@pytest.fixture(scope="module")
def interp(ml):
    data = CollabDataBunch.from_df(ml.ratings, items=ml.items, users=ml.users, seed=0)
    learn = collab_learner(data, n_factors=8)
    with learn.no_logging():
        learn.fit_one_cycle(2)
    return CollabInterpretation(learn)


def opened(browser, path):
    """Open a page and wait until its chart is drawn, and can be asked as window.view."""
    for log in ("performance", "browser"):
        browser.get_log(log)
    browser.get(path.as_uri())
    until(lambda: browser.execute_script("return typeof (window.view || {}).scenegraph === 'function'"), "a chart")


def requests_and_errors(browser):
    """(addresses that were asked for beyond the page and what it holds, what the console says)."""
    asked = requests_of(browser)
    assert asked                                            # the page itself is one: the log is really kept
    return [url for url in asked if not url.startswith(("file:", "data:", "blob:"))], browser.get_log("browser")


def drawn(browser, kind):
    """The marks of a kind (symbol, rect) that the view shows: id, x, y, area on the screen, colour, panel."""
    return browser.execute_script(f"""
        const found = [], visit = (item, panel) => {{
            if (item.marktype === '{kind}' && item.role === 'mark')
                item.items.forEach(i => found.push([i.datum.id, i.x, i.y, i.bounds.width() * i.bounds.height(), i.fill,
                                                    panel]));
            (item.items || []).forEach(i => visit(i, item.marktype === 'group' ? item.name || panel : panel));
        }};
        visit(window.view.scenegraph().root, '');
        return found;""")


def act(browser, actions):
    """Do it, and wait until what follows is drawn."""
    actions.perform()
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => window.view.runAsync()"
                                 ".then(() => done()));")


def corner(browser):
    """Where the upper left corner of the first panel is, on the screen."""
    return browser.execute_script("""
        const view = window.view, canvas = view.container().querySelector('canvas, svg.marks');
        canvas.scrollIntoView({block: 'center'});
        const box = canvas.getBoundingClientRect(), origin = view.origin(), padding = view.padding();
        return [box.x + origin[0] + padding.left, box.y + origin[1] + padding.top];""")


def click_group(browser, name, shift=False):
    """A real click in the middle of the bar of a group."""
    from selenium.webdriver import ActionChains, Keys
    x, y = browser.execute_script(f"""
        let at = null;
        const visit = (item, dx, dy) => {{
            if (item.datum && item.datum.group === '{name}' && item.mark && item.mark.marktype === 'rect')
                at = [dx + (item.bounds.x1 + item.bounds.x2) / 2, dy + (item.bounds.y1 + item.bounds.y2) / 2];
            const [gx, gy] = item.mark && item.mark.marktype === 'group' ? [item.x || 0, item.y || 0] : [0, 0];
            (item.items || []).forEach(i => visit(i, dx + gx, dy + gy));
        }};
        visit(window.view.scenegraph().root, 0, 0);
        return at;""")
    left, top = corner(browser)
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(int(left + x), int(top + y))
    if shift:
        actions.key_down(Keys.SHIFT)
    actions.click()
    if shift:
        actions.key_up(Keys.SHIFT)
    act(browser, actions)


def test_a_click_on_a_genre_of_the_map_leaves_the_others_pale_and_nothing_leaves_the_report(interp, browser, tmp_path):
    opened(browser, interp.report(tmp_path / "report.html"))
    genres = interp.map("pca")["genres"]
    points = drawn(browser, "symbol")
    pale, before = ({id: rest for id, *rest in points if (rest[3] == PALE) == is_pale} for is_pale in (True, False))
    assert len(pale) == len(before) == len(genres) == len(points) / 2
    for name, shift, pattern in (("Drama", False, "Drama"), ("R&B (soul)", True, "Drama|soul")):
        click_group(browser, name, shift)
        points = drawn(browser, "symbol")
        after = {id: rest for id, *rest in points if rest[3] != PALE}
        assert len(after) == genres.str.contains(pattern).sum()
        assert after == {id: before[id] for id in after}        # neither place nor size nor colour has changed
        assert {id: rest for id, *rest in points if rest[3] == PALE} == pale        # beneath them all
    assert requests_and_errors(browser) == ([], [])


def saved(chart, path):
    """The chart as a page of its own whose view the test can ask."""
    chart.save(path, inline=True)
    page = path.read_text()
    call = "vegaEmbed('#vis', spec, embedOpt)"
    assert page.count(call) == 1
    path.write_text(page.replace(call, f"{call}.then(result => {{ window.view = result.view; }})"))
    return path


def heights(browser, colour):
    """The pixels of the highest bar of a colour in each histogram."""
    found = browser.execute_script(f"""
        const found = [], visit = (item, panel) => {{
            if (item.marktype === 'rect' && item.role === 'mark')
                item.items.filter(i => i.fill === '{colour}' && 'low' in i.datum).forEach(i => found.push(
                    [panel, i.height]));
            (item.items || []).forEach(i => visit(i, item.marktype === 'group' ? item.name || panel : panel));
        }};
        visit(window.view.scenegraph().root, '');
        return found;""")
    return {panel: max(high for of, high in found if of == panel) for panel, _ in found}


@pytest.mark.parametrize("where", [-30, 2, 105], ids=["on its name", "on its bar", "right of its bar"])
def test_a_row_of_the_list_can_be_clicked_anywhere(ml, where, browser, tmp_path):
    from selenium.webdriver import ActionChains
    many = ml.items.assign(genres=["rare" if k == 7 else "usual" for k in range(len(ml.items))])
    rated = RatingSet(ml.ratings, many, ml.users, "", "")
    opened(browser, saved(chart_counts(rated, "item"), tmp_path / "counts.html"))
    x, y = corner(browser)
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(int(x) + where, int(y) + 27)       # the second row of 18 pixels
    act(browser, actions.click())
    assert browser.execute_script("return window.view.signal('pick').code") == [1]


@pytest.mark.parametrize("chart", ["map", "norms"])
def test_the_point_next_to_the_pointer_is_outlined_and_named(interp, chart, browser, tmp_path):
    from selenium.webdriver import ActionChains
    made = interp.chart_map("pca") if chart == "map" else chart_norms({"a": interp})
    opened(browser, saved(made, tmp_path / "page.html"))
    points = browser.execute_script(f"""
        const found = [], visit = (item, dx, dy) => {{
            if (item.mark && item.mark.marktype === 'symbol' && item.mark.role === 'mark' && item.fill !== '{PALE}')
                found.push([item.datum.id, dx + item.x, dy + item.y]);
            const [gx, gy] = item.mark && item.mark.marktype === 'group' ? [item.x || 0, item.y || 0] : [0, 0];
            (item.items || []).forEach(i => visit(i, dx + gx, dy + gy));
        }};
        visit(window.view.scenegraph().root, 0, 0);
        return found;""")
    places = np.array([place for _, *place in points])
    spots = [spot for spot in np.concatenate([places + np.array(step) for step in ((14, 0), (-14, 0), (0, 14))])
             if (spot > places.min(0)).all() and (spot < places.max(0)).all()]
    away = [np.linalg.norm(places - spot, axis=1) for spot in spots]
    best = max(range(len(spots)), key=lambda k: away[k].min())
    nearest = points[away[best].argmin()][0]
    assert away[best].min() > 10                                # pixels from all: the largest has a radius of 9
    x, y = corner(browser)
    actions = ActionChains(browser)
    for step in (5, 0):                                         # a pointer that moves there
        actions.w3c_actions.pointer_action.move_to_location(int(x + spots[best][0]) + step, int(y + spots[best][1]))
    act(browser, actions)
    outlined = browser.execute_script("""
        const found = [], visit = item => {
            if (item.marktype === 'symbol' && item.role === 'mark')
                item.items.filter(i => i.stroke === 'black').forEach(i => found.push(i.datum.id));
            (item.items || []).forEach(visit);
        };
        visit(window.view.scenegraph().root);
        return [found, document.querySelector('#vg-tooltip-element').innerText];""")
    assert outlined[0] == [nearest] and nearest in outlined[1].split()


@pytest.mark.parametrize(("by", "name"), [("item", "Comedy"), ("user", "artist")])
def test_a_click_on_a_group_recounts_the_histograms(ml, by, name, browser, tmp_path):
    opened(browser, saved(chart_counts(ml, by), tmp_path / "counts.html"))
    click_group(browser, name)
    assert all(height > 200 for height in heights(browser, BLUE).values())      # of 260, on an axis of their own
    counted = browser.execute_script("""
        return Object.keys(window.view.getState({data: (n, d) => true}).data).map(name => window.view.data(name))
            .filter(rows => rows.length && 'sum_n' in rows[0]).map(rows => rows.reduce((s, r) => s + r.sum_n, 0));""")
    table = (ml.item_table() if by == "item" else ml.user_table()).query("n_ratings > 0")
    column = table["genres" if by == "item" else "occupation"]
    assert sorted(set(counted)) == [column.str.contains(name).sum(), len(table)]
    assert requests_and_errors(browser) == ([], [])


def test_the_norms_of_several_models_open_without_a_word_on_the_console(interp, browser, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = chart_norms({"one": interp, "wd=0.1 [two]": interp})
    opened(browser, saved(chart, tmp_path / "norms.html"))
    assert len(drawn(browser, "symbol")) == 2 * len(interp.norms(min_ratings=1))
    assert requests_and_errors(browser) == ([], [])


def test_a_brush_over_one_panel_marks_the_same_items_in_both(interp, browser, tmp_path):
    from selenium.webdriver import ActionChains
    opened(browser, saved(chart_norms({"one": interp, "two": interp}), tmp_path / "norms.html"))
    x, y = corner(browser)
    actions = ActionChains(browser)
    pointer = actions.w3c_actions.pointer_action.move_to_location(int(x) + 3, int(y) + 3).pointer_down()
    for right, down in ((20, 20), (145, 270)):
        pointer.move_to_location(int(x) + right, int(y) + down)
    pointer.pointer_up()
    act(browser, actions)
    marked = {panel: {id for id, *_, fill, of in drawn(browser, "symbol") if of == panel and fill == BLUE}
              for *_, panel in drawn(browser, "symbol")}
    left, right = marked.values()
    assert left == right and 0 < len(left) < len(interp.norms(min_ratings=1))


# Without a browser ------------------------------------------------------------------------------------------------

def test_a_group_may_have_any_name_and_a_row_several_or_none():
    codes, groups = encode_groups(pd.Series(["a|b", "b", "", None, "b|(c|d"]))
    assert groups.to_numpy().tolist()[0] == [0, "b", 3] and set(groups["group"]) == {"a", "b", "(c", "d"}
    number = dict(zip(groups["group"], groups["code"]))
    assert codes == [f"|{number['a']}|0|", "|0|", "|", "|", f"|0|{number['(c']}|{number['d']}|"]
    assert rarest(pd.Series(["a|b", "b", ""]), groups) == ["a", "b", "none"]


def test_histograms_without_groups_have_nothing_to_pick(ml):
    bare = RatingSet(ml.ratings, ml.items.drop(columns="genres"), ml.users.drop(columns="occupation"), "bare", "")
    for by in ("user", "item"):
        spec = json.dumps(chart_counts(bare, by).to_dict())
        assert "pick" not in spec


def test_histograms_count_every_user_and_item_once(ml):
    for by, table in (("user", ml.user_table()), ("item", ml.item_table())):
        spec = chart_counts(ml, by).to_dict()
        for histogram in spec["hconcat"][1:]:
            assert sum(bar["n"] for bar in histogram["data"]["values"]) == (table["n_ratings"] > 0).sum()


def test_the_list_holds_the_largest_groups_and_says_how_many_it_leaves_out(ml):
    zips = [f"{min(k, 29):05}" for k in range(len(ml.users))]      # thirty of them, and the last one is the largest
    rated = RatingSet(ml.ratings, ml.items, ml.users.assign(zip=zips), "", "")
    listed = chart_counts(rated, group="zip").to_dict()["hconcat"][0]
    shown = listed["data"]["values"]
    assert len(shown) == 25 and shown[0] == {"code": 0, "group": "00029", "n": 11, "label": "00029"}
    assert listed["title"]["subtitle"][-1] == "the 25 largest; 5 smaller ones are left out"
    assert "left out" not in json.dumps(chart_counts(ml).to_dict())


@pytest.mark.parametrize(("levels", "top"), [((1, 2, 3, 4, 5), 4.75), ((0.5, 1, 1.5, 5), 4.75), ((1, 100), 75.25),
                                             ((3,), 3)])
def test_no_bar_of_means_lies_beyond_the_scale_of_the_ratings(levels, top):
    from collab.interpret.charts import _bins
    bins = _bins(pd.Series([levels[-1], levels[0]], dtype=float), np.array(levels, dtype=float))
    assert bins["low"].tolist() == pytest.approx([top, levels[0]])
    assert len(levels) == 1 or bins["high"].max() == levels[-1]


def test_what_is_picked_has_an_axis_of_its_own(ml):
    for histogram in chart_counts(ml).to_dict()["hconcat"][1:]:
        assert histogram["resolve"] == {"scale": {"y": "independent"}}
        assert [layer["encoding"]["y"]["title"] for layer in histogram["layer"]] == ["all users", "picked users"]


def test_the_norms_of_several_models_are_on_one_scale(ml, interp):
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0), n_factors=30)
    panels = chart_norms({"one": interp, "two": CollabInterpretation(learn)}).to_dict()["hconcat"]
    domains = [[panel["encoding"][side]["scale"]["domain"] for side in "xy"] for panel in panels]
    assert domains[0] == domains[1]
    longest = max(i.norms(min_ratings=1)["norm"].max() for i in (interp, CollabInterpretation(learn)))
    assert domains[0][1] == pytest.approx([0, 1.05 * longest])


def test_of_many_groups_the_eight_most_frequent_have_a_colour_and_the_rest_is_other():
    groups = [f"g{k}" for k in range(18) for _ in range(k + 1)]
    kept = few(groups)
    assert set(kept) == {*(f"g{k}" for k in range(10, 18)), "other"} and kept.count("other") == sum(range(1, 11))
    assert few(groups[-60:], 8) == groups[-60:] and len(set(few(list("abcdefghi")))) == 9


def test_charts_say_what_is_missing(ml, interp):
    with pytest.raises(DataError, match=r"no column 'zodiac' in ml.users; its columns are"):
        chart_counts(ml, group="zodiac")
    with pytest.raises(ValueError, match="neither 'item' nor 'user'"):
        chart_counts(ml, by="film")
    with pytest.raises(ValueError, match="no models to compare"):
        chart_norms({})
    with pytest.raises(ValueError, match="'tsne', 'pca' or 'umap'"):
        interp.map("som")


def test_the_map_repeats_and_lays_neighbours_side_by_side(interp):
    one, other = interp.tsne(), interp.tsne()
    pd.testing.assert_frame_equal(one, other)
    assert [*one] == ["id", "title", "n_ratings", "year", "genres", "x", "y"]
    places = one[["x", "y"]].to_numpy()
    unit = interp.learn.weight(one["id"].tolist()).numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    nearest = np.argsort(-(unit @ unit.T), axis=1)[:, 1]
    apart = np.linalg.norm(places - places[nearest], axis=1).mean()
    assert apart < 0.8 * np.linalg.norm(places[:, None] - places[None], axis=2).mean()


def test_the_map_is_scikit_learn_s_t_sne_on_cosines(interp):
    from sklearn.manifold import TSNE
    found = interp.map(top=30, seed=7)
    weight = interp.learn.weight(found["id"].tolist()).double().numpy()
    expected = TSNE(metric="cosine", init="random", random_state=7, perplexity=29 / 3).fit_transform(weight)
    np.testing.assert_allclose(found[["x", "y"]], expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("end", ["</script>", "</SCRIPT >"])
def test_a_title_a_group_and_a_name_cannot_end_the_script_of_a_saved_page(interp, ml, end, tmp_path):
    items = ml.items.assign(title=f"{end}<script>throw 1</script>", genres=f"{end}|x")
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=items, seed=0), n_factors=4)
    evil = CollabInterpretation(learn)
    odd = RatingSet(ml.ratings, items.rename(columns={"genres": end}), ml.users, "odd", "")
    for k, (chart, tame) in enumerate((
            (evil.chart_map("pca"), interp.chart_map("pca")), (chart_norms({end: evil}), chart_norms({"a": interp})),
            (chart_counts(odd, "item", group=end), chart_counts(ml, "item")))):
        pages = [saved(c, tmp_path / f"{name}{k}.html").read_text().lower() for name, c in (("a", chart), ("b", tame))]
        assert pages[0].count("</script") == pages[1].count("</script")


def test_genres_in_lists_are_refused_with_the_way_to_join_them(ml):
    listed = RatingSet(ml.ratings, ml.items.assign(genres=[["a", "b"]] * len(ml.items)), ml.users, "", "")
    for ask in (lambda: chart_counts(listed, "item"), listed.genre_counts):
        with pytest.raises(DataError, match=r"'genres' holds lists \(such as \['a', 'b'\]\).* '\|'; join them with"):
            ask()


def test_what_is_not_installed_is_named_as_it_is_installed(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match="this needs scikit-learn, .*: pip install scikit-learn; all that charts"):
        need("sklearn.manifold")
    for module, package in (("vl_convert", "vl-convert-python"), ("umap", "umap-learn")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=f"this needs {package}, .*: pip install {package}"):
            need(module)


@pytest.mark.parametrize(("method", "least"), [("tsne", 4), ("pca", 2)])
def test_a_map_says_how_many_items_it_needs(interp, method, least):
    assert len(interp.map(method, top=least)) == least and interp.map.__name__ == "map"
    with pytest.raises(DataError, match=f"by {method} needs at least {least} items, got {least - 1}; lower"):
        interp.map(method, top=least - 1)
