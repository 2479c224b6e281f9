"""What callers give: values that may be no numbers, and keywords that a function does not have."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from numbers import Real
from typing import Any, TypeGuard, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

RATES = ("lr_max", "lr")
COUNTERPARTS = {
    **dict.fromkeys(("lr", "lr_max", "max_lr", "learning_rate"), RATES), "weight_decay": ("wd",),
    **dict.fromkeys(("epochs", "n_epoch", "num_epochs", "max_epochs", "cyc_len"), ("n_epochs", "n_cycles")),
    **dict.fromkeys(("callbacks", "callback"), ("cbs",)), "div_factor": ("div",), "final_div": ("div_final",),
    "optimizer": ("opt_func",), "loss": ("loss_func",), "layers": ("hidden",), "use_nn": ("model",)}
"""Names that other libraries have, fastai's first -> what they are called here, in the order of preference."""


def is_real(value: object) -> TypeGuard[float]:
    """Whether a value is a real number, of Python or numpy; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def counterpart(name: str, own: Iterable[str]) -> str | None:
    """The one of a function's `own` keywords that is likely meant by another name, if any."""
    own = list(own)
    known = [mine for mine in COUNTERPARTS.get(name, ()) if mine in own]
    return next(iter(known or difflib.get_close_matches(name, own, n=1)), None)


def told(function: F) -> F:
    """Make a function say which of its keywords is meant where it is called with one that it does not have: TypeError.

    >>> @told
    ... def fit(n_epochs, lr_max=None): ...
    >>> fit(1, lr=0.1)
    Traceback (most recent call last):
    TypeError: fit() takes lr_max, not lr
    """
    own = inspect.signature(function).parameters

    @wraps(function)
    def checked(*args: Any, **keywords: Any) -> Any:
        for name in (name for name in keywords if name not in own):
            if meant := counterpart(name, own):
                raise TypeError(f"{function.__name__}() takes {meant}, not {name}")
        return function(*args, **keywords)
    return cast(F, checked)
