"""Collaborative filtering in PyTorch: ratings in, recommendations out.

>>> from collab import *
>>> data = CollabDataBunch.from_df(synthetic(seed=0).ratings, seed=0)
>>> learn = collab_learner(data)

The names are those of `collab.public`, which is imported when the first of them is asked for (PEP 562): with torch and
pandas that takes more than a second, and `collab --help` needs none of it."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import interrupt as interrupt  # before torch loads
from . import moved as moved  # finds modules under their old names
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .public import *  # noqa: F403  type checkers alone read it: a list of names here would be a second one
    from .public import __all__ as __all__


def _public() -> ModuleType:
    """The module of the public names, which become attributes of the package too."""
    public = import_module(f"{__name__}.public")        # `from . import public` would ask `__getattr__` first
    globals().update({name: getattr(public, name) for name in ("__all__", *public.__all__)})
    return public


if not TYPE_CHECKING:       # type checkers read the names above, and would take any other for known
    def __getattr__(name: str) -> Any:
        return getattr(_public(), name)     # which knows the names of the version before


def __dir__() -> list[str]:
    return sorted({*_public().__all__, "__all__", "__doc__", "__version__"})


class _Package(ModuleType):
    """The package. `collab.evaluate` is the function, before and after the room of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if (name, type(value)) != ("evaluate", ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
