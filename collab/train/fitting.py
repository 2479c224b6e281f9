"""The usual ways to fit: each is a plain `fit` with a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from ..given import told
from .callback import Cbs, as_list
from .callbacks.steps import number
from .optim import Hyper, check_hyper, per_group
from .schedule import ParamScheduler, Schedule, Schedules, combine_scheds, sched_cos, sched_no

if TYPE_CHECKING:
    from .learner import Learner


@told
def fit_one_cycle(self: Learner, n_epochs: int, lr_max: Hyper | None = None, *, div: float = 25.0,
                  div_final: float = 1e5, pct_start: float = 0.25,
                  moms: tuple[float, float, float] | None = (0.95, 0.85, 0.95), wd: Hyper | None = None,
                  cbs: Cbs = None, resume: str | Path | None = None) -> None:
    """Train with the one-cycle policy (Smith 2018, "A disciplined approach to neural network hyper-parameters").

    The learning rate rises along a cosine from lr_max / div to `lr_max` (by default the learner's lr) over the first
    `pct_start` of all batches, and falls to lr_max / div_final over the rest. The momentum, if the optimizer has one,
    goes the opposite way through `moms`, from the first to the second to the third, and is restored after the fit;
    None leaves it alone. `wd`, `cbs` and `resume` are as in `fit`.
    Raises ValueError for a `pct_start` outside 0 to 1, a divisor that is not above 0, or momenta other than three."""
    _check(pct_start, div=div, div_final=div_final)
    three = list(moms) if isinstance(moms, Iterable) else [moms]
    if moms is not None and (len(three) != 3 or not all(isinstance(mom, Real) and 0 <= mom < 1 for mom in three)):
        raise ValueError("moms are the momenta at the start, at the highest rate and at the end: three numbers of at "
                         f"least 0 and below 1, such as (0.95, 0.85, 0.95); or None; got {moms!r}")
    parts = (pct_start, 1 - pct_start)
    scheds = _each(self, lambda lr: combine_scheds(parts, [sched_cos(lr / div, lr), sched_cos(lr, lr / div_final)]),
                   lr_max=lr_max)
    if moms is not None and any("betas" in g or g.get("momentum") for g in self.opt.param_groups):
        scheds["momentum"] = combine_scheds(parts, [sched_cos(moms[0], moms[1]), sched_cos(moms[1], moms[2])])
    self.fit(n_epochs, lr_max, wd=wd, cbs=[ParamScheduler(scheds), *as_list(cbs)], resume=resume)


@told
def fit_sgdr(self: Learner, n_cycles: int, cycle_len: int = 1, *, cycle_mult: int = 2, lr_max: Hyper | None = None,
             wd: Hyper | None = None, cbs: Cbs = None, resume: str | Path | None = None) -> None:
    """Train with warm restarts (Loshchilov and Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts").

    The first of `n_cycles` cycles has `cycle_len` epochs, and each further one `cycle_mult` times as many as the one
    before: cycle_len (1 + cycle_mult + cycle_mult^2 + ...) epochs in all. Within a cycle the learning rate falls along
    half a cosine from `lr_max` to 0; then it jumps back. `wd`, `cbs` and `resume` are as in `fit`.
    Raises ValueError for numbers that are not whole or below 1."""
    if any(not isinstance(n, Integral) or n < 1 for n in (n_cycles, cycle_len, cycle_mult)):
        raise ValueError("n_cycles, cycle_len and cycle_mult must be whole numbers of at least 1, got "
                         f"{n_cycles!r}, {cycle_len!r} and {cycle_mult!r}")
    lengths = [cycle_len * cycle_mult ** k for k in range(n_cycles)]
    parts = [length / sum(lengths) for length in lengths]
    scheds = _each(self, lambda lr: combine_scheds(parts, [sched_cos(lr, 0.0)] * n_cycles), lr_max=lr_max)
    schedule = ParamScheduler(scheds, cycle_ends=list(accumulate(lengths)))
    self.fit(sum(lengths), lr_max, wd=wd, cbs=[schedule, *as_list(cbs)], resume=resume)


@told
def fit_flat_cos(self: Learner, n_epochs: int, lr: Hyper | None = None, *, pct_start: float = 0.75,
                 div_final: float = 1e5, wd: Hyper | None = None, cbs: Cbs = None,
                 resume: str | Path | None = None) -> None:
    """Train at a constant learning rate for the first `pct_start` of all batches, then along half a cosine down to
    lr / div_final. `wd`, `cbs` and `resume` are as in `fit`.

    Raises ValueError for a `pct_start` outside 0 to 1, or a `div_final` that is not above 0."""
    _check(pct_start, div_final=div_final)
    parts = (pct_start, 1 - pct_start)
    scheds = _each(self, lambda lr: combine_scheds(parts, [sched_no(lr), sched_cos(lr, lr / div_final)]), lr=lr)
    self.fit(n_epochs, lr, wd=wd, cbs=[ParamScheduler(scheds), *as_list(cbs)], resume=resume)


def _check(pct_start: float, **divisors: float) -> None:
    if not isinstance(pct_start, Real) or not 0 <= pct_start <= 1:
        raise ValueError(f"pct_start is a fraction of the batches, from 0 to 1, got {pct_start!r}")
    for name, value in divisors.items():
        number(name, value)


def _each(learn: Learner, sched: Callable[[float], Schedule], **given: Hyper | None) -> dict[str, Schedules]:
    """{"lr": one schedule, or a list of one for each parameter group}, of the rate that is `given` by its name or, if
    that is None, of the learner's own."""
    given = {name: rate for name, rate in given.items() if rate is not None} or {"lr": learn.lr}
    check_hyper(**given)
    lr, = given.values()
    if lr is None:
        lr = [group["given"]["lr"] for group in learn.opt.param_groups]
    return {"lr": sched(lr) if isinstance(lr, (int, float)) else [sched(one) for one in per_group(learn.opt, lr)]}
