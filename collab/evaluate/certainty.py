"""How well a model knows how sure it is: the log loss of its probabilities, and the coverage of its intervals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch
from ..data.totals import levels_of
from ..errors import DataError
from ..losses import RatingCrossEntropy
from ..models.base import CollabModel
from ..models.plain import as_collab
from .shortfall import Predictor

LOG_LOSS, COVERAGE = "log_loss", "coverage"
CERTAINTY = (LOG_LOSS, f"{COVERAGE}(0.9)")      # the latter with any share
SMALLEST = 2.0 ** -52       # a probability below this counts as this: no rating costs more than 36
MAX_PAIRS = 1 << 11         # whose distributions are made at a time


class Certainty(NamedTuple):
    """One of these metrics: `share` is that of the intervals, None for the log loss. Each is a mean over ratings: of
    -log P(the level that was given), a natural logarithm, where a rating that is not a level counts as the nearest one;
    or of whether the rating lies in the central interval that `predict(..., interval=share)` shows."""

    name: str
    share: float | None

    def check(self, model: CollabModel) -> None:
        """Raise Unsupported for a model that gives no probabilities, or no intervals."""
        if self.share is None:
            model.rating_levels()
        elif not model.gives_intervals:
            none = torch.zeros(0, dtype=torch.int64)
            model.predictive(none, none)        # which says so

    def of(self, model: CollabModel, users: Tensor, items: Tensor, ratings: Tensor,
           scale: tuple[float, float] | None) -> Tensor:
        """What each of n ratings adds, float64 (n,), its mean being the metric. `scale` is that of the ratings, to
        which intervals are cut."""
        if self.share is not None:
            below, up_to = standing(model, users, items, ratings, scale)
            return inside(below, up_to, self.share).double()
        classes = RatingCrossEntropy(model.rating_levels().tolist()).classes(ratings.to(users.device))
        given = model.probabilities(users, items).double().gather(1, classes[:, None])[:, 0]
        return -given.clamp(min=SMALLEST).log()


def certainty(name: object) -> Certainty | None:
    """The metric of that name, "log_loss" or "coverage(0.9)", or None for another name. Raises DataError for a coverage
    without a share between 0 and 1."""
    if name == LOG_LOSS:
        return Certainty(LOG_LOSS, None)
    found = re.fullmatch(rf"{COVERAGE}(?:\s*\((.*)\))?", name) if isinstance(name, str) else None
    if found is None:
        return None
    try:
        share = float(found[1] or "nan")
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise DataError(f"{name!r} does not say of which intervals: write the probability between 0 and 1 that they "
                        f"are to have, such as {COVERAGE}(0.9)")
    return Certainty(f"{COVERAGE}({share:g})", share)


def checked(names: Iterable[str], model: CollabModel) -> list[Certainty]:
    """These metrics, of a model that has them. Raises DataError for another name, Unsupported where it lacks one."""
    found = []
    for name in names:
        if (one := certainty(name)) is None:
            raise DataError(f"certainty={name!r} is not one of {', '.join(CERTAINTY)}, the latter with any share")
        one.check(model)
        found.append(one)
    return found


def per_rating(learn: Predictor, part: TensorBatches, metrics: Sequence[Certainty]) -> dict[str, Tensor]:
    """{metric: what each rating of the part adds, float64 (n,), on the CPU}."""
    model, parts = as_collab(learn.model), {metric.name: [torch.empty(0, dtype=torch.float64)] for metric in metrics}
    with learn.untouched(), torch.no_grad():
        learn.model.eval()
        for users, items, ratings in part:
            for metric in metrics:
                parts[metric.name].append(metric.of(model, users, items, ratings, learn.shown_range).cpu())
    return {name: torch.cat(some) for name, some in parts.items()}


def log_loss_of_shares(data: CollabDataBunch, ratings: Tensor) -> Tensor:
    """What each of n ratings adds to the log loss of a model that gives every pair the shares of the levels in
    training, float64 (n,): the baseline to beat."""
    levels, times = levels_of(data.train)
    shares = times.cpu().double() / times.sum().item()
    return -shares[RatingCrossEntropy(levels.tolist()).classes(ratings.cpu())].log()


def standing(model: CollabModel, users: Tensor, items: Tensor, ratings: Tensor,
             scale: tuple[float, float] | None = None) -> tuple[Tensor, Tensor]:
    """The predicted probabilities of less than each of n ratings, and of no more: float64 (n,) both, alike where all
    numbers can occur. What lies beyond an end of the `scale` counts as that end."""
    values = ratings.to(users.device).double()
    ends = torch.stack([values, values.nextafter(torch.full_like(values, torch.inf))], 1)
    shares = [model.predictive(*some[:2]).below(some[2]) for some in zip(*(t.split(MAX_PAIRS) for t in (
        users, items, ends)))]
    below, up_to = torch.cat([ends.new_zeros(0, 2), *shares]).T
    if scale is not None:
        below, up_to = torch.where(values <= scale[0], 0.0, below), torch.where(values >= scale[1], 1.0, up_to)
    return below, up_to


def inside(below: Tensor, up_to: Tensor, share: float) -> Tensor:
    """Whether ratings lie in the central interval of probability `share`, bool, by their `standing`."""
    outside = (1 - share) / 2
    return (up_to >= outside) & (below <= 1 - outside)
