"""collab evaluate --data: ratings of training under another name are split again; others are measured whole."""

import json
import shutil

import pytest

from collab import synthetic

READ = ["--sep", ";", "--decimal", ",", "--encoding", "latin-1"]
SAID = "--sep ';' --encoding 'latin-1' --decimal ','"


def written(path, *, seed=3, **more):
    """A table as Excel writes it in German: ids with umlauts, ; between columns, 4,5 for 4.5."""
    ratings = synthetic(60, 30, 1500, seed=seed).ratings
    ratings = ratings.assign(user="Käufer " + ratings["user"].astype(str), rating=ratings["rating"] - 0.25)
    ratings.to_csv(path, **{"sep": ";", "decimal": ",", "encoding": "latin-1", "index": False, **more})


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    folder = tmp_path_factory.mktemp("german")
    written(folder / "noten.csv")
    return folder


@pytest.fixture
def train(collab, german, monkeypatch):
    def run(*words, data="noten.csv"):
        monkeypatch.chdir(german)
        code, out, err = collab("train", data, *READ, "--model", "als_explicit", "--epochs", 2, "--factors", 3,
                                "--no-card", "--as", "json", "--out", german / "m.safetensors", *words)
        assert code == 0, err
        return json.loads(out)
    return run


@pytest.fixture
def moved(german, tmp_path):
    shutil.copy(german / "noten.csv", tmp_path / "Noten 2024.csv")
    return tmp_path / "Noten 2024.csv"


def test_the_part_for_the_end_is_measured_again_after_a_move(collab, train, german, moved):
    told = train("--test", "0.2")
    code, out, err = collab("evaluate", german / "m.safetensors", "--data", moved, "--as", "json")
    found = json.loads(out)
    assert code == 0 and found["part"] == "test" and found["held_out"] == told["test"]["held_out"] == 300
    assert found["errors"] == told["test"]["errors"]
    assert f"{moved} is read as the ratings of training were: {SAID}.\n" in err
    assert f"{moved} holds the ratings of training: what was held out of them is measured; --split none" in err
    code, out, _ = collab("evaluate", german / "m.safetensors", "--data", moved, "--part", "valid", "--as", "json")
    found = json.loads(out)
    assert code == 0 and (found["part"], found["errors"]) == ("valid", told["errors"])


def test_all_of_moved_ratings_are_measured_where_that_is_asked_for(collab, train, german, moved):
    train()
    code, out, err = collab("evaluate", german / "m.safetensors", "--data", moved, "--split", "none", "--as", "json",
                            "-q")
    assert (code, err) == (0, "") and (json.loads(out)["held_out"], json.loads(out)["part"]) == (1500, None)
    code, out, err = collab("evaluate", german / "m.safetensors", "--data", moved, "--split", "last", "--as", "json")
    assert code == 0 and (json.loads(out)["held_out"], json.loads(out)["part"]) == (60, None)
    assert "of these 60 ratings were trained on" in err and "holds the ratings" not in err
    code, _, err = collab("evaluate", german / "m.safetensors", "--data", moved, "--split", "last", "--part", "valid")
    assert code == 2 and "--split last: the model was trained with --split random" in err


def test_columns_of_other_names_hold_the_same_ratings(collab, train, german, tmp_path):
    told = train()
    table = (german / "noten.csv").read_text("latin-1").replace("user;item;rating", "Wer;Was;Note", 1)
    (tmp_path / "anders.csv").write_text(table, "latin-1")
    code, out, err = collab("evaluate", german / "m.safetensors", "--data", tmp_path / "anders.csv", "--as", "json",
                            "--user-col", "Wer", "--item-col", "Was", "--rating-col", "Note")
    assert code == 0, err
    assert (json.loads(out)["part"], json.loads(out)["errors"]) == ("valid", told["errors"])


def test_other_ratings_are_measured_whole_and_read_as_those_of_training(collab, train, german, tmp_path):
    train()
    written(tmp_path / "neu.csv", seed=4)
    code, out, err = collab("evaluate", german / "m.safetensors", "--data", tmp_path / "neu.csv", "--as", "json")
    assert code == 0 and (json.loads(out)["part"], json.loads(out)["held_out"]) == (None, 1500)
    assert f"neu.csv is read as the ratings of training were: {SAID}.\n" in err and "holds the ratings" not in err
    code, _, err = collab("evaluate", german / "m.safetensors", "--data", tmp_path / "neu.csv", "--part", "valid")
    assert code == 2 and f"--part is of the ratings of training, and {tmp_path / 'neu.csv'} holds others" in err


