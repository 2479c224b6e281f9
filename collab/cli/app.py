"""The command line: collab train | evaluate | recommend | similar | explain | report | serve | demo.

Commands import what they need when they run (see `Command`), so that help and errors in options come at once."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..errors import DataError, warn
from .command import Command, Output, as_options
from .options import (
    DEFAULT,
    OUT,
    As,
    BatchSize,
    Count,
    Data,
    Decay,
    Duplicates,
    Encoding,
    Epochs,
    Factors,
    Format,
    Header,
    Implicit,
    ItemCol,
    Items,
    ModelFile,
    ModelName,
    Out,
    Rate,
    RatingCol,
    Seed,
    Sep,
    SplitName,
    TableSep,
    Threshold,
    TimeCol,
    TitleCol,
    UserCol,
    Users,
    ValidPct,
)
from .recommend import recommend
from .serve import serve

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  help="Recommendations from a table of ratings.\n\n"
                       "Begin with: collab train ml-100k --split u1, then: collab recommend --user 196")


def _version(asked: bool) -> None:
    if asked:
        print(f"collab {__version__}")
        raise typer.Exit


@app.callback()
def _program(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                   help="Print the version of this program.")] = False) -> None:
    """Not shown: `help` above is."""


@app.command(cls=Command)
def train(data: Data, split: SplitName = "random", valid_pct: ValidPct = None, model: ModelName = DEFAULT,
          factors: Factors = None, epochs: Epochs = None, bs: BatchSize = None, lr: Rate = None, wd: Decay = None,
          seed: Seed = None, out: Out = OUT, user_col: UserCol = None, item_col: ItemCol = None,
          rating_col: RatingCol = None, time_col: TimeCol = None, title_col: TitleCol = None, sep: Sep = None,
          table_sep: TableSep = None, format: Format = None, header: Header = None, encoding: Encoding = None,
          items: Items = None, users: Users = None, duplicates: Duplicates = None, implicit: Implicit = False,
          threshold: Threshold = None) -> None:
    """Train on ratings, write one model file, and report the error beside two baselines; for a model that ranks, how
    well it does beside the most popular items."""
    import pandas as pd

    from ..data.databunch import CollabDataBunch
    from ..data.features import telling
    from ..data.split import random_split
    from ..learner.factory import collab_learner
    from .inputs import check_writable, fingerprint, given, is_set, read_all, reading_of, split_of
    from .model_options import bs_of, check_model, check_used, epochs_of, is_solved, needs_metadata, uses
    from .output import print_report
    check_writable(out)
    check_model(model)
    implicit = implicit or threshold is not None
    check_used(model, split, implicit, given(valid_pct=valid_pct, factors=factors, epochs=epochs, bs=bs, lr=lr, wd=wd,
                                             seed=seed, users=users, duplicates=duplicates))
    if title_col is not None and items is None and not is_set(data):
        raise DataError("--title-col names a column of the file that --items gives, and there is none")
    valid_pct, seed = 0.2 if valid_pct is None else valid_pct, seed or 0
    reading = reading_of(sep=sep, format=format, header=header, encoding=encoding)
    ratings, known_items, known_users = read_all(data, items, users=users, table_sep=table_sep,
                                                 ids=(user_col, item_col), **reading)
    user_features, item_features = ("auto" if uses(model, side) and known is not None and telling(known.iloc[:, 1:])
                                    else None for side, known in (("users", known_users), ("items", known_items)))
    if needs_metadata(model) and user_features is None and item_features is None:
        raise DataError(f"--model {model} needs to know more than ids and titles: pass --items or --users, a file with "
                        "columns such as genres or age")
    if users is not None and user_features is None:
        warn(f"{users} is not used: it says nothing that several users have in common, such as an age or a group")
    how = split_of(split, valid_pct=valid_pct, seed=seed)
    bunch = CollabDataBunch.from_df(ratings, user_name=user_col, item_name=item_col, rating_name=rating_col,
                                    time_name=time_col, title_name=title_col, items=known_items, users=known_users,
                                    split=how if valid_pct else random_split(0.0, seed), bs=bs or bs_of(model),
                                    seed=seed, duplicates=duplicates or "keep", user_features=user_features,
                                    item_features=item_features, implicit=implicit, threshold=threshold)
    if threshold is not None and (lowest := pd.to_numeric(ratings[bunch.schema.rating], "coerce").min()) > threshold:
        warn(f"--threshold {threshold:g} leaves out none of the {len(ratings):,} ratings: the lowest is {lowest:g}; "
             "take a higher one, or say --implicit")
    notes = {"source": data, "split": split, "valid_pct": valid_pct, "seed": seed, "duplicates": duplicates or "keep",
             "reading": {name: v for name, v in reading.items() if not is_set(data)},
             "fingerprint": fingerprint(ratings, bunch.schema)}
    columns = ", ".join(f"{role} = {name}" if name in ratings else f"{role}: none, each row counts 1"
                        for role, name in bunch.schema.roles().items())
    print(f"{bunch}\nColumns: {columns}\n")
    if bunch.valid is not None and (n := int(bunch.summary()["ratings_with_unseen"]["valid"])):
        print(f"{n:,} of the {bunch.valid.n:,} ratings held out are of users or items that are not trained on: these "
              "are scored as the average one.\n")
    learn = collab_learner(bunch, model, n_factors=factors or 50, lr=lr, wd=wd)
    (learn.fit if is_solved(model) else learn.fit_one_cycle)(epochs or epochs_of(model))
    if learn.interrupted:
        print(f"Nothing was written to {out}.", file=sys.stderr)
        raise typer.Exit(130)
    if not math.isfinite(learn.recorder.losses[-1]):
        raise DataError(f"the loss is {learn.recorder.losses[-1]}, and nothing was written to {out}; "
                        "train again with a lower --lr")
    learn.export(out, **notes)
    print(f"\nWrote {out}.")
    print_report(learn, bunch.valid)
    print(f"\nNext: collab recommend {out} --user {next(iter(bunch.users))}")


@app.command(cls=Command)
def evaluate(model: ModelFile = OUT,
             data: Annotated[str | None, typer.Option(help="Other ratings; by default those of training. Needed for a "
                                                           "model that was exported from Python.")] = None,
             split: Annotated[str | None, typer.Option(help="By default that of training; none: all rows.")] = None,
             k: Annotated[int | None, typer.Option(min=1, help="Measure the ranking: the first k items of each user, "
                                                               "by default 10. Makes a model of ratings rank.")] = None,
             relevant_above: Annotated[float | None, typer.Option(help="Measure the ranking, where only held-out "
                                                                       "ratings above this are relevant.")] = None,
             sep: Sep = None, format: Format = None, header: Header = None, encoding: Encoding = None) -> None:
    """Report the error of a model on held-out ratings, beside two baselines; for a model that ranks, or with --k or
    --relevant-above, how much of what was held out is among the first items, beside the most popular ones."""
    from .inputs import held_out, load, reading_of, seen
    from .output import print_report
    learn = load(model)
    part = held_out(learn, model, data=data, split=split,
                    **reading_of(sep=sep, format=format, header=header, encoding=encoding))
    if part is not None and not learn.data.implicit and (n := seen(learn, part)):     # a ranking leaves them out
        print(f"{n:,} of these {part.n:,} ratings were trained on: the error on them says little.\n")
    print_report(learn, part, k=k, above=relevant_above)


app.command(cls=Command)(recommend)


@app.command(cls=Command)
def similar(words: Annotated[list[str], typer.Argument(metavar="[MODEL] ITEM", show_default=False,
                                                       help="The model file, by default model.safetensors, and an "
                                                            "item's id, title, or part of its title.")],
            n: Count = 10,
            min_ratings: Annotated[int, typer.Option(min=0, help="Leave out items with fewer training ratings.")] = 5,
            as_: As = None) -> None:
    """List the items nearest to one."""
    from .inputs import item_of, load
    from .output import print_table
    model, item = _model_and_item(words)
    learn = load(model)
    id = item_of(learn, item)
    if as_ in (None, Output.TABLE):
        title = (learn.data.titles([id]) or [""])[0]
        print(f"Nearest to {f'{title} ({id})' if title else id}:\n")
    print_table(learn.similar_items(id, n=n, min_ratings=min_ratings), as_, if_empty="nothing with so many ratings")


@app.command(cls=Command)
def explain(user: Annotated[str, typer.Option(help="The user's id.")],
            item: Annotated[str, typer.Option(help="An item's id, title, or part of its title.")],
            model: ModelFile = OUT) -> None:
    """Split the score of an item for a user into its parts, and list the nearest items that the user rated."""
    from ..interpret import CollabInterpretation
    from .inputs import item_of, load
    learn = load(model)
    print(CollabInterpretation(learn).explain(learn.data.users.parse(user), item_of(learn, item)))


@app.command(cls=Command)
def report(model: ModelFile = OUT,
           out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("report.html"),
           user: Annotated[list[str] | None, typer.Option(help="Recommend to this user; may be given again. By "
                                                               "default the busiest, the median, the least busy.")
                            ] = None,
           data: Annotated[str | None, typer.Option(help="The ratings that were held out; by default those of "
                                                         "training, split again.")] = None,
           sep: Sep = None, format: Format = None, header: Header = None, encoding: Encoding = None) -> None:
    """Write one page about what a model has learned, which opens in any browser, without a network."""
    from ..interpret import CollabInterpretation
    from .inputs import check_writable, held_out, load, reading_of
    check_writable(out)
    learn = load(model)
    part, reading = None, reading_of(sep=sep, format=format, header=header, encoding=encoding)
    try:
        part = held_out(learn, model, data=data, **reading)
    except (DataError, OSError) as error:
        print(f"The report has no error on held-out ratings: {error}", file=sys.stderr)
    users = [learn.data.users.parse(id) for id in user] if user else None
    print(f"Wrote {CollabInterpretation(learn).report(out, part, users=users)}")


app.command(cls=Command)(serve)


@app.command(cls=Command)
def demo(out: Annotated[Path, typer.Option(help="Folder for the plots and the model.")] = Path("demo"),
         bs: Annotated[int, typer.Option(min=1, help="Ratings per batch; larger is faster.")] = 64,
         epochs: Annotated[int, typer.Option(min=1, help="Passes over the training ratings.")] = 5,
         seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 0) -> None:
    """Take the whole tour on MovieLens-100K."""
    from .demo import tour
    from .inputs import check_writable
    check_writable(out / OUT)
    if not tour(out, bs, epochs=epochs, seed=seed):
        raise typer.Exit(130)


def main() -> None:
    """Run the program: an error in the input becomes one line on standard error, and exit code 2."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda text, *_, **__: print(f"Warning: {as_options(str(text))}", file=sys.stderr)
        try:
            app()
        except (DataError, OSError, ValueError, ImportError) as error:
            print(f"Error: {as_options(str(error))}", file=sys.stderr)
            raise SystemExit(2) from None


def _model_and_item(words: list[str]) -> tuple[Path, str]:
    """The model file and the item among the words of `similar`: of two words the first is the model, unless only the
    second is a file."""
    if len(words) > 2:
        raise DataError(f"similar takes a model file and one item, got {len(words)} words; put a title in quotation "
                        f"marks: collab similar {words[0]} {' '.join(words[1:])!r}")
    if len(words) == 1 and Path(words[0]).is_file():
        raise DataError(f"say which item: collab similar {words[0]} ITEM, an id, a title or a part of one")
    model, item = words if len(words) == 2 else (str(OUT), words[0])
    return (Path(item), model) if Path(item).is_file() and not Path(model).is_file() else (Path(model), item)


if __name__ == "__main__":
    main()
