"""What an object is built again from: the name of its class and the arguments that it was given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any


def recording(init: Callable[..., None]) -> Callable[..., None]:
    """`__init__` that keeps its arguments as `config`, those of the outermost class; `interactions` are data."""
    signature = inspect.signature(init)
    kinds = {name: p.kind for name, p in signature.parameters.items()}

    @wraps(init)
    def recorded(self: object, *args: Any, **kwargs: Any) -> None:
        outermost = "config" not in vars(self) and not isinstance(vars(type(self)).get("config"), property)
        given: dict[str, Any] = {}
        whole = True
        if outermost:
            try:
                bound = signature.bind(self, *args, **kwargs)
            except TypeError:
                return init(self, *args, **kwargs)      # which says what is missing in its own words
            bound.apply_defaults()
            for name, value in list(bound.arguments.items())[1:]:
                if kinds[name] is inspect.Parameter.VAR_POSITIONAL:
                    whole = not value                   # the class that they are passed on to has names for them
                elif kinds[name] is inspect.Parameter.VAR_KEYWORD:
                    given |= value
                elif name != "interactions":
                    given[name] = value
            if whole:
                vars(self)["config"] = given
        init(self, *args, **kwargs)
        if outermost and not whole:
            vars(self)["config"] = {**vars(self).get("config", {}), **given}
    return recorded


def class_name(cls: type) -> str:
    """The name of a class in files: that of collab's own, others with their module."""
    return cls.__name__ if cls.__module__.startswith("collab.") else f"{cls.__module__}.{cls.__qualname__}"
