"""collab tune, and what collab train holds out for the end."""

import re

import pytest

from collab import load_learner

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
    assert code == 0 and "Error on 180 ratings" in evaluated and evaluated.strip() in out
    assert run("recommend", "{out}/m.safetensors", "--user", 7)[0] == 0


def test_a_study_goes_on_from_its_file_and_not_for_something_else(run):
    study = ["--resume", "{out}/study.db"]
    assert run(*TUNE, *study)[0] == 0
    more = [3 if word == 2 else word for word in TUNE]
    code, out, _ = run(*more, *study)
    assert code == 0 and "3 trials of als_explicit" in out
    code, _, err = run(*TUNE, *study, "--seed", 1)
    assert code == 2 and "holds a study of other ratings, or another split of them, another seed" in err


@pytest.mark.parametrize("words, says", [
    (["--metric", "accuracy"], "metric 'accuracy' is not one of rmse, mae"),
    (["--valid-pct", 0], "leaves nothing to say on whether tuning helped"),
    (["--bs", 64], "is solved, not trained step by step, and takes no --bs"),
    (["--test", "none.csv"], "--test none.csv is neither a fraction, such as 0.1, nor a file"),
    (["--test", 1.5], "--test 1.5: a fraction is above 0 and below 1"),
    (["--split", "last", "--test", 0.1], "--split last decides by itself what is held out")])
def test_what_cannot_be_tuned_is_refused_in_a_line(run, tmp_path, words, says):
    code, _, err = run(*TUNE, *words)
    assert code == 2 and says in err and len(err.splitlines()) == 1 and not (tmp_path / "m.safetensors").exists()


def test_ctrl_c_writes_no_model_and_says_how_to_go_on(run, monkeypatch, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("collab.select.tuning._tried", stop)
    code, _, err = run(*TUNE, "--resume", "{out}/study.db")
    assert code == 130 and "Nothing was written" in err and "--resume" in err
    assert not (tmp_path / "m.safetensors").exists()


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
    assert "Error on" not in evaluated


# What is held out for the end ---------------------------------------------------------------------------------------

def errors(out):
    return re.findall(r"Error on (\d+) ratings", out), re.findall(r"EmbeddingDotBias +(\.?\d\S+)", out)


@pytest.mark.parametrize("split", ["random", "time", "per-user"])
def test_the_test_part_is_reported_at_the_end_and_by_evaluate(run, tmp_path, split):
    train = ["train", "{dir}/ratings.csv", "-q", "--epochs", 1, "--factors", 2, "--bs", 64, "--split", split,
             "--out", "{out}/m.safetensors"]
    code, out, err = run(*train, "--test", 0.1)
    assert code == 0 and not err and "On the ratings held out for the end:" in out
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


def test_a_part_that_was_not_held_out_is_refused(run):
    assert "was trained without --test" in run("evaluate", "{dir}/model.safetensors", "--part", "test")[2]
    assert "--part train is not one of valid, test" in run("evaluate", "{dir}/model.safetensors", "--part", "train")[2]
    code, out, _ = run("evaluate", "{dir}/model.safetensors", "--part", "valid")
    assert code == 0 and "Error on 180 ratings" in out
