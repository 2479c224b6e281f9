"""How to build an object again: the name of its class and the arguments that it was given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any


def recording(init: Callable[..., None]) -> Callable[..., None]:
    """Make `__init__` keep the outermost class' arguments as `config`, without `interactions`, which are data."""
    signature = inspect.signature(init)
    kinds = {name: p.kind for name, p in signature.parameters.items()}

    @wraps(init)
    def recorded(self: object, *args: Any, **kwargs: Any) -> None:
        outermost = "config" not in vars(self) and not isinstance(getattr(type(self), "config", None), property)
        given: dict[str, Any] = {}
        whole = True
        if outermost:
            try:
                bound = signature.bind(self, *args, **kwargs)
            except TypeError:
                return init(self, *args, **kwargs)      # raises Python's own error
            bound.apply_defaults()
            for name, value in list(bound.arguments.items())[1:]:
                if kinds[name] is inspect.Parameter.VAR_POSITIONAL:
                    whole = not value                   # the class that receives them names them
                elif kinds[name] is inspect.Parameter.VAR_KEYWORD:
                    given |= {key: one for key, one in value.items() if key != "interactions"}
                elif name != "interactions":
                    given[name] = value
            if whole:
                vars(self)["config"] = given
        init(self, *args, **kwargs)
        if outermost and not whole:
            vars(self)["config"] = {**vars(self).get("config", {}), **given}
    return recorded


def class_name(cls: type) -> str:
    """The name of a class in files: bare for collab's own, with the module for others."""
    return cls.__name__ if cls.__module__.startswith("collab.") else f"{cls.__module__}.{cls.__qualname__}"
