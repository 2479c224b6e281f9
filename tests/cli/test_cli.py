"""The command line: what it prints, what it writes, and how it refuses."""

import json
import re
import shlex
from dataclasses import replace
from io import StringIO
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from collab import CollabInterpretation, CollabLearner, evaluate, load_learner, per_user_split, random_split
from collab.cli.app import commands


def test_help_names_every_command_and_the_first_step(collab):
    code, out, _ = collab("--help")
    assert code == 0 and all(f"\n  {name}  " in out for name in commands())
    assert "collab train ml-100k --split u1" in out


@pytest.mark.parametrize("command", commands())
def test_every_option_is_explained(collab, command):
    code, out, _ = collab(command, "--help")
    assert code == 0
    starts = [m.start() for m in re.finditer(r"^  +(--|-n)", out, re.MULTILINE)]
    for start, end in pairwise([*starts, len(out)]):
        assert len(out[start:end].split()) > 3, out[start:end]


def test_training_prints_the_error_beside_the_baselines_and_writes_one_file(collab, trained, tmp_path):
    model = tmp_path / "new" / "m.safetensors"
    code, out, _ = collab("train", trained / "ratings.csv", "--epochs", 6, "--bs", 16, "--out", model, "--seed", 3)
    assert code == 0 and model.exists()
    rmse = {m[1]: float(m[2]) for m in re.finditer(r"^  ([a-z_ ]+?)  +(\d\.\d+)  +\d\.\d+$", out, re.MULTILINE)}
    assert list(rmse) == ["mean rating", "mean and biases", "dot_bias"]
    assert rmse["dot_bias"] < rmse["mean rating"]
    notes = load_learner(model).notes
    assert (notes["split"], notes["seed"]) == ("random", 3)


