"""A service asked in this process, `collab serve` in one of its own, and its page in a browser."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import uvicorn
from browsing import WAIT, press, texts, until
from selenium.webdriver.common.keys import Keys

from collab import service
from collab.serve.listening import listen, url_of


class Client:
    """Asks an ASGI application in this process; what it does not foresee is raised."""

    def __init__(self, app, address="http://127.0.0.1:8000"):
        self.app, self.address = app, address

    def request(self, method, path, **options):
        """The answer to one request."""
        async def ask():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=self.address) as client:
                return await client.request(method, path, **options)
        return asyncio.run(ask())

    def get(self, path, **options):
        """The answer to a GET."""
        return self.request("GET", path, **options)

    def post(self, path, **options):
        """The answer to a POST."""
        return self.request("POST", path, **options)


@contextlib.contextmanager
def served(model, *options, fresh=None):
    """(process, address) of `collab serve MODEL` at a free port, a program of `fresh` if that is given; it is ended at
    the end."""
    words = ["-m", "collab", "serve", str(model), "--port", "0", *options]
    process = fresh.start(*words) if fresh else subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        said = process.stdout.readline()
        assert " at http" in said, said + process.communicate(timeout=WAIT)[1]
        yield process, said.split(" at ")[1].split()[0]
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=WAIT)


@contextlib.contextmanager
def beside(model):
    """The address of a model's service in a thread of this process, which is there at once."""
    config = uvicorn.Config(service(model, threads=2), log_config=None, log_level="error", lifespan="off", http="h11",
                            ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        until(lambda: server.started, "the server")
        yield url_of(sock, "127.0.0.1")
        server.should_exit = True
        thread.join(WAIT)


class PageDriver:
    """The page of a service in a browser, used by the keyboard."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get_log("performance")
        browser.get_log("browser")
        browser.get(address)
        until(lambda: self.text("#about"), "what the service is")
        self.settled()

    def settled(self):
        """Wait until no answer is on its way that changes the list."""
        until(lambda: self.script("return document.getElementById('recommended').ariaBusy === 'false'"), "a list")

    def texts(self, selector):
        """The texts of the elements that a selector finds."""
        return texts(self.browser, selector)

    def text(self, selector):
        """The text of the first element that a selector finds."""
        return self.texts(selector)[0]

    def script(self, code, *arguments):
        """What a script returns."""
        return self.browser.execute_script(code, *arguments)

    def keys(self, *keys):
        """Press keys where the focus is."""
        press(self.browser, *keys)

    def on(self, selector, *keys):
        """Press keys on the first element that a selector finds, once the list is there."""
        self.settled()
        self.script("document.querySelector(arguments[0]).focus()", selector)
        self.keys(*keys)

    def focused(self):
        """The id or the name of what has the focus."""
        return self.script("const now = document.activeElement; return now.id || now.getAttribute('aria-label')")

    def recommended(self):
        """The titles of the list, in order."""
        return self.script("return [...document.querySelectorAll('#recommended .name')].map(one => one.textContent)")

    def reasons(self):
        """What the list says of why, item by item; None where it says nothing."""
        return self.script("return [...document.querySelectorAll('#recommended li')]"
                           ".map(one => one.querySelector('.why')?.textContent ?? null)")

    def rated(self):
        """{title: what its control says} of what the visitor rated."""
        return self.script("return Object.fromEntries([...document.querySelectorAll('#rated li')].map(one => "
                           "[one.querySelector('.name').textContent, "
                           "one.querySelector('[role=slider]')?.getAttribute('aria-valuetext') ?? null]))")

    def find(self, words):
        """Type into the search, and wait for the titles that it shows."""
        self.script("const field = document.getElementById('search'); field.focus(); field.select()")
        self.keys(words)
        shown = ("const found = document.getElementById('options');"
                 "return found.hidden || found.dataset.text !== arguments[0] ? null"
                 " : [...found.children].map(one => one.innerText)")
        return until(lambda: self.script(shown, words), "what is found")

    def lists(self):
        """How many lists have come as answers to ratings."""
        return self.script("return performance.getEntriesByName('rating to list').length")

    def rate(self, words, *keys):
        """Find a title, choose the first, press these keys on its rating, and wait for the list after the last."""
        self.find(words)
        before = self.lists()
        self.keys(Keys.ENTER, *keys)
        until(lambda: self.lists() > before, "a list")
        self.settled()

    def download(self, folder: Path):
        """The content of the CSV file that the page downloads into a folder."""
        self.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
        self.on("#download", Keys.ENTER)
        file = folder / "ratings.csv"
        until(lambda: file.exists() and file.stat().st_size, "the file")
        return file.read_bytes().decode()

    def complaints(self):
        """What the browser has logged as errors: of scripts, and of what the page's policy refuses."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]

    def width(self):
        """(how wide the page is, how wide the screen is)."""
        return tuple(self.script("return [document.documentElement.scrollWidth, innerWidth]"))
