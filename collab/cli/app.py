"""The command line: its commands, in the order of a day (see `ORDER`), and what is around them.

Commands import what they need when they run (see `Command`), so that help and errors in options come at once."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__, interrupt
from ..errors import DataError, amount, warn
from .check import check
from .command import INTERRUPTED, USAGE, Command, Output, Program, UsageError, as_options, said, warning
from .compare import Listing, compare
from .complete import splits_or_none
from .make_index import index
from .options import (
    DEFAULT,
    OUT,
    As,
    BadRows,
    BatchSize,
    ColumnOptions,
    Count,
    Data,
    Decay,
    Duplicates,
    Epochs,
    Factors,
    FileOptions,
    Log,
    ModelFile,
    ModelName,
    NoCard,
    Out,
    Quiet,
    Rate,
    Seed,
    SplitName,
    TableOptions,
    Test,
    ValidPct,
    grouped,
)
from .recommend import Diversity, recommend
from .serve import serve
from .tune import tune

app = typer.Typer(cls=Program, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]},
                  help="Recommendations from a table of ratings.\n\n\b\n"
                       "Begin with:\n  collab train ml-100k --split u1\n  collab recommend --user 196",
                  epilog="Exit codes: 0, done; 1, an error of this program (of check: something in the "
                         "tables stops training); 2, an error in options, files or data, "
                         "said in one line; 130, stopped by Ctrl-C; 141, the reader of a pipe went away.\n\n"
                         "Results go to standard output; progress, warnings and errors to standard error.")



def _version(asked: bool) -> None:
    if asked:
        print(f"collab {__version__}")
        raise typer.Exit


@app.callback()
def _program(version: Annotated[bool, typer.Option("--version", "-V", callback=_version, is_eager=True,
                                                   help="Print the version of this program.")] = False) -> None:
    """Not shown: `help` above is."""


@app.command(cls=Command)
@grouped
def train(data: Data, *, split: SplitName = "random", valid_pct: ValidPct = None, test: Test = None,
          model: ModelName = DEFAULT, factors: Factors = None, epochs: Epochs = None, bs: BatchSize = None,
          lr: Rate = None, wd: Decay = None, seed: Seed = None, table: TableOptions, out: Out = OUT, log: Log = None,
          no_card: NoCard = False, as_: As = None, quiet: Quiet = False) -> None:
    """Train a model and write it into one file, with a card beside it. The error is reported beside two baselines; for
    a model that ranks, how well it does beside the most popular items."""
    import pandas as pd

    from ..data.split import random_split
    from ..data.tables import check_no_model
    from ..learner.factory import collab_learner
    from ..train.callbacks.run_log import JSONLines
    from .figures import finish, of_unknown
    from .inputs import check_writable, given, split_of, test_of
    from .model_options import bs_of, check_model, check_used, epochs_of, is_solved
    from .output import progress, remarks
    from .prepare import prepare
    from .read_again import of_pairs
    say = remarks(as_, quiet)
    check_no_model(data)
    inputs = [data, table.items, table.users, test]
    check_writable(out, "model", inputs=inputs)
    if log is not None:
        check_writable(log, "log", option="--log", inputs=[*inputs, out])
    check_model(model)
    check_used(model, split, table, given(valid_pct=valid_pct, factors=factors, epochs=epochs, bs=bs, lr=lr, wd=wd,
                                          seed=seed))
    valid_pct, seed = 0.2 if valid_pct is None else valid_pct, seed or 0
    prepared = prepare(data, [model], table)
    how, (for_the_end, test_note) = (split_of(split, valid_pct=valid_pct, seed=seed),
                                     test_of(test, split, seed=seed, **prepared.reading))
    ratings = prepared.ratings
    how = how if valid_pct or split == "time" else random_split(0.0, seed)      # by time, ratings are still in order
    bunch = prepared.bunch(split=how, bs=bs or bs_of(model), seed=seed, test=for_the_end, test_file=test_note)
    low = table.threshold
    if low is not None and (lowest := pd.to_numeric(ratings[bunch.schema.rating], "coerce").min()) > low:
        warn(f"--threshold {low:g} leaves out none of the {len(ratings):,} ratings: the lowest is {amount(lowest)}; "
             "take a higher one, or say --implicit")
    notes = prepared.notes(bunch, split=split, valid_pct=valid_pct, test=test_note, seed=seed)
    roles = ", ".join(f"{role} = {name}" if name in ratings else f"{role}: none, each row counts 1"
                      for role, name in bunch.schema.roles().items())
    say(f"{bunch}\nColumns: {roles}\n")
    if bunch.valid is not None and (said := of_unknown(bunch, bunch.valid, f"the {bunch.valid.n:,} ratings held out")):
        say(f"{said}\n")
    if isinstance(test_note, str) and (said := of_pairs(bunch, test_note)):
        say(f"{said}\n")
    learn = collab_learner(bunch, model, n_factors=factors, lr=lr, wd=wd)
    with learn.distributed():
        with progress(quiet):
            (learn.fit if is_solved(model) else learn.fit_one_cycle)(
                epochs or epochs_of(model), cbs=None if log is None else JSONLines(log))
            print()
        if learn.interrupted:
            print(f"Nothing was written to {out}.", file=sys.stderr)
            raise typer.Exit(INTERRUPTED)
        if not math.isfinite(learn.recorder.losses[-1]):
            raise DataError(f"the loss is {learn.recorder.losses[-1]}, and nothing was written to {out}; "
                            "train again with a lower --lr")
        finish(learn, bunch, out, notes, as_=as_, card=not no_card, say=say, quiet=quiet)


@app.command(cls=Listing)
@grouped
def evaluate(model: ModelFile = OUT, *,
             data: Annotated[str | None, typer.Option(help="Other ratings, or those of training, which have moved: of "
                                                           "these what was held out is measured, of others all. They "
                                                           "are read as in training, but for options that are given. "
                                                           "Needed for a model that was exported from Python.")] = None,
             split: Annotated[str | None, typer.Option(autocompletion=splits_or_none,
                                                   help="By default that of training; none: all rows.")] = None,
             part: Annotated[str | None, typer.Option(help="valid or test, of what training held out; by default test, "
                                                           "where --test was given.")] = None,
             k: Annotated[int | None, typer.Option(min=1, help="Measure the ranking: the first k items of each user, "
                                                               "by default 10. Makes a model of ratings rank.")] = None,
             relevant_above: Annotated[float | None, typer.Option(help="Measure the ranking, where only held-out "
                                                                       "ratings above this are relevant.")] = None,
             metrics: Annotated[list[str] | None, typer.Option(metavar="NAMES", help=(
                 "What to measure: rmse, mae, log_loss and 'coverage(0.9)', how many ratings lie in the intervals of "
                 "that probability; or, of rankings, ndcg, precision, recall, map, mrr, hit, auc, coverage, novelty, "
                 "popularity, diversity. Names may follow each other."))] = None,
             diversity: Diversity = 0.0, as_: As = None, quiet: Quiet = False, table: ColumnOptions,
             duplicates: Duplicates = None, bad_rows: BadRows = None) -> None:
    """Measure a model on held-out ratings. Its error is reported beside two baselines; for a model that ranks, or with
    --k or --relevant-above, how much of what was held out is among the first items, beside the most popular ones; with
    --diversity, beside the same model's lists without it: what that costs."""
    from .figures import WHERE, measure, of_unknown, print_figures
    from .inputs import given, load
    from .output import remarks
    from .read_again import held_out, seen
    learn, say = load(model), remarks(as_, quiet)
    columns = given(user=table.user_col, item=table.item_col, rating=table.rating_col, time=table.time_col)
    found, which, other = held_out(learn, model, data=data, split=split, part=part, say=say, columns=columns,
                                   duplicates=duplicates, bad_rows=bad_rows, **table.reading)
    if found is not None and not learn.data.implicit and (n := seen(learn, found)):     # a ranking leaves them out
        say(f"{n:,} of these {found.n:,} ratings were trained on: the error on them says little.")
    if found is not None and which is None and (said := of_unknown(learn.data, found, f"these {found.n:,} ratings")):
        say(said)
    figures = measure(learn, found, k=k, above=relevant_above, diversity=diversity, metrics=metrics,
                      beside=None if which is None or other is None else (which, other))
    print_figures(figures, as_, {"model": str(model), "part": which}, where=WHERE[which])


