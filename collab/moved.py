"""Modules of the version before, and names within modules, that have moved: they work for one version more, with a
DeprecationWarning that says the new one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .errors import renamed

MODULES = {
    "build": "learner.factory", "closed_form": "learner.sweeps", "ensembles": "learner.ensembles",
    "fold_in": "retrieval.fold_in_ratings", "frames": "data.frames", "index": "retrieval.index",
    "objectives": "learner.objectives", "recipe": "learner.settings", "recommend": "retrieval.topk",
    "rows": "numerics", "saved": "learner.export", "screen": "environment",
    "data.dataset": "datasets.rating_set", "data.download": "datasets.download", "data.explore": "datasets.explore",
    "data.files": "data.tables", "data.history": "data.histories", "data.movielens": "datasets.movielens",
    "data.movielens_formats": "datasets.movielens_formats", "data.rated": "data.new_user",
    "data.synthetic": "datasets.synthetic", "evaluate.callback": "evaluate.ranking_metrics",
    "interpret.errors": "evaluate.accuracy", "models.products": "numerics", "train.averaging":
    "train.callbacks.averaging", "train.checkpoint": "files", "train.every": "train.callbacks.record_every",
    "train.loggers": "train.callbacks.loggers", "train.progress": "train.callbacks.progress", "train.recorder":
    "train.callbacks.recorder", "train.resume": "train.callbacks.resume", "train.scores": "train.callbacks.scores",
    "train.seeded": "train.callbacks.seeded", "train.snapshots": "train.callbacks.snapshots", "train.steps":
    "train.callbacks.steps", "train.terms": "train.callbacks.loss_terms", "train.trackers":
    "train.callbacks.trackers", "train.yardstick": "train.callbacks.yardstick"}
"""Module of the version before -> where what it held is now."""

MOVED = {
    "learner": {"CollabLearner": "learner.collab_learner", "fill_unknown": "learner.unknown_rows"},
    "learner.new_users": {"recommend_all": "learner.batch_output"},
    "losses": dict.fromkeys(("FactorTerm", "Gravity", "L2"), "models.penalties"),
    "models.embedding": {"EmbeddingNet": "models.net"},
    "retrieval.fold_in_ratings": {**dict.fromkeys(("choose_ranked_ridge", "solve_ranked"), "retrieval.fold_in_ranking"),
                                  "pull_of": "retrieval.fold_in_terms"},
    "serve": {"recommend_all": "learner.batch_output",
              **dict.fromkeys(("add_ratings", "rated_rows", "scores_of"), "learner.new_users")}}
"""Module -> names that it had (itself, or under its own old name), and the module where each is now."""

PACKAGE = __name__.partition(".")[0]


def keeps_old_names(module: str) -> None:
    """Let a module of MOVED, which calls this at its end, find the names that it had."""
    vars(sys.modules[module])["__getattr__"] = partial(_moved, module.removeprefix(f"{PACKAGE}."))      # PEP 562


def _moved(module: str, name: str) -> Any:
    """What a module had under that name. Raises AttributeError for another name."""
    if name not in MOVED[module]:
        raise AttributeError(f"module '{PACKAGE}.{module}' has no attribute {name!r}")
    new = f"{PACKAGE}.{MOVED[module][name]}"
    renamed(f"{PACKAGE}.{module}.{name}", f"{new}.{name}")
    return getattr(importlib.import_module(new), name)


class OldModules(MetaPathFinder, Loader):
    """Finds modules under the names of the version before."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None,
                  ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == PACKAGE and name in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        name = MODULES[spec.name.partition(".")[2]]
        renamed(spec.name, f"{PACKAGE}.{name}")
        module = importlib.import_module(f"{PACKAGE}.{name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed under its own name, and keeps the specification that it was found by."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.append(OldModules())
