"""Another library that ranks items: train `implicit` on interactions, and write the top items of the users of a test.

It imports nothing of ours, since it runs in the environment that `make peers` makes, and it measures no ranking: the
recommendations go to a CSV file (user, item, rank), for the same code to judge theirs and ours. A rating in the tables
is passed over: a row says that a user chose an item. Tables are CSV files, or .npz files with an array for each column.
Everything runs in one thread. The last line on stdout is JSON; "seconds" is training alone; where other processes share
the machine, "cpu_seconds" is the steadier figure. "microseconds" are of the processor, for each interaction and sweep.

Run: .peers/bin/python benchmarks/peers/ranking.py TRAIN.csv TEST.csv --model als --out RECS.csv [--factors 32]"""

import argparse
import json
import sys
import time
from typing import Any

import implicit
import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix
from tables import read
from threadpoolctl import threadpool_limits

# The confidence of what was chosen is alpha itself here, where others have 1 + alpha. BPR is left at implicit's own
# defaults but for the learning rate: of those tried on ratings held out of a training set, 0.01 and more overfit.
DEFAULTS: dict[str, dict[str, Any]] = {
    "als": {"factors": 32, "regularization": 30.0, "alpha": 5.0, "iterations": 15, "exact": False},
    "bpr": {"factors": 100, "regularization": 0.01, "learning_rate": 0.005, "iterations": 100},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test", help="for its users; those that the training has not seen get nothing")
    parser.add_argument("--model", choices=DEFAULTS, required=True)
    parser.add_argument("--out", required=True, help="the CSV file of recommendations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--k", type=int, default=10, help="items for each user")
    parser.add_argument("--factors", type=int)
    parser.add_argument("--reg", type=float, dest="regularization")
    parser.add_argument("--iterations", type=int, help="sweeps of ALS, epochs of BPR")
    parser.add_argument("--alpha", type=float, help="ALS: the weight of what was chosen, beside 1 for all else")
    parser.add_argument("--exact", action="store_const", const=True,
                        help="ALS: solve each row by Cholesky, in place of three steps of conjugate gradients")
    parser.add_argument("--lr", type=float, dest="learning_rate", help="BPR: the learning rate")
    parser.add_argument("--json", action="store_true", help="the line of JSON and nothing for people")
    options = parser.parse_args()
    options_of_models = {name for defaults in DEFAULTS.values() for name in defaults}
    given = {name: value for name, value in vars(options).items() if name in options_of_models and value is not None}
    settings = DEFAULTS[options.model] | given
    if foreign := given.keys() - DEFAULTS[options.model].keys():
        parser.error(f"{options.model} has no {', '.join(sorted(foreign))}")

    train, test = (read(path, ["user", "item"]).drop_duplicates() for path in (options.train, options.test))
    rows, users = pd.factorize(train["user"], sort=True)
    columns, items = pd.factorize(train["item"], sort=True)
    seen = csr_matrix((np.ones(len(train), dtype=np.float32), (rows, columns)), shape=(len(users), len(items)))
    asked = np.flatnonzero(users.isin(test["user"]))

    common = {"num_threads": 1, "use_gpu": False, "random_state": options.seed}
    with threadpool_limits(1):      # BLAS too, as implicit asks for
        if options.model == "als":
            named = settings | {"use_cg": not settings["exact"]}
            del named["exact"]
            model = AlternatingLeastSquares(**named, **common)
        else:
            model = BayesianPersonalizedRanking(**settings, **common)
        start, cpu = time.perf_counter(), time.process_time()
        model.fit(seen, show_progress=False)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        # asked for more items than there are, implicit fills up with item 0
        found, scores = model.recommend(asked, seen[asked], N=min(options.k, len(items)))

    # a user who has fewer than k items left gets the seen ones too, with the lowest number there is as their score
    kept = scores > np.finfo(np.float32).min
    at, rank = np.nonzero(kept)
    recs = pd.DataFrame({"user": users[asked[at]], "item": items[found[kept]], "rank": rank + 1})
    recs.to_csv(options.out, index=False)
    result = {"model": f"implicit_{options.model}", "version": implicit.__version__, "seconds": round(seconds, 3),
              "cpu_seconds": round(cpu, 3),
              "seconds_per_sweep": round(seconds / settings["iterations"], 5),
              "microseconds": 1e6 * cpu / settings["iterations"] / len(train),
              "settings": settings | {"k": options.k, "threads": 1, "values": "1 for each interaction",
                                      "n_train": len(train), "n_users": len(users), "n_items": len(items),
                                      "users_asked": len(asked),
                                      "unknown_users": int(test["user"].nunique() - len(asked))},
              "seed": options.seed}
    if not options.json:
        print("{model}: {seconds:.2f} s".format(**result), file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
