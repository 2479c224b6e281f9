"""Interactive charts and the report in a real browser: what is drawn follows the clicks, and nothing is fetched."""

import json
import shutil
import time
import warnings

import numpy as np
import pandas as pd
import pytest

from collab import (
    CollabDataBunch,
    CollabInterpretation,
    DataError,
    chart_counts,
    chart_norms,
    collab_learner,
    synthetic,
)
from collab.data.dataset import RatingSet
from collab.interpret.charts import encode_groups, rarest

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


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        pytest.skip("there is no chromium and chromedriver to open pages with")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "window-size=1400,1000",
                 f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()


def opened(browser, path, view="window.map"):
    """Open a page and wait until its chart is drawn."""
    for log in ("performance", "browser"):
        browser.get_log(log)
    browser.get(path.as_uri())
    end = time.monotonic() + 30
    while not browser.execute_script(f"return !!({view})"):
        assert time.monotonic() < end, "no chart was drawn"
        time.sleep(0.1)


def requests_and_errors(browser):
    """(addresses that were asked for beyond the page and what it holds, what the console says)."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked                                            # the page itself is one: the log is really kept
    return [url for url in asked if not url.startswith(("file:", "data:", "blob:"))], browser.get_log("browser")


def drawn(browser, view, kind):
    """How many marks of a kind (symbol, rect) the view shows, and the sum of their sizes on the screen."""
    return browser.execute_script(f"""
        let n = 0, area = 0;
        const visit = item => {{
            if (item.marktype === '{kind}' && item.role === 'mark')
                item.items.forEach(i => {{ n += 1; area += i.bounds.width() * i.bounds.height(); }});
            (item.items || []).forEach(visit);
        }};
        visit(({view}).scenegraph().root);
        return [n, Math.round(area)];""")


def click_group(browser, view, name, shift=False):
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
        visit(({view}).scenegraph().root, 0, 0);
        const canvas = ({view}).container().querySelector('canvas, svg.marks'), origin = ({view}).origin();
        canvas.scrollIntoView({{block: 'center'}});
        const box = canvas.getBoundingClientRect();
        return [box.x + origin[0] + at[0], box.y + origin[1] + at[1]];""")
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(int(x), int(y))
    if shift:
        actions.key_down(Keys.SHIFT)
    actions.click()
    if shift:
        actions.key_up(Keys.SHIFT)
    actions.perform()
    time.sleep(0.5)                                         # a click is drawn in the next frame


def test_a_click_on_a_genre_of_the_map_leaves_its_items_and_nothing_leaves_the_report(interp, browser, tmp_path):
    opened(browser, interp.report(tmp_path / "report.html"))
    genres = interp.map("pca")["genres"]
    assert drawn(browser, "window.map", "symbol")[0] == len(genres)
    click_group(browser, "window.map", "Drama")
    assert drawn(browser, "window.map", "symbol")[0] == genres.str.contains("Drama").sum()
    click_group(browser, "window.map", "R&B (soul)", shift=True)
    assert drawn(browser, "window.map", "symbol")[0] == genres.str.contains("Drama|soul").sum() == (genres != "").sum()
    assert requests_and_errors(browser) == ([], [])


def saved(chart, path):
    """The chart as a page of its own whose view the test can ask."""
    chart.save(path, inline=True)
    page = path.read_text()
    call = "vegaEmbed('#vis', spec, embedOpt)"
    assert page.count(call) == 1
    path.write_text(page.replace(call, f"{call}.then(result => {{ window.chart = result.view; }})"))
    return path


@pytest.mark.parametrize(("by", "name"), [("item", "Comedy"), ("user", "artist")])
def test_a_click_on_a_group_recounts_the_histograms(ml, by, name, browser, tmp_path):
    opened(browser, saved(chart_counts(ml, by), tmp_path / "counts.html"), "window.chart")
    before = drawn(browser, "window.chart", "rect")
    click_group(browser, "window.chart", name)
    after = drawn(browser, "window.chart", "rect")
    assert after[1] < before[1] and after[0] <= before[0]
    counted = browser.execute_script("""
        return Object.keys(window.chart.getState({data: (n, d) => true}).data).map(name => window.chart.data(name))
            .filter(rows => rows.length && 'sum_n' in rows[0]).map(rows => rows.reduce((s, r) => s + r.sum_n, 0));""")
    table = (ml.item_table() if by == "item" else ml.user_table()).query("n_ratings > 0")
    column = table["genres" if by == "item" else "occupation"]
    assert sorted(set(counted)) == [column.str.contains(name).sum(), len(table)]
    assert requests_and_errors(browser) == ([], [])


def test_the_norms_of_several_models_open_without_a_word_on_the_console(interp, browser, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = chart_norms({"one": interp, "wd=0.1 [two]": interp})
    opened(browser, saved(chart, tmp_path / "norms.html"), "window.chart")
    assert drawn(browser, "window.chart", "symbol")[0] == 2 * len(interp.norms(min_ratings=1))
    assert requests_and_errors(browser) == ([], [])


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


def test_looking_at_maps_and_reports_changes_no_random_state(interp, tmp_path):
    before = np.random.get_state()[1].copy()
    interp.tsne()
    interp.report(tmp_path / "r.html")
    assert np.array_equal(before, np.random.get_state()[1])


def test_the_report_is_the_same_after_loading_and_escapes_titles(interp, tmp_path):
    from collab import load_learner
    first = interp.report(tmp_path / "a.html", interp.data.valid).read_text()
    loaded = load_learner(interp.learn.export(tmp_path / "m.safetensors"))
    second = CollabInterpretation(loaded).report(tmp_path / "b.html", interp.data.valid).read_text()
    assert first == second
    for section in ("Training", "Error", "Biases", "Principal components", "Map of the items", "Recommendations"):
        assert f"<h2>{section}</h2>" in first
    assert "&lt;i&gt;Film" in first


def test_a_title_cannot_end_the_script_that_draws_the_map(interp, tmp_path):
    items = interp.data.item_table.reset_index().assign(title="</script><script>throw 1</script>")
    learn = collab_learner(CollabDataBunch.from_df(synthetic(n_users=40, n_items=80, n_ratings=1500, seed=0).ratings,
                                                   items=items, seed=0), n_factors=4)
    page = CollabInterpretation(learn).report(tmp_path / "r.html").read_text()
    assert page.count("</script>") == 2


def test_a_model_without_biases_is_reported_with_a_sentence_in_their_place(ml, tmp_path):
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, valid_pct=0, seed=0), "net", n_factors=4)
    page = CollabInterpretation(learn).report(tmp_path / "net.html").read_text()
    for sentence in ("EmbeddingNet has no i_bias", "no history of training", "no error to report"):
        assert sentence in page
