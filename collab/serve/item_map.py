"""The places of items on the page's map: two principal components of their vectors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..interpret.pca import PCA

MOST = 2000             # the most rated items, which decide the axes
EDGE = 0.98             # of these lie within -1 and 1 along each axis


def places(vectors: np.ndarray, order: np.ndarray) -> np.ndarray | None:
    """x and y of n vectors (n, width), float32 (n, 2), most of them between -1 and 1; None where there are fewer than
    3 vectors, or they differ in fewer than two directions.

    `order` are positions, the most rated first: MOST of these decide the axes (see `PCA`), so that thousands of items
    that hardly anybody rated do not."""
    some = vectors[order[:MOST]]
    if len(some) < 3 or vectors.shape[1] < 2 or not np.isfinite(vectors).all():
        return None
    pca = PCA(some, pd.DataFrame(index=range(len(some))), 2)
    if not pca.explained_variance[1] > 1e-12 * max(pca.explained_variance[0], 1e-300):
        return None
    found = (vectors - pca.mean) @ pca.components.T
    middle = np.median(found[order[:MOST]], axis=0)
    spread = np.quantile(np.abs(found[order[:MOST]] - middle), EDGE, axis=0)
    return ((found - middle) / np.where(spread > 0, spread, 1.0)).astype(np.float32)
