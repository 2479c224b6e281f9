"""collab tune, and what collab train holds out for the end."""

import json
import re

import pytest

from collab import evaluate, load_learner
from collab.cli.read_again import held_out as held_out_of
from collab.select import tuning

TUNE = ["tune", "{dir}/ratings.csv", "--model", "als_explicit", "--trials", 2, "--factors", 4, "--epochs", 3,
        "--out", "{out}/m.safetensors"]


@pytest.fixture
def run(collab, trained, tmp_path):
    """Run a command line in which {dir} is the folder of ratings and {out} one of the test."""
    return lambda *words: collab(*(str(word).format(dir=trained, out=tmp_path) for word in words))


def test_a_tuned_model_is_a_file_like_any_other(run, tmp_path):
    code, out, err = run(*TUNE)
    assert code == 0 and not err
    assert "2 trials of als_explicit" in out and "the default recipe" in out and "144 others" in out
    notes = load_learner(tmp_path / "m.safetensors").notes
    assert notes["tuned"]["trials"] == 2 and notes["tuned"]["settings"]["n_factors"] == 4
    code, evaluated, _ = run("evaluate", "{out}/m.safetensors")
    assert code == 0 and "Error on 180 ratings held out of training (valid):\n" in evaluated
    assert evaluated.strip() in out
    assert run("recommend", "{out}/m.safetensors", "--user", 7)[0] == 0


def test_json_is_one_document_with_every_trial(run, tmp_path):
    code, out, err = run(*TUNE, "--as", "json", "-q")
    said = json.loads(out)
    assert code == 0 and not err and said["model"] == str(tmp_path / "m.safetensors")
    assert len(said["trials"]) == 2 and said["tuned"]["metric"] == "rmse" and len(said["comparison"]) == 2
    assert said["tuned"]["settings"]["n_factors"] == 4 and said["errors"][-1]["model"] == "als_explicit"


def test_a_study_goes_on_from_its_file_and_not_for_something_else(run):
    study = ["--resume", "{out}/study.db"]
    assert run(*TUNE, *study)[0] == 0
    more = [3 if word == 2 else word for word in TUNE]
    code, out, _ = run(*more, *study)
    assert code == 0 and "3 trials of als_explicit" in out
    code, _, err = run(*TUNE, *study, "--seed", 1)
    assert code == 2 and "holds a study of other ratings, or another split of them, another seed" in err


@pytest.mark.parametrize("words, says", [
    (["--metric", "accuracy"], "--metric 'accuracy' is not one of rmse, mae"),
    (["--valid-pct", 0], "leaves nothing to say on whether tuning helped"),
    (["--bs", 64], "is solved, not trained step by step, and takes no --bs"),
    (["--test", "none.csv"], "--test none.csv is neither a fraction, such as 0.1, nor a file"),
    (["--test", "0,2"], "--test 0,2 is neither a fraction, such as 0.1, nor a file; write 0.2"),
    (["--test", 1.5], "--test 1.5: a fraction is above 0 and below 1"),
    (["--split", "last", "--test", 0.1], "--split last decides by itself what is held out")])
def test_what_cannot_be_tuned_is_refused_in_a_line(run, tmp_path, words, says):
    code, _, err = run(*TUNE, *words)
    assert code == 2 and says in err and len(err.splitlines()) == 1 and not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize("finished", [0, 1])
def test_ctrl_c_writes_no_model_and_says_how_to_go_on(run, monkeypatch, tmp_path, finished):
    calls = []

    def stop(*args):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return tried(*args)
    tried = tuning._tried
    monkeypatch.setattr(tuning, "_tried", stop)
    monkeypatch.setattr(tuning, "_report", None)        # nothing is trained after Ctrl-C
    code, _, err = run(*TUNE, "--resume", "{out}/study.db")
    assert (code, len(err.splitlines())) == (130, 1) and len(calls) == finished + 1
    assert f"nothing was written to {tmp_path}/m.safetensors. The trials so far are in" in err and "--resume" in err
    assert not (tmp_path / "m.safetensors").exists()
    monkeypatch.undo()
    code, out, _ = run(*TUNE, "--resume", "{out}/study.db")
    assert code == 0 and "2 trials of als_explicit" in out


