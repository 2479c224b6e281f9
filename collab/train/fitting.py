"""The usual ways to fit, each a schedule over a plain `fit`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .callback import Callback
from .schedule import ParamScheduler, combine_scheds, sched_cos

if TYPE_CHECKING:
    from .learner import Learner


def fit_one_cycle(self: Learner, n_epochs: int, lr_max: float | None = None, div: float = 25.0,
                  div_final: float = 1e5, pct_start: float = 0.25,
                  moms: tuple[float, float, float] | None = (0.95, 0.85, 0.95), wd: float | None = None,
                  cbs: Iterable[Callback] | Callback | None = None) -> None:
    """The one-cycle policy (Smith 2018, "A disciplined approach to neural network hyper-parameters").

    The learning rate rises along a cosine from lr_max / div to `lr_max` (by default the learner's lr) over the
    first `pct_start` of all batches and falls to lr_max / div_final over the rest; the momentum goes through
    `moms` the opposite way (None leaves it alone)."""
    lr_max = self.lr if lr_max is None else lr_max
    if not 0 <= pct_start <= 1:
        raise ValueError(f"pct_start is a fraction of the batches, from 0 to 1, got {pct_start}")
    parts = (pct_start, 1 - pct_start)
    scheds = {"lr": combine_scheds(parts, [sched_cos(lr_max / div, lr_max), sched_cos(lr_max, lr_max / div_final)])}
    if moms is not None:
        scheds["momentum"] = combine_scheds(parts, [sched_cos(moms[0], moms[1]), sched_cos(moms[1], moms[2])])
    self.fit(n_epochs, lr_max, wd, [ParamScheduler(scheds), *_listed(cbs)])


def _listed(cbs: Iterable[Callback] | Callback | None) -> list[Callback]:
    return [] if cbs is None else [cbs] if isinstance(cbs, Callback) else list(cbs)
