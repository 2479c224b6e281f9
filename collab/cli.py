"""The command line: collab train | evaluate | recommend | similar | explain | report | demo."""

from __future__ import annotations

import hashlib
import math
import os
import sys
import warnings
from collections.abc import Hashable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from . import demo as demo_module
from .build import collab_learner, load_learner
from .closed_form import ClosedFormLearner
from .console import table
from .data.batches import TensorBatches
from .data.databunch import CollabDataBunch
from .data.features import telling
from .data.files import read_table
from .data.movielens import movielens
from .data.rated import rated_file
from .data.schema import Schema
from .data.split import CANONICAL, Split, leave_last, per_user_split, random_split, time_split, user_split
from .errors import DataError
from .evaluate import evaluation as ranking
from .evaluate.held_out import NobodyToRank
from .interpret import CollabInterpretation
from .interpret.asked import whom
from .interpret.errors import errors
from .learner import CollabLearner

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  help="Recommendations from a table of ratings.\n\n"
                       "Begin with: collab train ml-100k --split u1, then: collab recommend --user 196")


class Model(StrEnum):
    """The models that can be trained by name."""

    DOT_BIAS = "dot_bias"
    DOT = "dot"
    NET = "net"
    SVDPP = "svdpp"
    HYBRID = "hybrid"
    CLASSIFIER = "classifier"
    BPR = "bpr"
    SOFTMAX = "softmax"
    TWO_TOWER = "two_tower"
    ALS = "als"
    EASE = "ease"
    INFINITE_AE = "infinite_ae"


EPOCHS = {"svdpp": 10, "hybrid": 10, "bpr": 15, "softmax": 30}      # others: 5, or their own number of sweeps
SIZES = {"svdpp": 1024, "hybrid": 1024, "bpr": 1024, "softmax": 16_384, "two_tower": 1024}     # others: 64
SOLVED, WITH_FEATURES = ("als", "ease", "infinite_ae"), ("hybrid", "softmax", "two_tower")


class Output(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


DATA_HELP = ("ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small; or a file: CSV, TSV, '::'-separated "
             "(.dat), Parquet, RecBole (.inter).")
Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="The model file that collab train wrote.")]
SplitName = Annotated[str, typer.Option(help="What is held out: random, time (the latest), per-user (some of each), "
                                             "last (each user's last), users (whole users), or u1 to u5 of ml-100k.")]
ValidPct = Annotated[float, typer.Option(min=0, max=0.99, help="The fraction held out (not for last, u1 to u5).")]
ModelName = Annotated[Model, typer.Option(help="For ratings: biases and factors, factors alone, a network, ratings as "
                                               "classes, SVD++ on both sides, or that with metadata (hybrid). For "
                                               "ranking: bpr, softmax, two_tower, als, ease, infinite_ae.")]
Factors = Annotated[int, typer.Option(min=1, help="Factors a user and an item.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the training ratings; by default 5, of svdpp, "
                                                        "hybrid 10, bpr 15, softmax 30; of als sweeps, by default "
                                                        "15. ease and infinite_ae are solved at once.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Ratings a batch; larger is faster. By default 64, of "
                                                           "svdpp, hybrid, bpr, two_tower 1,024, softmax 16,384.")]
Rate = Annotated[float | None, typer.Option(min=0, help="Peak learning rate; by default the model's recipe.")]
Decay = Annotated[float | None, typer.Option(min=0, help="Decoupled weight decay; by default the model's recipe.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same model, to the last bit.")]
Out = Annotated[Path, typer.Option(help="Where to write the model.")]
UserCol = Annotated[str | None, typer.Option(help="The column of users; by default the first.")]
ItemCol = Annotated[str | None, typer.Option(help="The column of items; by default the second.")]
RatingCol = Annotated[str | None, typer.Option(help="The column of ratings; by default the third.")]
TimeCol = Annotated[str | None, typer.Option(help="The column of times; by default one called time or timestamp.")]
Sep = Annotated[str | None, typer.Option(help="The separator of a text file; by default that of its ending.")]
Format = Annotated[str | None, typer.Option(help="csv, tsv, ::, parquet or recbole; by default by the ending.")]
Encoding = Annotated[str, typer.Option(help="The encoding of a text file.")]
Header = Annotated[bool | None, typer.Option("--header/--no-header", show_default=False,
                                             help="Whether the first line has the names; by default it is looked at.")]
