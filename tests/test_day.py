"""A day with `collab` by the command line alone, as a shell runs it: check, compare, tune, train, evaluate, report,
serve, and lists for everybody; on ratings of films, and on a table of plays."""

import csv
import io
import json
import os
import subprocess
import sys

import httpx
import numpy as np
import pandas as pd
import pytest
from browsing import requests_of
from serving import PageDriver, served

HARM = "<img src=x onerror=\"document.title = 'harmed'\"> Noon (1952)"


@pytest.fixture(scope="module")
def day(tmp_path_factory, ml_small):
    """A folder with ratings.csv, of the 400 films with most ratings, films.csv, in which a title that is often rated
    has HTML in it, and plays.csv: who played which track how often. Three plays of four are of the one of four styles
    that a listener likes."""
    folder = tmp_path_factory.mktemp("day")
    often = ml_small.ratings["item"].value_counts().index[:400]
    films = ml_small.items[ml_small.items["item"].isin(often)].copy()
    films.loc[films["item"] == often[40], "title"] = HARM
    ml_small.ratings[ml_small.ratings["item"].isin(often)].to_csv(folder / "ratings.csv", index=False)
    films.to_csv(folder / "films.csv", index=False)
    draw, rows = np.random.default_rng(0), []
    for listener in range(300):
        for _ in range(25):
            track = draw.integers(30)
            style = listener % 4 if draw.random() < 0.75 else draw.integers(4)
            rows.append((f"listener {listener}", f"track {4 * track + style}", 1 + draw.negative_binomial(1, 0.1)))
    pd.DataFrame(rows, columns=["listener", "track", "plays"]).to_csv(folder / "plays.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(day, fresh):
    """What `collab` prints with these words, in a process of its own in the folder of the day; it must go well. The
    first that trains starts as from a shell, the others had torch already (see `fresh`)."""
    shell = ["train"]

    def run(*words):
        if words[0] not in shell:
            done = fresh.run("-m", "collab", *words, cwd=day)
        else:
            shell.clear()
            done = subprocess.run([sys.executable, "-m", "collab", *map(str, words)], cwd=day, capture_output=True,
                                  text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    return run


@pytest.fixture(scope="module")
def trained(run):
    """What training prints; its model.safetensors holds a tenth of the ratings out for the end."""
    return json.loads(run("train", "ratings.csv", "--items", "films.csv", "--test", 0.1, "--bs", 1024, "--as", "json"))


@pytest.fixture(scope="module")
def ranker(run):
    """The same of a model that ranks tracks, in plays.safetensors."""
    return json.loads(run("train", "plays.csv", "--implicit", "--model", "als", "--test", 0.1, "--out",
                          "plays.safetensors", "--as", "json"))


def style(track):
    """Of a track's name."""
    return int(track.removeprefix("track ")) % 4


def rows(text):
    return [*csv.DictReader(io.StringIO(text))]


def test_nothing_is_wrong_with_the_ratings_and_plays_are_told_from_ratings(run):
    films = run("check", "ratings.csv")
    assert "Nothing stops training." in films and "This looks like ratings" in films
    plays = run("check", "plays.csv")
    assert "This looks like counts" in plays and "collab train plays.csv --implicit" in plays


def test_models_are_compared_on_the_same_ratings(run):
    found = rows(run("compare", "ratings.csv", "--models", "dot_bias", "als_explicit", "--as", "csv"))
    errors = {row["model"]: float(row["rmse"]) for row in found}
    assert [*errors.values()] == sorted(errors.values()) and {"dot_bias", "als_explicit"} < {*errors}
    assert errors["dot_bias"] < errors["mean and biases"] < errors["mean rating"]
    assert found[0]["vs best"] == "best" and found[-1]["vs best"] == "worse"


def test_ten_trials_say_whether_they_beat_the_recipe(run, day):
    said = run("tune", "ratings.csv", "--trials", 10, "--factors", 50, "--epochs", 2, "--bs", 4096, "--resume", "s.db",
               "--out", "tuned.safetensors")       # other numbers of factors want kernels of their own, seconds each
    assert "10 trials of dot_bias" in said and "the default recipe" in said
    assert rows(run("recommend", "tuned.safetensors", "--user", 1, "--as", "csv"))[9]["rank"] == "10"


def test_what_is_held_out_for_the_end_is_measured_again_by_evaluate(run, day, trained):
    parts = [trained, trained["test"]]
    for name, part in zip(("valid", "test"), parts):
        again = json.loads(run("evaluate", "--part", name, "--as", "json"))
        assert again["errors"] == part["errors"] and again["held_out"] == part["held_out"]
    n = trained["trained_on"] + sum(part["held_out"] for part in parts)
    assert n == len((day / "ratings.csv").read_text().splitlines()) - 1
    mean, biases, model = (row["rmse"] for row in trained["test"]["errors"])
    assert model < biases < mean
    assert f"value: {round(model, 4)}\n" in (day / "model.md").read_text()


def test_the_report_is_one_page(run, day, trained):
    assert run("report", "-o", "report.html") == "Wrote report.html\n"
    page = (day / "report.html").read_text()
    assert page.startswith("<!doctype html>") and HARM not in page


def test_a_visitor_rates_three_films_and_sees_other_recommendations(run, day, trained, browser):
    with served(day / "model.safetensors") as (process, address):
        page = PageDriver(browser, address)
        lists = [page.recommended()]
        films = pd.read_csv(day / "films.csv").set_index("item")["title"]
        known, other = films[pd.read_csv(day / "ratings.csv")["item"].value_counts().index[:2]].str.lower()
        for words, key in ((known, "5"), ("img src", "4"), (other, "1")):
            page.rate(words, key)
            lists.append(page.recommended())
        assert {*page.rated().values()} == {"5 of 5", "4 of 5", "1 of 5"} and HARM in page.rated()
        assert not {*page.rated()} & {*lists[-1]} and len(lists[-1]) >= 5
        assert lists[0] != lists[1] != lists[2] != lists[3]
        assert any(reason and reason.startswith("because you rated ") for reason in page.reasons())
        assert browser.title != "harmed" and not page.complaints()
        assert all(url.startswith((address, "blob:", "data:")) for url in requests_of(browser))
        (day / "mine.csv").write_text(page.download(day / "downloads"))
        process.terminate()
        assert process.wait(15) == 0
    mine = rows(run("recommend", "--ratings", "mine.csv", "--as", "csv"))
    assert [row["title"] for row in mine] == lists[-1][:10]


def test_the_nightly_job_writes_a_list_for_everybody(run, day, trained):
    run("recommend", "--all", "-o", "lists.csv", "-n", 5)
    lists, ratings = pd.read_csv(day / "lists.csv"), pd.read_csv(day / "ratings.csv")
    assert lists.groupby("user").size().eq(5).all() and {*lists["user"]} == {*ratings["user"]}
    assert lists.merge(ratings, on=["user", "item"]).empty          # nobody gets what they have rated


def test_plays_are_ranked_and_the_better_model_is_taken(run, day, ranker, collab):
    found = rows(run("compare", "plays.csv", "--implicit", "--models", "als", "ease", "--as", "csv"))
    assert found[-1]["model"] == "MostPopular" and found[-1]["vs best"] == "worse"
    popular, als = (row["ndcg"] for row in ranker["ranking"])
    assert als > 1.5 * popular and ranker["remark"] is None
    listed = rows(run("recommend", "plays.safetensors", "--user", "listener 2", "-n", 5, "--why", "--as", "csv"))
    assert all(style(row["item"]) == 2 and style(row["why"]) == 2 for row in listed)
    assert collab("report", day / "plays.safetensors", "-o", day / "plays.html")[0] == 0
    assert "NDCG" in (day / "plays.html").read_text()


def test_a_ranker_is_tuned_and_its_card_says_by_what(run, day):
    said = run("tune", "plays.csv", "--implicit", "--model", "als", "--trials", 10, "--factors", 4, "--out",
               "tuned_plays.safetensors")
    assert "10 trials of als" in said and "ndcg@10" in said
    page = (day / "tuned_plays.md").read_text()
    assert "10 trials of other settings were compared by `ndcg@10`" in page and "in the validation part" in page


def test_the_plays_held_out_for_the_end_are_measured_again_by_evaluate(run, day, ranker):
    test = ranker["test"]
    again = json.loads(run("evaluate", "plays.safetensors", "--as", "json"))
    assert again["ranking"] == test["ranking"] and again["held_out"] == test["held_out"] != ranker["held_out"]
    popular, als = (row["ndcg"] for row in test["ranking"])
    page = (day / "plays.md").read_text()
    assert als > popular and f"| ndcg@10 | {als:.4f} | {popular:.4f} |" in page
    assert "by what was held out in the test part" in page


def test_a_listener_who_is_new_names_three_tracks(day, ranker, fresh):
    liked = ["track 2", "track 6", "track 10"]
    with served(day / "plays.safetensors", fresh=fresh) as (_, address):
        answer = httpx.post(f"{address.rstrip('/')}/recommend", json={"ratings": liked, "n": 5}, timeout=60)
        assert answer.status_code == 200, answer.text
        listed = [row["item"] for row in answer.json()["items"]]
        assert len({*listed} - {*liked}) == 5 and all(style(track) == 2 for track in listed)


def test_every_listener_gets_tracks_that_are_new_to_them(run, day, ranker):
    run("recommend", "plays.safetensors", "--all", "-n", 5, "-o", "all_plays.csv")
    lists, plays = pd.read_csv(day / "all_plays.csv"), pd.read_csv(day / "plays.csv")
    assert lists.groupby("user").size().eq(5).all() and {*lists["user"]} == {*plays["listener"]}
    assert lists.merge(plays, left_on=["user", "item"], right_on=["listener", "track"]).empty
    own = lists["item"].map(style) == lists["user"].str.removeprefix("listener ").astype(int) % 4
    assert own.mean() > 0.9
