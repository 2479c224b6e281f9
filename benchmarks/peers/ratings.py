"""Other libraries that predict ratings: train one on a table, and measure it on another.

Surprise and fastai as their users call them, so that their figures stand beside ours on the same split and machine. It
imports nothing of ours, since it runs in the environment that `make peers` makes. Both tables are CSV files with the
columns user, item and rating, on a scale of 1 to 5. Everything runs in one thread. The last line on stdout is JSON;
"seconds" is training alone: neither imports, nor turning the table into what the library wants, nor predicting. Where
other processes share the machine, "cpu_seconds" of the same stretch is the steadier figure.

Run: .peers/bin/python benchmarks/peers/ratings.py TRAIN.csv TEST.csv --model surprise_svd [--seed 0] [--epochs 20]"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

LOW, HIGH = 1.0, 5.0        # the scale of the ratings; predictions are clipped to it


class Trained(NamedTuple):
    """What a library gave: predictions for the rows of the test, clipped, and how they came about."""
    predictions: np.ndarray
    seconds: float
    cpu_seconds: float
    version: str
    settings: dict[str, Any]


def timed(train: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the processor for one call."""
    start, cpu = time.perf_counter(), time.process_time()
    train()
    return time.perf_counter() - start, time.process_time() - cpu


def surprise(name: str, train: pd.DataFrame, test: pd.DataFrame, options: argparse.Namespace) -> Trained:
    """SVD and SVD++ by Surprise, in plain SGD over one rating at a time.

    What is not named here is left at the defaults: 100 factors and lr 0.005 (SVD++: 20 and 0.007), 20 epochs, reg 0.02.
    It goes through the table user by user and never shuffles, so the order of the rows counts, with SVD++ above all: on
    u1 of MovieLens-100K an RMSE of 0.925 to 0.929 in the order of u.data, 0.933 to 0.934 sorted by user and item."""
    import surprise as library
    given = {"n_factors": 100, "n_epochs": 40, "reg_all": 0.1} if name == "svd_tuned" else {}
    if options.epochs is not None:
        given["n_epochs"] = options.epochs
    algo = (library.SVDpp if name == "svdpp" else library.SVD)(random_state=options.seed, **given)
    reader = library.Reader(rating_scale=(LOW, HIGH))
    trainset = library.Dataset.load_from_df(train, reader).build_full_trainset()
    seconds = timed(lambda: algo.fit(trainset))
    predicted = algo.test(list(test.itertuples(index=False, name=None)))
    settings = {"n_factors": algo.n_factors, "n_epochs": algo.n_epochs, "lr_all": algo.lr_bu, "reg_all": algo.reg_bu,
                "order": "of the table, never shuffled", "clipped": "by Surprise",
                "unknown": "mean and the known bias, without factors"}
    return Trained(np.array([p.est for p in predicted]), *seconds, library.__version__, settings)


def fastai(shuffled: bool, train: pd.DataFrame, test: pd.DataFrame, options: argparse.Namespace) -> Trained:
    """The dot-bias model of fastai by its own one-cycle recipe.

    The loader that fastai's tables come with, TabWeightedDL, draws each epoch with replacement even without weights: an
    epoch then sees 63 % of the ratings, some of them several times. That is what its users get. `shuffled` takes its
    plain loader instead, with which an epoch is every rating once, as elsewhere: u1's RMSE falls from 0.936 to 0.916.

    Nothing is held out: the time is for training alone, and all of the table is used, as with Surprise. For the same
    reason no progress bar is drawn and no line printed after an epoch."""
    import fastai as library
    import torch
    from fastai.collab import CollabDataLoaders, collab_learner
    from fastai.tabular.core import TabDataLoader
    from fastai.torch_core import set_seed
    torch.set_num_threads(1)
    set_seed(options.seed)          # before the DataLoaders: they take the seeds of their shuffling when made
    bs = 64 if options.bs is None else options.bs
    epochs = 5 if options.epochs is None else options.epochs
    n_factors, lr, wd, y_range = 50, 5e-3, 0.1, (0, 5.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # of pandas and torch, on fastai's ways with them
        loader = {"dl_type": TabDataLoader} if shuffled else {}
        dls = CollabDataLoaders.from_df(train, valid_pct=0, bs=bs, device=torch.device("cpu"), **loader)
        learn = collab_learner(dls, n_factors=n_factors, y_range=y_range)
        with learn.no_bar(), learn.no_logging():
            seconds = timed(lambda: learn.fit_one_cycle(epochs, lr, wd=wd))
            predicted, _ = learn.get_preds(dl=dls.test_dl(test))
    settings = {"n_factors": n_factors, "bs": bs, "epochs": epochs, "schedule": "fit_one_cycle", "lr": lr, "wd": wd,
                "y_range": list(y_range), "loader": type(dls.train).__name__,
                "clipped": f"to {LOW:g}..{HIGH:g} here; fastai does not",
                "unknown": "the row of '#na#', which training only decays"}
    return Trained(predicted.numpy().ravel().clip(LOW, HIGH), *seconds, library.__version__, settings)


MODELS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, argparse.Namespace], Trained]] = {
    "surprise_svd": lambda *args: surprise("svd", *args),
    "surprise_svd_tuned": lambda *args: surprise("svd_tuned", *args),
    "surprise_svdpp": lambda *args: surprise("svdpp", *args),
    "fastai_dot_bias": lambda *args: fastai(False, *args),
    "fastai_dot_bias_shuffled": lambda *args: fastai(True, *args),
}


def read(path: str) -> pd.DataFrame:
    """The columns that count, in the order that both libraries want; ratings off the scale would be clipped unseen."""
    ratings = pd.read_csv(path)[["user", "item", "rating"]].astype({"rating": float})
    if not ratings["rating"].between(LOW, HIGH).all():
        raise SystemExit(f"{path}: ratings must lie between {LOW:g} and {HIGH:g}")
    return ratings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bs", type=int, help="batch size, of fastai only (64)")
    parser.add_argument("--epochs", type=int, help="in place of the model's own number")
    parser.add_argument("--json", action="store_true", help="the line of JSON and nothing for people")
    options = parser.parse_args()
    if options.bs is not None and not options.model.startswith("fastai"):
        parser.error("Surprise takes one rating at a time: --bs is for fastai")
    train, test = read(options.train), read(options.test)
    with threadpool_limits(1):
        trained = MODELS[options.model](train, test, options)
    errors = trained.predictions - test["rating"].to_numpy()
    unknown = ~(test["user"].isin(train["user"]) & test["item"].isin(train["item"]))
    result = {"model": options.model, "version": trained.version, "rmse": round(float(np.sqrt((errors**2).mean())), 5),
              "mae": round(float(np.abs(errors).mean()), 5), "seconds": round(trained.seconds, 3),
              "cpu_seconds": round(trained.cpu_seconds, 3),
              "settings": trained.settings | {"threads": 1, "n_train": len(train), "n_test": len(test),
                                              "unknown_rows": int(unknown.sum())},
              "seed": options.seed}
    if not options.json:
        print("{model}: RMSE {rmse:.4f}, MAE {mae:.4f} in {seconds:.1f} s".format(**result), file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
