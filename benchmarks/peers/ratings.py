"""Other libraries that predict ratings: train one on a table, and measure it on another.

Surprise, fastai, myFM and libmf as their users call them, so that their figures stand beside ours on the same split and
machine. It imports nothing of ours, since it runs in the environment that `make peers` makes. Both tables are CSV files
with the columns user, item and rating, or .npz files with such arrays; predictions are clipped to the `--scale`.
Everything runs in one thread. The last line on stdout is JSON; "seconds" is training alone: neither imports, nor
turning the table into what the library wants, nor predicting. Where other processes share the machine, "cpu_seconds" of
the same stretch is the steadier figure; "microseconds" are of the processor, for each rating that training passed over.

Run: .peers/bin/python benchmarks/peers/ratings.py TRAIN TEST --model surprise_svd [--seed 0] [--epochs 20]"""

import argparse
import contextlib
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tables import read
from threadpoolctl import threadpool_limits

VECTOR = Path(__file__).parents[2] / ".peers" / "libmf_vector.so"


class Trained(NamedTuple):
    """What a library gave: predictions for the rows of the test, clipped, or None where training was cut short; and how
    they came about. `passed` is how many ratings the timed stretch passed over, one that came twice as two."""
    predictions: np.ndarray | None
    seconds: float
    cpu_seconds: float
    passed: int
    version: str
    settings: dict[str, Any]
    note: str = ""


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
    asked = {"n_epochs": options.epochs, "n_factors": options.factors}
    given |= {key: value for key, value in asked.items() if value is not None}
    make = library.SVDpp if name == "svdpp" else library.SVD
    algo = make(random_state=options.seed, **given)
    reader = library.Reader(rating_scale=options.scale)
    trainset = library.Dataset.load_from_df(train, reader).build_full_trainset()
    settings = {"n_factors": algo.n_factors, "n_epochs": algo.n_epochs, "lr_all": algo.lr_bu, "reg_all": algo.reg_bu,
                "order": "of the table, never shuffled", "clipped": "by Surprise",
                "unknown": "mean and the known bias, without factors"}
    if options.limit is not None:
        once = make(random_state=options.seed, **given | {"n_epochs": 1})
        seconds = timed(lambda: once.fit(trainset))
        if seconds[1] * algo.n_epochs > options.limit:
            return Trained(None, *seconds, len(train), library.__version__, settings, f"1 of {algo.n_epochs} epochs")
    seconds = timed(lambda: algo.fit(trainset))
    predicted = algo.test(list(test.itertuples(index=False, name=None)))
    return Trained(np.array([p.est for p in predicted]), *seconds, len(train) * algo.n_epochs, library.__version__,
                   settings, f"{algo.n_epochs} epochs")


def fastai(shuffled: bool, train: pd.DataFrame, test: pd.DataFrame, options: argparse.Namespace) -> Trained:
    """The dot-bias model of fastai by its own one-cycle recipe; rates grow with the root of the batch size, as ours do.

    The loader that fastai's tables come with, TabWeightedDL, draws each epoch with replacement even without weights: an
    epoch then sees 63 % of the ratings, some of them several times. That is what its users get. `shuffled` takes its
    plain loader instead, with which an epoch is every rating once, as elsewhere: u1's RMSE falls from 0.936 to 0.916.

    Nothing is held out: the time is for training alone, and all of the table is used, as with Surprise. For the same
    reason no progress bar is drawn and no line printed after an epoch."""
    import fastai as library
    import torch
    from fastai.callback.training import ShortEpochCallback
    from fastai.collab import CollabDataLoaders, collab_learner
    from fastai.tabular.core import TabDataLoader
    from fastai.torch_core import set_seed
    torch.set_num_threads(1)
    bs = 64 if options.bs is None else options.bs
    epochs = 5 if options.epochs is None else options.epochs
    n_factors = 50 if options.factors is None else options.factors
    rate = math.sqrt(bs / 64)
    lr, wd, y_range = 5e-3 * rate, 0.1 * rate, (0, options.scale[1] + 0.5)
    loader = {"dl_type": TabDataLoader} if shuffled else {}

    def fit(n_batches: int | None = None, n_epochs: int = 1) -> tuple[tuple[float, float], Any, Any]:
        set_seed(options.seed)      # before the DataLoaders: they take the seeds of their shuffling when made
        dls = CollabDataLoaders.from_df(train, valid_pct=0, bs=bs, device=torch.device("cpu"), **loader)
        learn = collab_learner(dls, n_factors=n_factors, y_range=y_range)
        # it stops after the batch whose number from 0, as a share of all, is not below this
        cut = [] if n_batches is None else [ShortEpochCallback((n_batches - 1.5) / len(dls.train))]
        with learn.no_bar(), learn.no_logging():
            return timed(lambda: learn.fit_one_cycle(n_epochs, lr, wd=wd, cbs=cut)), learn, dls

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # of pandas and torch, on fastai's ways with them
        whole, n_batches = len(train) // bs, None
        if options.limit is not None:
            some = min(20, whole)
            per_batch = fit(some)[0][1] / some      # the first batches also load what torch loads late
            if whole > 40 and per_batch * whole * epochs > options.limit:
                n_batches = min(whole, max(20, int(options.limit / 6 / per_batch)))
        seconds, learn, dls = fit(n_batches, epochs if n_batches is None else 1)
        with learn.no_bar():
            predicted = None if n_batches else learn.get_preds(dl=dls.test_dl(test))[0].numpy().ravel()
    predicted = None if predicted is None else predicted.clip(*options.scale)
    settings = {"n_factors": n_factors, "bs": bs, "epochs": epochs, "schedule": "fit_one_cycle", "lr": lr, "wd": wd,
                "y_range": list(y_range), "loader": type(dls.train).__name__,
                "clipped": "here; fastai does not",
                "unknown": "the row of '#na#', which training only decays"}
    passed, note = ((n_batches * bs, f"{n_batches:,} of {whole:,} batches") if n_batches else
                    (len(train) * epochs, f"{epochs} epochs"))
    return Trained(predicted, *seconds, passed, library.__version__, settings, note)


