"""Checkpoints in the middle of a fit, and resuming from one as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ...errors import warn
from ...files import not_a_folder, read_tree, write_tree
from ...processes import is_main, of_first
from ..callback import Callback
from ..events import CancelBatch, CancelEpoch
from ..fingerprint import Fingerprint, differences, fingerprint
from ..misfit import misfit
from ..state import LearnerState, check_state, learner_state, restore_state
from .order import Order
from .seeded import Drawn, draw_again, drawn_with
from .steps import ShortEpoch, whole


class EpochStart(Callback):
    """Remembers the random states at the start of the epoch, from which its order of batches can be drawn again, and,
    where a `Checkpoint` is written or resumed, the fingerprint of the fit. Restores the random states after a
    validation, so that training draws the same numbers with and without one. `began` is the number of training batches
    that the learner had done when the fit began. If Ctrl-C or an error ended the last fit, `cut_off` is that number and
    the one at its end."""

    order = Order.EPOCH_START

    def __init__(self) -> None:
        self.drawn: Drawn = {"random": [], "batches": None}
        self.fit: Fingerprint = {}
        self.apart: Drawn | None = None                 # before a validation
        self.began = 0
        self.cut_off: tuple[int, int] | None = None

    def before_fit(self) -> None:
        self.began = self.learn.recorder.n_batches
        asked = any(isinstance(cb, Checkpoint | Resume) for cb in self.learn.cbs)
        self.fit = fingerprint(self.learn) if asked else {}

    def before_train(self) -> None:
        self.drawn = drawn_with(self.learn.data.train)

    def before_validate(self) -> None:
        self.apart = drawn_with(self.learn.data.valid)

    def cleanup_validate(self) -> None:
        if self.apart is not None:
            draw_again(self.learn.data.valid, self.apart)
            self.apart = None

    def cleanup_fit(self) -> None:
        self.cut_off = None if self.learn.run.cut_off is None else (self.began, self.learn.recorder.n_batches)


class Checkpoint(Callback):
    """Writes the whole state to `path` after every `every`-th training batch, by default after the last one of each
    epoch, so that `fit(..., resume=path)` can go on from there. The write is atomic: there is always one whole file.
    Nothing is written after a batch that was cancelled, even if it is the last of its epoch. A fit that ends without
    any checkpoint does so with a CollabWarning."""

    order = Order.CHECKPOINT

    def __init__(self, path: str | Path, every: int | None = None):
        self.path, self.every = Path(path), None if every is None else whole("every", every)
        self.trained = self.written = 0         # batches and checkpoints of this fit

    def before_fit(self) -> None:
        not_a_folder(self.path)
        self.trained = self.written = 0

    def before_batch(self) -> None:
        self.trained += self.learn.training

    def after_batch(self) -> None:
        if self.learn.training and self._due(self.learn.i):
            self._write()

    def before_chunk(self) -> None:
        chunk = self.learn.chunk
        chunk.n = next((k + 1 for k in range(chunk.n) if self._due(chunk.first + k)), chunk.n)
        chunk.put_back |= self._due(chunk.last)

    def after_chunk(self) -> None:
        chunk = self.learn.chunk
        self.trained += chunk.n
        if self._due(chunk.last) and not chunk.skipped:
            self._write()

    def _due(self, i: int) -> bool:
        """Whether a checkpoint is written after batch `i` of this epoch."""
        per_epoch = len(self.learn.batches)
        return i + 1 == per_epoch if self.every is None else (self.learn.epoch * per_epoch + i + 1) % self.every == 0

    def _write(self) -> None:
        learn = self.learn
        if is_main():
            write_tree(self.path, {**learner_state(learn), "done": learn.i + 1, "per_epoch": len(learn.batches),
                                   "start": learn.epoch_start.drawn, "fit": learn.epoch_start.fit,
                                   "began": learn.epoch_start.began})
        self.written += 1

    def after_fit(self) -> None:
        resumed = any(isinstance(cb, Resume) and Path(cb.path) == self.path for cb in self.learn.cbs)
        if self.trained and not self.written and not resumed:      # resumed from it: the file is there
            when = "the last batch of an epoch" if self.every is None else f"every {self.every} batches"
            warn(f"no checkpoint was written to {self.path}: {when} did not come in the {self.trained:,} batches of "
                 "this fit, or was cancelled; give Checkpoint a smaller every=")


def resuming(resume: str | Path | None, cbs: Iterable[Callback]) -> list[Resume]:
    """The callback that resumes a fit, if any: from the checkpoint at the path `resume`, or with "auto" from that of
    the `Checkpoint` among `cbs`, if its file exists. Raises ValueError for "auto" without exactly one Checkpoint."""
    if resume != "auto":
        return [] if resume is None else [Resume(resume)]
    checkpoints = [cb for cb in cbs if isinstance(cb, Checkpoint)]
    if len(checkpoints) != 1:
        raise ValueError(f'resume="auto" goes on from the file of the one Checkpoint among the callbacks, and there '
                         f"are {len(checkpoints)}; add cbs=Checkpoint(path), or give resume=path")
    return [Resume(checkpoints[0].path)] if of_first(checkpoints[0].path.exists) else []


class Resume(Callback):
    """Skips to the batch after which the checkpoint at `path` was written, restores its state, and then does nothing.

    Epochs and batches that were done are skipped, not trained again; the order of the interrupted epoch's batches is
    drawn again from the random states at its start. A checkpoint of a fit's last batch leaves nothing to train, which a
    CollabWarning says. Of several processes, the first one reads the file for all.
    Raises ValueError, before anything is changed, for a file of another kind; for a fit that differs in its data,
    batches, schedule, hyper-parameters, model or optimizer; and if this learner has trained since that fit began, other
    than in that very fit, since that training would be lost."""

    order = Order.RESUME
    run_after = (ShortEpoch,)       # so that the number of batches is known

    def __init__(self, path: str | Path):
        self.path = path
        self.state: LearnerState | None = None

    def before_fit(self) -> None:
        state: LearnerState = of_first(partial(read_tree, self.path))
        if not isinstance(state, dict) or not {"done", "per_epoch", "start", "fit", "began"} <= set(state):
            raise ValueError(f"{self.path} was not written by a Checkpoint in the middle of a fit; load it with "
                             "learn.load(path)")
        if (n := state["n_epochs"]) != self.learn.n_epochs:
            raise ValueError(f"{self.path} was written in a fit of {n} epochs; resume with as many, not "
                             f"{self.learn.n_epochs}, or begin anew with a Checkpoint at another path")
        model = misfit(state["model"], self.learn.model, state.get("model_class"))
        others = [f"another model: {model}"] if model else []
        if others := others + differences(state["fit"], self.learn.epoch_start.fit, bool(model)):
            raise ValueError(f"{self.path} was written in a fit with {'; '.join(others)}. Resume with the same, or "
                             "begin anew with a Checkpoint at another path")
        start, began, trained = self.learn.epoch_start, state["began"], self.learn.recorder.n_batches
        if trained > began and (began, trained) != start.cut_off:
            raise ValueError(f"{self.path} was written by a fit that began after {began:,} batches; this learner has "
                             f"trained {trained:,}, which would be lost. Resume with a new learner, or begin another "
                             "fit with a Checkpoint at another path")
        check_state(self.learn, state, source=self.path)
        self.state, start.began = state, began

    def before_epoch(self) -> None:
        if self.state and self.learn.epoch < self.state["epoch"]:
            raise CancelEpoch

    def before_train(self) -> None:
        if self.state:
            if (n := self.state["per_epoch"]) != len(self.learn.batches):
                raise ValueError(f"{self.path} was written in a fit with {n} batches an epoch, this one has "
                                 f"{len(self.learn.batches)}; resume with the same ShortEpoch")
            draw_again(self.learn.data.train, self.state["start"])

    def before_batch(self) -> None:
        if self.state and self.learn.training:
            if self.learn.i + 1 == self.state["done"]:
                self._put_back()        # before the next batch is drawn, as it was when the checkpoint was written
            raise CancelBatch

    def before_chunk(self) -> None:
        chunk = self.learn.chunk
        if self.state:
            chunk.n, chunk.skipped = min(chunk.n, self.state["done"] - chunk.first), True

    def after_chunk(self) -> None:
        if self.state and self.learn.i + 1 == self.state["done"]:
            self._put_back()

    def _put_back(self) -> None:
        assert self.state is not None
        restore_state(self.learn, self.state, source=self.path)
        self.learn.epoch_start.drawn = self.state["start"]
        self.state, n = None, self.learn.n_epochs
        if self.learn.epoch + 1 == n and self.learn.i + 1 == len(self.learn.batches):
            warn(f"{self.path} was written after the last batch of a fit of {n} epoch{'s' * (n > 1)}: nothing was left "
                 "to train, and its state was put back; to train further, fit with a Checkpoint at another path")
