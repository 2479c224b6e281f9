"""The report as a reader sees it: on a screen and on a telephone, in light and in dark, from the disk, without a
network; and its tables as somebody copies them."""

import csv
import io
import re

import pandas as pd
import pytest
from browsing import press, requests_of, until
from selenium.webdriver.common.keys import Keys

from collab import CollabDataBunch, CollabInterpretation, average_learners, collab_learner, synthetic
from collab.interpret.report_page import table
from collab.interpret.report_pictures import Pictures

pytest.importorskip("altair")
ML = synthetic(n_users=40, n_items=60, n_ratings=900, seed=0)
TITLES = [f"映画 {k}, \"七人の侍\" & <b>" for k in range(len(ML.items))]
CLIPBOARD = """
    window.copied = [];
    Object.defineProperty(navigator, 'clipboard', {value: arguments[0] ? {writeText: async text => {
        if (arguments[0] === 'refuses') throw new Error('no');
        window.copied.push(text); }} : undefined, configurable: true});
    document.execCommand = what => {
        if (arguments[1] !== 'works') return false;
        window.copied.push(document.activeElement.value); return true; };
    URL.createObjectURL = blob => { blob.text().then(text => window.saved = text); return 'blob:none'; };
    HTMLAnchorElement.prototype.click = function () { window.file = this.download; };"""


def learner(model="dot_bias", **options):
    items = ML.items.assign(title=TITLES, genres=["Drama|War", "Comedy"] * (len(ML.items) // 2))
    learn = collab_learner(CollabDataBunch.from_df(ML.ratings, items=items, seed=0, **options), model,
                           **({} if model == "ease" else {"n_factors": 4}))
    with learn.no_logging():
        learn.fit(1 if model == "ease" else 2)
    return learn


@pytest.fixture(scope="module")
def rater(tmp_path_factory):
    return CollabInterpretation(learner()).report(tmp_path_factory.mktemp("report") / "rater.html")


@pytest.fixture(scope="module")
def ease(tmp_path_factory):
    return CollabInterpretation(learner("ease", implicit=True, threshold=2)).report(
        tmp_path_factory.mktemp("report") / "ease.html")


def opened(browser, path, width=1400, scheme="light"):
    browser.get("about:blank")
    for log in ("performance", "browser"):
        browser.get_log(log)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
    browser.get(path.as_uri())
    until(lambda: browser.execute_script("return !document.getElementById('map') || !!window.view"))


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["rater", "ease"])
def test_the_page_fits_and_can_be_read_in_light_and_dark(name, scheme, width, browser, request):
    opened(browser, request.getfixturevalue(name), width, scheme)
    found = browser.execute_script("""
        const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(v => (v / 255) ** 2.2);
                                return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const over = getComputedStyle(document.body), page = light(over.backgroundColor);
        const contrast = one => { const ink = light(one);
                                  return (Math.max(ink, page) + .05) / (Math.min(ink, page) + .05); };
        const seen = one => one.checkVisibility();
        const texts = [...document.querySelectorAll('p, td, th, h2, dt, a, button')].filter(seen);
        const drawn = [...document.querySelectorAll('.picture text')].filter(seen);
        return {page, width: document.documentElement.scrollWidth, room: document.documentElement.clientWidth,
                least: Math.min(...texts.map(one => contrast(getComputedStyle(one).color))),
                drawn: Math.min(99, ...drawn.map(one => contrast(getComputedStyle(one).fill))),
                small: Math.min(99, ...drawn.map(one => one.getBoundingClientRect().height)),
                pictures: [...document.querySelectorAll('svg')].filter(seen).length,
                map: document.querySelector('#map canvas')?.getBoundingClientRect().right || 0};""")
    assert (found["page"] < 0.05) == (scheme == "dark") and found["least"] >= 4.5 and found["drawn"] >= 4.5, found
    assert found["width"] <= found["room"] and found["map"] <= found["room"], found
    assert found["small"] >= 8 and found["pictures"] == (4 if name == "rater" else 0)
    asked = requests_of(browser)
    assert asked and all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.parametrize(("clipboard", "command"), [("works", "fails"), ("refuses", "works"), (None, "works"),
                                                    (None, "fails")])
def test_a_button_copies_its_table_as_csv_whatever_the_browser_allows(clipboard, command, rater, browser):
    opened(browser, rater)
    browser.execute_script(CLIPBOARD, clipboard, command)
    by = "[aria-label='Copy CSV: Largest biases']"
    browser.execute_script(f"document.querySelector(\"{by}\").focus()")
    press(browser, Keys.ENTER)            # by the keyboard
    saved = (clipboard, command) == (None, "fails")
    until(lambda: browser.execute_script("return window.saved || window.copied.length"))
    text = browser.execute_script("return window.saved || window.copied[0]")
    rows = [*csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))]
    expected = CollabInterpretation(learner()).biases("item", 10)
    assert rows[0] == ["id", "title", "n_ratings", "mean_rating", "bias"] and text.count("\n") == 11
    assert [row[:3] for row in rows[1:]] == [[str(v) for v in row] for row in
                                            expected[["id", "title", "n_ratings"]].to_numpy().tolist()]
    assert [float(row[4]) for row in rows[1:]] == pytest.approx(expected["bias"].tolist(), rel=1e-5)
    until(lambda: browser.execute_script("return document.getElementById('said').textContent"))
    said = browser.execute_script(f"return [document.querySelector(\"{by}\").textContent, window.file || null, "
                                  "document.getElementById('said').textContent, "
                                  "document.querySelectorAll('textarea').length]")
    assert said == ["Saved" if saved else "Copied", "largest-biases.csv" if saved else None,
                    f"Largest biases: {'saved' if saved else 'copied'} as CSV", 0]


