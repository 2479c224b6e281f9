"""Search spaces: that of a recipe, or one that a caller gives, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import DataError
from ..given import counterpart, is_real
from ..learner.ranges import Between, OneOf, Space, Span
from ..learner.recipes import Recipe
from .candidates import OF_FIT, OF_LEARNER, model_options, objective_options

WHOLE = ("n_factors", "epochs", "bs", "n_negatives", "n_layers", "depth", "cg_steps")
ONE_OF_BOTH = (("lr", "lr_times"), ("wd", "wd_times"))


def options_of(recipe: Recipe, ranks: bool) -> list[str]:
    """The names of all settings that change anything for a model that is trained to rank, or not."""
    idle = {name for name, means in (("n_factors", recipe.takes("n_factors")), ("epochs", not recipe.at_once),
                                     ("y_range", recipe.takes("y_range")), ("ridge", recipe.ridge and not ranks))
            if not means}
    if recipe.solved:
        idle |= {"lr", "wd", "lr_times", "wd_times", "bs", "loss_func"}
    if not recipe.wd:
        idle.add("wd_times")
    named = (*OF_LEARNER, *OF_FIT, *model_options(recipe), *(objective_options(recipe) if ranks else ()))
    return [name for name in dict.fromkeys(named) if name not in idle]


def space_of(recipe: Recipe, given: Mapping[str, Any] | None, fixed: Mapping[str, Any], ranks: bool) -> Space:
    """The space to search: that of the recipe or, in its place, the one `given`, without what is `fixed`.

    `given` maps names of settings to (low, high), (low, high, "log"), or a list of values. Raises DataError for a name
    that changes nothing or that the model does not have, with what is near, and for what is not a range."""
    allowed = options_of(recipe, ranks)
    for name in fixed:
        _check_name(name, recipe, allowed)
    if given is None:
        own = recipe.search
        return {name: span for name, span in own.items() if name in allowed and name not in fixed
                and not any(name in pair and other in fixed for pair in ONE_OF_BOTH for other in pair)}
    if not isinstance(given, Mapping) or not given:
        raise DataError('space is a dict of settings and ranges, such as {"n_factors": (10, 100), "lr_times": (0.3, 3, '
                        f'"log")}}, got {given!r}')
    space = {}
    for name, span in given.items():
        _check_name(name, recipe, allowed)
        if name in fixed:
            raise DataError(f"space: {name!r} is given as {fixed[name]!r} too; leave one of the two out")
        space[name] = span_of(name, span)
    for pair in ONE_OF_BOTH:
        if all(name in {*space, *fixed} for name in pair):
            raise DataError(f"space: {pair[1]!r} is a multiple of the recipe's own {pair[0]!r}; take one of the two")
    return space


def span_of(name: str, given: Any) -> Span:
    """A range as people write it: (low, high), (low, high, "log"), or a list of values. Whole numbers make a range of
    whole numbers where the setting is one, such as n_factors. Raises DataError for anything else."""
    if isinstance(given, Between | OneOf):
        return given
    if isinstance(given, list) and given:
        return OneOf(tuple(tuple(value) if isinstance(value, list) else value for value in given))
    wrong = DataError(f"space: {name!r} needs (low, high), (low, high, \"log\") or a list of values, got {given!r}")
    if not isinstance(given, tuple) or len(given) not in (2, 3) or not all(map(is_real, given[:2])):
        raise wrong
    low, high = given[:2]
    if given[2:] not in ((), ("log",)):
        raise wrong
    if not low < high or (given[2:] and low <= 0):
        above = ", above 0 by logarithm" if low <= 0 else ""
        raise DataError(f"space: {name!r} must have a lower and a higher end{above}, got {given!r}")
    if name in WHOLE and not (low == int(low) >= 1 and high == int(high)):
        raise DataError(f"space: {name!r} is a whole number from 1 on, got {given!r}")
    return Between(low, high, log=len(given) == 3, whole=name in WHOLE)


def _check_name(name: str, recipe: Recipe, allowed: list[str]) -> None:
    if name in allowed:
        return
    near = counterpart(name, allowed)
    hint = f"; did you mean {near!r}?" if near else "."
    raise DataError(f"space: {recipe.name} has no setting {name!r}{hint} Settings are {', '.join(allowed)}")