def libmf(vector: bool, train: pd.DataFrame, test: pd.DataFrame, options: argparse.Namespace) -> Trained:
    """LIBMF, SGD over blocks of the matrix, through the binding called libmf; factors without biases.

    The binding's defaults are an L1 penalty of 0.04 and no L2; the C++ library's own are no L1 and an L2 of 0.1, which
    are passed here, for the sake of its error and its time. Twelve threads become one, and 26 x 26 blocks, which are
    for many threads, 8 x 8, the fastest of 2, 3, 8 and 26 at 5 million ratings; a single block can wait for ever.
    `vector` loads the library that `make peers` builds from the package's source with AVX, as LIBMF's own Makefile
    offers to; what pip builds has neither AVX nor SSE. Its random numbers have a fixed seed."""
    from importlib.metadata import version
    if vector:
        os.environ["LIBMF_OBJ"] = str(VECTOR)
    from libmf.mf import MF
    epochs, k = options.epochs or 20, options.factors or 50
    settings = {"k": k, "nr_iters": epochs, "nr_threads": 1, "nr_bins": 8, "lambda_p1": 0.0, "lambda_q1": 0.0,
                "lambda_p2": 0.1, "lambda_q2": 0.1, "eta": 0.1}
    users, items = (pd.Index(train[name].unique()) for name in ("user", "item"))
    rows = np.stack([users.get_indexer(train["user"]), items.get_indexer(train["item"]), train["rating"]], axis=1)
    model, rows = MF(**settings, quiet=True), np.ascontiguousarray(rows, dtype=np.float32)
    seconds = timed(lambda: model.fit(rows))
    p, q, predicted = model.p_factors(), model.q_factors(), []
    u, i = users.get_indexer(test["user"]), items.get_indexer(test["item"])
    for part in np.array_split(np.arange(len(test)), 1 + len(test) // 500_000):
        score = (p[u[part]] * q[i[part]]).sum(1)
        predicted.append(np.where((u[part] < 0) | (i[part] < 0), train["rating"].mean(), score))
    built = {"clipped": "here", "unknown": "the mean", "vector instructions": vector}
    return Trained(np.concatenate(predicted).clip(*options.scale), *seconds, len(train) * epochs, version("libmf"),
                   settings | built, f"{epochs} epochs")


def myfm(ordered: bool, train: pd.DataFrame, test: pd.DataFrame, options: argparse.Namespace) -> Trained:
    """The Bayesian factorisation machine of myFM with SVD++ features both ways, as its example for MovieLens has them:
    an id, the other side's ids in training, each 1 / sqrt(n), and the metadata of `--features`, with a precision for
    each of these groups. `ordered` is its ordered probit, whose prediction is the expected rating; else normal noise.

    Rank 10 and 512 sweeps are those of the example."""
    import myfm as library
    from scipy import sparse
    sweeps, rank = options.epochs or 512, options.factors or 10
    files = {side: Path(options.features or "", f"{side}.csv") for side in ("user", "item")}
    known = {side: pd.read_csv(file) if options.features and file.exists() else None for side, file in files.items()}
    ids = {side: pd.Index(train[side].unique()) for side in ("user", "item")}

    def block(side: str, other: str) -> tuple[sparse.csr_matrix, list[int]]:
        """The features of the side's ids, of which the last row is an unknown one without any; and the groups' sizes"""
        rows, columns = ids[side].get_indexer(train[side]), ids[other].get_indexer(train[other])
        n, n_others = len(ids[side]), len(ids[other])
        share = 1 / np.sqrt(np.bincount(rows, minlength=n))
        parts = [sparse.eye(n, format="csr"), sparse.csr_matrix((share[rows], (rows, columns)), (n, n_others))]
        if known[side] is not None:
            for _, part in known[side].groupby("column"):
                part = part.assign(row=ids[side].get_indexer(part["id"])).query("row >= 0")
                codes = part["feature"].rank(method="dense").astype(int) - 1
                parts.append(sparse.csr_matrix((part["weight"], (part["row"], codes)), (n, codes.max() + 1)))
        whole = sparse.hstack(parts, format="csr")
        whole = sparse.vstack([whole, sparse.csr_matrix((1, whole.shape[1]))], format="csr")
        return whole, [part.shape[1] for part in parts]

    def relations(table: pd.DataFrame) -> list[Any]:
        return [library.RelationBlock([k if k >= 0 else len(ids[side]) for k in ids[side].get_indexer(table[side])],
                                      blocks[side][0]) for side in ("user", "item")]
    blocks = {"user": block("user", "item"), "item": block("item", "user")}
    make = library.MyFMOrderedProbit if ordered else library.MyFMRegressor
    model = make(rank=rank, random_seed=options.seed)
    levels = np.sort(train["rating"].unique())
    target = np.searchsorted(levels, train["rating"]) if ordered else train["rating"].to_numpy()
    empty, shapes = sparse.csr_matrix((len(train), 0)), [n for _, sizes in blocks.values() for n in sizes]
    given = relations(train)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        seconds = timed(lambda: model.fit(empty, target, X_rel=given, n_iter=sweeps, n_kept_samples=sweeps,
                                          group_shapes=shapes))
    asked = sparse.csr_matrix((len(test), 0)), relations(test)
    predicted = model.predict_proba(*asked) @ levels if ordered else model.predict(*asked)
    settings = {"rank": rank, "n_iter": sweeps, "features": "ids, history both ways"
                + (", metadata" if options.features else ""), "clipped": "here"}
    return Trained(np.clip(predicted, *options.scale), *seconds, len(train) * sweeps, library.__version__, settings,
                   f"{sweeps} sweeps")


MODELS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, argparse.Namespace], Trained]] = {
    "surprise_svd": lambda *args: surprise("svd", *args),
    "surprise_svd_tuned": lambda *args: surprise("svd_tuned", *args),
    "surprise_svdpp": lambda *args: surprise("svdpp", *args),
    "fastai_dot_bias": lambda *args: fastai(False, *args),
    "fastai_dot_bias_shuffled": lambda *args: fastai(True, *args),
    "myfm": lambda *args: myfm(False, *args),
    "myfm_ordered": lambda *args: myfm(True, *args),
    "libmf": lambda *args: libmf(False, *args),
    "libmf_vector": lambda *args: libmf(True, *args),
}


