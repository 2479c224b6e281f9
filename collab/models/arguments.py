"""How to build an object again: the name of its class and the arguments that it was given."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

INNER = "_inner_config"       # the arguments of a class that has just been built as part of a subclass


def recording(init: Callable[..., None]) -> Callable[..., None]:
    """Make `__init__` keep its arguments as `config`, without `interactions`, which are data: `own_interactions` says
    whether there were any. Inside `__init__`, `self.config` holds the arguments of its own class; those that reached it
    through *args or **kwargs of a subclass become part of that class' `config`."""
    signature = inspect.signature(init)
    kinds = {name: p.kind for name, p in signature.parameters.items()}

    @wraps(init)
    def recorded(self: object, *args: Any, **kwargs: Any) -> None:
        if isinstance(getattr(type(self), "config", None), property):
            return init(self, *args, **kwargs)
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:
            return init(self, *args, **kwargs)          # raises Python's own error
        bound.apply_defaults()
        named: dict[str, Any] = {}
        passed: dict[str, Any] = {}
        unnamed = False
        for name, value in list(bound.arguments.items())[1:]:
            if kinds[name] is inspect.Parameter.VAR_POSITIONAL:
                unnamed = bool(value)
            elif kinds[name] is inspect.Parameter.VAR_KEYWORD:
                passed |= value
            else:
                named[name] = copy.deepcopy(value) if isinstance(value, list | dict) else value
        for given in (named, passed):
            if given.pop("interactions", None) is not None:
                vars(self)["own_interactions"] = True
        state = vars(self)
        outer = state.get("config")
        state["config"] = named
        init(self, *args, **kwargs)
        inner = state.pop(INNER, {})
        reached = inner if unnamed else {key: inner.get(key, value) for key, value in passed.items()}
        state["config"] = {**reached, **state["config"]}
        if outer is not None:       # a subclass is being built
            state[INNER] = {**state.get(INNER, {}), **state["config"]}
            state["config"] = outer
    return recorded


def class_name(cls: type) -> str:
    """The name of a class in files: bare for collab's own, with the module for others."""
    return cls.__name__ if cls.__module__.startswith("collab.") else f"{cls.__module__}.{cls.__qualname__}"
