"""Whether intervals and probabilities of ratings are right, on five kinds of data.

Run: python benchmarks/uncertainty.py [--folds u1 u2 u3 u4 u5] [--seeds 3] [--epochs 64] [--likelihood ordinal]
     python benchmarks/uncertainty.py --likes --likelihood ordinal

Intervals are those of `predict(interval=)` by "bayes", the log-loss is the mean of -log P(the observed level) over the
test rows, beside that of "classifier" on the same rows (`probabilities`). Sets: the canonical folds of MovieLens-100K,
with all metadata; ml-latest-small, whose scale has half stars, with its genres and years, a fifth held out at random by
each seed; ratings drawn by `synthetic` with noise of half a star, in steps of half a star; the same on a scale of 0 to
100, with noise of 20, so that many lie at its ends; and likes (--likes), 1 for a rating of u1 to u5 above 3 and 0 for
the others, whose intervals say little, since their limits are 0 or 1. Seconds are of the processor, in one thread."""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from collab import CollabDataBunch, CollabLearner, collab_learner, movielens, synthetic
from collab.data.split import CANONICAL
from collab.losses import RatingCrossEntropy

SHARES = 0.5, 0.8, 0.95


def sets(folds: list[str], seeds: int, likes: bool = False) -> Iterator[tuple[str, str, CollabDataBunch]]:
    """(name, part, data) of each part that is held out."""
    hundred, small = movielens("100k"), movielens("latest-small")
    liked = hundred.ratings.assign(rating=(hundred.ratings["rating"] > 3).astype(float))
    for fold in folds:
        yield "likes" if likes else "MovieLens-100K", fold, CollabDataBunch.from_df(
            liked if likes else hundred.ratings, split=fold, items=hundred.items, users=hundred.users,
            item_features="auto", user_features="auto", seed=0, device="cpu")
    if likes:
        return
    for seed in range(seeds):
        yield "ml-latest-small", str(seed), CollabDataBunch.from_df(
            small.ratings, items=small.items, item_features="auto", seed=seed, device="cpu")
    for seed in range(seeds):
        drawn = synthetic(1000, 500, 60_000, seed=seed, step=0.5)
        yield "planted", str(seed), CollabDataBunch.from_df(drawn.ratings, seed=seed, device="cpu")
    for seed in range(seeds):
        drawn = synthetic(1000, 500, 60_000, seed=seed, scale=(0, 100), noise=20.0)
        yield "planted, 0 to 100", str(seed), CollabDataBunch.from_df(drawn.ratings, seed=seed, device="cpu")


def fitted(data: CollabDataBunch, model: str, epochs: int, **options: str) -> tuple[CollabLearner, float]:
    learn = collab_learner(data, model, seed=0, **options)
    valid, data.valid = data.valid, None        # training alone is timed
    start = time.process_time()
    with learn.no_logging():
        learn.fit(epochs) if model == "bayes" else learn.fit_one_cycle(epochs)
    data.valid = valid
    return learn, time.process_time() - start


@torch.no_grad()
def log_loss(learn: CollabLearner) -> float:
    """The mean of -log P(the level nearest to the rating) over the rows held out."""
    model, lost, n = learn.model.eval(), 0.0, 0
    classes = RatingCrossEntropy(model.rating_levels().tolist()).classes
    for users, items, ratings in learn.data.valid:
        p = model.probabilities(users, items).double()
        lost -= p[torch.arange(len(p)), classes(ratings)].log().sum().item()
        n += len(p)
    return lost / n


@torch.no_grad()
def covered(learn: CollabLearner) -> list[float]:
    """The share of ratings inside the central interval of each of SHARES, whose limits may be ratings."""
    inside = [0.0] * len(SHARES)
    for users, items, ratings in learn.data.valid:
        found = learn.model.eval().predictive(users, items)
        for k, share in enumerate(SHARES):
            low, high = found.quantile((1 - share) / 2), found.quantile((1 + share) / 2)
            inside[k] += ((low <= ratings) & (ratings <= high)).sum().item()
    return [n / learn.data.valid.n for n in inside]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", nargs="*", default=list(CANONICAL), choices=list(CANONICAL))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=64)
    parser.add_argument("--likelihood", choices=["normal", "ordinal"], default="normal")
    parser.add_argument("--likes", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, part, data in sets(args.folds, args.seeds, args.likes):
        learn, seconds = fitted(data, "bayes", args.epochs, likelihood=args.likelihood)
        classifier, _ = fitted(data, "classifier", 5)
        rows.append({"set": name, "part": part, "rmse": learn.validate()["rmse"],
                     **{f"{share:.0%}": own for share, own in zip(SHARES, covered(learn))},
                     "log-loss": log_loss(learn), "classifier's": log_loss(classifier), "seconds": seconds})
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in rows[-1].items()},
              flush=True)
    table = pd.DataFrame(rows)
    print(f"\n{table.round(4).to_string(index=False)}\n")
    print(table.drop(columns="part").groupby("set", sort=False).mean().round(4).to_string())


if __name__ == "__main__":
    main()
