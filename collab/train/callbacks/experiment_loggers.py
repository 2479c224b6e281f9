"""Logs at services that track experiments: MLflow, and Weights & Biases. Each needs its own package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ..callback import State
from .run_log import RunLog

LONGEST = 500       # characters of a parameter that MLflow keeps at any store


class MLflow(RunLog):
    """Logs a fit as a run of MLflow: the learner's facts as parameters, and the columns of every epoch as metrics,
    whose step is the epoch of the learner's history. Where and how is what MLflow is set to
    (`mlflow.set_tracking_uri`, `mlflow.set_experiment`, MLFLOW_TRACKING_URI).

    Every fit is a run of its own, which ends as FINISHED, as KILLED after Ctrl-C, or as FAILED after an error; a fit
    that is resumed from a checkpoint of a fit with this logger continues that run. If a run is active as the fit
    begins, the fit is logged into that run, and the run is left open, since it belongs to the caller; with `nested`, as
    a child of it. How the fit ended is the run's tag "collab.status" as well. A parameter that the run has with another
    value, as of an earlier fit, is logged as "lr.2" and so on. Of names, "@" becomes "_at_" (ndcg_at_10), and what
    MLflow does not take "_".

    Raises ImportError, when it is made, if the package is missing."""

    def __init__(self, experiment: str | None = None, *, run_name: str | None = None,
                 tags: Mapping[str, str] | None = None, nested: bool = False):
        try:
            self.mlflow: Any = import_module("mlflow")
        except ImportError as error:
            raise ImportError("MLflow needs its package: pip install mlflow (or mlflow-skinny)") from error
        self.experiment, self.run_name, self.tags, self.nested = experiment, run_name, dict(tags or {}), nested
        self.run_id: str | None = None      # of the last fit
        self.own = False                    # whether the run is ended with the fit
        self.continued: str | None = None   # the run of the fit that this one goes on from

    def begin(self, facts: Mapping[str, Any], resumed: bool) -> int:
        mlflow, client, kept = self.mlflow, self.mlflow.MlflowClient(), self.continued if resumed else None
        active, self.continued = mlflow.active_run(), None
        self.own = active is None or self.nested
        if self.own:
            run = mlflow.start_run(run_id=kept, nested=active is not None, run_name=None if kept else self.run_name,
                                   experiment_id=None if kept else self._experiment(client))
            self.run_id = run.info.run_id
        else:
            self.run_id = active.info.run_id
        for key, value in self.tags.items():
            client.set_tag(self.run_id, key, value)
        client.set_tag(self.run_id, "collab.status", "running")
        known = client.get_run(self.run_id).data.params
        given = {_name(key): str(value)[:LONGEST] for key, value in facts.items() if value is not None}
        mlflow.log_params({_free(key, value, known): value for key, value in given.items()}, run_id=self.run_id)
        if kept != self.run_id:
            return -1
        return max((metric.step for metric in client.get_metric_history(self.run_id, "train_loss")), default=-1)

    def log(self, row: Mapping[str, float]) -> None:
        metrics = {_name(name): float(value) for name, value in row.items() if name != "epoch"}
        self.mlflow.log_metrics(metrics, step=int(row["epoch"]), run_id=self.run_id)

    def end(self, status: str, error: BaseException | None) -> None:
        client, ends = self.mlflow.MlflowClient(), {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
        client.set_tag(self.run_id, "collab.status", status)
        if error is not None:
            client.set_tag(self.run_id, "collab.error", f"{type(error).__name__}: {error}"[:LONGEST])
        if self.own:
            active = self.mlflow.active_run()
            if active is not None and active.info.run_id == self.run_id:
                self.mlflow.end_run(ends[status])
            else:
                client.set_terminated(self.run_id, ends[status])

    def state_dict(self) -> State:
        return {"run_id": self.run_id if self.own else None}    # a run of the caller's is the one that is active then

    def load_state_dict(self, state: State) -> None:
        self.continued = state["run_id"]

    def _experiment(self, client: Any) -> str | None:
        if self.experiment is None:
            return None
        found = client.get_experiment_by_name(self.experiment)
        return client.create_experiment(self.experiment) if found is None else found.experiment_id


class WandB(RunLog):
    """Logs a fit as a run of Weights & Biases: the learner's facts as its config, and the columns of every epoch, drawn
    over "epoch". `options` are those of `wandb.init`, such as entity=..., name=..., mode="offline".

    Every fit is a run of its own, which ends with exit code 0, with 255 after Ctrl-C, or with 1 after an error; a fit
    that is resumed from a checkpoint of a fit with this logger continues that run, by its id. Offline, wandb writes the
    rest to another folder and does not read the first: its steps are then the epochs, so that none stands for two. If a
    run is active as the fit begins, the fit is logged into that run, which is left open. Its summary has "status".

    Raises ImportError, when it is made, if the package is missing."""

    def __init__(self, project: str | None = None, **options: Any):
        try:
            self.wandb: Any = import_module("wandb")
        except ImportError as error:
            raise ImportError("WandB needs its package: pip install wandb") from error
        self.project, self.options = project, options
        self.run: Any = None
        self.run_id: str | None = None
        self.own = False
        self.continued: str | None = None
        self.apart = False                  # whether wandb has not read the first part of a run that is resumed
        self.defined: set[str] = set()      # metrics of this run that are drawn over the epoch

    def begin(self, facts: Mapping[str, Any], resumed: bool) -> int:
        kept, self.continued = self.continued if resumed else None, None
        self.own, self.defined = self.wandb.run is None, set()
        if self.own:
            known = {"id": kept, "resume": "allow"} if kept else {}
            self.run = self.wandb.init(**{"project": self.project, **self.options, **known})
        else:
            self.run = self.wandb.run
        self.run_id = self.run.id
        self.run.config.update(dict(facts), allow_val_change=True)
        self.run.define_metric("epoch", hidden=True)
        last = self.run.summary.get("epoch") if kept == self.run_id else None
        self.apart = kept == self.run_id and last is None
        return -1 if last is None else int(last)

    def log(self, row: Mapping[str, float]) -> None:
        for name in row:
            if name != "epoch" and name not in self.defined:
                self.run.define_metric(name, step_metric="epoch")
                self.defined.add(name)
        if self.apart:
            self.run.log(dict(row), step=max(self.run.step, int(row["epoch"])), commit=True)
        else:
            self.run.log(dict(row))

    def end(self, status: str, error: BaseException | None) -> None:
        self.run.summary["status"] = status
        if error is not None:
            self.run.summary["error"] = f"{type(error).__name__}: {error}"
        run, self.run = self.run, None
        if self.own:
            run.finish(exit_code={"finished": 0, "interrupted": 255, "failed": 1}[status])

    def state_dict(self) -> State:
        return {"run_id": self.run_id if self.own else None}

    def load_state_dict(self, state: State) -> None:
        self.continued = state["run_id"]


def _name(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", str(name).replace("@", "_at_"))


def _free(key: str, value: str, known: Mapping[str, str]) -> str:
    """The key or, where it has another value, the first of key.2, key.3, ... that has this value or none."""
    free, k = key, 2
    while known.get(free, value) != value:
        free, k = f"{key}.{k}", k + 1
    return free
