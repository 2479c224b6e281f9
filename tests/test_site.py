"""The site builds without a warning, and works as a reader sees it: in a browser, from the disk, without a network."""

import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest
from browsing import NARROW, WAIT, click, press, requests_of, texts, until

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a site that was built by the command of `make docs`, with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder], cwd=ROOT,
                          env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Links(HTMLParser):
    """The ids of a page, where it links to, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads = set(), set(), set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        if "id" in own:
            self.ids.add(own["id"])
        if tag == "a" and own.get("href"):
            self.links.add(own["href"])
        self.loads |= {own[name] for name in ("src",) if own.get(name)}
        if tag == "link" and own.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.add(own["href"])


@pytest.fixture(scope="module")
def pages(site):
    """The links of every page, by its path."""
    return {path: Links(path) for path in sorted(site.rglob("*.html"))}


def test_every_link_and_every_picture_is_there(site, pages):
    for path, page in pages.items():
        for link in page.links | page.loads:
            address, mark = urldefrag(urljoin(path.as_uri(), link))
            if urlparse(address).scheme == "file":
                target = Path(unquote(urlparse(address).path))
                target = target / "index.html" if target.is_dir() else target
                assert target.is_file() and target.is_relative_to(site), f"{link} in {path.name}"
                assert not mark or unquote(mark) in pages[target].ids, f"{link} in {path.name}"


def test_a_page_loads_nothing_from_elsewhere(pages):
    for path, page in pages.items():
        assert not [source for source in page.loads if urlparse(source).scheme or source.startswith("//")], path.name


def test_every_notebook_and_every_public_name_has_its_place(site, pages):
    from collab import public
    course = {path.stem for path in (site / "course").glob("*.html")}
    assert course == {path.stem for path in (ROOT / "nbs").glob("*.ipynb")} | {"index"}
    ids = set.union(*(page.ids for path, page in pages.items() if path.parent.name == "reference"))
    for name in public.__all__:
        assert any(one.endswith(f".{name}") for one in ids), name


def test_examples_of_docstrings_are_code(site):
    assert ">>>" not in re.sub(r"<pre.*?</pre>", "", (site / "reference/data.html").read_text(), flags=re.S)


def test_a_browser_shows_every_page_on_a_wide_and_on_a_narrow_screen(site, browser):
    """Every page that a reader gets to from the first one, with its formulas and charts, and without a request that
    leaves the disk."""
    browser.get("about:blank")          # what the browser asks for as it starts is not of a page
    waiting, seen, formulas, charts = [(site / "index.html").as_uri()], set(), 0, 0
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        for log in ("performance", "browser"):
            browser.get_log(log)
        browser.get(address)
        found = settled(browser)
        formulas, charts = formulas + found["formulas"], charts + found["charts"]
        assert found["formulas"] == found["typeset"], address
        assert found["charts"] == found["drawn"], address
        asked = requests_of(browser)
        assert asked and all(url.startswith(("file:", "data:", "blob:")) for url in asked), address
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"], address
        assert found["width"] <= found["room"], f"{address} is wider than the screen"
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", NARROW)
        narrow = settled(browser)
        assert narrow["room"] == 390 and narrow["width"] <= 390, f"{address} is wider than a telephone"
        assert not narrow["hidden"], f"{narrow['hidden']} formulas of {address} are hidden on a telephone"
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        waiting += [link for link in found["links"] if link.startswith("file:")]
    assert {path.as_uri() for path in site.rglob("*.html")} == seen
    assert formulas > 100 and charts >= 3


def test_lr_find_is_found(site, browser):
    browser.get((site / "index.html").as_uri())
    settled(browser)
    browser.execute_script("document.querySelector('input.md-search__input').focus()")
    press(browser, "lr_find")
    def found():
        """Where the results lead, once they are those of the whole word."""
        marks, links = browser.execute_script("""const all = what => [...document.querySelectorAll(what)];
            return [all('.md-search-result mark').map(mark => mark.textContent),
                    all('a.md-search-result__link').map(link => link.href)]""")
        return links if "lr_find" in marks else None
    links = until(found, "results")
    assert any("reference/" in link for link in links) and any("course/08_fastai_way" in link for link in links)
    browser.get(links[0])
    assert "lr_find" in texts(browser, "article")[0]


def test_solutions_are_folded_until_they_are_asked_for(site, browser):
    browser.get((site / "course/02_matrix_factorisation.html").as_uri())
    settled(browser)
    assert not texts(browser, "details.success code")[0]
    click(browser, "details.success summary")
    assert texts(browser, "details.success code")[0] and "Solution 1" in texts(browser, "details.success")[0]


def settled(browser):
    """What a page shows once formulas are typeset and charts are drawn, or after a while."""
    look = """const all = (what) => [...document.querySelectorAll(what)];
        return {formulas: all('.arithmatex').length,
                typeset: all('.arithmatex').filter(one => one.querySelector('mjx-container svg')).length,
                charts: all('div.chart').length, drawn: all('div.chart svg .mark-group').length
                    ? all('div.chart').filter(chart => chart.querySelector('svg path, svg rect')).length : 0,
                hidden: all('div.arithmatex > mjx-container').filter(formula => formula.checkVisibility()
                    && formula.querySelector('svg').getBoundingClientRect().width < 12).length,
                width: document.documentElement.scrollWidth, room: document.documentElement.clientWidth,
                links: all('a[href]').map(link => link.href.split('#')[0])}"""
    end = time.monotonic() + WAIT
    while True:
        found = browser.execute_script(look)
        if time.monotonic() > end or (found["formulas"], found["charts"]) == (found["typeset"], found["drawn"]):
            return found
        time.sleep(0.05)
