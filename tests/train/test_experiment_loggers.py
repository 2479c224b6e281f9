"""MLflow, read back from its own store, and Weights & Biases, by a module with its signatures that records calls."""

import sys
import types

import pytest
from helpers import cut_at, fit_quietly, line_learner

from collab import Checkpoint, CollabDataBunch, MLflow, WandB, collab_learner, synthetic

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """MLflow's store of files in a folder of this test."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


def steps(store, run_id, name):
    return [metric.step for metric in store.get_metric_history(run_id, name)]


def test_a_fit_is_a_run_with_parameters_and_a_metric_for_each_epoch(store):
    data = CollabDataBunch.from_df(synthetic(40, 30, 500, seed=0).ratings, seed=0)
    log = MLflow("films", run_name="first", tags={"who": "me"})
    learn = collab_learner(data, "bpr", n_factors=3, cbs=log)
    assert "Training: compiled" in learn.summary()
    fit_quietly(learn, 2)
    run = store.get_run(log.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    assert store.get_experiment(run.info.experiment_id).name == "films" and run.data.tags["who"] == "me"
    assert run.data.params | {"model": "EmbeddingDotBias", "n_factors": "3", "n_users": "40", "n_train": "400",
                              "epochs": "2", "lr": "0.002"} == run.data.params
    assert "ndcg_at_10" in run.data.metrics and "epoch" not in run.data.metrics
    for name in ("train_loss", "valid_loss", "ndcg_at_10"):
        history = store.get_metric_history(log.run_id, name)
        rows = learn.recorder.rows
        assert [m.value for m in history] == [row[name.replace("_at_", "@")] for row in rows]
        assert [m.step for m in history] == [0, 1]
    fit_quietly(learn, 1)
    assert steps(store, log.run_id, "train_loss") == [2] and log.run_id != run.info.run_id
    assert mlflow.active_run() is None


@pytest.mark.parametrize(("error", "status", "tag"), [(KeyboardInterrupt(), "KILLED", "interrupted"),
                                                      (ZeroDivisionError("seven"), "FAILED", "failed")])
def test_a_run_that_is_cut_off_says_so(error, status, tag, store):
    log = MLflow()
    try:
        fit_quietly(line_learner([log, cut_at(4, error)]), 3)
    except ZeroDivisionError:
        assert status == "FAILED"
    run = store.get_run(log.run_id)
    assert run.info.status == status and run.data.tags["collab.status"] == tag
    assert run.data.tags.get("collab.error") == ("ZeroDivisionError: seven" if status == "FAILED" else None)
    assert steps(store, log.run_id, "train_loss") == [0] and mlflow.active_run() is None


def test_a_resumed_fit_continues_its_run_and_repeats_no_step(store, tmp_path):
    state, first, second = tmp_path / "c", MLflow(), MLflow()
    fit_quietly(line_learner([first, Checkpoint(state), cut_at(7)]), 4)
    assert steps(store, first.run_id, "train_loss") == [0, 1]
    fit_quietly(learn := line_learner([second, Checkpoint(state)]), 4, resume=state)
    run = store.get_run(second.run_id)
    assert second.run_id == first.run_id and run.info.status == "FINISHED"
    assert steps(store, run.info.run_id, "train_loss") == [0, 1, 2, 3] and run.data.params["epochs"] == "4"
    assert [m.value for m in store.get_metric_history(run.info.run_id, "train_loss")] == \
        [row["train_loss"] for row in learn.recorder.rows]
    assert len(store.search_runs([run.info.experiment_id])) == 1


def test_an_active_run_is_used_and_left_open_or_gets_a_child(store):
    with mlflow.start_run() as mine:
        log, child = MLflow(), MLflow(nested=True)
        for lr in (0.1, 0.2):
            fit_quietly(line_learner(log, lr=lr), 1)
        assert log.run_id == mine.info.run_id == mlflow.active_run().info.run_id
        fit_quietly(line_learner(child), 1)
        assert mlflow.active_run().info.run_id == mine.info.run_id
    params = store.get_run(mine.info.run_id).data.params
    assert (params["lr"], params["lr.2"]) == ("0.1", "0.2") and "seed" not in params       # it has none
    assert not any(name.endswith(".3") for name in params) and "epochs.2" not in params
    of_child = store.get_run(child.run_id)
    assert of_child.data.tags["mlflow.parentRunId"] == mine.info.run_id and of_child.info.status == "FINISHED"


@pytest.mark.parametrize(("make", "package"), [(MLflow, "mlflow"), (WandB, "wandb")])
def test_a_package_that_is_missing_is_named_when_the_logger_is_made(make, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        make()


# Weights & Biases: the package is not among what tests need, so that a module with its signatures stands in ----------

class Run:
    """What `wandb.Run` is asked for, with the signatures of wandb 0.19 to 0.31."""

    def __init__(self, of, id, given):
        self.of, self.id, self.given = of, id, given
        self.summary, self.defined, self.logged, self.exit_code = {}, {}, [], None
        self.step, self.steps = 0, []
        self.config = types.SimpleNamespace(values={}, update=self._update)

    def _update(self, d, allow_val_change=None):
        assert allow_val_change or not {k for k in d if self.config.values.get(k, d[k]) != d[k]}
        self.config.values |= d

    def define_metric(self, name, step_metric=None, step_sync=None, hidden=None, summary=None, goal=None,
                      overwrite=None):
        self.defined[name] = step_metric

    def log(self, data, step=None, commit=None):
        assert step is None or (step >= self.step and commit)       # wandb drops what comes for a step before
        self.logged.append(data)
        self.summary |= data
        self.steps.append(self.step if step is None else step)
        self.step = self.steps[-1] + 1

    def finish(self, exit_code=None, quiet=None):
        self.exit_code, self.of.run = exit_code, None


@pytest.fixture
def wandb(monkeypatch):
    """A module `wandb` that records its runs, by their ids."""
    made = types.ModuleType("wandb")
    made.run, made.runs = None, {}

    def init(entity=None, project=None, dir=None, id=None, name=None, notes=None, tags=None, config=None, mode=None,
             group=None, job_type=None, resume=None, reinit=None, settings=None):
        id = id or f"run{len(made.runs)}"
        assert resume == ("allow" if id in made.runs else None)
        if resume and mode == "offline":        # what was logged before lies in another folder, which it does not read
            made.runs[f"{id}, first part"] = made.runs.pop(id)
        made.run = made.runs.setdefault(id, Run(made, id, {"project": project, "name": name, "mode": mode}))
        return made.run
    made.init = init
    monkeypatch.setitem(sys.modules, "wandb", made)
    return made


def test_wandb_gets_config_rows_and_an_exit_code(wandb):
    learn = line_learner(WandB("films", name="first", mode="offline"), lr=0.05)
    fit_quietly(learn, 2)
    run = wandb.runs["run0"]
    assert run.given == {"project": "films", "name": "first", "mode": "offline"}
    assert run.config.values["lr"] == 0.05 and run.config.values["epochs"] == 2
    assert run.logged == learn.recorder.rows and wandb.run is None
    assert run.defined == {"epoch": None} | dict.fromkeys(["train_loss", "valid_loss", "seconds"], "epoch")
    assert (run.exit_code, run.summary["status"]) == (0, "finished")


@pytest.mark.parametrize(("error", "code", "status"), [(KeyboardInterrupt(), 255, "interrupted"),
                                                       (ZeroDivisionError("seven"), 1, "failed")])
def test_wandb_is_told_how_the_fit_ended(error, code, status, wandb):
    try:
        fit_quietly(line_learner([WandB(), cut_at(4, error)]), 3)
    except ZeroDivisionError:
        assert code == 1
    run = wandb.runs["run0"]
    assert (run.exit_code, run.summary["status"], len(run.logged)) == (code, status, 1)


def test_wandb_goes_on_with_the_run_of_a_resumed_fit_and_leaves_an_active_one_open(wandb, tmp_path):
    fit_quietly(line_learner([WandB("p"), Checkpoint(tmp_path / "c"), cut_at(7)]), 4)
    fit_quietly(line_learner(WandB("p")), 4, resume=tmp_path / "c")
    run = wandb.runs["run0"]
    assert [row["epoch"] for row in run.logged] == [0, 1, 2, 3] and run.exit_code == 0 and len(wandb.runs) == 1
    mine = wandb.init(project="mine")
    fit_quietly(line_learner(WandB("p")), 1)
    assert wandb.run is mine and mine.exit_code is None and [row["epoch"] for row in mine.logged] == [0]
    assert len(wandb.runs) == 2


def test_a_step_of_wandb_stands_for_one_epoch_where_a_fit_is_resumed_offline(wandb, tmp_path):
    fit_quietly(line_learner([WandB(mode="offline"), Checkpoint(tmp_path / "c"), cut_at(7)]), 4)
    fit_quietly(line_learner([WandB(mode="offline"), Checkpoint(tmp_path / "c")]), 4, resume=tmp_path / "c")
    first, second = wandb.runs["run0, first part"], wandb.runs["run0"]
    assert [row["epoch"] for row in first.logged] == first.steps == [0, 1]
    assert [row["epoch"] for row in second.logged] == second.steps == [1, 2, 3] and second.exit_code == 0
    assert second.logged[0]["train_loss"] == first.logged[1]["train_loss"]     # the state is that before its row
