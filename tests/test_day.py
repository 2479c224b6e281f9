"""A day with `collab` by the command line alone, as a shell runs it: check, compare, tune, train, evaluate, report,
serve, and lists for everybody; on ratings of films, and on a table of plays."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers import requests_of
from serving import PageDriver, served

HARM = "<img src=x onerror=\"document.title = 'harmed'\"> Noon (1952)"


@pytest.fixture(scope="module")
def day(tmp_path_factory, ml_small):
    """A folder with ratings.csv, films.csv, in which a title that is often rated has HTML in it, and plays.csv: who
    played which track how often. Three plays of four are of the one of four styles that a listener likes."""
    folder = tmp_path_factory.mktemp("day")
    films = ml_small.items.copy()
    films.loc[films["item"] == ml_small.ratings["item"].value_counts().index[40], "title"] = HARM
    ml_small.ratings.to_csv(folder / "ratings.csv", index=False)
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
def run(day):
    """What `collab` prints with these words, in a process of its own in the folder of the day; it must go well."""
    def run(*words):
        done = subprocess.run([sys.executable, "-m", "collab", *map(str, words)], cwd=day, capture_output=True,
                              text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    return run


@pytest.fixture(scope="module")
def trained(run):
    """What training prints; its model.safetensors holds a tenth of the ratings out for the end."""
    return json.loads(run("train", "ratings.csv", "--items", "films.csv", "--test", 0.1, "--bs", 1024, "--as", "json"))


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
    assert errors["dot_bias"] < errors["biases"] < errors["mean"]
    assert found[0]["vs best"] == "best" and found[-1]["vs best"] == "worse"


def test_ten_trials_say_whether_they_beat_the_recipe(run, day):
    said = run("tune", "ratings.csv", "--trials", 10, "--epochs", 2, "--bs", 4096, "--resume", "study.db", "--out",
               "tuned.safetensors")
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
    assert f"value: {model:.4f}" in (day / "model.md").read_text()


def test_the_report_is_one_page(run, day, trained):
    assert run("report", "-o", "report.html") == "Wrote report.html\n"
    page = (day / "report.html").read_text()
    assert page.startswith("<!doctype html>") and HARM not in page


def test_a_visitor_rates_three_films_and_sees_other_recommendations(run, day, trained, browser):
    with served(day / "model.safetensors") as (process, address):
        page = PageDriver(browser, address)
        lists = [page.recommended()]
        for words, key in (("matrix", "5"), ("img src", "4"), ("toy story", "1")):
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


def test_plays_are_ranked_and_the_better_model_is_taken(run, day):
    found = rows(run("compare", "plays.csv", "--implicit", "--models", "als", "ease", "--as", "csv"))
    assert found[-1]["model"] == "popularity" and found[-1]["vs best"] == "worse"
    said = json.loads(run("train", "plays.csv", "--implicit", "--model", "als", "--out", "plays.safetensors", "--as",
                          "json"))
    popular, als = (row["ndcg"] for row in said["ranking"])
    assert als > 1.5 * popular and said["remark"] is None
    listed = rows(run("recommend", "plays.safetensors", "--user", "listener 2", "-n", 5, "--why", "--as", "csv"))
    assert all(int(row["item"].removeprefix("track ")) % 4 == 2 for row in listed)      # of the style of listener 2
    assert all(int(row["why"].removeprefix("track ")) % 4 == 2 for row in listed)
    run("report", "plays.safetensors", "-o", "plays.html")
    assert "NDCG" in (day / "plays.html").read_text()
