"""collab compare: names after each other, the same figures as from Python, and refusals before anything is trained."""

from __future__ import annotations

import json
import re
import shlex
import sys
from io import StringIO

import pandas as pd
import pytest
from typer.testing import CliRunner

from collab import (
    CollabWarning,
    Learner,
    compare_models,
    draws,
    per_user_split,
    random_split,
    read_table,
    synthetic,
)
from collab.cli.app import app, main
from collab.cli.compare import each_named

MADE = synthetic(60, 40, 1200, seed=3)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "r.csv"
    MADE.ratings.to_csv(path, index=False)
    return str(path)


def compare(*args: str) -> str:
    done = CliRunner().invoke(app, ["compare", *args])
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(args: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> str:
    monkeypatch.setattr(sys, "argv", ["collab", "compare", *args])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("args, made", [
    (["d", "--models", "a", "b", "-k", "5"], ["d", "--models", "a", "--models", "b", "-k", "5"]),
    (["d", "--models", "a,b", "c"], ["d", "--models", "a", "--models", "b", "--models", "c"]),
    (["d", "--models=a,b", "--metrics", "rmse"], ["d", "--models", "a", "--models", "b", "--metrics", "rmse"]),
    (["d", "-m", "a", "-m", "b"], ["d", "-m", "a", "-m", "b"]),
    (["d", "--models", "--folds", "3"], ["d", "--models", "--folds", "3"]),
    (["d", "--models"], ["d", "--models"]),
])
def test_names_may_follow_each_other_or_be_joined_by_commas(args, made):
    assert each_named(args) == made


def test_the_table_is_that_of_compare_models(table: str):
    made = compare_models(MADE.ratings, ["dot_bias", "als_explicit"], metrics=("mae", "ndcg"), k=5, seed=1,
                          split=random_split(0.3, 1)).table.drop(columns=["seconds", "mb"])
    args = [table, "--models", "dot_bias", "als_explicit", "--metrics", "mae", "ndcg", "-k", "5", "--seed", "1",
            "--valid-pct", "0.3"]
    as_json = pd.DataFrame(json.loads(compare(*args, "--as", "json"))).drop(columns=["seconds", "mb"])
    assert list(as_json) == list(made) and as_json["model"].tolist() == made["model"].tolist()
    assert as_json["mae"].tolist() == pytest.approx(made["mae"].tolist(), abs=1e-6, nan_ok=True)
    as_csv = pd.read_csv(StringIO(compare(*args, "--as", "csv")))
    assert as_csv["ndcg@5"].tolist() == pytest.approx(made["ndcg@5"].tolist(), nan_ok=True)


def test_choices_are_ranked_beside_popularity_and_the_next_command_is_named(table: str):
    said = compare(table, "--threshold", "2", "--models", "als", "ease", "--split", "per-user", "--valid-pct", "0.25")
    made = compare_models(MADE.ratings, ["als", "ease"], implicit=True, threshold=2, split=per_user_split(0.25, 0))
    assert said.startswith("NDCG@10 on ") and "MostPopular" in said
    assert [line.split()[0] for line in said.splitlines()[3:6]] == made.table["model"].tolist()
    assert ("Next:" in said) == ("Take " in said) == (made.taken is not None)


def test_a_choice_by_errors_says_that_these_do_not_make_good_lists(tmp_path):
    synthetic(150, 60, 4000, seed=3).ratings.to_csv(tmp_path / "r.csv", index=False)
    args = [str(tmp_path / "r.csv"), "--models", "dot_bias"]
    said = ("A low RMSE does not make good lists: collab evaluate MODEL --k 10, once it is trained, says how good they "
            "are.")
    lines = compare(*args).splitlines()
    assert lines[lines.index(said) + 2].startswith("Next: ") and any(line.startswith("Take ") for line in lines)
    assert said not in compare(*args, "--metrics", "ndcg")


def test_the_next_command_has_the_options_with_which_the_table_was_read_and_trains(tmp_path, monkeypatch):
    made = synthetic(80, 40, 2400, seed=3)
    rows = made.ratings.to_csv(index=False, sep=";", decimal=",").split("\n", 1)[1]
    (tmp_path / "my ratings.txt").write_text("Käufer;Buch;Note;Tag\n" + rows, "cp1252")
    made.items.to_csv(tmp_path / "items.csv", index=False, sep=";")
    monkeypatch.chdir(tmp_path)
    read = ["--seed", "1", "--split", "per-user", "--valid-pct", "0.25", "--time-col", "Tag", "--sep", ";", "--header",
            "--encoding", "cp1252", "--decimal", ",", "--items", "items.csv", "--duplicates", "mean",
            "--bad-rows", "drop"]
    said = compare("my ratings.txt", "--models", "dot_bias", "--metrics", "rmse", "--epochs", "9", *read)
    line, = [line for line in said.splitlines() if line.startswith("Next: ")]
    assert "Take dot_bias" in said
    parts = shlex.split(line.removeprefix("Next: "))
    assert parts[:7] == ["collab", "train", "my ratings.txt", "--model", "dot_bias", "--epochs", "9"]
    assert {*read} <= {*parts} and len(parts) == 7 + len(read)
    done = CliRunner().invoke(app, [*parts[1:], "--no-card"])
    assert done.exit_code == 0, done.output


def test_folds_stand_for_a_split(table: str):
    assert "on 3 folds" in compare(table, "--folds", "3", "--models", "als_explicit", "--epochs", "2")


def test_draws_are_small_parts_of_every_user(table: str):
    said = compare(table, "--draws", "2", "--models", "ease", "--metrics", "ndcg", "--as", "json")
    expected = compare_models(read_table(table), ["ease"], metrics="ndcg", folds=draws(2, 0.08), seed=0).table
    assert {row["model"]: row["ndcg@10"] for row in json.loads(said)} == pytest.approx(
        dict(zip(expected["model"], expected["ndcg@10"])))


@pytest.mark.parametrize("args, message", [
    (["--models", "alz"], "Error: --models alz is not one of dot_bias, .*; did you mean als?"),
    (["--models", "als"], "Error: als: it only orders items, and has no rmse and no mae; compare by --metrics 'ndcg'"),
    (["--models", "hybrid"], "Error: --models hybrid needs to know more than ids and titles: pass --items or --users"),
    (["--folds", "3", "--valid-pct", "0.3"], "Error: --folds holds out every rating once, and takes no --valid-pct"),
    (["--folds", "3", "--split", "time"], "Error: --folds holds out every rating once, and takes no --split"),
    (["--folds", "3", "--draws", "4"], "Error: --folds holds out every rating once, and takes no --draws"),
    (["--draws", "4", "--split", "time"], "Error: --draws holds out 8% of each user's ratings, and takes no --split"),
    (["--valid-pct", "0"], "Error: --valid-pct 0 holds out nothing to measure on"),
    (["--split", "last", "--valid-pct", "0.1"], "Error: --split last decides by itself what is held out"),
    (["--implicit", "--duplicates", "mean"], "Error: implicit data .* take no --duplicates"),
    (["--models", "als", "ease", "--bs", "64"], "Error: --models als ease: solved, not trained in batches"),
    (["--metrics", "rsme"], "Error: --metrics 'rsme' is not one of rmse, mae, .*; did you mean 'rmse'?"),
])
def test_what_cannot_be_compared_is_refused_in_a_line(args, message, table: str, monkeypatch, capsys):
    said = refused([table, *args], monkeypatch, capsys)
    assert re.match(message, said), said


def test_ctrl_c_prints_what_is_done_and_ends_with_130(table: str, monkeypatch: pytest.MonkeyPatch):
    def fit(self, *args, **options):
        if self.collab_model.kind == "EASE":
            raise KeyboardInterrupt
        return own(self, *args, **options)
    own = Learner.fit
    monkeypatch.setattr(Learner, "fit", fit)
    monkeypatch.setattr("collab.select.comparison.warm_up", lambda contenders, like: None)
    with pytest.warns(CollabWarning, match="interrupted after 1 of 2 models: the comparison lacks ease"):
        done = CliRunner().invoke(app, ["compare", table, "--models", "als", "ease", "--metrics", "ndcg"])
    assert done.exit_code == 130
    assert "als" in done.stdout and "Interrupted: this is what was done." in done.stdout


def test_after_training_a_ranker_that_loses_to_popularity_is_told_of(table: str, tmp_path):
    done = CliRunner().invoke(app, ["train", table, "--model", "two_tower", "--threshold", "2", "--epochs", "1",
                                    "--factors", "2", "--out", str(tmp_path / "m.safetensors")])
    assert done.exit_code == 0, done.output
    assert re.search(r"\ntwo_tower (?:does not rank better|ranks worse) than the most popular items.*: its ndcg@10 is "
                     r"0\.\d{4}, theirs 0\.\d{4}\. Try als or ease, .* collab compare DATA shows", done.stdout)


def test_large_batches_are_told_with_the_option_that_train_has(table):
    out = compare(table, "--models", "svdpp", "als_explicit", "--metrics", "rmse", "--epochs", "1", "-q")
    assert "an epoch: svdpp. On so few ratings smaller ones may do better: try --bs 64." in out


def test_the_batch_size_is_that_of_every_model_that_has_batches_and_of_the_next_command(table):
    args = ["--models", "dot_bias", "als_explicit", "--metrics", "rmse", "--epochs", "2", "-q"]
    said = compare(table, *args, "--bs", "256", "--as", "json")
    made = compare_models(MADE.ratings, ["als_explicit", ("dot_bias", {"bs": 256})], metrics="rmse", epochs=2)
    wanted = dict(made.table[["model", "rmse"]].to_numpy().tolist())
    found = {row["model"]: row["rmse"] for row in json.loads(said)}
    assert found["dot_bias"] == pytest.approx(wanted["dot_bias, bs=256"], abs=1e-6)
    assert found["als_explicit"] == pytest.approx(wanted["als_explicit"], abs=1e-6)
    own = {row["model"]: row["rmse"] for row in json.loads(compare(table, *args, "--as", "json"))}
    assert own["dot_bias"] != pytest.approx(found["dot_bias"], abs=1e-6)


@pytest.mark.parametrize("model, given", [("dot_bias", True), ("als_explicit", False)])
def test_the_next_command_has_the_batch_size_where_the_model_has_batches(tmp_path, model, given):
    synthetic(80, 40, 2400, seed=3).ratings.to_csv(tmp_path / "r.csv", index=False)
    others = ["svdpp"] if model == "als_explicit" else []
    said = compare(str(tmp_path / "r.csv"), "--models", model, *others, "--metrics", "rmse", "--bs", "2000" if others
                   else "128", "--epochs", "9")
    line, = [line for line in said.splitlines() if line.startswith("Next: ")]
    assert f"--model {model}" in line and ("--bs 128" in line) == ("--bs" in line) == given
