"""Logs: nothing that was written is lost, nothing is written twice, and a fit that is refused writes nothing."""

import pytest
from helpers import Batchwise, fit_quietly, interrupted_at, line_learner, raise_at, rows_of, small_data

from collab import (
    L2,
    RMSE,
    Callback,
    CancelValidate,
    Checkpoint,
    CollabDataBunch,
    CSVLogger,
    DataError,
    JSONLines,
    LossTerms,
    ShowGraph,
    TensorBoard,
    collab_learner,
    synthetic,
)
from collab.metrics import WholeSet


def cut_off(epoch, i):
    """Ctrl-C at a batch of training, after its checkpoint; an epoch has three of training and two of validation."""
    return interrupted_at("after_batch", 5 * epoch + i + 1)


def appending(path):
    return CSVLogger(path, append=True)


# What holds of every logger ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("logger", [CSVLogger, JSONLines, TensorBoard])
def test_a_fit_that_is_refused_writes_nothing(logger, tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(ZeroDivisionError):
        fit_quietly(line_learner([logger(tmp_path / "log"), raise_at("before_fit", ZeroDivisionError(), order=99)]), 1)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(("logger", "text", "says"), [
    (appending, "epoch,a\n1,2,3\n", "a line of 3 cells under 2 columns"),
    (appending, "a,b,a\n1,2,3\n", "two columns 'a'"),
    (JSONLines, "epoch,loss\n0,1\n", "is not a log of runs"), (JSONLines, "[1, 2]\n", "is not a log of runs"),
    (JSONLines, '{"a": 1}\n', "is not a log of runs")])
def test_a_file_of_another_kind_is_refused_before_training_and_left_alone(logger, text, says, tmp_path):
    (tmp_path / "h.csv").write_text(text)
    learn = line_learner(logger(tmp_path / "h.csv"))
    with pytest.raises(DataError, match=says):
        fit_quietly(learn, 1)
    assert not learn.recorder.rows and (tmp_path / "h.csv").read_text() == text


# A CSV file -------------------------------------------------------------------------------------------------------

def test_a_column_that_comes_later_is_empty_before(tmp_path):
    class NoValidation(Callback):
        def before_validate(self):
            if self.learn.epoch == 0:
                raise CancelValidate
    fit_quietly(line_learner([NoValidation(), CSVLogger(tmp_path / "h.csv")], metrics=RMSE()), 2)
    first, second = rows_of(tmp_path / "h.csv")
    assert list(first) == ["epoch", "train_loss", "seconds", "valid_loss", "rmse"]
    assert first["valid_loss"] == first["rmse"] == "" and float(second["rmse"]) > 0 and first["epoch"] == "0"


def test_a_second_fit_may_have_terms(tmp_path):
    data = CollabDataBunch.from_df(synthetic(n_users=30, n_items=20, n_ratings=200).ratings, seed=0)
    learn = collab_learner(data, "dot", n_factors=2, cbs=CSVLogger(tmp_path / "h.csv"))
    fit_quietly(learn, 1)
    fit_quietly(learn, 1, cbs=LossTerms(L2(0.1)))
    first, second = rows_of(tmp_path / "h.csv")
    assert first["l2"] == "" and float(second["l2"]) > 0 and first["train_loss"] and second["train_loss"]


def test_names_with_commas_quotes_and_line_ends_come_back(tmp_path):
    names = ["error, within 1", 'the "best"', "två\nrader"]
    metrics = [WholeSet(lambda pred, target, k=k: float(k), name) for k, name in enumerate(names)]
    for _ in range(2):
        fit_quietly(line_learner(CSVLogger(tmp_path / "h.csv", append=True), metrics=metrics), 1)
    rows = rows_of(tmp_path / "h.csv")
    assert [[row[name] for name in names] for row in rows] == [["0.0", "1.0", "2.0"]] * 2
    assert all(None not in row for row in rows)


def test_lines_of_other_columns_are_kept_when_one_is_appended(tmp_path):
    (tmp_path / "h.csv").write_text("epoch,note\n0,\"a, b\"\n1\n", encoding="utf-8-sig")
    fit_quietly(line_learner(CSVLogger(tmp_path / "h.csv", append=True)), 1)
    rows = rows_of(tmp_path / "h.csv")
    assert [(row["epoch"], row["note"]) for row in rows] == [("0", "a, b"), ("1", ""), ("0", "")]
    assert rows[0]["train_loss"] == "" and rows[2]["train_loss"] != ""


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError, match="give the name of a file in it"):
        fit_quietly(line_learner(CSVLogger(tmp_path)), 1)


