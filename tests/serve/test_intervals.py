"""Lists by risk and with intervals over HTTP, and their ranges on the page."""

import re

import pytest
from helpers import fit_quietly
from serving import Client, PageDriver, beside

from collab import CollabDataBunch, collab_learner, service


@pytest.fixture(scope="module")
def bayes(rated_films):
    ratings, films = rated_films
    data = CollabDataBunch.from_df(ratings, items=films, title_name="title", seed=0, bs=256, device="cpu")
    learn = collab_learner(data, "bayes", 3, n_draws=16)
    fit_quietly(learn, 3)
    return learn


@pytest.fixture(scope="module")
def client(bayes):
    return Client(service(bayes, threads=2))


def same(items, table):
    """Whether an answer has the items, scores and limits of a table."""
    columns = [name for name in ("score", "low", "high") if name in table]
    return (items and [one["item"] for one in items] == table["item"].tolist()
            and all([one[name] for one in items] == pytest.approx(table[name].tolist(), abs=1e-4) for name in columns)
            and ("low" in items[0]) == ("low" in table))


def test_a_known_user_gets_lists_by_risk_and_with_intervals(client, bayes):
    user = bayes.data.users.ids[1]
    for query, options in (("", {}), ("&interval=0.9", {"interval": 0.9}), ("&risk=0.1", {"risk": 0.1}),
                           ("&risk=mean&interval=0.5", {"interval": 0.5}),
                           ("&risk=0.9&interval=.5", {"risk": 0.9, "interval": 0.5})):
        items = client.get(f"/recommend?user={user}&n=5{query}").json()["items"]
        assert same(items, bayes.recommend(user, 5, **options)), query


def test_a_visitor_gets_them_too(client, bayes):
    ratings = {12: 5.0, 13: 1.0}
    for options in ({}, {"interval": 0.9}, {"risk": 0.1, "interval": 0.8}):
        items = client.post("/recommend", json={"ratings": {"12": 5, "13": 1}, "n": 5, **options}).json()["items"]
        assert same(items, bayes.recommend(ratings=ratings, n=5, **options))


def test_each_draw_is_another_one(client, bayes):
    user = bayes.data.users.ids[1]
    scores = {tuple(one["score"] for one in client.get(f"/recommend?user={user}&risk=draw").json()["items"])
              for _ in range(8)}
    assert len(scores) > 1
    assert client.post("/recommend", json={"ratings": {"12": 5}, "risk": "draw"}).status_code == 200


def test_what_is_no_share_and_models_that_are_not_sure_are_refused(client, asks, bayes):
    user = bayes.data.users.ids[1]
    for query, says in (("risk=safe", "risk must be mean, draw, or a number between 0 and 1"),
                        ("risk=1", "risk must be"), ("interval=90", "interval must be a number between 0 and 1"),
                        ("interval=nan", "interval must be"), ("interval=0.5&interval=0.9", "more than once")):
        answer = client.get(f"/recommend?user={user}&{query}")
        assert answer.status_code == 400 and says in answer.json()["error"]
    for field in ({"risk": True}, {"risk": [0.1]}, {"interval": "much"}):
        answer = client.post("/recommend", json={"ratings": {"12": 5}, **field})
        assert answer.status_code == 400 and "must be" in answer.json()["error"]
    for query in ("interval=0.9", "risk=draw"):
        answer = asks.get(f"/recommend?user=1&{query}")
        assert answer.status_code == 400 and "does not know how sure it is" in answer.json()["error"]
    assert asks.post("/recommend", json={"ratings": {"12": 5}, "risk": 0.1}).status_code == 400


def test_what_is_possible_is_said_and_described(client, asks):
    assert client.get("/health").json()["intervals"] and not asks.get("/health").json()["intervals"]
    for one, there in ((client, True), (asks, False)):
        described = one.get("/openapi.json").json()
        get, post = (described["paths"]["/recommend"][method] for method in ("get", "post"))
        fields = post["requestBody"]["content"]["application/json"]["schema"]["properties"]
        for name in ("interval", "risk"):
            assert (name in [parameter["name"] for parameter in get["parameters"]]) == there == (name in fields)
        assert ("low" in described["components"]["schemas"]["Recommendation"]["properties"]) == there
        assert ("to explore" in one.get("/docs").text) == there


def test_the_page_shows_ranges_where_the_model_knows_them(browser, bayes, films):
    for learn in (bayes, films):
        with beside(learn) as address:
            browser.get(f"{address}docs")
            browser.execute_script("localStorage.clear()")
            page = PageDriver(browser, address)
            page.rate("amelie", "5")
            shown = page.texts("#recommended .score")
            rated = {learn.data.find_titles("Amélie (2001)")[0]: 5}
        table = learn.recommend(ratings=rated, interval=0.8 if learn is bayes else None)
        if learn is films:
            assert shown == [f"{score:.1f}" for score in table["score"]]
            continue
        assert len(shown) == len(table)
        for text, row in zip(shown, table[["score", "low", "high"]].to_numpy()):
            told = re.fullmatch(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", text).groups()
            assert [*map(float, told)] == pytest.approx(row, abs=0.0501)
