"""The command line's options: none is ignored without a word, and each reaches the file or the model it is about."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import collab as package
from collab import load_learner, movielens, time_split
from collab.cli import model_help, model_options
from collab.cli.command import as_options
from collab.learner.recipes import RECIPES

TRAIN = ["train", "{dir}/ratings.csv", "--out", "{out}"]
IDLE = [
    (["--model", "ease", "--factors", 4], "--model ease is solved at once, without factors, and takes no --factors"),
    (["--model", "infinite_ae", "--epochs", 3], "takes no --epochs"),
    (["--model", "ease", "--wd", 0.1], "--model ease is solved, not trained step by step, and takes no --wd"),
    (["--model", "als", "--lr", 0.1, "--bs", 64], "and takes no --lr and no --bs"),
    (["--split", "last", "--valid-pct", 0.3], "--split last decides by itself what is held out, and takes no"),
    (["--split", "u1", "--valid-pct", 0.2], "takes no --valid-pct"),
    (["--implicit", "--duplicates", "mean"], "implicit data are added up where a pair comes again, and take no"),
    (["--threshold", 3, "--duplicates", "keep"], "take no --duplicates"),
    (["--users", "{dir}/films.csv"], "--model dot_bias knows users by their ids and what they rated, and takes no"),
    (["--model", "softmax", "--users", "{dir}/films.csv"], "takes no --users"),
    (["--model", "ease", "--split", "time", "--seed", 1], "leaves nothing to chance, and takes no --seed"),
    (["--title-col", "titel"], "--title-col 'titel' names neither a column of a table of items, which"),
    (["--table-sep", "|"], "--table-sep is the separator of --items and --users; for the ratings say --sep"),
    (["--table-encoding", "latin-1"], "--table-encoding is the encoding of --items and --users; for the ratings say"),
    (["--seed", 1, "--seed", 2], "--seed is given 2 times; it takes one value"),
    (["--header", "--no-header"], "--header is given 2 times"),
]


def refused(collab, trained, tmp_path, words, says):
    code, out, err = collab(*(str(word).format(dir=trained, out=tmp_path / "m") for word in words))
    assert code == 2 and says in " ".join(err.split()), err
    assert not out and not (tmp_path / "m").exists()


@pytest.mark.parametrize(("options", "says"), IDLE, ids=[" ".join(map(str, words)) for words, _ in IDLE])
def test_an_option_that_would_change_nothing_is_refused_before_training(collab, trained, tmp_path, options, says):
    refused(collab, trained, tmp_path, [*TRAIN, *options], says)


@pytest.mark.parametrize(("words", "says"), [
    (["train", "{file}", "--sep", ";"], "has that in itself, and takes no --sep"),
    (["train", "{file}", "--encoding", "latin-1", "--no-header"], "and takes no --header and no --encoding"),
    (["train", "ml-100k", "--format", "csv"], "ml-100k is a set of its own, and takes no --format"),
    (["evaluate", "{dir}/model.safetensors", "--data", "{file}", "--sep", ";"], "takes no --sep"),
    (["recommend", "{dir}/model.safetensors", "--user", 7, "--sep", ";"], "only --ratings FILE is read"),
    (["recommend", "{dir}/model.safetensors", "--all", "-o", "{file}", "--as", "json"], "--as says how to print"),
    (["explain", "{dir}/model.safetensors", "--user", 7, "--user", 8, "--item", 3], "--user is given 2 times"),
])
def test_options_without_a_file_that_they_are_about_are_refused(collab, trained, tmp_path, words, says):
    file = tmp_path / "r.parquet"
    pd.read_csv(trained / "ratings.csv").to_parquet(file)
    before = file.read_bytes()
    code, out, err = collab(*(str(word).format(dir=trained, file=file) for word in words))
    assert code == 2 and says in " ".join(err.split()) and not out, err
    assert file.read_bytes() == before


@pytest.mark.parametrize(("name", "epochs", "bs"), [("dot_bias", 5, 64), ("svdpp", 10, 1024), ("softmax", 30, 16_384),
                                                     ("bpr", 15, 1024)])
def test_defaults_of_models_and_the_help_that_names_them(collab, name, epochs, bs):
    assert (model_options.epochs_of(name), model_options.bs_of(name)) == (epochs, bs)
    said = " ".join(collab("train", "--help")[1].split())
    for piece in ("by default 5 (", "svdpp, hybrid: 10; ", "bpr, als, als_explicit: 15; ",
                  "softmax: 30; bayes: 32). ease, inf"):
        assert piece in said
    for piece in ("By default 64 (sasrec: 512; svdpp, hybrid, bpr, two_tower: 1,024; ",
                  "softmax: 16,384). Not for als,"):
        assert piece in said


def test_a_model_that_there_is_not_is_refused_with_the_nearest_name(collab, tmp_path):
    code, out, err = collab("train", str(tmp_path / "r.csv"), "--model", "nets")
    assert code == 2 and not out
    assert f"--model nets is not one of {', '.join(RECIPES)}; did you mean net?" in " ".join(err.split())


def without(option):
    """The models that do not use an option: "als, ease"."""
    return ", ".join(name for name in RECIPES if not model_options.uses(name, option))


def defaults(of, option):
    """The default of most models, and the models with another one: "5 (svdpp, hybrid: 10; bpr: 15)"."""
    values = {name: of(name) for name in RECIPES if model_options.uses(name, option)}
    usual = max(values.values(), key=[*values.values()].count)
    others = [f"{', '.join(name for name in values if values[name] == value)}: {value:,}"
              for value in sorted({*values.values()} - {usual})]
    return f"{usual:,} ({'; '.join(others)})"


def test_what_help_says_of_models_is_what_their_recipes_say():
    rates, ranks = ("; ".join(f"{name}, {recipe.about}" for name, recipe in RECIPES.items() if recipe.ranks == ranks)
                    for ranks in (False, True))
    epochs, bs = defaults(model_options.epochs_of, "epochs"), defaults(model_options.bs_of, "bs")
    factors = defaults(lambda name: RECIPES[name].n_factors, "factors")
    *first, last = (name for name in RECIPES if model_options.uses(name, "users"))
    should_be = {
        "MODEL_HELP": f"For ratings: {rates}. For ranking: {ranks}.",
        "FACTORS_HELP": f"Factors per user and item; by default {factors}. Not for {without('factors')}.",
        "EPOCHS_HELP": f"Passes over the training ratings, or sweeps of als; by default {epochs}. {without('epochs')} "
                       "are solved at once.",
        "BS_HELP": f"Ratings per batch; larger is faster. By default {bs}. Not for {without('bs')}.",
        "USERS_HELP": f"A file with a user id in each row and what is known about the user; for "
                      f"{', '.join(first)} and {last}."}
    assert {name: getattr(model_help, name) for name in should_be} == should_be


def test_every_recipe_is_in_the_help(collab):
    said = " ".join(collab("train", "--help")[1].split())
    assert all(f"{name}, {recipe.about}" in said for name, recipe in RECIPES.items())


def test_what_each_model_uses():
    options = ("factors", "epochs", "bs", "lr", "wd", "seed", "items", "users")
    used = {model: {option for option in options if model_options.uses(model, option)} for model in RECIPES}
    assert used["ease"] == used["infinite_ae"] == set() and used["als"] == {"factors", "epochs", "seed"}
    assert used["dot"] == {*options} - {"items", "users"} and used["softmax"] == {*options} - {"users"}
    assert used["hybrid"] == used["two_tower"] == {*options}
    assert used["bayes"] == {*options} - {"bs", "lr", "wd"}
    assert [name for name in used if model_options.is_solved(name)] == [
        "als", "als_explicit", "bayes", "ease", "infinite_ae"]
    assert [name for name in used if model_options.needs_metadata(name)] == ["hybrid"]


def test_epochs_of_a_model_that_is_solved_at_once_may_be_one(collab, trained, tmp_path):
    assert collab("train", trained / "ratings.csv", "--model", "ease", "--epochs", 1, "--out", tmp_path / "m")[0] == 0


def test_nothing_is_held_out_where_that_is_asked_for(collab, trained, tmp_path):
    code, out, err = collab("train", trained / "ratings.csv", "--valid-pct", 0, "--epochs", 1, "-q", "--out",
                            tmp_path / "m")
    assert code == 0 and "Nothing was held out" in out and not err
    assert load_learner(tmp_path / "m").data.train.n == len(pd.read_csv(trained / "ratings.csv"))


# Files ------------------------------------------------------------------------------------------------------------

def test_a_file_with_another_separator_and_no_header_trains_with_its_options(collab, trained, tmp_path):
    frame = pd.read_csv(trained / "ratings.csv")
    frame.to_csv(tmp_path / "r.txt", index=False, header=False, sep=";")
    code, out, _ = collab("train", tmp_path / "r.txt", "--sep", ";", "--no-header", "--epochs", 1,
                          "--out", tmp_path / "m")
    assert code == 0 and "Columns: user = user, item = item, rating = rating, time = time" in out
    assert collab("evaluate", tmp_path / "m")[0] == 0


@pytest.fixture
def odd(trained, tmp_path):
    """A folder with ratings and films that have another separator and another encoding than usual."""
    pd.read_csv(trained / "ratings.csv").to_csv(tmp_path / "r.txt", index=False, sep=";")
    films = pd.read_csv(trained / "films.csv")
    films["title"] = [f"Amélie {k}" for k in range(len(films))]
    films.to_csv(tmp_path / "f.txt", index=False, sep=";", encoding="latin-1")
    films.to_csv(tmp_path / "bar.txt", index=False, sep="|", encoding="latin-1")
    return tmp_path


def test_the_separator_and_the_encoding_hold_for_the_films_too(collab, odd):
    words = ["--items", odd / "f.txt", "--sep", ";", "--encoding", "latin-1", "--epochs", 1, "--out", odd / "m"]
    code, _, err = collab("train", odd / "r.txt", *words)
    assert code == 0, err
    assert load_learner(odd / "m").data.titles([1])[0].startswith("Amélie")


def test_the_films_may_have_a_separator_of_their_own(collab, trained, odd):
    for ratings, words in ((odd / "r.txt", ["--sep", ";"]), (trained / "ratings.csv", [])):
        code, _, err = collab("train", ratings, "--items", odd / "bar.txt", *words, "--table-sep", "|", "--encoding",
                              "latin-1", "--epochs", 1, "--out", odd / "m")
        assert code == 0, err
        assert load_learner(odd / "m").data.titles([1])[0].startswith("Amélie")


def test_where_the_films_cannot_be_read_the_remedy_is_an_option_that_is_there(collab, odd):
    words = ["train", odd / "r.txt", "--sep", ";", "--out", odd / "m", "--items"]
    code, _, err = collab(*words, odd / "bar.txt", "--encoding", "latin-1")
    assert code == 2 and "say --table-sep '|'" in err
    code, _, err = collab(*words, odd / "f.txt")
    assert code == 2 and "say what it is written in, for example --table-encoding 'latin-1'" in err
    (odd / "films.odd").write_bytes((odd / "f.txt").read_bytes())
    code, _, err = collab("train", trained_csv(odd), "--items", odd / "films.odd", "--out", odd / "m")
    assert code == 2 and "Say what it is with --table-sep" in err and "--format" not in err


def test_an_option_without_a_value_has_no_space_for_one():
    said = "say format=, one of 'csv', or with sep=; valid_pct= (0.2), user_name=..., threshold=3. Say sep="
    assert as_options(said) == ("say --format, one of 'csv', or with --sep; --valid-pct (0.2), --user-col ..., "
                                "--threshold 3. Say --sep")


def test_a_file_whose_ending_is_not_known_is_asked_for_its_format(collab, odd):
    (odd / "r.odd").write_bytes((odd / "r.txt").read_bytes())
    code, _, err = collab("train", odd / "r.odd", "--out", odd / "m")
    assert code == 2 and "Say what it is with --format, one of 'csv'" in err and err.rstrip().endswith("or with --sep")


def trained_csv(folder):
    """The ratings of `odd` as an ordinary CSV file."""
    pd.read_csv(folder / "r.txt", sep=";").to_csv(folder / "r.csv", index=False)
    return folder / "r.csv"


@pytest.mark.filterwarnings("default")
def test_films_without_names_of_columns_have_ids_and_titles_first(collab, trained, tmp_path):
    films = pd.read_csv(trained / "films.csv")
    films.to_csv(tmp_path / "u.txt", index=False, header=False, sep="|")
    code, _, err = collab("train", trained / "ratings.csv", "--items", tmp_path / "u.txt", "--table-sep", "|",
                          "--epochs", 1, "--out", tmp_path / "m")
    assert code == 0 and "Warning: " in err
    assert "the first column is taken for the ids, the second for the titles" in err
    learn = load_learner(tmp_path / "m")
    assert learn.data.titles(films["item"][:3].tolist()) == films["title"][:3].tolist()


def test_further_files_are_read_with_options_as_well(collab, trained, odd):
    model = trained / "model.safetensors"
    code, _, err = collab("evaluate", model, "--data", odd / "r.txt")
    assert code == 2 and "--sep" in err
    code, out, err = collab("evaluate", model, "--data", odd / "r.txt", "--sep", ";")
    assert code == 0 and "Error on 180 ratings held out of training (valid)" in out, err
    (odd / "mine.txt").write_text("item;rating\n3;5\n8;2\n")
    code, out, err = collab("recommend", model, "--ratings", odd / "mine.txt", "--sep", ";", "-n", 4, "--as", "json")
    expected = load_learner(model).recommend(ratings={3: 5.0, 8: 2.0}, n=4)["item"].tolist()
    assert code == 0 and [row["item"] for row in json.loads(out)] == expected, err


def test_columns_of_other_names_are_told_beside_those_of_training(collab, trained, tmp_path):
    frame = pd.read_csv(trained / "ratings.csv").rename(columns={"user": "reader", "item": "book"})
    frame.to_csv(tmp_path / "other.csv", index=False)
    code, _, err = collab("evaluate", trained / "model.safetensors", "--data", tmp_path / "other.csv")
    assert code == 2 and "['reader', 'book'," in err and "trained on user, item, rating: give them these names" in err


def test_ids_stay_as_they_are_written_in_columns_of_any_name(collab, tmp_path):
    rows = [f"{k % 5 + 1},1,{reader},{k}" for reader in ("1.10", "1.1", "2.5") for k in range(20)]
    (tmp_path / "r.csv").write_text("\n".join(["stars,place,who,book", *rows]) + "\n")
    words = ["--user-col", "who", "--item-col", "book", "--rating-col", "stars", "--epochs", 1, "--quiet"]
    code, out, err = collab("train", tmp_path / "r.csv", *words, "--out", tmp_path / "m")
    assert code == 0 and "3 users" in out and not err, err
    assert sorted(load_learner(tmp_path / "m").data.users) == ["1.1", "1.10", "2.5"]
    code, again, err = collab("evaluate", tmp_path / "m")
    assert code == 0 and again.strip() in out, err


# What rows say ----------------------------------------------------------------------------------------------------

def test_titles_may_stand_in_a_column_of_any_name(collab, trained, tmp_path):
    films = pd.read_csv(trained / "films.csv").rename(columns={"title": "Wie er heisst"})
    films.to_csv(tmp_path / "films.csv", index=False)
    code, _, err = collab("train", trained / "ratings.csv", "--items", tmp_path / "films.csv", "--title-col",
                          "Wie er heisst", "--epochs", 1, "--out", tmp_path / "m")
    assert code == 0, err
    assert load_learner(tmp_path / "m").data.titles([films["item"][0]]) == [films["Wie er heisst"][0]]


@pytest.mark.parametrize("options", [["--threshold", 0.5], ["--implicit"]])
@pytest.mark.filterwarnings("default")
def test_yes_and_no_train_as_choices_and_a_no_is_none(collab, trained, tmp_path, options):
    frame = pd.read_csv(trained / "ratings.csv")
    frame = frame[["user", "item"]].assign(liked=frame["rating"] >= 4)
    frame.to_csv(tmp_path / "liked.csv", index=False)
    code, out, err = collab("train", tmp_path / "liked.csv", "--rating-col", "liked", *options, "--model", "als",
                            "--valid-pct", 0, "--factors", 4, "--epochs", 2, "--out", tmp_path / "m")
    assert code == 0 and f"train {frame['liked'].sum():,} ratings" in out, err


def test_times_may_be_written_as_iso_8601_says(collab, trained, tmp_path):
    frame = pd.read_csv(trained / "ratings.csv")
    written = pd.to_datetime(frame["time"], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S")
    frame.assign(time=written).to_csv(tmp_path / "r.csv", index=False)
    code, _, err = collab("train", tmp_path / "r.csv", "--split", "time", "--epochs", 1, "--out", tmp_path / "m")
    assert code == 0, err
    kept = frame.iloc[time_split(0.2)(frame)[0]]
    data = load_learner(tmp_path / "m").data
    users, items, ratings = data.train.tensors
    assert data.users.decode(users.numpy()).tolist() == kept["user"].tolist()
    assert data.items.decode(items.numpy()).tolist() == kept["item"].tolist()
    assert ratings.tolist() == kept["rating"].tolist()


def test_a_fold_of_movielens_is_told_by_its_rows_before_a_threshold_leaves_some_out(collab, ml100k_home, monkeypatch,
                                                                                   tmp_path):
    monkeypatch.setenv("COLLAB_HOME", str(ml100k_home))
    code, out, err = collab("train", "ml-100k", "--split", "u1", "--threshold", 3, "--model", "als", "--factors", 2,
                            "--epochs", 1, "--out", tmp_path / "m")
    assert code == 0, err
    rated = movielens("100k").ratings["rating"].to_numpy() > 3
    fold = np.arange(len(rated)) < 20_000
    assert f"train {(rated & ~fold).sum():,}, valid {(rated & fold).sum():,} ratings" in out


# Whom, and which ---------------------------------------------------------------------------------------------------

def test_several_users_get_lists_of_their_own(collab, trained):
    model, learn = trained / "model.safetensors", load_learner(trained / "model.safetensors")
    code, out, _ = collab("recommend", model, "--user", 7, "--user", 9, "-n", 3, "--as", "json")
    expected = [(user, item) for user in (7, 9) for item in learn.recommend(user, n=3)["item"]]
    assert code == 0 and [(row["user"], row["item"]) for row in json.loads(out)] == expected
    code, out, _ = collab("recommend", model, "--user", 7, "--user", 9, "-n", 3)
    parts = out.split("Rated highest by user ")[1:]
    assert code == 0 and [part.partition(":")[0] for part in parts] == ["7", "9"]
    for user, part in zip((7, 9), parts):
        assert all(title in part.partition("Recommended:")[2] for title in learn.recommend(user, n=3)["title"])


def test_an_unknown_number_has_no_numbers_that_look_like_it(collab, trained):
    code, _, err = collab("recommend", trained / "model.safetensors", "--user", 70)
    assert code == 2 and "user 70 is not among the 60 users" in err and "near it" not in err


def test_similar_takes_the_model_first_and_understands_the_other_order(collab, trained, monkeypatch):
    model = trained / "model.safetensors"
    monkeypatch.chdir(trained)
    outs = [collab("similar", *words, "-n", 3) for words in ((model, 3), (3, model), (3,))]
    assert outs[0][0] == 0 and outs[0][1] == outs[1][1] == outs[2][1] and "Nearest to" in outs[0][1]
    code, _, err = collab("similar", model, "Toy", "Story")
    assert code == 2 and "in quotation marks" in err and "'Toy Story'" in err
    code, _, err = collab("similar", trained / "none.safetensors", 3)
    assert code == 2 and f"there is no model file {trained / 'none.safetensors'}" in err


def test_a_model_in_place_of_ratings_and_ratings_in_place_of_a_model_are_told(collab, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained)
    model = ("model.safetensors is not a table but a model that was exported; collab recommend and collab evaluate "
             "take it\n")
    for words in (["train"], ["train", "-o", "x"], ["tune"], ["compare"]):
        code, out, err = collab(words[0], "model.safetensors", *words[1:])
        assert (code, out) == (2, "") and err.startswith("Error: ") and err.endswith(model), words
    code, out, _ = collab("check", "model.safetensors")
    assert code == 1 and "is not a table but a model" in " ".join(out.split())
    assert not (trained / "x").exists()
    table = (2, "", "Error: ratings.csv is not a model file, and looks like a table; train first: collab train "
             "ratings.csv\n")
    for words in (["recommend", "ratings.csv", "--user", 7], ["evaluate", "ratings.csv"], ["similar", "ratings.csv", 3],
                  ["index", "ratings.csv"], ["report", "ratings.csv", "-o", tmp_path / "r.html"],
                  ["explain", "ratings.csv", "--user", 7, "--item", 3], ["serve", "ratings.csv", "--port", 0]):
        assert collab(*words) == table, words
    for command, option in (("evaluate", "--data"), ("report", "--data"), ("recommend", "--ratings")):
        _, _, err = collab(command, "model.safetensors", "ratings.csv")
        assert f"(ratings.csv); a file of ratings is given with {option}; see collab {command} --help" in err


def test_a_model_that_is_not_there_is_named_with_one_that_is_near(collab, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained)
    assert collab("recommend", "modle.safetensors", "--user", 7) == (
        2, "", "Error: there is no model file modle.safetensors; did you mean 'model.safetensors'? Otherwise make "
        "one with: collab train DATA --out modle.safetensors\n")
    for path in ("none/m", "zzz"):
        _, _, err = collab("recommend", path, "--user", 7)
        assert err == f"Error: there is no model file {path}; make one with: collab train DATA --out {path}\n"
    assert collab("recommend", tmp_path, "--user", 7) == (
        2, "", f"Error: {tmp_path} is a folder; give the model file in it\n")


@pytest.mark.parametrize(("words", "said"), [
    (["--valid-pct", "20"], "got '20'; it should be less than or equal to 0.99; say 0.2 for 20 %; see collab train"),
    (["--valid-pct", "20%"], "got '20%', which is not a number; say 0.2 for 20 %; see collab train"),
    (["--valid-pct", "300"], "got '300'; it should be less than or equal to 0.99; see collab train"),
    (["--test", "10"], "--test 10: a fraction is above 0 and below 1; say 0.1 for 10 %\n"),
    (["--test", "7.5 %"], "--test 7.5 % is neither a fraction, such as 0.1, nor a file; say 0.075 for 7.5 %\n")])
def test_a_percentage_in_place_of_a_share_is_understood(collab, trained, tmp_path, words, said):
    code, _, err = collab("train", trained / "ratings.csv", "-o", tmp_path / "m", *words)
    assert code == 2 and said in err


# The program -------------------------------------------------------------------------------------------------------

def test_the_version_is_that_of_the_package(collab):
    assert collab("--version") == (0, f"collab {package.__version__}\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C is no signal")
@pytest.mark.parametrize("words", [["{dir}/collab", "recommend"], ["-m", "collab", "train", "ml-100k"]])
def test_ctrl_c_while_torch_loads_ends_the_program_without_a_traceback(tmp_path, words):
    (tmp_path / "torch.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    (tmp_path / "collab").write_text("from collab.cli import main\nmain()\n")
    paths = [str(tmp_path), os.path.dirname(os.path.dirname(package.__file__))]
    process = subprocess.Popen([sys.executable, *(word.format(dir=tmp_path) for word in words)], text=True,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, cwd=tmp_path / "..",
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT and (out, err) == ("", "")


def test_no_message_installs_what_somebody_else_calls_collab():
    root = os.path.dirname(package.__file__)
    for folder, _, names in os.walk(root):
        for name in (name for name in names if name.endswith(".py")):
            with open(os.path.join(folder, name)) as file:
                found = re.findall(r"pip install ['\"]?collab(?!-torch)|`collab\[\w+\]", file.read())
            assert not found, (name, found)


def test_similar_without_an_item_asks_for_one(collab, trained):
    code, _, err = collab("similar", trained / "model.safetensors")
    assert code == 2 and "say which item: collab similar" in err


def test_ratings_of_users_that_are_not_trained_on_are_counted_where_the_error_is(collab, trained, tmp_path):
    code, out, err = collab("train", trained / "ratings.csv", "--split", "users", "--epochs", 1, "--factors", 2,
                            "--out", tmp_path / "m")
    assert code == 0, err
    assert re.search(r"(\d+) of the \1 ratings held out are of users or items that were not trained on: errors "
                     "take the average one for these, and rankings leave them out", out)
