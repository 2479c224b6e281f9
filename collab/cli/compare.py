"""collab compare: several models on the same ratings, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataError
from .command import INTERRUPTED, Command, Output, as_options
from .options import As, BatchSize, Data, Epochs, Quiet, Seed, SplitName, TableOptions, ValidPct, grouped

if TYPE_CHECKING:
    from typer._click import Context  # the class that TyperCommand's own signatures name

LISTS = ("--models", "-m", "--metrics", "--columns")
Names = Annotated[list[str] | None, typer.Option("--models", "-m", metavar="NAMES",
                                                 help="The models to compare; names may follow each other. By default "
                                                      "all that fit the data.")]
Metrics = Annotated[list[str] | None, typer.Option(metavar="NAMES",
                                                   help="rmse, mae, log_loss, 'coverage(0.9)', ndcg, precision, "
                                                        "recall, map, mrr, hit, auc; the first one decides. By default "
                                                        "rmse and mae, for choices ndcg, precision and recall.")]
Folds = Annotated[int | None, typer.Option(min=2, help="Train and measure on each of so many parts, in place of "
                                                       "--split.")]
Draws = Annotated[int | None, typer.Option(min=1, help="Hold out 8% of each user's ratings so many times, in place of "
                                                       "--split: for models that rank.")]
FirstK = Annotated[int, typer.Option("-k", "--k", min=1, help="Rankings are measured by their first k items.")]
Above = Annotated[float | None, typer.Option(help="In rankings, only held-out ratings above this are relevant.")]


class Listing(Command):
    """A command whose LISTS take several words: --models dot_bias svdpp, and --models dot_bias --models svdpp."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, each_named(args))


def each_named(args: list[str]) -> list[str]:
    """The arguments with the option before each of its words, up to the next option; words may be joined by commas."""
    made: list[str] = []
    option: str | None = None
    for arg in args:
        name, equals, value = arg.partition("=")
        if name in LISTS:
            option = name
            words = value.split(",") if equals else []
            made += [part for word in words for part in (name, word)]
        elif option is None or arg.startswith("-"):
            if made[-1:] != [option] and option is not None and option not in made:
                made.append(option)             # nothing followed it: the parser says so
            option = None
            made.append(arg)
        else:
            made += [part for word in filter(None, arg.split(",")) for part in (option, word)]
    return made + ([option] if option is not None and option not in made else [])


@grouped
def compare(ctx: typer.Context, data: Data, *, models: Names = None, folds: Folds = None, draws: Draws = None,
            metrics: Metrics = None, k: FirstK = 10, relevant_above: Above = None, epochs: Epochs = None,
            bs: BatchSize = None, seed: Seed = None, split: SplitName = "random", valid_pct: ValidPct = None,
            table: TableOptions, as_: As = None, quiet: Quiet = False) -> None:
    """Train several models on the same ratings, each by its own recipe, and say which is the best, beside baselines,
    and which differences are chance. Writes no model: train the one you take with collab train."""
    from ..data.split import draws as small_parts
    from ..learner.recipes import RECIPES
    from ..select.comparison import compare_models
    from ..select.known_metrics import ERRORS
    from .figures import LISTS
    from .inputs import WITHOUT_FRACTION, given, split_of
    from .model_options import check_model, uses
    from .next_command import next_command
    from .output import print_table, progress
    from .prepare import prepare
    for name in models or RECIPES:
        check_model(name, "--models")
    held_out = given(split=None if split == "random" else split, valid_pct=valid_pct)
    if folds is not None and (said := {**held_out, **given(draws=draws)}):
        raise DataError(f"--folds holds out every rating once, and takes no --{next(iter(said)).replace('_', '-')}")
    if draws is not None and held_out:
        raise DataError("--draws holds out 8% of each user's ratings, and takes no "
                        f"--{next(iter(held_out)).replace('_', '-')}")
    if valid_pct is not None and (split in WITHOUT_FRACTION or not valid_pct):
        raise DataError("--valid-pct 0 holds out nothing to measure on" if not valid_pct else
                        f"--split {split} decides by itself what is held out, and takes no --valid-pct")
    if bs is not None and models and not any(uses(name, "bs") for name in models):
        raise DataError(f"--models {' '.join(models)}: solved, not trained in batches, so there is no --bs to take")
    if table.choices and table.duplicates is not None:
        raise DataError("implicit data are added up where a pair comes again, and take no --duplicates")
    seed = seed or 0
    prepared = prepare(data, models or [], table, option="--models")
    how: dict[str, Any] = {"folds": folds if draws is None else small_parts(draws, seed=seed)}
    if how["folds"] is None:
        how["split"] = split_of(split, valid_pct=0.2 if valid_pct is None else valid_pct, seed=seed)
    with progress(quiet), prepared.in_lines():
        found = compare_models(prepared.ratings, models, metrics=metrics or None, k=k,
                               relevant_above=relevant_above, epochs=epochs, bs=bs, seed=seed,
                               **prepared.options, **how)
    if as_ in (None, Output.TABLE):
        print(as_options(str(found)))
        if found.taken is not None and not found.interrupted:
            if found.metrics[0] in ERRORS:
                print(f"{LISTS}: collab evaluate MODEL --k 10, once it is trained, says how good they are.")
            idle = ["quiet", *(name for name in ("epochs", "bs", "users", "seed") if not uses(found.taken, name))]
            if table.threshold is not None:
                idle.append("implicit")
            print(f"\nNext: {next_command(ctx, 'train', '--model', found.taken, without=idle)}")
    else:
        print_table(found.table, as_)
    if found.interrupted:
        raise typer.Exit(INTERRUPTED)
