"""The command that follows another one: what was given to that, or what a report advises, as far as the next one takes
it too."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any


def next_command(ctx: Any, name: str, *words: str, without: Iterable[str] = ()) -> str:
    """The command line of `name` with the arguments of the command that runs in a Context, these `words`, and the
    options that were given and that `name` has too, but for those named in `without`. Quoted for a shell."""
    given = {param.name: ctx.params.get(param.name) for param in ctx.command.params if param.name not in {*without}
             and ctx.params.get(param.name) != param.default}
    return _written(ctx, name, given, words)


def train_command(ctx: Any, source: str, options: Mapping[str, Any]) -> str:
    """The command line that trains on a table with these arguments of `from_csv`, for a shell; of choices a model that
    ranks."""
    renamed = {name.replace("_name", "_col"): value for name, value in options.items()}
    if "bad_lines" in renamed:
        renamed.setdefault("bad_rows", renamed.pop("bad_lines"))
    choices = "threshold" in renamed or renamed.get("implicit")
    if choices:
        renamed.pop("duplicates", None)             # which are added up
    if "threshold" in renamed:
        renamed.pop("implicit", None)               # which it implies
    return _written(ctx, "train", {"data": source, **renamed, "model": "als" if choices else None})


def _written(ctx: Any, name: str, given: Mapping[str, Any], words: Iterable[str] = ()) -> str:
    """The command line of `name` with what it has of these values of parameters."""
    params = {param.name: param for param in ctx.parent.command.commands[name].params}
    arguments, options = [], []
    for key, value in given.items():
        if (param := params.get(key)) is None or value is None:
            continue
        if param.param_type_name == "argument":
            arguments.append(str(value))
        elif isinstance(value, bool):
            options += [*(param.opts if value else param.secondary_opts)[:1]]
        else:
            options += [param.opts[0], f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(["collab", name, *arguments, *words, *options])
