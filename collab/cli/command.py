"""What all commands share: an option given twice is refused, the library loads when a command runs, and messages name
options, not arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperOption

from .. import interrupt

if TYPE_CHECKING:
    from typer._click import Context  # the class that TyperCommand's own signatures name

OPTIONS = {"user_name=": "--user-col ", "item_name=": "--item-col ", "rating_name=": "--rating-col ",
           "time_name=": "--time-col ", "title_name=": "--title-col ", "sep=": "--sep ", "format=": "--format ",
           "header=False": "--no-header", "header=True": "--header", "encoding=": "--encoding ",
           "min_ratings=": "--min-ratings ", "duplicates=": "--duplicates ", "threshold=": "--threshold ",
           "valid_pct=": "--valid-pct ", "implicit=True": "--implicit", "where=": "--where ", "among=": "--among ",
           "without=": "--without "}


class Output(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Command(TyperCommand):
    """A command that refuses an option which is given twice, where the parser would silently take the last one."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        *_, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in dict.fromkeys(given):
            if (n := given.count(option)) > 1 and isinstance(option, TyperOption) and not (
                    option.multiple or option.is_eager):
                ctx.fail(f"{option.opts[0]} is given {n} times; it takes one value")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Context) -> Any:
        """Load the library, which takes more than a second, and run the command. From then on Ctrl-C is raised, so that
        running work can clean up."""
        import_module("collab.public")
        interrupt.loaded()
        return super().invoke(ctx)


def as_options(message: str, options: Mapping[str, str] = OPTIONS) -> str:
    """Replace the library's arguments in a message by the options of the command line. One without a value, such as
    "format=" before a comma, gets no space for it."""
    pattern = "|".join(rf"(?<![\w-]){re.escape(argument)}" for argument in options)

    def option(found: re.Match[str]) -> str:
        alone = re.match(r"[,;:)\s]|\.?(\s|$)", message[found.end():])
        return options[found[0]].rstrip() if alone else options[found[0]]
    return re.sub(pattern, option, message)