Items = Annotated[Path | None, typer.Option(help="A file with an item id in each row, a title, and what is known.")]
Users = Annotated[Path | None, typer.Option(help="A file with a user id in each row, and what is known.")]
Duplicates = Annotated[str, typer.Option(help="Pairs that occur again: keep, mean or error.")]
Implicit = Annotated[bool, typer.Option("--implicit", help="Rows say what was chosen; ratings, if there are any, how "
                                                          "strongly. A pair that comes again counts more.")]
Threshold = Annotated[float | None, typer.Option(help="Implicit, and only rows rated above this count.")]
Count = Annotated[int, typer.Option("-n", min=1, help="How many.")]
As = Annotated[Output, typer.Option("--as", help="How to print the table.")]
OUT = Path("model.safetensors")


@app.command()
def train(data: Data, split: SplitName = "random", valid_pct: ValidPct = 0.2, model: ModelName = Model.DOT_BIAS,
          factors: Factors = 50, epochs: Epochs = None, bs: BatchSize = None, lr: Rate = None, wd: Decay = None,
          seed: Seed = 0, out: Out = OUT, user_col: UserCol = None, item_col: ItemCol = None,
          rating_col: RatingCol = None, time_col: TimeCol = None, sep: Sep = None, format: Format = None,
          header: Header = None, encoding: Encoding = "utf-8-sig", items: Items = None, users: Users = None,
          duplicates: Duplicates = "keep", implicit: Implicit = False, threshold: Threshold = None) -> None:
    """Train on ratings, report the error beside two baselines (of a model that ranks how well it does, beside the most
    popular items), and write one model file."""
    _check_writable(out)
    if model in SOLVED and (given := [f"--{name}" for name, v in (("lr", lr), ("wd", wd)) if v is not None]):
        raise DataError(f"--model {model} is solved, not trained step by step, and takes no {' and no '.join(given)}")
    reading = {"sep": sep, "format": format, "header": header, "encoding": encoding}
    ratings, known_items, known_users = _read(data, **reading)
    known_items = known_items if items is None else read_table(items)
    known_users = known_users if users is None else read_table(users)
    user_features, item_features = ("auto" if model in WITH_FEATURES and known is not None
                                    and telling(known.iloc[:, 1:]) else None for known in (known_users, known_items))
    if model is Model.HYBRID and user_features is None and item_features is None:
        raise DataError("--model hybrid needs to know more than ids and titles: pass --items or --users, a file with "
                        "columns such as genres or age")
    bunch = CollabDataBunch.from_df(ratings, user_col, item_col, rating_col, time_col, items=known_items,
                                    users=known_users, bs=bs or SIZES.get(model, 64), seed=seed,
                                    split=_split(split, valid_pct, seed), duplicates=duplicates,
                                    user_features=user_features, item_features=item_features,
                                    implicit=implicit or threshold is not None, threshold=threshold)
    notes = {"source": data, "split": split, "valid_pct": valid_pct, "seed": seed, "duplicates": duplicates,
             "reading": reading, "fingerprint": _fingerprint(ratings, bunch.schema)}
    columns = ", ".join(f"{role} = {name}" for role, name in bunch.schema.roles().items())
    print(f"{bunch}\nColumns: {columns}\n")
    learn = collab_learner(bunch, model.value, n_factors=factors, lr=lr, wd=wd)
    if isinstance(learn, ClosedFormLearner):
        learn.fit(epochs)
    else:
        learn.fit_one_cycle(epochs or EPOCHS.get(model, 5))
    if learn.interrupted:
        print(f"Nothing was written to {out}.", file=sys.stderr)
        raise typer.Exit(130)
    if not math.isfinite(learn.recorder.losses[-1]):
        raise DataError(f"the loss is {learn.recorder.losses[-1]}, and nothing was written to {out}; "
                        "train again with a lower --lr")
    learn.export(out, **notes)
    print(f"\nWrote {out}.")
    _report(learn, bunch.valid)
    print(f"\nNext: collab recommend {out} --user {next(iter(bunch.users))}")


