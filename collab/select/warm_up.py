"""Load and compile what models need before any is timed: otherwise the first to use a kernel pays for all."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from ..data.databunch import CollabDataBunch
from ..datasets.synthetic import synthetic
from .contenders import Contender

WARM = 120      # ratings


def warm_up(contenders: Iterable[Contender], like: CollabDataBunch) -> None:
    """Train each contender for one epoch on a few synthetic ratings of the kind of `like`. Functions of the caller's
    are left alone. Raises KeyboardInterrupt where Ctrl-C ended one."""
    data = _few(like.implicit, like.device.type)
    for contender in contenders:
        if contender.own:
            continue
        learn = None
        # What fails here, such as options for other data, fails again, and is told, when it matters.
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            learn = contender.trained(data, [], epochs=1)
        if getattr(learn, "interrupted", False):
            raise KeyboardInterrupt


@cache
def _few(implicit: bool, device: str) -> CollabDataBunch:
    made = synthetic(20, 15, WARM, seed=0)
    return CollabDataBunch.from_df(made.ratings, implicit=implicit, items=made.items, item_features=["genres"],
                                   valid_pct=0, seed=0, device=device)
