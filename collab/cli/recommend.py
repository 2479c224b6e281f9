"""collab recommend: items for a user, for somebody new, or for everybody; from a model file or an index."""

from __future__ import annotations

import secrets
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataError, counted, they, warn
from .command import Output, worded
from .options import OUT, As, Count, FileOptions, ModelFile, Quiet, grouped

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pandas as pd

    from ..data.allowed import Chosen
    from ..data.catalogue import Catalogue
    from ..data.databunch import CollabDataBunch
    from ..data.vocab import Ids
    from ..learner.collab_learner import CollabLearner
    from ..retrieval.index import Index
    from .inputs import Reading

Names = list[str] | None
User = Annotated[Names, typer.Option(help="A user's id; may be given again.")]
All = Annotated[bool, typer.Option("--all", help="For all users, into the file -o.")]
Ratings = Annotated[Path | None, typer.Option(help="A file with the ratings of a new user: columns item (an id or a "
                                                   "title) and rating; for implicit data, items are enough.")]
File = Annotated[Path | None, typer.Option("--out", "-o", help="With --all: the .parquet or .csv file to write, the "
                                                               "latter by --sep, --decimal and --encoding.")]
Seen = Annotated[bool, typer.Option("--include-seen", help="Include what the user rated, which is left out otherwise, "
                                                           "held out or not.")]
Where = Annotated[Names, typer.Option("--where", metavar="CONDITION", help=(
    "Only items that meet it, such as genres=War or 'year>=1990'; may be given again: all must be met."))]
Among = Annotated[Names, typer.Option(metavar="ITEM", help=(
    "Choose from these items, by id or title, or from those that meet a condition, such as genres=War; given again: "
    "these too."))]
Without = Annotated[Names, typer.Option(metavar="ITEM", help=(
    "Leave out an item, by id or title, or all that meet a condition, such as genres=Horror; may be given again."))]
Diversity = Annotated[float, typer.Option(min=0, max=1, help="How unlike each other the items of a list should be, "
                                                             "from 0 (the best ones) to 1.")]
Ranked = Annotated[str | None, typer.Option("--risk", metavar="mean|draw|SHARE", help=(
    "What to rank by, where the model knows how sure it is (bayes): mean; draw, by what may be true, to explore; or a "
    "lower quantile, such as 0.1, the rating that is exceeded with probability 0.9."))]
Interval = Annotated[float | None, typer.Option(metavar="SHARE", help=(
    "Show low and high, between which the rating lies with this probability, such as 0.9 (bayes)."))]
Draw = Annotated[int | None, typer.Option("--seed", help="With --risk draw: the same seed gives the same lists; by "
                                                         "default another one each time.")]
Why = Annotated[bool, typer.Option("--why", help="Say which liked item raises the score most.")]


WRITTEN = ("sep", "decimal", "encoding")        # options of reading, with --all of the CSV that is written