def test_options_that_are_given_win(collab, train, german, tmp_path):
    train()
    written(tmp_path / "neu.csv", seed=4, sep="|", decimal=".")
    code, out, err = collab("evaluate", german / "m.safetensors", "--data", tmp_path / "neu.csv", "--sep", "|",
                            "--decimal", ".", "--as", "json")
    assert code == 0, err
    assert json.loads(out)["held_out"] == 1500
    assert "neu.csv is read as the ratings of training were: --encoding 'latin-1'.\n" in err


@pytest.mark.parametrize("how", [{"sep": ",", "decimal": "."}, {"encoding": "utf-8"}])
def test_a_file_that_is_written_otherwise_is_read_as_it_is(collab, train, german, tmp_path, how):
    train()
    written(tmp_path / "so.csv", **how)
    plain = [] if how.get("sep") == "," else ["--sep", ";", "--decimal", ","]
    code, out, err = collab("evaluate", german / "m.safetensors", "--data", tmp_path / "so.csv", "--as", "json",
                            *(["--encoding", "latin-1"] if not plain else []))
    assert code == 0, err
    assert (json.loads(out)["part"], json.loads(out)["held_out"]) == ("valid", 300)
    said = ("is read as the ratings of training were: --sep ';' --decimal ','.\n" if plain else
            "is read without --sep ';' --decimal ',', by which the ratings of training were read.\n")
    assert said in err


@pytest.mark.filterwarnings("ignore::collab.CollabWarning")
def test_rows_that_training_dropped_are_dropped_again(collab, train, german, tmp_path):
    bad = (german / "noten.csv").read_text("latin-1") + "Käufer 1;2;schlecht;5\nKäufer 1;2;3;4;5;6\n"
    (german / "bad.csv").write_text(bad, "latin-1")
    told = train("--bad-rows", "drop", data="bad.csv")
    shutil.copy(german / "bad.csv", tmp_path / "weg.csv")
    code, out, err = collab("evaluate", german / "m.safetensors", "--data", tmp_path / "weg.csv", "--as", "json")
    assert code == 0, err
    assert (json.loads(out)["part"], json.loads(out)["errors"]) == ("valid", told["errors"])
    assert f"{SAID} --bad-rows 'drop'.\n" in err


def test_other_times_are_other_ratings_where_the_split_is_by_time(collab, train, german, tmp_path):
    told = train("--split", "time")
    shutil.copy(german / "noten.csv", tmp_path / "gleich.csv")
    same = collab("evaluate", german / "m.safetensors", "--data", tmp_path / "gleich.csv", "--as", "json")
    assert json.loads(same[1])["errors"] == told["errors"]
    lines = (german / "noten.csv").read_text("latin-1").splitlines()
    head, *rows = (line.rpartition(";") for line in lines)
    times = [row[2] for row in rows]
    (tmp_path / "anders.csv").write_text("\n".join(["".join(head), *(
        f"{row[0]};{time}" for row, time in zip(rows, reversed(times)))]), "latin-1")
    other = collab("evaluate", german / "m.safetensors", "--data", tmp_path / "anders.csv", "--as", "json")
    assert other[0] == 0 and json.loads(other[1])["part"] is None


def test_a_file_for_the_end_is_found_beside_the_ratings(collab, train, german, moved):
    written(german / "ende.csv", seed=5)
    told = train("--test", "ende.csv")
    evaluate = ["evaluate", german / "m.safetensors", "--data", moved, "--as", "json"]
    (german / "ende.csv").rename(moved.parent / "ende.csv")
    code, out, err = collab(*evaluate)
    assert code == 0, err
    assert (json.loads(out)["part"], json.loads(out)["errors"]) == ("test", told["test"]["errors"])
    (moved.parent / "ende.csv").unlink()
    code, _, err = collab(*evaluate)
    assert code == 2 and "put it there, or say --part valid, or measure it with --data FILE" in err


