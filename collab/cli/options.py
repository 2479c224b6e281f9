"""Arguments and options that several commands take, in one wording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .command import Output
from .model_help import BS_HELP, EPOCHS_HELP, FACTORS_HELP, MODEL_HELP, USERS_HELP

DEFAULT, OUT = "dot_bias", Path("model.safetensors")

DATA_HELP = ("ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small; or a file: CSV, TSV, '::'-separated "
             "(.dat), Parquet, RecBole (.inter).")
Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="The model file that collab train wrote.")]
SplitName = Annotated[str, typer.Option(help="What is held out: random, time (the latest), per-user (some of each), "
                                             "last (each user's last), users (whole users), or u1 to u5 of ml-100k.")]
ValidPct = Annotated[float | None, typer.Option(min=0, max=0.99, help="The fraction held out; by default 0.2. Not for "
                                                                      "last and u1 to u5.")]
ModelName = Annotated[str, typer.Option(metavar="NAME", help=MODEL_HELP)]
Factors = Annotated[int | None, typer.Option(min=1, help=FACTORS_HELP)]
Epochs = Annotated[int | None, typer.Option(min=1, help=EPOCHS_HELP)]
BatchSize = Annotated[int | None, typer.Option(min=1, help=BS_HELP)]
Rate = Annotated[float | None, typer.Option(min=0, help="Peak learning rate; by default the model's own.")]
Decay = Annotated[float | None, typer.Option(min=0, help="Decoupled weight decay; by default the model's own.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same model, to the last bit; by default 0.")]
Log = Annotated[Path | None, typer.Option(help="A file to append the state of the run to while it trains, as JSON "
                                               "lines.")]
NoCard = Annotated[bool, typer.Option("--no-card", help="Write no model card (model.md) beside the model.")]
Out = Annotated[Path, typer.Option(help="Where to write the model.")]
UserCol = Annotated[str | None, typer.Option(help="The column of users; by default the first.")]
ItemCol = Annotated[str | None, typer.Option(help="The column of items; by default the second.")]
RatingCol = Annotated[str | None, typer.Option(help="The column of ratings; by default the third.")]
TimeCol = Annotated[str | None, typer.Option(help="The column of times; by default one called time or timestamp.")]
TitleCol = Annotated[str | None, typer.Option(help="The column of titles in --items; by default guessed.")]
Sep = Annotated[str | None, typer.Option(help="The separator of a text file; by default the one that its extension "
                                              "implies.")]
TableSep = Annotated[str | None, typer.Option(help="The separator of --items and --users, if it is not that of --sep.")]
Format = Annotated[str | None, typer.Option(help="csv, tsv, ::, parquet or recbole; by default from the extension.")]
Encoding = Annotated[str | None, typer.Option(help="The encoding of text files; by default UTF-8.")]
Header = Annotated[bool | None, typer.Option("--header/--no-header", show_default=False,
                                             help="Whether the first line has the column names; by default guessed.")]
Items = Annotated[Path | None, typer.Option(help="A file with an item id in each row, its title, and what is known "
                                                 "about it.")]
Users = Annotated[Path | None, typer.Option(help=USERS_HELP)]
Duplicates = Annotated[str | None, typer.Option(help="What to do with pairs that are rated again: keep (the default), "
                                                     "mean or error; with --implicit they are added up.")]
Implicit = Annotated[bool, typer.Option("--implicit", help="Rows are choices, not ratings; a rating, if there is one, "
                                                          "is the strength of the choice. Repeated pairs count more.")]
Threshold = Annotated[float | None, typer.Option(help="Implicit, and only rows rated above this count: 3 for "
                                                      "stars, 0.5 for yes and no.")]
Count = Annotated[int, typer.Option("-n", min=1, help="How many.")]
As = Annotated[Output | None, typer.Option("--as", help="How to print: table (the default), csv or json.")]