@grouped
def recommend(model: ModelFile = OUT, *, user: User = None, everybody: All = False, ratings: Ratings = None,
              n: Count = 10, out: File = None, include_seen: Seen = False, where: Where = None, among: Among = None,
              without: Without = None, diversity: Diversity = 0.0, risk: Ranked = None, interval: Interval = None,
              seed: Draw = None, why: Why = False, as_: As = None,
              quiet: Quiet = False, file: FileOptions) -> None:
    """Recommend items to a user, beside what that user liked; to a new user, from a few ratings; or to everybody. MODEL
    may be an index file too, for --user and --ratings. How files are read is for --ratings; with --all, --sep,
    --decimal and --encoding say how a CSV is written: --sep ";" --decimal , --encoding utf-8-sig for a spreadsheet that
    is set to German."""
    from ..files import kind_of
    from .inputs import check_writable, given, load, named, only
    from .output import note_faint, progress
    from .read_again import training_files
    reading = file.reading
    if bool(user) + everybody + (ratings is not None) != 1:
        raise DataError("for whom? Give one of --user ID, --ratings FILE and --all")
    if everybody != (out is not None):
        raise DataError("--all and -o FILE belong together" + ("" if everybody else "; without --all use --as"))
    style: dict[str, Any] = {**only(reading, WRITTEN)} if everybody else {}
    if ratings is None and (unread := [name for name in reading if name not in style]):
        raise DataError(f"only --ratings FILE is read; without it this takes no {named(unread)}")
    if out is not None:
        if as_ is not None:
            raise DataError(f"--as says how to print, and --all writes a file, by the ending of {out}")
        check_writable(out, "lists", option="-o", inputs=[model, ratings])
    if kind_of(model) == "index":
        idle = given(all=everybody or None, include_seen=include_seen or None, risk=risk, interval=interval, seed=seed)
        of_index = {"where": where, "among": among, "without": without, "diversity": diversity}
        _from_index(model, user, ratings, idle, n, of_index, why, as_, reading, quiet)
        return
    ranked = ranked_by(risk, interval, seed)
    learn = load(model)
    if out is not None:
        check_writable(out, "lists", option="-o", inputs=training_files(learn, model))
    rules: dict[str, Any] = {"n": n, "exclude": None if include_seen else "known", "where": where,
                             "diversity": diversity, "why": why, **ranked,
                             "among": asked(learn.data.catalogue, learn.data.item_table, among),
                             "without": asked(learn.data.catalogue, learn.data.item_table, without)}
    if out is not None:
        with progress(quiet):
            learn.recommend_all(path=out, **rules, **style)
        print(f"Wrote {out}: up to {counted(n, 'item')} for each of {counted(learn.data.n_users - 1, 'user')}."
              + _without_lists(learn.data))
    elif ratings is not None:
        from ..data.new_user import rated_file
        from .remedies import of_file
        with worded(of_file(ratings, reading)):
            rated = rated_file(learn.data, ratings, **reading)
        _print_new(rated, learn.data.titles(rated["item"]), learn.recommend(ratings=rated, **rules), as_, rules, quiet)
    else:
        _print_known(learn, user or [], rules, as_)
    if why:
        note_faint(learn, quiet)


def ranked_by(risk: str | None, interval: float | None, seed: int | None) -> dict[str, Any]:
    """What --risk, --interval and --seed say, as `recommend` takes them. Raises DataError for what they cannot say."""
    share: float | str | None = risk
    with suppress(ValueError):
        share = risk if risk is None else float(risk)
    if share not in (None, "mean", "draw") and not (isinstance(share, float) and 0 < share < 1):
        raise DataError(f"--risk {risk} is neither mean nor draw nor a number between 0 and 1, a lower quantile, such "
                        "as 0.1")
    if interval is not None and not 0 < interval < 1:
        raise DataError(f"--interval {interval:g} is not a probability between 0 and 1, such as 0.9")
    if seed is not None and share != "draw":
        raise DataError("--seed is that of a draw; without --risk draw nothing is drawn")
    if share == "draw" and seed is None:
        seed = secrets.randbits(62)         # torch's own first state is the same in every process
    return {"risk": share, "interval": interval, "seed": seed}


def asked(items: Catalogue, table: pd.DataFrame | None, texts: Names) -> Chosen | None:
    """What --among or --without names: ids, titles and conditions."""
    from ..data.allowed import typed
    return None if texts is None else [typed(items, table, text) for text in texts]


def _without_lists(data: CollabDataBunch) -> str:
    """How many users of the ratings are not trained on, as a further sentence; nothing without one."""
    from ..data.schema import show
    if (more := data.aside.users.more) is None:
        return ""
    n = len(more) - 1
    why = "held out" if data.threshold is None else f"held out or is not above {data.threshold:g}"
    return (f"\n{counted(n, 'further user')} of the ratings (such as {show(next(iter(more)))}) "
            f"{they(n, 'has', 'have')} no list, since every rating of {they(n, 'that one', 'theirs')} was {why}; "
            "collab train --valid-pct 0 holds none out.")


def _left(rules: dict[str, Any]) -> str:
    """What --among, --where and --without leave, in words: "every item", or "all that is left by --among"."""
    said = [f"--{name}" for name in ("among", "where", "without") if rules.get(name)]
    return f"all that is left by {' and '.join(said)}" if said else "every item"


