"""collab index: the file of an index from a model file, as learn.index().save() writes it."""

import json

import pandas as pd
import pytest

from collab import Index, load_learner


@pytest.mark.filterwarnings("default:an index holds no ratings")
def test_it_writes_the_index_of_the_model_with_all_that_is_known(collab, trained, tmp_path):
    out = tmp_path / "films.index"
    code, printed, err = collab("index", trained / "model.safetensors", "-o", out)
    made = load_learner(trained / "model.safetensors").index()
    assert (code, err) == (0, "") and printed.startswith(f"Wrote {out}\n6 numbers for each of {len(made):,} items; ")
    assert f"{len(made.user_ids) - 1} users; what is known of items: title" in printed
    assert f"Next: collab serve {out}" in printed and "known users alone" not in printed
    user = next(iter(made.user_ids))
    pd.testing.assert_frame_equal(Index.load(out).recommend(user), made.recommend(user))
    made.save(tmp_path / "python.index")
    assert out.read_bytes() == (tmp_path / "python.index").read_bytes()
    code, listed, _ = collab("recommend", out, "--user", user, "-n", 3, "--as", "json")
    assert code == 0 and [row["item"] for row in json.loads(listed)] == made.recommend(user, 3)["item"].tolist()


def test_an_index_without_new_users_says_so(collab, trained, tmp_path):
    model, out = tmp_path / "m.safetensors", tmp_path / "i.safetensors"
    assert collab("train", trained / "ratings.csv", "--implicit", "--model", "sasrec", "--split", "last", "--epochs", 1,
                  "--factors", 4, "-q", "--out", model)[0] == 0
    code, printed, _ = collab("index", model, "-o", out)
    assert code == 0 and "It serves known users alone, since it holds nothing to solve new ones by" in printed
    assert Index.load(out).equations is None


def test_the_column_of_titles_is_named_once(collab, trained, tmp_path):
    films = pd.read_csv(trained / "films.csv")[["item", "title"]].assign(year=1950).rename(columns={"title": "Titel"})
    learn = load_learner(trained / "model.safetensors")
    learn.data.item_table, learn.data.title_name = films.set_index("item"), "Titel"
    learn.export(tmp_path / "m.safetensors")
    said = collab("index", tmp_path / "m.safetensors", "-o", tmp_path / "i.safetensors")[1]
    assert "what is known of items: Titel, year.\n" in said


def test_columns_and_users_can_be_left_out(collab, trained, tmp_path):
    films = pd.read_csv(trained / "films.csv").assign(year=lambda t: 1950 + t.index, colour="red", sound="mono")
    films.to_csv(tmp_path / "films.csv", index=False)
    model, out = tmp_path / "m.safetensors", tmp_path / "i.safetensors"
    assert collab("train", trained / "ratings.csv", "--items", tmp_path / "films.csv", "--model", "als_explicit",
                  "--epochs", 1, "--factors", 2, "--no-card", "--out", model)[0] == 0
    code, printed, err = collab("index", model, "-o", out, "--no-users", "--columns", "year", "colour", "--as", "json")
    assert code == 0 and json.loads(printed) == {"written": str(out)} and "no users; what is known" in err
    index = Index.load(out)
    assert index.user_ids is None and [*index.table.columns] == ["year", "colour"]
    code, _, err = collab("index", model, "-o", out, "--columns", "yaer")
    assert code == 2 and "--columns names a column 'yaer' that the table of items has not; did you mean 'year'?" in err


@pytest.mark.parametrize(("words", "says"), [
    (["{dir}/none.safetensors"], "there is no model file"),
    (["{dir}/model.safetensors", "--columns", "colour"], "--columns names a column 'colour' that the table"),
    (["{index}"], "is an index; collab recommend and collab serve take index files"),
])
def test_what_has_no_index_is_refused_and_nothing_is_written(collab, trained, tmp_path, words, says):
    load_learner(trained / "model.safetensors").index().save(tmp_path / "i.safetensors")
    out = tmp_path / "new.safetensors"
    code, printed, err = collab("index", *(word.format(dir=trained, index=tmp_path / "i.safetensors")
                                           for word in words), "-o", out)
    assert (code, printed) == (2, "") and says in err and not out.exists()


def test_a_column_of_a_model_that_knows_nothing_of_items_is_refused(collab, trained, tmp_path):
    assert collab("train", trained / "ratings.csv", "--model", "als_explicit", "--epochs", 1, "--factors", 2,
                  "--no-card", "--out", tmp_path / "m")[0] == 0
    code, _, err = collab("index", tmp_path / "m", "--columns", "year", "-o", tmp_path / "i")
    assert code == 2 and "--columns names a column 'year', and nothing is known of the items but ids and titles" in err
    assert "train with a table of them (--items)" in err and not (tmp_path / "i").exists()
