"""Checkpoints in the middle of a fit, and going on from one as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..loaders import generator_of
from .callback import Callback
from .checkpoint import read_tree, write_tree
from .events import CancelBatch, CancelEpoch
from .seeded import random_state, set_random_state, untouched_randomness
from .state import learner_state, restore_state
from .steps import ShortEpoch


class EpochStart(Callback):
    """Remembers the random states in which the epoch began: from them its order of batches can be drawn again. What
    validation draws is put back, so that training draws the same with and without it."""

    order = -90

    def __init__(self) -> None:
        self.drawn: dict[str, Any] = {}
        self.apart: untouched_randomness | None = None

    def before_train(self) -> None:
        generator = generator_of(self.learn.data.train)
        self.drawn = {"random": random_state(), "batches": None if generator is None else generator.get_state()}

    def before_validate(self) -> None:
        self.apart = untouched_randomness(self.learn.data.valid)

    def cleanup_validate(self) -> None:
        if self.apart is not None:
            self.apart.put_back()
            self.apart = None


class Checkpoint(Callback):
    """Writes the whole state to `path` every `every` training batches (None: at the end of every epoch's), so that
    `fit(..., resume=path)` can go on from there. The write is atomic: there is always one whole file. A batch that was
    cancelled is no place to go on from: an epoch whose last batch was cancelled is not written at its end."""

    order = 100

    def __init__(self, path: str | Path, every: int | None = None):
        if every is not None and every < 1:
            raise ValueError(f"a checkpoint is written every 1 or more batches, got {every}")
        self.path, self.every = Path(path), every

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training:
            done = learn.i + 1
            per_epoch = len(learn.batches)
            if done == per_epoch if self.every is None else (learn.epoch * per_epoch + done) % self.every == 0:
                write_tree(self.path, {**learner_state(learn), "done": done, "per_epoch": per_epoch,
                                       "start": learn.epoch_start.drawn})


class Resume(Callback):
    """Skips to where the checkpoint at `path` was written, puts its state back there, and then does nothing more.

    Epochs and batches that were done are skipped, not trained again; the order of the interrupted epoch's batches is
    drawn again from the state in which it began."""

    order = -80

    def __init__(self, path: str | Path):
        self.path = path

    run_after = (ShortEpoch,)       # so that the number of batches is known

    def before_fit(self) -> None:
        self.state: dict[str, Any] | None = read_tree(self.path)
        if "done" not in self.state:
            raise ValueError(f"{self.path} was not written by a Checkpoint in the middle of a fit; load it with "
                             "learn.load(path)")
        if (n := self.state["n_epochs"]) != self.learn.n_epochs:
            raise ValueError(f"{self.path} was written in a fit of {n} epochs; resume with as many, not "
                             f"{self.learn.n_epochs}")

    def before_epoch(self) -> None:
        if self.state and self.learn.epoch < self.state["epoch"]:
            raise CancelEpoch

    def before_train(self) -> None:
        if self.state:
            if (n := self.state["per_epoch"]) != len(self.learn.batches):
                raise ValueError(f"{self.path} was written in a fit with {n} batches an epoch, this one has "
                                 f"{len(self.learn.batches)}; resume with the same data and batch size")
            set_random_state(self.state["start"]["random"])
            generator = generator_of(self.learn.data.train)
            if generator is not None and self.state["start"]["batches"] is not None:
                generator.set_state(self.state["start"]["batches"])

    def before_batch(self) -> None:
        if self.state and self.learn.training:
            if self.learn.i + 1 == self.state["done"]:
                self._put_back()        # before the next batch is drawn, as it was when the checkpoint was written
            raise CancelBatch

    def _put_back(self) -> None:
        assert self.state is not None
        restore_state(self.learn, self.state)
        self.learn.epoch_start.drawn = self.state["start"]
        self.state = None
