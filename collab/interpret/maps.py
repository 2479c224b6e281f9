"""Maps: embeddings laid out in two dimensions."""

from __future__ import annotations

import random
import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import DataError
from .pca import PCA

if TYPE_CHECKING:
    from .interpretation import CollabInterpretation

PACKAGES = {"sklearn": "scikit-learn", "umap": "umap-learn", "vl_convert": "vl-convert-python"}
CHARTS = ("altair", "scikit-learn", "vl-convert-python")
LEAST = {"tsne": 4, "umap": 4, "pca": 2}        # ids that a map needs


def need(module: str) -> ModuleType:
    """Import an optional module. Raises ImportError, which says how to install it."""
    if (there := sys.modules.get(module)) is not None:
        return there
    drawn = random.getstate()       # some packages draw from it while they are imported
    try:
        with warnings.catch_warnings():     # and some add warning filters for good
            return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        package = PACKAGES.get(name, name)
        others = f"; all that charts and reports need: pip install {' '.join(CHARTS)}" if package in CHARTS else ""
        raise ImportError(f"this needs {package}, which is not installed: pip install {package}{others}") from None
    finally:
        random.setstate(drawn)


def map(self: CollabInterpretation, method: str = "tsne", by: str = "item", *, top: int | None = 1000,
        min_ratings: int = 0, seed: int = 0) -> pd.DataFrame:
    """Lay out the `top` most rated ids (None: all) such that neighbours lie close: id, n_ratings, x, y, and where known
    title, year and genres.

    `method` is "tsne" (van der Maaten, Hinton 2008, on cosine distances), "umap" (McInnes et al. 2018, the same; needs
    umap-learn), or "pca", the first two principal components. The same seed gives the same map. Raises DataError for
    fewer than 4 ids (2 for "pca")."""
    if method not in LEAST:
        raise ValueError(f"method {method!r} is not 'tsne', 'pca' or 'umap'")
    order = self._most_rated(by, top, min_ratings)
    weight = self.learn.weight(is_item=self._is_item(by)).double().numpy()[order]
    if len(order) < LEAST[method]:
        raise DataError(f"a map by {method} needs at least {LEAST[method]} {by}s, got {len(order)}; lower min_ratings "
                        "or raise top")
    table = self._labels(by, order)
    if method == "tsne":
        tsne = need("sklearn.manifold").TSNE(metric="cosine", init="random", random_state=seed,
                                             perplexity=min(30, (len(order) - 1) / 3))
        with need("threadpoolctl").threadpool_limits(1):    # on a busy machine its threads wait for each other
            places = tsne.fit_transform(weight)
    elif method == "umap":
        umap = need("umap").UMAP(metric="cosine", random_state=seed, n_jobs=1, n_neighbors=min(15, len(order) - 1))
        places = umap.fit_transform(weight)
    elif weight.shape[1] < 2:
        raise DataError("a map by pca needs at least 2 factors, and the model has 1; method='tsne' needs no more")
    else:
        places = PCA(weight, table, 2).scores[[0, 1]].to_numpy()
    if by == "item":
        known = self.data.item_table.reindex(pd.Index(table["id"], tupleize_cols=False))
        for column in [c for c in ("year", "genres") if c in known]:
            table[column] = known[column].to_numpy(object)
    return table.assign(x=places[:, 0], y=places[:, 1])


def tsne(self: CollabInterpretation, by: str = "item", top: int | None = 1000, *, min_ratings: int = 0,
         seed: int = 0) -> pd.DataFrame:
    """`map("tsne")`: id, n_ratings, x, y, and where known title, year and genres."""
    return map(self, "tsne", by, top=top, min_ratings=min_ratings, seed=seed)
