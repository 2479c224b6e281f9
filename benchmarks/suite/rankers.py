"""Training to rank: ALS and BPR beside `implicit`, two towers and the softmax over all items, on who chose what.

The ratings themselves are passed over: a row is a choice. A figure is CPU microseconds for each choice that training
passed over, with the arranging of the rows that a library does inside its `fit`. The error is NDCG@10 (more is better)
of the choices that were held out, for at most 10,000 users, judged by the same code for all: every item that the user
has not chosen in training is ranked. In the synthetic sets choices follow popularity alone, so that a model which knows
little else does well there."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from collab import CollabDataBunch, CollabLearner, collab_learner

from .children import peer
from .contest import Choices, Run, contest
from .row import Row
from .sets import SEED, Part
from .training import fitted

K = 10
ASKED = 10_000      # users whose lists are judged
UNIT = "CPU µs a choice"
SWEEPS = {"100k": 15, "1m": 15, "5m": 5}        # of ALS, on both sides
ROUNDS = {"100k": 100, "1m": 100, "5m": 20}     # of implicit's BPR, which it calls iterations
TRAINED = {"bpr": (1024, 15), "two_tower": (1024, 5), "softmax": (16_384, 30)}      # batch size and epochs, by recipe


def rows(choices: Choices) -> Iterator[Row]:
    for size in choices.sizes:
        if size not in SWEEPS or (choices.quick and size != "100k"):
            continue        # 25 million are trained on as ratings
        train, test = choices.sets.parts(size)
        relevant = to_find(train.table, test.table)
        asked = choices.sets.part(relevant, f"{size}-asked")
        for n_factors in choices.n_factors:
            yield from als(size, train, asked, n_factors, choices)
        yield from trained(size, "bpr", train, asked, choices)
        yield from trained(size, "two_tower", train, asked, choices)
        yield from trained(size, "softmax", train, asked, choices)


def als(size: str, train: Part, asked: Part, n_factors: int, choices: Choices) -> Iterable[Row]:
    """Sweeps of alternating least squares, each with its own library's weights and ridge."""
    def ours() -> Run:
        data = chosen(train.table, bs=1024)
        learn = collab_learner(data, "als", n_factors=n_factors, seed=SEED)
        start = time.process_time()
        with learn.no_logging():
            learn.fit(SWEEPS[size])
        seconds = time.process_time() - start
        return Run(1e6 * seconds / data.train.n / SWEEPS[size], judged(learn, asked.table), f"{SWEEPS[size]} sweeps")
    theirs = partial(implicit, train, asked, "als", SWEEPS[size], f"{SWEEPS[size]} sweeps", n_factors)
    return contest("ranking", f"als, {n_factors} factors", size, UNIT, ours, {"implicit als": theirs}, choices,
                   f"NDCG@{K}")


def trained(size: str, name: str, train: Part, asked: Part, choices: Choices) -> Iterable[Row]:
    """A model that is trained in epochs, with 50 factors; BPR beside implicit's, which draws one negative for each
    choice, where ours draws four."""
    bs, n_epochs = TRAINED[name]

    def ours() -> Run:
        data = chosen(train.table, bs)
        seconds, learn, passed, note = fitted(
            lambda cbs: collab_learner(data, name, metrics=[], cbs=cbs, seed=SEED), n_epochs, choices.limit)
        whole = passed == data.train.n * n_epochs
        return Run(1e6 * seconds / passed, judged(learn, asked.table) if whole else None, note)
    peers: dict[str, Callable[[], Run]] = {}
    if name == "bpr":
        peers["implicit bpr"] = partial(implicit, train, asked, "bpr", ROUNDS[size], f"{ROUNDS[size]} epochs", 50)
    return contest("ranking", f"{name}, batches of {bs:,}", size, UNIT, ours, peers, choices, f"NDCG@{K}")


def implicit(train: Part, asked: Part, model: str, iterations: int, note: str, n_factors: int) -> Run:
    """`implicit` at its settings in benchmarks/peers/ranking.py, its lists judged as ours."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lists.csv"
        made = peer("ranking", train.file, asked.file, "--model", model, "--out", out, "--factors", n_factors,
                    "--iterations", iterations, "--k", K, "--seed", SEED, "--json")
        return Run(made["microseconds"], ndcg(pd.read_csv(out), asked.table), note)


def chosen(table: pd.DataFrame, bs: int) -> CollabDataBunch:
    return CollabDataBunch.from_df(table[["user", "item"]], implicit=True, valid_pct=0, bs=bs, seed=SEED, device="cpu")


def judged(learn: CollabLearner, relevant: pd.DataFrame) -> float:
    lists = learn.recommend_all(K, users=relevant["user"].unique(), exclude="train")
    assert not isinstance(lists, Path)      # without path= it is an iterator
    return ndcg(pd.concat(lists), relevant)


def to_find(train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """The rows of the test that could be recommended: users and items of the training rows, at most 10,000 users."""
    known = test[test["user"].isin(train["user"]) & test["item"].isin(train["item"])]
    users = known["user"].unique()
    if len(users) > ASKED:
        users = np.random.default_rng(SEED).choice(users, ASKED, replace=False)
    return known[known["user"].isin(users)].reset_index(drop=True)


def ndcg(lists: pd.DataFrame, relevant: pd.DataFrame, k: int = K) -> float:
    """Of lists (user, item, rank from 1) against pairs (user, item), the mean over users: the sum of 1 / log2(rank + 1)
    over the hits, divided by that of min(k, n_relevant) hits on top. It is `evaluate`'s formula."""
    gains = 1 / np.log2(np.arange(1, k + 1) + 1)
    n_relevant = relevant.groupby("user").size()
    hits: Any = lists[lists["rank"] <= k].merge(relevant[["user", "item"]], on=["user", "item"])
    got = pd.Series(gains[hits["rank"].to_numpy() - 1]).groupby(hits["user"].to_numpy()).sum()
    best = np.cumsum(gains)[np.minimum(n_relevant, k) - 1]
    return float((got.reindex(n_relevant.index, fill_value=0.0) / best).mean())
