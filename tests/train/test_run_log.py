"""Runs as JSON lines: whole lines that can be read while it runs, one for each epoch, and how the fit ended."""

import json
from datetime import datetime

import pytest
from helpers import cut_at, fit_quietly, line_learner, some_cb

from collab import CancelFit, Checkpoint, CollabDataBunch, JSONLines, collab_learner, synthetic


def lines_of(path):
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_fit_is_a_line_for_its_begin_each_epoch_and_its_end(tmp_path):
    learn, seen = line_learner(lr=0.05), []

    def after_epoch(self):
        seen.append(lines_of(tmp_path / "r.jsonl"))       # while it runs
    fit_quietly(learn, 2, cbs=[JSONLines(tmp_path / "r.jsonl"), some_cb(order=67, after_epoch=after_epoch)])
    begin, first, second, end = lines_of(tmp_path / "r.jsonl")
    assert begin["event"] == "begin" and not begin["resumed"] and begin["epochs"] == 2
    assert (begin["model"], begin["loss"], begin["optimizer"], begin["lr"]) == ("Linear", "mse", "AdamW", 0.05)
    assert (begin["n_parameters"], begin["n_train"], begin["n_valid"], begin["batches_per_epoch"]) == (2, 10, 8, 3)
    for line, row in zip((first, second), learn.recorder.rows):
        assert {name: line[name] for name in row} == row and line["event"] == "epoch"
    assert (end["event"], end["status"], end["error"]) == ("end", "finished", None)
    times = [datetime.fromisoformat(line["time"]) for line in (begin, first, second, end)]
    assert times == sorted(times) and times[0].utcoffset().total_seconds() == 0
    assert [len(lines) for lines in seen] == [2, 3]


@pytest.mark.parametrize(("error", "status", "said"), [
    (KeyboardInterrupt(), "interrupted", None), (CancelFit(), "finished", None),
    (ZeroDivisionError("of seven"), "failed", "ZeroDivisionError: of seven"),
])
def test_the_last_line_says_how_the_fit_ended(error, status, said, tmp_path):
    learn = line_learner([JSONLines(tmp_path / "r.jsonl"), cut_at(4, error)])
    try:
        fit_quietly(learn, 3)
    except ZeroDivisionError:
        assert said
    lines = lines_of(tmp_path / "r.jsonl")
    assert [line["event"] for line in lines] == ["begin", "epoch", "end"]
    assert (lines[-1]["status"], lines[-1]["error"]) == (status, said)


@pytest.mark.parametrize("cut", [4, 5, 7])
def test_a_resumed_fit_goes_on_in_the_same_file_and_repeats_no_epoch(cut, tmp_path):
    log, state = tmp_path / "r.jsonl", tmp_path / "c"
    fit_quietly(line_learner(JSONLines(log)), 1)            # another fit, before
    fit_quietly(line_learner([JSONLines(log), Checkpoint(state), cut_at(cut)]), 4)      # written before after_epoch
    fit_quietly(resumed := line_learner(JSONLines(log)), 4, resume=state)
    lines = lines_of(log)[3:]
    assert [line["epoch"] for line in lines if line["event"] == "epoch"] == [0, 1, 2, 3]
    assert [line["resumed"] for line in lines if line["event"] == "begin"] == [False, True]
    assert [line["status"] for line in lines if line["event"] == "end"] == ["interrupted", "finished"]
    assert [line["train_loss"] for line in lines if line["event"] == "epoch"] == \
        [row["train_loss"] for row in resumed.recorder.rows]


def test_a_fit_that_goes_on_after_another_has_logged_there_still_writes_all_of_its_epochs(tmp_path):
    log, state = tmp_path / "r.jsonl", tmp_path / "c"
    fit_quietly(line_learner([JSONLines(log), Checkpoint(state), cut_at(4)]), 4)
    fit_quietly(line_learner(JSONLines(log)), 5)
    fit_quietly(line_learner(JSONLines(log)), 4, resume=state)
    lines = lines_of(log)
    runs = [line["run"] for line in lines if line["event"] == "begin"]
    assert runs[0] == runs[2] != runs[1]
    for run, n in ((runs[0], 4), (runs[1], 5)):
        assert [line["epoch"] for line in lines if line["event"] == "epoch" and line["run"] == run] == [*range(n)]


def test_a_fit_that_had_no_log_writes_all_that_it_trains(tmp_path):
    log, state = tmp_path / "r.jsonl", tmp_path / "c"
    fit_quietly(line_learner([Checkpoint(state), cut_at(4)]), 4)
    fit_quietly(line_learner(JSONLines(log)), 5)
    fit_quietly(line_learner(JSONLines(log)), 4, resume=state)
    resumed = lines_of(log)[7:]
    assert resumed[0]["event"] == "begin" and {line["run"] for line in resumed} == {resumed[0]["run"]}
    assert [line["epoch"] for line in resumed if line["event"] == "epoch"] == [0, 1, 2, 3]


def test_without_a_run_in_the_checkpoint_the_last_fit_of_the_file_is_continued(tmp_path, monkeypatch):
    log, state = tmp_path / "r.jsonl", tmp_path / "c"
    with monkeypatch.context() as patch:
        patch.setattr(JSONLines, "state_dict", lambda self: {})         # as in the version before
        fit_quietly(line_learner([JSONLines(log), Checkpoint(state), cut_at(7)]), 4)
    log.write_text("".join(json.dumps({k: v for k, v in line.items() if k != "run"}) + "\n" for line in lines_of(log)))
    fit_quietly(line_learner(JSONLines(log)), 4, resume=state)
    assert [line["epoch"] for line in lines_of(log) if line["event"] == "epoch"] == [0, 1, 2, 3]


def test_numbers_that_json_lacks_are_null_and_a_line_that_was_cut_off_stays_apart(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"event": "begin"}\n{"event": "epo')
    bad = some_cb(order=5, after_epoch=lambda self: self.learn.recorder.rows[-1].update(metric=float("nan")))
    fit_quietly(line_learner([JSONLines(tmp_path / "r.jsonl"), bad]), 1)
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert lines[1] == '{"event": "epo' and len(lines) == 5 and json.loads(lines[3])["metric"] is None
    assert "NaN" not in "".join(lines)


def test_the_training_pass_stays_compiled_and_ratings_are_described(tmp_path):
    data = CollabDataBunch.from_df(synthetic(40, 30, 500, seed=0).ratings, seed=0, device="cpu")
    learn = collab_learner(data, n_factors=3, cbs=JSONLines(tmp_path / "r.jsonl"))
    assert "Training: compiled" in learn.summary()
    fit_quietly(learn, 1)
    begin, *_ = lines_of(tmp_path / "r.jsonl")
    assert (begin["n_users"], begin["n_items"], begin["n_factors"], begin["n_train"]) == (40, 30, 3, 400)
    assert begin["model"] == "EmbeddingDotBias" and begin["y_range"] == [0.5, 5.5] and begin["seed"] == 0
    solved = collab_learner(data, "ease", cbs=JSONLines(tmp_path / "s.jsonl"))
    fit_quietly(solved)
    begin, _, end = lines_of(tmp_path / "s.jsonl")
    assert begin["model"] == "EASE" and begin["reg"] == 300 and "lr" not in begin and end["status"] == "finished"
