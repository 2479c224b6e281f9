"""Serving: the ten best items for one user and for many, and evaluation, beside implicit and faiss.

All search the same random vectors, in one thread: `recommend` and `recommend_all` beside implicit leave out the 20
items that each user has seen; `Index.search` beside faiss, whose flat index has no such list, leaves out nothing. Ours
returns tables of raw ids, the peers arrays of row numbers. What is compared as an error is the share of places in the
lists that name the same item as ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from collab import CollabDataBunch, CollabLearner, collab_learner, evaluate

from .children import peer
from .contest import Choices, Run, contest
from .row import Row
from .sets import SEED

K, SEEN = 10, 20
ONES = 100          # single users asked for
SHAPES = {          # users, items, factors: as many as the sets of these sizes have; 100,000 x 100,000 comes with 25m
    "100k": (943, 1_682, 50),
    "5m": (140_000, 27_000, 50),
    "25m": (100_000, 100_000, 64),
}


@dataclass(frozen=True)
class Question:
    """A learner with random weights, who is asked for, and the same as a file for the peers."""

    learn: CollabLearner
    users: np.ndarray           # raw ids
    held_out: pd.DataFrame      # five items that each of these has not seen
    file: Path
    out: Path                   # where the peers write the lists that they found

    def theirs(self) -> Callable[[], dict[str, Any]]:
        """One run of the peers for all that they are asked; the next call runs them again."""
        return lambda: peer("serving", self.file, "--out", self.out, "--k", K, "--ones", ONES)


def rows(choices: Choices) -> Iterator[Row]:
    for size in choices.sizes:
        if size in SHAPES:
            yield from served(SHAPES[size], question(*SHAPES[size], choices), choices)


def question(n_users: int, n_items: int, n_factors: int, choices: Choices) -> Question:
    draw = np.random.default_rng(SEED)
    n = n_users * SEEN
    rated = pd.DataFrame({"user": np.repeat(np.arange(n_users), SEEN), "item": draw.integers(0, n_items, n),
                          "rating": draw.integers(1, 6, n)}).drop_duplicates(["user", "item"])
    data = CollabDataBunch.from_df(rated, valid_pct=0, bs=4096, seed=SEED, device="cpu")
    learn = collab_learner(data, "dot", n_factors=n_factors, seed=SEED)
    torch.manual_seed(SEED)
    with torch.no_grad():
        for table in learn.model.parameters():
            table.normal_(std=0.3)
    users = np.sort(draw.choice(n_users, min(n_users, 1_000 if choices.quick else 5_000), replace=False))
    items = np.array([*data.items])
    held_out = pd.DataFrame({"user": np.repeat(users, 5), "item": draw.choice(items, 5 * len(users))}).drop_duplicates()
    both = held_out.merge(rated, on=["user", "item"], how="left")
    held_out = both[both["rating"].isna()].assign(rating=5)
    file = choices.sets.folder / f"serving-{n_users}-{n_items}.npz"
    seen_users, seen_items = (t.numpy() - 1 for t in data.train.tensors[:2])       # row 0 is the unknown one
    np.savez(file, users=learn.weight(is_item=False).numpy(), items=learn.weight().numpy(), seen_users=seen_users,
             seen_items=seen_items, asked=data.users.encode(users) - 1,
             held_out_users=data.users.encode(held_out["user"]) - 1,
             held_out_items=data.items.encode(held_out["item"]) - 1)
    return Question(learn, users, held_out, file, file.with_name(f"lists-{file.name}"))


def served(shape: tuple[int, int, int], question: Question, choices: Choices) -> Iterator[Row]:
    """One user, many users, evaluation; the peers' process is run once a round, and asked for all of them."""
    learn, users = question.learn, question.users
    index, queries = learn.index(), learn.weight(users, is_item=False)
    size = "{:,} x {:,}, {} factors".format(*shape)
    made = [question.theirs()() for _ in range(choices.rounds)]
    found = dict(np.load(question.out))

    def theirs(who: str, what: str, lists: pd.DataFrame | None = None) -> Callable[[], Run]:
        figures = iter([*(one[who][what] for one in made)])
        same = None if lists is None else agreement(learn, lists, found[f"{who}_{what}"])
        return lambda: Run(next(figures), made[0][who]["ndcg"] if what == "evaluate" else same)

    def ours(each: Callable[[], object], per: float, error: float | None = None) -> Callable[[], Run]:
        each()      # what is made once, such as the histories

        def run() -> Run:
            start = time.process_time()
            each()
            return Run(per * (time.process_time() - start), error)
        return run

    ones, milli, micro = users[:ONES].tolist(), 1e3 / len(users[:ONES]), 1e6 / len(users)

    def beside(name: str, unit: str, mine: Callable[[], Run], peers: dict[str, Callable[[], Run]],
               error: str = "") -> Iterable[Row]:
        return contest("serving", name, size, unit, mine, peers, choices, error)

    yield from beside("one user", "CPU ms", ours(lambda: [learn.recommend(u, K) for u in ones], milli),
                      {"implicit": theirs("implicit", "one")})
    yield from beside("one user, from an index", "CPU ms",
                      ours(lambda: [index.search(q, K) for q in queries[:ONES]], milli),
                      {"faiss": theirs("faiss", "one")})
    yield from beside("one user, as lists", "CPU ms",
                      ours(lambda: [learn.recommend(u, K, as_frame="dict") for u in ones], milli),
                      {"implicit": theirs("implicit", "one"), "bare": bare(learn, ones, milli)})
    yield from beside("one user, as lists, from an index", "CPU ms",
                      ours(lambda: [index.recommend(u, K, as_frame="dict") for u in ones], milli),
                      {"faiss": theirs("faiss", "one"), "bare": bare(learn, ones, milli)})
    lists = best(learn, users)
    yield from beside(f"{len(users):,} users", "CPU µs a user",
                      ours(lambda: best(learn, users), micro),
                      {"implicit": theirs("implicit", "many", lists)}, error="same items")
    lists = index.search(queries, K)
    yield from beside(f"{len(users):,} users, from an index", "CPU µs a user",
                      ours(lambda: index.search(queries, K), micro), {"faiss": theirs("faiss", "many", lists)},
                      error="same items")

    def evaluated() -> Any:
        return evaluate(learn, question.held_out, k=K, metrics=["ndcg", "precision", "map"], baseline=False)
    yield from beside(f"evaluation of {len(users):,} users", "CPU µs a user",
                      ours(evaluated, micro, float(evaluated().summary["ndcg"])),
                      {"implicit": theirs("implicit", "evaluate")}, error=f"NDCG@{K}")


def bare(learn: CollabLearner, ones: list, per: float) -> Callable[[], Run]:
    """A run of the matrix product and top-k alone, for each of these users."""
    items, queries = learn.weight(), learn.weight(ones, is_item=False)

    def run() -> Run:
        start = time.process_time()
        for query in queries:
            torch.topk(items @ query, K)
        return Run(per * (time.process_time() - start), None)
    return run


def best(learn: CollabLearner, users: np.ndarray) -> pd.DataFrame:
    """The lists of these users, one below another."""
    made = learn.recommend_all(K, users=users)
    assert not isinstance(made, Path)       # without path= it is an iterator
    return pd.concat(made)


def agreement(learn: CollabLearner, lists: pd.DataFrame, theirs: np.ndarray) -> float:
    """The share of places at which lists of ours, `k` items for each user in turn, name the same item as `theirs`
    (m, k), which are row numbers from 0."""
    mine = learn.data.items.encode(lists["item"]).reshape(theirs.shape) - 1
    return float((mine == theirs).mean())
