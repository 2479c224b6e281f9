"""Names of the metrics that models are chosen by."""

import difflib
from collections.abc import Sequence

from ..errors import DataError
from ..evaluate.accuracy import ERRORS as ERRORS  # of ratings: less is better
from ..evaluate.certainty import CERTAINTY, LOG_LOSS
from ..evaluate.evaluation import ACCURACY

LOWER = (*ERRORS, LOG_LOSS)
OF_RATINGS = (*ERRORS, *CERTAINTY)
RANKING = (*ACCURACY, "auc")        # of lists: more is better. What else `evaluate` measures is no goal in itself


def not_one_of(names: Sequence[str], argument: str, name: object, note: str = "") -> DataError:
    """The error for a metric, given by `argument`, that is not among these names, with a `note` on them and the nearest
    one; "@10" behind a name stays."""
    word, at, k = str(name).lower().partition("@")
    near = difflib.get_close_matches(word, names, n=1)
    return DataError(f"{argument}={name!r} is not one of {', '.join(names)}{note}"
                     + (f"; did you mean {near[0] + (at + k) * (near[0] in RANKING)!r}?" if near else ""))
