"""Callbacks that write the history somewhere else: a CSV file, TensorBoard, a graph in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..screen import in_notebook
from .callback import Callback
from .checkpoint import write_bytes
from .trackers import needs_recorder


class CSVLogger(Callback):
    """Writes a line an epoch to the file `path`, under a header; with `append` after the lines that are there. Further
    fits with the same logger go on in the file, and so does a fit that is resumed.

    Raises ValueError where the columns of that file are others."""

    order = 66

    def __init__(self, path: str | Path = "history.csv", append: bool = False):
        self.path, self.append = Path(path), append
        self.before: str | None = None      # what the file held before this logger
        self.first = 0                      # the first row of the history that is logged

    def before_fit(self) -> None:
        needs_recorder(self)
        if self.before is None:
            self.before = self.path.read_text() if self.append and self.path.exists() else ""
            self.first = len(self.learn.recorder.rows)
        self._write()

    def after_epoch(self) -> None:
        self._write()

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before, "first": self.first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.before, self.first = state["before"], state["first"]

    def _write(self) -> None:
        """The whole file, which is small: so it is right also when the history was put back by a resumed fit."""
        rows, text = self.learn.recorder.rows[self.first:], self.before or ""
        if text and not text.endswith("\n"):
            text += "\n"
        for row in rows:
            text = text or ",".join(row) + "\n"
            header = text.partition("\n")[0].split(",")
            if not set(row) <= set(header):
                raise ValueError(f"{self.path} has other columns ({','.join(header)}) than this fit records "
                                 f"({','.join(row)}); log it to another file")
            text += ",".join(str(row.get(name, "")) for name in header) + "\n"
        write_bytes(self.path, text.encode())


class TensorBoard(Callback):
    """Writes the learning rate and the loss of every `every`-th batch and the columns of every epoch to `folder`,
    for `tensorboard --logdir folder`. Needs the package tensorboard; raises ImportError where it is missing."""

    order = 66

    def __init__(self, folder: str | Path = "runs", every: int = 50):
        self.folder, self.every = str(folder), every
        self.batches = 0
        self.writer: Any = None

    def before_fit(self) -> None:
        needs_recorder(self)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard needs its package: pip install tensorboard") from error
        self.writer = SummaryWriter(self.folder)

    def after_loss(self) -> None:
        learn = self.learn
        if learn.training:
            if self.batches % self.every == 0:
                self.writer.add_scalar("batch/loss", learn.loss.item(), self.batches)
                self.writer.add_scalar("batch/lr", learn.opt.param_groups[-1]["lr"], self.batches)
            self.batches += 1

    def after_epoch(self) -> None:
        row = self.learn.recorder.rows[-1]
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(f"epoch/{name}", value, row["epoch"])

    def cleanup_fit(self) -> None:
        if self.writer:
            self.writer.close()
            self.writer = None

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = state["batches"]


class ShowGraph(Callback):
    """Draws the smoothed training loss and the validation loss after every epoch, in place, in a notebook; elsewhere
    it does nothing. `figure` is the last drawing."""

    order = 67

    def __init__(self, always: bool = False):
        self.always = always        # draw outside a notebook too, for those who show `figure` themselves
        self.figure: Any = None
        self.shown: Any = None

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
