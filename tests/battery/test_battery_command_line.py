"""Every model, from its file on the command line: the same answers, or one sentence on standard error."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from collab import Index, evaluate, load_learner
from collab.learner.recipes import name_of_model

from .cases import CASES, FOREIGN, RECIPES
from .ratings import COLD_USERS, ITEMS, NEW, USER, films, ratings, valid_table

REFUSED = 2         # the exit code for what is wrong with the input


@pytest.fixture(params=[name for name in CASES if name != "layers"])       # none of which has a file
def it(request, subjects):
    return subjects[request.param]


@pytest.fixture
def command(it, collab):
    """Run a command on the file of the model: what it printed, or None where it had to refuse."""
    def run(own, *words, ability=None):
        code, out, err = collab(own, it.path, *words)
        assert "Traceback" not in err
        if it.case.name in FOREIGN or ability in it.case.lacks:
            said = [line for line in err.splitlines() if line.startswith("Error: ")]
            assert code == REFUSED and len(said) == 1, (code, err)
            assert name(it) in said[0], said
            return None
        assert code == 0, err
        return out
    return run


@pytest.fixture(scope="session")
def held_out_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("held_out") / "held_out.csv"
    valid_table().to_csv(path, index=False)
    return path


def name(it):
    """What the command line calls the model."""
    return name_of_model(it.learn.collab_model, it.case.ranks)


def same(printed, expected):
    """Rows of JSON are those of a table."""
    assert [row["item"] for row in json.loads(printed)] == expected["item"].tolist()
    np.testing.assert_allclose([row["score"] for row in json.loads(printed)], expected["score"], atol=1e-6)


def test_recommend_to_a_user(it, command):
    if (out := command("recommend", "--user", USER, "-n", 6)) is not None:
        assert f"by user {USER}" in out
        found = [line.split()[1] for line in out.partition("Recommended:\n\n")[2].splitlines()[1:]]
        assert found == it.learn.recommend(USER, n=6)["item"].astype(str).tolist()


def test_recommend_to_several_users_and_to_all(it, command, tmp_path):
    users = [USER, COLD_USERS[1]]
    out = command("recommend", "--user", users[0], "--user", users[1], "-n", 3, "--as", "json", "--include-seen")
    if out is not None:
        same(out, it.learn.recommend(users, n=3, exclude=None))
    path = tmp_path / "recs.csv"
    if command("recommend", "--all", "-n", 2, "-o", path) is not None:
        assert pd.read_csv(path)["item"].tolist() == it.learn.recommend(it.users, n=2)["item"].tolist()


def test_recommend_to_somebody_new(it, command, tmp_path):
    rows = {it.titles[ITEMS[2]]: 5.0, **{str(item): rating for item, rating in NEW.items()}}
    path = tmp_path / "mine.csv"
    pd.DataFrame({"item": rows.keys(), "rating": rows.values()}).to_csv(path, index=False)
    out = command("recommend", "--ratings", path, "-n", 6, "--as", "json", ability="new_people")
    if out is not None:
        same(out, it.learn.recommend(ratings={ITEMS[2]: 5.0, **NEW}, n=6))


def test_similar_items(it, command):
    out = command("similar", it.titles[ITEMS[4]], "-n", 6, "--as", "json", ability="similar_items")
    if out is not None:
        same(out, it.learn.similar_items(ITEMS[4], n=6))


def test_an_index_is_written(it, command, tmp_path):
    if command("index", "-o", tmp_path / "i.safetensors", ability="index") is not None:
        found, expected = (index.recommend([USER, *COLD_USERS[:1]], n=9) for index in (
            Index.load(tmp_path / "i.safetensors"), it.learn.index()))
        pd.testing.assert_frame_equal(found, expected)


def test_explain(it, command):
    if (out := command("explain", "--user", USER, "--item", it.titles[ITEMS[4]])) is not None:
        assert out.strip() == str(it.interp.explain(USER, ITEMS[4]))


def test_evaluate(it, command, held_out_file):
    if (out := command("evaluate", "--data", held_out_file)) is not None:
        if it.case.ranks:
            assert float(re.search(r"precision +(\d\.\d+)", out)[1]) == pytest.approx(
                evaluate(it.learn, k=10).summary["precision"], abs=1e-4)
        else:
            rmse = float(re.search(rf"{name(it)} +(\d\.\d+)", out)[1])
            assert rmse == pytest.approx(it.learn.validate()["rmse"], abs=1e-4)


@pytest.mark.usefixtures("quick_pictures")
def test_the_report_says_what_there_is_and_what_is_not(it, command, held_out_file, tmp_path):
    path = tmp_path / "report.html"
    if command("report", "-o", path, "--data", held_out_file, "--user", USER) is None:
        it.interp.report(path, users=[USER])
    shown = re.sub(r"<script.*?</script>", "", path.read_text(), flags=re.DOTALL)
    assert shown.startswith("<!doctype html>") and shown.rstrip().endswith("</html>") and it.model in shown
    sections = dict(re.findall(r'<section id="[\w-]+"><h2>(.*?)</h2>(.*?)</section>', shown, flags=re.DOTALL))
    lacked = {"Biases": "item_biases", "Principal components": "item_factors", "Map of the items": "item_factors",
              "Similar items": "similar_items", "Calibration": "probabilities"}
    for name, ability in lacked.items():
        assert (name in sections) == (ability not in it.case.lacks), name
    assert [*sections][:1] == ["Ranking" if it.case.ranks else "Error"]
    without = {name for name, ability in lacked.items() if ability in it.case.lacks and name != "Calibration"}
    assert ("Not on this page" in sections) == bool(without)
    assert all(name in sections["Not on this page"] for name in without)
    missing = {name for name, body in sections.items() if "<p class=missing" in body}
    assert missing == ({"Training"} if len(it.learn.recorder.rows) < 2 else set())
    assert f"<h3>User {USER}" in sections["Recommendations"] and "Recommended to user" in sections["Recommendations"]
    assert "<b>Bold</b>" not in shown


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "als_explicit"])      # which has no command
def test_train(collab, subjects, name, tmp_path):
    for file, table in (("ratings", ratings()[0]), ("films", films())):
        table.to_csv(tmp_path / f"{file}.csv", index=False)
    model = tmp_path / "model.safetensors"
    code, out, err = collab("train", tmp_path / "ratings.csv", "--items", tmp_path / "films.csv", "--model", name,
                            "--epochs", 1, "--out", model)
    assert code == 0 and f"Wrote {model}" in out, err
    learn = load_learner(model, device="cpu")
    assert type(learn.model).__name__ == subjects[name].model and learn.ranks == subjects[name].case.ranks
    assert ("Ranking of" if learn.ranks else "Error on") in out
    assert f"--user {next(iter(learn.data.users))}" in out
