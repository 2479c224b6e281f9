"""PlainModel: a module that is not a `CollabModel`, asked as one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..errors import renamed
from .base import TABLES, CollabModel, Group, Side
from .dot_form import DotForm
from .looked_up import looked_up

SAID: set[tuple[type, str]] = set()        # what has been said of old names


class PlainModel(CollabModel):
    """A module from (users, items) to scores that is not a `CollabModel`, wrapped for one call.

    What earlier versions asked for (`cross`, `dot_form`, `expected`, `fold_in`, `id_tables`, `predicts_ratings`,
    `unknown_row`) still works, with a DeprecationWarning: derive from `CollabModel` and define their replacements."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.training = module.training
        given = getattr(module, "config", None)
        vars(self)["config"] = given if isinstance(given, dict) else {}
        rates = vars(module).get("predicts_ratings", vars(type(module)).get("predicts_ratings"))
        if isinstance(rates, bool):
            _renamed(module, f"predicts_ratings of {self.kind}, a plain module,", "CollabModel.ranks, its opposite")
            self.ranks = not rates
        if getattr(module, "unknown_row", None) is True:
            _renamed(self.module, f"{self.kind}.unknown_row", "unknown_row, in a subclass of CollabModel")
            self.unknown_row = True

    @property
    def kind(self) -> str:
        return type(self.module).__name__

    def stored_config(self) -> None:
        return None

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.module(users, items)

    def to_scores(self, output: Tensor) -> Tensor:
        own = self._method("expected", "to_scores") if output.dim() == 2 else None
        return output if own is None else own(output)

    def _embedding(self, side: Side, kind: str, what: str) -> Tensor:
        table = getattr(self.module, TABLES[side, kind], None)
        if not isinstance(table, nn.Embedding):
            raise self.lacks(f"learns no {what} of {side}s: it has no embedding {TABLES[side, kind]}")
        return table.weight

    def param_groups(self) -> list[Group]:
        own = self._method("param_groups", None)
        return super().param_groups() if own is None else own()

    @property
    def crosses(self) -> bool:
        return self._method("cross", "cross") is not None

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        own = self._method("cross", "cross")
        return super().cross(users, items) if own is None else own(users, items)

    def dot_form(self) -> DotForm | None:
        own = self._method("dot_form", "dot_form")
        return None if own is None else own()

    def score_new(self, items: Tensor, ratings: Tensor) -> Tensor:
        own = self._method("fold_in", "score_new")
        return super().score_new(items, ratings) if own is None else own(items, ratings)

    @property
    def scores_new(self) -> bool:
        return self._method("fold_in", "score_new") is not None

    def id_tables(self) -> dict[Side, list[Tensor]]:
        own = None if self.unknown_row else self._method("id_tables", "id_tables")
        found = {} if self.unknown_row else looked_up(self.module)
        if own is None:
            return found
        listed = {id(table) for table in own()}
        return {side: [table for table in tables if id(table) in listed] for side, tables in found.items()}

    def _method(self, name: str, new: str | None) -> Callable[..., Any] | None:
        """The method of that name, where the module's class defines one; a layer of that name is ignored."""
        if not inspect.isfunction(inspect.getattr_static(type(self.module), name, None)):
            return None
        if new is not None:
            _renamed(self.module, f"the method {name} of {self.kind}, a plain module,", f"CollabModel.{new}")
        return getattr(self.module, name)


def _renamed(module: nn.Module, old: str, new: str) -> None:
    """`renamed`, once for each class: a module is wrapped at every call."""
    if (type(module), old) not in SAID:
        SAID.add((type(module), old))
        renamed(old, new)


def as_collab(model: nn.Module) -> CollabModel:
    """Return the model itself, or a plain module wrapped for one call. Raises TypeError for anything else."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model must be an nn.Module instance, got {model!r}")
    return model if isinstance(model, CollabModel) else PlainModel(model)