app.command(cls=Command)(recommend)


@app.command(cls=Command)
def similar(words: Annotated[list[str], typer.Argument(metavar="[MODEL] ITEM", show_default=False,
                                                       help="The model file, by default model.safetensors, and an "
                                                            "item's id, title, or part of its title.")],
            n: Count = 10,
            min_ratings: Annotated[int, typer.Option(min=0, help="Leave out items with fewer training ratings.")] = 5,
            as_: As = None, quiet: Quiet = False) -> None:
    """List the items nearest to one."""
    from .inputs import item_of, load
    from .output import note_faint, print_table
    model, item = _model_and_item(words)
    learn = load(model)
    id = item_of(learn, item)
    if as_ in (None, Output.TABLE):
        title = (learn.data.titles([id]) or [""])[0]
        print(f"Nearest to {f'{title} ({id})' if title else id}:\n")
    print_table(learn.similar_items(id, n=n, min_ratings=min_ratings), as_, if_empty="nothing with so many ratings")
    note_faint(learn, quiet)


@app.command(cls=Command)
def explain(user: Annotated[str, typer.Option(help="The user's id.")],
            item: Annotated[str, typer.Option(help="An item's id, title, or part of its title.")],
            model: ModelFile = OUT, as_: As = None, quiet: Quiet = False) -> None:
    """Split the score of an item for a user into its parts, and list the nearest items that the user rated."""
    from ..interpret import CollabInterpretation
    from .inputs import item_of, load
    from .output import note_faint, print_explanation
    learn = load(model)
    print_explanation(CollabInterpretation(learn).explain(learn.data.users.parse(user), item_of(learn, item)), as_)
    note_faint(learn, quiet)


