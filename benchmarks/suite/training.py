"""Training on ratings: `dot_bias` beside the factor models of fastai, Surprise and libmf, on the same nine tenths.

A figure is CPU microseconds for each rating that training passed over, so that libraries with other numbers of epochs
can be compared; the error is the RMSE on the tenth that was held out, after the whole training by each library's own
recipe. Turning the table into what a library wants, and predicting, are not in it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from collab import CollabDataBunch, CollabLearner, CollabWarning, ShortEpoch, collab_learner

from . import loop
from .contest import Choices, Run, Side, contest, of_peer
from .row import Row
from .sets import SEED, Part

EPOCHS = 5
UNIT = "CPU µs a rating"
BATCH_SIZES = {"100k": (64, 1024, 8192), "1m": (64, 1024, 8192), "5m": (64, 1024, 8192), "25m": (8192,)}


def rows(choices: Choices) -> Iterator[Row]:
    yield from loop.rows(choices)
    for size in choices.sizes:
        train, test = choices.sets.parts(size)
        for n_factors in choices.n_factors:
            yield from rated(size, train, test, n_factors, choices)


def rated(size: str, train: Part, test: Part, n_factors: int, choices: Choices) -> Iterable[Row]:
    """Ours at each batch size beside fastai at the same, and at 1,024 (8,192 at 25 million) beside those that take one
    rating at a time. Surprise keeps its ratings in lists of Python, too large at 25 million."""
    files, cap = (train.file, test.file), ("--limit", choices.limit)
    alone = {"libmf": "libmf", "libmf, rebuilt with AVX": "libmf_vector", "Surprise SVD": "surprise_svd"}
    if size == "25m":
        del alone["Surprise SVD"]
    for bs in BATCH_SIZES[size]:
        def peer(model: str, *more: object) -> Side:
            return of_peer("ratings", *files, "--model", model, "--factors", n_factors, "--json", *cap, *more,
                           figure="microseconds", error="rmse")
        peers = {"fastai": peer("fastai_dot_bias_shuffled", "--bs", bs)}
        if bs == (1024 if 1024 in BATCH_SIZES[size] else BATCH_SIZES[size][-1]):
            peers |= {name: peer(model) for name, model in alone.items()}
        yield from contest("training", f"{n_factors} factors, batches of {bs:,}", size, UNIT,
                           partial(ours, train, test, bs, n_factors, choices.limit), peers, choices, "RMSE")


def ours(train: Part, test: Part, bs: int, n_factors: int, limit: float) -> Run:
    """Five epochs of one-cycle by the recipe of `dot_bias`, or some batches where these would take longer than the
    limit."""
    data = CollabDataBunch.from_df(train.table, valid_pct=0, bs=bs, seed=SEED, device="cpu")
    seconds, learn, passed, note = fitted(
        lambda cbs: collab_learner(data, n_factors=n_factors, cbs=cbs, seed=SEED), EPOCHS, limit)
    return Run(1e6 * seconds / passed, rmse(learn, test) if passed == data.train.n * EPOCHS else None, note)


def fitted(make: Callable[[list[ShortEpoch]], CollabLearner], n_epochs: int, limit: float,
           ) -> tuple[float, CollabLearner, int, str]:
    """Fit a learner by one-cycle: the CPU seconds that it took, the learner, the rows that training passed over, and
    how much that was, in words. Where the first batches tell that it would take longer than `limit`, only some batches
    of one epoch are timed."""
    def fit(*cbs: ShortEpoch, epochs: int = 1) -> tuple[float, CollabLearner]:
        learn = make([*cbs])
        start = time.process_time()
        with learn.no_logging():
            learn.fit_one_cycle(epochs)
        return time.process_time() - start, learn

    first = make([])
    n, n_batches, bs = first.data.train.n, len(first.data.train), first.data.train.bs
    few = min(2, n_batches)
    fit(ShortEpoch(few))                                # what torch loads late
    base, probe, spent = fit(ShortEpoch(few))[0], few, 0.0      # what a pass takes by itself is in both
    while spent < max(limit / 100, base / 2) and probe < n_batches:        # or it would tell of chance alone
        probe = min(n_batches, 8 * probe)
        spent = max(fit(ShortEpoch(probe))[0] - base, 0.0)
    each = spent / max(1, probe - few)
    if n_batches > 2 * probe and each * n_batches * n_epochs > limit:
        some = max(probe, int(limit / 6 / each))
        if some < n_batches:
            seconds, learn = fit(ShortEpoch(some))
            return seconds, learn, some * bs, f"{some:,} of {n_batches:,} batches"
        seconds, learn = fit()
        return seconds, learn, n, f"1 of {n_epochs} epochs"
    seconds, learn = fit(epochs=n_epochs)
    return seconds, learn, n * n_epochs, f"{n_epochs} epochs"


def rmse(learn: CollabLearner, test: Part) -> float:
    """On the held-out tenth, clipped to the scale; unknown ids are scored as the average ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollabWarning)      # of those ids
        return learn.validate(test.table)["rmse"]
