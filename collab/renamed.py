"""Public names of the version before: they work for one version more, with a DeprecationWarning that says the new one.

Modules, and names within them, that have moved are in `moved`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .data.databunch import CollabDataBunch
from .errors import renamed
from .learner.collab_learner import CollabLearner
from .models.base import CollabModel
from .models.ensemble import merge_dot_models
from .train.callback import Callback


class ClosedFormLearner(CollabLearner):
    """The learner of solved models, which every `CollabLearner` is now."""

    def __init__(self, data: CollabDataBunch, model: CollabModel, loss_func: Callable[..., Any] | None = None,
                 metrics: Any = None, cbs: Iterable[Callback] | Callback | None = None, seed: int | None = None):
        super().__init__(data, model, loss_func, metrics=metrics, cbs=cbs, seed=seed)


NAMES: dict[str, tuple[str, Any]] = {"fold": ("merge_dot_models", merge_dot_models),
                                     "ClosedFormLearner": ("CollabLearner", ClosedFormLearner)}
"""Public name of the version before -> its new name, and what it stands for."""


def old_name(name: str) -> Any:
    """What a public name of the version before stands for. Raises AttributeError for another name."""
    if name not in NAMES:
        raise AttributeError(f"module {__package__!r} has no attribute {name!r}")
    renamed(name, NAMES[name][0])
    return NAMES[name][1]