@app.command()
def evaluate(model: ModelFile = OUT,
             data: Annotated[str | None, typer.Option(help="Other ratings; by default those of training.")] = None,
             split: Annotated[str | None, typer.Option(help="By default that of training; none: all rows.")] = None,
             k: Annotated[int | None, typer.Option(min=1, help="Rank: measure the first k items of each user, by "
                                                               "default 10. A model of ratings ranks if this is given.")
                          ] = None,
             relevant_above: Annotated[float | None, typer.Option(help="Rank, and only held-out ratings above it count "
                                                                       "as relevant.")] = None) -> None:
    """Report the error of a model on held-out ratings, beside two baselines; of a model that ranks, or with --k or
    --relevant-above, how much of what was held out is among the first items, beside the most popular ones."""
    learn = _load(model)
    part = _held_out(learn, model, data, split)
    if part is not None and not learn.data.implicit and (n := _seen(learn, part)):     # a ranking leaves them out
        print(f"{n:,} of these {part.n:,} ratings were trained on: the error on them says little.\n")
    _report(learn, part, k, relevant_above)


@app.command()
def recommend(model: ModelFile = OUT,
              user: Annotated[str | None, typer.Option(help="The user's id.")] = None,
              everybody: Annotated[bool, typer.Option("--all", help="To all users, into the file -o.")] = False,
              ratings: Annotated[Path | None, typer.Option(help="A file with what somebody new rated: columns item (an "
                                                                "id or a title) and rating; of implicit data the "
                                                                "items are enough.")] = None,
              n: Count = 10,
              out: Annotated[Path | None, typer.Option("--out", "-o", help="With --all: the .parquet or .csv file to "
                                                                           "write.")] = None,
              include_seen: Annotated[bool, typer.Option("--include-seen", help="Also what the user rated, which is "
                                                                                "left out otherwise, held out or not.")
                                      ] = False,
              as_: As = Output.TABLE) -> None:
    """Recommend items to a user, beside what that user liked; to somebody new, from a few ratings; or to everybody."""
    if (user is not None) + everybody + (ratings is not None) != 1:
        raise DataError("say for whom: one of --user ID, --ratings FILE and --all")
    if everybody != (out is not None):
        raise DataError("--all and -o FILE belong together" + ("" if everybody else "; without --all use --as"))
    if out is not None:
        _check_writable(out)
        learn = _load(model)
        learn.recommend_all(n, path=out, exclude=None if include_seen else "known")
        print(f"Wrote {out}: the {n} best for each of {learn.data.n_users - 1:,} users.")
        return
    learn = _load(model)
    if ratings is not None:
        rated = rated_file(learn.data, ratings)
        titles = learn.data.titles(rated["item"])
        recommended = learn.recommend(ratings=rated, n=n, exclude=None if include_seen else "known")
        if as_ is Output.TABLE:
            shown = rated if titles is None else rated.assign(title=titles)
            print(f"From these {len(rated):,} ratings:\n\n{table(shown)}\n\nRecommended:\n")
        _print(recommended, as_, "nothing: every item is rated")
        return
    assert user is not None
    id = learn.data.users.parse(user)
    recommended = learn.recommend(id, n=n, exclude=None if include_seen else "known", unknown="error")
    if as_ is Output.TABLE:
        print(f"Rated highest by user {user}:\n\n{table(learn.rated(id, n=5))}\n\nRecommended:\n")
    _print(recommended, as_, "nothing: this user has rated every item")


