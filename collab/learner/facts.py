"""What is known of a learner as plain values by name, for logs and the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..train.inspection import facts as facts_of_any
from .settings import settings_of

if TYPE_CHECKING:
    from .collab_learner import CollabLearner

LISTED = 10     # values of an argument of a model; longer lists are data


def facts(self: CollabLearner) -> dict[str, Any]:
    """The facts of every `Learner` (see `collab.train.inspection.facts`), with the sizes and kind of the data, the
    arguments of the model, and what `notes` say of where the ratings are from. A solved model has no rates."""
    data, model, kept = self.data, self.collab_model, settings_of(self)
    known: dict[str, Any] = facts_of_any(self)
    if model.solved:
        known = {name: value for name, value in known.items() if name not in ("optimizer", "lr", "wd", "loss")}
    known |= {"n_users": data.n_users - 1, "n_items": data.n_items - 1, "implicit": data.implicit}
    if data.threshold is not None:
        known["threshold"] = data.threshold
    if kept["terms"]:
        known["loss_terms"] = ", ".join(f"{name} {coeff:g}" for name, coeff in kept["terms"])
    if kept["ridge"] is not None:
        known["ridge"] = kept["ridge"]
    arguments = {name: value for name, value in model.config.items()
                 if name not in ("n_users", "n_items") and _short(value)}
    notes = {name: self.notes[name] for name in ("source", "split", "valid_pct") if self.notes.get(name) is not None}
    return {**arguments, **known, **notes}


def _short(value: object) -> bool:
    """Whether the value is plain, and no table."""
    if isinstance(value, list | tuple):
        return len(value) <= LISTED and all(map(_short, value))
    return value is None or isinstance(value, str | int | float)