def _print_new(rated: pd.DataFrame, titles: list[str] | None, recommended: pd.DataFrame, as_: Output | None,
               rules: dict[str, Any], quiet: bool) -> None:
    from .output import print_table, remarks
    if blank := rated.attrs.get("blank", 0):       # a sheet to fill in has many: no warning
        say = remarks(as_, quiet)
        say(f"{counted(blank, 'row')} without a rating {they(blank, 'counts', 'count')} as not rated.\n")
    if as_ in (None, Output.TABLE):
        what = "rating" if "rating" in rated else "item"
        print(f"From {f'this {what}' if len(rated) == 1 else f'these {len(rated):,} {what}s'}:\n")
        print_table(rated if titles is None else rated.assign(title=titles))
        print("\nRecommended:\n")
    print_table(recommended, as_, if_empty=f"nothing: {_left(rules)} is rated")


def _print_known(learn: CollabLearner, users: list[str], rules: dict[str, Any], as_: Output | None) -> None:
    from .output import print_table
    ids = [learn.data.users.parse(id) for id in dict.fromkeys(users)]
    if as_ not in (None, Output.TABLE):
        asked: Ids = ids if len(ids) > 1 else ids[0]
        print_table(learn.recommend(asked, unknown="error", **rules), as_)
        return
    lists = [learn.recommend(id, unknown="error", **rules) for id in ids]
    for k, (id, recommended) in enumerate(zip(ids, lists)):
        liked, part = ("Chosen by", "train") if learn.data.implicit else ("Rated highest by", "known")
        print("\n" * (k > 0) + f"{liked} user {id}:\n")
        print_table(learn.rated(id, n=5, part=part))
        print("\nRecommended:\n")
        print_table(recommended, as_, if_empty="" if len(recommended) else _why_nothing(learn, id, rules))


def _why_nothing(learn: CollabLearner, id: Hashable, rules: dict[str, Any]) -> str:
    """Why a user's list is empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")             # said before
        if rules["exclude"] is None or not len(learn.recommend(id, **rules | {"exclude": None, "n": 1})):
            return f"nothing: no item is left by {_left(rules).partition(' by ')[2] or 'the model'}"
    return f"nothing: this user has rated {_left(rules)}; --include-seen lists what was rated too"


def _from_index(model: Path, users: Names, ratings: Path | None, idle: dict[str, Any], n: int,
                rules: dict[str, Any], why: bool, as_: Output | None, reading: Reading, quiet: bool) -> None:
    """Answer from an index, which has vectors, ids and what is known of items, but no ratings."""
    from ..data.new_user import rated_file
    from ..retrieval.index import Index
    from .inputs import named
    from .output import print_table
    from .remedies import of_file
    if idle:
        raise DataError(f"{model} is an index: vectors, ids and what is known of items, without ratings. It takes no "
                        f"{named(idle)}; the model file does")
    index: Index = Index.load(model)
    rules |= {name: asked(index.catalogue, index.table, rules[name]) for name in ("among", "without")}
    if ratings is not None:
        with worded(of_file(ratings, reading)):
            rated = rated_file(index, ratings, **reading)
        named_items = [*index.catalogue.names(index.item_ids.encode(rated["item"]))]
        titles = None if index.titles is None else named_items
        _print_new(rated, titles, index.recommend(ratings=rated, n=n, why=why, **rules), as_, rules,
                   quiet)
        return
    if index.user_ids is None:
        raise DataError(f"{model} is an index without users: it answers --ratings FILE")
    if why:
        raise DataError(f"{model} is an index: it holds no ratings of known users, and says --why with --ratings")
    warn("an index holds no ratings, so that a list may have what the user has rated; leave items out with --without")
    ids = [index.user_ids.parse(id) for id in dict.fromkeys(users or [])]
    found = index.recommend(ids if len(ids) > 1 else ids[0], n, unknown="error", **rules)
    print_table(found, as_, if_empty="nothing: no item is left")
