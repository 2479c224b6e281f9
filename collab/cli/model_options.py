"""What the command line knows about models: their names, their defaults, and which options each one uses."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Model(StrEnum):
    """The models that can be trained by name."""

    DOT_BIAS = "dot_bias"
    DOT = "dot"
    NET = "net"
    SVDPP = "svdpp"
    HYBRID = "hybrid"
    CLASSIFIER = "classifier"
    BPR = "bpr"
    SOFTMAX = "softmax"
    TWO_TOWER = "two_tower"
    ALS = "als"
    EASE = "ease"
    INFINITE_AE = "infinite_ae"


# Facts about models: everything below this block asks for them through the functions.
_EPOCHS = {"svdpp": 10, "hybrid": 10, "bpr": 15, "softmax": 30, "als": 15, "ease": 1, "infinite_ae": 1}
_SIZES = {"svdpp": 1024, "hybrid": 1024, "bpr": 1024, "softmax": 16_384, "two_tower": 1024}
_SWEEPS, _AT_ONCE = ("als",), ("ease", "infinite_ae")
_ITEMS, _USERS = ("hybrid", "softmax", "two_tower"), ("hybrid", "two_tower")
_NEED_METADATA = ("hybrid",)


def epochs_of(name: str) -> int:
    """How many epochs (of a solved model sweeps) `name` is trained for by default."""
    return _EPOCHS.get(name, 5)


def bs_of(name: str) -> int:
    """How many ratings a batch of `name` has by default."""
    return _SIZES.get(name, 64)


def is_solved(name: str) -> bool:
    """Whether `name` is solved, by sweeps or at once, instead of trained by gradients."""
    return name in (*_SWEEPS, *_AT_ONCE)


def uses(name: str, option: str) -> bool:
    """Whether an option of `collab train` changes anything for the model: "lr", "wd", "bs", "factors", "epochs" and
    "seed"; "items" and "users" are metadata beyond titles."""
    if option in ("items", "users"):
        return name in (_ITEMS if option == "items" else _USERS)
    return not ((option in ("lr", "wd", "bs") and is_solved(name))
                or (option in ("factors", "epochs", "seed") and name in _AT_ONCE))


def needs_metadata(name: str) -> bool:
    """Whether `name` can only be trained with metadata beyond titles, of items or of users."""
    return name in _NEED_METADATA


# Help texts -------------------------------------------------------------------------------------------------------

def _without(option: str) -> str:
    """The models that do not use an option: "als, ease"."""
    return ", ".join(name for name in Model if not uses(name, option))


def _defaults(of: Callable[[str], int], option: str) -> str:
    """The default of most models, and the models with another one: "5 (svdpp, hybrid: 10; bpr: 15)"."""
    values = {name: of(name) for name in Model if uses(name, option)}
    usual = max(values.values(), key=[*values.values()].count)
    names = {value: ", ".join(name for name in values if values[name] == value) for value in sorted({*values.values()})}
    others = "; ".join(f"{names[value]}: {value:,}" for value in names if value != usual)
    return f"{usual:,} ({others})" if others else f"{usual:,}"


MODEL_HELP = ("For ratings: biases and factors, factors alone, a network, ratings as classes, SVD++ on both sides, or "
              "SVD++ with metadata (hybrid). For ranking: bpr, softmax, two_tower, als, ease, infinite_ae.")
FACTORS_HELP = f"Factors per user and item; by default 50. Not for {_without('factors')}."
EPOCHS_HELP = (f"Passes over the training ratings, or sweeps of als; by default {_defaults(epochs_of, 'epochs')}. "
               f"{_without('epochs')} are solved at once.")
BS_HELP = (f"Ratings per batch; larger is faster. By default {_defaults(bs_of, 'bs')}. Not for "
           f"{_without('bs')}.")
USERS_HELP = ("A file with a user id in each row and what is known about the user; for "
              f"{' and '.join(name for name in Model if uses(name, 'users'))}.")