@app.command()
def similar(item: Annotated[str, typer.Argument(metavar="ITEM", help="An item's id, title, or part of its title.")],
            model: ModelFile = OUT, n: Count = 10,
            min_ratings: Annotated[int, typer.Option(min=0, help="Leave out items with fewer training ratings.")] = 5,
            as_: As = Output.TABLE) -> None:
    """List the items nearest to one."""
    learn = _load(model)
    id = _item(learn, item)
    if as_ is Output.TABLE:
        title = (learn.data.titles([id]) or [""])[0]
        print(f"Nearest to {f'{title} ({id})' if title else id}:\n")
    _print(learn.similar_items(id, n=n, min_ratings=min_ratings), as_, "nothing with so many ratings")


@app.command()
def explain(user: Annotated[str, typer.Option(help="The user's id.")],
            item: Annotated[str, typer.Option(help="An item's id, title, or part of its title.")],
            model: ModelFile = OUT) -> None:
    """Take the score of an item for a user apart, and name what the user rated that is nearest to it."""
    learn = _load(model)
    print(CollabInterpretation(learn).explain(learn.data.users.parse(user), _item(learn, item)))


@app.command()
def report(model: ModelFile = OUT,
           out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("report.html"),
           user: Annotated[list[str] | None, typer.Option(help="Recommend to this user (once for each); by default to "
                                                               "the busiest, the median and the least busy.")] = None,
           data: Annotated[str | None, typer.Option(help="The ratings that were held out; by default those of "
                                                         "training are split again.")] = None) -> None:
    """Write one page on what a model has learned, which opens in any browser and without a network."""
    _check_writable(out)
    learn = _load(model)
    held_out = None
    try:
        held_out = _held_out(learn, model, data)
    except (DataError, OSError) as error:
        print(f"The report has no error on held-out ratings: {error}", file=sys.stderr)
    users = [learn.data.users.parse(id) for id in user] if user else None
    print(f"Wrote {CollabInterpretation(learn).report(out, held_out, users)}")


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder for the plots and the model.")] = Path("demo"),
         bs: BatchSize = 64, epochs: Epochs = 5, seed: Seed = 0) -> None:
    """Take the whole tour on MovieLens-100K."""
    _check_writable(out / "model.safetensors")
    if not demo_module.tour(out, bs or 64, epochs or 5, seed):
        raise typer.Exit(130)


