"""What ours takes, in memory and time, from a file of ratings to a validated model: one process, step by step.

Run by the suite (benchmarks/suite/memory.py); alone: python -m benchmarks.suite.memory_steps RATINGS.csv"""

from __future__ import annotations

import argparse
import json

import torch

from benchmarks.peers.stages import Stages
from collab import CollabDataBunch, CollabLearner, collab_learner, random_split, read_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--bs", type=int, default=8192)
    options = parser.parse_args()
    torch.set_num_threads(1)
    stages = Stages()

    def bunch(held_out: float) -> CollabDataBunch:
        return CollabDataBunch.from_df(ratings, valid_pct=held_out, bs=options.bs, seed=0, device="cpu")

    def fit(learn: CollabLearner) -> CollabLearner:
        with learn.no_logging():
            learn.fit_one_cycle(1)
        return learn
    ratings = stages.run("reading", lambda: read_table(options.file))
    stages.run("splitting", lambda: random_split(0.1, 0)(ratings))
    stages.run("encoding", lambda: bunch(0))
    data = stages.run("encoding and splitting", lambda: bunch(0.1))
    held, data.valid = data.valid, None         # an epoch is training alone
    learn = stages.run("an epoch", lambda: fit(collab_learner(data, seed=0)))
    stages.run("validation", lambda: learn.validate(held))
    print(json.dumps(stages.found))


if __name__ == "__main__":
    main()
