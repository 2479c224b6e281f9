"""Whether dot_bias by its recipe is ever worse than means and biases: held-out RMSE on every set of this folder.

Run: python benchmarks/recipe.py [--sets u1 ml-latest-small sparse 5m ...] [--bs 64 1024 8192] [--seeds 0]
                                 [--filmtrust RATINGS] [--folder FOLDER]

Biases are those of `BiasBaseline`, damped by 5 and 3 ratings; the recipe trains for 5 epochs. Of u1 to u5 the test rows
are held out, of 1m, 5m and 25m a tenth, of the others a fifth, by seed. For FilmTrust see tuning.py. Prints one row a
line, as docs/results.md has them, and at the end the worst of all."""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.suite.sets import SHAPES, Sets
from benchmarks.tuning import ratings_of
from benchmarks.which_model import MADE
from collab import BiasBaseline, CollabDataBunch, CollabWarning, collab_learner, movielens, synthetic
from collab.data.split import CANONICAL

REAL = (*CANONICAL, "ml-100k", "ml-latest-small", "FilmTrust")     # "filmtrust" is one of MADE
WORSE = 0.001       # of the biases' error, from which on the recipe counts as worse


def ratings(name: str, filmtrust: Path | None, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The ratings of a set, and how `from_df` splits them."""
    if name in CANONICAL:
        return movielens("100k").ratings, {"split": name}
    if name in SHAPES:
        return Sets(folder).table(name), {"valid_pct": 0.1}
    table = synthetic(**MADE[name]).ratings if name in MADE else ratings_of(name.lower(), filmtrust)
    return table, {"valid_pct": 0.2}


def error(data: CollabDataBunch, model: Any) -> float:
    """The RMSE of a function of rows on the validation part."""
    users, items, y = data.valid.tensors[:3]
    return (model(users, items) - y).double().square().mean().sqrt().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = (*REAL, *MADE, *SHAPES)
    parser.add_argument("--sets", nargs="+", choices=every, default=None)
    parser.add_argument("--bs", type=int, nargs="+", default=[64, 1024, 8192])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--filmtrust", type=Path)
    parser.add_argument("--folder", type=Path, help="where the large synthetic sets are kept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", CollabWarning)
    asked = args.sets or [name for name in every if name != "FilmTrust" or args.filmtrust]
    print(f"| set | seed | ratings trained on | biases | {' | '.join(f'bs {bs:,}' for bs in args.bs)} |\n"
          f"|---|---|---|---|{'---|' * len(args.bs)}")
    worst: tuple[float, str] = (-1.0, "")
    with tempfile.TemporaryDirectory() as own:
        for name in asked:
            table, split = ratings(name, args.filmtrust, args.folder or Path(own))
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
