"""Arguments and options that several commands take, in one wording, and the panel of the help in which each stands.

Those that say how a table is read are groups: a command has a parameter of the group's class, and `grouped` gives it an
option for each of its fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer

from .command import COLUMNS, FILES, MODEL, SPLIT, Output
from .complete import data_names, duplicates, encodings, formats, models, splits
from .model_help import BS_HELP, EPOCHS_HELP, FACTORS_HELP, MODEL_HELP, USERS_HELP

if TYPE_CHECKING:
    from .inputs import Reading

DEFAULT, OUT = "dot_bias", Path("model.safetensors")

DATA_HELP = ("ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small; or a file: CSV, TSV, '::'-separated "
             "(.dat), Parquet, RecBole (.inter).")
Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False, autocompletion=data_names)]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="The model file that collab train wrote.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write the model.")]
Count = Annotated[int, typer.Option("-n", min=1, help="How many.")]
As = Annotated[Output | None, typer.Option("--as", help="How to print: table (the default), csv or json.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no warnings of what other options ask for, "
                                                         "such as --bad-rows drop, and, with --as csv or json, no "
                                                         "remarks.")]

Log = Annotated[Path | None, typer.Option(help="A file to append the state of the run to while it trains, as JSON "
                                               "lines.")]
NoCard = Annotated[bool, typer.Option("--no-card", help="Write no model card (model.md) beside the model.")]

# The model ---------------------------------------------------------------------------------------------------------

ModelName = Annotated[str, typer.Option(metavar="NAME", help=MODEL_HELP, rich_help_panel=MODEL, autocompletion=models)]
Factors = Annotated[int | None, typer.Option(min=1, help=FACTORS_HELP, rich_help_panel=MODEL)]
Epochs = Annotated[int | None, typer.Option(min=1, help=EPOCHS_HELP, rich_help_panel=MODEL)]
BatchSize = Annotated[int | None, typer.Option(min=1, help=BS_HELP, rich_help_panel=MODEL)]
Rate = Annotated[float | None, typer.Option(min=0, rich_help_panel=MODEL,
                                            help="Peak learning rate; by default the model's own.")]
Decay = Annotated[float | None, typer.Option(min=0, rich_help_panel=MODEL,
                                             help="Decoupled weight decay; by default the model's own.")]
Seed = Annotated[int | None, typer.Option(rich_help_panel=MODEL, help="The same seed gives the same model, to the last "
                                                                      "bit; by default 0.")]

# What is held out --------------------------------------------------------------------------------------------------

SplitName = Annotated[str, typer.Option(rich_help_panel=SPLIT, autocompletion=splits,
                                        help="What is held out: random, time (the latest), per-user (some of each), "
                                             "last (each user's last), users (whole users), or u1 to u5 of ml-100k.")]
ValidPct = Annotated[float | None, typer.Option(min=0, max=0.99, rich_help_panel=SPLIT,
                                                help="The fraction held out; by default 0.2. Not for last and u1 to "
                                                     "u5.")]

Test = Annotated[str | None, typer.Option(metavar="FRACTION|FILE", rich_help_panel=SPLIT,
                                          help="What is held out for the end, and seen neither by training nor by "
                                               "validation: a fraction of the ratings, by the same --split and before "
                                               "it, or a file of ratings.")]

# Groups: how a table is read ---------------------------------------------------------------------------------------

Duplicates = Annotated[str | None, typer.Option(rich_help_panel=COLUMNS, autocompletion=duplicates,
                                                help="What to do with pairs that are rated again: last or first (by "
                                                     "time, without one by the order of the table), mean, error or "
                                                     "keep (the default, which warns if nobody chose it); with "
                                                     "--implicit they are added up.")]
BadRows = Annotated[str | None, typer.Option(rich_help_panel=COLUMNS,
                                             help="What to do with rows whose user, item or rating (with --split "
                                                  "time, time) is missing or cannot be used: error (the "
                                                  "default) or drop.")]


def _file(*names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=FILES, **more)


def _column(*names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=COLUMNS, **more)


@dataclass(frozen=True)
class FileOptions:
    """How a file is read."""

    sep: Annotated[str | None, _file(help="The separator of a text file; by default the one that its extension "
                                          "implies.")] = None
    format: Annotated[str | None, _file(autocompletion=formats, help="csv, tsv, ::, parquet or recbole; by default "
                                                                     "from the extension.")] = None
    header: Annotated[bool | None, _file("--header/--no-header", show_default=False,
                                         help="Whether the first line has the column names; by default "
                                              "guessed.")] = None
    encoding: Annotated[str | None, _file(autocompletion=encodings, help="The encoding of text files; by default "
                                                                         "UTF-8.")] = None
    decimal: Annotated[str | None, _file(help="The decimal mark of numbers in text files: , for 4,5; by default the "
                                              "point.")] = None
    date_format: Annotated[str | None, _file(help="How dates in text files are written, if not as 2018-10-18: "
                                                  "'%d.%m.%Y' for 18.10.2018.")] = None

    @property
    def reading(self) -> Reading:
        """Those that were given, as `read_table` takes them."""
        values = {field.name: getattr(self, field.name) for field in fields(FileOptions)}
        return cast("Reading", {name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True)
class ColumnOptions(FileOptions):
    """Which columns have what `evaluate` needs."""

    user_col: Annotated[str | None, _column(help="The column of users; by default the first.")] = None
    item_col: Annotated[str | None, _column(help="The column of items; by default the second.")] = None
    rating_col: Annotated[str | None, _column(help="The column of ratings; by default the third.")] = None
    time_col: Annotated[str | None, _column(help="The column of times; by default one called time or "
                                                 "timestamp.")] = None


@dataclass(frozen=True)
class RatingsOptions(ColumnOptions):
    """A table of ratings, and which of its rows count as what."""

    title_col: Annotated[str | None, _column(help="The column of titles in --items, by default guessed; without "
                                                  "--items, in the ratings.")] = None
    duplicates: Duplicates = None
    bad_rows: BadRows = None
    implicit: Annotated[bool, _column("--implicit", help="Rows are choices, not ratings; a rating, if there is one, is "
                                                         "the strength of the choice. Repeated pairs count "
                                                         "more.")] = False
    threshold: Annotated[float | None, _column(help="Implicit, and only rows rated above this count: 3 for stars, 0.5 "
                                                    "for yes and no.")] = None

    @property
    def columns(self) -> dict[str, str | None]:
        """The names of columns, as `CollabDataBunch.from_df` takes them."""
        return {name.replace("_col", "_name"): value for name, value in asdict(self).items() if name.endswith("_col")}

    @property
    def choices(self) -> bool:
        """Whether rows are choices, not ratings."""
        return self.implicit or self.threshold is not None


@dataclass(frozen=True)
class TableOptions(RatingsOptions):
    """A table of ratings with what is known about its items and users."""

    items: Annotated[Path | None, _file(help="A file with an item id in each row, its title, and what is known about "
                                             "it.")] = None
    users: Annotated[Path | None, _file(help=USERS_HELP)] = None
    table_sep: Annotated[str | None, _file(help="The separator of --items and --users, if it is not that of "
                                                "--sep.")] = None
    table_encoding: Annotated[str | None, _file(autocompletion=encodings, help="The encoding of --items and --users; "
                                                "by default UTF-8 if they are in it, else --encoding.")] = None


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of a group are given by the group's fields, in their place: these are the options that
    typer sees."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {name: kind for name, kind in hints.items() if isinstance(kind, type)
                                    and is_dataclass(kind)}
    params: list[inspect.Parameter] = []
    for param in inspect.signature(command, eval_str=True).parameters.values():
        group = groups.get(param.name)
        if group is None:
            params.append(param)
            continue
        types = get_type_hints(group, include_extras=True)
        params += [param.replace(name=field.name, annotation=types[field.name], default=field.default)
                   for field in fields(group)]

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        made = {name: kind(**{field.name: options.pop(field.name) for field in fields(kind) if field.name in options})
                for name, kind in groups.items()}
        command(*args, **options, **made)
    run.__signature__ = inspect.Signature(params)       # type: ignore[attr-defined]  # PEP 362's; mypy lacks it
    run.__annotations__ = {param.name: param.annotation for param in params}
    return run
