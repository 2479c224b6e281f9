"""What ratings say of a dot model before any training: how its biases start, and how strong its ridge is to be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ..compiled import DotTables
from ..data.databunch import CollabDataBunch
from ..data.signal import FAINTEST, Parts, Signal, contrast_of, renumbered, sample, signal_of
from ..data.totals import counts_of
from ..errors import DataError
from ..loaders import blocks_of
from ..memory import give_back
from ..models.baseline import BiasBaseline
from ..models.layers import Range
from ..sharded_rows import ShardedRows

POWER = 0.4                 # of a row's number of ratings, with which its ridge in the sum over them grows
ITEM_START = 20.0           # an item with as many ratings starts at half of its bias in closed form
BIAS_RIDGE = (5.0, 3.0)     # of a user's and an item's bias in the sum over its ratings: the baseline's damping
CLEAR, HIDDEN = 0.68, 0.4   # contrast from which on factors count as found, up to which as absent
HELD = 0.8                  # over the contrast: the strength that a ridge has at least
UNUSUAL = 0.5               # of the logarithm of a damping over the usual one: it is tried
ROUNDS = 5                  # of expectation maximisation
ROWS = 1 << 20              # that are worked out at a time
SURE = 300                  # rows of which half a damping is their own

Held = tuple[slice, slice]
"""Rows of users and of items."""


@dataclass(frozen=True)
class Evidence:
    """What the training ratings say of a dot model with this range, before any training: the damping of biases of users
    and items in closed form, the deviation of what biases leave (`sigma`), its `Signal`, the `contrast` of its factors,
    the slope of the range at the mean rating; how many ratings there are (`n`), and how many users and items have some
    (`rated`); the means over ratings of n_row^(POWER - 1) (`powers`).

    Of the rows `held`, the number of ratings of each (`counts`, int32) and, where all are held, the biases (float32;
    None where they were dropped, and have to be found again)."""

    damping: tuple[float, float]
    sigma: float
    signal: Signal
    contrast: float
    slope: float
    n: int
    rated: tuple[int, int]
    powers: tuple[float, float]
    held: Held
    counts: tuple[Tensor, Tensor]
    biases: tuple[Tensor, Tensor] | None

    known: ClassVar[WeakKeyDictionary[object, dict[Range | None, Evidence]]] = WeakKeyDictionary()

    @classmethod
    def of(cls, data: CollabDataBunch, y_range: Range | None, held: Held | None = None) -> Evidence:
        """The evidence in the training part; computed once for each part and range, and kept for the rows `held`, by
        default all."""
        found = cls.known.setdefault(data.train, {})
        if y_range not in found:
            found[y_range] = cls._gathered(data, y_range)
        found[y_range] = found[y_range]._at(data, held or _all_rows(data))
        return found[y_range]

    def _at(self, data: CollabDataBunch, held: Held) -> Evidence:
        if held == self.held:
            return self
        if self.held == _all_rows(data):
            counts = [own[rows].clone() for own, rows in zip(self.counts, held)]
        else:
            counts = [counts_of(data.train, k, size, rows).int()
                      for k, (size, rows) in enumerate(zip((data.n_users, data.n_items), held))]
        return replace(self, held=held, counts=(counts[0], counts[1]), biases=None)

    @classmethod
    def _gathered(cls, data: CollabDataBunch, y_range: Range | None) -> Evidence:
        parts = _parts(data.train)
        n, counts = int(data.counts("user").sum()), (data.counts("user").int(), data.counts("item").int())
        shape = data.n_users, data.n_items
        baseline = BiasBaseline(*shape)

        def left(damping: tuple[float, float]) -> tuple[float, Signal, float]:
            """The sum of the squares of what biases with this damping leave, its signal, and how far that stands
            out."""
            baseline.fit_blocks(parts, *damping)
            found = signal_of(residuals, n, *shape)
            squares = sum(e.double().square().sum().item() for _, _, e in residuals())
            return squares, found, contrast_of(found, parts, counts, damping)

        def residuals() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            return ((users, items, ratings - baseline(users, items)) for users, items, ratings in parts())
        damping, own = BIAS_RIDGE, _fitted(parts, n, *shape)
        squares, found, stands_out = left(damping)
        if _doubt(stands_out) or max(abs(math.log(fit / usual)) for fit, usual in zip(own, damping)) > UNUSUAL:
            if stands_out > FAINTEST:       # what is left of large biases would look like factors
                squares, found, stands_out = left(own)
            doubt = _doubt(stands_out)
            damping = tuple(usual ** (1 - doubt) * fit ** doubt for usual, fit in zip(BIAS_RIDGE, own))
            baseline.fit_blocks(parts, *damping)
        low, high = y_range or (0.0, 0.0)
        m = min(max((data.mean - low) / (high - low), 0.01), 0.99) if y_range else 0.0
        rated = int((counts[0] > 0).sum()), int((counts[1] > 0).sum())
        return cls(damping, math.sqrt(squares / n), found, stands_out, (high - low) * m * (1 - m) if y_range else 1.0,
                   n, rated, (_mean_power(counts[0], n), _mean_power(counts[1], n)), _all_rows(data), counts,
                   (baseline.u_bias.float(), baseline.i_bias.float()))

    @property
    def said(self) -> str:
        """What is done about factors that do not stand out, for a summary; nothing where they do."""
        if not self.sigma or not _doubt(self.contrast):
            return ""
        how, contrast = "are lost in" if self.contrast <= HIDDEN else "hardly stand out from", math.floor(
            100 * self.contrast) / 100      # below the limit as it is shown, too
        return (f"; factors {how} noise (contrast {contrast:.2f}, clear from {CLEAR:g}), and biases are damped by "
                f"{self.damping[0]:.1f} and {self.damping[1]:.1f} ratings")

    @property
    def strength(self) -> float:
        """(signal beyond chance)^(-1/4): a ridge is the variance of the noise over that of the factors, and the signal
        grows with the fourth power of the latter's square root. At least HELD / contrast, and times CLEAR / contrast
        where that is more than 1: of factors that hardly stand out, a model learns more noise than factors."""
        least = HELD / self.contrast * max(CLEAR / self.contrast, 1.0)
        return max(self.signal.beyond_chance ** -0.25, least)

    def ridges(self, scale: float) -> tuple[np.ndarray, ...]:
        """The L2 for every rating of a row, float32, by row: of the factors of users and of items, of their biases (see
        `RowRidge`)."""
        factors, biases = zip(*(one.of_all(own) for one, own in zip(self.row_ridges(scale), self.counts)))
        return *factors, *biases

    def row_ridges(self, scale: float) -> list[RowRidge]:
        """The L2 for every rating of a row, of users and of items. Of factors it is scale strength sigma slope
        (sqrt(U) + sqrt(I)) / sqrt(n), times a share of each row, where U users and I items have the n ratings (a matrix
        of noise has singular values of sigma (sqrt(U) + sqrt(I))). Of biases it is slope^2 damping / n_row."""
        whole = (scale * self.strength * self.sigma * self.slope * sum(map(math.sqrt, self.rated))
                 / math.sqrt(self.n))
        return [RowRidge(whole, self.slope ** 2 * damping, mean) for damping, mean in zip(self.damping, self.powers)]

    @torch.no_grad()
    def start(self, data: CollabDataBunch, tables: DotTables) -> None:
        """Start a model's biases in closed form, in units of what goes into the range. Where factors stand out, those
        of items with many ratings start nearer to 0: training finds these itself, and better so together with the
        factors."""
        if tables.user_bias is not None and tables.item_bias is not None:
            doubt = _doubt(self.contrast)
            of_users, of_items = self.biases or self._fitted_again(data)
            share = doubt + (1 - doubt) * ITEM_START / (self.counts[1] + ITEM_START)
            for bias, start in ((tables.user_bias, of_users), (tables.item_bias, of_items * share)):
                bias.copy_((start / self.slope).view(bias.shape))

    def _fitted_again(self, data: CollabDataBunch) -> tuple[Tensor, Tensor]:
        baseline = BiasBaseline(data.n_users, data.n_items).fit_blocks(_parts(data.train), *self.damping)
        return baseline.u_bias.float(), baseline.i_bias.float()


def look_at(data: CollabDataBunch, tables: DotTables, start: bool) -> str:
    """Gather the `Evidence` for a model with these tables, and `start` its biases, where asked for; what is to be said
    of it. Of tables of which this process holds some rows, the numbers of these rows alone are kept."""
    found = Evidence.of(data, tables.y_range)
    if start:
        found.start(data, tables)
    said = found.said
    if (held := held_rows(tables)) is not None:
        found = Evidence.of(data, tables.y_range, held)
        give_back()
    return said


def faint(recipe: str) -> str:
    """What factors that do not stand out mean for who reads them, as a clause, from a learner's `recipe`, which its
    file keeps; nothing where they do stand out, or where it is not known."""
    found = re.search(r"factors (?:are lost in|hardly stand out from) noise \(contrast [^)]*\)", recipe)
    return "" if found is None else (f"{found[0]}: similar items, reasons, parts of a score and components may be "
                                     "chance; more ratings would make them clearer")


def held_rows(tables: DotTables) -> Held | None:
    """The rows of users and of items that this process holds, where that is not all of them."""
    users, items = tables.users, tables.items
    return (users.own, items.own) if isinstance(users, ShardedRows) and isinstance(items, ShardedRows) else None


def _all_rows(data: CollabDataBunch) -> Held:
    return slice(0, data.n_users), slice(0, data.n_items)


class RowRidge:
    """The L2 for every rating of a row: of its factors `whole` n_row^(POWER - 1) / `mean`, where that is the mean of
    these powers over the ratings, and of its bias `bias` / n_row."""

    def __init__(self, whole: float, bias: float, mean: float):
        self.whole, self.bias, self.mean = whole, bias, mean

    def __call__(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """That of the factors and of the bias of rows with so many ratings, float32."""
        return ((self.whole * (_power(counts) / self.mean)).float(),
                (self.bias / counts.double().clamp(min=1)).float())

    def of_all(self, counts: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The same, some rows at a time."""
        made = torch.empty(2, len(counts))
        for into, part in zip(made.split(ROWS, 1), counts.split(ROWS)):
            into[0], into[1] = self(part)
        return made[0].numpy(), made[1].numpy()


