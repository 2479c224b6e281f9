"""What is read is not overwritten by what is written, and neither are files of another kind."""

import os

import pytest

TRAIN = ["--model", "als_explicit", "--epochs", 1, "--factors", 2, "-q", "--no-card"]


@pytest.fixture
def files(trained, tmp_path, monkeypatch):
    """A folder with ratings, items, a model that was trained on them there, and a link to the ratings."""
    for name in ("ratings.csv", "model.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    (tmp_path / "items.csv").write_text("item,title\n1,Alien\n")
    os.link(tmp_path / "ratings.csv", tmp_path / "hard.csv")
    (tmp_path / "soft.csv").symlink_to("ratings.csv")
    (tmp_path / "notes.txt").write_text("milk, bread\n")
    (tmp_path / "page.html").write_text("<html>mine</html>")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("words", "says"), [
    (["train", "ratings.csv", "--out", "ratings.csv"], "--out ratings.csv would overwrite ratings.csv, which this"),
    (["train", "ratings.csv", "--out", "hard.csv"], "would overwrite ratings.csv"),
    (["train", "ratings.csv", "--out", "./soft.csv"], "would overwrite ratings.csv"),
    (["train", "ratings.csv", "--items", "items.csv", "--out", "items.csv"], "would overwrite items.csv"),
    (["train", "ratings.csv", "--test", "hard.csv", "--out", "hard.csv"], "would overwrite"),
    (["train", "ratings.csv", "--out", "notes.txt"], "--out notes.txt is there already, and is not a model that"),
    (["train", "ratings.csv", "--log", "ratings.csv"], "--log ratings.csv would overwrite ratings.csv"),
    (["train", "ratings.csv", "--out", "m.st", "--log", "m.st"], "--log m.st would overwrite m.st"),
    (["train", "ratings.csv", "--log", "notes.txt"], "--log notes.txt is there already, and is not a log"),
    (["tune", "ratings.csv", "--out", "ratings.csv"], "--out ratings.csv would overwrite ratings.csv"),
    (["tune", "ratings.csv", "--resume", "ratings.csv"], "--resume ratings.csv would overwrite ratings.csv"),
    (["tune", "ratings.csv", "--resume", "notes.txt"], "--resume notes.txt is there already, and is not the file of a"),
    (["tune", "ratings.csv", "--resume", "m.st", "--out", "m.st"], "--resume m.st would overwrite m.st"),
    (["recommend", "--all", "-o", "model.safetensors"], "-o model.safetensors would overwrite model.safetensors"),
    (["recommend", "--all", "-o", "ratings.csv"], "-o ratings.csv is there already, and is not lists that collab"),
    (["recommend", "--all", "-o", "items.csv"], "-o items.csv is there already"),
    (["report", "-o", "model.safetensors"], "--out model.safetensors would overwrite model.safetensors"),
    (["report", "-o", "ratings.csv"], "--out ratings.csv is there already, and is not a page"),
    (["report", "-o", "new.pdf"], "new.pdf: a report is a page of HTML, and ends in .pdf here; take a name that ends"),
    (["report", "-o", "new"], "new: a report is a page of HTML, and has no ending here"),
    (["index", "-o", "model.safetensors"], "--out model.safetensors would overwrite model.safetensors"),
    (["index", "-o", "ratings.csv"], "--out ratings.csv"),
    (["index", "-o", "notes.txt"], "--out notes.txt is there already, and is not an index that collab wrote"),
    (["check", "ratings.csv", "--plot", "model.safetensors"], "model.safetensors is there already, and is not a pict"),
])
def test_what_is_read_or_of_another_kind_is_not_overwritten(collab, files, words, says):
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    code, out, err = collab(*words)
    assert (code, out) == (2, "") and says in err and len(err.splitlines()) == 1, err
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_the_ratings_that_a_model_was_trained_on_are_known_by_it(collab, files):
    rows = (files / "ratings.csv").read_text().splitlines()[1:201]
    (files / "like.csv").write_text("user,rank,item,rating\n" + "".join(      # which begins as lists do
        f"{u},0,{i},{r}\n" for u, i, r, *_ in (row.split(",") for row in rows)))
    assert collab("train", "like.csv", "--item-col", "item", "--rating-col", "rating", *TRAIN, "--out", "l.st")[0] == 0
    code, _, err = collab("recommend", "l.st", "--all", "-o", "like.csv")
    assert code == 2 and "-o like.csv would overwrite like.csv" in err


def test_what_a_command_has_written_it_may_write_again(collab, files):
    (files / "empty.safetensors").touch()
    for _ in range(2):
        for words in (["train", "ratings.csv", *TRAIN, "--out", "new.safetensors", "--log", "run.jsonl"],
                      ["train", "ratings.csv", *TRAIN, "--out", "empty.safetensors"],
                      ["recommend", "--all", "-o", "lists.csv"], ["recommend", "--all", "-o", "lists.parquet"],
                      ["report", "-o", "report.html"], ["index", "-o", "i.safetensors"],
                      ["check", "ratings.csv", "--plot", "plot.svg"]):
            code, _, err = collab(*words)
            assert code == 0, err


def test_one_missing_folder_is_made_and_not_a_whole_path(collab, files):
    code, _, err = collab("train", "ratings.csv", *TRAIN, "--out", "modles/may/m.safetensors")
    assert code == 2 and not (files / "modles").exists()
    assert f"there is no folder {files / 'modles'}; if it is not misspelled, make {files / 'modles/may'} first" in err
    assert collab("train", "ratings.csv", *TRAIN, "--out", "models/m.safetensors")[0] == 0


# Data that were moved ----------------------------------------------------------------------------------------------

def test_ratings_are_found_beside_the_model_and_else_data_is_the_remedy(collab, files, monkeypatch):
    trained = collab("train", "ratings.csv", *TRAIN, "--out", "m.safetensors")[1]
    (files / "other").mkdir()
    monkeypatch.chdir(files / "other")
    code, out, err = collab("evaluate", "../m.safetensors")
    assert code == 0 and not err and out.split("\n\n")[1] in trained
    (files / "ratings.csv").rename(files / "gone.csv")
    code, _, err = collab("evaluate", "../m.safetensors")
    assert code == 2 and len(err.splitlines()) == 1
    assert "was trained on ratings.csv, which is neither here nor beside the model file" in err and "--data FILE" in err
