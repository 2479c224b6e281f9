"""RunLog, a fit as begin, epochs and end, for logs of any kind; JSONLines, which writes these as lines of a file."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import not_a_folder, plain_value
from ..callback import Callback, State
from .order import Order
from .resume import Resume
from .trackers import needs_recorder

STATUS = ("finished", "interrupted", "failed")


class RunLog(Callback):
    """Tells of a fit in three methods that a log of its own kind defines: `begin`, once; `log`, after each epoch;
    `end`, once, however the fit ends.

    It listens by epoch, so that a compiled training pass stays compiled. A fit that is refused is not told of. A
    resumed fit begins when its state is put back, and epochs that the log has already are not logged again; it finds
    their last one by what `begin` returns."""

    order = Order.LOGGER
    main_only = True
    begun = False
    logged = -1         # the last epoch of the learner's history that the log has

    def begin(self, facts: Mapping[str, Any], resumed: bool) -> int:
        """A fit begins, with the learner's `facts` and its "epochs"; it goes on from a checkpoint if `resumed`. Returns
        the last epoch that the log has of this fit, -1 for none."""
        raise NotImplementedError

    def log(self, row: Mapping[str, float]) -> None:
        """An epoch has ended; `row` is that of the history: epoch, train_loss, ..., seconds."""
        raise NotImplementedError

    def end(self, status: str, error: BaseException | None) -> None:
        """The fit has ended, with a status of `STATUS`, and the error that made it fail."""
        raise NotImplementedError

    def before_fit(self) -> None:
        needs_recorder(self)
        self.begun, self.logged = False, -1

    def before_epoch(self) -> None:
        if not any(isinstance(cb, Resume) and cb.state for cb in self.learn.cbs):
            self._begin()

    def after_train(self) -> None:
        self._begin()       # of a resumed fit, whose state is there now

    def after_epoch(self) -> None:
        self._begin()
        row = self.learn.recorder.rows[-1]
        if row["epoch"] > self.logged:
            self.logged = int(row["epoch"])
            self.log(row)

    def cleanup_fit(self) -> None:
        if self.begun:
            self.begun, error = False, self.learn.run.cut_off
            stopped = isinstance(error, KeyboardInterrupt)
            self.end(STATUS[0 if error is None else 1 if stopped else 2], None if stopped else error)

    def _begin(self) -> None:
        if not self.begun:
            resumed = any(isinstance(cb, Resume) for cb in self.learn.cbs)
            self.logged = self.begin({**self.learn.facts(), "epochs": self.learn.n_epochs}, resumed)
            self.begun = True       # not earlier: what could not begin has no end


class JSONLines(RunLog):
    """Appends the state of the run to the file `path`, one JSON object a line, which can be read while it runs:

        {"event": "begin", "run": "1f0c", "time": ..., "resumed": false, "epochs": 5, "model": ..., ...}
        {"event": "epoch", "run": "1f0c", "time": ..., "epoch": 0, "train_loss": 0.94, "valid_loss": 0.92, ...}
        {"event": "end", "run": "1f0c", "time": ..., "status": "finished" or "interrupted" or "failed", "error": null}

    Times are ISO 8601, UTC. Numbers that are not finite are null. Each line is written whole, by one call, and flushed;
    later fits, also of other learners, follow in the same file, each with a `run` of its own. A resumed fit keeps that
    which the checkpoint has, and does not repeat epochs that the file has of it.
    Raises DataError, before training, for a file that holds something else."""

    def __init__(self, path: str | Path = "run.jsonl"):
        self.path = Path(path)
        self.run: str | None = None         # by which lines of a fit are known, other fits between them

    def before_fit(self) -> None:
        super().before_fit()
        self.run = None
        not_a_folder(self.path)
        self._lines()

    def begin(self, facts: Mapping[str, Any], resumed: bool) -> int:
        before = self._lines() if resumed else []
        if self.run is not None:
            before = [line for line in before if line.get("run") == self.run]
        else:                               # of the version before, which wrote no run
            before = [line for line in before if "run" not in line]
            before = before[next((k for k in range(len(before) - 1, -1, -1) if before[k].get("event") == "begin"
                                  and not before[k].get("resumed")), len(before)):]
            self.run = uuid.uuid4().hex
        self._write("begin", resumed=resumed, **facts)
        return max((int(line["epoch"]) for line in before if line.get("event") == "epoch"), default=-1)

    def state_dict(self) -> State:
        return {"run": self.run}

    def load_state_dict(self, state: State) -> None:
        self.run = state.get("run")

    def log(self, row: Mapping[str, float]) -> None:
        self._write("epoch", **row)

    def end(self, status: str, error: BaseException | None) -> None:
        self._write("end", status=status, error=None if error is None else f"{type(error).__name__}: {error}")

    def _write(self, event: str, **values: Any) -> None:
        line = {"event": event, "run": self.run, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_finite(line), ensure_ascii=False, allow_nan=False, default=plain_value) + "\n"
        with open(self.path, "ab", buffering=0) as file:
            if file.tell() and self._cut_off():
                text = "\n" + text
            file.write(text.encode(errors="backslashreplace"))
            os.fsync(file.fileno())

    def _cut_off(self) -> bool:
        """Whether the last line lacks its end, as when a disk was full."""
        with open(self.path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def _lines(self) -> list[dict[str, Any]]:
        """The lines of the file, without one that was cut off."""
        lines = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else ():
            try:
                lines.append(json.loads(line))
            except ValueError:
                lines.append(None)
        if lines and not any(isinstance(line, dict) and "event" in line for line in lines):
            raise DataError(f"{self.path} is not a log of runs, one JSON object a line; log to another file")
        return [line for line in lines if isinstance(line, dict)]


def _finite(value: Any) -> Any:
    """The value, with None for numbers that are not finite, which JSON lacks."""
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