@app.command(cls=Command)
@grouped
def report(model: ModelFile = OUT, *,
           out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("report.html"),
           user: Annotated[list[str] | None, typer.Option(help="Recommend to this user; may be given again. By "
                                                               "default the busiest, the median, the least busy.")
                            ] = None,
           data: Annotated[str | None, typer.Option(help="The ratings that were held out; by default those of "
                                                         "training, split again.")] = None,
           part: Annotated[str | None, typer.Option(help="valid or test, of what training held out; by default test, "
                                                         "where --test was given.")] = None,
           as_: As = None, quiet: Quiet = False, file: FileOptions) -> None:
    """Write one page about what a model has learned, which opens in any browser, without a network."""
    from ..interpret import CollabInterpretation
    from ..interpret.report import check_ending
    from .inputs import check_writable, load
    from .output import note_faint, print_written, progress, remarks
    from .read_again import held_out, training_files
    check_writable(out, "page", inputs=[model, data])
    check_ending(out)
    learn = load(model)
    check_writable(out, "page", inputs=training_files(learn, model))
    found = None
    try:
        found = held_out(learn, model, data=data, part=part, say=remarks(as_, quiet), splits=False,
                         **file.reading).ratings
    except (DataError, OSError) as error:
        print(f"The report has no error on held-out ratings: {error}", file=sys.stderr)
    users = [learn.data.users.parse(id) for id in user] if user else None
    with progress(quiet):
        written = CollabInterpretation(learn).report(out, found, users=users)
    print_written(written, as_)
    note_faint(learn, quiet)


app.command(cls=Listing)(index)
app.command(cls=Command)(serve)


@app.command(cls=Command)
def demo(out: Annotated[Path, typer.Option(help="Folder for the plots and the model.")] = Path("demo"),
         bs: Annotated[int, typer.Option(min=1, help="Ratings per batch; larger is faster.")] = 64,
         epochs: Annotated[int, typer.Option(min=1, help="Passes over the training ratings.")] = 5,
         seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 0,
         quiet: Quiet = False) -> None:
    """Take the whole tour on MovieLens-100K."""
    from .demo import tour
    from .inputs import check_writable
    check_writable(out / OUT, "model")
    if not tour(out, bs, epochs=epochs, seed=seed, quiet=quiet):
        raise typer.Exit(INTERRUPTED)


def commands() -> list[str]:
    """The names of the commands, in the order of the help."""
    program = typer.main.get_command(app)
    assert isinstance(program, Program)
    return program.list_commands(program.context_class(program))


app.command(cls=Command)(check)
app.command(cls=Listing)(compare)
app.command(cls=Command)(tune)


def main() -> None:
    """Run the program: an error in the input becomes one line on standard error, and exit code 2."""
    told = set[str]()

    def tell(text: str) -> None:
        """Print a warning, once: what is read, split and measured in turn says of the same rows the same."""
        if (line := warning(text)) not in told:
            told.add(line)
            print(line, file=sys.stderr)
    with warnings.catch_warnings():
        warnings.showwarning = lambda text, *_, **__: tell(str(text))
        try:
            raise SystemExit(app(prog_name="collab", standalone_mode=False) or 0)
        except UsageError as error:
            print(said(error), file=sys.stderr)
        except (DataError, OSError, ValueError, ImportError) as error:
            if interrupt.pressed():         # pandas makes an error of Ctrl-C while it reads
                raise SystemExit(INTERRUPTED) from None
            print(f"Error: {as_options(str(error))}", file=sys.stderr)
        raise SystemExit(USAGE)


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