def _power(counts: Tensor) -> Tensor:
    return counts.double().clamp(min=1) ** (POWER - 1)


def _mean_power(counts: Tensor, n: int) -> float:
    """The mean of `_power` over the n ratings of rows with these numbers of them."""
    return sum((part * _power(part)).sum().item() for part in counts.split(ROWS)) / n


def _parts(batches: object) -> Parts:
    """The users, items and ratings of batches on the CPU, all at once or block by block. Raises DataError for batches
    that tell neither."""
    if (blocks := blocks_of(batches)) is None:
        raise DataError("a Ridge is as strong as the training ratings call for, and these batches are no slices of "
                        "tensors; pass a weight decay in its place: collab_learner(data, wd=0.1)")
    return lambda: ((users.cpu(), items.cpu(), ratings.cpu()) for users, items, ratings in blocks())


def fitted_damping(users: Tensor, items: Tensor, ratings: Tensor, n_users: int, n_items: int) -> tuple[float, float]:
    """The damping of users' and items' biases that the ratings of a `sample` of rows call for: the variance of the
    noise over that of the biases, by expectation maximisation (empirical Bayes; Dempster, Laird, Rubin 1977), in the
    geometric mean with BIAS_RIDGE with a weight of rows / (rows + SURE)."""
    return _fitted(lambda: [(users, items, ratings)], len(users), n_users, n_items)


