"""Arguments and options that several commands take, in one wording, and the panel of the help in which each stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .command import COLUMNS, FILES, MODEL, SPLIT, Output
from .complete import data_names, duplicates, encodings, formats, models, splits
from .model_help import BS_HELP, EPOCHS_HELP, FACTORS_HELP, MODEL_HELP, USERS_HELP

DEFAULT, OUT = "dot_bias", Path("model.safetensors")

DATA_HELP = ("ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small; or a file: CSV, TSV, '::'-separated "
             "(.dat), Parquet, RecBole (.inter).")
Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False, autocompletion=data_names)]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="The model file that collab train wrote.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write the model.")]
Count = Annotated[int, typer.Option("-n", min=1, help="How many.")]
As = Annotated[Output | None, typer.Option("--as", help="How to print: table (the default), csv or json.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and, with --as csv or json, no remarks; "
                                                         "warnings are shown.")]

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

# Columns and rows --------------------------------------------------------------------------------------------------

UserCol = Annotated[str | None, typer.Option(rich_help_panel=COLUMNS,
                                             help="The column of users; by default the first.")]
ItemCol = Annotated[str | None, typer.Option(rich_help_panel=COLUMNS,
                                             help="The column of items; by default the second.")]
RatingCol = Annotated[str | None, typer.Option(rich_help_panel=COLUMNS,
                                               help="The column of ratings; by default the third.")]
TimeCol = Annotated[str | None, typer.Option(rich_help_panel=COLUMNS,
                                             help="The column of times; by default one called time or timestamp.")]
TitleCol = Annotated[str | None, typer.Option(rich_help_panel=COLUMNS,
                                              help="The column of titles in --items, by default guessed; without "
                                                   "--items, in the ratings.")]
Duplicates = Annotated[str | None, typer.Option(rich_help_panel=COLUMNS, autocompletion=duplicates,
                                                help="What to do with pairs that are rated again: keep (the default), "
                                                     "mean or error; with --implicit they are added up.")]
BadRows = Annotated[str | None, typer.Option(rich_help_panel=COLUMNS,
                                             help="What to do with rows whose user, item or rating is missing or "
                                                  "cannot be used: error (the default) or drop.")]
Implicit = Annotated[bool, typer.Option("--implicit", rich_help_panel=COLUMNS,
                                        help="Rows are choices, not ratings; a rating, if there is one, is the "
                                             "strength of the choice. Repeated pairs count more.")]
Threshold = Annotated[float | None, typer.Option(rich_help_panel=COLUMNS,
                                                 help="Implicit, and only rows rated above this count: 3 for stars, "
                                                      "0.5 for yes and no.")]

# Reading files -----------------------------------------------------------------------------------------------------

Items = Annotated[Path | None, typer.Option(rich_help_panel=FILES,
                                            help="A file with an item id in each row, its title, and what is known "
                                                 "about it.")]
Users = Annotated[Path | None, typer.Option(rich_help_panel=FILES, help=USERS_HELP)]
Sep = Annotated[str | None, typer.Option(rich_help_panel=FILES, help="The separator of a text file; by default the one "
                                                                     "that its extension implies.")]
TableSep = Annotated[str | None, typer.Option(rich_help_panel=FILES, help="The separator of --items and --users, if it "
                                                                          "is not that of --sep.")]
Format = Annotated[str | None, typer.Option(rich_help_panel=FILES, autocompletion=formats,
                                            help="csv, tsv, ::, parquet or recbole; by default from the extension.")]
Header = Annotated[bool | None, typer.Option("--header/--no-header", show_default=False, rich_help_panel=FILES,
                                             help="Whether the first line has the column names; by default guessed.")]
Encoding = Annotated[str | None, typer.Option(rich_help_panel=FILES, autocompletion=encodings,
                                              help="The encoding of text files; by default UTF-8.")]
DecimalMark = Annotated[str | None, typer.Option("--decimal", rich_help_panel=FILES,
                                                 help="The decimal mark of numbers in text files: , for 4,5; by "
                                                      "default the point.")]
DateFormat = Annotated[str | None, typer.Option(rich_help_panel=FILES,
                                                help="How dates in text files are written, if not as 2018-10-18: "
                                                     "'%d.%m.%Y' for 18.10.2018.")]
