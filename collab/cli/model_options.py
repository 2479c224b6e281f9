"""What the command line knows about models: their names, their defaults, and which options each one uses."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from ..errors import DataError
from ..learner.recipes import RECIPES

DEFAULT = "dot_bias"


def check_model(name: str) -> None:
    """Raise DataError for a name that no recipe has."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        raise DataError(f"--model {name} is not one of {', '.join(RECIPES)}"
                        f"{f'; did you mean {near[0]}?' if near else ''}")


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


# Help texts -------------------------------------------------------------------------------------------------------

def _without(option: str) -> str:
    """The models that do not use an option: "als, ease"."""
    return ", ".join(name for name in RECIPES if not uses(name, option))


def _defaults(of: Callable[[str], int], option: str) -> str:
    """The default of most models, and the models with another one: "5 (svdpp, hybrid: 10; bpr: 15)"."""
    values = {name: of(name) for name in RECIPES if uses(name, option)}
    usual = max(values.values(), key=[*values.values()].count)
    names = {value: ", ".join(name for name in values if values[name] == value) for value in sorted({*values.values()})}
    others = "; ".join(f"{names[value]}: {value:,}" for value in names if value != usual)
    return f"{usual:,} ({others})" if others else f"{usual:,}"


def _kinds(ranks: bool) -> str:
    return "; ".join(f"{name}, {recipe.about}" for name, recipe in RECIPES.items() if recipe.ranks == ranks)


MODEL_HELP = f"For ratings: {_kinds(False)}. For ranking: {_kinds(True)}."
FACTORS_HELP = f"Factors per user and item; by default 50. Not for {_without('factors')}."
EPOCHS_HELP = (f"Passes over the training ratings, or sweeps of als; by default {_defaults(epochs_of, 'epochs')}. "
               f"{_without('epochs')} are solved at once.")
BS_HELP = (f"Ratings per batch; larger is faster. By default {_defaults(bs_of, 'bs')}. Not for "
           f"{_without('bs')}.")
USERS_HELP = ("A file with a user id in each row and what is known about the user; for "
              f"{' and '.join(name for name in RECIPES if uses(name, 'users'))}.")
