"""collab tune: better settings than a recipe's, by trials, and the model that is trained with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DataError
from .command import INTERRUPTED
from .options import (
    DEFAULT,
    OUT,
    As,
    BatchSize,
    Data,
    Epochs,
    Factors,
    ModelName,
    NoCard,
    Out,
    Quiet,
    Seed,
    SplitName,
    TableOptions,
    Test,
    ValidPct,
    grouped,
)

Trials = Annotated[int, typer.Option(min=1, help="How many settings to try, the model's own among them.")]
MetricName = Annotated[str | None, typer.Option(metavar="NAME", help="What to improve: rmse, mae, mse, or ndcg@10, "
                                                                     "recall@20 and the like; by default rmse, for a "
                                                                     "model that ranks ndcg@10.")]
Resume = Annotated[Path | None, typer.Option(metavar="FILE", help="The file that keeps the trials, such as study.db; "
                                                                  "from one that exists they go on.")]
Timeout = Annotated[float | None, typer.Option(min=1, help="Seconds after which no further trial begins.")]


@grouped
def tune(data: Data, *, model: ModelName = DEFAULT, trials: Trials = 20, metric: MetricName = None,
         resume: Resume = None, timeout: Timeout = None, split: SplitName = "random", valid_pct: ValidPct = None,
         test: Test = None, factors: Factors = None, epochs: Epochs = None, bs: BatchSize = None, seed: Seed = None,
         out: Out = OUT, table: TableOptions, no_card: NoCard = False, as_: As = None, quiet: Quiet = False) -> None:
    """Look for better settings of a model on a part of the training ratings, say on ratings that no trial saw whether
    they beat its own, and write the model as collab train does, with the better ones. JSON has all trials too."""
    from ..data.tables import check_no_model
    from ..select.study_file import optuna
    from ..select.tuning import tune as search
    from .figures import finish
    from .inputs import WITHOUT_FRACTION, check_writable, given, split_of, test_of
    from .model_options import bs_of, check_model, check_used
    from .output import progress, remarks
    from .prepare import prepare
    say = remarks(as_, quiet)
    optuna()
    check_no_model(data)
    inputs = [data, table.items, table.users, test]
    check_writable(out, "model", inputs=inputs)
    if resume is not None:
        check_writable(resume, "study", option="--resume", inputs=[*inputs, out])
    check_model(model)
    check_used(model, split, table, given(valid_pct=valid_pct, factors=factors, epochs=epochs, bs=bs))
    if valid_pct == 0 and split not in WITHOUT_FRACTION and test is None:
        raise DataError("--valid-pct 0 leaves nothing to say on whether tuning helped; hold out some ratings, or give "
                        "--test")
    valid_pct, seed = 0.2 if valid_pct is None else valid_pct, seed or 0
    prepared = prepare(data, [model], table)
    for_the_end, test_note = test_of(test, split, seed=seed, **prepared.reading)
    bunch = prepared.bunch(split=split_of(split, valid_pct=valid_pct, seed=seed), bs=bs or bs_of(model), seed=seed,
                           test=for_the_end, test_file=test_note)
    say(f"{bunch}\n")
    sys.stdout.flush()          # before a search that takes minutes
    fixed: dict[str, Any] = given(n_factors=factors, epochs=epochs)
    try:
        with progress(quiet):
            found = search(bunch, model, trials, metric=metric, storage=resume, timeout=timeout, whole=True, **fixed)
    except KeyboardInterrupt:
        kept = ("; --resume FILE keeps the trials of a run, so that another goes on from there." if resume is None else
                f". The trials so far are in {resume}: go on with --resume {resume}.")
        print(f"Interrupted: nothing was written to {out}{kept}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    say(f"{found}\n")
    data_of = found.learn.data
    if data_of.valid is None:           # its ratings were trained on, and are not to be held out again
        split, valid_pct = split if isinstance(test_note, float) else "random", 0.0
    notes = prepared.notes(data_of, split=split, valid_pct=valid_pct, test=test_note, seed=seed,
                           tuned={"settings": found.best, "trials": len(found.trials), "metric": found.metric})
    about = {"tuned": {"settings": found.best, "beaten": found.beaten, "metric": found.metric}, "trials": found.trials,
             "comparison": found.table}
    finish(found.learn, data_of, out, notes, say=say, as_=as_, card=not no_card, quiet=quiet, about=about)
