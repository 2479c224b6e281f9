"""The page of the service in a browser: what a visitor does with the keyboard alone, and what the page never does."""

import csv
import io

import pytest
from browsing import NARROW, click, requests_of, until
from selenium.webdriver.common.keys import Keys
from serving import PageDriver, beside

from benchmarks.page import measured
from collab import CollabDataBunch, collab_learner


@pytest.fixture(scope="module")
def address(films):
    """Where a small model of films is served."""
    with beside(films) as address:
        yield address


@pytest.fixture
def page(browser, address):
    """The page as a visitor first sees it."""
    browser.get(f"{address}docs")
    browser.execute_script("localStorage.clear()")
    return PageDriver(browser, address)


def test_a_visitor_rates_three_films_by_keyboard_and_gets_other_recommendations(page, address, films, collab, tmp_path):
    lists, scores = [page.recommended()], []
    for words, keys in (("amelie", "5"), ("matrix", "2"), ("film 20", (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT))):
        page.rate(words, *keys)
        lists.append(page.recommended())
        scores.append(page.texts("#recommended .score"))
    assert page.rated() == {"Film 20 (1970)": "4 of 5", "Matrix, The (1999)": "2 of 5", "Amélie (2001)": "5 of 5"}
    assert lists[0] == [] and lists[1] and lists[1:3] != lists[2:4] and scores[0] != scores[1] != scores[2]
    ids = {title: films.data.find_titles(title)[0] for title in page.rated()}
    table = films.recommend(ratings={ids["Amélie (2001)"]: 5, ids["Matrix, The (1999)"]: 2, ids["Film 20 (1970)"]: 4},
                            why=True)
    assert lists[3] == table["title"].tolist() and not {*page.rated()} & {*lists[3]}
    assert page.reasons() == [None if why is None else f"because you rated {why}" for why in table["why"]]
    assert any(page.reasons()) and "Recommended now" in page.text("#live")
    content = page.download(tmp_path)
    assert list(csv.reader(io.StringIO(content))) == [["item", "rating", "title"], *(
        [str(ids[title]), str(rating), title] for title, rating in (
            ("Amélie (2001)", 5), ("Matrix, The (1999)", 2), ("Film 20 (1970)", 4)))]
    model = films.export(tmp_path / "model.safetensors")
    code, out, error = collab("recommend", model, "--ratings", tmp_path / "ratings.csv", "--as", "csv")
    assert code == 0 and [row["title"] for row in csv.DictReader(io.StringIO(out))] == lists[3] and not error
    assert all(url.startswith((address, "blob:", "data:")) for url in requests_of(page.browser))
    assert not page.complaints()


def test_a_title_with_html_in_it_is_text(page, films, tmp_path):
    harm = next(title for title in films.data.catalogue.titles if "<img" in title)
    assert harm.removesuffix(" (1999)") in page.find("img src")[0]
    page.rate("img src", "5")
    assert page.rated() == {harm: "5 of 5"} and f"because you rated {harm}" in page.reasons()
    page.rate("=1+1", "1")
    page.rate("film 20", "5")
    assert page.script("return [document.title, document.querySelectorAll('main img').length]") == ["What next?", 0]
    rows = list(csv.reader(io.StringIO(page.download(tmp_path))))
    assert [row[2] for row in rows[1:]] == [harm, "'=1+1 (1980)", "Film 20 (1970)"]     # no formula in a spreadsheet
    assert not page.complaints()


def test_ratings_are_changed_taken_back_and_remembered(page, browser, address):
    page.rate("amelie", "4")
    page.rate("matrix", "5")
    page.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    until(lambda: page.rated()["Matrix, The (1999)"] == "3 of 5")
    page.keys("/")
    assert page.focused() == "search"
    page = PageDriver(browser, address)
    assert page.rated() == {"Amélie (2001)": "4 of 5", "Matrix, The (1999)": "3 of 5"} and page.recommended()
    page.on("#rated button", Keys.ENTER)
    until(lambda: page.rated() == {"Amélie (2001)": "4 of 5"})
    page.settled()
    first = page.recommended()[0]
    page.on("#recommended button", Keys.SPACE)                                  # not for me
    page.settled()
    assert page.recommended() and first not in page.recommended()
    page.on("#clear", Keys.ENTER)
    until(lambda: not page.recommended() and not page.rated())
    assert not page.complaints()


