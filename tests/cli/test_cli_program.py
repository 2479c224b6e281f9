"""The command line as a program among others: help, completion, pipes, exit codes, and output for programs."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import collab as package
from collab import CollabInterpretation, evaluate, load_learner, random_split
from collab.cli import complete
from collab.cli.app import commands
from collab.cli.command import CLOSED, INTERRUPTED, ORDER, USAGE
from collab.cli.inputs import split_of
from collab.data.split import CANONICAL
from collab.data.tables import FORMATS
from collab.datasets import movielens as movielens_sets
from collab.learner.recipes import RECIPES

RATINGS = {"mean rating", "mean and biases", "dot_bias"}


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


# Help --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("columns", ["80", "100", "200"])
@pytest.mark.parametrize("command", ["", *commands()])
def test_help_fits_into_80_columns_and_breaks_no_word_and_no_sentence(collab, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = collab(*command.split(), "-h")
    assert (code, err) == (0, "") and out == collab(*command.split(), "--help")[1]
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80 and "..." not in "".join(lines[1:])
    assert not [line for line in lines if re.search(r"\w-$", line)]
    texts = " ".join(out.split())
    assert "<" not in re.sub(r"\d<=x<=", "", texts) and "{" not in texts     # neither types of Python nor braces


def test_the_list_of_commands_has_whole_sentences_in_the_order_of_a_day(collab):
    out = collab("--help")[1]
    part = out[out.index("Commands:"):out.index("Options:")]
    about = dict(re.findall(r"^  (\w+) +(.*(?:\n {6,}.*)*)", part, re.MULTILINE))
    assert list(about) == commands() == [name for name in ORDER if name in about]
    assert all(text[0].isupper() and text.endswith(".") for text in about.values())
    assert all(f"{code}, " in out for code in (0, 1, 2, 130, 141)) and "Exit codes" in out


def test_every_command_takes_its_model_or_its_data_first(collab):
    usages = {name: collab(name, "--help")[1].splitlines()[0] for name in commands()}
    for name, usage in usages.items():
        words = usage.removeprefix(f"Usage: collab {name} [OPTIONS]").split()
        assert not words or words[0] in ("[MODEL]", "DATA", "FILE", "[DATA]"), usage
    assert usages["similar"].endswith("[MODEL] ITEM") and usages["explain"].endswith(" [MODEL]")


def test_options_stand_in_panels_and_the_most_used_first(collab):
    out = collab("train", "--help")[1]
    panels = re.findall(r"^(\w[\w ]*):$", out, re.MULTILINE)
    assert panels == ["Arguments", "Options", "Model", "What is held out", "Columns and rows", "Reading files"]
    model = out[out.index("\nModel:"):out.index("\nWhat is held out:")]
    assert re.findall(r"^  --([\w-]+)", model, re.MULTILINE) == ["model", "factors", "epochs", "bs", "lr", "wd", "seed"]


# Errors in words ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("words", "says"), [
    (["trian"], "No such command 'trian'. Did you mean 'train'?; see collab --help"),
    (["train", "ml-100k", "--epoch", 3], "No such option: --epoch (Possible options: --epochs"),
    (["train"], "Missing argument 'DATA'; see collab train --help"),
    (["recommend", "--user", 3, "--diversity", "0,3"], "'--diversity': got '0,3', which is not a number; write 0.3;"),
    (["evaluate", "--relevant-above", "many"], "'--relevant-above': got 'many', which is not a number; see collab"),
    (["train", "ml-100k", "--epochs", "3.5"], "'--epochs': got '3.5', which is not a whole number; see collab train"),
    (["recommend", "--diversity", "3"], "'--diversity': got '3'; it should be less than or equal to 1; see"),
    (["recommend", "--user"], "Option '--user' requires an argument; see collab recommend --help"),
    (["explain", "--user", 3], "Missing option '--item'; see collab explain --help"),
    (["evaluate", "--as", "xml"], "'xml' is not one of 'table', 'csv', 'json'"),
    (["train", "no-such.csv"], "there is no file"),
    (["recommend", "no-such", "--user", 3], "there is no model file no-such; make one with: collab train DATA --out"),
])
def test_an_error_is_one_line_on_standard_error_and_exit_code_2(collab, words, says):
    code, out, err = collab(*words)
    assert (code, out) == (2, "") and err.startswith("Error: ") and err.count("\n") == 1 and says in err


def test_without_words_the_help_is_on_standard_error(collab):
    code, out, err = collab()
    assert (code, out) == (2, "") and err == collab("--help")[1]


@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C is no signal")
def test_ctrl_c_that_pandas_takes_for_an_error_of_the_file_ends_with_130(collab, trained, monkeypatch):
    def read(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise pd.errors.ParserError("Calling read(nbytes) on source failed") from None
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL)        # as `collab` begins
    monkeypatch.setattr("collab.interrupt._PRESSES", 0)
    monkeypatch.setattr("collab.cli.inputs.read_table", read)
    try:
        assert collab("train", trained / "ratings.csv") == (130, "", "")
    finally:
        signal.signal(signal.SIGINT, before)


# Where output goes -------------------------------------------------------------------------------------------------

def test_standard_output_has_the_results_of_training_alone(collab, trained, tmp_path):
    words = ["train", trained / "ratings.csv", "--epochs", 2, "--out", tmp_path / "m"]
    code, out, err = collab(*words)
    assert code == 0 and "train_loss" not in out and "Error on 180 ratings" in out
    epochs = [line.split() for line in err.splitlines()]
    assert epochs[0][:3] == ["epoch", "train_loss", "valid_loss"] and [row[:1] for row in epochs[1:3]] == [["0"], ["1"]]
    code, quietly, err = collab(*words, "--quiet")
    assert (code, quietly, err) == (0, out, "")


def test_training_for_errors_says_how_to_see_how_good_lists_are(collab, trained, tmp_path):
    words = ["train", trained / "ratings.csv", "--epochs", 1, "--no-card", "-o", tmp_path / "m"]
    code, out, _ = collab(*words)
    said = f"A low RMSE does not make good lists: collab evaluate {tmp_path / 'm'} --k 10 says how good they are."
    assert code == 0 and out.splitlines()[-2:] == [f"Next: collab recommend {tmp_path / 'm'} --user 1", said]
    assert "good lists" not in collab(*words, "--valid-pct", 0)[1]      # there is nothing to rank
    assert "good lists" not in collab("train", trained / "ratings.csv", "--threshold", 3, "--model", "als", "--no-card",
                                      "-o", tmp_path / "m")[1]


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_the_reader_of_a_pipe_may_go_away(word):
    script = f"import sys; from collab.cli import main\nsys.argv = ['collab', {word!r}]\nmain()\n"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(package.__file__))})
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_guide_has_every_command_and_exit_code():
    text = (Path(__file__).parents[2] / "docs" / "guides" / "command-line.md").read_text()
    assert re.findall(r"^\| `collab (\w+)", text, re.MULTILINE) == commands()
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == ["0", "1", str(USAGE), str(INTERRUPTED), str(CLOSED)]


# Output for programs -----------------------------------------------------------------------------------------------

def test_training_prints_one_json_object_or_one_csv_table(collab, trained, tmp_path):
    words = ["train", trained / "ratings.csv", "--epochs", 2, "--out", tmp_path / "m", "--as"]
    code, out, err = collab(*words, "json")
    found = json.loads(out)
    assert code == 0 and (found["model"], found["trained_on"], found["held_out"]) == (str(tmp_path / "m"), 720, 180)
    assert {row["model"] for row in found["errors"]} == RATINGS and "Wrote" in err
    learn = load_learner(tmp_path / "m")
    frame = pd.read_csv(trained / "ratings.csv")
    expected = learn.validate(frame.iloc[random_split(0.2, 0)(frame)[1]])
    assert found["errors"][2]["rmse"] == pytest.approx(expected["rmse"], rel=1e-6)
    code, out, err = collab(*words, "csv", "-q")
    assert code == 0 and [float(row["rmse"]) for row in rows_of(out)] == pytest.approx(
        [row["rmse"] for row in found["errors"]], rel=1e-6)
    assert "Wrote" not in err


def test_evaluation_prints_errors_or_a_ranking_as_json_and_csv(collab, trained):
    model, frame = trained / "model.safetensors", pd.read_csv(trained / "ratings.csv")
    code, out, err = collab("evaluate", model, "--as", "json")
    assert (code, err) == (0, "") and {row["model"] for row in json.loads(out)["errors"]} == RATINGS
    held_out = frame.iloc[random_split(0.2, 0)(frame)[1]]
    expected = evaluate(load_learner(model), held_out, k=3, metrics=("ndcg", "precision", "recall"))
    code, out, err = collab("evaluate", model, "--k", 3, "--as", "json")
    found = json.loads(out)
    assert (code, err) == (0, "") and (found["k"], found["users"]) == (3, len(expected.per_user))
    for row, name, result in zip(found["ranking"], ("MostPopular", "dot_bias"), (expected.baseline, expected)):
        assert row == {"model": name, **{name: pytest.approx(value) for name, value in result.summary.items()}}
    code, out, _ = collab("evaluate", model, "--k", 3, "--as", "csv")
    assert code == 0 and [*pd.read_csv(io.StringIO(out))] == ["model", "ndcg", "precision", "recall"]
    code, out, err = collab("evaluate", model, "--relevant-above", 99, "--as", "json")
    found = json.loads(out)
    assert (code, err) == (0, "") and found["ranking"] == [] and "no ranking to report" in found["remark"]
    code, out, err = collab("evaluate", model, "--relevant-above", 99, "--as", "csv")
    assert (code, out) == (0, "") and err.startswith("There is no ranking to report")


def test_an_explanation_is_printed_as_json_and_csv(collab, trained):
    model = trained / "model.safetensors"
    learn = load_learner(model)
    expected = CollabInterpretation(learn).explain(7, 3)
    code, out, err = collab("explain", model, "--user", 7, "--item", 3, "--as", "json", "-q")
    found = json.loads(out)
    assert (code, err) == (0, "") and (found["user"], found["item"], found["title"]) == (7, 3, expected.title)
    assert found["score"] == pytest.approx(expected.score)
    assert sum(part["value"] for part in found["parts"]) == pytest.approx(found["logit"], abs=1e-6)
    assert [row["item"] for row in found["nearest"]] == expected.nearest["item"].tolist()
    code, out, err = collab("explain", model, "--user", 7, "--item", 3, "--as", "csv", "-q")
    rows = rows_of(out)
    assert (code, err) == (0, "") and [row["kind"] for row in rows] == [
        "score", *["part"] * len(expected.parts), *["nearest"] * len(expected.nearest)]
    assert [int(row["item"]) for row in rows if row["kind"] == "nearest"] == expected.nearest["item"].tolist()
    assert float(rows[0]["value"]) == pytest.approx(expected.score)


def test_similar_items_and_the_path_of_a_report_are_printed_as_json(collab, trained, tmp_path, monkeypatch):
    model = trained / "model.safetensors"
    code, out, err = collab("similar", model, 3, "-n", 2, "--as", "json", "-q")
    expected = load_learner(model).similar_items(3, n=2)["item"].tolist()
    assert (code, err) == (0, "") and [row["item"] for row in json.loads(out)] == expected
    monkeypatch.setattr(CollabInterpretation, "report", lambda self, path, *_, **__: path)
    for how, said in (("json", json.dumps({"written": str(tmp_path / "p.html")}) + "\n"),
                      ("csv", f"written\n{tmp_path / 'p.html'}\n"), ("table", f"Wrote {tmp_path / 'p.html'}\n")):
        assert collab("report", model, "-o", tmp_path / "p.html", "--as", how, "-q") == (0, said, "")


# Completion --------------------------------------------------------------------------------------------------------

@pytest.fixture
def completed(collab, monkeypatch):
    """What bash is told to complete a line to, or fish, with what each is about."""
    def run(line, shell="bash"):
        words = line.split(" ")
        monkeypatch.setenv("_COLLAB_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        code, out, err = collab()
        assert (code, err) == (0, "")
        return out.splitlines()
    return run


def test_the_shell_completes_commands_options_and_values(completed, trained, monkeypatch):
    monkeypatch.chdir(trained)
    assert completed("collab ") == commands()
    assert completed("collab train ml-1") == ["ml-100k", "ml-1m", "ml-10m"]
    assert completed("collab train --ep") == ["--epochs"]
    assert completed("collab train ml-100k --model als") == ["als_explicit", "als"]
    assert completed("collab train ml-100k --split u") == ["users", "u1", "u2", "u3", "u4", "u5"]
    assert completed("collab evaluate m --split n") == ["none"]
    assert completed("collab train r.csv --duplicates ") == ["keep", "last", "first", "mean", "error"]
    assert completed("collab recommend m --as j") == ["json"]


def test_files_are_left_to_the_shell_where_nothing_else_fits(completed, trained, monkeypatch):
    monkeypatch.chdir(trained)
    assert {"ml-100k", "ratings.csv"} <= {*completed("collab train ")}
    for line in ("collab train rat", "collab train ml-100k --out mo", "collab evaluate ", "collab report m -o "):
        assert completed(line) == [""] or completed(line) == []


def test_what_a_completion_is_about_stands_on_its_line(completed):
    for line in ("collab ", "collab train --", "collab train ml-100k --model ", "collab report m -"):
        found = [entry.split("\t") for entry in completed(line, "fish")]
        assert found and all(len(entry) == 2 and 0 < len(entry[1]) < 80 for entry in found)


def test_completed_values_are_those_that_exist():
    assert sorted(complete.MODELS) == sorted(RECIPES) and all(complete.MODELS.values())
    assert [name.removeprefix("ml-") for name in complete.SETS] == list(movielens_sets.EDITIONS)
    assert tuple(complete.FORMATS) == ("csv", "tsv", "::", "parquet", "recbole") and {*complete.FORMATS} == {*FORMATS}
    assert {*CANONICAL} < {*complete.SPLITS}
    for name in complete.SPLITS:
        split_of(name, valid_pct=0.2, seed=0)
    for name in complete.ENCODINGS:
        "a".encode(name)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_calls_the_program_back(collab, monkeypatch, shell):
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    code, out, err = collab("--show-completion")
    assert (code, err) == (0, "") and f"_COLLAB_COMPLETE=complete_{shell}" in out and "python" not in out
