"""The command that follows another one: what was given to that, as far as the next one takes it too."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any


def next_command(ctx: Any, name: str, *words: str, without: Iterable[str] = ()) -> str:
    """The command line of `name` with the arguments of the command that runs in a Context, these `words`, and the
    options that were given and that `name` has too, but for those named in `without`. Quoted for a shell."""
    taken = {param.name for param in ctx.parent.command.commands[name].params} - {*without}
    arguments, options = [], []
    for param in ctx.command.params:
        value = ctx.params.get(param.name)
        if param.name not in taken or value is None or value == param.default:
            continue
        if param.param_type_name == "argument":
            arguments.append(str(value))
        elif isinstance(value, bool):
            options.append(param.opts[0] if value else param.secondary_opts[0])
        else:
            options += [param.opts[0], f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(["collab", name, *arguments, *words, *options])
