"""What all commands share: no option is lost because it was said twice, and messages name options."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

OPTIONS = {"user_name=": "--user-col ", "item_name=": "--item-col ", "rating_name=": "--rating-col ",
           "time_name=": "--time-col ", "title_name=": "--title-col ", "sep=": "--sep ", "format=": "--format ",
           "header=False": "--no-header", "header=True": "--header", "encoding=": "--encoding ",
           "min_ratings=": "--min-ratings ", "duplicates=": "--duplicates ", "threshold=": "--threshold ",
           "valid_pct=": "--valid-pct ", "implicit=True": "--implicit"}


class Command(TyperCommand):
    """A command that refuses an option which is given again, where the parser would take the last without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        *_, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in dict.fromkeys(given):
            if (n := given.count(option)) > 1 and option.param_type_name == "option" and not (
                    option.multiple or option.is_eager):
                ctx.fail(f"{option.opts[0]} is given {n} times; it takes one value")
        return super().parse_args(ctx, args)


def as_options(message: str) -> str:
    """Where the library names an argument, the option that stands for it here."""
    pattern = "|".join(rf"(?<![\w-]){re.escape(argument)}" for argument in OPTIONS)
    return re.sub(pattern, lambda found: OPTIONS[found[0]], message)
