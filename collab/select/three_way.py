"""Three parts: the training ratings are cut once more, so that trials never see the ratings of the report."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import Tensor

from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..data.split import Split, random_split
from ..errors import CollabWarning, DataError, warn
from ..evaluate.validation import unsplit

TIME = "time of the rating"


@dataclass(frozen=True, eq=False)
class ThreeWay:
    """`trials`: the training ratings of the given data, cut into training and validation as these were. `untouched`:
    the part that no trial sees, named `name` ("test", or "valid" where there is none), and `users`, int64 (n,), who
    gave its ratings, the unknown ones told apart."""

    trials: CollabDataBunch
    untouched: TensorBatches
    name: str
    users: Tensor

    @property
    def words(self) -> str:
        """What the untouched ratings are called."""
        return f"{self.untouched.n:,} {'test' if self.name == 'test' else 'validation'} ratings"


def three_way(data: CollabDataBunch, split: Split | None = None) -> ThreeWay:
    """Cut the training ratings by `split`, by default by the split that made the data: random, by time, per user. One
    that counts positions cannot be repeated; as large a part is then drawn at random, with a warning.

    Raises DataError where nothing was held out, and where the split holds out none of the training ratings."""
    name = "valid" if data.test is None else "test"
    untouched = data.valid if data.test is None else data.test
    if untouched is None or not untouched.n:
        raise DataError("what tuning gains is measured on ratings that no trial sees, and these data hold out none: "
                        "make them with valid_pct=0.2, or a split, or with test=0.1")
    table, options = unsplit(data, valid=False)
    cut = data.cut
    if split is None:
        split = _again(data)
    if cut is not None and cut.times is not None:
        table, options["time_name"] = table.assign(**{TIME: cut.times}), TIME
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollabWarning)      # they were given when the data were made
        trials = CollabDataBunch.from_df(table, split=split, seed=data.seed, **options)
    if trials.valid is None or not trials.valid.n:
        raise DataError(f"the split of the data, once more, holds out none of the {data.train.n:,} training ratings "
                        "for the trials; make the data with another, such as valid_pct=0.2")
    kept = data.aside.of_part(name, untouched)
    return ThreeWay(trials, untouched, name, untouched.tensors[0].cpu() if kept is None else kept[0])


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
    return (f"all {data.train.n:,} training ratings, the {parts.trials.valid.n:,} that trials were measured on "
            f"included, and not on the {parts.words}")
