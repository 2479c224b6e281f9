"""Recorder: the history of training, batch by batch and epoch by epoch, and its plots."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ...errors import warn
from ...plotting import axes, head, plain, plain_ticks, whole_ticks
from ..callback import Callback, State
from ..optim import get_hyper
from .order import Order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..lr_find import Curve

NUMBERS = "losses", "sizes", "lrs", "moms"
NO_PARTS: dict[str, float] = {}      # of a loss that is one number
FLUSH = 1024    # losses wait on the device in groups of this size, so that no batch waits for the device


class Columns(NamedTuple):
    """Training batches by columns, (n,): the loss of each, its rows, learning rate, momentum, and the parts of its
    loss."""

    losses: np.ndarray      # float32
    sizes: np.ndarray       # int64
    lrs: np.ndarray         # float64, like `moms`; NaN where there is none
    moms: np.ndarray
    parts: list[dict[str, float]]

    @classmethod
    def of(cls, parts: list[dict[str, float]], *numbers: Any) -> Columns:
        """The columns in their types, from copies of sequences."""
        losses, *others = numbers or [[]] * 4
        sizes, lrs, moms = (np.array(column, of) for column, of in zip(others, (np.int64, np.float64, np.float64)))
        return cls(np.array(losses, np.float32), sizes, lrs, moms, parts)

    @classmethod
    def joined(cls, pieces: Sequence[Columns]) -> Columns:
        """Several as one."""
        losses, sizes, lrs, moms = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in NUMBERS)
        return cls(losses, sizes, lrs, moms, [*chain.from_iterable(piece.parts for piece in pieces)])

    def after(self, start: int) -> Columns:
        """Those from the one at `start` on."""
        return Columns(self.losses[start:], self.sizes[start:], self.lrs[start:], self.moms[start:], self.parts[start:])


class Recorder(Callback):
    """The history of a learner, continued from fit to fit: `losses`, `lrs` and `moms` of every training batch, and
    `rows`, one dict per epoch with epoch, train_loss, the parts of it that were noted, valid_loss, the metrics, and the
    seconds it took."""

    order = Order.RECORDER

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.ends: list[int] = []               # batches done by the end of each epoch
        self.put_back: int | None = None        # the row whose weights the model was given back; -1 for an unknown one
        self._pieces: list[Columns] = []        # appended to whole, so that Ctrl-C leaves their columns equally long
        self._waiting: list[tuple[Tensor, dict[str, Tensor], int, float | None, float | None]] = []  # on the device
        self._noted: dict[str, Tensor] = {}     # of the current batch
        self._start = 0                         # the first batch of this epoch
        self._said = False                      # whether a loss that is not finite was warned of in this fit
        self.started = time.perf_counter()
        self.lr_find: tuple[Curve, dict[str, float | None]] | None = None       # the last one, and its suggestions

    @property
    def n_batches(self) -> int:
        """The number of training batches so far, the current one included; asking does not wait for the device."""
        return sum(len(piece.losses) for piece in self._pieces) + len(self._waiting)

    @property
    def epoch_of_weights(self) -> int | None:
        """The row of the epoch after which the model had the weights that it has now: the last one, or that of which
        SaveBest put them back; None where it is not known, as after an epoch that was cut off."""
        if self.put_back is not None:
            return self.put_back if 0 <= self.put_back < len(self.rows) else None
        return len(self.rows) - 1 if self.rows and self.ends[-1] == self.n_batches else None

    @property
    def losses(self) -> np.ndarray:
        """The loss of every training batch, float32, shape (batches,)."""
        return self._batches().losses.copy()

    @property
    def lrs(self) -> list[float | None]:
        """The learning rate of the last parameter group in every training batch."""
        return _or_none(self._batches().lrs)

    @property
    def moms(self) -> list[float | None]:
        """The momentum (beta 1 where there are betas) in every training batch; None without momentum."""
        return _or_none(self._batches().moms)

    @property
    def parts(self) -> pd.DataFrame:
        """The parts of the loss that were noted, such as the terms of `LossTerms`: one row per training batch, one
        column per name, NaN where a batch has none."""
        return pd.DataFrame(self._batches().parts, dtype=np.float32)

    def note(self, **parts: Tensor) -> None:
        """Keep numbers beside the loss of the current training batch: detached tensors of shape (). To be called before
        the Recorder's own `after_loss`. The epoch's row has their means over the rows of its batches."""
        self._noted |= parts

    def smooth_losses(self, beta: float = 0.98) -> np.ndarray:
        """Exponentially weighted mean of the losses, corrected for its start at zero by 1 / (1 - beta^t)."""
        losses = pd.Series(self.losses.astype(np.float64))
        return losses.ewm(alpha=1 - beta, adjust=True).mean().to_numpy()

    def frame(self) -> pd.DataFrame:
        """One row per epoch."""
        return pd.DataFrame(self.rows)

    def before_fit(self) -> None:
        self._said = False

    def before_epoch(self) -> None:
        self.started, self.put_back = time.perf_counter(), None

    def before_train(self) -> None:
        self.learn.scores.values = {}
        self._noted = {}
        self._start = self.n_batches

    def after_loss(self) -> None:
        learn = self.learn
        if learn.training:
            opt = learn.opt
            noted, self._noted = self._noted, {}
            self._waiting.append((learn.loss.detach(), noted, learn.n_rows, get_hyper(opt, "lr"),
                                  get_hyper(opt, "momentum")))
            if len(self._waiting) >= FLUSH:
                self._flush()

    def after_chunk(self) -> None:
        chunk, hypers = self.learn.chunk, self.learn.chunk.hypers
        if chunk.skipped:
            return
        self._flush()
        moms = hypers["momentum"][-1] if "momentum" in hypers else np.full(chunk.n, math.nan)
        self._pieces.append(Columns.of([NO_PARTS] * chunk.n, chunk.losses, chunk.sizes, hypers["lr"][-1], moms))

    def after_epoch(self) -> None:
        means = self._means()
        row = {"epoch": len(self.rows), "train_loss": means.pop("loss", math.nan)} | means
        row |= {"valid_loss" if name == "loss" else name: v for name, v in self.learn.scores.values.items()}
        self.rows.append(row | {"seconds": time.perf_counter() - self.started})
        self.ends.append(self.n_batches)
        name, loss = "training", row["train_loss"]
        if math.isfinite(loss) and self.learn.scores.n:
            name, loss = "validation", row.get("valid_loss", loss)      # the epoch's last step may have been the one
        if self.n_batches > self._start and not math.isfinite(loss) and not self._said:
            self._said = True
            warn(f"the {name} loss of epoch {row['epoch']} is {loss}: the weights are of no use any more; begin again "
                 "with a lower learning rate")

    def state_dict(self) -> State:
        batches = self._batches()
        columns = {name: torch.tensor(getattr(batches, name)) for name in NUMBERS}
        back = {} if self.put_back is None else {"put_back": self.put_back}
        return {"rows": self.rows, "ends": self.ends, **back, **columns, "start": self._start,
                "parts": {name: torch.tensor(part.to_numpy()) for name, part in self.parts.items()},
                "seconds": time.perf_counter() - self.started}

    def load_state_dict(self, state: State) -> None:
        self.rows, self.ends, self._waiting = list(state["rows"]), list(state["ends"]), []
        self.put_back = state.get("put_back")
        parts: list[dict[str, float]] = [{} for _ in state["sizes"]]
        for name, values in state.get("parts", {}).items():
            for k in torch.nonzero(~values.isnan()).flatten().tolist():
                parts[k][name] = values[k].item()
        self._pieces = [Columns.of(parts, *(state[name].numpy() for name in NUMBERS))]
        self._start, self.started = state["start"], time.perf_counter() - state["seconds"]

    def _flush(self) -> None:
        """Take in the batches that waited on the device."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            flat = [t for loss, parts, *_ in waiting for t in (loss, *parts.values())]
            values = iter(torch.stack(flat).float().tolist())       # at once, since each read waits for the device
            losses, parts = [], []
            for _, own, *_ in waiting:
                losses.append(next(values))
                parts.append({name: next(values) for name in own} if own else NO_PARTS)
            self._pieces.append(Columns.of(parts, losses, *list(zip(*waiting))[2:]))

    def _batches(self, start: int = 0) -> Columns:
        """The batches so far, from the one at `start` on."""
        self._flush()
        kept = 0        # pieces before it stay as they are: an epoch does not go over those before it
        while kept < len(self._pieces) and len(self._pieces[kept].losses) <= start:
            start -= len(self._pieces[kept].losses)
            kept += 1
        if len(self._pieces) - kept != 1:
            self._pieces[kept:] = [Columns.joined(self._pieces[kept:] or [Columns.of([])])]
        return self._pieces[kept].after(start)

    def _means(self) -> dict[str, float]:
        """The means of the loss and of its parts over the rows of this epoch's batches."""
        losses, sizes, _, _, parts = self._batches(self._start)
        if not len(sizes):
            return {}
        means = {"loss": float(np.average(losses, weights=sizes))}
        for name in dict.fromkeys(name for own in parts if own for name in own):
            own = [(batch[name], size) for batch, size in zip(parts, sizes.tolist()) if name in batch]
            means[name] = sum(value * size for value, size in own) / sum(size for _, size in own)
        return means

    def plot_loss(self, ax: Axes | None = None, skip: int = 0, *, beta: float = 0.98) -> Axes:
        """Draw the smoothed training loss of each batch, without the first `skip`, and the validation loss of each
        epoch."""
        ax = axes(ax)
        smooth = self.smooth_losses(beta)
        lines = ax.plot(np.arange(skip, len(smooth)), smooth[skip:], label="training, smoothed")
        valid = [(end, row["valid_loss"]) for end, row in zip(self.ends, self.rows) if "valid_loss" in row]
        if valid:
            lines += ax.plot(*zip(*valid), "o-", label="validation")
        ax.set(xlabel="batch", ylabel="loss")
        whole_ticks(ax.xaxis)
        head(ax, "Loss in training", handles=lines)
        return ax

    def plot_sched(self, ax: Axes | None = None) -> Axes:
        """Draw the learning rate of each batch and, on an axis of its own, the momentum."""
        ax = axes(ax)
        batches = self._batches()
        lines = ax.plot(batches.lrs, label="learning rate")
        ax.set(xlabel="batch", ylabel="learning rate")
        has_momentum = not np.isnan(batches.moms).all()
        if has_momentum:
            right = ax.twinx()
            lines += right.plot(batches.moms, "--", color="tab:orange", label="momentum")
            right.set_ylabel("momentum")
        plain_ticks(ax.yaxis)
        whole_ticks(ax.xaxis)
        head(ax, "Schedule of learning rate and momentum" if has_momentum else "Schedule of the learning rate",
             handles=lines)
        return ax

    def plot_metrics(self, ax: Axes | None = None) -> Axes:
        """Draw every metric over the epochs (not the losses: see `plot_loss`). Raises ValueError where none was
        recorded."""
        frame = self.frame()
        names = [c for c in frame if c not in ("epoch", "train_loss", "valid_loss", "seconds", *self.parts)]
        if not names:
            raise ValueError("no metric was recorded after an epoch: it takes metrics and a validation part; what a "
                             "RecordEvery has recorded in place of that is drawn by its own plot()")
        ax, lines = axes(ax), []
        for name in names:
            lines += ax.plot(frame["epoch"], frame[name], "o-", label=name)
        ax.set(xlabel="epoch", ylabel="metric")
        whole_ticks(ax.xaxis)
        head(ax, "Metrics after each epoch", handles=lines)
        return ax

    def plot_lr_find(self, ax: Axes | None = None) -> Axes:
        """Draw the loss over the learning rate in the last `lr_find`, its suggestions marked and one standard error
        shaded. Losses far above the first one are cut off, so that the valley fills the picture."""
        if self.lr_find is None:
            raise ValueError("there is no range test to plot; call learn.lr_find() first")
        curve, found = self.lr_find
        ax = axes(ax)
        ax.plot(curve.lrs, curve.losses)
        noise = np.where(np.isfinite(curve.noise), curve.noise, 0.0)
        ax.fill_between(curve.lrs, curve.losses - noise, curve.losses + noise, alpha=0.2, linewidth=0)
        rising = np.diff(curve.lrs)
        linear = len(rising) > 1 and np.allclose(rising, rising[0])
        low, top = min(curve.losses.min(), curve.before), curve.before
        height = max(top - low, 0.01 * abs(top)) or 1.0
        ax.set(xscale="linear" if linear else "log", xlabel="learning rate", ylabel="loss of the batches kept apart",
               ylim=(low - 0.1 * height, top + 0.4 * height))
        plain_ticks(ax.xaxis)
        marks = []
        for k, (name, lr) in enumerate(((name, lr) for name, lr in found.items() if lr is not None), start=1):
            marks += ax.plot(lr, np.interp(lr, curve.lrs, curve.losses), "o", color=f"C{k}",
                             label=f"{name} {plain(float(f'{lr:.2g}'))}")
        head(ax, "Range test: loss by learning rate", handles=marks)
        return ax


def _or_none(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(v) else v for v in values.tolist()]