@pytest.mark.parametrize("split", ["random", "time", "per-user"])
def test_with_a_test_part_the_model_is_trained_on_all_else_and_evaluated_on_it(run, tmp_path, split):
    code, out, err = run(*TUNE, "--test", 0.1, "--split", split)
    assert code == 0 and not err and "training and validation ratings" in out
    learn = load_learner(tmp_path / "m.safetensors")
    assert learn.data.schema.time == "time"
    code, evaluated, _ = run("evaluate", "{out}/m.safetensors")
    n = int(re.findall(r"Error on (\d+) ratings", evaluated)[0])
    assert code == 0 and evaluated.strip() in out and learn.data.train.n == 900 - n
    code, evaluated, err = run("evaluate", "{out}/m.safetensors", "--part", "valid")
    assert "Error on" not in evaluated and "m.safetensors was trained on it by collab tune; training held out" in err


# What is held out for the end ---------------------------------------------------------------------------------------

def errors(out):
    return re.findall(r"Error on (\d+) ratings", out), re.findall(r"dot_bias +(\.?\d\S+)", out)


@pytest.mark.parametrize("split", ["random", "time", "per-user"])
def test_the_test_part_is_reported_at_the_end_and_by_evaluate(run, tmp_path, split):
    train = ["train", "{dir}/ratings.csv", "-q", "--epochs", 1, "--factors", 2, "--bs", 64, "--split", split,
             "--out", "{out}/m.safetensors"]
    code, out, err = run(*train, "--test", 0.1)
    assert code == 0 and not err and out.count("held out for the end") == 1
    (n_valid, n_test), (valid, test) = errors(out)
    assert errors(run("evaluate", "{out}/m.safetensors")[1]) == ([n_test], [test])
    assert errors(run("evaluate", "{out}/m.safetensors", "--part", "test")[1]) == ([n_test], [test])
    assert errors(run("evaluate", "{out}/m.safetensors", "--part", "valid")[1]) == ([n_valid], [valid])
    learn = load_learner(tmp_path / "m.safetensors")
    assert learn.data.train.n + int(n_valid) + int(n_test) == 900
    if split == "random":
        assert (n_valid, n_test) == ("162", "90")


def test_a_file_may_be_what_is_held_out_for_the_end(run, trained, tmp_path):
    lines = (trained / "ratings.csv").read_text().splitlines()
    (tmp_path / "late.csv").write_text("\n".join([lines[0], *lines[-50:]]))
    (tmp_path / "early.csv").write_text("\n".join(lines[:-50]))
    code, out, _ = run("train", "{out}/early.csv", "-q", "--epochs", 1, "--factors", 2, "--test", "{out}/late.csv",
                       "--out", "{out}/m.safetensors")
    assert code == 0 and errors(out)[0] == ["170", "50"]
    assert errors(run("evaluate", "{out}/m.safetensors")[1]) == (["50"], errors(out)[1][1:])


