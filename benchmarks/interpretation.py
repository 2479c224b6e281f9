"""Interpretation of 100,000 items with 64 factors: seconds, and the memory beyond what the learner itself takes, which
must stay below 1 GiB.

Run: python benchmarks/interpretation.py [--n-items 100000] [--n-factors 64]"""

import argparse
import resource
import time

import numpy as np
import pandas as pd
import torch

from collab import CollabDataBunch, CollabInterpretation, collab_learner

LIMIT = 1024        # MiB


def peak_mib() -> float:
    """The largest memory of this process so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-items", type=int, default=100_000)
    parser.add_argument("--n-factors", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, n = np.random.default_rng(0), options.n_items
    ratings = pd.DataFrame({"user": rng.integers(0, 5000, 5 * n), "item": np.tile(np.arange(n), 5),
                            "rating": rng.integers(1, 6, 5 * n)}).drop_duplicates(["user", "item"])
    learn = collab_learner(CollabDataBunch.from_df(ratings, valid_pct=0, seed=0), n_factors=options.n_factors)
    interp, before = CollabInterpretation.from_learner(learn), peak_mib()
    asked = {
        "biases": lambda: interp.biases(n=20), "norms": interp.norms, "pca of all": lambda: interp.pca(3, top=None),
        "neighbors": lambda: interp.neighbors(17), "explain": lambda: interp.explain(17, 17),
        "similar_pairs": lambda: interp.similar_pairs(0.5), "pairs of any": lambda: interp.similar_pairs(-1.0),
    }
    for name, ask in asked.items():
        start = time.perf_counter()
        ask()
        seconds = time.perf_counter() - start
        print(f"{name:14} {seconds:6.2f} s, memory so far {peak_mib() - before:+6.0f} MiB", flush=True)
    if (peak := peak_mib() - before) > LIMIT:
        raise SystemExit(f"interpretation took {peak:,.0f} MiB, more than {LIMIT:,}")


if __name__ == "__main__":
    main()