def ratings(path: str, low: float, high: float) -> pd.DataFrame:
    """The columns that count, in the order that the libraries want; ratings off the scale would be clipped unseen."""
    table = read(path, ["user", "item", "rating"]).astype({"rating": float})
    if not table["rating"].between(low, high).all():
        raise SystemExit(f"{path}: ratings must lie between {low:g} and {high:g}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bs", type=int, help="batch size, of fastai only (64)")
    parser.add_argument("--epochs", type=int, help="in place of the model's own number")
    parser.add_argument("--factors", type=int, help="in place of the model's own number")
    parser.add_argument("--scale", type=float, nargs=2, default=[1.0, 5.0], help="the lowest and the highest rating")
    parser.add_argument("--features", help="of myFM only: a folder with user.csv and item.csv, which have the columns "
                                           "id, feature, weight and column")
    parser.add_argument("--limit", type=float, help="CPU seconds that training may take: where the first batches, or a "
                                                    "first epoch, tell that it takes longer, only some of it is timed, "
                                                    "and there is no error")
    parser.add_argument("--json", action="store_true", help="the line of JSON and nothing for people")
    options = parser.parse_args()
    if options.bs is not None and not options.model.startswith("fastai"):
        parser.error("Surprise and libmf take one rating at a time: --bs is for fastai")
    train, test = (ratings(path, *options.scale) for path in (options.train, options.test))
    with threadpool_limits(1):
        trained = MODELS[options.model](train, test, options)
    unknown = ~(test["user"].isin(train["user"]) & test["item"].isin(train["item"]))
    result = {"model": options.model, "version": trained.version, "seconds": round(trained.seconds, 3),
              "cpu_seconds": round(trained.cpu_seconds, 3), "microseconds": 1e6 * trained.cpu_seconds / trained.passed,
              "note": trained.note,
              "settings": trained.settings | {"threads": 1, "n_train": len(train), "n_test": len(test),
                                              "unknown_rows": int(unknown.sum())},
              "seed": options.seed}
    if trained.predictions is not None:
        errors = trained.predictions - test["rating"].to_numpy()
        result |= {"rmse": round(float(np.sqrt((errors**2).mean())), 5), "mae": round(float(np.abs(errors).mean()), 5)}
    if not options.json:
        error = "RMSE {rmse:.4f}, MAE {mae:.4f}".format(**result) if "rmse" in result else "cut short"
        print("{model}: {error} in {seconds:.1f} s".format(error=error, **result), file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