@pytest.mark.filterwarnings("ignore:.* test ratings are of a user or an item")
@pytest.mark.parametrize("test", [0.2, "file"])
@pytest.mark.parametrize("valid", [True, False])
def test_what_the_other_part_holds_is_no_miss_of_a_ranking(run, trained, tmp_path, test, valid):
    lines = (trained / "ratings.csv").read_text().splitlines()
    (tmp_path / "late.csv").write_text("\n".join([lines[0], *lines[-150:]]))
    (tmp_path / "early.csv").write_text("\n".join(lines[:-150]))
    data, held_out = ("{dir}/ratings.csv", test) if test != "file" else ("{out}/early.csv", "{out}/late.csv")
    code, out, _ = run("train", data, "--implicit", "--threshold", 3, "--model", "als", "--epochs", 2, "--factors", 4,
                       "--test", held_out, "--valid-pct", 0.2 if valid else 0, "--out", "{out}/m.safetensors")
    ndcg = re.findall(r"^ndcg +(\S+)", out, re.MULTILINE)
    assert code == 0 and len(ndcg) == 1 + valid
    parts = ["valid", "test"] if valid else ["test"]
    told = [run("evaluate", "{out}/m.safetensors", "--part", part)[1] for part in parts]
    assert [re.findall(r"^ndcg +(\S+)", one, re.MULTILINE) for one in told] == [[one] for one in ndcg]
    assert run("evaluate", "{out}/m.safetensors")[1] == told[-1]
    learn = load_learner(tmp_path / "m.safetensors")
    found, _, other = held_out_of(learn, tmp_path / "m.safetensors", part="test")
    assert (other is not None) is valid
    learn.data.valid, learn.data.test = other and other(), found
    with_misses, without = (evaluate(learn, found, exclude=exclude).summary["ndcg"]
                            for exclude in ("train", ("train", "valid")))
    assert f"{without:.4f}" == ndcg[-1] and bool(with_misses < without) is valid


def test_a_part_that_was_not_held_out_is_refused(run):
    assert "was trained without --test" in run("evaluate", "{dir}/model.safetensors", "--part", "test")[2]
    assert "--part train is not one of valid, test" in run("evaluate", "{dir}/model.safetensors", "--part", "train")[2]
    code, out, _ = run("evaluate", "{dir}/model.safetensors", "--part", "valid")
    assert code == 0 and "Error on 180 ratings held out of training (valid):" in out


def test_the_parts_that_there_are_are_named_where_one_is_refused(run, trained, tmp_path):
    train = "train", "{dir}/ratings.csv", "-q", "--epochs", 1, "--factors", 2, "--out"
    assert run(*train, "{out}/both", "--test", 0.1)[0] == run(*train, "{out}/none", "--valid-pct", 0)[0] == 0
    (tmp_path / "few.csv").write_text("\n".join((trained / "ratings.csv").read_text().splitlines()[:20]))
    how = "for a part test train with --test, a fraction such as 0.1 or a file"
    for model, words, said in (
            ("{dir}/model.safetensors", ["--part", "test"], f"held out the part valid alone; {how}\n"),
            ("{dir}/model.safetensors", ["--part", "test", "--split", "none"], "--part test does not go with --split "
             "none, which measures all rows: leave one of the two out; training held out the part valid alone; "
             f"{how}\n"),
            ("{out}/both", ["--part", "test", "--split", "none"], "two out; training held out valid and test\n"),
            ("{out}/none", ["--part", "valid"], f"was trained with --valid-pct 0; training held out nothing; {how}\n"),
            ("{out}/both", ["--part", "valid", "--data", "{out}/few.csv"], "few.csv holds others; leave it out\n")):
        code, out, err = run("evaluate", model, *words)
        assert code == 2 and not out and err.endswith(said), err


def test_evaluate_says_which_part_it_measured(run):
    part = "ratings held out for the end (test):"
    assert run("train", "{dir}/ratings.csv", "-q", "--epochs", 1, "--factors", 2, "--test", 0.1, "--out",
               "{out}/m.safetensors")[0] == 0
    found = {words: run("evaluate", "{out}/m.safetensors", *words) for words in (
        (), ("--part", "valid"), ("--data", "{dir}/ratings.csv"), ("--data", "{dir}/ratings.csv", "--split", "none"))}
    for words, (which, said) in zip(found, [("test", part), ("valid", "ratings held out of training (valid):"),
                                            ("test", part), (None, "Error on 900 ratings:")]):
        assert said in found[words][1]
        assert json.loads(run("evaluate", "{out}/m.safetensors", *words, "--as", "json")[1])["part"] == which
    assert f"Ranking of 90 {part}" in run("evaluate", "{out}/m.safetensors", "--k", 3)[1]
