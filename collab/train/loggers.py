"""Callbacks that write the history somewhere else: a CSV file, TensorBoard, a graph in a notebook."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from ..screen import in_notebook
from .callback import Callback


class CSVLogger(Callback):
    """Adds a line to the file `path` after every epoch, under a header; `append` goes on with a file that is there.

    Raises ValueError where the columns of that file are others."""

    order = 66

    def __init__(self, path: str | Path = "history.csv", append: bool = False):
        self.path, self.append = Path(path), append

    def before_fit(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.append:
            self.path.write_text("")

    def after_epoch(self) -> None:
        row = self.learn.recorder.rows[-1]
        there = self.path.read_text().splitlines()[:1] if self.path.exists() else []
        if there and there[0].split(",") != list(row):
            raise ValueError(f"{self.path} has the columns {there[0]}, this fit records {','.join(row)}; "
                             "log it to another file")
        with open(self.path, "a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([] if there else [list(row)])
            writer.writerow(row.values())
        self.append = True          # a further fit goes on in the same file


class TensorBoard(Callback):
    """Writes the learning rate and the loss of every `every`-th batch and the columns of every epoch to `folder`,
    for `tensorboard --logdir folder`. Needs the package tensorboard; raises ImportError where it is missing."""

    order = 66

    def __init__(self, folder: str | Path = "runs", every: int = 50):
        self.folder, self.every = str(folder), every
        self.batches = 0
        self.writer: Any = None

    def before_fit(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError('TensorBoard needs its package: pip install "collab[tensorboard]"') from error
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
