"""One word among the ratings changes nothing but its own row; and the commands that `check` prints work."""

import json
import shlex

import pandas as pd
import pytest

from collab.data.implicit import nearly_numbers

DROP = ["--bad-rows", "drop"]


@pytest.fixture
def german(tmp_path):
    rows = [f"k{k % 13};b{k % 11};{k % 5 + 1},5;X{k % 3}" for k in range(140)] + ["k1;b1;2,5;Y"]
    for name, more in (("clean.csv", []), ("onebad.csv", ["k2;b9;gut;X"])):
        (tmp_path / name).write_text("\n".join(["Kunde;Buch;Note;Filiale", *rows, *more]) + "\n")
    return tmp_path


def words(german, name):
    return [german / name, "--sep", ";", "--decimal", ","]


@pytest.mark.filterwarnings("default")
def test_a_word_among_the_ratings_does_not_change_what_threshold_and_implicit_do(collab, german):
    model = ["--model", "als", "--epochs", 1, "--no-card", "--out", german / "m"]
    code, _, err = collab("train", *words(german, "onebad.csv"), *DROP, "--threshold", 3, *model)
    assert code == 0 and "1 of 142 rows is left out" in err and "holds ratings" not in err
    code, _, err = collab("train", *words(german, "onebad.csv"), "--threshold", 3, *model)
    assert code == 2 and "column 'Note': ratings must be numbers, but 1 of 142 are not (such as 'gut'" in err
    for name in ("clean.csv", "onebad.csv"):
        code, _, err = collab("train", *words(german, name), "--implicit", *DROP, *model)
        assert code == 0 and "column 'Note' is not used, and every row counts as chosen" in err


def test_what_is_nearly_numbers():
    made = nearly_numbers(pd.Series(["1", "2.5", "gut", None], name="Note"))
    assert made.name == "Note" and made.tolist()[:2] == [1.0, 2.5] and made.isna().sum() == 2
    for other in (["1", "gut"], ["1", "0"], ["007", "008"], [], [3, 4]):
        column = pd.Series(other, dtype=None if other == [3, 4] else "str")
        assert nearly_numbers(column) is column


def test_check_compares_a_threshold_with_the_ratings_as_training_does(collab, german):
    code, out, _ = collab("check", *words(german, "onebad.csv"), *DROP, "--threshold", 3)
    assert code == 0 and "weight" not in out and "57 of" not in out
    (german / "none.csv").write_text("user,item,shop\n" + "".join(f"{k % 7},{k % 5},s{k % 3}\n" for k in range(40)))
    code, out, _ = collab("check", german / "none.csv", "--threshold", 3)
    assert code == 1 and "weight'" not in out and "is for a table with ratings" in " ".join(out.split())


@pytest.mark.filterwarnings("default")
def test_check_prints_a_command_to_train_and_one_to_rank_and_both_work(collab, german):
    code, out, _ = collab("check", *words(german, "onebad.csv"))
    commands = [line.partition(": ")[2] for line in out.splitlines() if line.startswith(("Next: ", "Or, to rank: "))]
    assert len(commands) == 2 and "--duplicates mean" in commands[0] and "--rating-col Note" in commands[1]
    assert "--threshold" in commands[1] and "--duplicates" not in commands[1]
    for command in commands:
        program, *arguments = shlex.split(command)
        code, _, err = collab(*arguments, "--epochs", 1, "--no-card", "--out", german / "m.safetensors")
        assert program == "collab" and code == 0, err
    said = json.loads(collab("check", *words(german, "onebad.csv"), "--as", "json")[1])
    assert [said["command"], said["ranking_command"]] == commands
    code, _, err = collab("check", *words(german, "onebad.csv"), "--threshold", 3, "--duplicates", "mean")
    assert code == 2 and "implicit data are added up where a pair comes again, and take no --duplicates" in err
