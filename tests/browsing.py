"""Pages in a browser: keys and clicks that go where the focus and the pointer are, and what a page shows, read by one
script in one go, since a page may rebuild what a test has found before the test looks at it."""

import json
import time

from selenium.webdriver import ActionChains

NARROW = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
WAIT = 30       # seconds, for what takes milliseconds on an idle machine
TEXTS = """return [...document.querySelectorAll(arguments[0])]
               .map(one => one.checkVisibility() ? one.innerText.trim() : "")"""
MIDDLE = """const one = document.querySelector(arguments[0]);
            one.scrollIntoView({ block: "center", behavior: "instant" });
            const box = one.getBoundingClientRect();
            return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)]"""


def until(look, what="it"):
    """The first result of `look` that is not empty. Raises AssertionError after WAIT seconds."""
    end = time.monotonic() + WAIT
    while not (found := look()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)
    return found


def press(browser, *keys):
    """Press keys where the focus is."""
    ActionChains(browser).send_keys(*keys).perform()


def click(browser, selector):
    """Click in the middle of the first element that a selector finds."""
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(*browser.execute_script(MIDDLE, selector))
    actions.click().perform()


def texts(browser, selector):
    """The texts of the elements that a selector finds; an empty one of what is hidden."""
    return browser.execute_script(TEXTS, selector)


def requests_of(browser):
    """The addresses that a browser has asked for since its log was read last."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
