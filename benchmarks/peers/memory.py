"""What fastai takes, in memory and time, from a file of ratings to a validated model: one process, step by step.

It imports nothing of ours, since it runs in the environment that `make peers` makes. The steps are those of
benchmarks/suite/memory.py. Of an epoch the first batches are run, as many as are asked for: the others take no
more memory. The last line on stdout is JSON.

Run: .peers/bin/python benchmarks/peers/memory.py RATINGS.csv --batches 50"""

import argparse
import json
import warnings

import pandas as pd
import torch
from fastai.callback.training import ShortEpochCallback
from fastai.collab import CollabDataLoaders, collab_learner
from fastai.tabular.core import TabDataLoader
from stages import Stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--bs", type=int, default=8192)
    parser.add_argument("--batches", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")     # of pandas and torch, on fastai's ways with them
    stages = Stages()

    def loaders(ratings: pd.DataFrame, held_out: float) -> CollabDataLoaders:
        return CollabDataLoaders.from_df(ratings, valid_pct=held_out, bs=options.bs, device=torch.device("cpu"),
                                         dl_type=TabDataLoader)
    ratings = stages.run("reading", lambda: pd.read_csv(options.file))
    stages.run("encoding", lambda: loaders(ratings, 0))
    dls = stages.run("encoding and splitting", lambda: loaders(ratings, 0.1))
    learn = collab_learner(dls, n_factors=50, y_range=(0, 5.5))
    with learn.no_bar(), learn.no_logging():
        # it stops after the batch whose number from 0, as a share of all, is not below this
        cut = ShortEpochCallback((options.batches - 1.5) / len(dls.train), short_valid=True)
        stages.run("an epoch", lambda: learn.fit_one_cycle(1, 5e-3, wd=0.1, cbs=cut))
        stages.run("validation", learn.validate)
    print(json.dumps(stages.found))


if __name__ == "__main__":
    main()
