"""Why saved weights do not fit a model, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn


def misfit(weights: Mapping[str, Tensor], model: nn.Module, saved_class: str | None = None) -> str | None:
    """Say why saved weights do not fit a model, None where they do: the class that they were saved from is another, the
    one has names that the other lacks, or the shapes of the same names differ. Of several, the first is shown."""
    saved, now = ({name: tuple(t.shape) for name, t in some.items() if isinstance(t, Tensor)}
                  for some in (weights, model.state_dict()))
    if saved == now:
        return None
    if saved_class is not None and saved_class.rpartition(".")[2] != type(model).__name__:
        return f"its class is {saved_class}, this model's {type(model).__name__}"
    lacks = [f"{whose} no {_first(names)}" for whose, names in
             (("it has", [name for name in now if name not in saved]),
              ("this model has", [name for name in saved if name not in now])) if names]
    if lacks:
        return " and ".join(lacks)
    differ = [name for name in now if saved[name] != now[name]]
    others = f", and {len(differ) - 1} other{' differs' if len(differ) == 2 else 's differ'}" if differ[1:] else ""
    return f"its {differ[0]} has shape {saved[differ[0]]}, this model's {now[differ[0]]}{others}"


def _first(names: Iterable[str]) -> str:
    first, *more = names
    return f"{first}{f' (nor {len(more)} more)' if more else ''}"
