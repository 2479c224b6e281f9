"""Other libraries that find the best items: `implicit` and faiss, on vectors that a file gives.

It imports nothing of ours, since it runs in the environment that `make peers` makes. The .npz file holds the vectors of
users (m, k) and items (n, k), pairs of rows that users have seen and that were held out, and the rows of the users that
are asked for. implicit leaves out what was seen; faiss searches a flat index of inner products and leaves out nothing.
Everything runs in one thread; figures are of the processor, milliseconds for one user, microseconds for each of many.
"mib" is what the lists of all that are asked for take. The lists go to an .npz file; the last line on stdout is JSON.

Run: .peers/bin/python benchmarks/peers/serving.py FILE.npz --out LISTS.npz [--k 10] [--ones 100]"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.evaluation import ranking_metrics_at_k
from scipy.sparse import csr_matrix
from stages import Stages
from threadpoolctl import threadpool_limits


def seconds(call: Callable[[], object]) -> float:
    """Of the processor, for one call after another that warms up."""
    call()
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--out", required=True, help="the .npz file of the lists")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--ones", type=int, default=100, help="users that are asked for one by one")
    options = parser.parse_args()
    with np.load(options.file) as file:
        given = dict(file)
    users, items, asked, k = given["users"], given["items"], given["asked"], options.k
    shape = len(users), len(items)

    def matrix(name: str) -> csr_matrix:
        pairs = given[f"{name}_users"], given[f"{name}_items"]
        return csr_matrix((np.ones(len(pairs[0]), dtype=np.float32), pairs), shape=shape)
    seen, held_out = matrix("seen"), matrix("held_out")
    milli, micro = 1e3 / min(options.ones, len(asked)), 1e6 / len(asked)
    result: dict[str, Any] = {}
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        model = AlternatingLeastSquares(factors=users.shape[1], num_threads=1, use_gpu=False)
        model.user_factors, model.item_factors = users, items
        mib = {"mib": Stages().peak(lambda: model.recommend(asked, seen[asked], N=k))}
        rows = [(u, seen[u]) for u in asked[:options.ones]]
        measures = ranking_metrics_at_k(model, seen, held_out, K=k, show_progress=False, num_threads=1)
        result["implicit"] = mib | {
            "one": milli * seconds(lambda: [model.recommend(u, row, N=k) for u, row in rows]),
            "many": micro * seconds(lambda: model.recommend(asked, seen[asked], N=k)),
            "evaluate": micro * seconds(lambda: ranking_metrics_at_k(model, seen, held_out, K=k, show_progress=False,
                                                                     num_threads=1)),
            "ndcg": float(measures["ndcg"])}
        flat = faiss.IndexFlatIP(items.shape[1])
        flat.add(items)
        queries = users[asked]
        result["faiss"] = {
            "one": milli * seconds(lambda: [flat.search(query[None], k) for query in queries[:options.ones]]),
            "many": micro * seconds(lambda: flat.search(queries, k))}
        np.savez(options.out, implicit_many=model.recommend(asked, seen[asked], N=k)[0],
                 faiss_many=flat.search(queries, k)[1])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
