"""collab recommend: rules, reasons, and index files in place of a model."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from collab import CollabWarning, Index, load_learner
from collab.cli import main
from collab.files import kind_of


@pytest.fixture(scope="module")
def films(trained, tmp_path_factory):
    """A folder with a model that knows genres and years, and its indexes."""
    folder = tmp_path_factory.mktemp("films")
    table = pd.read_csv(trained / "films.csv").assign(year=range(1960, 2000), genres=["Drama|War", "Comedy"] * 20)
    learn = load_learner(trained / "model.safetensors")
    learn.data.item_table = table.set_index("item")
    learn.export(folder / "model.safetensors")
    learn.index().save(folder / "index.safetensors")
    learn.index(users=False).save(folder / "items.safetensors")
    learn.index(columns=[]).save(folder / "bare.safetensors")
    (folder / "mine.csv").write_text("item,rating\n3,5\n8,2\n")
    return folder


def listed(collab, *words: object) -> list[dict]:
    code, out, err = collab("recommend", *words, "--as", "json")
    assert code == 0, err
    return json.loads(out)


def test_rules_are_those_of_the_library(collab, films):
    model, learn = films / "model.safetensors", load_learner(films / "model.safetensors")
    words = "--user", 7, "-n", 40, "--where", "genres=War", "--where", "year>=1970"
    found = learn.recommend(7, 40, where={"genres": "War", "year": ">=1970"})
    assert [row["item"] for row in listed(collab, model, *words)] == found["item"].tolist() and len(found) > 3
    first, title = found["item"].iloc[0], found["title"].iloc[1]
    left = found["item"].tolist()[2:]
    assert [row["item"] for row in listed(collab, model, *words, "--without", first, "--without", title)] == left
    among = [word for item in (first, title) for word in ("--among", item)]
    assert [row["item"] for row in listed(collab, model, "--user", 7, *among)] == found["item"].tolist()[:2]
    both = listed(collab, model, "--user", 7, "-n", 40, "--among", "genres=War", "--among", first,
                  "--without", "year>=1990", "--without", title)
    assert [row["item"] for row in both] == learn.recommend(
        7, 40, among=[{"genres": "War"}, first], without=[{"year": ">=1990"}, title])["item"].tolist()
    assert [row["item"] for row in listed(collab, model, "--user", 7, "--diversity", 0.5)] == learn.recommend(
        7, diversity=0.5)["item"].tolist()
    code, _, err = collab("recommend", model, "--all", "-o", films / "all.csv", "--where", "genres=War", "-n", 3)
    assert code == 0, err
    assert pd.read_csv(films / "all.csv").query("user == 7")["item"].tolist() == learn.recommend(
        7, 3, where="genres=War")["item"].tolist()


def test_reasons_are_a_column(collab, films):
    model, learn = films / "model.safetensors", load_learner(films / "model.safetensors")
    assert [row["why"] for row in listed(collab, model, "--user", 7, "--why")] == learn.recommend(
        7, why=True)["why"].tolist()
    assert [row["why"] for row in listed(collab, model, "--ratings", films / "mine.csv", "--why")] == learn.recommend(
        ratings={3: 5.0, 8: 2.0}, why=True)["why"].tolist()
    assert " why\n" in collab("recommend", model, "--user", 7, "--why")[1]
    code, _, err = collab("recommend", model, "--all", "-o", films / "why.csv", "--why", "-n", 3, "-q")
    lists = pd.read_csv(films / "why.csv", keep_default_na=False)
    assert code == 0 and not err and [*lists] == ["user", "rank", "item", "title", "score", "why"]
    for user in (7, 9):
        assert lists[lists["user"] == user]["why"].tolist() == [
            word or "" for word in learn.recommend(user, 3, why=True)["why"]]


@pytest.mark.filterwarnings("default")
def test_an_index_answers_as_its_model(collab, films):
    learn, index = load_learner(films / "model.safetensors"), Index.load(films / "index.safetensors")
    for name in ("index.safetensors", "items.safetensors"):
        rows = listed(collab, films / name, "--ratings", films / "mine.csv", "-n", 5, "--why", "--without", 9)
        expected = learn.recommend(ratings={3: 5.0, 8: 2.0}, n=5, why=True, without=9)
        assert [(row["item"], row["why"]) for row in rows] == list(zip(expected["item"], expected["why"]))
    out = collab("recommend", films / "items.safetensors", "--ratings", films / "mine.csv")[1]
    assert "From these 2 ratings:\n\n  item  rating  title" in out and "Recommended:" in out
    code, out, err = collab("recommend", films / "index.safetensors", "--user", 7, "--user", 9, "--as", "json")
    assert code == 0 and "may have what the user has rated; leave items out with --without" in err
    assert [row["item"] for row in json.loads(out)] == index.recommend([7, 9])["item"].tolist()


@pytest.mark.filterwarnings("default")
def test_an_index_keeps_to_the_rules_as_its_model_does(collab, films):
    learn = load_learner(films / "model.safetensors")
    rules = {"where": {"genres": "War"}, "without": [{"year": ">=1990"}, 9], "diversity": 0.4}
    words = "-n", 5, "--where", "genres=War", "--without", "year>=1990", "--without", 9, "--diversity", 0.4
    rows = listed(collab, films / "items.safetensors", "--ratings", films / "mine.csv", *words)
    assert [row["item"] for row in rows] == learn.recommend(ratings={3: 5.0, 8: 2.0}, n=5, **rules)["item"].tolist()
    rows = listed(collab, films / "index.safetensors", "--user", 7, *words, "--among", "genres=Drama", "--among", 4)
    assert [row["item"] for row in rows] == learn.recommend(
        7, 5, exclude=None, among=[{"genres": "Drama"}, 4], **rules)["item"].tolist() and len(rows) == 5


@pytest.mark.parametrize(("words", "says"), [
    (["model", "--user", 7, "--where", "genre=War"], "--where names a column 'genre' that the table of items has not"),
    (["model", "--user", 7, "--where", "genres=Wra"], "--where: no item has 'Wra' in column 'genres'; near it are"),
    (["model", "--user", 7, "--among", "genre=War"], "--among names a column 'genre' that the table of items has not"),
    (["model", "--user", 7, "--without", "genres=Wra"], "--without: no item has 'Wra' in column 'genres'"),
    (["index", "--user", 7, "--where", "genre=War"], "--where names a column 'genre' that the table of items has not"),
    (["bare", "--user", 7, "--where", "genres=War"], "--where needs to know more of the items than their ids"),
    (["index", "--user", 7, "--include-seen", "--diversity", 0.2], "without ratings. It takes no --include-seen; the"),
    (["index", "--all", "-o", "x.csv"], "It takes no --all"),
    (["index", "--user", 7, "--why"], "holds no ratings of known users, and says --why with --ratings"),
    (["index", "--user", 99999], "user 99999 is not among"),
    (["items", "--user", 7], "an index without users: it answers --ratings FILE")])
@pytest.mark.filterwarnings("default")
def test_what_cannot_be_asked_is_named(collab, films, words, says):
    code, out, err = collab("recommend", films / f"{words[0]}.safetensors", *words[1:])
    assert code == 2 and says in " ".join(err.split()) and not out, err


def test_the_kind_of_a_file_is_read_from_its_head(films, trained, tmp_path):
    assert [kind_of(films / f"{name}.safetensors") for name in ("model", "index")] == ["model", "index"]
    (tmp_path / "cut").write_bytes((films / "index.safetensors").read_bytes()[:40])
    others = tmp_path / "cut", tmp_path / "none", tmp_path, trained / "films.csv"
    assert [kind_of(path) for path in others] == [None] * 4


# Lists that are short, or empty ------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def gaps(trained):
    """A model of a table where user 1 has rated items 1 to 4, user 2 items 3 and 4, and user 3 items 1 and 5."""
    rows = [(1, i, 3 + i % 3) for i in (1, 2, 3, 4)] + [(2, 3, 4), (2, 4, 5), (3, 5, 2), (3, 1, 4)]
    pd.DataFrame(rows, columns=["user", "item", "rating"]).to_csv(trained / "gaps.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["collab", "train", f"{trained}/gaps.csv", "--valid-pct", "0", "--model",
                                   "als_explicit", "--epochs", "1", "--factors", "1", "--no-card", "--out",
                                   f"{trained}/gaps.safetensors"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
    return trained / "gaps.safetensors"


@pytest.mark.filterwarnings("default:.*no list")
def test_all_says_up_to_how_many_and_who_has_none(collab, gaps, tmp_path):
    out = tmp_path / "l.csv"
    code, said, err = collab("recommend", gaps, "--all", "-n", 3, "--among", 1, "--among", 3, "-o", out)
    assert code == 0 and f"Wrote {out}: up to 3 items for each of 3 users." in said
    assert "Warning: 1 of 3 users has no list: all that may be recommended has been rated; --include-seen rec" in err
    assert [*pd.read_csv(out)["user"]] == [2, 3]
    code, said, err = collab("recommend", gaps, "--all", "-n", 1, "--among", 1, "--among", 3, "-o", out,
                             "--include-seen")
    assert code == 0 and "up to 1 item for each of 3 users" in said and "no list" not in err


@pytest.mark.filterwarnings("default:.*no list")
def test_python_is_told_of_users_that_a_file_lacks_too(gaps, tmp_path):
    learn = load_learner(gaps)
    with pytest.warns(CollabWarning, match="^2 of 3 users have no list: all that may be rec.* exclude=None recommends"):
        learn.recommend_all(n=2, among=[3, 4], path=tmp_path / "l.csv")
    assert [*pd.read_csv(tmp_path / "l.csv")["user"]] == [3, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn.recommend_all(n=2, users=[3], among=[3, 4], path=tmp_path / "l.csv")
        assert len(pd.concat(learn.recommend_all(n=2, among=[3, 4]))) == 2      # these tables show it themselves


@pytest.mark.parametrize(("words", "says"), [
    (["--user", 1, "--among", 3], "nothing: this user has rated all that is left by --among; --include-seen lists"),
    (["--user", 1, "--among", 3, "--without", 4], "has rated all that is left by --among and --without; --incl"),
    (["--user", 1, "--without", 5], "nothing: this user has rated all that is left by --without; --include-seen"),
    (["--user", 1, "--among", 5, "--without", 5], "nothing: no item is left by --among and --without"),
    (["--user", 1, "--include-seen", "--among", 5, "--without", 5], "nothing: no item is left by --among and"),
    (["--ratings", "{mine}", "--among", 3], "nothing: all that is left by --among is rated"),
])
def test_an_empty_list_says_why_and_what_to_do(collab, gaps, tmp_path, words, says):
    (tmp_path / "mine.csv").write_text("item,rating\n3,4\n5,2\n")
    code, out, _ = collab("recommend", gaps, *(str(word).format(mine=tmp_path / "mine.csv") for word in words))
    assert code == 0 and says in out, out


@pytest.mark.parametrize("file", ["model", "items"])
def test_rows_without_a_rating_are_counted(collab, films, tmp_path, file):
    (tmp_path / "mine.csv").write_text("item,rating\n3,5\n8,\n9,2\n4,\n")
    ask = ["recommend", films / f"{file}.safetensors", "--ratings", tmp_path / "mine.csv"]
    code, out, err = collab(*ask)
    assert code == 0 and not err
    assert out.startswith("2 rows without a rating count as not rated.\n\nFrom these 2 ratings")
    code, out, err = collab(*ask, "--as", "json")
    assert len(json.loads(out)) == 10 and err == "2 rows without a rating count as not rated.\n\n"
    assert collab(*ask, "--as", "json", "-q")[2] == ""
    (tmp_path / "mine.csv").write_text("item,rating\n3,5\n9,2\n")
    assert "without a rating" not in collab(*ask)[1]


def test_users_held_out_whole_are_counted_and_included_without_validation(collab, tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"user": rng.integers(0, 30, 600), "item": rng.integers(0, 20, 600),
                          "rating": rng.integers(1, 6, 600)}).drop_duplicates(["user", "item"])
    table.to_csv(tmp_path / "r.csv", index=False)
    model, out = tmp_path / "m.safetensors", tmp_path / "recs.csv"

    def said(*how: object) -> str:
        assert collab("train", tmp_path / "r.csv", "--epochs", 1, "--out", model, *how)[0] == 0
        return collab("recommend", model, "--all", "-o", out)[1]
    told = said("--split", "users")
    n = len(load_learner(model).data.users) - 1
    assert 0 < n < 30 and f"for each of {n} users.\n{30 - n} further users of the ratings (such as " in told
    assert "was held out; collab train --valid-pct 0" in told and pd.read_csv(out)["user"].nunique() == n
    told = said("--valid-pct", 0)
    assert "for each of 30 users." in told and "further" not in told
    told = said("--split", "users", "--threshold", 3)
    assert "was held out or is not above 3; " in told


# Lists for a spreadsheet -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_are_written_for_a_spreadsheet_that_is_set_to_german(collab, films, tmp_path, encoding):
    out = tmp_path / "listen.csv"
    words = ["recommend", films / "model.safetensors", "--all", "-o", out, "-n", 2, "--sep", ";", "--decimal", ",",
             "--encoding", encoding]
    for _ in range(2):          # the second time over the file of the first, which is known for lists
        code, said, err = collab(*words)
        assert code == 0 and said.startswith(f"Wrote {out}: up to 2 items"), err
    plain = tmp_path / "plain.csv"
    assert collab("recommend", films / "model.safetensors", "--all", "-o", plain, "-n", 2)[0] == 0
    pd.testing.assert_frame_equal(pd.read_csv(out, sep=";", decimal=",", encoding=encoding), pd.read_csv(plain))
    assert out.read_text(encoding).splitlines()[1].count(";") == plain.read_text().splitlines()[0].count(",")


@pytest.mark.parametrize(("words", "says"), [
    (["--all", "-o", "{out}/a.parquet", "--sep", ";"], "--sep ';' says how a .csv is written, and {out}/a.parquet is"),
    (["--all", "-o", "{out}/a.csv", "--decimal", ","], "--decimal ',' stands between the columns too; give "
     "another separator, such as --sep ';'"),
    (["--all", "-o", "{out}/a.csv", "--sep", ";", "--header"], "only --ratings FILE is read; without it this takes no "
     "--header\n"),
    (["--user", "7", "--sep", ";"], "only --ratings FILE is read; without it this takes no --sep\n")])
def test_what_no_csv_is_written_with_is_refused(collab, films, tmp_path, words, says):
    code, _, err = collab("recommend", films / "model.safetensors", *(word.format(out=tmp_path) for word in words))
    assert code == 2 and says.format(out=tmp_path) in err and not [*tmp_path.iterdir()]


def test_a_title_that_the_encoding_has_not_is_told_and_the_old_lists_stay(collab, trained, tmp_path):
    learn = load_learner(trained / "model.safetensors")
    learn.data.item_table = learn.data.item_table.assign(title=lambda t: "Ame\u0301lie " + t.index.astype(str))
    learn.export(tmp_path / "m", card=False)
    (tmp_path / "a.csv").write_text("user,rank,item,title,score\n")
    code, _, err = collab("recommend", tmp_path / "m", "--all", "-o", tmp_path / "a.csv", "--encoding", "latin-1")
    assert code == 2 and f"{tmp_path / 'a.csv'}: '\u0301' cannot be written in latin-1; take --encoding" in err
    assert (tmp_path / "a.csv").read_text() == "user,rank,item,title,score\n"


@pytest.mark.parametrize("words", [["explain", "{model}", "--user", "7", "--item", "3"], ["similar", "{model}", "3"]])
def test_what_prints_a_table_can_be_quiet(collab, films, words):
    asked = [word.format(model=films / "model.safetensors") for word in words]
    code, out, err = collab(*asked, "-q", "--as", "csv")
    assert (code, err) == (0, "") and out == collab(*asked, "--as", "csv")[1]
    assert collab(*asked, "--quiet")[0] == 0


def test_what_an_index_lacks_is_told_in_words_of_the_command_line(collab, films, tmp_path):
    load_learner(films / "model.safetensors").index(new_users=False).save(tmp_path / "old")
    code, _, err = collab("recommend", tmp_path / "old", "--ratings", films / "mine.csv")
    assert code == 2 and "this index cannot fold in new users: its model scores them in a way of its own" in err
    assert err.endswith("which takes more than vectors; the model file may take them\n") and "learn." not in err