def test_titles_stay_titles_in_pictures_though_no_font_here_has_them(rater):
    """Text is text in the pictures, so that the reader's fonts draw it."""
    page = rater.read_text()
    pictures = "".join(re.findall(r"<figure class=\"picture.*?</figure>", page, re.DOTALL))
    assert len(re.findall(r"<text [^>]*>映画 \d+, .*?</text>", pictures)) > 4 and "<b>" not in pictures
    assert "base64" not in pictures and "DejaVuSans-" not in pictures


def test_ids_in_a_page_are_unique_and_so_are_those_that_pictures_refer_to(rater):
    page = rater.read_text()
    ids = re.findall(r'\sid="([^"]+)"', re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    assert len(ids) == len({*ids})
    pictures = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert {*re.findall(r'(?:href="|url\()#([^")]+)', pictures)} <= {*ids}


def test_a_page_without_a_map_is_small_and_one_with_a_map_has_its_libraries_once(rater, ease):
    assert ease.stat().st_size < 60_000 and 'id="vega"' not in ease.read_text()
    assert rater.stat().st_size < 700_000 and rater.read_text().count('id="vega"') == 1


def test_a_model_without_factors_has_similar_items_and_says_what_it_lacks(ease):
    page = re.sub(r"<script.*?</script>", "", ease.read_text(), flags=re.DOTALL)
    assert "<h2>Similar items</h2>" in page and page.count("<h4>Nearest to ") == 4
    lacking, = re.findall(r"<h2>Not on this page</h2>(.*?)</section>", page)
    assert re.search(r"<li>Map of the items, Principal components: EASE .*</li>", lacking)
    assert "<li>Biases: EASE" in lacking
    for word in ("RMSE", "rmse", "units of the rating", "Rated highest"):
        assert word not in page
    assert "<h4>Chosen by user" in page and "paired permutation test" in page


def test_pictures_say_in_words_what_they_show():
    def draw(ax):
        ax.set(title="loss", xlabel="epoch")
        ax.plot([0, 1, 2], [3.0, 0.5, 1.25], label="training", color="black")
        return ax
    picture = Pictures().draw(draw)
    assert 'aria-label="loss. training: from 3 to 1.25 over the epoch, lowest 0.5, highest 3."' in picture
    assert "#000000" not in picture and "currentColor" in picture


def test_a_table_shows_rounded_numbers_and_copies_exact_ones():
    frame = pd.DataFrame({"id": [7], "title": ["<b>"], "n_ratings": [1234], "bias": [0.123456789],
                          "gap": [float("nan")]})
    page = table(frame, "One & only")
    assert '<td class=n data-v="0.123457">0.123</td>' in page and '<td class=n data-v="1234">1,234</td>' in page
    assert "&lt;b&gt;" in page and '<td class=i>7</td>' in page and "<td class=n></td>" in page
    assert '<th scope="col" class=n data-v="n_ratings">ratings</th>' in page
    assert '<caption class="hidden">One &amp; only</caption>' in page


def test_an_ensemble_has_a_page_that_invents_no_training(tmp_path):
    als = learner("als", implicit=True, threshold=2)
    other = collab_learner(als.data, "ease")
    with other.no_logging():
        other.fit()
    both = average_learners([als, other])
    page = CollabInterpretation(both).report(tmp_path / "r.html").read_text()
    assert "RankEnsemble of ALS, EASE, without a record of its training, over" in page and "0 epochs" not in page
    assert "<h2>Ranking</h2>" in page and "Recommended to user" in page
    lacking, = re.findall(r"<h2>Not on this page</h2>(.*?)</section>", page)
    assert all(name in lacking for name in ("Similar items", "Map of the items", "Biases", "Principal components"))