def test_the_same_seed_writes_the_same_bytes(collab, trained, tmp_path):
    for name in "ab":
        collab("train", trained / "ratings.csv", "--epochs", 1, "--out", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_evaluate_repeats_what_training_reported(collab, trained, tmp_path):
    model = tmp_path / "m.safetensors"
    _, trained_out, _ = collab("train", trained / "ratings.csv", "--split", "time", "--epochs", 2, "--out", model)
    code, out, _ = collab("evaluate", model)
    assert code == 0 and out.strip() in trained_out


def test_evaluate_on_other_ratings_uses_all_their_rows(collab, trained, tmp_path):
    pd.read_csv(trained / "ratings.csv").head(100).to_csv(tmp_path / "few.csv", index=False)
    code, out, _ = collab("evaluate", trained / "model.safetensors", "--data", tmp_path / "few.csv")
    assert code == 0 and "Error on 100 ratings" in out


def test_recommend_agrees_with_the_loaded_learner(collab, trained):
    model = trained / "model.safetensors"
    code, out, _ = collab("recommend", model, "--user", 7, "-n", 4, "--as", "json")
    expected = load_learner(model).recommend(7, n=4)
    assert code == 0 and [row["item"] for row in json.loads(out)] == expected["item"].tolist()
    code, out, _ = collab("recommend", model, "--user", 7, "-n", 4, "--as", "csv")
    assert out.splitlines()[0] == "rank,item,title,score" and len(out.splitlines()) == 5
    code, out, _ = collab("recommend", model, "--user", 7)
    assert "Rated highest by user 7:" in out and "Recommended:" in out


def test_recommendations_for_everybody_are_written_to_a_file(collab, trained, tmp_path):
    model, out = trained / "model.safetensors", tmp_path / "recs.parquet"
    code, said, _ = collab("recommend", model, "--all", "-o", out, "-n", 3)
    assert code == 0 and f"Wrote {out}: up to 3 items for each of 60 users." in said
    written = pd.read_parquet(out)
    assert len(written) == 180 and [*written] == ["user", "rank", "item", "title", "score"]
    expected = load_learner(model).recommend(7, n=3)["item"].tolist()
    assert written.loc[written["user"] == 7, "item"].tolist() == expected


def test_recommendations_for_somebody_new_come_from_a_file_of_ids_or_titles(collab, trained, tmp_path):
    model, learn = trained / "model.safetensors", load_learner(trained / "model.safetensors")
    title = learn.data.titles([3])[0]
    expected = learn.recommend(ratings={3: 5.0, 8: 2.0}, n=4)["item"].tolist()
    for k, rows in enumerate((f"item,rating\n{title},5\n8,2\n", "rating,item\n5,3\n2,8\n")):
        (tmp_path / f"{k}.csv").write_text(rows)
        code, out, _ = collab("recommend", model, "--ratings", tmp_path / f"{k}.csv", "-n", 4, "--as", "json")
        assert code == 0 and [row["item"] for row in json.loads(out)] == expected
    out = collab("recommend", model, "--ratings", tmp_path / "0.csv")[1]
    assert "From these 2 ratings:\n\n  item  rating  title" in out and title in out
    (tmp_path / "one.csv").write_text("item,rating\n8,2\n")
    assert "From this rating:\n\n" in collab("recommend", model, "--ratings", tmp_path / "one.csv")[1]


def test_a_file_of_several_people_is_refused_and_one_of_a_single_person_is_read(collab, trained, tmp_path):
    model, file = trained / "model.safetensors", tmp_path / "rated.csv"
    file.write_text("user,item,rating\n1,3,5\n2,8,2\n")
    code, _, err = collab("recommend", model, "--ratings", file)
    assert code == 2 and "column 'user' holds 2 users (such as 1 and 2)" in err and "a file of their own" in err
    expected = load_learner(model).recommend(ratings={3: 5.0, 8: 2.0}, n=4)["item"].tolist()
    for text in ("user,item,rating\n1,3,5\n1,8,2\n", "3,5\n8,2\n", "user,film,liked\n1,3,5\n1,8,2\n",
                 "film,liked\n3,5\n8,2\n"):
        file.write_text(text)
        code, out, err = collab("recommend", model, "--ratings", file, "-n", 4, "--as", "json")
        assert code == 0 and [row["item"] for row in json.loads(out)] == expected, (text, err)
    file.write_text("item\n3\n8\n")
    code, _, err = collab("recommend", model, "--ratings", file)
    assert code == 2 and "needs two columns, item and rating" in err


def test_a_file_of_what_was_chosen_needs_no_ratings(collab, trained, tmp_path):
    clicks, model, file = tmp_path / "clicks.csv", tmp_path / "m", tmp_path / "chosen.csv"
    pd.read_csv(trained / "ratings.csv")[["user", "item"]].to_csv(clicks, index=False)
    code, _, err = collab("train", clicks, "--out", model)
    assert code == 2 and "three columns" in err and "is read with --implicit" in err
    assert collab("train", clicks, "--implicit", "--model", "ease", "--out", model)[0] == 0
    learn = load_learner(model)
    for text, plays in (("item\n3\n8\n", 1), ("3\n8\n", 1), ("user,item\n1,3\n1,8\n", 1), ("item,title\n3,a\n8,b\n", 1),
                        ("item,n_plays\n3,4\n8,4\n", 4), ("3,4\n8,4\n", 4)):
        file.write_text(text)
        code, out, err = collab("recommend", model, "--ratings", file, "-n", 4, "--as", "json")
        expected = learn.recommend(ratings={3: plays, 8: plays}, n=4)["item"].tolist()
        assert code == 0 and [row["item"] for row in json.loads(out)] == expected, (text, err)
    file.write_text("user,item\n1,3\n2,8\n")
    code, _, err = collab("recommend", model, "--ratings", file)
    assert code == 2 and "holds 2 users" in err


def test_seen_items_come_only_when_asked_for(collab, trained):
    model = trained / "model.safetensors"
    seen = set(load_learner(model).rated(7)["item"])
    _, out, _ = collab("recommend", model, "--user", 7, "-n", 40, "--as", "json")
    assert not seen & {row["item"] for row in json.loads(out)}
    _, out, _ = collab("recommend", model, "--user", 7, "-n", 40, "--as", "json", "--include-seen")
    assert seen <= {row["item"] for row in json.loads(out)}


def test_similar_takes_an_id_a_title_or_a_part_of_one(collab, trained):
    model = trained / "model.safetensors"
    title = load_learner(model).data.titles([3])[0]
    outs = [collab("similar", word, model, "-n", 3)[1] for word in ("3", title, title.upper())]
    assert outs[0] == outs[1] == outs[2] and f"Nearest to {title} (3):" in outs[0]


def test_evaluate_scores_with_the_ids_of_the_model_whatever_the_split(collab, trained, tmp_path):
    other = tmp_path / "other.csv"
    frame = pd.read_csv(trained / "ratings.csv").rename(columns={"user": "reader", "item": "book", "rating": "stars"})
    frame[["time", "book", "reader", "stars"]].to_csv(other, index=False)
    options = ["--user-col", "reader", "--item-col", "book", "--rating-col", "stars"]
    collab("train", other, *options, "--epochs", 2, "--out", tmp_path / "m")
    code, out, _ = collab("evaluate", tmp_path / "m", "--data", other, "--split", "none")
    learn = load_learner(tmp_path / "m")
    rmse = learn.validate(learn.data.batches(frame))["rmse"]
    assert code == 0 and f"{rmse:.4f}" in out and "720 of these 900 ratings were trained on" in out
    frame.to_csv(tmp_path / "again.csv", index=False)
    code, out, _ = collab("evaluate", tmp_path / "m", "--data", tmp_path / "again.csv", "--split", "last")
    held_out = frame[frame["time"] == frame.groupby("reader")["time"].transform("max")]
    assert f"Error on {len(held_out)} ratings" in out
    assert f"{learn.validate(learn.data.batches(held_out))['rmse']:.4f}" in out


def test_evaluate_works_for_a_model_with_notes_of_its_own(collab, trained, tmp_path):
    learn = load_learner(trained / "model.safetensors")
    learn.notes = {}
    learn.export(tmp_path / "m", source=str(trained / "ratings.csv"))
    assert collab("evaluate", tmp_path / "m")[0] == 0


def test_a_model_that_was_exported_from_python_is_evaluated_on_the_ratings_that_are_named(collab, trained, tmp_path):
    learn = load_learner(trained / "model.safetensors")
    learn.notes = {}
    learn.export(tmp_path / "m")
    code, _, err = collab("evaluate", tmp_path / "m")
    assert code == 2 and f"{tmp_path / 'm'} does not say which ratings it was trained on" in err
    assert "exported from Python" in err and "name the ratings to use with --data FILE" in err
    code, out, err = collab("evaluate", tmp_path / "m", "--data", trained / "ratings.csv")
    assert code == 0 and "Error on 900 ratings" in out and "720 of these 900 ratings were trained on" in out, err
    assert "exported from Python" in " ".join(collab("evaluate", "--help")[1].split())


def test_evaluate_refuses_a_file_that_has_changed(collab, trained, tmp_path):
    file, model = tmp_path / "r.csv", tmp_path / "m"
    frame = pd.read_csv(trained / "ratings.csv")
    frame.to_csv(file, index=False)
    collab("train", file, "--epochs", 1, "--out", model)
    frame.sample(frac=1, random_state=0).to_csv(file, index=False)
    code, _, err = collab("evaluate", model)
    assert code == 2 and "not what the model was trained on any more" in err


def test_a_classifier_goes_through_every_command(collab, trained, tmp_path):
    model, page = tmp_path / "m.safetensors", tmp_path / "page.html"
    code, out, _ = collab("train", trained / "ratings.csv", "--model", "classifier", "--factors", 4, "--epochs", 2,
                          "--items", trained / "films.csv", "--out", model)
    assert code == 0 and re.search(r"\n  classifier +\d", out) and "RatingClassifier" not in out
    code, again, _ = collab("evaluate", model)
    assert code == 0 and again.strip() in out
    assert collab("recommend", "--user", 1, model, "-n", 5)[1].count("Film") > 5
    assert collab("similar", 2, model)[0] == 0
    assert "The score of this model is no sum of parts." in collab("explain", "--user", 1, "--item", 2, model)[1]
    assert collab("report", model, "--out", page)[0] == 0 and "RatingClassifier with 4 factors" in page.read_text()


@pytest.mark.filterwarnings("default")
def test_a_model_that_diverged_is_not_written(collab, trained, tmp_path):
    code, _, err = collab("train", trained / "ratings.csv", "--lr", "1e30", "--epochs", 1, "--out", tmp_path / "m")
    assert code == 2 and "lower --lr" in err and not (tmp_path / "m").exists()


def test_similar_says_which_of_several_titles_it_took(collab, trained):
    for command in (("similar", "film", trained / "model.safetensors"),
                    ("explain", trained / "model.safetensors", "--user", 7, "--item", "film")):
        said = r"Warning: 'film' is taken for Film .*; \d+ others hold it too, such as Film .*\), Film .*\), Film"
        assert re.search(said, collab(*command)[2])


def test_explain_takes_a_score_apart(collab, trained):
    learn = load_learner(trained / "model.safetensors")
    title = learn.data.titles([3])[0]
    code, out, _ = collab("explain", trained / "model.safetensors", "--user", 7, "--item", title)
    assert code == 0 and f"User 7 and {title} (3): predicted {learn.predict(7, 3):.2f}" in out and "item bias" in out
    near = CollabInterpretation(learn).explain(7, 3).nearest["item"].tolist()
    assert re.search(r"\n *item +title +rating +score\n", out)
    told = json.loads(collab("explain", trained / "model.safetensors", "--user", 7, "--item", 3, "--as", "json")[1])
    assert [one["item"] for one in told["nearest"]] == near and [*told["nearest"][0]][:2] == ["item", "title"]
    table = pd.read_csv(StringIO(collab("explain", trained / "model.safetensors", "--user", 7, "--item", 3, "--as",
                                        "csv")[1]), dtype=str)
    assert [*table] == ["kind", "item", "part", "title", "rating", "value"]
    assert table["item"][table["kind"] != "part"].tolist() == ["3", *map(str, near)]
    assert table["part"].dropna().tolist()[:3] == ["mean", "user bias", "item bias"]


def test_the_report_has_the_error_that_training_printed_and_the_users_that_were_asked_for(collab, trained, tmp_path):
    _, evaluated, _ = collab("evaluate", trained / "model.safetensors")
    rmse = re.search(r"dot_bias +(\d\.\d+)", evaluated)[1]
    code, out, _ = collab("report", trained / "model.safetensors", "-o", tmp_path / "r.html", "--user", 7, "--user", 9)
    page = (tmp_path / "r.html").read_text()
    assert code == 0 and str(tmp_path / "r.html") in out
    assert f">{rmse}</td>" in page and [*re.findall(r"<h3>User (\d+),", page)] == ["7", "9"]


def test_a_report_without_the_ratings_of_training_says_so_and_is_written_all_the_same(collab, trained, tmp_path):
    learn = load_learner(trained / "model.safetensors")
    model = learn.export(tmp_path / "m.safetensors", source=str(tmp_path / "gone.csv"))
    code, _, err = collab("report", model, "-o", tmp_path / "r.html")
    assert code == 0 and "gone.csv" in err and "no error to report" in (tmp_path / "r.html").read_text()


REFUSALS = [
    (["evaluate", "{dir}/model.safetensors", "--split", "time"], "trained with --split random"),
    (["train", "nothing.csv"], "nothing.csv"),
    (["report", "{dir}/model.safetensors", "--user", "12345"], "12345 is not among"),
    (["train", "{dir}/ratings.csv", "--user-col", "usr"], "no column 'usr'"),
    (["train", "{dir}/ratings.csv", "--split", "u9"], "u9 is not one of random, time, per-user, last, users, u1"),
    (["train", "{dir}/ratings.csv", "--split", "u1"], "belongs to MovieLens-100K"),
    (["train", "{dir}/ratings.csv", "--bs", "0"], "--bs"),
    (["train", "{dir}/ratings.csv", "--out", "{dir}"], "is a folder"),
    (["train", "{dir}/ratings.csv", "--out", "{dir}/ratings.csv/m"], "not a folder"),
    (["train", "{dir}/ratings.csv", "--duplicates", "some"], "duplicates"),
    (["train", "ml-7k"], "no MovieLens set '7k'"),
    (["evaluate", "{dir}/none.safetensors"], "collab train DATA --out {dir}/none.safetensors"),
    (["train", "{dir}/ratings.csv", "--item-col", "usr"], "say which it is with --item-col"),
    (["train", "{dir}/ratings.csv", "--format", "xls"], "--format 'xls' is not one of"),
    (["evaluate", "{dir}/ratings.csv"], "not a model file"),
    (["recommend", "{dir}/model.safetensors"], "one of --user ID, --ratings FILE and --all"),
    (["recommend", "{dir}/model.safetensors", "--user", "7", "--all"], "one of --user ID, --ratings FILE and --all"),
    (["recommend", "{dir}/model.safetensors", "--all"], "--all and -o FILE belong together"),
    (["recommend", "{dir}/model.safetensors", "--all", "-o", "{dir}/recs.xls"], ".parquet or .csv"),
    (["recommend", "{dir}/model.safetensors", "--ratings", "{dir}/none.csv"], "there is no file"),
    (["recommend", "{dir}/model.safetensors", "--user", "99999"], "user 99999 is not among"),
    (["recommend", "{dir}/model.safetensors", "--user", "bob"], "'bob' is not"),
    (["similar", "no such film", "{dir}/model.safetensors"], "'no such film'"),
]


@pytest.mark.parametrize(("words", "says"), REFUSALS)
def test_bad_input_is_one_clear_line_and_exit_code_2(collab, trained, words, says):
    before = {p.name: p.read_bytes() for p in trained.iterdir()}
    code, out, err = collab(*(word.format(dir=trained) for word in words))
    assert code == 2 and says.format(dir=trained) in " ".join(err.split())
    assert "Traceback" not in err and "epoch" not in out     # before any work
    assert {p.name: p.read_bytes() for p in trained.iterdir()} == before


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line_each(collab, tmp_path):
    pd.DataFrame({"user": [1, 1, 2, 3, 3], "item": [1, 1, 2, 1, 2], "rating": [1, 2, 3, 4, 5]}).to_csv(
        tmp_path / "again.csv", index=False)
    code, _, err = collab("train", tmp_path / "again.csv", "--epochs", 1, "-q", "--out", tmp_path / "m")
    assert code == 0 and err.startswith("Warning: 1 of 5 rows rate a pair again") and err.count("\n") == 1


def test_ctrl_c_while_training_writes_nothing(collab, trained, tmp_path, monkeypatch):
    def interrupted(self, *_, cbs=None):
        self.interrupted = True
    monkeypatch.setattr(CollabLearner, "fit_one_cycle", interrupted)
    code, _, err = collab("train", trained / "ratings.csv", "--out", tmp_path / "m")
    assert code == 130 and not (tmp_path / "m").exists() and "Nothing was written" in err


@pytest.mark.parametrize("model", ["bpr", "softmax", "two_tower", "als", "ease", "infinite_ae"])
def test_models_that_rank_report_how_well_beside_popularity(collab, trained, tmp_path, model):
    options = [] if model in ("ease", "infinite_ae") else ["--factors", 4, "--epochs", 2]
    code, out, err = collab("train", trained / "ratings.csv", "--model", model, *options,
                            "--items", trained / "films.csv", "--out", tmp_path / "m")
    assert code == 0, err
    report = out[out.index("Ranking of 180 ratings held out of training (valid)"):]
    assert all(re.search(rf"^{name} +0\.\d{{4}} +0\.\d{{4}}$", report, re.MULTILINE) for name in
               ("ndcg", "precision", "recall")) and "MostPopular" in report
    code, again, _ = collab("evaluate", tmp_path / "m", "--k", 10)
    assert code == 0 and again.strip() in out
    code, out, _ = collab("recommend", tmp_path / "m", "--user", 7, "-n", 4, "--as", "json")
    assert code == 0 and len(json.loads(out)) == 4


def test_what_was_held_out_of_repeated_clicks_by_time_is_evaluated_again(collab, tmp_path):
    rng = np.random.default_rng(0)
    clicks = pd.DataFrame({"user": rng.integers(0, 12, 400), "item": rng.integers(0, 60, 400), "time": range(400)})
    clicks.to_csv(tmp_path / "clicks.csv", index=False)
    code, out, err = collab("train", tmp_path / "clicks.csv", "--implicit", "--model", "als", "--factors", 3, "--split",
                            "time", "--out", tmp_path / "m")
    assert code == 0, err
    code, again, _ = collab("evaluate", tmp_path / "m")
    assert code == 0 and again.strip() in out


@pytest.mark.parametrize("model", ["als", "bpr"])
def test_a_model_is_written_where_nobody_can_be_ranked(collab, trained, tmp_path, model):
    words = ["--model", model, "--factors", 4, "--epochs", 1, "--split", "users", "--out", tmp_path / "m"]
    code, out, err = collab("train", trained / "ratings.csv", *words)
    assert code == 0 and load_learner(tmp_path / "m").notes["split"] == "users", err
    report, = re.findall(r"^There is no ranking to report: none of \d+ held-out ratings counts "
                         r"\(left out: ratings of unknown users \d+\)\.$", out, re.MULTILINE)
    code, again, _ = collab("evaluate", tmp_path / "m")
    assert code == 0 and again.strip() == report


def test_a_model_is_written_before_the_report(collab, trained, tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no report today")
    monkeypatch.setattr("collab.cli.figures.advice.errors_and_advice", broken)
    code, out, err = collab("train", trained / "ratings.csv", "--epochs", 1, "--out", tmp_path / "m")
    assert code == 2 and "no report today" in err
    assert f"Wrote {tmp_path / 'm'}" in out and load_learner(tmp_path / "m").notes["split"] == "random"


def test_a_part_of_each_users_ratings_can_be_held_out(collab, trained, tmp_path):
    words = ["--split", "per-user", "--valid-pct", 0.25, "--seed", 3, "--model", "ease", "--out", tmp_path / "m"]
    code, out, err = collab("train", trained / "ratings.csv", *words)
    frame = pd.read_csv(trained / "ratings.csv")
    train, valid = per_user_split(0.25, seed=3)(frame)
    assert code == 0 and f"Ranking of {len(valid)} ratings held out of training (valid)" in out, err
    assert load_learner(tmp_path / "m").data.train.n == len(train)
    assert collab("evaluate", tmp_path / "m")[1].strip() in out


def test_what_is_relevant_can_be_what_is_rated_above_a_number(collab, trained):
    model, frame = trained / "model.safetensors", pd.read_csv(trained / "ratings.csv")
    learn = load_learner(model)
    held_out = frame.iloc[random_split(0.2, 0)(frame)[1]]
    expected = replace(evaluate(learn, held_out, threshold=4.0, metrics=("ndcg", "precision", "recall")),
                       name="dot_bias")
    for options in (["--relevant-above", 4], ["--relevant-above", 4, "--k", 10]):
        code, out, _ = collab("evaluate", model, *options)
        assert code == 0 and repr(expected) in out
    code, out, _ = collab("evaluate", model, "--relevant-above", 99)
    assert code == 0 and "ratings not above threshold 180" in out and "Traceback" not in out


def test_a_model_of_ratings_ranks_if_asked(collab, trained):
    code, out, _ = collab("evaluate", trained / "model.safetensors", "--k", 5)
    assert code == 0 and "Top 5 of" in out and "MostPopular" in out


def test_training_on_choices_without_ratings(collab, trained, tmp_path):
    frame = pd.read_csv(trained / "ratings.csv")
    frame[["user", "item"]].to_csv(tmp_path / "chosen.csv", index=False)
    code, out, err = collab("train", tmp_path / "chosen.csv", "--implicit", "--model", "als", "--out", tmp_path / "m")
    assert code == 0 and "Ranking of 180" in out, err
    assert collab("evaluate", tmp_path / "m")[1].strip() in out
    options = ["--threshold", 3, "--model", "bpr", "--out", tmp_path / "m"]
    code, out, err = collab("train", trained / "ratings.csv", *options)
    assert code == 0 and "Ranking of" in out, err
    code, again, err = collab("evaluate", tmp_path / "m")
    assert code == 0 and again.strip() in out, err


@pytest.mark.filterwarnings("default:.*rate a pair again")
def test_what_is_wrong_with_the_same_rows_is_said_once(collab, trained, tmp_path):
    rows = pd.read_csv(trained / "ratings.csv")
    pd.concat([rows, rows.iloc[:7]]).to_csv(tmp_path / "again.csv", index=False)
    train = ["train", tmp_path / "again.csv", "--epochs", 1, "--factors", 2, "--out", tmp_path / "m"]
    for words in ([*train], [*train, "--test", 0.1], ["compare", *train[1:4], "--models", "dot_bias", "--folds", 2],
                  ["tune", *train[1:], "--trials", 2],
                  ["evaluate", trained / "model.safetensors", "--data", tmp_path / "again.csv"]):
        code, _, err = collab(*words)
        assert code == 0 and err.count("7 of 907 rows rate a pair again") == 1, err
    assert collab(*train)[0] == 0
    code, out, err = collab("evaluate", tmp_path / "m")         # counts what it measures on
    assert code == 0 and not err and "ratings were trained on" in out


@pytest.mark.filterwarnings("default:.*rate a pair again")
def test_pairs_on_both_sides_of_the_split_are_counted_before_training_unless_duplicates_are_chosen(collab, tmp_path):
    rows = pd.DataFrame({"user": [k % 10 for k in range(200)], "item": [k % 7 for k in range(200)],
                         "rating": [k % 5 + 1 for k in range(200)], "timestamp": [*range(10**9, 10**9 + 200)]})
    rows.to_csv(tmp_path / "r.csv", index=False)        # 70 pairs, each two or three times
    options = [tmp_path / "r.csv", "--epochs", 1, "--factors", 2, "--out", tmp_path / "m", "-q"]
    code, out, err = collab("train", *options)
    assert code == 0 and "130 of 200 rows rate a pair again (first: user 0, item 0), and " in err
    n = int(re.search(r"and (\d+) of the 40 ratings held out are of pairs that are trained on too", err)[1])
    assert f"{n} of these 40 ratings were trained on" in collab("evaluate", tmp_path / "m")[1]
    for how, kept in (("last", rows.iloc[-70:]), ("first", rows.iloc[:70]), ("keep", rows)):
        code, out, err = collab("train", *options, "--duplicates", how)
        assert code == 0 and not err and f"train {len(kept) * 4 // 5}, valid {len(kept) // 5}" in out
        code, again, err = collab("evaluate", tmp_path / "m", "-q")
        assert code == 0 and not err and re.sub("^.*trained on: .*\n", "", again).strip() in out
        code, out, _ = collab("check", tmp_path / "r.csv", "--duplicates", how, "-q")
        assert code == 0 and f"--duplicates {how}" in out and "pair again" not in out
    code, _, err = collab("train", *options, "--duplicates", "latest")
    assert code == 2 and "'latest' is not one of ('keep', 'mean', 'first', 'last', 'error')" in err


def test_the_next_command_quotes_an_id_with_spaces(collab, tmp_path):
    users = [f" U{k % 9:03} " for k in range(300)]
    pd.DataFrame({"user": users, "item": np.arange(300) % 40, "rating": np.arange(300) % 5 + 1}).drop_duplicates(
        ["user", "item"]).to_csv(tmp_path / "r.csv", index=False)
    code, out, _ = collab("train", str(tmp_path / "r.csv"), "-q", "--epochs", "1", "--factors", "2", "--out",
                          str(tmp_path / "m.safetensors"))
    line = next(line for line in out.splitlines() if line.startswith("Next: collab "))
    assert code == 0 and line.endswith("--user ' U000 '")
    assert collab(*shlex.split(line)[2:])[0] == 0
