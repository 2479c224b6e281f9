"""What the service refuses, and how: a status that fits and a message that says why, never a 500."""

import asyncio
import json
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import Client

from collab import service
from collab.serve import asked
from collab.serve.guard import HEADERS

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(("path", "status", "message"), [
    ("/recommend", 400, "user is missing"), ("/recommend?user=", 404, "no user ''"),
    ("/recommend?user=99999", 404, "no user '99999'"), ("/recommend?user=1&user=2", 400, "more than once"),
    ("/recommend?user=1&n=0", 400, "from 1 to 100, got 0"), ("/recommend?user=1&n=101", 400, "got 101"),
    ("/recommend?user=1&n=1e3", 400, "got '1e3'"), ("/recommend?user=1&n=-1", 400, "got '-1'"),
    ("/recommend?user=1&who=2", 400, "no parameter 'who'"), ("/recommend?user=1&without=none", 404, "no item 'none'"),
    (f"/recommend?user={'9' * 201}", 400, "201 characters"), ("/similar", 400, "item is missing"),
    ("/similar?item=none", 404, "/search?q=none finds items"), ("/search", 400, "q is missing"),
    ("/search?q=a&n=x", 400, "whole number"), ("/items?n=%F0", 400, "whole number"), ("/nothing", 404, "nothing here"),
    ("/page/page.js", 404, "nothing here"), ("/recommend/", 404, "nothing here")])
def test_an_address_that_cannot_be_used(path, status, message, asks):
    answer = asks.get(path)
    assert answer.status_code == status and message in answer.json()["error"], answer.text


@pytest.mark.parametrize(("body", "status", "message"), [
    (b"", 400, "not JSON"), (b"{", 400, "not JSON"), (b"\xff\xfe", 400, "UTF-8"), (b"[]", 400, "an object"),
    (b"null", 400, "got nothing"), (b"{}", 400, "ratings must be"), (b'{"ratings": []}', 400, "got a list"),
    (b'{"ratings": {}}', 400, "1 to 500"), (b'{"ratings": {"12": "5"}}', 400, "must be a number, got '5'"),
    (b'{"ratings": {"12": true}}', 400, "got true"), (b'{"ratings": {"12": null}}', 400, "got null"),
    (b'{"ratings": {"12": [5]}}', 400, "must be a number"), (b'{"ratings": {"12": NaN}}', 400, "NaN"),
    (b'{"ratings": {"12": 1e999}}', 400, "must be a number"), (b'{"ratings": {"12": %s}}' % (b"9" * 5000), 400, ""),
    (b'{"ratings": {"12": 1%s}}' % (b"0" * 400), 400, "out of range"),
    (b'{"ratings": {"12": 6}}', 400, "outside the scale of 1 to 5"),
    (b'{"ratings": {"12": 5, "12": 4}}', 400, "'12' is given more than once"),
    (b'{"ratings": {"12": 5, "Matrix, The (1999)": 4}}', 400, "rated twice"),
    (b'{"ratings": {"none": 5}}', 404, "no item 'none'"), (b'{"ratings": {"\\ud800": 5}}', 404, "no item"),
    (b'{"ratings": {"12": 5}, "n": 1.5}', 400, "n must be"), (b'{"ratings": {"12": 5}, "n": true}', 400, "n must be"),
    (b'{"ratings": {"12": 5}, "n": "5"}', 200, ""), (b'{"ratings": {"12": 5}, "user": 1}', 400, "no field 'user'"),
    (b'{"ratings": {"12": 5}, "without": 13}', 400, "without must be a list"),
    (b'{"ratings": {"12": 5}, "without": [1.5]}', 400, "whole numbers"),
    (b'{"ratings": {"12": 5}, "without": [999]}', 404, "no item '999'"),
    (b'{"ratings": {"12": 1e300}}', 400, "from -1e+30 to 1e+30, got 1e+300"),
    (b"[" * 60_000, 400, "nested too deeply")])
def test_a_body_that_cannot_be_used(body, status, message, asks):
    answer = asks.post("/recommend", content=body, headers=JSON)
    assert answer.status_code == status and message in answer.text, answer.text