def test_a_film_of_the_list_is_rated_with_the_mouse_and_leaves_it(page):
    page.rate("amelie", "5")
    first = page.recommended()[0]
    click(page.browser, "#recommended [role=slider]")                           # its middle
    until(lambda: page.rated().get(first) == "3 of 5" and first not in page.recommended())
    assert page.focused() == f"Your rating of {first}"


def test_the_focus_stays_in_a_list_that_is_replaced(page):
    page.rate("amelie", "5")
    titles = page.recommended()
    waits = page.script("""     // the same rating again, and so the same list, which cannot come before the script ends
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "5", bubbles: true }));
        window.third = document.querySelectorAll("#recommended li")[2].querySelector("button");
        third.focus();
        return document.getElementById("recommended").ariaBusy""")
    page.settled()
    name = f"Do not recommend {titles[2]}"
    assert waits == "true" and page.recommended() == titles and not page.script("return third.isConnected")
    assert page.focused() == name
    page.keys(Keys.SPACE)
    page.settled()                                      # it has gone, and the next one is in its place
    assert page.focused() == f"Do not recommend {page.recommended()[2]}" != name


def test_hearts_are_pressed_one_after_the_other(browser, liked_films):
    with beside(liked_films) as address:
        page = PageDriver(browser, address)
        names = [f"Like {title}" for title in page.script(
            "return [...document.querySelectorAll('#known .name')].map(one => one.textContent)")]
        page.on("#known button", Keys.SPACE)
        assert page.focused() == names[1]
        page.keys(Keys.SPACE)
        assert page.focused() == names[2]
        page.keys(Keys.SPACE)                           # three are enough to begin with
        assert page.focused() == "search" and len(page.rated()) == 3
        page.on("#recommended button", Keys.SPACE)
        page.settled()
        assert page.focused() == f"Like {page.recommended()[0]}" and len(page.rated()) == 4


DRAWN = """window.drawn = window.early = 0;
const clear = CanvasRenderingContext2D.prototype.clearRect, measure = performance.measure.bind(performance);
CanvasRenderingContext2D.prototype.clearRect = function (...box) { window.drawn++; clear.apply(this, box); };
performance.measure = (...words) => {
  if (words[0] === "rating to list") window.early = window.drawn;
  return measure(...words);
};"""
RESTING = """const done = arguments[0];
let seen = window.drawn, quiet = 0;
function step() {
  quiet = window.drawn === seen ? quiet + 1 : 0;
  seen = window.drawn;
  if (quiet < 3) requestAnimationFrame(step); else done();
}
requestAnimationFrame(step);"""


def drawn(page):
    """How often the map has been drawn since the last time this was asked."""
    return page.script("const n = window.drawn; window.drawn = 0; return n")


def at_rest(page):
    """Wait until the list is that of the last rating and the map, which moves with every frame, has arrived."""
    page.settled()
    page.browser.execute_async_script(RESTING)


@pytest.fixture
def network(browser):
    """Sets the delay of answers in milliseconds; None for no network."""
    def conditions(latency):
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", {
            "offline": latency is None, "latency": latency or 0, "downloadThroughput": -1, "uploadThroughput": -1})
    browser.execute_cdp_cmd("Network.enable", {})
    yield conditions
    conditions(0)


def test_the_map_waits_for_the_list_and_moves_only_where_it_has_to(page, network):
    page.script(DRAWN)
    page.rate("amelie", "5")
    page.rate("matrix", "2")
    at_rest(page)
    drawn(page)
    network(300)                                        # many frames, in which it is not drawn
    lists = page.lists()
    page.keys("2")                                      # the same rating, so that nothing moves
    until(lambda: page.lists() > lists, "a list")
    at_rest(page)
    assert page.script("return window.early") == 0 and drawn(page) == 1
    network(0)
    assert "2 of yours and 10 recommended" in page.script("return document.getElementById('map').ariaLabel")
    page.on("#clear", Keys.ENTER)
    until(lambda: page.script("return window.drawn") > 2)           # it glides to the whole map
    assert "0 of yours and 0 recommended" in page.script("return document.getElementById('map').ariaLabel")


def test_without_an_answer_the_map_still_shows_what_was_rated(page, network):
    page.rate("amelie", "5")
    page.find("matrix")
    network(None)
    page.keys(Keys.ENTER, "4")
    assert "does not answer" in until(lambda: page.text("#error"))
    page.script(DRAWN)
    page.keys("5")
    until(lambda: drawn(page))
    assert "2 of yours and 10 recommended" in page.script("return document.getElementById('map').ariaLabel")
    network(0)
    page.keys("4")
    until(lambda: not page.text("#error"))


