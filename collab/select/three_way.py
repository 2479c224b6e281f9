"""Three parts: trials have a training and a validation part, and never see the ratings of the report."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ..data.aside import Aside
from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..data.split import Split, random_split, time_split
from ..errors import CollabWarning, DataError, warn
from ..evaluate.validation import named_rows, unsplit, with_test

TIME = "time of the rating"


@dataclass(frozen=True, eq=False)
class ThreeWay:
    """`trials`: what trials are trained and measured on; their test part is the untouched one, which is not ranked for
    the users who have it, since finding it would count as a miss. `whole`: all of these ratings as one training part,
    beside `untouched`, the part that no trial sees, named `name` ("test", or "valid" where there is none), and `users`,
    int64 (n,), who gave its ratings, the unknown ones told apart. Rows of `untouched` are those of `whole`."""

    trials: CollabDataBunch
    whole: CollabDataBunch
    untouched: TensorBatches
    name: str
    users: Tensor

    def unaware(self) -> ThreeWay:
        """The same with trials that do not know which pairs are untouched: errors of ratings have no use for that."""
        trials = copy.copy(self.trials)
        trials.test = None
        vars(trials).pop("unseen", None)        # it counts a test part
        return replace(self, trials=trials)

    @property
    def words(self) -> str:
        """What the untouched ratings are called."""
        return f"{self.untouched.n:,} {'test' if self.name == 'test' else 'validation'} ratings"


def three_way(data: CollabDataBunch, split: Split | None = None) -> ThreeWay:
    """Of data with a test part, trials are measured on the validation part, and that is training in `whole`. Of data
    without one, or without a validation part, or where a `split` is given, the training ratings are cut for the trials:
    by default by the split that made the data (random, by time, per user). One that counts positions cannot be
    repeated; as large a part is then drawn at random, with a warning.

    Raises DataError where nothing was held out, and where the split holds out none of the training ratings."""
    name = "valid" if data.test is None else "test"
    untouched = data.valid if data.test is None else data.test
    if untouched is None or not untouched.n:
        raise DataError("what tuning gains is measured on ratings that no trial sees, and these data hold out none: "
                        "make them with valid_pct=0.2, or a split, or with test=0.1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollabWarning)      # they were given when the data were made
        whole = data if name == "valid" or data.valid is None else _joined(data)
    if name == "test" and split is None and data.valid is not None:
        trials = copy.copy(data)
    else:
        trials = _cut(data, split, name)
    if trials.valid is None or not trials.valid.n:
        raise DataError(f"the split of the data, once more, holds out none of the {data.train.n:,} training ratings "
                        "for the trials; make the data with another, such as valid_pct=0.2")
    untouched = whole.valid if name == "valid" else whole.test
    assert isinstance(untouched, TensorBatches)
    kept = whole.aside.of_part(name, untouched)
    return ThreeWay(trials, whole, untouched, name, untouched.tensors[0].cpu() if kept is None else kept[0])


def _cut(data: CollabDataBunch, split: Split | None, name: str) -> CollabDataBunch:
    """The training ratings, cut into training and validation, beside the untouched part of this name."""
    table, options = unsplit(data, valid=False)
    split = _again(data) if split is None else split
    untouched = named_rows(data, name)
    if data.cut is not None and data.cut.times is not None:
        table, options["time_name"] = table.assign(**{TIME: data.cut.times}), TIME
        untouched = untouched.assign(**{TIME: data.cut.times[0]})      # not cut by it
    table, options["test"] = with_test(table, untouched)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollabWarning)
        return CollabDataBunch.from_df(table, split=split, seed=data.seed, **options)


def _joined(data: CollabDataBunch) -> CollabDataBunch:
    """Data with the validation ratings among the training ratings, and the same test part and weak ratings."""
    table, options = unsplit(data)
    how: dict[str, Any] = {"valid_pct": 0}
    if data.cut is not None and data.cut.times is not None and data.cut.held_out is not None:
        times = np.concatenate([data.cut.times, data.cut.held_out])
        table, how = table.assign(**{TIME: times}), {"split": time_split(0), "time_name": TIME}     # in order of time
    made = CollabDataBunch.from_df(table, seed=data.seed, **options, **how)
    made.schema = data.schema           # with the name of the times, by which evaluate holds out the test part again
    users, items = data.aside.users, data.aside.items
    if data.test is None:
        return made
    parts = {"test": data.aside.of_part("test", data.test) or data.test.tensors, "weak": data.aside.parts.get("weak")}
    made.aside = Aside.of(made.users, made.items, {
        name: pd.DataFrame({"user": users.decode(part[0].cpu()), "item": items.decode(part[1].cpu()),
                            "rating": part[2].cpu().numpy()}) for name, part in parts.items() if part is not None})
    rows = made.aside.batch("test")
    assert rows is not None
    made.test = TensorBatches(*rows, bs=data.test.bs, shape=made.train.shape, device=made.device)
    return made


def _again(data: CollabDataBunch) -> Split:
    """The split of the data, to be called on their training ratings; or one that holds out as large a share."""
    cut, valid = data.cut, 0 if data.valid is None else data.valid.n
    if cut is not None and valid and not getattr(cut.split, "by_position", False):
        return cut.split
    share = valid / (valid + data.train.n) if valid else 0.2
    if valid:
        why = "is not known any more" if cut is None else "goes by positions in the table"
        warn(f"the split of these data {why}, and cannot be repeated on their training ratings: trials are measured on "
             f"{share:.0%} of these, drawn at random")
    return random_split(share, data.seed)


def trained_on(parts: ThreeWay, data: CollabDataBunch) -> str:
    """In words, which rows the returned learner was trained on."""
    assert parts.trials.valid is not None
    n = parts.whole.train.n
    which = f"all {n:,} training ratings" if n == data.train.n else f"all {n:,} training and validation ratings"
    return (f"{which}, the {parts.trials.valid.n:,} that trials were measured on included, and not on the "
            f"{parts.words}")