def test_the_log_is_written_with_its_first_row(tmp_path):
    (tmp_path / "h.csv").write_text("precious\n")
    fit_quietly(line_learner([CSVLogger(tmp_path / "h.csv"), cut_off(0, 1)]), 1)
    assert (tmp_path / "h.csv").read_text() == "precious\n"
    fit_quietly(line_learner(CSVLogger(tmp_path / "h.csv")), 1)
    assert len(rows_of(tmp_path / "h.csv")) == 1


def test_a_log_of_several_learners_has_the_epochs_of_all(tmp_path):
    log = CSVLogger(tmp_path / "h.csv")
    first, second = line_learner(lr=0.1), line_learner(lr=0.2)
    for learn, n in ((first, 2), (second, 1), (first, 1)):
        fit_quietly(learn, n, cbs=log)
    rows = rows_of(tmp_path / "h.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "0", "2"]
    assert [float(row["train_loss"]) for row in rows] == [first.recorder.rows[0]["train_loss"],
                                                          first.recorder.rows[1]["train_loss"],
                                                          second.recorder.rows[0]["train_loss"],
                                                          first.recorder.rows[2]["train_loss"]]


def test_a_resumed_log_keeps_what_was_there_before(tmp_path):
    log, state = tmp_path / "h.csv", tmp_path / "c"
    fit_quietly(line_learner(CSVLogger(log), metrics=RMSE()), 1)
    fit_quietly(line_learner([CSVLogger(log, append=True), Checkpoint(state, every=1), cut_off(2, 1)]), 4)
    fit_quietly(line_learner(CSVLogger(log, append=True)), 4, resume=state)
    rows = rows_of(log)
    assert [row["epoch"] for row in rows] == ["0", "0", "1", "2", "3"]
    assert [row["rmse"] != "" for row in rows] == [True] + [False] * 4


# TensorBoard ------------------------------------------------------------------------------------------------------

def steps_of(folder, tag):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return [event.step for event in reader.EventAccumulator(str(folder)).Reload().Scalars(tag)]


def test_a_second_logger_goes_on_with_the_batches_and_the_epochs(tmp_path):
    learn = line_learner()
    fit_quietly(learn, 2, cbs=TensorBoard(tmp_path / "a", every=1))
    fit_quietly(learn, 1, cbs=TensorBoard(tmp_path / "b", every=2))
    assert steps_of(tmp_path / "a", "batch/loss") == [0, 1, 2, 3, 4, 5]
    assert steps_of(tmp_path / "b", "batch/loss") == [6, 8] and steps_of(tmp_path / "b", "epoch/valid_loss") == [2]


def test_a_resumed_fit_writes_each_step_once(tmp_path):
    board, state = tmp_path / "board", tmp_path / "c"
    fit_quietly(line_learner([TensorBoard(board, every=1), Checkpoint(state, every=2), cut_off(2, 0)]), 4)
    assert steps_of(board, "batch/loss") == list(range(7))          # and the checkpoint is one batch behind
    fit_quietly(resumed := line_learner(TensorBoard(board, every=1)), 4, resume=state)
    assert steps_of(board, "batch/loss") == steps_of(board, "batch/lr") == list(range(12))
    assert steps_of(board, "epoch/train_loss") == [0, 1, 2, 3] and len(resumed.recorder.losses) == 12


def test_every_0_is_refused():
    with pytest.raises(ValueError, match="every must be at least 1"):
        TensorBoard(every=0)


# What each logger writes --------------------------------------------------------------------------------------------

def test_the_csv_log_is_the_frame(tmp_path):
    learn = line_learner(CSVLogger(tmp_path / "logs" / "h.csv"), metrics=RMSE())
    fit_quietly(learn, 2)
    fit_quietly(learn, 1)                                   # goes on in the same file
    learn.validate()                                        # looking writes nothing
    learn.get_preds()
    logged = rows_of(tmp_path / "logs" / "h.csv")
    frame = learn.recorder.frame()
    assert [list(row) for row in logged] == [list(frame)] * 3
    for name in frame:
        assert [float(row[name]) for row in logged] == frame[name].tolist()


def test_the_csv_log_begins_anew_or_goes_on(tmp_path):
    for append, n in ((False, 1), (False, 1), (True, 2)):
        fit_quietly(line_learner(CSVLogger(tmp_path / "h.csv", append=append)), 1)
        assert len(rows_of(tmp_path / "h.csv")) == n


def test_tensorboard_has_every_epoch(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    learn = line_learner(TensorBoard(tmp_path, every=2))
    fit_quietly(learn, 2)
    events = reader.EventAccumulator(str(tmp_path)).Reload()
    losses = [event.value for event in events.Scalars("epoch/valid_loss")]
    assert losses == pytest.approx(learn.recorder.frame()["valid_loss"].tolist())
    assert [event.step for event in events.Scalars("batch/loss")] == [0, 2, 4]


def test_tensorboard_notes_the_same_batches_of_a_compiled_pass(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = []
    for name, cbs in (("compiled", []), ("loop", [Batchwise()])):
        learn = collab_learner(small_data(bs=16), "dot", n_factors=3, seed=1)
        board = TensorBoard(tmp_path / name, every=7)
        for _ in range(2):      # in chunks that begin anywhere
            fit_quietly(learn, 2, cbs=[board, Checkpoint(tmp_path / f"{name}.c", every=5), *cbs])
        events = reader.EventAccumulator(str(tmp_path / name)).Reload()
        found.append({tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in ("batch/loss", "batch/lr")})
    for tag, (compiled, loop) in {tag: (found[0][tag], found[1][tag]) for tag in found[0]}.items():
        assert [step for step, _ in compiled] == [step for step, _ in loop] == [*range(0, learn.recorder.n_batches, 7)]
        assert [v for _, v in compiled] == pytest.approx([v for _, v in loop], rel=1e-5), tag


def test_tensorboard_without_its_package_says_what_to_install(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard$"):
        fit_quietly(line_learner(TensorBoard()), 1)


def test_the_graph_holds_both_losses():
    learn = line_learner(graph := ShowGraph(always=True))
    fit_quietly(learn, 3)
    training, valid = graph.figure.axes[0].get_lines()
    assert len(training.get_xdata()) == 9
    assert valid.get_ydata().tolist() == learn.recorder.frame()["valid_loss"].tolist()


def test_the_csv_log_of_a_resumed_fit_has_every_epoch(tmp_path):
    log, state = tmp_path / "h.csv", tmp_path / "c"
    fit_quietly(line_learner([CSVLogger(log), Checkpoint(state, every=1)]), 4, cbs=cut_off(2, 1))
    fit_quietly(resumed := line_learner(CSVLogger(log)), 4, resume=state)
    assert [int(row["epoch"]) for row in rows_of(log)] == [0, 1, 2, 3] == resumed.recorder.frame()["epoch"].tolist()


def test_the_csv_log_leaves_a_cell_empty_and_never_joins_two_rows(tmp_path):
    class NoValidation(Callback):
        def before_validate(self):
            if self.learn.epoch == 1:
                raise CancelValidate
    fit_quietly(line_learner([NoValidation(), CSVLogger(tmp_path / "h.csv")]), 3)
    assert [row["valid_loss"] == "" for row in rows_of(tmp_path / "h.csv")] == [False, True, False]
    text = (tmp_path / "h.csv").read_text()
    (tmp_path / "h.csv").write_text(text.rstrip("\n"))          # as an editor may leave it
    fit_quietly(line_learner(CSVLogger(tmp_path / "h.csv", append=True)), 1)
    assert (tmp_path / "h.csv").read_text().startswith(text) and len(rows_of(tmp_path / "h.csv")) == 4
