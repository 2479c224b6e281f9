"""How good a model is on what was held out: measured once, printed in three ways, and kept for its card."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..data.vocab import UNKNOWN
from ..errors import CollabWarning, DataError
from ..evaluate import advice, evaluation
from ..evaluate.accuracy import ERRORS
from ..evaluate.certainty import CERTAINTY
from ..evaluate.held_out import NobodyToRank
from ..evaluate.result import RankingResult
from ..files import Config
from ..learner.card import card_path, write_card
from ..learner.collab_learner import CollabLearner
from .command import NAMES, Output, as_options, named_as_options
from .output import note_faint, print_document, print_table

WHERE = {"valid": " held out of training (valid)", "test": " held out for the end (test)", None: ""}
LISTS = "A low RMSE does not make good lists"
NOTHING = "nothing was held out, so there is no error to report"


class Figures(NamedTuple):
    """What was measured on `n` held-out ratings: `results`, errors beside two baselines or a ranking beside the most
    popular items, None where there is nothing to measure; and a `remark` on it, a sentence without its stop."""

    n: int
    ranking: bool
    results: pd.DataFrame | RankingResult | None
    remark: str | None

    def table(self) -> pd.DataFrame:
        """A row for each model, baselines first, by the names that --model takes."""
        if self.results is None:
            return pd.DataFrame()
        table = self.results
        if isinstance(table, RankingResult):
            rows = [row for row in (table.baseline, table) if row is not None]
            table = pd.DataFrame([{"model": row.name, **row.summary} for row in rows])
        return table.assign(model=table["model"].map(named_as_options))

    def document(self) -> dict[str, object]:
        """The same for JSON."""
        found = self.results
        more = {} if not isinstance(found, RankingResult) else {"k": found.k, "users": len(found.per_user),
                                                                "left_out": found.left_out}
        return {"held_out": self.n, **more, "ranking" if self.ranking else "errors": self.table(),
                "remark": self.remark}


def measure(learn: CollabLearner, part: TensorBatches | None, *, k: int | None = None,
            above: float | None = None, diversity: float = 0.0, metrics: Sequence[str] | None = None,
            beside: tuple[str, Callable[[], TensorBatches | None]] | None = None) -> Figures:
    """The error on a part beside two baselines or, for a model that ranks or where `k`, `above`, `diversity` or
    `metrics` of rankings are given, how much of it is among the first `k`; with `diversity` beside the model's lists
    without it. What the other held-out part has of a user is no miss of a ranking: for a part that was read again it is
    what `beside` reads, the name of the part measured and a function."""
    ranking = learn.ranks or k is not None or above is not None or diversity > 0
    ranking |= any(name in evaluation.NAMES for name in metrics or ())
    if metrics and (other := [name for name in metrics if (name in evaluation.NAMES) != ranking]):
        raise DataError(f"--metrics {other[0]} is {'no metric of rankings' if ranking else 'none of ratings'}, which "
                        f"are {', '.join(evaluation.NAMES if ranking else (*ERRORS, *CERTAINTY))}; measure one kind at "
                        "a time")
    if part is None:
        return Figures(0, ranking, None, NOTHING)
    if not ranking:
        table, remark = advice.errors_and_advice(learn, part, metrics or ERRORS)
        return Figures(part.n, False, table, remark and _spoken(remark))
    data = learn.data
    if beside is not None:
        rest = _other(beside[1])
        data.valid, data.test = (part, rest) if beside[0] == "valid" else (rest, part)
    others = ["test"] if part is data.valid else ["valid"] if part is data.test else []
    try:
        result = evaluation.evaluate(learn, part, k=k or 10, metrics=metrics or ("ndcg", "precision", "recall"),
                                     threshold=above, diversity=diversity, exclude=("train", *others))
    except NobodyToRank as nobody:
        return Figures(part.n, True, None, f"there is no ranking to report: {nobody.why}")
    why = advice.of_ratings(learn.data, part.tensors[2]) if learn.data.implicit else None
    plain = bool(result.metrics) and result.metrics[0] in evaluation.ACCURACY and not diversity
    remark = advice.of_ranking(learn.model, result, why) if plain else None
    return Figures(part.n, True, result, remark and _spoken(remark))


def _other(read: Callable[[], TensorBatches | None]) -> TensorBatches | None:
    """The part that `read` gives, without its warnings, which were given for the part beside it. None where its file is
    gone, which is told: a model is measured without it, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollabWarning)
        try:
            return read()
        except (DataError, OSError) as error:
            print(f"Note: what the other part holds counts as missed where it is recommended: {error}", file=sys.stderr)
            return None


