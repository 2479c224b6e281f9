"""Snapshots of the weights along one fit, combined when it is over."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ..callback import Callback
from ..schedule import ParamScheduler
from .averaging import Averaging
from .trackers import SaveBest


class Snapshots(Callback):
    """Copies the weights at the end of every cycle of `fit_sgdr`, or, with `every`, every so many epochs, counted back
    from the last one; and when the fit ends in the usual way, the learner goes on with `combine(models)` of the last
    `n` copies (None: of all), and with a fresh optimizer (Huang et al. 2017, "Snapshot Ensembles: Train 1, get M for
    free").

    Validation during the fit is that of the weights in training; `learn.validate()` afterwards is that of the whole.
    A fit that is cancelled or interrupted leaves the model as it is then, and what was copied in `snapshots`, the
    weights by name, from which `combined()` makes the model that it would have been. An epoch whose training part
    CancelTrain ended is copied too.
    Raises ValueError for `n` or `every` below 1, TypeError in a fit that has no cycles and without `every`, or beside
    a callback that puts weights of its own into the model when the fit is over."""

    order = 85      # after whoever else ends with the fit, before row 0 is filled

    def __init__(self, combine: Callable[[Sequence[nn.Module]], nn.Module], n: int | None = None,
                 every: int | None = None):
        for name, value in (("n", n), ("every", every)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.combine, self.n, self.every = combine, n, every
        self.snapshots: list[dict[str, Tensor]] = []
        self.due = self.whole = False

    def before_fit(self) -> None:
        for cb in self.learn.cbs:
            if (isinstance(cb, Averaging) and cb.keep) or (isinstance(cb, SaveBest) and cb.restore):
                raise TypeError(f"{self} and {cb} both decide on the model that is kept; give the latter "
                                f"{'keep' if isinstance(cb, Averaging) else 'restore'}=False")
        if self.every is None:
            self.ends = {end for cb in self.learn.cbs if isinstance(cb, ParamScheduler) for end in cb.cycle_ends}
            if not self.ends:
                raise TypeError(f"this fit has no cycles for {self}; use fit_sgdr, or every=1 for every epoch")
        else:
            self.ends = set(range(self.learn.n_epochs, 0, -self.every))
        self.snapshots = []

    def before_train(self) -> None:
        self.due = self.learn.epoch + 1 in self.ends

    def after_train(self) -> None:
        self._take()

    def after_epoch(self) -> None:      # of an epoch whose training part was cancelled
        self._take()

    def _take(self) -> None:
        if self.due:
            self.due = False
            now = {name: t.detach().clone() for name, t in self.learn.model.state_dict().items()}
            self.snapshots = [*self.snapshots, now][-(self.n or 0):]

    def after_fit(self) -> None:
        self.whole = True

    def cleanup_fit(self) -> None:
        if self.whole and self.snapshots:
            self.learn.set_model(self.combined())
        self.whole = False

    def combined(self) -> nn.Module:
        """`combine` of models with the weights that were copied."""
        models = [copy.deepcopy(self.learn.model) for _ in self.snapshots]
        for model, weights in zip(models, self.snapshots):
            model.load_state_dict(weights)
        return self.combine(models)

    def state_dict(self) -> dict[str, Any]:
        return {"snapshots": self.snapshots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.snapshots = [{name: t.to(self.learn.device) for name, t in weights.items()}
                          for weights in state["snapshots"]]
