"""The tour: train on MovieLens-100K, report the error, explain a little, recommend."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from ..data.databunch import CollabDataBunch
from ..datasets.movielens import movielens
from ..interpret import CollabInterpretation
from ..learner.factory import collab_learner
from .figures import measure
from .inputs import known_by_recipe
from .output import print_table, progress

STAR_WARS, SOMEONE = 50, 196


def tour(out: Path, bs: int = 64, *, epochs: int = 5, seed: int = 0, quiet: bool = False) -> bool:
    """Print the tour and write loss.png, schedule.png and model.safetensors into `out`; False if interrupted."""
    from matplotlib.figure import Figure  # takes half a second
    with progress(quiet):
        ml = movielens("100k")
    data = CollabDataBunch.from_df(ml.ratings, split="u1", items=ml.items, users=ml.users, bs=bs, seed=seed)
    print(f"{ml}\n{data}\n\nTraining on the rows of u1.base:\n")
    learn = known_by_recipe(collab_learner(data))
    started = time.perf_counter()
    with progress(quiet):
        learn.fit_one_cycle(epochs)
        print()
    seconds = time.perf_counter() - started
    if learn.interrupted:
        return False
    print(f"Trained in {seconds:.1f} s. Error on the 20,000 ratings of u1.test:\n")
    errors = measure(learn, data.valid)
    print_table(errors.table(), decimals=4)

    interp = CollabInterpretation.from_learner(learn)
    print("\nFilms that are liked beyond what the tastes of their viewers explain (largest biases):\n")
    print_table(interp.biases(n=8).drop(columns="id"))
    print("\nand those that are not (smallest biases):\n")
    print_table(interp.biases(n=8, largest=False).drop(columns="id"))
    print("\nNearest to Star Wars (1977), by the cosine of factors:\n")
    print_table(learn.similar_items(STAR_WARS, n=8).drop(columns="item"))
    print(f"\nWhat user {SOMEONE} liked:\n")
    print_table(learn.rated(SOMEONE, n=8).drop(columns="item"))
    print(f"\nTen films that user {SOMEONE} has not rated:\n")
    print_table(learn.recommend(SOMEONE, n=10))

    out.mkdir(parents=True, exist_ok=True)
    for name, plot in (("loss", learn.recorder.plot_loss), ("schedule", learn.recorder.plot_sched)):
        figure = Figure(figsize=(7, 5))
        plot(ax=figure.subplots())
        figure.savefig(out / f"{name}.png", dpi=120, bbox_inches="tight")
    notes = {"source": "ml-100k", "split": "u1"}
    learn.export(out / "model.safetensors", card=learn.card(errors.results, notes=notes), **notes)
    print(f"\nWrote {out}/loss.png, {out}/schedule.png and {out}/model.safetensors. Ask it for more:")
    program = "collab" if shutil.which("collab") else os.path.relpath(sys.argv[0])     # `make` runs it from .venv
    for command, asked in (("recommend", "--user 42"), ("similar", '"Toy Story"')):
        print(f"  {program} {command} {out}/model.safetensors {asked}")
    return True
