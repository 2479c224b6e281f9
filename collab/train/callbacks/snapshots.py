"""Snapshots of the weights along one fit, combined when it is over."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..callback import Callback, State
from ..schedule import ParamScheduler
from .averaging import Averaging
from .order import Order
from .trackers import SaveBest


class Snapshots(Callback):
    """Copies the weights at the end of every cycle of `fit_sgdr` or, with `every`, every so many epochs, counted back
    from the last one. When the fit has come to its end, the learner goes on with `combine(models)` of the last `n`
    copies (None: all of them) and with a fresh optimizer (Huang et al. 2017, "Snapshot ensembles: train 1, get M for
    free").

    During the fit, the weights in training are validated; afterwards `learn.validate()` evaluates the combination.
    A fit that is cancelled or interrupted leaves the model as it is then, and the copies made so far in `snapshots`,
    weights by name, from which `combined()` makes a model. Epochs that CancelTrain cut short are copied too.
    Raises ValueError for `n` or `every` below 1; before training, TypeError for a fit without cycles if there is no
    `every`, or beside another callback that replaces the model's weights when the fit is over."""

    order = Order.SNAPSHOTS

    def __init__(self, combine: Callable[[Sequence[nn.Module]], nn.Module], n: int | None = None, *,
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

    def after_epoch(self) -> None:      # for an epoch whose training part was cancelled
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
            self.learn.recorder.put_back = -1       # no epoch was measured with it
        self.whole = False

    def combined(self) -> nn.Module:
        """Combine models with the copied weights by `combine`."""
        models = [copy.deepcopy(self.learn.model) for _ in self.snapshots]
        for model, weights in zip(models, self.snapshots):
            model.load_state_dict(weights)
        return self.combine(models)

    def state_dict(self) -> State:
        return {"snapshots": self.snapshots}

    def load_state_dict(self, state: State) -> None:
        self.snapshots = [{name: t.to(self.learn.device) for name, t in weights.items()}
                          for weights in state["snapshots"]]