@pytest.mark.parametrize("kind", ["ratings", "ratings, index", "choices", "choices, index"])
def test_wrong_fields_are_refused_whatever_the_model(kind, films, liked_films):
    learn = films if kind.startswith("ratings") else liked_films
    client = Client(service(learn.index() if kind.endswith("index") else learn, threads=1))
    item = learn.data.items.ids[1]
    for body in ([], 5, None, {}, {"other": 1}, {"ratings": 5}, {"ratings": []}, {"ratings": {}}, {"ratings": [1.5]},
                 *({"ratings": {item: rating}} for rating in ("a", None, True, [5], 1e300, -1e300, 1e7, -1)),
                 {"ratings": {item: 5, "12": -1e300}}, {"ratings": {item: 5}, "n": -1},
                 {"ratings": {item: 5}, "without": item}, {"ratings": [item, item]}):
        answer = client.post("/recommend", content=json.dumps(body).encode(), headers=JSON)
        assert answer.status_code == 400 and answer.json()["error"], (body, answer.text)
    assert client.post("/recommend", json={"ratings": {item: 5}}).status_code == 200


def test_more_ratings_than_are_taken(asks):
    answer = asks.post("/recommend", json={"ratings": {str(k): 5 for k in range(501)}})
    assert answer.status_code == 400 and "got 501" in answer.json()["error"]
    answer = asks.post("/recommend", json={"ratings": {"12": 5}, "without": ["12"] * 501})
    assert answer.status_code == 400 and "at most 500" in answer.json()["error"]


async def pieces(n, size):
    for _ in range(n):
        yield b" " * size


@pytest.mark.parametrize(("content", "status"), [
    (b" " * asked.MAX_BODY, 400), (b" " * (asked.MAX_BODY + 1), 413), (b" " * (3 << 20), 413)])
def test_a_body_of_more_than_64_kib_is_refused_however_it_comes(content, status, asks, films):
    assert asks.post("/recommend", content=content, headers=JSON).status_code == status
    assert asks.post("/recommend", content=pieces(len(content) // 1024 + 1, 1024), headers=JSON).status_code == (
        413 if len(content) + 1024 > asked.MAX_BODY else status)


def test_a_body_that_does_not_come_is_not_waited_for(asks, monkeypatch):
    monkeypatch.setattr("collab.serve.routes.BODY_SECONDS", 0.05)

    async def late():
        yield b"{"
        await asyncio.sleep(30)
    answer = asks.post("/recommend", content=late(), headers=JSON)
    assert answer.status_code == 408 and "has not arrived" in answer.json()["error"]


def test_only_json_is_taken(asks):
    for kind in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
        answer = asks.post("/recommend", content=b'{"ratings": {"12": 5}}', headers=kind)
        assert answer.status_code == 415 and "Content-Type: application/json" in answer.json()["error"]
    assert asks.post("/recommend", content=b'{"ratings": {"12": 5}}',
                     headers={"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 200


def test_another_method_is_405_and_says_which_there_are(asks):
    for method, path, allowed in (("PUT", "/recommend", "GET, HEAD, POST"), ("POST", "/search", "GET, HEAD"),
                                  ("DELETE", "/", "GET, HEAD"), ("OPTIONS", "/recommend", "GET, HEAD, POST")):
        answer = asks.request(method, path)
        assert answer.status_code == 405 and "not possible" in answer.json()["error"]
        assert sorted(answer.headers["allow"].split(", ")) == allowed.split(", ")


def test_every_answer_has_the_headers_and_lets_no_other_site_read_it(asks):
    for answer in (asks.get("/"), asks.get("/page.js"), asks.get("/health"), asks.get("/nothing"),
                   asks.request("PUT", "/"), asks.post("/recommend", content=b"{"),
                   asks.get("/health", headers={"Origin": "http://evil.org"})):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "'unsafe" not in HEADERS["Content-Security-Policy"] and "http" not in HEADERS["Content-Security-Policy"]
    assert asks.get("/health").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1", 200), ("127.0.0.1:8000", 200), ("LocalHost:1", 200), ("[::1]", 200), ("[::1]:8000", 200),
    ("evil.org", 403), ("127.0.0.1.evil.org", 403), ("evil.org:127.0.0.1", 403), ("127.0.0.1@evil.org", 403), ("", 403),
    ("[::1", 403), ("localhost:80:80", 403)])
def test_a_local_service_answers_to_its_own_names_alone(host, status, films):
    client = Client(service(films, hosts=["127.0.0.1", "localhost", "[::1]"], threads=1))
    answer = client.get("/health", headers={"Host": host})
    assert answer.status_code == status and answer.headers["x-content-type-options"] == "nosniff"
    assert Client(service(films, threads=1)).get("/health", headers={"Host": "anything.org"}).status_code == 200


NAMES = st.text(max_size=5) | st.sampled_from(["ratings", "n", "without", "12"])
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)), max_leaves=6)
RATED = st.dictionaries(st.sampled_from(["12", "13", "x"]), VALUES, max_size=2)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(body=VALUES | st.fixed_dictionaries({}, optional={"ratings": VALUES | RATED, "n": VALUES, "without": VALUES,
                                                         "other": VALUES}))