def test_the_benchmark_of_the_page_times_every_key(page, address):
    times = measured(page.browser, address, 5, 4, 0)
    assert len(times) == 4 and all(0 < one["request"] < one["list"] < one["frame"] for one in times), times
    assert {*page.rated().values()} <= {f"{k} of 5" for k in range(1, 6)} and len(page.rated()) == 5


def test_everything_has_a_name_and_is_reached_by_the_tabulator(page):
    page.rate("amelie", "5")
    nameless = page.script("""const all = [...document.querySelectorAll('button, input, [tabindex], canvas, ul, ol')];
        return all.filter(one => one.checkVisibility() && !one.textContent.trim() && !one.getAttribute('aria-label')
        && !one.labels?.length && !one.getAttribute('aria-labelledby')).map(one => one.outerHTML)""")
    assert not nameless
    page.script("document.getElementById('search').focus()")
    seen = [["search", "solid"]]
    for _ in range(8):
        page.keys(Keys.TAB)
        seen.append(page.script("const now = document.activeElement; return [now.id || now.getAttribute('aria-label'), "
                                "getComputedStyle(now).outlineStyle]"))
    assert {"search", "download", "clear", "Your rating of Amélie (2001)",
            "Remove Amélie (2001)"} <= {name for name, _ in seen}
    assert all(outline != "none" for _, outline in seen)


@pytest.mark.parametrize("path", ["", "docs"])
def test_a_telephone_shows_all_of_it_without_scrolling_sideways(path, browser, address):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", NARROW)
    try:
        browser.get(f"{address}{path}")
        until(lambda: browser.execute_script("return document.readyState") == "complete")
        if not path:
            page = PageDriver(browser, address)
            page.rate("img src", "5")
            page.rate("amelie", "5")
        assert browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_items_without_titles_are_chosen_by_their_ids(browser, rated_films, tmp_path):
    data = CollabDataBunch.from_df(rated_films[0], seed=0, bs=64, device="cpu", implicit=True, threshold=3)
    learn = collab_learner(data, "als", n_factors=4)
    with learn.no_logging():
        learn.fit()
    with beside(learn) as address:
        page = PageDriver(browser, address)
        page.rate("12")                     # there is nothing to press: what is chosen is liked
        page.rate("25")
        assert page.rated() == {"12": None, "25": None} and page.text("#yours-head") == "Your choices"
        table = learn.recommend(ratings=[12, 25], why=True)
        assert page.recommended() == [str(id) for id in table["item"]]
        assert page.reasons() == [None if why is None else f"because you chose {why}" for why in table["why"]]
        assert page.download(tmp_path).split() == ["item", "12", "25"] and not page.complaints()


def test_ids_that_look_like_formulas_stay_as_they_are_and_are_read_back(browser, rated_films, collab, tmp_path):
    odd = ["=1+1", "-5", "@home", "+7"]
    ids = {id: odd[k] if k < len(odd) else f"film{k}" for k, id in enumerate(rated_films[0]["item"].unique())}
    rows = rated_films[0].assign(item=rated_films[0]["item"].map(ids))
    data = CollabDataBunch.from_df(rows, seed=0, bs=64, device="cpu", implicit=True)
    learn = collab_learner(data, "als", n_factors=4)
    with learn.no_logging():
        learn.fit()
    with beside(learn) as address:
        page = PageDriver(browser, address)
        for id in odd:
            page.rate(id)
        lists = page.recommended()
        assert page.download(tmp_path).split() == ["item", *odd] and not page.complaints()
    words = "recommend", learn.export(tmp_path / "m.safetensors"), "--ratings", tmp_path / "ratings.csv", "--as", "csv"
    code, out, error = collab(*words)
    assert code == 0 and not error and [row["item"] for row in csv.DictReader(io.StringIO(out))] == lists


def test_a_model_that_takes_no_visitors_shows_lists_of_known_users(browser, rated_films):
    data = CollabDataBunch.from_df(*rated_films[:1], items=rated_films[1], seed=0, bs=64, device="cpu")
    learn = collab_learner(data, "net", n_factors=4)
    with learn.no_logging():
        learn.fit(1)
    user = next(iter(data.users))
    with beside(learn) as address:
        page = PageDriver(browser, address)
        until(lambda: "new users" in page.text("#why-not"))
        page.on("#user-id", str(user), Keys.ENTER)
        assert until(page.recommended) == learn.recommend(user)["title"].tolist()
        page.keys("999", Keys.ENTER)
        assert f"no user '{user}999'" in until(lambda: page.text("#error")) and not page.recommended()