def _fitted(parts: Parts, n: int, n_users: int, n_items: int) -> tuple[float, float]:
    """`fitted_damping` of n ratings in parts."""
    if n_users >= n_items:
        users, items, ratings, _ = sample(parts, n, n_users)
    else:
        items, users, ratings, _ = sample(lambda: ((items, users, r) for users, items, r in parts()), n, n_items)
    (users, n_users), (items, n_items) = renumbered(users), renumbered(items)
    baseline, damping = BiasBaseline(n_users, n_items), BIAS_RIDGE
    counts = [torch.bincount(users).double(), torch.bincount(items).double()]
    least = 1e-9 * ratings.double().var(correction=0).item()
    for _ in range(ROUNDS):
        baseline.fit(users, items, ratings, *damping)
        square = (ratings - baseline(users, items)).double().square().sum().item()
        taken = sum((n / (n + d)).sum().item() for n, d in zip(counts, damping))
        noise = square / max(len(ratings) - taken, 1.0)
        if not noise > least:       # biases explain all there is
            return BIAS_RIDGE
        damping = tuple(noise / (bias.square() + noise / (n + d)).mean().item()
                        for bias, n, d in zip((baseline.u_bias, baseline.i_bias), counts, damping))
    weights = [len(n) / (len(n) + SURE) for n in counts]
    return tuple(usual ** (1 - w) * own ** w for usual, own, w in zip(BIAS_RIDGE, damping, weights))


def _doubt(stands_out: float) -> float:
    """How far a model is its biases alone: 0 where factors are clear, 1 up to a contrast of HIDDEN."""
    return min(max((CLEAR - stands_out) / (CLEAR - HIDDEN), 0.0), 1.0)
