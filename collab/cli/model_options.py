"""What the command line knows about models: their names, their defaults, and which options each one uses."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from ..errors import DataError
from ..learner.recipes import RECIPES
from .command import known_as
from .inputs import WITHOUT_CHANCE, WITHOUT_FRACTION, given, named
from .options import TableOptions


def check_model(name: str, option: str = "--model") -> None:
    """Raise DataError for a name, given by `option`, that no recipe has. Its model goes by it from then on."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        raise DataError(f"{option} {name} is not one of {', '.join(RECIPES)}"
                        f"{f'; did you mean {near[0]}?' if near else ''}")
    known_as(RECIPES[name].model.__name__, name)


def epochs_of(name: str) -> int:
    """How many epochs (of a solved model sweeps) `name` is trained for by default."""
    recipe = RECIPES[name]
    return recipe.model.n_sweeps or recipe.epochs


def bs_of(name: str) -> int:
    """How many ratings a batch of `name` has by default."""
    return RECIPES[name].bs


def is_solved(name: str) -> bool:
    """Whether `name` is solved, by sweeps or at once, instead of trained by gradients."""
    return RECIPES[name].solved


def uses(name: str, option: str) -> bool:
    """Whether an option of `collab train` changes anything for the model: "lr", "wd", "bs", "factors", "epochs" and
    "seed"; "items" and "users" are metadata beyond titles."""
    recipe = RECIPES[name]
    if option in ("items", "users"):
        return option.removesuffix("s") in recipe.reads
    if option in ("lr", "wd", "bs"):
        return not recipe.solved
    return recipe.takes("n_factors") if option == "factors" else not recipe.at_once


def needs_metadata(name: str) -> bool:
    """Whether `name` can only be trained with metadata beyond titles, of items or of users."""
    return RECIPES[name].needs_features


def check_used(model: str, split: str, table: TableOptions, options: Mapping[str, object]) -> None:
    """Raise DataError for options, of those given, that would change nothing."""
    options = {**options, **given(users=table.users, duplicates=table.duplicates)}
    at_once = [name for name in ("factors", "epochs") if (name, options.get(name)) != ("epochs", 1)]
    idle = {f"--model {model} is solved, not trained step by step, and takes":
                ("lr", "wd", "bs") if is_solved(model) else (),
            f"--model {model} is solved at once, without factors, and takes":
                [name for name in at_once if not uses(model, name)],
            f"--split {split} decides by itself what is held out, and takes":
                ("valid_pct",) if split in WITHOUT_FRACTION else (),
            f"--model {model} knows users by their ids and what they rated, and takes":
                () if uses(model, "users") else ("users",),
            f"--model {model} with --split {split} leaves nothing to chance, and takes":
                () if uses(model, "seed") or split not in WITHOUT_CHANCE else ("seed",),
            "implicit data are added up where a pair comes again, and take": ("duplicates",) if table.choices else ()}
    for why, names in idle.items():
        if said := [name for name in names if name in options]:
            raise DataError(f"{why} no {named(said)}")