def test_no_json_is_a_500(body, asks):
    answer = asks.post("/recommend", content=json.dumps(body).encode(), headers=JSON)
    assert answer.status_code in (200, 400, 404) and (answer.status_code == 200 or answer.json()["error"])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(text=st.text(max_size=30), n=st.text(max_size=4))
def test_no_text_in_an_address_is_a_500(text, n, asks):
    for path, name in (("/search", "q"), ("/similar", "item"), ("/recommend", "user")):
        with httpx_can(text):
            answer = asks.get(path, params={name: text, "n": n or "3"})
            assert answer.status_code in (200, 400, 404), answer.text


class httpx_can:
    """Skips what httpx cannot write into an address: half a character."""

    def __init__(self, text):
        self.text = text

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        return kind is not None and issubclass(kind, UnicodeEncodeError)


# What it says of itself -------------------------------------------------------------------------------------------

def test_the_openapi_document_describes_every_address_and_what_it_takes(asks):
    document = asks.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            named = {p["name"]: {"user": 1, "item": 12, "q": "matrix", "n": 3}.get(p["name"])
                     for p in operation.get("parameters", [])}
            example = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            answer = asks.request(method.upper(), path, json=example, params={k: v for k, v in named.items() if v})
            assert answer.status_code == 200, (path, answer.text)
            if "items" in answer.json() and "properties" in (shape := operation["responses"]["200"]["content"][
                    "application/json"]["schema"]):
                name = shape["properties"]["items"]["items"]["$ref"].rpartition("/")[2]
                assert {*answer.json()["items"][0]} <= {*document["components"]["schemas"][name]["properties"]}
    served = {"/recommend", "/similar", "/search", "/items", "/map", "/health"}
    assert served == {*document["paths"]}


class Loads(HTMLParser):
    """What a page loads and links to, and whether anything of it runs."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.runs = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        self.runs += [(tag, name) for name, _ in attrs if name.startswith("on") or name == "style"]
        self.runs += [tag] * (tag == "style" or (tag == "script" and not dict(attrs).get("src")))


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_their_own_files_alone_and_have_no_inline_scripts(path, asks):
    page = Loads(asks.get(path).text)
    assert not page.runs
    for address in page.addresses:
        assert ":" not in address and not address.startswith("/"), address
        assert asks.get(f"/{address}").status_code == 200, address


def test_the_description_shows_a_request_that_works(asks):
    page = asks.get("/docs").text
    assert "<script" not in page and "POST" in page and "curl -H" in page


@pytest.mark.parametrize(("host", "shown"), [
    ("localhost:8123", "http://localhost:8123/recommend"), ("[::1]:9", "http://[::1]:9/recommend"),
    ("films.example", "http://films.example/recommend"), ("a$(reboot)", " /recommend"), ("<b>", "http://127.0.0.1:8000/recommend")])
def test_the_examples_ask_the_service_where_it_is(films, host, shown):
    page = Client(service(films)).get("/docs", headers={"Host": host}).text
    assert f"{shown}</code>" in page and ("8000" in page) == ("8000" in shown)
    assert "reboot" not in page and "<b>" not in page
