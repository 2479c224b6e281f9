"""Callbacks that write the history elsewhere: to a CSV file, to TensorBoard, to a graph in a notebook."""

from __future__ import annotations

import csv
import io
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...environment import in_notebook
from ...errors import DataError
from ...files import not_a_folder, write_bytes
from ..callback import Callback, State
from .order import Order
from .recorder import Recorder
from .resume import Resume
from .trackers import needs_recorder

if TYPE_CHECKING:
    from IPython.display import DisplayHandle
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


class CSVLogger(Callback):
    """Writes one line per epoch to the file `path`, under a header; with `append`, after the lines already there. Later
    fits with the same logger continue the file, and so does a resumed fit. UTF-8.

    The columns are those of all lines: if one is added later, such as by the first validation, earlier lines have an
    empty cell. The file is first written after the first epoch, and each time as a whole or not at all. Raises
    DataError, before training, for a file to `append` to that has lines longer than its header, or two columns of one
    name."""

    order = Order.LOGGER
    main_only = True

    def __init__(self, path: str | Path = "history.csv", append: bool = False):
        self.path, self.append = Path(path), append
        self.before: str | None = None      # the content of the file before these rows
        self.first = 0                      # the first row of the history that is logged
        self.of: Recorder | None = None     # the history

    def before_fit(self) -> None:
        needs_recorder(self)
        not_a_folder(self.path)
        if self.before is None:
            text = self.path.read_text(encoding="utf-8-sig") if self.append and self.path.exists() else ""
            _parsed(text, self.path)
        elif self.of is not self.learn.recorder and self.of is not None:
            text = self._text(self.of)      # of another learner
        else:
            return
        self.before, self.first, self.of = text, len(self.learn.recorder.rows), self.learn.recorder

    def after_epoch(self) -> None:
        write_bytes(self.path, self._text(self.learn.recorder).encode())

    def state_dict(self) -> State:
        return {"before": self.before, "first": self.first}

    def load_state_dict(self, state: State) -> None:
        self.before, self.first, self.of = state["before"], state["first"], self.learn.recorder

    def _text(self, history: Recorder) -> str:
        """The whole file, which is small; so it is right even after a resumed fit has put back the history."""
        lines: list[dict[str, Any]] = [*_parsed(self.before or "", self.path), *history.rows[self.first:]]
        columns = list(dict.fromkeys(name for line in lines for name in line))
        file = io.StringIO(newline="")
        table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
        return file.getvalue()


def _parsed(text: str, path: Path) -> list[dict[str, str]]:
    """The lines of a log as dicts of cells."""
    header, *lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line] or [[]]
    if long := next((line for line in lines if len(line) > len(header)), None):
        raise DataError(f"{path} has a line of {len(long)} cells under {len(header)} columns "
                        f"({', '.join(long[:3])} ...): it is not a log to append to; log to another file")
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise DataError(f"{path} has two columns {twice!r}; log to another file")
    return [dict(zip(header, line)) for line in lines]


class TensorBoard(Callback):
    """Writes the learning rate and the loss of every `every`-th batch, and the columns of every epoch, to `folder`, for
    `tensorboard --logdir folder`. Steps count the batches and epochs of the learner's history: they continue from fit
    to fit, and a resumed fit does not repeat steps that were written. Raises ImportError, before training, if the
    package tensorboard is missing."""

    order = Order.LOGGER
    main_only = True

    def __init__(self, folder: str | Path = "runs", every: int = 50):
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.folder, self.every = str(folder), every
        self.writer: SummaryWriter | None = None
        self.written: dict[str, int] = {}       # tag -> the last step written before this fit

    def before_fit(self) -> None:
        needs_recorder(self)
        try:
            import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise ImportError("TensorBoard needs its package: pip install tensorboard") from error
        resumed = any(isinstance(cb, Resume) for cb in self.learn.cbs)
        self.written = _last_steps(self.folder) if resumed else {}

    def after_loss(self) -> None:
        learn = self.learn
        step = learn.recorder.n_batches - 1     # the Recorder has just counted this one
        if learn.training and step % self.every == 0:
            self._write("batch/loss", learn.loss.item(), step)
            self._write("batch/lr", learn.opt.param_groups[-1]["lr"], step)

    def after_chunk(self) -> None:
        chunk, first = self.learn.chunk, self.learn.recorder.n_batches - self.learn.chunk.n
        for k in range(-first % self.every, 0 if chunk.skipped else chunk.n, self.every):
            self._write("batch/loss", float(chunk.losses[k]), first + k)
            self._write("batch/lr", float(chunk.hypers["lr"][-1, k]), first + k)

    def after_epoch(self) -> None:
        row = self.learn.recorder.rows[-1]
        for name, value in row.items():
            if name != "epoch":
                self._write(f"epoch/{name}", value, int(row["epoch"]))

    def cleanup_fit(self) -> None:
        if self.writer:
            self.writer.close()
            self.writer = None

    def _write(self, tag: str, value: float, step: int) -> None:
        if step > self.written.get(tag, -1):
            if self.writer is None:             # not earlier: a fit that is refused writes nothing
                from torch.utils.tensorboard import SummaryWriter
                self.writer = SummaryWriter(self.folder)
            self.writer.add_scalar(tag, value, step)


def _last_steps(folder: str) -> dict[str, int]:
    """The last step of each tag in the folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(folder, size_guidance={"scalars": 1}).Reload() if Path(folder).is_dir() else None
    return {} if events is None else {tag: events.Scalars(tag)[-1].step for tag in events.Tags()["scalars"]}


class ShowGraph(Callback):
    """Draws the smoothed training loss and the validation loss in a notebook, updated in place after every epoch.
    Elsewhere it does nothing, unless `always`. `figure` is the last drawing."""

    order = Order.GRAPH
    main_only = True

    def __init__(self, always: bool = False):
        self.always = always        # for scripts that show `figure` themselves
        self.figure: Figure | None = None
        self.shown: DisplayHandle | None = None

    def before_fit(self) -> None:
        self.figure = self.shown = None

    def after_epoch(self) -> None:
        if not (self.always or in_notebook()):
            return
        from matplotlib.figure import Figure
        self.figure = Figure(figsize=(6, 4))
        self.learn.recorder.plot_loss(ax=self.figure.subplots())
        if in_notebook():
            from IPython.display import display
            if self.shown is None:
                self.shown = display(self.figure, display_id=True)
            else:
                self.shown.update(self.figure)