@pytest.mark.filterwarnings("ignore::collab.errors.CollabWarning")
def test_a_file_for_the_end_is_read_by_the_rules_of_training(collab, train, german):
    written(german / "messy.csv", seed=5)
    head, *lines = (german / "messy.csv").read_text("latin-1").splitlines()
    broken = ";".join("" if place == 0 else field for place, field in enumerate(lines[7].split(";")))
    (german / "messy.csv").write_text("\n".join([head, *lines[:40], lines[3], broken]), "latin-1")
    told = train("--test", "messy.csv", "--bad-rows", "drop", "--duplicates", "last")["test"]
    code, out, err = collab("evaluate", german / "m.safetensors", "--as", "json")
    assert code == 0, err
    assert json.loads(out)["held_out"] == told["held_out"] == 40        # neither the repeated nor the broken line
    assert json.loads(out)["errors"] == told["errors"]


def test_the_remedies_of_a_report_are_options_that_it_has(collab, train, german, moved, tmp_path):
    written(german / "ende.csv", seed=5)
    train("--test", "ende.csv")
    (german / "ende.csv").unlink()
    report = ["report", german / "m.safetensors", "-o", tmp_path / "r.html"]
    err = collab(*report)[2]
    assert "m.safetensors has as its part test (--test) the file ende.csv, which is neither here nor" in err
    assert "say --part valid" in err and "was trained on ende.csv" not in err
    code, _, err = collab(*report, "--part", "valid")
    assert code == 0 and "no error" not in err
    train()
    code, out, _ = collab(*report, "--data", moved)
    assert code == 0 and "what was held out of them is measured." in out and "--split" not in out


def test_ratings_without_dates_are_measured_by_a_model_whose_ratings_had_some(collab, german, tmp_path, monkeypatch):
    monkeypatch.chdir(german)
    lines = (german / "noten.csv").read_text("latin-1").splitlines()[1:]
    day = [f"{k % 28 + 1:02d}.03.2021" for k in range(len(lines))]
    (tmp_path / "tage.csv").write_text("\n".join(["user;item;rating;tag", *(
        ";".join([*line.split(";")[:3], when]) for line, when in zip(lines, day))]), "latin-1")
    code, _, err = collab("train", tmp_path / "tage.csv", *READ, "--date-format", "%d.%m.%Y", "--time-col", "tag",
                          "--model", "als_explicit", "--epochs", 2, "--factors", 3, "--no-card",
                          "--out", tmp_path / "m.safetensors")
    assert code == 0, err
    (tmp_path / "neu.csv").write_text("\n".join(["user;item;rating", *(
        ";".join(line.split(";")[:3]) for line in lines[:200])]), "latin-1")
    code, out, err = collab("evaluate", tmp_path / "m.safetensors", "--data", tmp_path / "neu.csv", "--as", "json")
    assert code == 0, err
    assert json.loads(out)["held_out"] == 200
    assert "neu.csv is read without --date-format '%d.%m.%Y', by which the ratings of training were read." in err
    assert f"neu.csv is read as the ratings of training were: {SAID}." in err


def test_options_of_moved_ratings_are_not_forced_on_the_file_for_the_end(collab, train, german, tmp_path):
    written(german / "ende.csv", seed=5)
    told = train("--test", "ende.csv")
    written(tmp_path / "so.csv", sep="|", decimal=".", encoding="utf-8")
    options = ["--data", tmp_path / "so.csv", "--sep", "|", "--decimal", ".", "--encoding", "utf-8", "--as", "json"]
    code, out, err = collab("evaluate", german / "m.safetensors", *options)
    assert code == 0, err
    assert (json.loads(out)["part"], json.loads(out)["errors"]) == ("test", told["test"]["errors"])
    written(german / "ende.csv", seed=5, sep="|", decimal=".", encoding="utf-8")       # saved anew as they are
    assert json.loads(collab("evaluate", german / "m.safetensors", *options)[1])["errors"] == told["test"]["errors"]


def test_a_report_has_the_error_on_what_was_held_out_of_moved_ratings(collab, train, german, moved, tmp_path):
    train()
    code, _, err = collab("report", german / "m.safetensors", "--data", moved, "-o", tmp_path / "r.html")
    assert code == 0 and "no error" not in err
    assert "300" in (tmp_path / "r.html").read_text("utf-8")
