"""From a key to the changed list: what a visitor of the page of `collab serve` waits for, in headless Chromium.

    python benchmarks/page.py                       # dot_bias of MovieLens latest-small; 5, 20 and 50 ratings
    python benchmarks/page.py --ratings 5 --keys 100 --model model.safetensors

The server is a process of its own, started by the command line. For each number of ratings the page is opened with so
many of the most rated items rated, and then `--keys` digits change ratings of them, one after the other, each to a new
one, with `--pause` seconds between the list of one and the next. Times are taken in the page, in milliseconds from
the timestamp of the keydown event: to the list in the document (a MutationObserver), to the frame after it, and of that
the request alone (from `fetch` to the last byte, as the browser measures it). The first three keys warm up and do not
count. Needs chromium and chromedriver on the path, without which nothing is measured, and selenium."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.load import server

FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "window-size=1400,1000")
WARM, WAIT = 3, 15.0        # keys that do not count; seconds for a list
WATCH = """
window.times = [];
let key = null;
document.addEventListener("keydown", event => { key = event.timeStamp; }, true);
new MutationObserver(() => {
  if (key === null) return;
  const one = { list: performance.now() - key, start: key };
  key = null;
  requestAnimationFrame(() => setTimeout(() => {
    one.frame = performance.now() - one.start;
    const asked = performance.getEntriesByType("resource").filter(entry => entry.name.endsWith("/recommend"));
    one.request = asked.length ? asked.at(-1).responseEnd - asked.at(-1).startTime : null;
    performance.clearResourceTimings();
    window.times.push(one);
  }));
}).observe(document.getElementById("recommended"), { childList: true });
"""


@contextmanager
def browser(folder: str) -> Iterator[Any]:
    """Headless Chromium with a new profile in a folder."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"user-data-dir={folder}/profile"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def until(driver: Any, code: str) -> Any:
    """The first result of a script that is true. Raises SystemExit after WAIT seconds."""
    end = time.monotonic() + WAIT
    while not (found := driver.execute_script(code)):
        if time.monotonic() > end:
            raise SystemExit(f"after {WAIT:.0f} s there is nothing for {code}; the page says: "
                             f"{driver.execute_script('return document.body.innerText')[:300]}")
        time.sleep(0.005)
    return found


def measured(driver: Any, address: str, n_ratings: int, n_keys: int, pause: float) -> list[dict[str, float]]:
    """{list, frame, request}, in milliseconds, of each of `n_keys` keys on a page with this many ratings."""
    def asked(path: str) -> Any:
        with urllib.request.urlopen(f"{address}{path}") as answer:
            return json.load(answer)
    from selenium.webdriver import ActionChains
    about, items = asked("health"), asked(f"items?n={n_ratings}")["items"]
    high = int(about["scale"]["high"])
    rated = [{**item, "rating": 1 + k % high} for k, item in enumerate(items)]
    driver.get(f"{address}docs")            # whose scripts do not keep what is stored
    driver.execute_script("localStorage.setItem(...arguments)", f"collab {about['key']}",
                          json.dumps({"rated": rated, "hidden": []}))
    driver.get(address)
    until(driver, "return document.querySelectorAll('#recommended li').length > 0")
    driver.execute_script(WATCH)
    for k in range(WARM + n_keys):
        one = rated[(3 * k + 1) % n_ratings]
        one["rating"] = one["rating"] % high + 1
        driver.execute_script("document.querySelectorAll('#rated [role=slider]')[arguments[0]].focus()",
                              n_ratings - 1 - rated.index(one))      # the last one rated is on top
        ActionChains(driver).send_keys(str(one["rating"])).perform()
        until(driver, f"return window.times.length === {k + 1}")
        time.sleep(pause)
    return driver.execute_script("return window.times")[WARM:]


def quantile(values: list[float], share: float) -> float:
    """A quantile that is one of the values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    """Train a model unless one is given, press keys and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model file or an index with a scale; by default dot_bias of ml-latest-small")
    parser.add_argument("--ratings", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--keys", type=int, default=40)
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between a list and the next key")
    args = parser.parse_args()
    if missing := [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]:
        print(f"left out: {' and '.join(missing)} cannot be found")
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or f"{folder}/model.safetensors"
        if args.model is None:
            subprocess.run([sys.executable, "-m", "collab", "train", "ml-latest-small", "--quiet", "--out", model],
                           check=True, stdout=subprocess.DEVNULL)
        with server(model) as (_, address), browser(folder) as driver:
            before = os.getloadavg()[0]
            for n in args.ratings:
                times = measured(driver, address, n, args.keys, args.pause)
                lists, frames, requests = ([one[name] for one in times] for name in ("list", "frame", "request"))
                soon = sum(ms <= 100 for ms in lists)
                rows.append(f"| {n} | {statistics.median(lists):.0f} | {quantile(lists, 0.95):.0f} | {max(lists):.0f} "
                            f"| {soon} of {len(lists)} | {statistics.median(frames):.0f} "
                            f"| {statistics.median(requests):.0f} |")
    print(f"{os.cpu_count()} processors, load average {before:.1f} before, {os.getloadavg()[0]:.1f} after\n"
          "| ratings | median, ms | p95 | longest | within 100 ms | to the frame, median | request, median |\n"
          "|---|---|---|---|---|---|---|\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