def of_unknown(data: CollabDataBunch, part: TensorBatches, what: str) -> str | None:
    """How many of the ratings of a part are of users or items that were not trained on, and what becomes of these, in
    a sentence that holds for errors and for rankings; None where all were. `what` names the ratings."""
    rows = [(rows.cpu(), data.trained[side]) for side, rows in zip(("user", "item"), part.tensors)]
    unknown, untrained = (torch.stack(masks).any(0) for masks in zip(*(
        (rows == UNKNOWN, ~trained[rows]) for rows, trained in rows)))
    n, n_known = int(unknown.sum()), int((untrained & ~unknown).sum())
    said = [f"{n:,} of {what} are of users or items that were not trained on: errors take the average one for these, "
            "and rankings leave them out."] * bool(n)
    if n_known:
        said.append(f"{n_known:,} {'more ' * bool(n)}of {what} are of users or items that were not trained on, but are "
                    "known by --items or --users: these are scored by what is known of them.")
    return " ".join(said) or None


def print_figures(figures: Figures, as_: Output | None = None, about: Mapping[str, object] | None = None,
                  test: Figures | None = None, where: str = WHERE["valid"]) -> None:
    """Print figures, of the ratings that `where` names, and those of the `test` part below. CSV is a table with a
    row for each model, and the column part where there are two; JSON is one object: `about`, held_out (a number of
    ratings), "errors" or "ranking" (that table; for a ranking also k, users and left_out), remark (a sentence, or
    null), and test, an object of the same kind."""
    parts = {"valid": figures} | ({} if test is None else {"test": test})
    if as_ is Output.JSON:
        print_document({**(about or {}), **figures.document(), **({} if test is None else {"test": test.document()})})
    elif as_ is Output.CSV:
        tables = [one.table() if test is None else one.table().assign(part=name) for name, one in parts.items()]
        if len(table := pd.concat(tables, ignore_index=True)):
            print_table(table, as_)
        for one in parts.values():
            if one.remark is not None:
                print(f"{_sentence(one.remark)}", file=sys.stderr)
    else:
        if test is None or figures.n:
            _print(figures, where)
        if test is not None:
            if test.results is None:            # its remark does not name it
                print("\nOf the ratings held out for the end:")
            _print(test, WHERE["test"])


def finish(learn: CollabLearner, data: CollabDataBunch, out: Path, notes: Config, *, say: Callable[[str], None] = print,
           as_: Output | None = None, card: bool = True, quiet: bool = False,
           about: Mapping[str, object] | None = None) -> None:
    """Write a trained model, then measure it on what was held out, print that (JSON with what else is to be said
    `about` it), and write it on the model's card: a model is not lost where measuring it fails."""
    learn.export(out, card=False, **notes)
    say(f"Wrote {out}.")
    valid, test = measure(learn, data.valid), None if data.test is None else measure(learn, data.test)
    print_figures(valid, as_, {"model": str(out), "trained_on": data.train.n, **(about or {})}, test)
    part = "valid" if test is None else "test"
    text = learn.card((test or valid).results, notes=notes, part=part, file=out) if card else None
    if text is not None and (written := write_card(card_path(out), text)):
        say(f"\nWrote {written}, the model's card.")
    note_faint(learn, quiet)
    say(f"\nNext: collab recommend {out} --user {shlex.quote(str(next(iter(data.users))))}")
    if not learn.ranks and (test or valid).n:
        say(f"{LISTS}: collab evaluate {out} --k 10 says how good they are.")


def _print(figures: Figures, where: str = "") -> None:
    if isinstance(figures.results, RankingResult):
        shown, beside = (one and replace(one, name=named_as_options(one.name))
                         for one in (figures.results, figures.results.baseline))
        assert shown is not None
        shown = replace(shown, baseline=beside)
        print(f"\nRanking of {figures.n:,} {f'ratings{where}' if where else 'held-out ratings'}:\n\n{shown}")
    elif figures.results is not None:
        print(f"\nError on {figures.n:,} ratings{where}:\n")
        print_table(figures.table(), decimals=4)
    if figures.remark is not None:
        print(f"\n{_sentence(figures.remark)}")


def _spoken(remark: str) -> str:
    return as_options(named_as_options(remark))


def _sentence(remark: str) -> str:
    begin = remark if remark.startswith((*NAMES.values(),)) else f"{remark[0].upper()}{remark[1:]}"
    return f"{begin}."
