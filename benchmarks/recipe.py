"""The recipe of dot_bias beside means and biases: held-out RMSE on every set of this folder.

Run: python benchmarks/recipe.py [--sets u1 ml-latest-small sparse 5m ...] [--bs 64 1024 8192] [--seeds 0]
                                 [--filmtrust RATINGS] [--folder FOLDER] [--drawn 12]

Biases are those of `BiasBaseline`, damped by 5 and 3 ratings; the recipe trains for 5 epochs. Of u1 to u5 the test rows
are held out, of 1m, 5m and 25m a tenth, of the others a fifth, by seed. For FilmTrust see tuning.py. With --drawn, that
many synthetic sets of random shapes in place of these: 100 to 20,000 users, 63 to 5,000 items, up to 150,000 ratings, 0
to 10 factors, noise of .5 to 2 stars. Prints a row for each set, as docs/results.md has them, and the worst of all."""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.suite.sets import SHAPES, Sets
from benchmarks.tuning import ratings_of
from benchmarks.which_model import MADE
from collab import BiasBaseline, CollabDataBunch, CollabWarning, collab_learner, movielens, synthetic
from collab.data.split import CANONICAL

REAL = (*CANONICAL, "ml-100k", "ml-latest-small", "FilmTrust")     # "filmtrust" is one of MADE
DRAWN = 11          # the seed of random shapes
WORSE = 0.001       # of the biases' error, from which on the recipe counts as worse


def drawn(n: int) -> dict[str, dict[str, Any]]:
    """Arguments of `synthetic` for random shapes, by a name that tells them."""
    rng, found = np.random.default_rng(DRAWN), {}
    for k in range(n):
        users, items, each = int(10 ** rng.uniform(2, 4.3)), int(10 ** rng.uniform(1.8, 3.7)), rng.uniform(3, 40)
        size = int(min(max(users * each, 4 * items), 150_000, users * items / 2))
        noise, factors = float(rng.choice([0.5, 1, 1, 2])), int(rng.choice([0, 2, 5, 10]))
        found[f"{users:,} x {items:,}, {factors} factors, noise {noise:g}"] = {
            "n_users": users, "n_items": items, "n_ratings": size, "seed": 100 + k, "noise": noise,
            "n_factors": factors}
    return found


def ratings(name: str, made: dict[str, dict[str, Any]], filmtrust: Path | None,
            folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The ratings of a set, and how `from_df` splits them."""
    if name in CANONICAL:
        return movielens("100k").ratings, {"split": name}
    if name in SHAPES:
        return Sets(folder).table(name), {"valid_pct": 0.1}
    table = synthetic(**made[name]).ratings if name in made else ratings_of(name.lower(), filmtrust)
    return table, {"valid_pct": 0.2}


def error(data: CollabDataBunch, model: Any) -> float:
    """The RMSE of a function of rows on the validation part."""
    users, items, y = data.valid.tensors[:3]
    return (model(users, items) - y).double().square().mean().sqrt().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = (*REAL, *MADE, *SHAPES)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--sets", nargs="+", choices=every, default=None)
    which.add_argument("--drawn", type=int, metavar="N")
    parser.add_argument("--bs", type=int, nargs="+", default=[64, 1024, 8192])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--filmtrust", type=Path)
    parser.add_argument("--folder", type=Path, help="where the large synthetic sets are kept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", CollabWarning)
    made = drawn(args.drawn) if args.drawn else MADE
    asked = args.sets or [name for name in (made if args.drawn else every) if name != "FilmTrust" or args.filmtrust]
    print(f"| set | seed | ratings trained on | biases | {' | '.join(f'bs {bs:,}' for bs in args.bs)} |\n"
          f"|---|---|---|---|{'---|' * len(args.bs)}")
    worst: tuple[float, str] = (-1.0, "")
    with tempfile.TemporaryDirectory() as own:
        for name in asked:
            table, split = ratings(name, made, args.filmtrust, args.folder or Path(own))
            for seed in args.seeds:
                cells = []
                for bs in args.bs:
                    data = CollabDataBunch.from_df(table, **split, seed=seed, bs=bs, device="cpu")
                    biases = error(data, BiasBaseline(data.n_users, data.n_items).fit(*data.train.tensors[:3]))
                    learn = collab_learner(data)
                    with learn.no_logging():
                        learn.fit_one_cycle(5)
                    found = learn.validate()["rmse"]
                    worst = max(worst, (found / biases - 1, f"{name}, seed {seed}, bs {bs:,}"))
                    cells.append(f"{found:.4f} ({found / biases - 1:+.2%})")
                print(f"| {name} | {seed} | {data.train.n:,} | {biases:.4f} | {' | '.join(cells)} |", flush=True)
    share, where = worst
    print(f"\nThe worst: {share:+.2%} of the biases' error ({where}); {'more' if share > WORSE else 'not more'} than "
          f"{WORSE:.1%} above it")


if __name__ == "__main__":
    main()
