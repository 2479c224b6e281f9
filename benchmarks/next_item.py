"""What comes next: every user's last rating by time is held out, and ten items are recommended from those before it.

Run: python benchmarks/next_item.py [--size 100k] [--seeds 0 1 2] [--models sasrec ease] [--no-peers] [--out FILE]
     python benchmarks/next_item.py --validate sasrec [--lr 3e-3 --epochs 40 --option drop=0.5]

Every rating counts as a choice, all items but those of the user's training part are ranked, and one of them is
relevant, so that recall is the share of users for whom it is among the ten. Settings were chosen with --validate,
which holds out the rating before the last, and never trains on the last or ranks it. Figures are means over the seeds,
which decide models alone, with half of the interval of 95 % over users; the difference of the first from the second is
that of `compare`. Seconds are of the processor, for training alone, on one thread. Peers run where `make peers` has
made their environment."""

from __future__ import annotations

import argparse
import ast
import copy
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.ranking import OURS as RANKERS
from benchmarks.ranking import PEER, fitted, peers
from collab import CollabDataBunch, CollabLearner, Popularity, collab_learner, compare, evaluate, leave_last, movielens
from collab.data.split import apply_split
from collab.learner.recipes import RECIPES

METRICS = ("ndcg", "recall", "mrr")


def sasrec(data: CollabDataBunch, seed: int, epochs: int | None = None, bs: int | None = None,
           **options: Any) -> CollabLearner:
    """By its recipe, with its own batches."""
    recipe, rebatched = RECIPES["sasrec"], copy.copy(data)
    rebatched.train = data.train.with_(bs or recipe.bs)
    return fitted(collab_learner(rebatched, "sasrec", metrics=[], seed=seed, **options), epochs or recipe.epochs)


OURS = {"sasrec": sasrec, **{name: make for name, make in RANKERS.items() if name != "als, 32 factors"}}


def bunch(ratings: pd.DataFrame, *, validate: bool) -> CollabDataBunch:
    """All but the last rating of every user to train on; or all but the last two, the first of which is held out."""
    return CollabDataBunch.from_df(ratings, split=leave_last(1), test=leave_last(1) if validate else None,
                                   bs=1024, seed=0, device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", default="100k", choices=["100k", "latest-small", "1m"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=list(OURS), choices=list(OURS))
    parser.add_argument("--validate", choices=list(OURS))
    parser.add_argument("--option", nargs="+", default=[], metavar="NAME=VALUE", help="for --validate sasrec")
    for option, kind in (("lr", float), ("wd", float), ("epochs", int), ("bs", int), ("n_factors", int)):
        parser.add_argument(f"--{option}", type=kind)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    ratings = movielens(args.size).ratings
    data = bunch(ratings, validate=args.validate is not None)
    settings = ("lr", "wd", "epochs", "bs", "n_factors")
    changed = {name: ast.literal_eval(value) for name, _, value in (text.partition("=") for text in args.option)}
    changed |= {k: v for k in settings if (v := getattr(args, k)) is not None}
    if changed and args.validate != "sasrec":
        parser.error("other settings are for --validate sasrec")
    asked = partial(evaluate, metrics=METRICS, baseline=False, unknown_items="miss",
                    exclude=("train", "test") if args.validate else "train")
    rows, last = [], {}
    for seed in args.seeds:
        for name in [args.validate] if args.validate else args.models:
            torch.manual_seed(seed)         # for models that are built by hand
            start = time.process_time()
            learn = OURS[name](data, seed, **changed)
            seconds = time.process_time() - start
            last[name] = asked(learn)
            low, high = last[name].interval().loc["ndcg", ["low", "high"]]
            rows.append({"model": name, **last[name].summary, "+- ndcg": (high - low) / 2, "seconds": seconds})
            print({**rows[-1], **changed}, flush=True)
        found = asked(Popularity(data))
        low, high = found.interval().loc["ndcg", ["low", "high"]]
        rows.append({"model": "popularity", **found.summary, "+- ndcg": (high - low) / 2, "seconds": 0.0})
        if PEER.exists() and not args.no_peers and not args.validate:
            train, test = (ratings.iloc[part] for part in apply_split(leave_last(1), ratings))
            rows += peers(data, train, test, seed, METRICS, unknown_items="miss")
    made = pd.DataFrame(rows).groupby("model").mean().sort_values("ndcg", ascending=False).round(4)
    text = made.to_string()
    if len(first := [name for name in made.index if name in last][:2]) == 2:
        text += f"\n\n{first[0]} and {first[1]}, seed {args.seeds[-1]}:\n"
        text += compare(last[first[0]], last[first[1]]).round(4).to_string()
    print(f"\n{text}")
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