def main() -> None:
    """The entry point: what is wrong with the input is one line on standard error, and exit code 2."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda text, *_, **__: print(f"Warning: {_as_options(str(text))}", file=sys.stderr)
        try:
            app()
        except (DataError, OSError, ValueError, ImportError) as error:
            print(f"Error: {_as_options(str(error))}", file=sys.stderr)
            raise SystemExit(2) from None


def _as_options(message: str) -> str:
    """Where the library names an argument, the option that stands for it here."""
    for argument, option in (("user_name=", "--user-col "), ("item_name=", "--item-col "),
                             ("rating_name=", "--rating-col "), ("time_name=", "--time-col "), ("sep=", "--sep "),
                             ("format=", "--format "), ("header=False", "--no-header"), ("header=True", "--header"),
                             ("encoding=", "--encoding "), ("min_ratings=", "--min-ratings "),
                             ("duplicates=", "--duplicates "), ("threshold=", "--threshold "),
                             ("implicit=True", "--implicit")):
        message = message.replace(argument, option)
    return message


def _load(model: Path) -> CollabLearner:
    if not model.exists():
        raise DataError(f"there is no model file {model}; make one with: collab train DATA --out {model}")
    return load_learner(model)


def _item(learn: CollabLearner, text: str) -> Hashable:
    """The item that is meant by an id, a title or a part of one; where there are others, they are named."""
    found = learn.data.find_items(text)
    if len(found) > 1:
        print(f"Warning: {whom(learn.data, text, found)}", file=sys.stderr)
    return found[0]


def _held_out(learn: CollabLearner, model: Path, data: str | None = None, split: str | None = None,
              ) -> TensorBatches | None:
    """The ratings that were held out when the model was trained, read and split again, or those of other data."""
    trained = learn.notes.get("source")
    source = trained if data is None else data
    if source is None:
        raise DataError(f"{model} does not say what it was trained on; name the ratings with --data")
    same = source == trained
    if same and split not in (None, "none", learn.notes.get("split")):
        raise DataError(f"--split {split}: the model was trained with --split {learn.notes.get('split')}, so that most "
                        "ratings which another split holds out are ratings it has seen")
    split = split or (learn.notes.get("split", "none") if same else "none")
    raw, *_ = _read(source, **(learn.notes.get("reading", {}) if same else {}))
    known = learn.notes.get("fingerprint")
    if same and split != "none" and known is not None and known != _fingerprint(raw, learn.data.schema):
        raise DataError(f"{source} is not what the model was trained on any more, so the ratings that were held out "
                        "cannot be told from the others; train again, or see all rows with --split none")
    held_out = None if split == "none" else _split(split, learn.notes.get("valid_pct", 0.2), learn.notes.get("seed", 0))
    ratings = learn.data.table(raw, learn.notes.get("duplicates", "keep"), held_out)
    return learn.data.batches(ratings) if len(ratings) else None


def _seen(learn: CollabLearner, part: TensorBatches) -> int:
    """How many ratings of a part are of a pair that was trained on."""
    pairs = [users * learn.data.n_items + items for users, items, _ in (learn.data.train.tensors, part.tensors)]
    return int(torch.isin(pairs[1], pairs[0]).sum())


def _fingerprint(ratings: pd.DataFrame, schema: Schema) -> str:
    """The same for the same ratings in the same order."""
    columns = [name for name in (schema.user, schema.item, schema.rating) if name in ratings]
    hashed = pd.util.hash_pandas_object(ratings[columns], index=False).to_numpy()
    return hashlib.sha256(hashed.tobytes()).hexdigest()[:16]


def _read(source: str, **reading: Any) -> tuple[pd.DataFrame, pd.DataFrame | None, pd.DataFrame | None]:
    """(ratings, items, users) of a MovieLens set or a file."""
    if source.startswith("ml-") and not Path(source).exists():
        ml = movielens(source)
        return ml.ratings, ml.items, ml.users
    return read_table(source, **reading), None, None


def _split(name: str, valid_pct: float, seed: int) -> Split | str:
    known: dict[str, Split | str] = {"random": random_split(valid_pct, seed), "time": time_split(valid_pct),
                                     "per-user": per_user_split(valid_pct, seed), "last": leave_last(1),
                                     "users": user_split(valid_pct, seed), **{fold: fold for fold in CANONICAL}}
    if name not in known:
        raise DataError(f"--split {name} is not one of {', '.join(known)}")
    return known[name]


def _report(learn: CollabLearner, part: TensorBatches | None, k: int | None = None, above: float | None = None) -> None:
    ranks = learn.objective is not None or not getattr(learn.model, "predicts_ratings", True)
    if part is None:
        print("\nNothing was held out, so there is no error to report.")
    elif ranks or k is not None or above is not None:
        try:
            result = ranking.evaluate(learn, part, k or 10, ("ndcg", "precision", "recall"), above)
            print(f"\nRanking of {part.n:,} held-out ratings:\n\n{result}")
        except NobodyToRank as nobody:
            print(f"\nThere is no ranking to report: {nobody.why}.")
    else:
        print(f"\nError on {part.n:,} ratings:\n\n{table(errors(learn, part), decimals=4)}")


def _print(frame: pd.DataFrame, how: Output, if_empty: str) -> None:
    if frame.empty and how is Output.TABLE:
        print(f"  ({if_empty})")
        return
    print({Output.TABLE: lambda: table(frame), Output.CSV: lambda: frame.to_csv(index=False).rstrip(),
           Output.JSON: lambda: frame.to_json(orient="records", force_ascii=False)}[how]())


def _check_writable(out: Path) -> None:
    """Raise before hours of training rather than after them."""
    folder = next(p for p in out.absolute().parents if p.exists())
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DataError(f"--out {out} cannot be written: " + (f"{out} is a folder" if out.is_dir() else
                                                              f"{folder} is not a folder that can be written to"))


if __name__ == "__main__":
    main()
