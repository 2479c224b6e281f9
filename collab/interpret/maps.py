"""Maps: where embeddings lie when they are laid out on a page."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .pca import PCA

if TYPE_CHECKING:
    from .interpretation import CollabInterpretation

PACKAGES = {"sklearn": "scikit-learn", "umap": "umap-learn"}


def need(module: str) -> Any:
    """The optional module, imported. Raises ImportError with the remedy where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        package = PACKAGES.get(module, module)
        extra = package if module == "umap" else "'collab[charts]'"
        raise ImportError(f"this needs {package}, which is not installed: pip install {extra}") from None


def layout(self: CollabInterpretation, method: str = "tsne", by: str = "item", top: int | None = 1000,
           min_ratings: int = 0, seed: int = 0) -> pd.DataFrame:
    """Places for the `top` most rated ids (None: all) such that neighbours lie close: id, n_ratings, x, y, and where
    known title, year and genres.

    `method` is "tsne" (van der Maaten, Hinton 2008, on cosine distances), "umap" (McInnes et al. 2018, the same; needs
    umap-learn), or "pca", the first two principal components. The same seed gives the same map."""
    counts = self._ratings(by)[0]
    order = np.argsort(-counts, kind="stable")[:top]
    order = order[counts[order] >= min_ratings]
    weight = self.learn.weight(is_item=self._is_item(by)).double().numpy()[order]
    if len(order) < 4:
        raise ValueError(f"a map needs at least 4 {by}s, got {len(order)}; lower min_ratings")
    if method == "tsne":
        tsne = need("sklearn.manifold").TSNE(metric="cosine", init="random", random_state=seed,
                                             perplexity=min(30, (len(order) - 1) / 3))
        with need("threadpoolctl").threadpool_limits(1):    # on a busy machine its threads wait for each other
            places = tsne.fit_transform(weight)
    elif method == "umap":
        umap = need("umap").UMAP(metric="cosine", random_state=seed, n_jobs=1, n_neighbors=min(15, len(order) - 1))
        places = umap.fit_transform(weight)
    elif method == "pca":
        places = PCA(weight, self._labels(by, order), 2).scores[[0, 1]].to_numpy()
    else:
        raise ValueError(f"method {method!r} is not 'tsne', 'pca' or 'umap'")
    table = self._labels(by, order)
    if by == "item":
        known = self.data.item_table.reindex(pd.Index(table["id"], tupleize_cols=False))
        for column in [c for c in ("year", "genres") if c in known]:
            table[column] = known[column].to_numpy(object)
    return table.assign(x=places[:, 0], y=places[:, 1])


def tsne(self: CollabInterpretation, by: str = "item", top: int | None = 1000, min_ratings: int = 0,
         seed: int = 0) -> pd.DataFrame:
    """`map("tsne")`: id, title, n_ratings, x, y."""
    return layout(self, "tsne", by, top, min_ratings, seed)
