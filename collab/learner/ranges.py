"""Ranges of settings, as recipes declare what is worth trying: numbers between two ends, or one of several values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol

from ..given import is_real

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""What Python writes of an object that says nothing of itself, and that is another in every process."""


class Suggests(Protocol):
    """What proposes values: a trial of Optuna."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, both included; `log`: by its logarithm; `whole`: a whole number."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Suggests, name: str) -> Any:
        """A value that the trial proposes."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def stored(self, value: Any) -> Any:
        """The value as a study keeps it."""
        return int(value) if self.whole else float(value)

    def __contains__(self, value: object) -> bool:
        return is_real(value) and self.low <= value <= self.high and (not self.whole or value == int(value))

    def __repr__(self) -> str:
        return (f"{'whole numbers' if self.whole else 'numbers'} from {self.low:g} to {self.high:g}"
                f"{' by logarithm' if self.log else ''}")


@dataclass(frozen=True)
class OneOf:
    """One of several values of any kind; a study keeps how they are written, and the positions of those that are
    written alike, such as two functions of one name."""

    values: tuple[Any, ...]

    def suggest(self, trial: Suggests, name: str) -> Any:
        """A value that the trial proposes."""
        return self.values[self._written.index(trial.suggest_categorical(name, self._written))]

    def stored(self, value: Any) -> str:
        """The value as a study keeps it."""
        return self._written[self.values.index(value)]

    @property
    def _written(self) -> list[str]:
        plain = [getattr(value, "__name__", None) or ADDRESS.sub("", repr(value)) for value in self.values]
        return [text if plain.count(text) == 1 else f"{text} ({n})" for n, text in enumerate(plain, 1)]

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def __repr__(self) -> str:
        return f"one of {', '.join(self._written)}"


Span = Between | OneOf
Space = dict[str, Span]
"""The name of a setting -> where to look for it."""

FACTORS = Between(10, 200, log=True, whole=True)
RATE, DECAY = Between(0.3, 3.0, log=True), Between(0.1, 10.0, log=True)     # times the recipe's own


def epochs(recipe: int, most: int | None = None) -> Between:
    """Whole numbers around those of a recipe."""
    return Between(max(1, recipe // 2), most or 3 * recipe, whole=True)
